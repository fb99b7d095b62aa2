"""Scores of predictions: errors and losses, of which less is better, and AUROC and R², of which more is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from probekit.components import Array, FloatArray, IntArray, Task

PRIMARY: dict[Task, str] = {"classes": "error", "multilabel": "error", "number": "r2"}
"""The metric that a probe is judged by."""
_TWO, _TOP = 2, 5
_VALUES_AT_ONCE = 1 << 20
"""Logits that are looked at together."""


def balanced_error(predicted: IntArray, codes: IntArray) -> float:
    """Return the mean over the classes that occur in ``codes`` of the class's error rate."""
    wrong = predicted != codes
    counts = np.bincount(codes)
    rates = np.bincount(codes, weights=wrong)[counts > 0] / counts[counts > 0]
    return float(rates.mean())


def auroc(scores: Array, codes: IntArray) -> float | None:
    """Return the area under the ROC curve, None where one of the two answers is missing.

    It is the share of pairs of a yes and a no in which the yes has the higher score, a tie being one half (Hanley and
    McNeil 1982, Radiology 143, 29).

    Args:
        scores: shape (rows,), higher for yes.
        codes: shape (rows,), 1 for yes, 0 for no.
    """
    values, place = np.unique(scores, return_inverse=True)
    no, yes = (np.bincount(place.ravel()[codes == answer], minlength=len(values)) for answer in (0, 1))
    pairs = float(no.sum()) * float(yes.sum())
    return float((yes * (np.cumsum(no) - no / 2)).sum() / pairs) if pairs else None


def losses(logits: FloatArray, codes: IntArray) -> Array:
    """Return each row's negative log-likelihood in nats, float64, shape (rows,)."""
    values = logits.astype(np.float64)
    top = values.max(axis=1)
    own = values[np.arange(len(codes)), codes]
    values -= top[:, None]
    return np.asarray(np.log(np.exp(values, out=values).sum(axis=1)) + top - own)


def yes_no_losses(logits: FloatArray, codes: IntArray) -> Array:
    """Return the binary cross-entropy of each answer in nats, float64.

    Args:
        logits: of yes, shape (rows, labels).
        codes: shape (rows, labels), 1 for yes, 0 for no.
    """
    return np.asarray(np.logaddexp(0, np.where(codes == 1, -1.0, 1.0) * logits.astype(np.float64)))


def score_labels(
    logits: FloatArray, codes: IntArray, labels: Sequence[str]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return the scores over all yes/no labels, and those of each by its name.

    ``error``, ``balanced_error``, ``auroc`` and ``cross_entropy`` (nats) are means over the labels; ``subset_error`` is
    the share of rows with any wrong answer. A label with one answer only in ``codes`` has no ``auroc``; the mean is
    over those that have one.

    Args:
        logits: of yes, shape (rows, labels); the answer is yes above 0.
        codes: shape (rows, labels), 1 for yes, 0 for no.
        labels: their names.
    """
    answers = (logits > 0).astype(np.int64)
    wrong, nats = answers != codes, yes_no_losses(logits, codes)
    by_label = {}
    for index, name in enumerate(labels):
        area = auroc(logits[:, index], codes[:, index])
        by_label[name] = {
            "error": float(wrong[:, index].mean()),
            "balanced_error": balanced_error(answers[:, index], codes[:, index]),
            **({} if area is None else {"auroc": area}),
            "cross_entropy": float(nats[:, index].mean()),
        }
    metrics = dict.fromkeys(metric for one in by_label.values() for metric in one)
    scores = {metric: float(np.mean([one[metric] for one in by_label.values() if metric in one])) for metric in metrics}
    return {**scores, "subset_error": float(wrong.any(axis=1).mean())}, by_label


def score_numbers(predicted: Array, numbers: Array) -> dict[str, float]:
    """Return ``r2``, ``rmse`` and ``mae``.

    R² is 1 - (sum of squared errors) ÷ (sum of squared differences from the mean of these very rows): 1 is perfect, 0
    is what saying their mean reaches, and there is no lower bound.

    Args:
        predicted: shape (rows,).
        numbers: shape (rows,), not all alike.
    """
    wrong = predicted.astype(np.float64) - numbers
    squares = wrong**2
    return {
        "r2": float(1 - squares.sum() / ((numbers - numbers.mean()) ** 2).sum()),
        "rmse": float(np.sqrt(squares.mean())),
        "mae": float(np.abs(wrong).mean()),
    }


def two_class_scores(logits: FloatArray) -> Array:
    """Return what orders rows from the first of two classes to the second, float64, shape (rows,)."""
    return logits[:, 1].astype(np.float64) - logits[:, 0]


@dataclass(frozen=True)
class ClassRows:
    """What scores of classes need to know of every row: the logits of many classes would be far larger.

    Args:
        classes: how many there are.
        predicted: shape (rows,), the class of the largest logit.
        losses: shape (rows,), in nats; NaN without a label.
        ranks: shape (rows,), how many logits are at least the label's, so that a tie counts against it; 0 without one.
        order: shape (rows,), of two classes what orders rows from the first to the second; None of others.
    """

    classes: int
    predicted: IntArray
    losses: Array
    ranks: IntArray
    order: Array | None

    @classmethod
    def of(cls, blocks: Iterable[FloatArray], codes: IntArray) -> ClassRows:
        """Look at every row once.

        Args:
            blocks: logits of all rows in order, each of shape (rows of the block, classes).
            codes: shape (rows,), -1 without a label.
        """
        rows = len(codes)
        predicted, ranks = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        nats, order = np.full(rows, np.nan), np.zeros(rows)
        first = classes = 0
        for whole in blocks:
            classes = whole.shape[1]
            at_once = max(1, _VALUES_AT_ONCE // max(1, classes))
            for start in range(0, len(whole), at_once):
                logits = whole[start : start + at_once]
                here = slice(first, first + len(logits))
                first += len(logits)
                predicted[here] = logits.argmax(axis=1)
                known = np.flatnonzero(codes[here] >= 0)
                some, asked = logits[known], codes[here][known]
                nats[here][known] = losses(some, asked)
                ranks[here][known] = (some >= some[np.arange(len(asked)), asked][:, None]).sum(axis=1)
                if classes == _TWO:
                    order[here] = two_class_scores(logits)
        return cls(classes, predicted, nats, ranks, order if classes == _TWO else None)

    def scores(self, rows: IntArray, codes: IntArray) -> dict[str, float]:
        """Return the metrics of some rows by name: AUROC of two classes that both occur, top-5 error of six or more.

        Args:
            rows: which; all have a label.
            codes: shape (all rows,).
        """
        predicted, asked = self.predicted[rows], codes[rows]
        scores = {"error": float(np.mean(predicted != asked)), "balanced_error": balanced_error(predicted, asked)}
        if self.order is not None and (area := auroc(self.order[rows], asked)) is not None:
            scores["auroc"] = area
        if self.classes > _TOP:
            scores["top5_error"] = float(np.mean(self.ranks[rows] > _TOP))
        return {**scores, "cross_entropy": float(self.losses[rows].mean())}
