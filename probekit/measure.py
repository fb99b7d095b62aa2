"""Fitting every probe to every tap of a model, and scoring probes and model on the same examples."""

from __future__ import annotations

import functools
import math
import time
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from probekit.components import REDUCTION_SEED, ArrayMatrix, FitContext
from probekit.errors import MachineError, ProbekitWarning, UserError, listed
from probekit.findings.wording import WITHOUT_FEATURES
from probekit.fit_tasks import FitTask
from probekit.fits import contents_digest
from probekit.plugins.sources import blamed
from probekit.prepared import COPIES, is_constant, prepared, reduction_parameters
from probekit.probes.metrics import PRIMARY
from probekit.probes.model_scores import classes_of_output, number_of_output
from probekit.probes.scoring import label_penalties, score_number, score_output, score_target
from probekit.probes.standardise import rows_at_once
from probekit.progress import FittingProgress, work_of
from probekit.results import (
    CertificateRecord,
    FitRecord,
    IntervalRecord,
    LabelResult,
    ModelResult,
    ProbeIdentity,
    ProbeResult,
)
from probekit.saved.files import ProbeFile
from probekit.spec.splits import TEST, TRAIN
from probekit.workers import FitsAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from probekit.components import (
        Array,
        FeatureMatrix,
        FittedProbe,
        FittedReduction,
        FloatArray,
        IntArray,
        ModelOutput,
        Probe,
        Target,
    )
    from probekit.data.question import Question
    from probekit.fit_tasks import Place
    from probekit.fits import FitJournal
    from probekit.reductions.assign import FeatureSet
    from probekit.statistics.intervals import Interval
    from probekit.workers import FitWorkers

T = TypeVar("T")


class Measurement:
    """Collects what is measured, model by model.

    Args:
        question: what is asked of the features.
        journal: where fits are kept until the results are written; default: nowhere.
        workers: of an executor, for small fits; default: all are made here.
    """

    def __init__(
        self, question: Question, journal: FitJournal | None = None, workers: FitWorkers | None = None
    ) -> None:
        self.question, self.journal, self.workers = question, journal, workers
        self.probes: list[ProbeResult] = []
        self.models: list[ModelResult] = []
        self.failures: list[str] = []
        self.seconds = 0.0
        self._told_of_workers = False
        # By the number of a prediction: whose it is, each row's prediction, each row's loss.
        self.keys: dict[str, dict[str, Any]] = {}
        self.predicted: dict[str, Array] = {}
        self.losses: dict[str, Array] = {}
        self.saved = ProbeFile()

    def score_model(
        self, model: str, checkpoint: str | None, tensor: str, output: ModelOutput, values: FloatArray
    ) -> None:
        """Score the model's own prediction of a factor.

        Args:
            model: its name.
            checkpoint: the checkpoint's name.
            tensor: the output's name.
            output: the spec's section.
            values: shape (feature rows, entries).

        Raises:
            InputError: ``PK-L24``, the output's entries cannot be mapped to the factor's classes, or are no number.
        """
        targets = self.question.targets
        target = next(one for one in targets if one.factor == output.factor and one.control is None)
        rows, units = self._rows(target), self.question.units
        if target.task == "number":
            predicted: Array = number_of_output(values, target.factor)
            scores, intervals = score_number(predicted, target, rows, units)
        else:
            mapped = classes_of_output(output, self.question.labels[target.factor], values.shape[1])
            predicted, scores, intervals = score_output(values, mapped, target, rows, units)
        self.models.append(
            ModelResult(
                model=model,
                checkpoint=checkpoint,
                factor=target.factor,
                output=tensor,
                task=target.task,
                scores=scores,
                primary=PRIMARY[target.task],
                error=self._error(scores),
                intervals=self._intervals(intervals),
                rows={split: len(part) for split, part in rows.items()},
            )
        )
        key = str(len(self.keys))
        self.keys[key] = {"model": model, "checkpoint": checkpoint, "output": tensor, "factor": target.factor}
        self.predicted[key] = predicted

    def fit(
        self,
        model: str,
        checkpoint: str | None,
        sets: Sequence[FeatureSet],
        features: Callable[[int], FeatureMatrix],
        probes: Mapping[str, Probe],
        progress: FittingProgress | None = None,
        memory: int | None = None,
    ) -> Iterator[ProbeResult]:
        """Fit every probe to every feature matrix and give each result as it is there.

        A fit that the journal holds is taken from there and scored anew. Where all targets at once cannot be fitted,
        each is fitted alone; one that fails loses only itself and is kept as a failure.

        Args:
            model: its name.
            checkpoint: the checkpoint's name.
            sets: what the matrices are.
            features: gives the matrix of a set, by its number.
            probes: of the spec, by name.
            progress: of the whole run; default: nobody is told.
            memory: bytes that one matrix and what a fit makes of it may take; a larger one is read in every pass;
                default: no bound.

        Raises:
            MachineError: the machine gave out, which no other probe would survive.
        """
        wide: list[str] = []
        start, train = time.monotonic(), self.question.places[TRAIN]
        name = model if checkpoint is None else f"{model}@{checkpoint}"
        labels = list(dict.fromkeys(one.label for one in sets))
        progress = progress or FittingProgress()
        ahead = self._ahead((model, checkpoint), sets, features, probes, memory)
        for number, one in enumerate(sets):
            where = f"model {name}, tap {one.label}, reduction {one.reduction}"
            where += "" if one.control is None else f", {one.control} with seed {one.seed}"
            asked = [index for index, target in enumerate(self.question.targets) if one.asks(target)]
            make = functools.partial(prepared, one, features(number), self.question, memory)
            begun = time.monotonic()
            made = self._attempt(where, make)
            spent = None if one.learned is None else time.monotonic() - begun
            if made is None:
                progress.skip(len(probes), len(probes) * work_of(one.wanted.width))
                continue
            matrix, reduction = made
            constant = is_constant(matrix)
            if len(train) < matrix.shape[1] and one.control is None:
                wide.append(f"{one.label} ({matrix.shape[1]})")
            held = matrix.array.nbytes if isinstance(matrix, ArrayMatrix) else 0
            context = FitContext(None if memory is None else max(0, memory - held), progress.hear)
            contents = contents_digest(matrix) if self.journal is not None else ""
            tap = f"tap {labels.index(one.label) + 1} of {len(labels)}, {name} {one.title}"
            tap += "" if one.control in {None, REDUCTION_SEED} else f", {one.control} with seed {one.seed}"
            for probe_name, probe in probes.items():
                progress.begin(work_of(one.wanted.width), f"{tap} {probe_name}" if len(probes) > 1 else tap)
                names = _names((model, checkpoint), one, probe_name)
                key = self.journal.key(names, contents, probe) if self.journal is not None else ""
                there = functools.partial(ahead.take, (model, checkpoint, number, probe_name), progress)
                fitted = self._fitted(f"{where}, probe {probe_name}", key, probe, matrix, context, asked, there)
                for index, probe_fitted in fitted.items():
                    target = self.question.targets[index]
                    score = functools.partial(
                        self._score, (model, checkpoint), one, probe_name, matrix, reduction, probe_fitted, target,
                        constant=constant, spent=spent,
                    )  # fmt: skip
                    result = self._attempt(f"{where}, probe {probe_name}, {_asked(target)}", score)
                    if result is not None:
                        yield result
                progress.end(kept=self.journal is not None and key in self.journal.found)
        if wide:
            text = (
                f"model {name}: more features than the {len(train):,} training rows at {listed(wide, 8)}; there a "
                "probe can fit any labels, so that its train error says nothing"
            )
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        self.seconds += time.monotonic() - start

    def _ahead(
        self,
        model: tuple[str, str | None],
        sets: Sequence[FeatureSet],
        features: Callable[[int], FeatureMatrix],
        probes: Mapping[str, Probe],
        memory: int | None,
    ) -> FitsAhead:
        """Return the fits that are small enough to be made side by side."""
        tasks: dict[Place, Callable[[], FitTask]] = {}
        rows = len(self.question.owners)
        for number, one in enumerate(sets):
            if one.learned is not None or self.workers is None or not self.workers.count:
                continue
            asked = [index for index, target in enumerate(self.question.targets) if one.asks(target)]
            targets, size = [self.question.targets[index] for index in asked], 4 * rows * one.wanted.width
            for name, probe in probes.items():
                needed = probe.side_by_side(rows, one.wanted.width, targets)
                if needed is None or not self.workers.afford(needed + COPIES * size, memory):
                    continue
                left = None if memory is None else max(0, memory - size)
                place, names = (*model, number, name), _names(model, one, name)
                make = functools.partial(FitTask, place, names, probe, asked=asked, memory=left)
                tasks[place] = functools.partial(_task, make, features, number)
        return FitsAhead(self.workers, tasks)

    def _fitted(
        self,
        where: str,
        key: str,
        probe: Probe,
        matrix: FeatureMatrix,
        context: FitContext,
        asked: Sequence[int],
        there: Callable[[], list[FittedProbe] | None],
    ) -> dict[int, FittedProbe]:
        """Return the fitted probe of each target that is asked, by its number, without those that failed.

        ``there`` gives those of a worker, if there is one that makes this fit.
        """
        targets = [self.question.targets[index] for index in asked]
        fitted = self.journal.read(key) if self.journal is not None else {}
        if len(fitted) == len(targets):
            return fitted
        made = there() if not fitted else None
        reason = self.workers.failed_there() if self.workers is not None else None
        if made is not None:
            fitted = dict(zip(asked, made, strict=True))
        together, failed = None, len(self.failures)
        if not fitted and len(targets) > 1:
            try:
                fitted = dict(zip(asked, _fit(probe, matrix, targets, context), strict=True))
            except (MemoryError, MachineError):
                raise
            except Exception as error:
                together = _reason(error)
        for index, target in zip(asked, targets, strict=True):
            if index not in fitted:
                fit = functools.partial(_fit, probe, matrix, [target], context)
                alone = self._attempt(f"{where}, {_asked(target)}", fit)
                fitted |= {index: alone[0]} if alone is not None else {}
        if reason is not None and len(self.failures) == failed:
            self._tell_of_workers(where, reason)
        if together is not None and len(self.failures) == failed:
            text = f"{where}: all factors at once could not be fitted ({together}), each alone could"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        if self.journal is not None:
            self.journal.write(key, fitted)
        return fitted

    def _tell_of_workers(self, where: str, reason: str) -> None:
        """Say, once a run, that workers cannot do what can be done here."""
        if self.workers is not None and not self._told_of_workers:
            self._told_of_workers = True
            kind = self.workers.executor.kind
            text = f"{where}: fitted here, because a worker of executor {kind!r} could not: {reason}"
            warnings.warn(text, ProbekitWarning, stacklevel=2)

    def _attempt(self, where: str, make: Callable[[], T]) -> T | None:
        """Return what ``make`` returns; an error is kept as a failure and costs only this."""
        try:
            return make()
        except (MemoryError, MachineError):
            raise
        except Exception as error:
            self.failures.append(f"{where}: {_reason(error)}")
            return None

    def _score(
        self,
        model: tuple[str, str | None],
        one: FeatureSet,
        probe: str,
        features: FeatureMatrix,
        reduction: FittedReduction | None,
        fitted: FittedProbe,
        target: Target,
        *,
        constant: bool,
        spent: float | None,
    ) -> ProbeResult:
        """Score a fitted probe and keep it; what raises here leaves nothing of it behind."""
        logits = np.concatenate([fitted.logits(block) for block in features.blocks(rows_at_once(features))])
        if not (logits < np.inf).all():  # not of NaN either; a class may be impossible
            raise ValueError("the probe predicts NaN or infinite values")
        rows = self._rows(target)
        scored = score_target(logits, target, rows, self.question.units)
        for metric, by_split in scored.scores.items():
            for split, value in by_split.items():
                if not math.isfinite(value):
                    raise ValueError(f"its {metric.replace('_', ' ')} on {split} is {value}")
        penalties = label_penalties(fitted, target)
        result = ProbeResult(
            model=model[0],
            checkpoint=model[1],
            tap=one.label,
            reduction=one.reduction,
            factor=target.factor,
            probe=probe,
            control=target.control if one.control is None else one.control,
            seed=target.seed if one.control is None else one.seed,
            task=target.task,
            scores=scored.scores,
            primary=PRIMARY[target.task],
            error=self._error(scored.scores),
            intervals=self._intervals(scored.intervals),
            by_label={
                name: LabelResult(penalty=penalties[name], scores=scores) for name, scores in scored.by_label.items()
            },
            penalty=fitted.penalty,
            features_raw=one.raw,
            features_used=features.shape[1],
            features_constant=constant,
            vector=one.vector,
            parameters=None if fitted.linear is None else fitted.linear.weights.size + fitted.linear.bias.size,
            reduction_parameters=reduction_parameters(one, reduction),
            reduction_seconds=spent,
            rows={split: len(part) for split, part in rows.items()},
            certificate=CertificateRecord(**vars(fitted.certificate)),
            fit=None if fitted.facts is None else FitRecord.model_validate(asdict(fitted.facts)),
            seconds=fitted.seconds,
        )
        if one.control in {None, REDUCTION_SEED}:  # what reads another model's features is of no use
            self.saved.add(result, one, reduction, target, fitted)
        chance = self.question.headline(self.question.baseline(target))[TEST]
        if result.control is None and not result.beats(chance):  # a control is there to fail
            where = f"tap {one.label} ({one.reduction}): the probe for {target.factor}"
            text = f"{where} does no better than {WITHOUT_FEATURES[target.task]}"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        key = str(len(self.keys))
        self.keys[key] = {part: getattr(result, part) for part in ProbeIdentity.model_fields}
        self.predicted[key], self.losses[key] = scored.predicted, scored.losses
        self.probes.append(result)
        return result

    def _error(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float] | None:
        return self.question.headline(scores["error"]) if "error" in scores else None

    def _intervals(self, found: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, IntervalRecord]]:
        over = "examples" if self.question.group is None else "groups"
        return {
            metric: {split: IntervalRecord(**vars(one), over=over) for split, one in by_split.items()}
            for metric, by_split in found.items()
        }

    def _rows(self, target: Target) -> dict[str, IntArray]:
        return {split: self.question.within(split, target) for split in self.question.parts}


def _fit(probe: Probe, matrix: FeatureMatrix, targets: Sequence[Target], context: FitContext) -> list[FittedProbe]:
    fitted = probe.fit(matrix, targets, context)
    if len(fitted) != len(targets):
        raise ValueError(f"{probe.kind!r} gave {len(fitted)} fitted probes for {len(targets)} targets")
    return fitted


def _task(make: Callable[..., FitTask], features: Callable[[int], FeatureMatrix], number: int) -> FitTask:
    return make(matrix=features(number))


def _names(model: tuple[str, str | None], one: FeatureSet, probe: str) -> list[str | None]:
    """Return by what the journal knows a fit."""
    names = [*model, one.label, one.reduction, probe]
    return names if one.control is None else [*names, one.control, str(one.seed)]


def _asked(target: Target) -> str:
    """Return what a target asks, for messages."""
    return f"factor {target.factor}" + (f", {target.control} with seed {target.seed}" if target.control else "")


def _reason(error: Exception) -> str:
    """Return why a fit failed, and in whose plugin."""
    if isinstance(error, UserError):
        return str(error)
    plugin = blamed(error)
    return f"{'' if plugin is None else f'plugin {plugin} raised '}{type(error).__name__}: {error}"
