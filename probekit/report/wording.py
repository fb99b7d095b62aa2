"""What several views share: words for intervals and tests, what the verdicts leave to say, which rows of many."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from probekit.findings.wording import tested_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from probekit.report.page import Row, Table
    from probekit.results import FindingRecord, IntervalRecord, PairedRecord, RunResult, TwinRecord

_INTERVALS = {
    "wilson": "Wilson intervals",
    "newcombe": "Newcombe intervals",
    "percentile_bootstrap": "percentile bootstrap intervals",
}
_NUMBER = re.compile(r"(?<=\d) %")
_GLUE = "\ue000"
_AT_END = re.compile(r"(?: |\x1b\[[\d;]*m)+$", re.MULTILINE)
_SPACE = re.compile(r"(?<=[{};:,])[ \n]+|[ \n]+(?=[{}])")
_IN_VERDICT = {"best_tap"}
"""Findings that the verdicts say already."""


def interval_note(intervals: Iterable[IntervalRecord | None]) -> str:
    """Return of what kind intervals are and over how many units, empty where there are none.

    >>> from probekit.results import IntervalRecord
    >>> interval_note([IntervalRecord(low=0, high=1, kind="wilson", over="examples", n=1797), None])
    '95 % Wilson intervals over 1,797 examples'
    """
    found: dict[str, None] = {}
    for one in intervals:
        if one is not None:
            draws = "" if one.draws is None else f" ({one.draws:,} draws)"
            kind = _INTERVALS.get(one.kind, f"{one.kind} intervals")
            found[f"{100 * one.level:g} % {kind} over {one.n:,} {one.over}{draws}"] = None
    return " and ".join(found)


def kinds_note(intervals: Iterable[IntervalRecord | None]) -> str:
    """Return of what kind intervals are that are each over other rows, empty where there are none.

    >>> from probekit.results import IntervalRecord
    >>> kinds_note([IntervalRecord(low=0, high=1, kind="wilson", over="examples", n=n) for n in (61, 63)])
    '95 % Wilson intervals over examples'
    """
    some = (one for one in intervals if one is not None)
    kinds = (f"{100 * one.level:g} % {_INTERVALS.get(one.kind, one.kind)} over {one.over}" for one in some)
    return " and ".join(dict.fromkeys(kinds))


def unbroken(text: str) -> str:
    """Return text in which no line ends between a number and its %.

    >>> unbroken("95 % interval") == "95\u00a0% interval"
    True
    """
    return _NUMBER.sub("\u00a0%", text)


def glued(text: str) -> str:
    """Return text for rich, which ends lines at no-break spaces too, such that none ends between a number and its %.

    The sign between them is one that no clean text has; :func:`unglued` turns it into a space.

    >>> unglued(glued("95 % interval"))
    '95 % interval'
    """
    return _NUMBER.sub(f"{_GLUE}%", text)


def unglued(printed: str) -> str:
    """Return what rich has printed, with the spaces of :func:`glued` text, and none before the ends of lines."""
    return _AT_END.sub(lambda found: found[0].replace(" ", ""), printed.replace(_GLUE, " "))


def tight(style: str) -> str:
    """Return a style sheet without the spaces that no rule needs.

    >>> tight("td, th { content: ' x'; }\\n@media print { p { color: red; } }")
    "td,th{content:' x'}@media print{p{color:red}}"
    """
    return _SPACE.sub("", style).replace(";}", "}")


def pairs_note(pairs: Iterable[PairedRecord | TwinRecord]) -> str:
    """Return by which tests pairs of probes were compared.

    >>> pairs_note([])
    ''
    """
    return " and ".join(dict.fromkeys(tested_by(one.test) for one in pairs))


def curves_note(table: Table) -> str:
    """Return that a chart's lines go on through vectors, empty where they do not or where there is one line."""
    other = any(row.probe.reduction != name for name, curve in table.curves.items() for row in curve)
    return "Lines go on through vectors, which have nothing to reduce." if other and len(table.curves) > 1 else ""


def left_to_say(result: RunResult) -> list[FindingRecord]:
    """Return the findings that the verdicts do not say, the most severe first."""
    return [one for one in result.findings if one.kind not in _IN_VERDICT]


def warnings_left(result: RunResult) -> list[str]:
    """Return what a run warned of and no finding says."""
    said = {one.evidence.get("warning") for one in result.findings}
    return [text for text in map(str, result.provenance["warnings"]) if text not in said]


def failed_fits(result: RunResult) -> int:
    """Return how many fits of a run failed."""
    return len(result.failures())


def partial_note(result: RunResult) -> str:
    """Return that a run is partial, empty where it is whole."""
    failed = failed_fits(result)
    return f"PARTIAL: {failed} {'fit' if failed == 1 else 'fits'} failed; see the warnings." if failed else ""


def evenly(rows: Sequence[Row], most: int) -> list[int]:
    """Return the numbers of at most so many rows, evenly over the depth, with the best one among them."""
    count = len(rows)
    if count <= most:
        return list(range(count))
    chosen = [round(place * (count - 1) / (most - 1)) for place in range(most)]
    best = next((number for number, row in enumerate(rows) if row.best), chosen[0])
    nearest = min(range(most), key=lambda place: abs(chosen[place] - best))
    chosen[nearest] = best
    return chosen
