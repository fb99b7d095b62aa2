"""From a result to what a report shows, free of any format: the verdict, the rows, the order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probekit.results import ModelResult, ProbeResult, RunResult

BINS = 11
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """One probe as a line of a table.

    Args:
        probe: its result.
        share: test error ÷ baseline, clipped to [0, 1].
        bin: 0 (as bad as the baseline) to 10 (no error), for colours.
        best: it has the smallest valid error of its table.
    """

    probe: ProbeResult
    share: float
    bin: int
    best: bool


@dataclass(frozen=True)
class Table:
    """All probes of one model, factor, probe kind and reduction grid, in depth order.

    Args:
        title: what tells this table from the others; empty when it is the only one.
        factor: the label factor.
        rows: in depth order.
        baseline: test error of always saying the commonest class.
        tested: labelled feature rows of the test split.
        own: the model's own result, None when there is none.
        verdict: one sentence made from the numbers.
    """

    title: str
    factor: str
    rows: list[Row]
    baseline: float
    tested: int
    own: ModelResult | None
    verdict: str


def clean(text: str) -> str:
    """Return text in which control characters and direction overrides are shown, not obeyed.

    >>> clean("a\\u202eb")
    'a\\\\u202eb'
    """
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def percent(share: float) -> str:
    """Return a share as %: one decimal.

    >>> percent(0.0123)
    '1.2 %'
    """
    return f"{100 * share:.1f} %"


def tables(result: RunResult) -> list[Table]:
    """Return one table per model, checkpoint, factor, control and probe, in the order of the result."""
    groups: dict[tuple[str, str | None, str, str, str | None], list[ProbeResult]] = {}
    for probe in result.probes:
        key = (probe.model, probe.checkpoint, probe.factor, probe.probe, probe.control)
        groups.setdefault(key, []).append(probe)
    several = [len({key[part] for key in groups}) > 1 for part in range(5)]
    made = []
    for key, probes in groups.items():
        title = " · ".join(str(part) for part, shown in zip(key, several, strict=True) if shown and part is not None)
        made.append(_table(result, title, probes))
    return made


def _table(result: RunResult, title: str, probes: list[ProbeResult]) -> Table:
    factor, baseline = probes[0].factor, result.baseline(probes[0].factor)
    ranked = [probe for probe in probes if probe.certificate.status != "missed"]
    best = min(ranked, key=lambda probe: probe.error["valid"], default=None)
    rows = []
    for probe in probes:
        share = min(probe.error["test"] / baseline, 1.0) if baseline > 0 else 1.0
        rows.append(Row(probe, share, round((1 - share) * (BINS - 1)), probe is best))
    whose = (probes[0].model, probes[0].checkpoint, factor)
    own = next((one for one in result.model if (one.model, one.checkpoint, one.factor) == whose), None)
    tested = result.test_rows(factor)
    return Table(
        title,
        factor,
        rows,
        baseline,
        tested,
        own,
        _verdict(
            best, baseline, own, f"{tested:,} test {result.unit()}", several=len({p.reduction for p in probes}) > 1
        ),
    )


def _verdict(best: ProbeResult | None, baseline: float, own: ModelResult | None, tested: str, *, several: bool) -> str:
    if best is None:
        return "No probe reached its optimum, so none is ranked."
    place = f"{best.tap} ({best.reduction})" if several else best.tap
    wrong = f"{percent(best.error['test'])} of {tested} wrong"
    chance = f"always saying the commonest class gives {percent(baseline)}"
    if best.error["test"] >= baseline:
        chosen = f"the one chosen on valid, at {place}, {wrong}"
        return f"No probe for {best.factor} does better than chance: {chance}; {chosen}."
    text = f"The best probe for {best.factor}, chosen on valid, is at {place}: {wrong}, where {chance}"
    if own is not None:
        text += f" and the model itself {percent(own.error['test'])}"
    return f"{text}."
