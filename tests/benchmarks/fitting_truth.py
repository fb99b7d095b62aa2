"""What is true of a fit, in float64 and in NumPy alone: its objective, and a proven bound on its distance from the
optimum. Nothing here is run by itself, and nothing of probekit is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

HELD = 1 << 30
"""Bytes of float64 features that are held; larger ones are made again in every pass."""
_ROWS = 2048

Weights = tuple[np.ndarray, np.ndarray]
"""W (classes, features), in units of standardised features, and b (classes,)."""


class Standard:
    """Features standardised by mean and standard deviation, all in float64; a constant feature is 0.

    Args:
        features: shape (rows, features), float32; may be mapped from a file.
    """

    def __init__(self, features: np.ndarray) -> None:
        self.features, self.shape = features, features.shape
        count = len(features)
        self.mean = sum(block.sum(axis=0) for block in self._raw()) / count
        variance = sum(((block - self.mean) ** 2).sum(axis=0) for block in self._raw()) / count
        self.scale = np.sqrt(variance)
        self.constant = self.scale <= 1e-6 * np.abs(self.mean)
        self.scale[self.constant] = 1.0
        self._held = np.concatenate(list(self._made())) if 8 * features.size <= HELD else None

    def _raw(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.features), _ROWS):
            yield np.asarray(self.features[start : start + _ROWS], np.float64)

    def _made(self) -> Iterator[np.ndarray]:
        for block in self._raw():
            standard = (block - self.mean) / self.scale
            standard[:, self.constant] = 0
            yield standard

    def blocks(self) -> Iterator[np.ndarray]:
        """Give all rows in order, some at a time."""
        if self._held is None:
            yield from self._made()
        else:
            yield self._held

    def times(self, weights: np.ndarray) -> np.ndarray:
        """Return X Wᵀ, shape (rows, classes)."""
        return np.concatenate([block @ weights.T for block in self.blocks()])

    def back(self, residuals: np.ndarray) -> np.ndarray:
        """Return Rᵀ X, shape (classes, features)."""
        found, start = np.zeros((residuals.shape[1], self.shape[1])), 0
        for block in self.blocks():
            found += residuals[start : start + len(block)].T @ block
            start += len(block)
        return found

    def of_raw(self, weights: np.ndarray, bias: np.ndarray) -> Weights:
        """Return W and b for standardised features from those for the features' own units."""
        own = np.where(self.constant, 0.0, weights)
        return own * self.scale, bias + weights @ self.mean


@dataclass(frozen=True)
class Proof:
    """What is known of some W at its best bias.

    Args:
        weights: W and that bias.
        objective: there.
        bound: on objective - optimum: ‖∇‖² / (2λ).
    """

    weights: Weights
    objective: float
    bound: float

    @property
    def lower(self) -> float:
        """What the optimum is at least."""
        return self.objective - self.bound


class Objective:
    """Mean cross-entropy in nats + (λ/2)‖W‖², b unpenalised.

    Args:
        X: the training rows.
        codes: of the classes, each of which has a row.
        penalty: λ.
    """

    def __init__(self, X: Standard, codes: np.ndarray, penalty: float) -> None:
        self.X, self.codes, self.penalty = X, codes, penalty
        self.shares = np.bincount(codes) / len(codes)

    def __call__(self, weights: Weights) -> float:
        """Return the objective."""
        return self._value(weights[0], self.X.times(weights[0]) + weights[1])

    def prove(self, weights: Weights) -> Proof:
        """Return the objective at the best bias for W, and the bound there."""
        W = np.asarray(weights[0], np.float64)
        Z = self.X.times(W)
        bias = best_bias(Z, self.shares, np.asarray(weights[1], np.float64))
        Z += bias
        residuals = softmax(Z)
        residuals[np.arange(len(Z)), self.codes] -= 1
        gradient = self.X.back(residuals) / len(Z) + self.penalty * W
        return Proof((W, bias), self._value(W, Z), float((gradient**2).sum()) / (2 * self.penalty))

    def _value(self, W: np.ndarray, Z: np.ndarray) -> float:
        own = Z[np.arange(len(Z)), self.codes]
        return float((log_sum_exp(Z) - own).mean() + self.penalty / 2 * (np.asarray(W, np.float64) ** 2).sum())


def log_sum_exp(Z: np.ndarray) -> np.ndarray:
    """Return it of each row, shape (rows,)."""
    most = Z.max(axis=1)
    return np.log(np.exp(Z - most[:, None]).sum(axis=1)) + most


def softmax(Z: np.ndarray) -> np.ndarray:
    """Return it of each row, shape (rows, classes)."""
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    return P


def best_bias(Z: np.ndarray, shares: np.ndarray, start: np.ndarray, steps: int = 50) -> np.ndarray:
    """Return the b that makes the mean cross-entropy of Z + b smallest: damped Newton, to rounding.

    Args:
        Z: shape (rows, classes).
        shares: of the rows by class; none is 0.
        start: the first b.
        steps: at most.
    """
    classes, bias = len(shares), start - start.mean()

    def loss(b: np.ndarray) -> float:
        return float(log_sum_exp(Z + b).mean() - shares @ b)

    now = loss(bias)
    for _ in range(steps):
        P = softmax(Z + bias)
        gradient = P.mean(axis=0) - shares
        if np.abs(gradient).max() <= 1e-14:
            break
        # A constant added to b changes nothing; the last term fixes it.
        curvature = np.diag(P.mean(axis=0)) - P.T @ P / len(Z) + 1 / classes
        step, size = np.linalg.lstsq(curvature, gradient, rcond=None)[0], 1.0
        while size > 1e-10 and not (then := loss(bias - size * step)) <= now:
            size /= 2
        if size <= 1e-10:
            break
        bias, now = bias - size * step, then
    return bias


def two_rows(weight: np.ndarray, bias: float) -> Weights:
    """Return W and b of two classes from the single vector of a binary fit, the same probabilities."""
    w = np.asarray(weight, np.float64).reshape(1, -1)
    return np.vstack([-w / 2, w / 2]), np.array([-bias / 2, bias / 2])


def inverse_penalty(penalty: float, rows: int, classes: int) -> float:
    """Return scikit-learn's C for λ: 1 / (N λ); of two classes 2 / (N λ), for its single vector w has ‖w‖² = 2‖W‖²."""
    return (2 if classes == 2 else 1) / (rows * penalty)
