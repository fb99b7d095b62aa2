"""The tables of controls that have features of their own: another model, other draws of a random reduction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.errors import listed
from probekit.findings.wording import counted, shown
from probekit.report.page import shown_difference
from probekit.report.wording import interval_note, pairs_note
from probekit.statistics.multiple import SIGNIFICANT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probekit.report.page import Table
    from probekit.results import RunResult, SpreadRecord, TwinRecord


@dataclass(frozen=True)
class ControlTable:
    """What a control tells at each tap, as text without markup.

    Args:
        title: which control it is.
        heads: of the columns; the first one is the tap.
        lines: one text a column, in depth order.
        notes: what the numbers say, then what they are.
    """

    title: str
    heads: list[str]
    lines: list[list[str]]
    notes: list[str]


def control_tables(result: RunResult, table: Table) -> list[ControlTable]:
    """Return the tables of a question's controls, other models first.

    Args:
        result: of the run.
        table: of one model, checkpoint, factor and probe.
    """
    first = table.rows[0].probe
    whose = (first.model, first.checkpoint, first.factor, first.probe)
    twins = [one for one in result.twins if (one.model, one.checkpoint, one.factor, one.probe) == whose]
    spreads = [one for one in result.spreads if (one.model, one.checkpoint, one.factor, one.probe) == whose]
    several = len({row.probe.reduction for row in table.rows}) > 1
    made = [
        _twins(name, [one for one in twins if one.control == name], result.unit(), several=several)
        for name in dict.fromkeys(one.control for one in twins)
    ]
    for name in dict.fromkeys(one.reduction for one in spreads):
        made += [_spreads(name, [one for one in spreads if one.reduction == name])]
    return made


def _tap(one: TwinRecord | SpreadRecord) -> str:
    return f"{one.tap}{' (missed)' if one.missed else ''}"


def _twins(name: str, records: Sequence[TwinRecord], unit: str, *, several: bool) -> ControlTable:
    drawn = max(len(one.seeds) for one in records)
    words = name.replace("_", " ")
    heads = ["tap", *(["reduction"] if several else []), "trained", words, *(["range"] if drawn > 1 else [])]
    heads += ["difference", "95 % interval", "p"]
    lines = []
    for one in records:
        line = [_tap(one), *([one.reduction] if several else [])]
        line += [shown(one.trained, one.metric), shown(one.twin, one.metric)]
        line += [_ends(one.low, one.high, one.metric)] if drawn > 1 else []
        line += [shown_difference(one.difference, one.metric), _interval(one), _p(one.p_adjusted)]
        lines.append(line)
    return ControlTable(words.capitalize(), heads, lines, list(_twin_notes(records, words, unit)))


def _twin_notes(records: Sequence[TwinRecord], words: str, unit: str) -> Iterator[str]:
    yield _twin_verdict(records)
    seeds = list(dict.fromkeys(seed for one in records for seed in one.seeds))
    if len(seeds) > 1:
        yield f"There are {len(seeds)} draws of {words}, with the seeds {_numbers(seeds)}: their mean and their range."
    metric = "R²" if records[0].metric == "r2" else "error"
    rows = " and ".join(f"{n:,}" for n in dict.fromkeys(one.n for one in records))
    yield f"Difference: the {metric} of the trained model less that of {words}, on the same {rows} test {unit}."
    ranges = interval_note(one.interval for one in records)
    if ranges:
        yield f"Intervals: {ranges}."
    if any(not one.missed for one in records):
        yield f"p: by {pairs_note(records)}, with Holm's correction over the lines of the table that are judged."


def _twin_verdict(records: Sequence[TwinRecord]) -> str:
    judged = [one for one in records if not one.missed]
    unjudged = "a probe there is not proven to be at its optimum"
    if not judged:
        return f"No place is judged, as {unjudged}."
    sure = [one for one in judged if one.difference and one.p_adjusted is not None and one.p_adjusted < SIGNIFICANT]
    worse = [one for one in sure if (one.difference > 0) != (one.metric == "r2")]
    text = f"The trained model does better at {len(sure) - len(worse)} of {counted(len(judged), 'place')}"
    text += f", and worse at {listed(dict.fromkeys(one.tap for one in worse), 3)}" if worse else ""
    left = len(judged) - len(sure)
    rest = "the other place" if left == 1 else f"the other {left}"
    text += f"; at {rest if sure else 'all of them'} no difference is shown" if left else ""
    text += f" (p < {SIGNIFICANT:g})."
    missed = len(records) - len(judged)
    if missed:
        text += f" {counted(missed, 'place')} {'is' if missed == 1 else 'are'} not judged, as {unjudged}."
    return text


def _spreads(name: str, records: Sequence[SpreadRecord]) -> ControlTable:
    seeds = list(dict.fromkeys(seed for one in records for seed in one.seeds))
    heads = ["tap", f"seed {seeds[0]}", "smallest", "median", "largest"]
    lines = [
        [_tap(one), *(shown(value, one.metric) for value in (one.values[0], one.low, one.median, one.high))]
        for one in records
    ]
    metric = "R²" if records[0].metric == "r2" else "error"
    widest = max(records, key=lambda one: one.high - one.low)
    most = shown_difference(widest.high - widest.low, widest.metric).removeprefix("+")
    notes = [
        f"The test {metric} moves with the draw of the features by up to {most}, at {widest.tap}.",
        f"Everything else in this report is of seed {seeds[0]}; the seeds are {_numbers(seeds)}.",
        "A tap that keeps all of its features has no draw.",
    ]
    return ControlTable(f"Seeds of the reduction {name}", heads, lines, notes)


def _numbers(seeds: Sequence[int]) -> str:
    """Return seeds as text, of many the first.

    >>> _numbers([3, 4]), _numbers(range(12))
    ('3, 4', '0, 1, 2, 3, 4, 5, 6, 7 and 4 more')
    """
    return ", ".join(map(str, seeds[:8])) + (f" and {len(seeds) - 8} more" if len(seeds) > 8 else "")


def _ends(low: float, high: float, metric: str) -> str:
    return _range(shown(low, metric), shown(high, metric))


def _interval(one: TwinRecord) -> str:
    """Return the interval of a difference, without the unit, which the difference beside it has."""
    if one.interval is None:
        return ""
    ends = (shown_difference(end, one.metric).removesuffix(" pp") for end in (one.interval.low, one.interval.high))
    return " to ".join(ends)


def _range(low: str, high: str) -> str:
    """Return two ends with their unit once.

    >>> _range("9.5 %", "11.3 %"), _range("+0.100", "+0.250")
    ('9.5 to 11.3 %', '+0.100 to +0.250')
    """
    return f"{low.split(maxsplit=1)[0]} to {high}"


def _p(value: float | None) -> str:
    """Return a p-value as text; empty where there is none.

    >>> _p(0.00001), _p(0.0312), _p(1.0)
    ('< 0.001', '0.031', '1.000')
    """
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
