"""The ``markdown`` report: short enough for the description of a pull request, where names of a model are only text."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from probekit.components import Report
from probekit.errors import clean
from probekit.findings.differences import ends_of
from probekit.findings.wording import shown
from probekit.hookspecs import hookimpl
from probekit.report.control_tables import control_tables
from probekit.report.page import shown_range, tables
from probekit.report.parts import Evidence, key_of
from probekit.report.tap_table import beside_error, from_curve
from probekit.report.wording import (
    evenly,
    interval_note,
    left_to_say,
    pairs_note,
    partial_note,
    warnings_left,
)
from probekit.statistics.multiple import SIGNIFICANT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.report.control_tables import ControlTable
    from probekit.report.page import Row, Table
    from probekit.results import PairedRecord, RunResult

LIMIT = 60_000
"""Characters of a report; a description or a comment on GitHub may have 65,536."""
_TAPS = 60
"""Rows of a table that are not folded."""
_VERDICTS, _FINDINGS, _WARNINGS = 10, 20, 10
"""Lines that are not folded."""

_APART = "&#8203;"
"""A zero-width space. It stops what platforms find in text that is already rendered, where no escape is left."""
_SPECIAL = re.compile(
    r"[<>&]"
    r"|[\\`*\[\]{}~$|]|(?<![^\W_])_|_(?![^\W_])"  # within a word, _ is only itself
    r"|@(?=\w)|#(?=\d)|\bgh-(?=\d)|:(?=//|[\w+-]+:)|\bwww(?=\.)",  # mentions, issues, emoji, addresses
    re.IGNORECASE,
)
_BLOCK = re.compile(r"[#+=-]|\d{1,9}[.)]")
"""What would begin a heading, a list or a line below a heading."""


class MarkdownReport(Report):
    """Verdict, findings, tables, warnings and the command, in GitHub's Markdown."""

    kind: Literal["markdown"] = "markdown"
    filename: ClassVar[str | None] = "report.md"

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:  # noqa: ARG002 - no terminal
        """Return the text, at most :data:`LIMIT` characters unless names alone take more.

        What is long is folded, and left out from the end where the whole is too long.
        """
        shown_tables, evidence = tables(result), Evidence(result)
        blocks = [_Block(f"## Probe report: {code(result.name)}")]
        if note := partial_note(result):
            blocks.append(_Block(f"**{note}**"))
        verdicts = [_titled(table) + escape(table.verdict) for table in shown_tables]
        blocks += _listed(verdicts or ["No probe was fitted."], _VERDICTS, "verdicts")
        found = [f"**{one.severity}**: {escape(one.sentence)}" for one in left_to_say(result)]
        if found:
            blocks += [_Block("### Findings"), *_listed(found, _FINDINGS, "findings", bullets=True)]
        if shown_tables:
            blocks.append(_Block("### Taps"))
        for table in shown_tables:
            blocks += _table(result, table, evidence)
            blocks += [block for control in control_tables(result, table) for block in _control(control)]
        warned = [beginning(escape(text)) for text in warnings_left(result)]
        if warned:
            blocks += [_Block("### Warnings"), *_listed(warned, _WARNINGS, "warnings", bullets=True)]
        blocks.append(_Block(f"### Reproduce\n\n{fenced(str(result.provenance['command']), 'sh')}"))
        facts = (f"probekit {result.provenance['probekit']}", str(result.provenance["started"])[:10])
        blocks.append(_Block(f"<sub>{' · '.join(escape(fact) for fact in facts)}</sub>"))
        return _fitting(blocks)


@dataclass(frozen=True)
class _Block:
    """A part of the report.

    Args:
        text: what it says.
        short: what stands in its place where there is no room for it; None keeps it.
        folded: it is folded, so that it goes before those that are not.
    """

    text: str
    short: str | None = None
    folded: bool = False


def escape(text: str) -> str:
    r"""Return text that Markdown shows as it is: no markup, no HTML, no mention, no link.

    >>> escape("relu_1 *x* <b> @octocat #1")
    'relu_1 \\*x\\* &lt;b&gt; @&#8203;octocat #&#8203;1'
    """

    def inert(match: re.Match[str]) -> str:
        found = match[0]
        if found in "<>&":
            return html.escape(found)
        return f"\\{found}" if found in "\\`*_[]{}~$|" else found + _APART

    return _SPECIAL.sub(inert, clean(text))


def beginning(escaped: str) -> str:
    """Return an escaped text that may stand at the beginning of a line."""
    escaped = escaped.strip()
    return _APART + escaped if _BLOCK.match(escaped) else escaped


def code(name: str) -> str:
    """Return a name as inline code, for text and for cells of tables.

    >>> code("relu_1"), code("a`b")
    ('`relu_1`', '``a`b``')
    """
    text = clean(name)
    if "|" in text or not text.strip():
        # How a backslash before a pipe is read differs; entities leave nothing to read.
        inert = "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text) or "&nbsp;"
        return f"<code>{inert}</code>"
    fence = "`" * (_longest_run(text) + 1)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{space}{text}{space}{fence}"


def fenced(text: str, language: str = "") -> str:
    """Return text as a block of code."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{clean(text)}\n{fence}"


def _longest_run(text: str) -> int:
    """Return the length of the longest run of backticks."""
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _titled(table: Table) -> str:
    return f"{code(table.title)}: " if table.title else ""


def _listed(lines: Sequence[str], most: int, what: str, *, bullets: bool = False) -> list[_Block]:
    """Return lines as paragraphs or as a list, those after the first ones folded."""
    lines = [f"- {line}" for line in lines] if bullets else list(lines)
    between = "\n" if bullets else "\n\n"
    blocks = [_Block(between.join(lines[:most]), f"{len(lines[:most])} {what} are left out: they are too long.")]
    rest = lines[most:]
    if rest:
        blocks.append(_folded(f"{len(rest)} more {what}", between.join(rest)))
    return blocks


def _folded(summary: str, text: str) -> _Block:
    whole = f"<details><summary>{html.escape(summary)}</summary>\n\n{text}\n\n</details>"
    return _Block(whole, f"{html.escape(summary)} are left out here: see the other reports of the run.", folded=True)


def _table(result: RunResult, table: Table, evidence: Evidence) -> list[_Block]:
    """Return a table in depth order; where it is long, some rows of it and the others folded."""
    shown_rows = evenly(table.rows, _TAPS)
    steps = _steps(table, evidence)
    several = len({row.probe.reduction for row in table.rows}) > 1
    stepped = any(text for text, _ in steps)
    tested = "test R²" if table.metric == "r2" else "test error"
    ranges = interval_note(row.interval for row in table.rows)
    header = ["tap", *(["reduction"] if several else []), f"{tested} [interval]" if ranges else tested]
    beside = beside_error(result, table)
    header += [*(name for name, _ in beside), *(["step"] if stepped else [])]
    align = [":--", *([":--"] if several else []), "--:", *("--:" for _ in beside), *([":--"] if stepped else [])]
    head = [_line(header), _line(align)]

    def lines(numbers: Sequence[int]) -> str:
        cells = []
        for number in numbers:
            row = table.rows[number]
            cells.append([*_cells(table, row, several), *(text(row) for _, text in beside)])
            cells[-1] += [steps[number][0]] if stepped else []
        return "\n".join([*head, *map(_line, cells)])

    blocks = [_Block(f"#### {code(table.title)}")] if table.title else []
    blocks.append(_Block(lines(shown_rows), "This table is left out here: see the other reports of the run."))
    rest = sorted(set(range(len(table.rows))) - set(shown_rows))
    if rest:
        blocks.append(_folded(f"{len(rest)} more rows, in the same order", lines(rest)))
    notes = [f"Brackets: {escape(ranges)}."] if ranges else []
    if stepped:
        tests = pairs_note(pair for _, pairs in steps for pair in pairs)
        measured = "test R²" if table.metric == "r2" else "test error"
        notes.append(
            f"Steps: how the {measured} changes from the tap before, where p < {SIGNIFICANT:g} by {escape(tests)} "
            "and Holm's correction."
        )
    return [*blocks, *([_Block(" ".join(notes))] if notes else [])]


def _control(table: ControlTable) -> list[_Block]:
    """Return the table of a control, folded where it is long."""
    align = [":--" if head in {"tap", "reduction"} else "--:" for head in table.heads]
    lines = [_line([code(line[0]), *map(escape, line[1:])]) for line in table.lines]
    text = "\n".join([_line([escape(head) for head in table.heads]), _line(align), *lines])
    left_out = "This table is left out here: see the other reports of the run."
    block = _Block(text, left_out) if len(lines) <= _TAPS else _folded(f"{len(lines)} rows", text)
    return [_Block(f"#### {escape(table.title)}"), block, _Block(escape(" ".join(table.notes)))]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(table: Table, row: Row, several: bool) -> list[str]:
    tap = code(row.probe.tap)
    if row.best:
        tap = f"**{tap}** (best on valid)"
    if row.missed:
        tap += " (missed its tolerance)"
    value = shown(row.scores["test"], table.metric)
    if row.interval is not None:
        value += f" [{shown_range(row.interval, table.metric)}]"
    return [tap, *([code(row.probe.reduction)] if several else []), value]


def _steps(table: Table, evidence: Evidence) -> list[tuple[str, list[PairedRecord]]]:
    """Return the significant steps to each row's tap, as text and as records."""
    before: dict[int, set[tuple[str, str]]] = {}
    for curve in table.curves.values():
        for first, second in pairwise(curve):
            before.setdefault(id(second), set()).add((first.probe.tap, first.probe.reduction))
    made = []
    for row in table.rows:
        steps = evidence.steps.get(key_of(row.probe), [])
        pairs = [one for one in steps if one.p_adjusted < SIGNIFICANT]
        texts = []
        for pair in pairs:
            change = f"{100 * pair.difference:+.1f} points" if pair.metric == "error" else f"{pair.difference:+.3f}"
            origin = f" from {code(pair.before)}{escape(from_curve(pair, steps))}"
            usual = before.get(id(row)) == {ends_of(pair)[0]}
            texts.append(f"{'▲' if pair.difference > 0 else '▼'} {change}{'' if usual else origin}")
        made.append((", ".join(texts), pairs))
    return made


def _fitting(blocks: Sequence[_Block]) -> str:
    """Return the blocks as one text: what is folded, then what is not, is shortened from the end until it fits."""
    texts = [block.text for block in blocks]
    for number in sorted(range(len(blocks)), key=lambda number: (not blocks[number].folded, -number)):
        if sum(len(text) + 2 for text in texts) <= LIMIT:
            break
        texts[number] = blocks[number].short or texts[number]
    return "\n\n".join(texts) + "\n"


@hookimpl
def register_reports() -> list[type[Report]]:
    """The report of this module."""
    return [MarkdownReport]
