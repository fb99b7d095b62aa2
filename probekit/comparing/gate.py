"""Conditions under which a comparison fails a build: ``worse>1.0``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.comparing.records import GateRecord
from probekit.comparing.wording import sections, shown_difference
from probekit.errors import Problem, SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.comparing.records import ComparisonResult, ScoreDifference

MEASURES = {
    "worse": "the second is worse at a tap by more than so many percentage points",
    "significantly_worse": "it is so at the lower end of the interval, and the difference is significant",
    "model_worse": "the same of the models' own predictions",
    "model_significantly_worse": "the same of the models' own predictions",
}
_ROUNDING = 1e-9
_CONDITION = re.compile(r"\s*([a-z_]+)\s*>\s*(-?[0-9]+(?:\.[0-9]*)?|-?\.[0-9]+)\s*")


@dataclass(frozen=True)
class Condition:
    """What fails a build.

    Args:
        text: as it was written.
        measure: out of :data:`MEASURES`.
        points: the bound, in percentage points of the error, or of the variance explained.
    """

    text: str
    measure: str
    points: float


def read_condition(text: str) -> Condition:
    """Return a condition such as ``worse>1.0``.

    Raises:
        SpecError: ``PK-X36``, it is none.
    """
    match = _CONDITION.fullmatch(text)
    if match is None or match[1] not in MEASURES:
        word = re.match(r"\s*([A-Za-z_]*)", text)
        name = word[1] if word else ""
        hint = f"write it as '{name if name in MEASURES else 'worse'}>1.0', in percentage points"
        if name not in MEASURES:
            hint = f"{nearest(name, MEASURES, 'known')}; {hint}"
        raise SpecError(Problem("PK-X36", f"--fail-if {text!r} is no condition", hint))
    return Condition(text, match[1], float(match[2]))


def judge(condition: Condition, result: ComparisonResult) -> GateRecord:
    """Return whether a condition holds, and where.

    Raises:
        SpecError: ``PK-X36``, there is nothing that it could be judged by.
    """
    significantly = condition.measure.endswith("significantly_worse")
    compared = list(_scores(condition, result))
    if not compared:
        what = f"--fail-if {condition.text!r} has nothing to judge: "
        if condition.measure.startswith("model"):
            what += "no factor has the predictions of both models"
            hint = "give both models an output: in their specs"
        else:
            what += "no probe that is compared is at its optimum on both sides"
            hint = "see the notes of the comparison"
        raise SpecError(Problem("PK-X36", what, hint))
    hits = []
    for place, score in compared:
        bound = score.least_worsening() if significantly else score.worsening()
        if bound is None or bound <= condition.points + _ROUNDING or (significantly and not score.significant()):
            continue
        hits.append(f"{place}: {shown_difference(score)}")
    return GateRecord(condition=condition.text, held=bool(hits), hits=hits)


def _scores(condition: Condition, result: ComparisonResult) -> Iterator[tuple[str, ScoreDifference]]:
    if condition.measure.startswith("model"):
        for one in result.models:
            yield f"the models' own {one.factor}", one.score
        return
    for section in sections(result.differences):
        for row in section.rows:
            if not row.of.missed:
                yield f"{section.title} at {row.place}", row.of.score
