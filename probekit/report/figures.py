"""Figures of a result for a paper: which there are, what each shows, and its caption."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.errors import clean
from probekit.findings.wording import shown
from probekit.report.parts import heads
from probekit.report.wording import curves_note, interval_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.report.page import Table
    from probekit.report.parts import Head
    from probekit.results import RunResult

MOST_PANELS = 12
"""Checkpoints of a figure that are drawn as panels; more are drawn as a map of taps by checkpoints."""
_SYMBOLS = ("circles", "squares", "diamonds", "triangles down", "triangles right", "triangles left")
"""What stands for the reductions, in their order; as :mod:`probekit.report.vega` draws them."""
_LONGEST = 60
"""Characters of a file's name that come from names of the run."""


@dataclass(frozen=True)
class Figure:
    """One figure: a factor, asked of one model by one kind of probe.

    Args:
        name: what tells it from the others, fit for a file's name.
        caption: sentences for below it, with what every mark means.
        tables: what is drawn, one per checkpoint in their order.
        titles: the checkpoints' names; one empty text where there is only one.
    """

    name: str
    caption: str
    tables: tuple[Table, ...]
    titles: tuple[str, ...]

    @property
    def is_map(self) -> bool:
        """Whether it is drawn as a map of taps by checkpoints."""
        return len(self.tables) > MOST_PANELS


def figures(result: RunResult) -> list[Figure]:
    """Return the figures of a result: one per model, factor and kind of probe, in its order."""
    asked = heads(result)
    several = len({head.model for head in asked}) > 1
    made = []
    for head, name in zip(asked, _file_names([head.name or head.table.factor for head in asked]), strict=True):
        alone = len(head.moments) == 1
        titles = tuple("" if alone else clean(str(table.rows[0].probe.checkpoint)) for table in head.moments)
        figure = Figure(name, "", head.moments, titles)
        made.append(Figure(name, _caption(figure, head, several_models=several), head.moments, titles))
    return made


def _file_names(names: Sequence[str]) -> list[str]:
    """Return names that files may have on any system, each another one, whatever the case.

    >>> _file_names(["a · b", "A_b", "/"])
    ['a_b', 'A_b_2', 'figure']
    """
    made: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", clean(name)).strip("._")[:_LONGEST] or "figure"
        taken, count, chosen = {one.lower() for one in made}, 2, stem
        while chosen.lower() in taken:
            chosen, count = f"{stem}_{count}", count + 1
        made.append(chosen)
    return made


def _caption(figure: Figure, head: Head, *, several_models: bool) -> str:
    table = head.table
    whose = f" of {head.model}" if several_models else ""
    measured = "1 - R² on test" if table.metric == "r2" else "Test error"
    by_checkpoint = "" if len(figure.tables) == 1 else ", by checkpoint"
    told = [f"{measured} of probes for {table.factor} at the taps{whose} in execution order{by_checkpoint}."]
    colours = "Colour: 1 - R²" if table.metric == "r2" else "Colour: error ÷ that of chance"
    told.append(f"{colours}, from dark (1 or more) to light (0).")
    if figure.is_map:
        if any(row.missed for one in figure.tables for row in one.rows):
            told.append("Grey: probes that missed their tolerance.")
        return clean(" ".join(told))
    if ranges := interval_note(row.interval for one in figure.tables for row in one.rows):
        told.append(f"Lines or bands at the points: {ranges}.")
    reductions = list(dict.fromkeys(row.probe.reduction for one in figure.tables for row in one.rows))
    if len(reductions) > 1:
        pairs = [f"{_SYMBOLS[number % len(_SYMBOLS)]} {name}" for number, name in enumerate(reductions)]
        told.append(f"Reductions: {', '.join(pairs)}.")
        told += [note] if (note := curves_note(table)) else []
    levels = f"{table.always} ({shown(table.baseline, table.metric)})"
    if table.own is not None:
        levels += f"; the model itself ({shown(table.own.headline()['test'], table.metric)}"
        levels += ")" if len(figure.tables) == 1 else " at the last one)"
    told.append(f"Dashed: {levels}.")
    if len(figure.tables) == 1 and head.best is not None:
        best = head.best.probe
        place = f"{best.tap} ({best.reduction})" if len(reductions) > 1 else best.tap
        told.append(f"Best on valid: {place}, {shown(head.best.scores['test'], table.metric)}.")
    if len(figure.tables) > 1:
        told.append("Taps are numbered.")
    if any(row.missed for one in figure.tables for row in one.rows):
        told.append("Crosses: probes that missed their tolerance.")
    return clean(" ".join(told))
