"""Taps by factors, and taps by checkpoints: tables whose cells are coloured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.findings.wording import shown
from probekit.report.parts import fold, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.report.page import Row, Table
    from probekit.report.parts import Evidence, Head


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map: its value as text, its colour, a mark beside it, and whether it is its column's best."""

    text: str
    bin: int
    mark: str
    best: bool


@dataclass(frozen=True)
class HeatRow:
    """One tap and reduction in a heat map; None where there is no probe."""

    tap: str
    reduction: str
    anchor: str
    cells: list[Cell | None]


@dataclass(frozen=True)
class HeatMap:
    """Taps by factors or checkpoints.

    Args:
        name: what tells it from the others.
        columns: their names.
        reductions: whether a row must name its reduction.
        blocks: rows under the name of their block; one block without a name where nothing is folded.
    """

    name: str
    columns: list[str]
    reductions: bool
    blocks: list[tuple[str, list[HeatRow]]]


def over_factors(asked: Sequence[Head], evidence: Evidence) -> list[HeatMap]:
    """Return taps by factors for each model and kind of probe with several factors."""
    groups: dict[tuple[str, str], list[Head]] = {}
    for head in asked:
        groups.setdefault((head.model, head.probe), []).append(head)
    several = [len({key[part] for key in groups}) > 1 for part in range(2)]
    maps = []
    for key, some in groups.items():
        if len(some) > 1:
            name = " · ".join(part for part, told in zip(key, several, strict=True) if told)
            maps.append(_heat_map(name, [(head.table.factor, head.table) for head in some], evidence))
    return maps


def over_training(head: Head, evidence: Evidence) -> HeatMap:
    """Return taps by checkpoints of one question."""
    columns = [(str(table.rows[0].probe.checkpoint), table) for table in head.moments]
    return _heat_map(head.name, columns, evidence)


def _heat_map(name: str, columns: Sequence[tuple[str, Table]], evidence: Evidence) -> HeatMap:
    cells: dict[tuple[str, str], list[Cell | None]] = {}
    anchors: dict[tuple[str, str], str] = {}
    for number, (_, table) in enumerate(columns):
        for row in table.rows:
            place = (row.probe.tap, row.probe.reduction)
            anchors.setdefault(place, evidence.anchor(row.probe.tap, row.probe.model) or "")
            line = cells.setdefault(place, [None] * len(columns))
            text = shown(row.scores["test"], table.metric)
            line[number] = Cell(text, row.bin, _mark(row, evidence), row.best)
    rows = [HeatRow(tap, reduction, anchors[tap, reduction], line) for (tap, reduction), line in cells.items()]
    several = len({row.reduction for row in rows}) > 1
    return HeatMap(name, [column for column, _ in columns], several, fold(rows, lambda row: row.tap))


def _mark(row: Row, evidence: Evidence) -> str:
    if row.missed:
        return "missed"
    told = evidence.information.get(key_of(row.probe))
    return "" if told is None else {"yes": "", "no": "none", "cannot_tell": "?"}[told.answer]
