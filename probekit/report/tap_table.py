"""The table of all taps, as text without markup."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from probekit.findings.wording import counted, shown
from probekit.report.controls import control_note, has_features_of_its_own
from probekit.report.page import plain_range, shown_control, shown_difference
from probekit.report.parts import fold, key_of
from probekit.report.wording import interval_note, pairs_note
from probekit.results import first_test, headline
from probekit.statistics.multiple import SIGNIFICANT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from probekit.report.page import Row, Table
    from probekit.report.parts import Evidence
    from probekit.results import InformationRecord, PairedRecord, RunResult

_UNEVEN = 1.5
"""How many times the commonest class is as common as the rarest one, from which on classes are called uneven."""
ANSWERS = {"yes": "yes", "no": "none found", "cannot_tell": "cannot tell"}
CERTIFICATES = {"proven": "proven", "missed": "missed: not ranked", "not_applicable": "no certificate"}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
        head: its name.
        kind: how its cells are set: a link to the tap's details, text, a number, the coloured test score, or a number
            with a bar.
    """

    head: str
    kind: Literal["tap", "text", "number", "test", "bar"]


@dataclass(frozen=True)
class GridRow:
    """A line: its row of the page, the tap's anchor, and a text for each column."""

    row: Row
    anchor: str
    texts: list[str]


@dataclass(frozen=True)
class Grid:
    """The table of one model, checkpoint, factor and probe.

    Args:
        columns: those with anything to show.
        blocks: lines under the name of their block and what they reach; one without a name where nothing is folded.
        notes: sentences that explain the columns.
    """

    columns: list[Column]
    blocks: list[tuple[str, str, list[GridRow]]]
    notes: list[str]


def grid(result: RunResult, table: Table, evidence: Evidence) -> Grid:
    """Return the table of all taps: columns without anything to tell are left out."""
    numbers = {tap: number for number, tap in enumerate(dict.fromkeys(row.probe.tap for row in table.rows), 1)}
    folded = fold(table.rows, lambda row: row.probe.tap)
    made: list[tuple[Column, dict[int, str]]] = []
    for column, text in _columns(result, table, evidence, numbers, bars=len(folded) == 1):
        texts = {id(row): text(row) for row in table.rows}
        if any(texts.values()):
            made.append((column, texts))
    blocks = []
    for name, rows in folded:
        lines = [
            GridRow(row, evidence.anchor(row.probe.tap, row.probe.model) or "", [texts[id(row)] for _, texts in made])
            for row in rows
        ]
        tests = sorted(row.scores["test"] for row in rows if not row.missed)
        reach = f"{shown(tests[0], table.metric)} to {shown(tests[-1], table.metric)}" if tests else "all missed"
        blocks.append((name, reach if name else "", lines))
    return Grid([column for column, _ in made], blocks, list(_notes(table, evidence)))


def _columns(
    result: RunResult, table: Table, evidence: Evidence, numbers: dict[str, int], *, bars: bool
) -> Iterator[tuple[Column, Callable[[Row], str]]]:
    metric, first = table.metric, table.rows[0].probe
    tests = [split for split in first.scores[metric] if split not in {"train", "valid"}]
    yield Column("#", "number"), lambda row: str(numbers[row.probe.tap])
    yield Column("tap", "tap"), lambda row: row.probe.tap
    if len({row.probe.reduction for row in table.rows}) > 1:
        yield Column("reduction", "text"), lambda row: row.probe.reduction
    yield Column("features", "number"), lambda row: f"{row.probe.features_raw:,}"
    yield Column("used", "number"), lambda row: f"{row.probe.features_used:,}"
    yield Column("λ", "number"), _penalty
    yield Column("train", "number"), lambda row: shown(row.scores["train"], metric)
    yield Column("valid", "number"), lambda row: shown(row.scores["valid"], metric)
    yield Column("test", "test"), lambda row: shown(row.scores["test"], metric)
    yield Column("95 % interval", "number"), lambda row: _ends(row, metric)
    for other in tests[1:]:
        yield Column(other, "number"), _other_test(metric, other)
    yield Column("step", "number"), lambda row: _steps(evidence.steps.get(key_of(row.probe), []))
    if bars:
        yield Column("1 - R²" if metric == "r2" else "÷ chance", "bar"), lambda row: f"{row.share:.2f}"
    for head, text in beside_error(result, table):
        yield Column(head, "number"), text
    for name in _beside(table):
        yield Column(name, "number"), partial(shown_control, name=name, metric=metric)
    yield Column("information", "text"), lambda row: _answer(evidence.information.get(key_of(row.probe)))
    if any(row.probe.certificate.status != "proven" for row in table.rows):
        yield Column("optimum", "text"), lambda row: CERTIFICATES[row.probe.certificate.status]


def _beside(table: Table) -> list[str]:
    """Return the controls that have no table of their own."""
    return [name for name in table.controls if not has_features_of_its_own(name)]


def _penalty(row: Row) -> str:
    if row.probe.penalty is not None:
        return f"{row.probe.penalty:g}"
    return "several" if row.labels else ""


def _ends(row: Row, metric: str) -> str:
    if row.interval is None:
        return ""
    return plain_range(row.interval, metric)


def beside_error(result: RunResult, table: Table) -> list[tuple[str, Callable[[Row], str]]]:
    """Return what stands beside the test error: balanced error where classes are uneven, AUROC where there is one.

    Each has the head of its column and what gives its text for a row.
    """
    wanted = [("balanced", "balanced_error")] if uneven(result, table) else []
    wanted.append(("AUROC", "auroc"))
    known = {metric for row in table.rows for metric in row.probe.scores}
    return [(head, _score(metric)) for head, metric in wanted if metric in known]


def _score(metric: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        by_split = row.probe.scores.get(metric)
        if by_split is None:
            return ""
        value = headline(by_split)["test"]
        return f"{value:.3f}" if metric == "auroc" else shown(value, "error")

    return text


def uneven(result: RunResult, table: Table) -> bool:
    """Return whether the answers of a table have so different numbers of test rows that balanced error tells more.

    Of yes/no labels those of any one.
    """
    facts = result.provenance["labels"][table.factor]
    counts = facts["counts"][first_test(facts["counts"])] if facts.get("counts") else []
    if table.rows[0].probe.task == "multilabel":
        return any(_apart([count, table.tested - count]) for count in counts)
    return table.rows[0].probe.task == "classes" and len(counts) > 1 and _apart(counts)


def _apart(counts: Sequence[int]) -> bool:
    return max(counts) > _UNEVEN * min(counts)


def _steps(steps: list[PairedRecord]) -> str:
    """Return the differences to the taps before, starred where they are significant; see :func:`from_curve`."""
    texts = []
    for step in steps:
        value = shown_difference(step.difference, step.metric).removesuffix(" pp").replace("+0.000", "0.000")
        value = "0.0" if value == "+0.0" else value
        origin = from_curve(step, steps).replace(" ", "\u00a0", 1)
        texts.append(f"{value}{'*' if step.p_adjusted < SIGNIFICANT else ''}{origin}")
    return ", ".join(texts)


def from_curve(step: PairedRecord, steps: Sequence[PairedRecord]) -> str:
    """Return in brackets under which reduction a step begins, where others of a vector begin at the same tap."""
    return f" ({step.before_reduction})" if sum(one.before == step.before for one in steps) > 1 else ""


def _other_test(metric: str, split: str) -> Callable[[Row], str]:
    return lambda row: shown(row.probe.scores[metric][split], metric)


def _answer(told: InformationRecord | None) -> str:
    return "" if told is None else ANSWERS[told.answer]


def _notes(table: Table, evidence: Evidence) -> Iterator[str]:
    probes = [row.probe for row in table.rows]
    reductions = list(dict.fromkeys(probe.reduction for probe in probes))
    if len(reductions) == 1:
        yield f"Every tap is reduced by {reductions[0]}."
    if all(probe.certificate.status == "proven" for probe in probes):
        yield "Every probe is proven to be at its optimum."
    note = interval_note(row.interval for row in table.rows)
    if note:
        yield f"Intervals: {note}."
    by_probe = [evidence.steps.get(key_of(probe), []) for probe in probes]
    steps = [step for some in by_probe for step in some]
    if steps:
        unit = "percentage points of the error" if table.metric == "error" else "R²"
        origin = (
            "; in brackets its reduction" if any(from_curve(one, some) for some in by_probe for one in some) else ""
        )
        yield (
            f"Step: the difference to each tap before it on the same rows, in {unit}, by {pairs_note(steps)}; "
            f"* where p < {SIGNIFICANT:g} after Holm's correction{origin}."
        )
    for name in _beside(table):
        yield control_note(name, next(cell.split for row in table.rows for cell in row.controls if cell.name == name))
    if any(key_of(probe) in evidence.information for probe in probes):
        yield "Information: whether a linear probe can use any at this tap."
    if table.labels:
        yield f"Scores are means over {counted(len(table.labels), 'label')}."
