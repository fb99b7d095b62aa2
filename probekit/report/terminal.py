"""The ``terminal`` report: a table with bars, for 80 columns and more."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from probekit.components import SHUFFLED_LABELS, Report, is_control_task
from probekit.errors import clean
from probekit.findings.wording import shown
from probekit.hookspecs import hookimpl
from probekit.report.control_tables import control_tables
from probekit.report.controls import has_features_of_its_own
from probekit.report.page import shown_control, shown_range, tables
from probekit.report.tap_table import beside_error
from probekit.report.wording import evenly, glued, left_to_say, partial_note, unglued, warnings_left

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from probekit.report.control_tables import ControlTable
    from probekit.report.page import Row, Table
    from probekit.results import FindingRecord, RunResult

_NARROWEST = 40
_BAR, _SHORT_BAR = 16, 8
_ROWS = 200
"""The most rows of a table."""
_WITH_RANGES = 96
"""The fewest columns in which the table of a control has the range over its draws."""
_FINDINGS = 8
"""The most findings that are printed."""
_ALL = ": probekit report RUN --format html has all"
_STYLES = {"problem": "bold red", "warning": "yellow", "notice": "cyan", "info": ""}


class TerminalReport(Report):
    """Tables with their verdicts, warnings, then findings: what matters most ends up right above the prompt."""

    kind: Literal["terminal"] = "terminal"

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:
        """Return the text; names cannot change colours or the cursor."""
        from rich.console import Console

        stream = io.StringIO()
        console = Console(
            file=stream, width=max(width, _NARROWEST), force_terminal=colour, no_color=not colour, highlight=False,
            markup=False, emoji=False, legacy_windows=False,
        )  # fmt: skip
        if note := partial_note(result):
            console.print(note, style="bold red")
        if not result.probes:
            console.print("No probe was fitted.")
        for table in tables(result):
            _print(console, table, beside_error(result, table))
            for control in control_tables(result, table):
                _print_control(console, control)
        for warning in warnings_left(result):
            console.print(f"warning: {clean(warning)}", style="yellow")
        _print_findings(console, left_to_say(result))
        return unglued(stream.getvalue())


@dataclass(frozen=True)
class _Columns:
    """What a table shows beside the tap and its errors on valid and test.

    Args:
        reduction: the reductions' names.
        ranges: the intervals.
        scores: balanced error and AUROC.
        bar: cells of the bars, 0 for none.
        control: the name of the control, None for none.
        numbers: the features and λ.
    """

    reduction: bool
    ranges: bool
    scores: bool
    bar: int
    control: str | None
    numbers: bool


def _columns(table: Table, width: int, heads: Sequence[str]) -> _Columns:
    """Return the columns that a width has room for, each with the two spaces before it; the first ones matter most."""
    reductions = {row.probe.reduction for row in table.rows}
    reduction = len(reductions) > 1
    left = width - 28 - (min(max(map(len, reductions)), 10) + 2 if reduction else 0)

    def room(cells: int, *, wanted: bool) -> bool:
        nonlocal left
        if not wanted or left < cells:
            return False
        left -= cells
        return True

    ranges = room(18, wanted=any(row.interval for row in table.rows))
    scores = room(sum(len(head) + 2 for head in heads), wanted=bool(heads))
    bar = room(_SHORT_BAR + 2, wanted=width >= 60)
    control = _control_of(table) if width >= 100 else None
    control = control if room(17, wanted=control is not None) else None
    numbers = room(19, wanted=True)
    wide = room(_BAR - _SHORT_BAR, wanted=bar)
    return _Columns(reduction, ranges, scores, _BAR if wide else _SHORT_BAR if bar else 0, control, numbers)


def _print(console: Console, table: Table, beside: Sequence[tuple[str, Callable[[Row], str]]]) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    columns = _columns(table, console.width, [head for head, _ in beside])
    beside = beside if columns.scores else []
    control = columns.control
    grid = Grid(title=clean(table.title) or None, title_justify="left", box=None, pad_edge=False)
    grid.add_column("tap", overflow="fold", min_width=8)
    if columns.reduction:
        grid.add_column("reduction", overflow="fold", min_width=7)
    if columns.numbers:
        grid.add_column("features", justify="right", no_wrap=True)
        grid.add_column("λ", justify="right", no_wrap=True)
    grid.add_column("R² valid" if table.metric == "r2" else "valid", justify="right", no_wrap=True)
    grid.add_column("test", justify="right", no_wrap=True)
    if columns.ranges:
        grid.add_column("95 % interval", no_wrap=True)
    for head, _ in beside:
        grid.add_column(head, justify="right", no_wrap=True)
    if control is not None:
        grid.add_column(_CONTROL_HEADS.get(control, "selectivity" if is_control_task(control) else clean(control)))
    if columns.bar:
        head = "1 - R²" if table.metric == "r2" else "error ÷ baseline"
        grid.add_column(head, width=columns.bar, no_wrap=len(head) <= columns.bar)
    for row in (table.rows[number] for number in evenly(table.rows, _ROWS)):
        probe = row.probe
        full = round(row.share * columns.bar)
        style = "bold" if row.best else ""
        penalty = "" if probe.penalty is None else f"{probe.penalty:g}"
        missed = " (missed)" if row.missed else ""
        cells = [Text(clean(probe.tap) + missed, style)]
        cells += [Text(clean(probe.reduction))] if columns.reduction else []
        cells += [Text(str(probe.features_used)), Text(penalty)] if columns.numbers else []
        cells += [Text(shown(row.scores["valid"], table.metric)), Text(shown(row.scores["test"], table.metric), style)]
        if columns.ranges:
            cells.append(Text(shown_range(row.interval, table.metric) if row.interval else ""))
        cells += [Text(text(row)) for _, text in beside]
        if control is not None:
            cells.append(Text(shown_control(row, control, table.metric)))
        if columns.bar:
            cells.append(Text("█" * full + "·" * (columns.bar - full), "green" if row.share < 0.5 else "red"))
        grid.add_row(*cells)
    console.print(grid)
    if len(table.rows) > _ROWS:
        console.print(f"… and {len(table.rows) - _ROWS} more rows in between{_ALL}")
    console.print(Text(glued(clean(table.verdict)), "bold"))
    console.print()


def _print_control(console: Console, table: ControlTable) -> None:
    """Print the table of a control, and the first sentence about it."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(title=clean(table.title), title_justify="left", box=None, pad_edge=False)
    grid.add_column("tap", overflow="fold", min_width=8)
    kept = [place for place, head in enumerate(table.heads) if head != "range" or console.width >= _WITH_RANGES]
    for place in kept[1:]:
        head = table.heads[place]
        grid.add_column(Text(clean(head)), justify="left" if head == "reduction" else "right")
    for line in table.lines[:_ROWS]:
        grid.add_row(*(Text(clean(line[place])) for place in kept))
    console.print(grid)
    if len(table.lines) > _ROWS:
        console.print(f"… and {len(table.lines) - _ROWS} more rows{_ALL}")
    console.print(Text(glued(clean(table.notes[0]))))
    console.print()


def _print_findings(console: Console, findings: Sequence[FindingRecord]) -> None:
    """Print the first findings, each with its severity as a word, so that no colour is needed."""
    from rich.table import Table as Grid
    from rich.text import Text

    if not findings:
        return
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings[:_FINDINGS]:
        grid.add_row(Text(finding.severity, _STYLES[finding.severity]), Text(glued(clean(finding.sentence))))
    console.print(grid)
    if len(findings) > _FINDINGS:
        console.print(f"… and {len(findings) - _FINDINGS} more{_ALL}")
    console.print()


_CONTROL_HEADS = {SHUFFLED_LABELS: "shuffled, train"}


def _control_of(table: Table) -> str | None:
    """Return the one control that is shown: a control task before any other."""
    shown_here = [name for name in table.controls if not has_features_of_its_own(name)]
    return next(filter(is_control_task, shown_here), next(iter(shown_here), None))


@hookimpl
def register_reports() -> list[type[Report]]:
    """The report of this module."""
    return [TerminalReport]
