"""Scores of predictions: errors and losses, of which less is better, and AUROC and R², of which more is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probekit.components import Array, FloatArray, IntArray, Task

PRIMARY: dict[Task, str] = {"classes": "error", "multilabel": "error", "number": "r2"}
"""The metric that a probe is judged by."""
_VALUES_AT_ONCE = 1 << 20


def error_rate(logits: FloatArray, codes: IntArray) -> float:
    """Return the share of rows whose largest logit is not the label's, in [0, 1].

    Args:
        logits: shape (rows, classes).
        codes: shape (rows,).
    """
    return float(np.mean(logits.argmax(axis=1) != codes))


def top_error(logits: FloatArray, codes: IntArray, top: int = 5) -> float:
    """Return the share of rows whose label is not among the ``top`` largest logits; a tie counts against the label."""
    found = [
        (logits[here] >= logits[here][np.arange(len(codes[here])), codes[here]][:, None]).sum(axis=1) > top
        for here in _blocks(logits)
    ]
    return float(np.concatenate(found).mean())


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
    found = np.empty(len(logits))
    for here in _blocks(logits):
        values, asked = logits[here].astype(np.float64), codes[here]
        top = values.max(axis=1)
        own = values[np.arange(len(asked)), asked]
        values -= top[:, None]
        found[here] = np.log(np.exp(values, out=values).sum(axis=1)) + top - own
    return found


def _blocks(logits: FloatArray) -> Iterator[slice]:
    """Give the rows in blocks: of many classes what is computed of all at once would be several times the logits."""
    at_once = max(1, _VALUES_AT_ONCE // max(1, logits.shape[1]))
    for start in range(0, len(logits), at_once):
        yield slice(start, start + at_once)


def cross_entropy(logits: FloatArray, codes: IntArray) -> float:
    """Return the mean negative log-likelihood in nats."""
    return float(losses(logits, codes).mean())


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


def score_all(logits: FloatArray, codes: IntArray, *, distribution: bool = True) -> dict[str, float]:
    """Return every metric by name: AUROC of two classes that both occur, top-5 error of more than five.

    Args:
        logits: shape (rows, classes).
        codes: shape (rows,), no -1 among them.
        distribution: whether the logits' softmax is a predicted distribution, so that cross-entropy means something.
    """
    scores = {"error": error_rate(logits, codes), "balanced_error": balanced_error(logits.argmax(axis=1), codes)}
    if logits.shape[1] == 2 and (area := auroc(two_class_scores(logits), codes)) is not None:
        scores["auroc"] = area
    if logits.shape[1] > 5:
        scores["top5_error"] = top_error(logits, codes)
    if distribution:
        scores["cross_entropy"] = cross_entropy(logits, codes)
    return scores
