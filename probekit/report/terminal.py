"""The ``terminal`` report: a table with bars, for 80 columns and more."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

from probekit.components import Report
from probekit.hookspecs import hookimpl
from probekit.report.page import clean, shown, shown_range, tables

if TYPE_CHECKING:
    from rich.console import Console

    from probekit.report.page import Table
    from probekit.results import RunResult

_BAR = 16


class TerminalReport(Report):
    """The table and the verdict, printed."""

    kind: Literal["terminal"] = "terminal"

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:
        """Return the text; names cannot change colours or the cursor."""
        from rich.console import Console

        stream = io.StringIO()
        console = Console(
            file=stream, width=max(width, 40), force_terminal=colour, no_color=not colour, highlight=False,
            markup=False, legacy_windows=False,
        )  # fmt: skip
        for table in tables(result):
            _print(console, table)
        for warning in result.provenance["warnings"]:
            console.print(f"warning: {clean(warning)}", style="yellow")
        return stream.getvalue()


def _print(console: Console, table: Table) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    several = len({row.probe.reduction for row in table.rows}) > 1
    # What matters least goes first where the terminal is narrow: the bars, then the fit's own numbers.
    ranges = any(row.interval for row in table.rows) and console.width >= 64
    bars, numbers = console.width >= (96 if ranges else 76), console.width >= 52
    grid = Grid(title=clean(table.title) or None, title_justify="left", box=None, pad_edge=False)
    grid.add_column("tap", overflow="fold", min_width=8)
    if several:
        grid.add_column("reduction", overflow="fold", min_width=7)
    if numbers:
        grid.add_column("features", justify="right", no_wrap=True)
        grid.add_column("λ", justify="right", no_wrap=True)
    grid.add_column("R² valid" if table.metric == "r2" else "valid", justify="right", no_wrap=True)
    grid.add_column("test", justify="right", no_wrap=True)
    if ranges:
        grid.add_column("95 % interval", no_wrap=True)
    if bars:
        grid.add_column("1 - R²" if table.metric == "r2" else "error ÷ baseline", no_wrap=True)
    for row in table.rows:
        probe = row.probe
        full = round(row.share * _BAR)
        style = "bold" if row.best else ""
        penalty = "" if probe.penalty is None else f"{probe.penalty:g}"
        missed = "" if probe.certificate.status != "missed" else " (missed)"
        cells = [Text(clean(probe.tap) + missed, style)]
        cells += [Text(clean(probe.reduction))] if several else []
        cells += [Text(str(probe.features_used)), Text(penalty)] if numbers else []
        cells += [Text(shown(row.scores["valid"], table.metric)), Text(shown(row.scores["test"], table.metric), style)]
        if ranges:
            cells.append(Text(shown_range(row.interval, table.metric) if row.interval else ""))
        if bars:
            cells.append(Text("█" * full + "·" * (_BAR - full), "green" if row.share < 0.5 else "red"))
        grid.add_row(*cells)
    console.print(grid)
    console.print(Text(clean(table.verdict), "bold"))
    console.print()


@hookimpl
def register_reports() -> list[type[Report]]:
    """The report of this module."""
    return [TerminalReport]
