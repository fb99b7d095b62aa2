"""The bias that is best for given weights, in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from probekit.probes.losses import DIAGONAL_ABOVE, LOGISTIC, SOFTMAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from probekit.probes.losses import Answers

EXACT = 1e-11
"""By which share a class's mean prediction may be off its share of the rows."""
_STEPS = 200
_SHORTEST_NEWTON = 1e-3
_SMALL_STEP = 0.1
_LEAST_CURVATURE = 1e-14
_DAMPINGS = (1e-6, 1e-4, 1e-2)
"""Of the Hessian, as shares of its largest entry."""
_OFTEN_ENOUGH = 0.1
"""By how much a step with an old Hessian must lower that."""
_MANY = 64
"""Classes above which the bias's curvature is multiplied in float32 at first."""
_VALUES_AT_ONCE = 1 << 18


def best_bias(answers: Answers, Z: Tensor, start: Tensor, tolerance: float = EXACT) -> Tensor:
    """Return the bias, shape (columns,), that is best for logits without one.

    Args:
        answers: what is asked of each row.
        Z: logits, shape (columns, rows), float64.
        start: shape (columns,).
        tolerance: of the softmax, by which share a class's mean prediction may be off its share of the rows.
    """
    y = answers.y.to(Z.device)
    if answers.loss is SOFTMAX:
        return solve_bias(Z, y, start, tolerance)
    if answers.loss is LOGISTIC:
        return _solve_log_odds(Z[0], y, start)
    return (y - Z[0]).mean().view(1)


def columns_at_once(Z: Tensor) -> Iterator[slice]:
    """Give slices over the rows of logits, shape (columns, rows), that stay in the processor's cache."""
    size = max(256, _VALUES_AT_ONCE // len(Z))
    for start in range(0, Z.shape[1], size):
        yield slice(start, start + size)


def solve_bias(Z: Tensor, y: Tensor, start: Tensor, tolerance: float = EXACT) -> Tensor:
    """Return the b that minimises the mean cross-entropy of softmax(Z + b).

    Newton's method, damped where that gets no lower. Where that does not either, a step of generalised iterative
    scaling (Darroch & Ratcliff, Annals of Mathematical Statistics 43, 1972), which always does: far off, each row has
    one class and no curvature.

    Args:
        Z: logits without bias, shape (classes, rows), float64.
        y: shape (rows,).
        start: shape (classes,).
        tolerance: by which share a class's mean prediction may be off its share of the rows.
    """
    classes, rows = Z.shape
    share = torch.bincount(y, minlength=classes).double() / rows
    picked = float(Z.gather(0, y.unsqueeze(0)).mean())

    def loss_at(b: Tensor) -> float:
        total = sum(float(torch.logsumexp(Z[:, here] + b.unsqueeze(-1), 0).sum()) for here in columns_at_once(Z))
        return total / rows - float(share @ b) - picked

    b = start - start.mean()
    loss, before = math.nan, math.inf
    newton: _Newton | None = None
    for _ in range(_STEPS):
        # What many classes' curvature is multiplied in at first would not do where predictions are nearly certain.
        rough = torch.float32 if classes > _MANY else torch.float64
        mean, curvature = _moments(Z, b, rough if newton is None else None)
        gradient = mean - share
        off = float((gradient.abs() / share).max())
        if off <= tolerance:
            break
        if newton is None or off > _OFTEN_ENOUGH * before:
            newton = _Newton(mean, _moments(Z, b, torch.float64)[1] if curvature is None else curvature)
        step = newton(gradient)
        if off < before and float(step.abs().max()) <= _SMALL_STEP:  # predictions hardly change: no need to look
            b, loss, before = b - step, math.nan, off
            b = b - b.mean()
            continue
        before = off
        loss = loss_at(b) if math.isnan(loss) else loss
        rounding = 1e-15 * (1 + abs(loss) + abs(picked) + abs(float(share @ b)))
        moved, reached = b, math.inf
        for tried, rate in newton.steps(gradient, step):
            moved = b - rate * tried
            reached = loss_at(moved)
            if reached <= loss - 1e-4 * rate * float(gradient @ tried) + rounding:
                break
        else:
            moved, before = b + share.log() - _log_mean(Z, b), 0.0
            reached = loss_at(moved)
            if not reached < loss:
                break
        b, loss = moved - moved.mean(), reached
    return b


def _moments(Z: Tensor, b: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, Tensor | None]:
    """Return the mean over the rows of the predictions P and, where a dtype is given, of P Pᵀ multiplied in it.

    Of very many classes that is its diagonal.
    """
    classes, rows = Z.shape
    total, second = torch.zeros_like(b), None
    for here in columns_at_once(Z):
        P = torch.softmax(Z[:, here] + b.unsqueeze(-1), dim=0)
        total += P.sum(dim=1)
        if dtype is not None:
            part = P.to(dtype)
            products = (part**2).sum(dim=1) if classes > DIAGONAL_ABOVE else part @ part.T
            second = products if second is None else second.add_(products)
    return total / rows, None if second is None else second.double() / rows


def _log_mean(Z: Tensor, b: Tensor) -> Tensor:
    """Return the log of the mean prediction of each class, also where that is no number above 0."""
    parts = [torch.log_softmax(Z[:, here] + b.unsqueeze(-1), dim=0).logsumexp(dim=1) for here in columns_at_once(Z)]
    return torch.stack(parts).logsumexp(dim=0) - math.log(Z.shape[1])


class _Newton:
    """The inverse Hessian of the bias.

    Args:
        mean: mean predictions, shape (classes,).
        second: mean products of two predictions, shape (classes, classes); of very many classes the diagonal alone.
    """

    def __init__(self, mean: Tensor, second: Tensor | None) -> None:
        assert second is not None  # noqa: S101 - asked for
        self.diagonal = (mean - (second if second.ndim == 1 else second.diagonal())).clamp_min(_LEAST_CURVATURE)
        self.hessian: Tensor | None = None
        if second.ndim == 2:
            # The Hessian is singular along equal shifts of all classes, where the gradient has no part.
            self.hessian = torch.diag(mean) - second + 1 / len(mean)
            self.factors = self._factors(_LEAST_CURVATURE)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the product with a gradient, shape (classes,)."""
        return gradient / self.diagonal if self.hessian is None else self._solve(self.factors, gradient)

    def steps(self, gradient: Tensor, step: Tensor) -> Iterator[tuple[Tensor, float]]:
        """Give steps and their rates, bold ones first: where the Hessian is nearly singular, damped ones are better."""
        rate = 1.0
        while rate > _SHORTEST_NEWTON:
            yield step, rate
            rate /= 2
        for damping in _DAMPINGS if self.hessian is not None else ():
            yield self._solve(self._factors(damping * float(self.diagonal.max())), gradient), 1.0

    def _factors(self, damping: float) -> tuple[Tensor, Tensor]:
        assert self.hessian is not None  # noqa: S101 - where there is one
        hessian = self.hessian.clone()
        hessian.diagonal().add_(damping)
        factors, pivots, _ = torch.linalg.lu_factor_ex(hessian)  # what a singular one gives lowers nothing
        return factors, pivots

    def _solve(self, factors: tuple[Tensor, Tensor], gradient: Tensor) -> Tensor:
        step: Tensor = torch.linalg.lu_solve(*factors, gradient.unsqueeze(1))
        return step.squeeze(1)


def _solve_log_odds(z: Tensor, y: Tensor, start: Tensor) -> Tensor:
    """Return the b at which the mean of sigmoid(z + b) is that of y: Newton's method within a bracket."""
    share = float(y.mean())
    low, high = -float(z.max()) - 40.0, -float(z.min()) + 40.0
    b = min(max(float(start), low), high)
    for _ in range(200):
        p = torch.sigmoid(z + b)
        excess = float(p.mean()) - share
        if abs(excess) <= 1e-13 * min(share, 1 - share) or high - low <= 1e-15 * max(1.0, abs(b)):
            break
        low, high = (low, b) if excess > 0 else (b, high)
        curvature = float((p * (1 - p)).mean())
        newton = b - excess / curvature if curvature > 0 else low
        b = newton if low < newton < high else (low + high) / 2
    return torch.tensor([b], dtype=torch.float64, device=z.device)
