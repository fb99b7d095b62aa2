"""Scores of predictions. Smaller is better for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from probekit.components import Array, FloatArray, IntArray


def error_rate(logits: FloatArray, codes: IntArray) -> float:
    """Return the share of rows whose largest logit is not the label's, in [0, 1].

    Args:
        logits: shape (rows, classes).
        codes: shape (rows,).
    """
    return float(np.mean(logits.argmax(axis=1) != codes))


def top_error(logits: FloatArray, codes: IntArray, top: int = 5) -> float:
    """Return the share of rows whose label is not among the ``top`` largest logits; a tie counts against the label."""
    own = logits[np.arange(len(codes)), codes][:, None]
    rank = (logits >= own).sum(axis=1)
    return float(np.mean(rank > top))


def balanced_error(predicted: IntArray, codes: IntArray) -> float:
    """Return the mean over the classes that occur in ``codes`` of the class's error rate."""
    wrong = predicted != codes
    counts = np.bincount(codes)
    rates = np.bincount(codes, weights=wrong)[counts > 0] / counts[counts > 0]
    return float(rates.mean())


def losses(logits: FloatArray, codes: IntArray) -> Array:
    """Return each row's negative log-likelihood in nats, float64, shape (rows,)."""
    values = logits.astype(np.float64)
    top = values.max(axis=1, keepdims=True)
    total = np.log(np.exp(values - top).sum(axis=1)) + top[:, 0]
    return np.asarray(total - values[np.arange(len(codes)), codes])


def cross_entropy(logits: FloatArray, codes: IntArray) -> float:
    """Return the mean negative log-likelihood in nats."""
    return float(losses(logits, codes).mean())


def score_all(logits: FloatArray, codes: IntArray, *, distribution: bool = True) -> dict[str, float]:
    """Return every metric by name: top-5 error where there are more than five classes.

    Args:
        logits: shape (rows, classes).
        codes: shape (rows,), no -1 among them.
        distribution: whether the logits' softmax is a predicted distribution, so that cross-entropy means something.
    """
    scores = {"error": error_rate(logits, codes), "balanced_error": balanced_error(logits.argmax(axis=1), codes)}
    if logits.shape[1] > 5:
        scores["top5_error"] = top_error(logits, codes)
    if distribution:
        scores["cross_entropy"] = cross_entropy(logits, codes)
    return scores
