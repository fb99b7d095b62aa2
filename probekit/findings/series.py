"""The probes of a run in groups whose members may be compared, with what is known of each group."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from probekit.findings.differences import advantage, ends_of, interval_of
from probekit.findings.paths import paths_of
from probekit.findings.wording import WITHOUT_FEATURES, interval_text, named, sentence, shown
from probekit.results import FindingRecord, ProbeResult, curves_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from probekit.components import Task
    from probekit.findings.differences import Difference
    from probekit.findings.paths import Paths
    from probekit.results import (
        ContrastRecord,
        InformationRecord,
        ModelResult,
        PairedRecord,
        RunResult,
        Severity,
    )


@dataclass(frozen=True)
class Series:
    """The probes of one model, checkpoint, factor and kind of probe; they are never compared with others.

    Args:
        result: whose they are.
        probes: those of the true labels, in depth order, of every certificate; at least one.
        controls: those of controls.
        steps: paired differences between neighbouring taps.
        contrasts: of other pairs of probes, and of probes with the model's own output.
        information: whether there is any, by tap.
        paths: how the model's taps hang together.
        whose: which series it is, for sentences; empty where the run has only one model, checkpoint and probe.
        several: whether there are several reductions, of a curve whether there are several curves.
        reduction: the reduction that names a curve; None where all are meant.
    """

    result: RunResult
    probes: tuple[ProbeResult, ...]
    controls: tuple[ProbeResult, ...]
    steps: tuple[PairedRecord, ...]
    contrasts: tuple[ContrastRecord, ...]
    information: tuple[InformationRecord, ...]
    paths: Paths
    whose: str
    several: bool
    reduction: str | None = None

    @property
    def factor(self) -> str:
        """The label factor."""
        return self.probes[0].factor

    @property
    def asked(self) -> str:
        """The factor for sentences, with the reduction of a curve where there are several."""
        under = f" under {named(self.reduction)}" if self.several and self.reduction is not None else ""
        return f"{named(self.factor)}{under}"

    def asked_at(self, probes: Iterable[ProbeResult]) -> str:
        """Return the factor for a sentence about some probes: without a reduction where all are of vectors."""
        return named(self.factor) if all(probe.vector for probe in probes) else self.asked

    @property
    def task(self) -> Task:
        """What is asked of a row."""
        return self.probes[0].task

    @property
    def metric(self) -> str:
        """The primary metric: ``error`` or ``r2``."""
        return self.probes[0].primary

    @property
    def measured(self) -> str:
        """The primary metric for sentences."""
        return "R²" if self.metric == "r2" else "error"

    @property
    def ranked(self) -> list[ProbeResult]:
        """The probes that did not miss their certificate, in depth order."""
        return [probe for probe in self.probes if probe.certificate.status != "missed"]

    @property
    def best(self) -> ProbeResult | None:
        """The best probe on valid that may be ranked; among equals the earliest."""
        return self.best_of(self.ranked)

    def best_of(self, probes: Iterable[ProbeResult]) -> ProbeResult | None:
        """Return the best of some probes on valid; among equals the first."""
        return min(probes, key=ProbeResult.on_valid, default=None)

    def best_at(self, taps: Iterable[str]) -> ProbeResult | None:
        """Return the best probe on valid at some taps that may be ranked."""
        wanted = set(taps)
        return self.best_of(probe for probe in self.ranked if probe.tap in wanted)

    @property
    def baseline(self) -> float:
        """The metric on test of what knows the training labels alone."""
        return self.result.baseline(self.factor)

    @property
    def chance(self) -> str:
        """What the baseline does and reaches, for sentences."""
        return f"{WITHOUT_FEATURES[self.task]} ({self.shown(self.baseline)})"

    def above_chance(self, scored: ProbeResult | ModelResult) -> bool | None:
        """Return whether the whole interval on test is better than the baseline; None without an interval.

        R² is compared with 0, what saying the mean of the test rows reaches, where the baseline is less.
        """
        interval = interval_of(scored)
        if interval is None:
            return None
        return interval.low > max(self.baseline, 0.0) if self.metric == "r2" else interval.high < self.baseline

    def left(self, value: float, split: str = "test") -> float:
        """Return how much of the baseline's error is left at a value of the metric: 0 is perfect, 1 is chance."""
        baseline = self.result.baseline(self.factor, None if split == "test" else split)
        whole, rest = (1 - baseline, 1 - value) if self.metric == "r2" else (baseline, value)
        return rest / whole if whole > 0 else 1.0

    def shown(self, value: float) -> str:
        """Return a value of the metric as text."""
        return shown(value, self.metric)

    def place(self, probe: ProbeResult) -> str:
        """Return where a probe is, for sentences."""
        both = self.several and self.reduction is None
        return f"{named(probe.tap)} ({named(probe.reduction)})" if both else named(probe.tap)

    def reached(self, scored: ProbeResult | ModelResult) -> str:
        """Return what a probe or the model reaches on test, with n and interval, for sentences."""
        value, interval = self.shown(scored.headline()["test"]), interval_of(scored)
        rows = next(count for split, count in scored.rows.items() if split not in {"train", "valid"})
        sure = "" if interval is None else f" ({interval_text(interval, self.metric, rows)})"
        tested = f"{rows:,} test {self.result.unit()}"
        if self.metric == "r2":
            return f"R² {value}{sure} on {tested}"
        answers = "the answers for " if self.task == "multilabel" else ""
        return f"{value} of {answers}{tested} wrong{sure}"

    def advantage(self, one: ProbeResult, other: ProbeResult | ModelResult) -> Difference:
        """Return by how much a probe is better on test than another, or than the model: paired where that is known."""
        return advantage(self.steps, self.contrasts, one, other)

    def answer(self, probe: ProbeResult) -> str | None:
        """Return whether there is information where a probe is: ``yes``, ``no``, ``cannot_tell``, or None."""
        where = (probe.tap, probe.reduction)
        return next((one.answer for one in self.information if (one.tap, one.reduction) == where), None)

    def curves(self) -> Iterator[Series]:
        """Give the curves, each with the paths between its taps; see :func:`probekit.results.curves_of`."""
        curves = curves_of(self.probes, self.paths.inputs)
        for reduction, probes in curves.items():
            places = {(probe.tap, probe.reduction) for probe in probes}
            curve = replace(
                self,
                probes=tuple(probes),
                controls=tuple(one for one in self.controls if (one.tap, one.reduction) in places),
                steps=tuple(one for one in self.steps if set(ends_of(one)) <= places),
                information=tuple(one for one in self.information if (one.tap, one.reduction) in places),
                paths=self.paths.among(probe.tap for probe in probes),
                several=len(curves) > 1,
                reduction=reduction,
            )
            yield replace(curve, steps=tuple(curve.neighbouring())) if len(curves) > 1 else curve

    def neighbouring(self) -> Iterator[PairedRecord]:
        """Give the steps that pass no other tap of a curve: two vectors may be neighbours in another curve alone."""
        sources = self.paths.among(probe.tap for probe in self.ranked).sources
        for step in self.steps:
            fed_by = sources.get(step.after)
            if not fed_by or step.before in fed_by:
                yield step

    def say(
        self, kind: str, severity: Severity, text: str, probes: Iterable[ProbeResult] = (), /, **evidence: Any
    ) -> FindingRecord:
        """Return a finding about this series.

        Args:
            kind: which finding.
            severity: of it.
            text: the sentence, without whose it is.
            probes: those whose taps it is about.
            evidence: the numbers behind it.
        """
        about = list(probes)
        order = {tap: place for place, tap in enumerate(self.paths.order)}
        reductions: set[str | None] = {probe.reduction for probe in about}
        if self.reduction is not None and not (about and all(probe.vector for probe in about)):
            reductions = {self.reduction}
        return FindingRecord(
            kind=kind,
            severity=severity,
            sentence=sentence(self.whose, text),
            model=self.probes[0].model,
            checkpoint=self.probes[0].checkpoint,
            factor=self.factor,
            reduction=reductions.pop() if len(reductions) == 1 else None,
            probe=self.probes[0].probe,
            taps=sorted({probe.tap for probe in about}, key=order.__getitem__),
            evidence=evidence,
        )


def series_of(result: RunResult) -> list[Series]:
    """Return the series of a result, in its order."""
    probes: dict[tuple[Any, ...], list[ProbeResult]] = defaultdict(list)
    controls: dict[tuple[Any, ...], list[ProbeResult]] = defaultdict(list)
    steps: dict[tuple[Any, ...], list[PairedRecord]] = defaultdict(list)
    contrasts: dict[tuple[Any, ...], list[ContrastRecord]] = defaultdict(list)
    information: dict[tuple[Any, ...], list[InformationRecord]] = defaultdict(list)
    for one in result.probes:
        (probes if one.control is None else controls)[_key(one)].append(one)
    for step in result.comparisons:
        if step.control is None:
            steps[_key(step)].append(step)
    for contrast in result.contrasts:
        contrasts[_key(contrast)].append(contrast)
    for told in result.information:
        information[_key(told)].append(told)
    paths = {model: paths_of(result, model) for model in dict.fromkeys(key[0] for key in probes)}
    names = Names(result)
    return [
        Series(
            result,
            tuple(group),
            tuple(controls[key]),
            tuple(steps[key]),
            tuple(contrasts[key]),
            tuple(information[key]),
            paths[key[0]],
            names.of(key[0], key[1], key[3]),
            len({one.reduction for one in group}) > 1,
        )
        for key, group in probes.items()
    ]


def _key(one: ProbeResult | PairedRecord | ContrastRecord | InformationRecord) -> tuple[str, str | None, str, str]:
    return one.model, one.checkpoint, one.factor, one.probe


class Names:
    """Says which model, checkpoint and probe is meant, as far as a run has several.

    Args:
        result: of the run.
    """

    def __init__(self, result: RunResult) -> None:
        scored: list[ProbeResult | ModelResult] = [*result.probes, *result.model]
        self._models = len({one.model for one in scored}) > 1
        self._checkpoints = len({one.checkpoint for one in scored}) > 1
        self._probes = len({one.probe for one in result.probes}) > 1

    def of(self, model: str, checkpoint: str | None, probe: str | None = None) -> str:
        """Return whom a sentence is about; empty where there is only one."""
        parts = [f"model {named(model)}"] if self._models else []
        parts += [f"checkpoint {named(checkpoint)}"] if self._checkpoints and checkpoint is not None else []
        parts += [f"probe {named(probe)}"] if self._probes and probe is not None else []
        return ", ".join(parts)
