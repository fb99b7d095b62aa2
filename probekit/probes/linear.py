"""The linear classifier probe (paper, section 3.2), fitted to its optimum."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, field_validator

from probekit.components import ArrayMatrix, Certificate, FittedProbe, FloatArray, IntArray, Probe, Target
from probekit.hookspecs import hookimpl
from probekit.probes.metrics import cross_entropy, error_rate
from probekit.sections import fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from probekit.components import FeatureMatrix
    from probekit.probes.axes import Axes
    from probekit.probes.design import Design

PENALTY_PATH = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
"""The λ that ``penalty: auto`` tries."""
ROWS_AT_ONCE = 1 << 14
_BLOCK_BYTES = 32 << 20


class FittedLinear(FittedProbe):
    """W and b in the features' own units.

    Args:
        weights: shape (classes, features), float64.
        bias: shape (classes,), float64; -inf for a class without training examples.
        penalty: the chosen λ, in units of standardised features.
        objective: mean cross-entropy + (λ/2)‖W‖² on the training rows, W in standardised units, in nats.
        certificate: of this λ.
        seconds: wall time.
    """

    def __init__(
        self,
        weights: npt.NDArray[np.float64],
        bias: npt.NDArray[np.float64],
        penalty: float,
        objective: float,
        certificate: Certificate,
        seconds: float,
    ) -> None:
        self.weights, self.bias = weights, bias
        self.penalty, self.objective = penalty, objective
        self.certificate, self.seconds = certificate, seconds

    def logits(self, features: FloatArray) -> FloatArray:
        """W x + b, in float64 before it is rounded."""
        rows = range(0, len(features), 1 << 14)
        parts = [features[i : i + (1 << 14)].astype(np.float64) @ self.weights.T + self.bias for i in rows]
        return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, len(self.bias)), np.float32)


class LinearProbe(Probe):
    """Softmax regression: mean cross-entropy in nats + (λ/2)‖W‖², W in units of standardised features, b unpenalised.

    λ is chosen on the valid split; ties go to the larger one.
    """

    kind: Literal["linear"] = "linear"
    penalty: Literal["auto"] | float | list[float] = Field(
        "auto", description=f"λ, or several to choose from; auto: {', '.join(f'{value:g}' for value in PENALTY_PATH)}"
    )
    choose_by: Literal["cross_entropy", "error"] = Field(
        "cross_entropy", description="what the chosen λ makes smallest on the valid split"
    )
    tolerance: float = Field(
        1e-4,
        gt=0,
        le=1,
        description="a fit goes on until objective - optimum is proven to be at most this share of the objective (or "
        "of 1 % of the training labels' entropy); it counts as proven at this share of the entropy",
    )
    max_passes: int = Field(2000, ge=1, description="passes over the training rows, after which a fit stops unproven")

    @field_validator("penalty")
    @classmethod
    def _positive(cls, penalty: str | float | list[float]) -> str | float | list[float]:
        values = penalty if isinstance(penalty, list) else [penalty]
        if not values or any(not isinstance(value, str) and not 1e-12 <= value <= 1e12 for value in values):
            raise fault("PK-Y30", f"λ must lie between 1e-12 and 1e12, got {penalty}")
        return penalty

    def penalties(self) -> list[float]:
        """Return the λ to try, the largest first."""
        if self.penalty == "auto":
            return list(PENALTY_PATH)
        return sorted(self.penalty if isinstance(self.penalty, list) else [float(self.penalty)], reverse=True)

    def fit(self, features: FeatureMatrix, targets: Sequence[Target]) -> list[FittedProbe]:
        """Fit every λ of every target; targets with the same training rows share the standardised features."""
        from probekit.probes.axes import Axes

        groups: dict[bytes, list[int]] = {}
        for index, target in enumerate(targets):
            groups.setdefault(target.train.tobytes(), []).append(index)
        fitted: dict[int, FittedProbe] = {}
        for indices in groups.values():
            start = time.monotonic()
            train = targets[indices[0]].train
            scale = Standardiser(features, train)
            X = _design(features, train, scale)
            # A residual's mean square is at most twice the cross-entropy, so that axes with eigenvalues of this sum in
            # all move the bound by at most a twentieth of the tolerance at the smallest λ.
            axes = Axes(X, 0.05 * self.tolerance * min(self.penalties()))
            shared = (time.monotonic() - start) / len(indices)
            for index in indices:
                fitted[index] = self._fit_target(features, X, axes, scale, targets[index], shared)
        return [fitted[index] for index in range(len(targets))]

    def _fit_target(
        self,
        features: FeatureMatrix,
        X: Design,
        axes: Axes,
        scale: Standardiser,
        target: Target,
        shared: float,
    ) -> FittedLinear:
        import torch

        from probekit.probes.softmax_regression import minimise

        start = time.monotonic()
        # A class without training examples has no finite optimum: its bias would fall for ever.
        present, y = np.unique(target.codes[target.train], return_inverse=True)
        entropy = _entropy(y)
        path = self.penalties()
        most = max(1, 2**27 // (len(present) * len(X)))
        fits: list[FittedLinear] = []
        for first in range(0, len(path), most):
            part = path[first : first + most]
            optimum = minimise(X, torch.from_numpy(y), len(present), part, self.tolerance, self.max_passes, axes)
            for head, penalty in enumerate(part):
                weights, bias = scale.fold(optimum.weights[head].numpy(), optimum.bias[head].numpy())
                all_weights = np.zeros((len(target.classes), weights.shape[1]))
                all_bias = np.full(len(target.classes), -np.inf)
                all_weights[present], all_bias[present] = weights, bias
                objective, gap = float(optimum.objective[head]), float(optimum.gap[head])
                certificate = Certificate(
                    "proven" if gap <= self.tolerance * entropy else "missed", gap, gap / entropy, gap / objective
                )
                fits.append(FittedLinear(all_weights, all_bias, penalty, objective, certificate, 0.0))
        best = self._choose(fits, features, target)
        best.seconds = shared + time.monotonic() - start
        return best

    def _choose(self, fits: list[FittedLinear], features: FeatureMatrix, target: Target) -> FittedLinear:
        score = {"cross_entropy": cross_entropy, "error": error_rate}[self.choose_by]
        proven = [fit for fit in fits if fit.certificate.status == "proven"] or fits
        at_once = _rows_at_once(features)
        parts = [target.valid[i : i + at_once] for i in range(0, len(target.valid), at_once)]
        logits: list[list[FloatArray]] = [[] for _ in proven]
        for part in parts:
            rows = features.read(part)
            for found, fit in zip(logits, proven, strict=True):
                found.append(fit.logits(rows))
        codes = target.codes[target.valid]
        scores = [score(np.concatenate(found), codes) for found in logits]
        return proven[scores.index(min(scores))]


def _design(features: FeatureMatrix, train: IntArray, scale: Standardiser) -> Design:
    """Return the standardised training rows: held where the features are held, else read in every pass."""
    import torch

    from probekit.probes.design import InMemory, Streamed

    if isinstance(features, ArrayMatrix):
        return InMemory(torch.from_numpy(scale(features.read(train))))
    return Streamed(
        lambda start, stop: scale(features.read(train[start:stop])), (len(train), features.shape[1]),
        rows_at_once=_rows_at_once(features),
    )  # fmt: skip


def _rows_at_once(features: FeatureMatrix) -> int:
    """Return how many rows are read at a time: fewer where they are wide."""
    return max(256, min(ROWS_AT_ONCE, _BLOCK_BYTES // (4 * features.shape[1])))


def _entropy(codes: IntArray) -> float:
    """Return the entropy of the labels in nats."""
    share = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(-share @ np.log(share))


class Standardiser:
    """Centres and scales features by their training rows; a constant feature becomes 0.

    Args:
        features: shape (rows, features).
        train: rows that mean and deviation come from.
    """

    def __init__(self, features: FeatureMatrix, train: IntArray) -> None:
        count = len(train)
        at_once = min(1 << 13, _rows_at_once(features))
        parts = [train[i : i + at_once] for i in range(0, count, at_once)]
        self.mean = sum(features.read(part).sum(axis=0, dtype=np.float64) for part in parts) / count
        squares = sum(((features.read(part).astype(np.float64) - self.mean) ** 2).sum(axis=0) for part in parts)
        deviation = np.sqrt(squares / count)
        # Below float32's resolution of the mean, what varies is rounding.
        varies = deviation > 1e-6 * np.abs(self.mean)
        self.scale = np.where(varies & (deviation > 0), deviation, np.inf)

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return standardised float32 of the same shape."""
        standard = np.empty(rows.shape, dtype=np.float32)
        for i in range(0, len(rows), 1 << 13):
            standard[i : i + (1 << 13)] = (rows[i : i + (1 << 13)] - self.mean) / self.scale
        return standard

    def fold(
        self, weights: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return W and b for the features' own units."""
        own = weights / self.scale
        return own, bias - own @ self.mean


@hookimpl
def register_probes() -> list[type[Probe]]:
    """The probe of this module."""
    return [LinearProbe]
