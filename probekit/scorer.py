"""What is scored: every probe and the model itself, on the same examples."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.components import REDUCTION_SEED
from probekit.errors import ProbekitWarning
from probekit.findings.wording import WITHOUT_FEATURES
from probekit.prepared import reduction_parameters
from probekit.probes.metrics import PRIMARY
from probekit.probes.model_scores import classes_of_output, number_of_output
from probekit.probes.scoring import label_penalties, score_number, score_output, score_target
from probekit.probes.standardise import rows_at_once
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
from probekit.spec.splits import TEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from probekit.components import (
        Array,
        FeatureMatrix,
        FittedProbe,
        FittedReduction,
        FloatArray,
        IntArray,
        ModelOutput,
        Target,
    )
    from probekit.data.question import Question
    from probekit.reductions.assign import FeatureSet
    from probekit.statistics.intervals import Interval

_LARGEST = float(np.finfo(np.float32).max)
_MOST_OF_LOSS = 0.5
"""Share of the loss from which a few rows decide it."""
_FAR_NATS = 20.0
"""Loss of a row that is far off."""


class Scorer:
    """Scores probes and models, and keeps what came of it.

    Args:
        question: what is asked of the features.

    Attributes:
        probes: a result for each probe that was scored.
        models: the same for each prediction of a model's own.
        keys: by the number of a prediction: whose it is.
        predicted: by that number: what is predicted of each row.
        losses: by that number: each row's loss; of probes alone.
        saved: the probes themselves.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.probes: list[ProbeResult] = []
        self.models: list[ModelResult] = []
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

    def score_probe(
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
        rows = self._rows(target)
        scored = score_target(outputs_of(fitted, features, target), target, rows, self.question.units)
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
        where = f"tap {one.label} ({one.reduction}): the probe for {target.factor}"
        chance = self.question.headline(self.question.baseline(target))[TEST]
        if result.control is None and not result.beats(chance):  # a control is there to fail
            text = f"{where} does no better than {WITHOUT_FEATURES[target.task]}"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        if result.control is None:
            told = few_decide(scored.predicted, scored.losses, target, rows[self.question.first_test()])
            if told is not None:
                warnings.warn(f"{where} {told}", ProbekitWarning, stacklevel=2)
        if one.control in {None, REDUCTION_SEED}:  # what reads another model's features is of no use
            self.saved.add(result, one, reduction, target, fitted)
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


def outputs_of(fitted: FittedProbe, features: FeatureMatrix, target: Target) -> Iterator[Array]:
    """Give what a probe says of every feature row, block by block, each of shape (rows, outputs).

    Of numbers in float64: float32 would take digits off those that are large beside how they differ.

    Raises:
        ValueError: it says NaN or infinity, or a number beyond float32, in which predictions are kept; minus infinity
            is that of an impossible class.
    """
    number = target.task == "number"
    for block in features.blocks(rows_at_once(features)):
        if number and fitted.linear is not None:
            found: Array = block.astype(np.float64) @ fitted.linear.weights.T + fitted.linear.bias
        else:
            found = fitted.logits(block)
        # Comparisons that are not true of NaN either.
        if not ((np.abs(found) <= _LARGEST) if number else (found < np.inf)).all():
            raise ValueError("the probe predicts NaN or infinite values")
        yield found


def few_decide(predicted: Array, losses: Array, target: Target, rows: IntArray) -> str | None:
    """Return what is to be said of a few predictions that are so far off that the loss tells nothing of the others.

    Of a number they lie further from the training labels than these from each other; of classes and yes/no labels they
    give the truth a probability below ``exp(-20)``. Together they make up most of the loss. Most often they come of
    features that are constant in nearly all training rows: standardising makes their little large.

    Args:
        predicted: of every feature row.
        losses: of every feature row, as :class:`probekit.probes.scoring.Scored` has them.
        target: that was asked.
        rows: those to look at.

    Returns:
        None where there are none.
    """
    number = target.task == "number"
    text = _far_numbers(predicted, losses, target, rows) if number else _far_losses(losses[rows])
    if text is None:
        return None
    others = "" if number else ", for labels that are wrong, and for a λ that is too small"
    return f"{text}. Look for features that are constant in nearly all training rows{others}"


def _far_losses(losses: Array) -> str | None:
    nats = np.where(np.isfinite(losses), losses, 0.0).reshape(len(losses), -1)
    far = nats.max(axis=1) > _FAR_NATS
    share = float(nats[far].sum() / max(float(nats.sum()), 1e-300))
    if share <= _MOST_OF_LOSS or far.all():
        return None
    return (
        f"gives {int(far.sum()):,} of {len(far):,} test rows hardly any probability of what they are, the least "
        f"exp(-{float(nats.max()):.3g}): they make up {share:.0%} of the cross-entropy, by which information is judged"
    )


def _far_numbers(predicted: Array, squares: Array, target: Target, rows: IntArray) -> str | None:
    known = target.codes[target.train]
    low, high = float(known.min()), float(known.max())
    away = np.maximum(low - predicted[rows], predicted[rows] - high)
    far = away > high - low
    share = float(squares[rows][far].sum() / max(float(squares[rows].sum()), 1e-300))
    if share <= _MOST_OF_LOSS or far.all():
        return None
    return (
        f"predicts {float(predicted[rows][away.argmax()]):.4g} where the training rows have {low:.4g} to {high:.4g}: "
        f"{int(far.sum()):,} of {len(rows):,} test rows make up {share:.0%} of the squared error"
    )
