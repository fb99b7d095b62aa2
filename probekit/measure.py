"""Fitting every probe to every tap of a model, and scoring probes and model on the same examples."""

from __future__ import annotations

import functools
import time
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from probekit.components import ArrayMatrix
from probekit.errors import InputError, MachineError, ProbekitWarning, Problem, UserError, listed
from probekit.probes.metrics import losses, score_all
from probekit.probes.model_scores import classes_of_output, predict, score_model
from probekit.results import CertificateRecord, ModelResult, ProbeResult
from probekit.spec.splits import TEST, TRAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from probekit.components import (
        Array,
        FeatureMatrix,
        FittedProbe,
        FloatArray,
        IntArray,
        ModelOutput,
        Probe,
        Target,
    )
    from probekit.data.question import Question
    from probekit.reductions.assign import FeatureSet

T = TypeVar("T")

COPIES = 3
"""Copies of a matrix that a fit holds: as it is, standardised, in its principal axes."""
_BLOCK_BYTES = 32 << 20

_IDENTITY = ("model", "checkpoint", "tap", "reduction", "factor", "probe", "control", "seed")


class Measurement:
    """Collects what is measured, model by model.

    Args:
        question: what is asked of the features.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.probes: list[ProbeResult] = []
        self.models: list[ModelResult] = []
        self.failures: list[str] = []
        self.seconds = 0.0
        # By the number of a prediction: whose it is, each row's class, each row's loss in nats.
        self.keys: dict[str, dict[str, Any]] = {}
        self.predicted: dict[str, IntArray] = {}
        self.losses: dict[str, Array] = {}

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
            InputError: the output's entries cannot be mapped to the factor's classes.
        """
        target = next(one for one in self.question.targets if one.factor == output.factor)
        mapped = classes_of_output(output, self.question.labels[target.factor], values.shape[1])
        rows = self._rows(target)
        scores = _by_metric(
            {split: score_model(values[part], mapped, target.codes[part]) for split, part in rows.items()}
        )
        self.models.append(
            ModelResult(
                model=model,
                checkpoint=checkpoint,
                factor=target.factor,
                output=tensor,
                scores=scores,
                error=self.question.headline(scores["error"]),
                rows={split: len(part) for split, part in rows.items()},
            )
        )
        key = str(len(self.keys))
        self.keys[key] = {"model": model, "checkpoint": checkpoint, "output": tensor, "factor": target.factor}
        self.predicted[key] = predict(values, mapped)

    def fit(
        self,
        model: str,
        checkpoint: str | None,
        sets: Sequence[FeatureSet],
        features: Callable[[int], FeatureMatrix],
        probes: Mapping[str, Probe],
        tell: Callable[[str, int, int], None],
        memory: int | None = None,
    ) -> Iterator[ProbeResult]:
        """Fit every probe to every feature matrix and give each result as it is there.

        A fit that fails loses only itself and is kept as a failure.

        Args:
            model: its name.
            checkpoint: the checkpoint's name.
            sets: what the matrices are.
            features: gives the matrix of a set, by its number.
            probes: of the spec, by name.
            tell: called with (stage, done, total).
            memory: bytes that one matrix and what a fit makes of it may take; a larger one is read in every pass;
                default: no bound.

        Raises:
            MachineError: the machine gave out, which no other probe would survive.
        """
        wide: list[str] = []
        start, done, total = time.monotonic(), 0, len(sets) * len(probes)
        train = self.question.places[TRAIN]
        name = model if checkpoint is None else f"{model}@{checkpoint}"
        for number, one in enumerate(sets):
            where = f"{name} {one.label} {one.reduction}"
            matrix = self._attempt(where, functools.partial(_prepared, one, features(number), train, memory))
            if matrix is None:
                done += len(probes)
                continue
            if _is_constant(matrix):
                text = (
                    f"tap {one.label} ({one.reduction}): every feature is constant; its probe says the commonest class"
                )
                warnings.warn(text, ProbekitWarning, stacklevel=2)
            if len(train) < matrix.shape[1]:
                wide.append(f"{one.label} ({matrix.shape[1]})")
            for probe_name, probe in probes.items():
                fit = functools.partial(probe.fit, matrix, self.question.targets)
                fitted = self._attempt(f"{where} {probe_name}", fit)
                if fitted is not None:
                    for target, probe_fitted in zip(self.question.targets, fitted, strict=True):
                        yield self._score((model, checkpoint), one, probe_name, matrix, probe_fitted, target)
                done += 1
                tell(f"{name}: probes", done, total)
        if wide:
            text = f"{name}: more features than the {len(train)} training rows at {listed(wide, 8)}"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        self.seconds += time.monotonic() - start

    def _attempt(self, where: str, make: Callable[[], T]) -> T | None:
        """Return what ``make`` returns; an error is kept as a failure and costs only this."""
        try:
            return make()
        except (MemoryError, MachineError):
            raise
        except Exception as error:
            self.failures.append(
                f"{where}: {error if isinstance(error, UserError) else f'{type(error).__name__}: {error}'}"
            )
            return None

    def _score(
        self,
        model: tuple[str, str | None],
        one: FeatureSet,
        probe: str,
        features: FeatureMatrix,
        fitted: FittedProbe,
        target: Target,
    ) -> ProbeResult:
        logits = np.concatenate([fitted.logits(block) for block in _blocks(features)])
        rows = self._rows(target)
        scores = _by_metric({split: score_all(logits[part], target.codes[part]) for split, part in rows.items()})
        result = ProbeResult(
            model=model[0],
            checkpoint=model[1],
            tap=one.label,
            reduction=one.reduction,
            factor=target.factor,
            probe=probe,
            control=target.control,
            seed=target.seed,
            scores=scores,
            primary="error",
            error=self.question.headline(scores["error"]),
            penalty=fitted.penalty,
            features_raw=one.raw,
            features_used=features.shape[1],
            rows={split: len(part) for split, part in rows.items()},
            certificate=CertificateRecord(**vars(fitted.certificate)),
            seconds=fitted.seconds,
        )
        where = f"tap {one.label} ({one.reduction}): the probe for {target.factor}"
        if fitted.certificate.status == "missed":
            gap = fitted.certificate.gap
            bound = "" if gap is None else f" (bound {gap:.1e} nats)"
            text = f"{where} is not proven to be at its optimum{bound}; it is not ranked"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        if result.error[TEST] >= self.question.headline(self.question.baseline(target))[TEST]:
            warnings.warn(f"{where} does no better than the commonest class", ProbekitWarning, stacklevel=2)
        key = str(len(self.keys))
        self.keys[key] = {part: getattr(result, part) for part in _IDENTITY}
        self.predicted[key] = logits.argmax(axis=1)
        labelled = np.flatnonzero(target.codes >= 0)
        self.losses[key] = np.full(len(logits), np.nan)
        self.losses[key][labelled] = losses(logits[labelled], target.codes[labelled])
        self.probes.append(result)
        return result

    def _rows(self, target: Target) -> dict[str, IntArray]:
        return {split: self.question.within(split, target) for split in self.question.parts}


def _prepared(one: FeatureSet, stored: FeatureMatrix, train: IntArray, memory: int | None) -> FeatureMatrix:
    """Return what probes are fitted on: held where it fits, after its learned reduction where it has one."""
    needed = COPIES * 4 * stored.shape[0] * stored.shape[1]
    held = memory is None or needed <= memory
    if one.learned is not None:
        if not held:
            least = f"{needed >> 20} MiB, memory is {(memory or 0) >> 20} MiB"
            what = f"{one.reduction!r} at {one.label!r} is fitted on {least}"
            raise InputError(Problem("PK-R03", what, "raise memory:, or name a data-free reduction as its 'of'"))
        raw = np.asarray(stored)
        return ArrayMatrix(np.ascontiguousarray(one.learned.fit(raw[train])(raw)))
    return ArrayMatrix(np.asarray(stored)) if held else stored


def _is_constant(matrix: FeatureMatrix) -> bool:
    """Return whether every feature has one value in all rows."""
    first = matrix.read(slice(0, 1))
    return all(bool((block == first).all()) for block in _blocks(matrix))


def _blocks(matrix: FeatureMatrix) -> Iterator[FloatArray]:
    """Give all rows in order, fewer at a time where they are wide."""
    return matrix.blocks(max(256, min(8192, _BLOCK_BYTES // (4 * matrix.shape[1]))))


def _by_metric(by_split: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    metrics = next(iter(by_split.values()))
    return {metric: {split: scores[metric] for split, scores in by_split.items()} for metric in metrics}
