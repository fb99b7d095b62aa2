"""From a result to what a report shows, free of any format: the verdict, the rows, the order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probekit.findings.wording import WITHOUT_FEATURES, counted, interval_text, shown
from probekit.report.controls import control_cells, place_of
from probekit.results import ProbeResult, curves_of, headline, inputs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.report.controls import ControlCell, ProbePlace
    from probekit.results import IntervalRecord, ModelResult, PathPointRecord, RunResult

BINS = 11


@dataclass(frozen=True)
class LabelCell:
    """One yes/no label of a probe: its test error with its interval, its λ, and its colour as in :class:`Row`."""

    error: float
    interval: IntervalRecord | None
    penalty: float | None
    bin: int


@dataclass(frozen=True)
class Row:
    """One probe as a line of a table.

    Args:
        probe: its result.
        scores: its primary metric on train, valid and test.
        share: test error ÷ baseline, of a number 1 - R², clipped to [0, 1].
        bin: 0 (as bad as the baseline) to 10 (no error), for colours.
        best: it is the best of its table on valid.
        interval: of the metric on test, None where there is none.
        labels: of yes/no labels: each one's cell.
        controls: what probes of this kind reach here on the factor's controls, in the order of the table's.
    """

    probe: ProbeResult
    scores: dict[str, float]
    share: float
    bin: int
    best: bool
    interval: IntervalRecord | None
    labels: list[LabelCell]
    controls: list[ControlCell]

    @property
    def missed(self) -> bool:
        """Whether the probe is not proven to be at its optimum."""
        return self.probe.certificate.status == "missed"

    def told(self, metric: str) -> str:
        """Return the metric on test, and that the probe missed its optimum where it did."""
        return f"{shown(self.scores['test'], metric)}{' (missed)' if self.missed else ''}"

    @property
    def selectivity(self) -> float | None:
        """That of the first control task, None where there is none."""
        return next((cell.selectivity for cell in self.controls if cell.selectivity is not None), None)


@dataclass(frozen=True)
class Table:
    """All probes for the true labels of one model, factor, probe kind and reduction grid, in depth order.

    Args:
        title: what tells this table from the others; empty when it is the only one.
        factor: the label factor.
        metric: the primary metric: ``error`` or ``r2``.
        rows: in depth order.
        curves: the rows of each curve in depth order, by the reduction that names it.
        baseline: the metric on test of what knows the training labels alone.
        always: what that always says.
        labels: of yes/no labels: their names and the baseline of each.
        tested: labelled feature rows of the test split.
        controls: names of the factor's controls.
        own: the model's own result, None when there is none.
        verdict: one sentence made from the numbers.
    """

    title: str
    factor: str
    metric: str
    rows: list[Row]
    curves: dict[str, list[Row]]
    baseline: float
    always: str
    labels: list[tuple[str, float]]
    tested: int
    controls: list[str]
    own: ModelResult | None
    verdict: str


def percent(share: float) -> str:
    """Return a share as %: one decimal.

    >>> percent(0.0123)
    '1.2 %'
    """
    return shown(share, "error")


def shown_range(interval: IntervalRecord, metric: str) -> str:
    """Return an interval as text.

    >>> from probekit.results import IntervalRecord
    >>> shown_range(IntervalRecord(low=0.5, high=0.75, kind="percentile_bootstrap", over="examples", n=9), "r2")
    '0.500 to 0.750'
    """
    return f"{shown(interval.low, metric)} to {shown(interval.high, metric)}"


def plain_range(interval: IntervalRecord, metric: str) -> str:
    """Return an interval as text without its unit, for beside a value that has it.

    >>> from probekit.results import IntervalRecord
    >>> plain_range(IntervalRecord(low=0.05, high=0.075, kind="wilson", over="examples", n=9), "error")
    '5.0 to 7.5'
    """
    return shown_range(interval, metric).replace(" %", "")


def shown_difference(value: float, metric: str) -> str:
    """Return a difference of a primary metric with its sign: of shares in percentage points.

    >>> shown_difference(0.123, "error"), shown_difference(-0.5, "r2"), shown_difference(-0.0001, "error")
    ('+12.3 pp', '-0.500', '+0.0 pp')
    """
    # Adding 0.0 takes the sign from a rounded zero.
    return f"{round(100 * value, 1) + 0.0:+.1f} pp" if metric == "error" else f"{round(value, 3) + 0.0:+.3f}"


def shown_control(row: Row, name: str, metric: str) -> str:
    """Return a control's selectivity, or else its metric, and that a probe missed its optimum where one did.

    Empty where the row has no such control.
    """
    cell = next((one for one in row.controls if one.name == name), None)
    if cell is None:
        return ""
    value = shown(cell.value, metric) if cell.selectivity is None else shown_difference(cell.selectivity, metric)
    return f"{value} (missed)" if cell.missed else value


def path_text(path: list[PathPointRecord]) -> str:
    """Return every λ of a path with its loss on valid, in the path's order.

    >>> from probekit.results import PathPointRecord
    >>> point = {"penalty": 0.1, "objective": 1, "gap": 0, "valid_loss": 0.52, "valid_error": None}
    >>> path_text([PathPointRecord(**point, status="missed")])
    '0.1: 0.52 (missed)'
    """
    points = []
    for point in path:
        loss = "no loss" if point.valid_loss is None else f"{point.valid_loss:.4g}"
        points.append(f"{point.penalty:.3g}: {loss}{' (missed)' if point.status == 'missed' else ''}")
    return " · ".join(points)


def tables(result: RunResult) -> list[Table]:
    """Return one table per model, checkpoint, factor and probe, in the order of the result.

    Controls stand beside the probes that they control, and have no tables of their own.
    """
    groups: dict[tuple[str, str | None, str, str], list[ProbeResult]] = {}
    for probe in result.probes:
        if probe.control is None:
            groups.setdefault((probe.model, probe.checkpoint, probe.factor, probe.probe), []).append(probe)
    several = [len({key[part] for key in groups}) > 1 for part in range(4)]
    cells = control_cells(result.probes)
    made = []
    for key, probes in groups.items():
        title = " · ".join(str(part) for part, shown in zip(key, several, strict=True) if shown and part is not None)
        made.append(_table(result, title, probes, cells))
    return made


def _table(
    result: RunResult, title: str, probes: list[ProbeResult], controls: Mapping[ProbePlace, list[ControlCell]]
) -> Table:
    factor, metric = probes[0].factor, probes[0].primary
    baseline = result.baseline(factor)
    ranked = [probe for probe in probes if probe.certificate.status != "missed"]
    best = min(ranked, key=ProbeResult.on_valid, default=None)
    by_label = result.label_baselines(factor)
    rows = []
    for probe in probes:
        scores = probe.headline()
        share = _share(scores["test"], baseline, metric)
        cells = []
        for name, chance in by_label.items():
            label = probe.by_label[name]
            error = headline(label.scores["error"])["test"]
            cells.append(LabelCell(error, label.interval(), label.penalty, _bin(_share(error, chance, metric))))
        beside = controls.get(place_of(probe), [])
        rows.append(Row(probe, scores, share, _bin(share), probe is best, probe.interval(), cells, beside))
    whose = (probes[0].model, probes[0].checkpoint, factor)
    own = next((one for one in result.model if (one.model, one.checkpoint, one.factor) == whose), None)
    always = WITHOUT_FEATURES[probes[0].task]
    names = list(dict.fromkeys(cell.name for row in rows for cell in row.controls))
    by_probe = {id(row.probe): row for row in rows}
    curves = curves_of(probes, inputs_of(result.graph, probes[0].model))
    table = Table(
        title, factor, metric, rows, {name: [by_probe[id(one)] for one in curve] for name, curve in curves.items()},
        baseline, always, list(by_label.items()), result.test_rows(factor), names, own, "",
    )  # fmt: skip
    several = len({probe.reduction for probe in probes}) > 1
    return replace(table, verdict=_verdict(table, best, result.unit(), several=several))


def _share(value: float, baseline: float, metric: str) -> float:
    """Return how much of the baseline's error is left, in [0, 1]."""
    if metric == "r2":
        return min(max(1 - value, 0.0), 1.0)
    return min(value / baseline, 1.0) if baseline > 0 else 1.0


def _bin(share: float) -> int:
    return round((1 - share) * (BINS - 1))


def _verdict(table: Table, best: ProbeResult | None, unit: str, *, several: bool) -> str:
    if best is None:
        return "No probe reached its optimum, so none is ranked."
    metric, test = table.metric, best.headline()["test"]
    place = f"{best.tap} ({best.reduction})" if several else best.tap
    rows, interval = f"{table.tested:,} test {unit}", best.interval()
    sure = "" if interval is None else f" ({interval_text(interval, metric, table.tested)})"
    if metric == "r2":
        reached = f"R² {shown(test, metric)}{sure} on {rows}"
    elif best.task == "multilabel":
        reached = (
            f"{shown(test, metric)} of the answers for {rows} wrong{sure}, over {counted(len(table.labels), 'label')}"
        )
    else:
        reached = f"{shown(test, metric)} of {rows} wrong{sure}"
    chance = f"{table.always} gives {shown(table.baseline, metric)}"
    if not best.beats(table.baseline):
        chosen = f"the one chosen on valid, at {place}, {reached}"
        return f"No probe for {best.factor} does better than chance: {chance}; {chosen}."
    text = f"The best probe for {best.factor}, chosen on valid, is at {place}: {reached}, where {chance}"
    if table.own is not None:
        text += f" and the model itself {shown(table.own.headline()['test'], metric)}"
    return f"{text}."
