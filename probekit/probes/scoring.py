"""From what a probe gives for every row to its scores, intervals, predictions and losses, whatever is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from probekit.probes.metrics import (
    ClassRows,
    auroc,
    score_labels,
    score_numbers,
    two_class_scores,
    yes_no_losses,
)
from probekit.probes.model_scores import predict, score_model
from probekit.spec.splits import TRAIN, VALID
from probekit.statistics.intervals import auroc_interval, balanced_error_interval, r2_interval, share_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from probekit.components import Array, FittedProbe, FloatArray, IntArray, Target
    from probekit.statistics.intervals import Interval

BySplit = dict[str, dict[str, float]]
"""Metric to split to value."""

Intervals = dict[str, dict[str, "Interval"]]
"""Metric to split to interval."""


@dataclass(frozen=True)
class Scored:
    """What is known of one probe's predictions.

    Args:
        scores: metric to split to value.
        predicted: of every feature row: its class, shape (rows,); 1 or 0 of each yes/no label, (rows, labels); a
            number, (rows,).
        losses: of every feature row, NaN without a label: nats, shape (rows,); of yes/no labels (rows, labels); of a
            number the squared error.
        by_label: each yes/no label's scores, by its name.
        intervals: metric to split to interval: of the error on every split, of the others on test splits.
    """

    scores: BySplit
    predicted: Array
    losses: Array
    by_label: dict[str, BySplit] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)


def score_target(blocks: Iterable[Array], target: Target, rows: Mapping[str, IntArray], units: IntArray) -> Scored:
    """Score what a probe gives for every feature row.

    Args:
        blocks: of all feature rows in order, each of shape (rows of the block, outputs); of classes none is kept.
        target: what was asked.
        rows: the labelled feature rows of each split.
        units: shape (feature rows,), the independent unit of each row: its example or group.
    """
    if target.task == "classes":
        every = ClassRows.of(blocks, target.codes)
        scores = by_metric({split: every.scores(part, target.codes) for split, part in rows.items()})
        intervals = answer_intervals(every.predicted, every.order, target, rows, units)
        return Scored(scores, every.predicted, every.losses, intervals=intervals)
    logits = np.concatenate(list(blocks))
    if target.task == "number":
        predicted = logits[:, 0]
        scores, intervals = score_number(predicted, target, rows, units)
        loss = (predicted.astype(np.float64) - target.codes) ** 2
        return Scored(scores, predicted, loss, intervals=intervals)
    pairs = {split: score_labels(logits[part], target.codes[part], target.classes) for split, part in rows.items()}
    by_label = {
        name: by_metric({split: labels[name] for split, (_, labels) in pairs.items()}) for name in target.classes
    }
    known = np.flatnonzero(target.known())
    loss = np.full(logits.shape, np.nan)
    loss[known] = yes_no_losses(logits[known], target.codes[known])
    scores = by_metric({split: whole for split, (whole, _) in pairs.items()})
    answers = (logits > 0).astype(np.int64)
    return Scored(scores, answers, loss, by_label, answer_intervals(answers, logits, target, rows, units))


def score_number(
    predicted: Array, target: Target, rows: Mapping[str, IntArray], units: IntArray
) -> tuple[BySplit, Intervals]:
    """Return the scores of predicted numbers, shape (feature rows,), and the intervals of R² on the test splits."""
    scores = by_metric({split: score_numbers(predicted[part], target.codes[part]) for split, part in rows.items()})
    found = {
        split: r2_interval(predicted[part], target.codes[part], units[part], target.seed)
        for split, part in _tests(rows).items()
    }
    return scores, _told({"r2": found})


def answer_intervals(
    predicted: Array, ranks: Array | None, target: Target, rows: Mapping[str, IntArray], units: IntArray
) -> Intervals:
    """Return the intervals of the error on every split, of balanced error and AUROC on test splits.

    Args:
        predicted: of every feature row: its class, shape (rows,); 1 or 0 of each yes/no label, (rows, labels).
        ranks: of the same shape, what AUROC orders the rows by, higher for the second class or for yes; None where
            there is no such thing.
        target: what was asked.
        rows: the labelled feature rows of each split.
        units: shape (feature rows,), the independent unit of each row: its example or group.
    """
    codes, seed, tests = target.codes, target.seed, _tests(rows)
    found = {
        "error": {
            split: share_interval(predicted[part] != codes[part], units[part], seed) for split, part in rows.items()
        },
        "balanced_error": {
            split: balanced_error_interval(predicted[part], codes[part], units[part], seed)
            for split, part in tests.items()
        },
    }
    if ranks is not None:
        found["auroc"] = {
            split: auroc_interval(ranks[part], codes[part], units[part], seed) for split, part in tests.items()
        }
    return _told(found)


def score_output(
    output: FloatArray, mapped: IntArray, target: Target, rows: Mapping[str, IntArray], units: IntArray
) -> tuple[IntArray, BySplit, Intervals]:
    """Return the predictions of a model's own output for classes, their scores and intervals.

    There is an AUROC where the output has one entry for each of two classes. Of more entries it is not known whether
    they are logits or probabilities, which order rows differently.

    Args:
        output: shape (feature rows, entries).
        mapped: the class of each entry.
        target: what is asked.
        rows: the labelled feature rows of each split.
        units: shape (feature rows,), the independent unit of each row: its example or group.
    """
    two = len(target.classes) == 2 and sorted(mapped.tolist()) == [0, 1]
    ranks = two_class_scores(output[:, np.argsort(mapped)]) if two else None
    by_split = {split: score_model(output[part], mapped, target.codes[part]) for split, part in rows.items()}
    for split, part in rows.items():
        area = None if ranks is None else auroc(ranks[part], target.codes[part])
        by_split[split] |= {} if area is None else {"auroc": area}
    predicted = predict(output, mapped)
    return predicted, by_metric(by_split), answer_intervals(predicted, ranks, target, rows, units)


def _tests(rows: Mapping[str, IntArray]) -> dict[str, IntArray]:
    return {split: part for split, part in rows.items() if split not in {TRAIN, VALID}}


def _told(found: Mapping[str, Mapping[str, Interval | None]]) -> Intervals:
    """Leave out what has no interval."""
    told = {metric: {split: one for split, one in by.items() if one is not None} for metric, by in found.items()}
    return {metric: by_split for metric, by_split in told.items() if by_split}


def label_penalties(fitted: FittedProbe, target: Target) -> dict[str, float | None]:
    """Return the λ of each yes/no label by its name; empty where that is not what is asked."""
    if target.task != "multilabel":
        return {}
    told = () if fitted.facts is None else fitted.facts.label_penalties
    return dict(zip(target.classes, told or (fitted.penalty,) * len(target.classes), strict=True))


def by_metric(by_split: Mapping[str, Mapping[str, float]]) -> BySplit:
    """Turn split to metric to value around; a metric lacks the splits that lack it, such as AUROC without a yes."""
    metrics = dict.fromkeys(metric for scores in by_split.values() for metric in scores)
    return {
        metric: {split: scores[metric] for split, scores in by_split.items() if metric in scores} for metric in metrics
    }
