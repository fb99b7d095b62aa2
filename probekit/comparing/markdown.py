"""A comparison as Markdown, for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.comparing.wording import sections, verdicts
from probekit.report.markdown import beginning, code, escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probekit.comparing.records import ComparisonResult
    from probekit.comparing.wording import Row

_SHOWN, _MOST = 60, 300
"""Rows of one table that are not folded, and that are there at all: GitHub takes 65,536 characters."""
_SIGNS = {"worse": "🔴 worse", "better": "🟢 better", "same": ""}


def render(result: ComparisonResult) -> str:
    """Return Markdown with tables as GitHub has them; names are inert."""
    lines = [f"## {code(result.second.called)} against {code(result.first.called)}", ""]
    lines += [f"A is {code(result.first.called)}, B is {code(result.second.called)}.", ""]
    for gate in result.gates:
        lines += [f"**{'FAILED' if gate.held else 'passed'}**: fail if {code(gate.condition)}", ""]
        lines += [*(f"- {beginning(escape(hit))}" for hit in gate.hits), ""] if gate.hits else []
    lines += [line for verdict in verdicts(result) for line in (beginning(escape(verdict)), "")]
    found = sections(result.differences)
    for section in found:
        if len(found) > 1:
            lines += [f"### {escape(section.title)}", ""]
        rows, rest = section.rows[:_SHOWN], section.rows[_SHOWN:]
        lines += [*_table(rows), ""]
        lines += _folded(f"{len(rest)} more taps", _table(rest)) if rest else []
    lines += [line for note in result.notes for line in (f"> {beginning(escape(note))}", "")]
    if result.unmatched:
        lines += _folded(f"{len(result.unmatched)} taps without a counterpart", _unmatched(result))
    if result.changes:
        lines += _folded(f"{len(result.changes)} values differ", _changes(result))
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    unit = "R²" if rows[0].of.score.metric == "r2" else "points"
    yield f"| tap | A | B | B - A, {unit} | 95 % interval | p (Holm) | |"
    yield "|---|--:|--:|--:|--:|--:|---|"
    for row in rows:
        p, verdict = row.p.replace("<", "&lt;"), "missed" if row.of.missed else _SIGNS[row.of.score.verdict()]
        cells = [code(row.place), row.first, row.second, row.difference, row.interval, p, verdict]
        yield f"| {' | '.join(cells)} |"


def _unmatched(result: ComparisonResult) -> Iterator[str]:
    yield "| side | tap | nearest on the other side |"
    yield "|---|---|---|"
    for one in result.unmatched:
        near = "" if one.nearest is None else code(one.nearest)
        yield f"| {'A' if one.side == 'first' else 'B'} | {code(one.tap)} | {near} |"


def _changes(result: ComparisonResult) -> Iterator[str]:
    yield "| part | key | A | B |"
    yield "|---|---|---|---|"
    for one in result.changes:
        values = ["" if value is None else code(value) for value in (one.first, one.second)]
        yield f"| {one.part} | {code(one.key)} | {' | '.join(values)} |"


def _folded(summary: str, lines: Iterator[str]) -> list[str]:
    kept = list(lines)
    left = len(kept) - _MOST
    more = ["", f"{left} more are left out here: see --format html or json."] if left > 0 else []
    return ["<details>", f"<summary>{summary}</summary>", "", *kept[:_MOST], *more, "", "</details>", ""]
