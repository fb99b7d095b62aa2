"""From a result to what the page shows, free of markup: its questions, what is said first, where the evidence is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from probekit.report.blocks import folded
from probekit.report.page import tables
from probekit.report.wording import left_to_say, warnings_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from probekit.report.page import Row, Table
    from probekit.results import FindingRecord, InformationRecord, PairedRecord, ProbeResult, RunResult

T = TypeVar("T")

FOLDED = 300
"""Tables with more rows are folded."""
_LINKS = 4
"""The most places that a finding links to."""
_TAP_OF_WARNING = re.compile(r"\btap (.+?)(?: \(|, reduction )")
_LEADING = ("earliest_tap", "monotonicity")
"""Findings that a verdict goes on with."""

ProbeKey = tuple[str, str | None, str, str, str, str]


@dataclass(frozen=True)
class Head:
    """One question to one model: a factor, asked by one kind of probe, at its last checkpoint.

    Args:
        number: from 1.
        name: what tells it from the others; empty for the only one.
        table: of its last checkpoint.
        moments: its tables at every checkpoint, in their order; the last one is ``table``.
        input: the best row on valid of the model's own input, None where that is no tap.
    """

    number: int
    name: str
    table: Table
    moments: tuple[Table, ...]
    input: Row | None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.table.rows[0].probe.model

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint's name."""
        return self.table.rows[0].probe.checkpoint

    @property
    def probe(self) -> str:
        """The probe's name."""
        return self.table.rows[0].probe.probe

    @property
    def best(self) -> Row | None:
        """The best row on valid."""
        return next((row for row in self.table.rows if row.best), None)

    @property
    def measured(self) -> str:
        """What is measured, for labels."""
        return "R²" if self.table.metric == "r2" else "error"


@dataclass(frozen=True)
class Line:
    """A sentence with its severity and links to its evidence, each (text, anchor)."""

    severity: str
    sentence: str
    links: list[tuple[str, str]]


@dataclass(frozen=True)
class Sayings:
    """What is said before any number is shown.

    Args:
        leading: by the number of a head, what its verdict goes on with.
        notices: findings that are facts or worth a look.
        warnings: findings that may be or are wrong, and what the run warned of.
    """

    leading: dict[int, list[str]]
    notices: list[Line]
    warnings: list[Line]


class Evidence:
    """Where a tap's details stand in the page, and what is known of each probe beside its scores.

    Attributes:
        taps: model and tap of each, in the result's order.
        steps: of a probe, to its tap.
        information: of a probe.
        preconditioner: that of every fit; None where they differ or none tells.

    Args:
        result: of the run.
    """

    def __init__(self, result: RunResult) -> None:
        self.taps = list(dict.fromkeys((probe.model, probe.tap) for probe in result.probes))
        self._anchors = {place: f"t{number}" for number, place in enumerate(self.taps, 1)}
        self._anywhere = {tap: self._anchors[model, tap] for model, tap in reversed(self.taps)}
        self.steps: dict[ProbeKey, list[PairedRecord]] = {}
        for step in result.comparisons:
            if step.control is None:
                key = (step.model, step.checkpoint, step.after, step.reduction, step.factor, step.probe)
                self.steps.setdefault(key, []).append(step)
        fits = [probe.fit for probe in result.probes if probe.fit is not None]
        kinds = {fit.preconditioner for fit in fits}
        self.preconditioner = kinds.pop() if len(kinds) == 1 else None
        self.information: dict[ProbeKey, InformationRecord] = {
            (one.model, one.checkpoint, one.tap, one.reduction, one.factor, one.probe): one
            for one in result.information
        }

    def anchor(self, tap: str, model: str | None = None) -> str | None:
        """Return the anchor of a tap's details; of the first model's that has it where the model is not known."""
        return self._anywhere.get(tap) if model is None else self._anchors.get((model, tap))

    def links(self, finding: FindingRecord) -> list[tuple[str, str]]:
        """Return links to a finding's taps."""
        found = [(tap, self.anchor(tap, finding.model)) for tap in finding.taps]
        return [(tap, anchor) for tap, anchor in found if anchor is not None][:_LINKS]


def key_of(probe: ProbeResult) -> ProbeKey:
    """Return by what the steps and the information of a probe are found."""
    return probe.model, probe.checkpoint, probe.tap, probe.reduction, probe.factor, probe.probe


def heads(result: RunResult) -> list[Head]:
    """Return the questions of a result, in its order."""
    groups: dict[tuple[str, str, str], list[Table]] = {}
    for table in tables(result):
        first = table.rows[0].probe
        if first.control is None:
            groups.setdefault((first.model, first.factor, first.probe), []).append(table)
    several = [len({key[part] for key in groups}) > 1 for part in range(3)]
    inputs = {(one.model, one.tap) for one in result.graph.taps if one.op == "Input"}
    made = []
    for number, (key, moments) in enumerate(groups.items(), 1):
        name = " · ".join(part for part, told in zip(key, several, strict=True) if told)
        last = moments[-1]
        given = [row for row in last.rows if (row.probe.model, row.probe.tap) in inputs]
        made.append(Head(number, name, last, tuple(moments), best_of(given)))
    return made


def best_of(rows: Iterable[Row]) -> Row | None:
    """Return the best row on valid; one that missed its optimum only where all did."""
    return min(rows, key=lambda row: (row.missed, row.probe.on_valid()), default=None)


def best_by_tap(table: Table) -> dict[str, Row]:
    """Return the best row on valid of each tap, in depth order."""
    rows: dict[str, list[Row]] = {}
    for row in table.rows:
        rows.setdefault(row.probe.tap, []).append(row)
    return {tap: best for tap, some in rows.items() if (best := best_of(some)) is not None}


def sayings(result: RunResult, asked: Sequence[Head], evidence: Evidence) -> Sayings:
    """Return what is said before any number is shown."""
    leading: dict[int, list[tuple[int, str]]] = {head.number: [] for head in asked}
    notices: list[Line] = []
    warned: list[Line] = []
    for finding in left_to_say(result):
        owner = next((head for head in asked if _is_about(finding, head)), None)
        if finding.kind in _LEADING and owner is not None and finding.severity in {"info", "notice"}:
            leading[owner.number].append((_LEADING.index(finding.kind), finding.sentence))
            continue
        line = Line(finding.severity, finding.sentence, evidence.links(finding))
        (notices if finding.severity in {"info", "notice"} else warned).append(line)
    for text in warnings_left(result):
        found = _TAP_OF_WARNING.search(text)
        anchor = evidence.anchor(found[1]) if found else None
        warned.append(Line("warning", text, [(found[1], anchor)] if found and anchor else []))
    said = {number: [text for _, text in sorted(some, key=lambda one: one[0])] for number, some in leading.items()}
    return Sayings(said, notices, warned)


def _is_about(finding: FindingRecord, head: Head) -> bool:
    return (
        finding.factor == head.table.factor
        and finding.model in {None, head.model}
        and finding.probe in {None, head.probe}
        and finding.checkpoint in {None, head.checkpoint}
    )


def fold(items: Sequence[T], tap_of: Callable[[T], str]) -> list[tuple[str, list[T]]]:
    """Return items in depth order by the model's blocks, each under its name; few items in one without a name.

    Args:
        items: one or several of each tap.
        tap_of: gives the tap of an item.
    """
    taps = list(dict.fromkeys(tap_of(item) for item in items))
    if len(items) <= FOLDED or len(taps) <= FOLDED // 10:
        return [("", list(items))]
    names: dict[str, str] = {}
    lone: list[str] = []
    for block in folded(taps, []):
        own = taps[block.start : block.stop]
        lone = [*lone, *own] if len(own) == 1 else []
        name = block.name if not lone else lone[0] if len(lone) == 1 else f"{lone[0]} to {lone[-1]}"
        names |= dict.fromkeys(lone or own, name)
    places = {tap: place for place, tap in enumerate(taps)}
    made: list[tuple[str, list[T]]] = []
    for item in sorted(items, key=lambda one: places[tap_of(one)]):
        name = names[tap_of(item)]
        if not made or made[-1][0] != name:
            made.append((name, []))
        made[-1][1].append(item)
    return made
