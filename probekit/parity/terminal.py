"""A check of parity as printed tables, for 60 columns and more."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from probekit.errors import clean
from probekit.parity.wording import cosine, how_measured, sentences, share, tap_name, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from probekit.parity.records import PairParity, ParityResult

_MOST = 20
"""Taps without a counterpart that are printed."""


def render(result: ParityResult, width: int = 80, colour: bool = False) -> str:
    """Return the text; names cannot change colours or the cursor.

    Args:
        result: the check.
        width: columns; fewer than 40 are taken as 40.
        colour: whether there may be ANSI colours.
    """
    from rich.console import Console

    stream = io.StringIO()
    console = Console(
        file=stream, width=max(width, 40), force_terminal=colour, no_color=not colour, highlight=False, markup=False,
        emoji=False, legacy_windows=False,
    )  # fmt: skip
    for name, facts in result.models.items():
        console.print(f"{clean(name)}: {clean(_facts(facts))}")
    console.print(how_measured(result))
    for pair in result.pairs:
        console.print()
        if len(result.pairs) > 1:
            console.print(f"{clean(pair.other)} against {clean(pair.reference)}")
        console.print(_table(pair, console.width))
        console.print()
        for line in sentences(pair, result.tolerance):
            console.print(clean(line), style="bold green" if pair.same else "bold red")
        for line in _without(pair):
            console.print(clean(line))
    for note in result.notes:
        console.print(f"note: {clean(note)}", style="yellow")
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def _facts(facts: dict[str, object]) -> str:
    runtime = facts["runtime"]
    told = runtime.items() if isinstance(runtime, dict) else ()
    return ", ".join([str(facts["kind"]), *(f"{name} {value}" for name, value in told if isinstance(value, str | int))])


def _table(pair: PairParity, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("tap", overflow="fold", min_width=8)
    several = len({one.reduction for one in pair.taps}) > 1
    wide = width >= 72
    if several:
        table.add_column("reduction", overflow="fold")
    if wide:
        table.add_column("features", justify="right", no_wrap=True)
    for name in ("largest", "median", "cosine"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for one in pair.taps:
        numbers = [share(one.largest), share(one.median), cosine(one.cosine)] if not one.reason else [""] * 3
        cells = [Text(clean(tap_name(one))), *([Text(clean(one.reduction))] if several else [])]
        cells += [Text(f"{one.features:,}")] if wide else []
        cells += [*map(Text, numbers), Text(clean(verdict_of(one)), "green" if one.same else "red")]
        table.add_row(*cells)
    return table


def _without(pair: PairParity) -> Iterator[str]:
    for name, taps in ((pair.reference, pair.reference_only), (pair.other, pair.other_only)):
        if taps:
            more = f" and {len(taps) - _MOST} more" if len(taps) > _MOST else ""
            yield f"only {name} has: {', '.join(taps[:_MOST])}{more}"
