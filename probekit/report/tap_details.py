"""The details of each tap: every score of its probes, the path of λ, steps, information, controls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from probekit.findings.wording import shown
from probekit.report.controls import has_features_of_its_own
from probekit.report.parts import key_of
from probekit.report.tap_table import ANSWERS, CERTIFICATES, from_curve
from probekit.report.wording import kinds_note
from probekit.results import headline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.components import Task
    from probekit.report.page import Row
    from probekit.report.parts import Evidence
    from probekit.results import InformationRecord, IntervalRecord, PairedRecord, ProbeResult, RunResult

_WORST, _PAIRS = 5, 3
"""The most labels and pairs of classes that are shown."""
_NATS = {"cross_entropy"}
_SHARES = {"error", "balanced_error", "top5_error", "subset_error"}


@dataclass(frozen=True)
class Details:
    """What is known of one probe.

    Args:
        title: what tells it from the tap's other probes; may be empty.
        splits: names of the splits.
        scores: each metric's name and its value on every split, with its interval on test splits.
        path: each λ with its loss on valid and a remark: that it was chosen, or missed its optimum.
        lines: the rest, as sentences without a full stop.
    """

    title: str
    splits: list[str]
    scores: list[tuple[str, list[str]]]
    path: list[tuple[str, str, str]]
    lines: list[str]


def details_note(result: RunResult, evidence: Evidence) -> str:
    """Return what the numbers of the details mean and what all of them have, empty where nothing has to be said."""
    classes = (one.interval for probe in result.probes if probe.mistakes is not None for one in probe.mistakes.worst)
    labels = (one.interval() for probe in result.probes for one in probe.by_label.values())
    kinds = kinds_note([*classes, *labels])
    dtypes = {one.dtype for one in result.graph.taps}
    told = [f"Every tap is {dtypes.pop()}."] if len(dtypes) == 1 else []
    told += [f"Preconditioner of every fit: {evidence.preconditioner}."] if evidence.preconditioner else []
    told += ["p is adjusted by Holm's method."] if result.comparisons or result.information else []
    if kinds:
        told.append(
            f"Classes and labels: the share of wrong answers, with {kinds}, of each one alone: the worst of many look "
            "worse than they are."
        )
    if any(probe.mistakes is not None and probe.mistakes.confused for probe in result.probes):
        told.append("Confused: true → predicted, how often, and as a share of the true class.")
    return " ".join(told)


def details(row: Row, evidence: Evidence, title: str, *, uneven: bool) -> Details:
    """Return what is known of one probe.

    Args:
        row: the probe.
        evidence: of its run.
        title: what tells it from the tap's others.
        uneven: whether its classes are; of even ones the balanced error is left out.
    """
    probe, key = row.probe, key_of(row.probe)
    splits = list(probe.scores[probe.primary])
    lines = [_fit(probe, usual=evidence.preconditioner), *_cost(probe)]
    steps = evidence.steps.get(key, [])
    lines += [_step(step, from_curve(step, steps)) for step in steps]
    told = evidence.information.get(key)
    lines += [] if told is None else [_information(told, probe.task)]
    for cell in row.controls:
        if has_features_of_its_own(cell.name) or (cell.seeds == 1 and cell.selectivity is None and not cell.missed):
            continue  # the tables say as much, of selectivity too
        value = shown(cell.value, probe.primary)
        seeds = f", mean of {cell.seeds} seeds" if cell.seeds > 1 else ""
        lines.append(f"Control {cell.name}: {value} on {cell.split}{seeds}{'; missed' if cell.missed else ''}")
    lines += _mistakes(probe)
    if len(probe.by_label) > 1:
        lines.append(f"Worst labels: {_worst_labels(probe)}")
    return Details(title, splits, list(_scores(probe, splits, uneven=uneven)), list(_path(probe)), lines)


def _scores(probe: ProbeResult, splits: list[str], *, uneven: bool) -> Iterator[tuple[str, list[str]]]:
    for metric, by_split in probe.scores.items():
        if metric == "balanced_error" and probe.task == "classes" and not uneven:
            continue
        intervals = probe.intervals.get(metric, {})
        texts = []
        for split in splits:
            text = "" if split not in by_split else _value(by_split[split], metric)
            interval = intervals.get(split) if split not in {"train", "valid"} else None
            texts.append(text + _ends(interval, metric))
        yield metric.replace("_", " ") + (" in nats" if metric in _NATS else ""), texts


def _path(probe: ProbeResult) -> Iterator[tuple[str, str, str]]:
    for point in probe.fit.path if probe.fit is not None else ():
        loss = "" if point.valid_loss is None else f"{point.valid_loss:.4g}"
        remark = "missed" if point.status == "missed" else ""
        yield f"{point.penalty:.3g}", loss, "chosen" if point.penalty == probe.penalty else remark


def _value(value: float, metric: str) -> str:
    if metric in _SHARES:
        return shown(value, "error")
    return shown(value, "r2") if metric in {"r2", "auroc"} else f"{value:.3g}"


def _fit(probe: ProbeResult, usual: str | None) -> str:
    """Return how near to its optimum a probe is, and how it came there, without the preconditioner that all have."""
    certificate, fit = probe.certificate, probe.fit
    proof = f"Optimum: {CERTIFICATES[certificate.status]}"
    if certificate.gap is not None:
        proof += f" within {certificate.gap:.2g}{'' if probe.task == 'number' else ' nats'}"
    parts = [proof]
    if fit is not None:
        parts += [f"missed because {fit.reason}"] if certificate.status == "missed" and fit.reason else []
        parts.append(f"{fit.passes} passes")
        parts += [f"{fit.preconditioner} preconditioner"] if fit.preconditioner != usual else []
        parts += [f"the {fit.end} λ of its path"] if fit.end else []
        parts += fit.notes
    return "; ".join(parts)


def _cost(probe: ProbeResult) -> Iterator[str]:
    """Say what a probe and the reduction before it hold, where the latter holds anything."""
    if probe.reduction_parameters and probe.parameters is not None:
        spent = probe.reduction_seconds
        time = "" if spent is None else f", learned and applied in {spent:.1f} s"
        yield f"Holds {probe.parameters:,} numbers; the reduction {probe.reduction_parameters:,}{time}"


def _step(step: PairedRecord, origin: str) -> str:
    ends = ""
    if step.metric == "error":
        value = f"{100 * step.difference:+.1f} points"
        if step.interval is not None:
            ends = f" ({100 * step.interval.low:+.1f} to {100 * step.interval.high:+.1f})"
    else:
        value = f"{step.difference:+.3f} of R²"
        if step.interval is not None:
            ends = f" ({step.interval.low:+.3f} to {step.interval.high:+.3f})"
    text = f"Against {step.before}{origin}: {value}{ends}, p = {step.p_adjusted:.2g}"
    if step.only_before_wrong is not None and step.only_after_wrong is not None:
        text += f"; {step.only_after_wrong:,} wrong only here, {step.only_before_wrong:,} only there"
    return text


def _information(told: InformationRecord, task: Task) -> str:
    ends = "" if told.interval is None else f" ({told.interval.low:.3g} to {told.interval.high:.3g})"
    unit = "of the variance" if task == "number" else "nats a row"
    return (
        f"Information: {ANSWERS[told.answer]}; {told.gain:.3g} {unit}{ends}, {100 * told.of_chance:.1f} % of chance's "
        f"loss, p = {told.p_adjusted:.2g}"
    )


def _mistakes(probe: ProbeResult) -> Iterator[str]:
    """Give the worst classes and the most frequent confusions."""
    told = probe.mistakes
    if told is None:
        return
    if not told.worst:
        yield f"No mistakes on {told.split}"
        return
    worst = (f"{one.name} {shown(one.error, 'error')} of {one.n:,}{_ends(one.interval)}" for one in told.worst)
    yield f"Worst on {told.split}: {'; '.join(worst)}"
    pairs = (f"{one.true} → {one.predicted} {one.count:,} ({shown(one.share, 'error')})" for one in told.confused)
    yield f"Confused: {'; '.join(islice(pairs, _PAIRS))}"


def _ends(interval: IntervalRecord | None, metric: str = "error") -> str:
    """Return an interval in brackets, without the unit, which the value before it has."""
    return "" if interval is None else f" ({_plain(interval.low, metric)} to {_plain(interval.high, metric)})"


def _plain(value: float, metric: str) -> str:
    return _value(value, metric).removesuffix(" %")


def _worst_labels(probe: ProbeResult) -> str:
    errors = {name: headline(label.scores["error"])["test"] for name, label in probe.by_label.items()}
    worst = sorted(errors, key=lambda name: -errors[name])[:_WORST]
    return "; ".join(f"{name} {shown(errors[name], 'error')}{_ends(probe.by_label[name].interval())}" for name in worst)
