"""A comparison as printed tables, for 80 columns and more."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from probekit.comparing.wording import sections, verdicts
from probekit.errors import clean
from probekit.report.wording import glued, unglued

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from probekit.comparing.records import ComparisonResult, SideRecord
    from probekit.comparing.wording import Section

_STYLES = {"worse": "red", "better": "green", "same": ""}
_MOST = 20
"""Values that differ, and taps without a counterpart, that are printed."""


def render(result: ComparisonResult, width: int = 80, colour: bool = False) -> str:
    """Return the text; names cannot change colours or the cursor.

    Args:
        result: the comparison.
        width: columns; fewer than 40 are taken as 40.
        colour: whether there may be ANSI colours.
    """
    from rich.console import Console

    stream = io.StringIO()
    console = Console(
        file=stream, width=max(width, 40), force_terminal=colour, no_color=not colour, highlight=False, markup=False,
        emoji=False, legacy_windows=False,
    )  # fmt: skip
    first, second = clean(result.first.called), clean(result.second.called)
    console.print(f"A: {first} ({_source(result.first)})")
    console.print(f"B: {second} ({_source(result.second)})")
    console.print()
    found = sections(result.differences)
    for section in found:
        if len(found) > 1:
            console.print(clean(section.title))
        console.print(_table(section, console.width))
        console.print()
    for line in verdicts(result):
        console.print(glued(clean(line)), style="bold")
    console.print()
    for line in _rest(result, console.width):
        console.print(line)
    for note in result.notes:
        console.print(f"note: {glued(clean(note))}", style="yellow")
    for gate in result.gates:
        style = "red" if gate.held else "green"
        console.print(f"fail if {clean(gate.condition)}: {'holds' if gate.held else 'does not hold'}", style=style)
        for hit in gate.hits:
            console.print(f"  {glued(clean(hit))}")
    return unglued(stream.getvalue())


def _source(side: SideRecord) -> str:
    parts = [side.directory, side.model, *([side.checkpoint] if side.checkpoint is not None else []), side.split]
    return clean(", ".join(parts))


def _table(section: Section, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    # What matters least goes first where the terminal is narrow.
    losses = width >= 100 and any(row.loss for row in section.rows)
    ps, ranges = width >= 72, width >= 60
    table = Table(box=None, pad_edge=False)
    table.add_column("tap", overflow="fold", min_width=8)
    for name in ("A", "B", "B - A, R²" if section.metric == "r2" else "B - A, points"):
        table.add_column(name, justify="right", no_wrap=True)
    if ranges:
        table.add_column("95 % interval", justify="right", no_wrap=True)
    if ps:
        table.add_column("p (Holm)", justify="right", no_wrap=True)
    if losses:
        table.add_column("nats", justify="right", no_wrap=True)
        table.add_column("p (Holm)", justify="right", no_wrap=True)
    for row in section.rows:
        missed = bool(row.of.missed)
        style = "" if missed else _STYLES[row.of.score.verdict()]
        cells = [
            Text(clean(row.place) + (" (missed)" if missed else ""), style),
            Text(row.first),
            Text(row.second),
            Text(row.difference, style),
        ]
        cells += [Text(row.interval)] if ranges else []
        cells += [Text(row.p)] if ps else []
        cells += [Text(row.loss), Text(row.loss_p)] if losses else []
        table.add_row(*cells)
    return table


def _rest(result: ComparisonResult, width: int) -> Iterator[str]:
    """Give the lines on taps without a counterpart and on what differs."""
    for side, name in (("first", "A"), ("second", "B")):
        taps = [one for one in result.unmatched if one.side == side]
        if taps:
            yield f"only {name} has {len(taps)} of the taps:"
        for one in taps[:_MOST]:
            near = "" if one.nearest is None else f" (nearest: {clean(one.nearest)})"
            yield f"  {clean(one.tap)}{near}"
        if len(taps) > _MOST:
            yield f"  and {len(taps) - _MOST} more"
    if result.changes:
        yield "what differs:"
    for change in result.changes[:_MOST]:
        head, values = f"  {change.part} {clean(change.key)}:", [change.first, change.second]
        shown = [_value(value, width - 6) for value in values]
        whole = f"{head} {' → '.join(shown)}"
        if len(whole) <= width:
            yield whole
        else:
            yield from (head, f"    A {shown[0]}", f"    B {shown[1]}")
    if len(result.changes) > _MOST:
        yield f"  and {len(result.changes) - _MOST} more: see --format json"


def _value(text: str | None, most: int) -> str:
    """Return a value, its middle left out where it is longer."""
    shown = "not there" if text is None else clean(text)
    half = (most - 3) // 2
    return shown if len(shown) <= most else f"{shown[:half]}...{shown[-half:]}"
