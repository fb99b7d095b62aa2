"""Fitting every probe to every tap of a model, and scoring probes and model on the same examples."""

from __future__ import annotations

import functools
import time
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from probekit.components import ArrayMatrix, FitContext
from probekit.errors import MachineError, ProbekitWarning, UserError, listed
from probekit.fits import contents_digest
from probekit.prepared import is_constant, prepared
from probekit.probes.metrics import NO_FEATURES, PRIMARY
from probekit.probes.model_scores import classes_of_output, number_of_output, predict, score_model
from probekit.probes.scoring import by_metric, label_penalties, remarks, score_number, score_target
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
    from probekit.fits import FitJournal
    from probekit.probes.intervals import Interval
    from probekit.reductions.assign import FeatureSet

T = TypeVar("T")


class Measurement:
    """Collects what is measured, model by model.

    Args:
        question: what is asked of the features.
        journal: where fits are kept until the results are written; default: nowhere.
    """

    def __init__(self, question: Question, journal: FitJournal | None = None) -> None:
        self.question, self.journal = question, journal
        self.probes: list[ProbeResult] = []
        self.models: list[ModelResult] = []
        self.failures: list[str] = []
        self.seconds = 0.0
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
        target = next(one for one in self.question.targets if one.factor == output.factor)
        rows = self._rows(target)
        intervals: dict[str, dict[str, Interval]] = {}
        if target.task == "number":
            predicted: Array = number_of_output(values, target.factor)
            scores, intervals = score_number(predicted, target, rows, self.question.units)
        else:
            mapped = classes_of_output(output, self.question.labels[target.factor], values.shape[1])
            predicted = predict(values, mapped)
            scores = by_metric(
                {split: score_model(values[part], mapped, target.codes[part]) for split, part in rows.items()}
            )
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
        for number, one in enumerate(sets):
            where = f"model {name}, tap {one.label}, reduction {one.reduction}"
            make = functools.partial(prepared, one, features(number), self.question, memory)
            made = self._attempt(where, make)
            if made is None:
                progress.skip(len(probes), len(probes) * work_of(one.wanted.width))
                continue
            matrix, reduction = made
            if is_constant(matrix):
                text = f"tap {one.label} ({one.reduction}): every feature is constant; nothing can be read off it"
                warnings.warn(text, ProbekitWarning, stacklevel=2)
            if len(train) < matrix.shape[1]:
                wide.append(f"{one.label} ({matrix.shape[1]})")
            held = matrix.array.nbytes if isinstance(matrix, ArrayMatrix) else 0
            context = FitContext(None if memory is None else max(0, memory - held), progress.hear)
            contents = contents_digest(matrix) if self.journal is not None else ""
            tap = f"tap {labels.index(one.label) + 1} of {len(labels)}, {name} {one.label} ({one.reduction})"
            for probe_name, probe in probes.items():
                progress.begin(work_of(one.wanted.width), f"{tap} {probe_name}" if len(probes) > 1 else tap)
                names = (model, checkpoint, one.label, one.reduction, probe_name)
                key = self.journal.key(names, contents, probe) if self.journal is not None else ""
                fitted = self._fitted(f"{where}, probe {probe_name}", key, probe, matrix, context)
                for index, probe_fitted in fitted.items():
                    target = self.question.targets[index]
                    score = functools.partial(
                        self._score, (model, checkpoint), one, probe_name, matrix, reduction, probe_fitted, target
                    )
                    result = self._attempt(f"{where}, probe {probe_name}, {_asked(target)}", score)
                    if result is not None:
                        yield result
                progress.end(kept=self.journal is not None and key in self.journal.found)
        if wide:
            text = f"{name}: more features than the {len(train)} training rows at {listed(wide, 8)}"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        self.seconds += time.monotonic() - start

    def _fitted(
        self, where: str, key: str, probe: Probe, matrix: FeatureMatrix, context: FitContext
    ) -> dict[int, FittedProbe]:
        """Return the fitted probe of each target, by its number, without those that failed."""
        targets = self.question.targets
        fitted = self.journal.read(key) if self.journal is not None else {}
        if len(fitted) == len(targets):
            return fitted
        together, failed = None, len(self.failures)
        if not fitted and len(targets) > 1:
            try:
                fitted = dict(enumerate(_fit(probe, matrix, targets, context)))
            except (MemoryError, MachineError):
                raise
            except Exception as error:
                together = _reason(error)
        for index, target in enumerate(targets):
            if index not in fitted:
                fit = functools.partial(_fit, probe, matrix, [target], context)
                alone = self._attempt(f"{where}, {_asked(target)}", fit)
                fitted |= {index: alone[0]} if alone is not None else {}
        if together is not None and len(self.failures) == failed:
            text = f"{where}: all factors at once could not be fitted ({together}), each alone could"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        if self.journal is not None:
            self.journal.write(key, fitted)
        return fitted

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
    ) -> ProbeResult:
        """Score a fitted probe and keep it; what raises here leaves nothing of it behind."""
        logits = np.concatenate([fitted.logits(block) for block in features.blocks(rows_at_once(features))])
        rows = self._rows(target)
        scored = score_target(logits, target, rows, self.question.units)
        penalties = label_penalties(fitted, target)
        result = ProbeResult(
            model=model[0],
            checkpoint=model[1],
            tap=one.label,
            reduction=one.reduction,
            factor=target.factor,
            probe=probe,
            control=target.control,
            seed=target.seed,
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
            rows={split: len(part) for split, part in rows.items()},
            certificate=CertificateRecord(**vars(fitted.certificate)),
            fit=None if fitted.facts is None else FitRecord.model_validate(asdict(fitted.facts)),
            seconds=fitted.seconds,
        )
        self.saved.add(result, one, reduction, target, fitted)
        where = f"tap {one.label} ({one.reduction}): the probe for {target.factor}"
        told = list(remarks(fitted, target, probe))
        if not result.beats(self.question.headline(self.question.baseline(target))[TEST]):
            told.append(f"does no better than {NO_FEATURES[target.task]}")
        for text in told:
            warnings.warn(f"{where} {text}", ProbekitWarning, stacklevel=2)
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


def _asked(target: Target) -> str:
    """Return what a target asks, for messages."""
    return f"factor {target.factor}" + (f", {target.control} with seed {target.seed}" if target.control else "")


def _reason(error: Exception) -> str:
    """Return why a fit failed."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
