"""The proof of a fit: its objective in float64, and a bound on its distance from the optimum.

With Q any distributions whose mean over the rows is that of the labels, duality bounds the optimum from below:

    f(W, b) - min f  ≤  mean KL(q ‖ p) + ‖Xᵀ(Q - Y)/N + λW‖² / (2λ)

for f(W, b) = mean cross-entropy + (λ/2)‖W‖² with b unpenalised, P the predicted distributions and Y the labels. With b
at its optimum for W, Q = P serves, and what is left of rounding in b is mended by mixing Q with one constant row.
Yes/no labels are the case of two classes. Of a number, half its squared error is 1-strongly convex in the prediction,
and the same bound holds with b at its optimum, where it is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probekit.probes.losses import DIAGONAL_ABOVE, LOGISTIC, SOFTMAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.probes.design import Design
    from probekit.probes.losses import Answers

_BIAS_STEPS = 60
_SHORTEST_NEWTON = 1e-3
_SMALL_STEP = 0.1
_EXACT, _NEAR = 1e-11, 1e-6
"""By which share a class's mean prediction may be off: of Q, which must be feasible, and of P beside a Q of its own."""
_OFTEN_ENOUGH = 0.1
"""By how much a step with an old Hessian must lower that."""
_MANY = 64
"""Classes above which the bias's curvature is of a sample of rows, at first in float32."""
_VALUES_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Proof:
    """What is proven of one head.

    Args:
        bias: shape (columns,), float64, the best for its weights.
        objective: mean loss + (λ/2)‖W‖², in nats.
        gap: upper bound on objective - optimum, in nats.
    """

    bias: Tensor
    objective: float
    gap: float


@dataclass(frozen=True)
class Claim:
    """A head to be proven.

    Args:
        answers: what its target asks.
        penalty: λ.
        weights: shape (columns, features), float64.
        bias: shape (columns,), float64, where the bias is sought from.
        dual: step from the weights to those whose predictions are Q, shape (columns, features); None for Q = P.
        dual_bias: step of the bias to there, where that one is sought from.
    """

    answers: Answers
    penalty: float
    weights: Tensor
    bias: Tensor
    dual: Tensor | None = None
    dual_bias: Tensor | None = None


def prove(X: Design, claims: Sequence[Claim]) -> list[Proof]:
    """Solve each head's bias exactly and bound its gap, in one pass over X that all heads share, in float64.

    Args:
        X: shape (rows, features).
        claims: the heads.
    """
    device = X.device if X.device.type != "mps" else torch.device("cpu")  # which has no float64
    points = [claim.weights for claim in claims]
    points += [claim.weights + claim.dual for claim in claims if claim.dual is not None]
    stacked = torch.cat(points).to(device)
    Z = torch.empty(len(stacked), len(X), dtype=torch.float64, device=device)
    at_once = max(256, _VALUES_AT_ONCE // max(X.shape[1], len(stacked)))
    first = 0
    for block in X.blocks(torch.float32, at_once):
        Z[:, first : first + len(block)] = (block.to(device).double() @ stacked.T).T
        first += len(block)
    parts = list(torch.split(Z, [len(point) for point in points]))
    own, moved = parts[: len(claims)], parts[len(claims) :]
    settled = []
    for claim, logits in zip(claims, own, strict=True):
        settled.append(_settle(claim, logits, moved.pop(0) if claim.dual is not None else None))
    residuals = torch.cat([one.residual for one in settled])
    gradient = torch.zeros(len(residuals), X.shape[1], dtype=torch.float64, device=device)
    first = 0
    for block in X.blocks(torch.float32, at_once):
        gradient += residuals[:, first : first + len(block)] @ block.to(device).double()
        first += len(block)
    gradient /= len(X)
    parts = list(torch.split(gradient, [len(one.residual) for one in settled]))
    proofs = []
    for claim, one, g in zip(claims, settled, parts, strict=True):
        W = claim.weights.to(device)
        objective = one.loss + claim.penalty / 2 * float(W.pow(2).sum())
        left = float((g + claim.penalty * W).pow(2).sum()) / (2 * claim.penalty)
        # No optimum is below 0.
        proofs.append(Proof(one.bias.cpu(), objective, min(one.divergence + left, objective)))
    return proofs


@dataclass(frozen=True)
class _Settled:
    """A head at its best bias.

    Args:
        bias: of the head itself.
        loss: its mean loss.
        residual: Q - Y, shape (columns, rows).
        divergence: upper bound on mean KL(q ‖ p), in nats.
    """

    bias: Tensor
    loss: float
    residual: Tensor
    divergence: float


def _settle(claim: Claim, Z: Tensor, moved: Tensor | None) -> _Settled:
    """Solve the biases and compare.

    Args:
        claim: the head.
        Z: its logits without bias, (columns, rows); overwritten.
        moved: logits without bias whose predictions are Q; None for Q = P.
    """
    loss = claim.answers.loss
    y = loss.shaped(claim.answers.y.to(Z.device))
    bias = _best_bias(claim.answers, Z, y, claim.bias.to(Z.device), _EXACT if moved is None else _NEAR)
    Z += bias.unsqueeze(-1)
    value = float(loss.values(Z.unsqueeze(0), y).mean())
    at, divergence = Z, 0.0
    if moved is not None:
        start = bias if claim.dual_bias is None else bias + claim.dual_bias.to(Z.device)
        at = moved
        at += _best_bias(claim.answers, moved, y, start).unsqueeze(-1)
        divergence = max(loss.divergence(at, Z), 0.0)
    mean_log_p = loss.mean_log_predictions(Z)
    residual = at.clone() if at is Z else at
    loss.residual(residual.unsqueeze(0), y)
    if mean_log_p is None:
        return _Settled(bias, value, residual, divergence)
    share = loss.shares(claim.answers)
    excess = residual.mean(dim=1)
    excess = excess if len(excess) > 1 else torch.cat([-excess, excess])
    most = float((excess / share.to(excess)).max().clamp_min(0))
    mix = most / (1 + most)
    if mix > 0:
        constant = (share.to(excess) - excess / most).clamp_min(0)
        far = float((torch.special.xlogy(constant, constant) - constant * mean_log_p).sum())
        divergence = (1 - mix) * divergence + mix * far  # KL is convex in q
        loss.mix(residual, y[0, 0], constant, mix)
    return _Settled(bias, value, residual, divergence)


def _best_bias(answers: Answers, Z: Tensor, y: Tensor, start: Tensor, tolerance: float = _EXACT) -> Tensor:
    """Return the bias, shape (columns,), that is best for logits without one."""
    if answers.loss is SOFTMAX:
        return solve_bias(Z, y[0, 0], start, tolerance)
    if answers.loss is LOGISTIC:
        return _solve_log_odds(Z[0], y[0, 0], start)
    return (y[0, 0] - Z[0]).mean().view(1)


def solve_bias(Z: Tensor, y: Tensor, start: Tensor, tolerance: float = _EXACT) -> Tensor:
    """Return the b that minimises the mean cross-entropy of softmax(Z + b).

    Newton's method, and where that gets no lower, a step of generalised iterative scaling (Darroch & Ratcliff, Annals
    of Mathematical Statistics 43, 1972), which always does: far off, each row has one class and no curvature.

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
        return float(torch.logsumexp(Z + b.unsqueeze(-1), 0).mean() - share @ b) - picked

    b = start - start.mean()
    loss, before = math.nan, math.inf
    newton: _Newton | None = None
    for _ in range(_BIAS_STEPS):
        P = torch.softmax(Z + b.unsqueeze(-1), dim=0)
        gradient = P.mean(dim=1) - share
        off = float((gradient.abs() / share).max())
        if off <= tolerance:
            break
        if newton is None or off > _OFTEN_ENOUGH * before:
            newton = _Newton(P, rough=newton is None)
        step = newton(gradient)
        if off < before and float(step.abs().max()) <= _SMALL_STEP:  # predictions hardly change: no need to look
            b, loss, before = b - step, math.nan, off
            b = b - b.mean()
            continue
        before = off
        loss = loss_at(b) if math.isnan(loss) else loss
        slope, rate, reached = float(gradient @ step), 1.0, math.inf
        rounding = 1e-15 * (1 + abs(loss) + abs(picked) + abs(float(share @ b)))
        while rate > _SHORTEST_NEWTON:
            moved = b - rate * step
            reached = loss_at(moved)
            if reached <= loss - 1e-4 * rate * slope + rounding:
                break
            rate /= 2
        else:
            log_mean = torch.log_softmax(Z + b.unsqueeze(-1), dim=0).logsumexp(dim=1) - math.log(rows)
            moved, before = b + share.log() - log_mean, 0.0
            reached = loss_at(moved)
            if not reached < loss:
                break
        b, loss = moved - moved.mean(), reached
    return b


class _Newton:
    """The inverse Hessian of the bias at predictions P, shape (classes, rows).

    Args:
        P: the predictions.
        rough: whether, for many classes, float32 will do.
    """

    def __init__(self, P: Tensor, *, rough: bool) -> None:
        classes, rows = P.shape
        self.diagonal: Tensor | None = None
        if classes > DIAGONAL_ABOVE:
            self.diagonal = (P.mean(dim=1) - (P**2).mean(dim=1)).clamp_min(1e-14)
            return
        part = P
        if classes > _MANY:
            part = P[:, :: max(1, rows // max(8 * classes, 16384))]
            part = part.float() if rough else part
        # The Hessian is singular along equal shifts of all classes, where the gradient has no part.
        hessian = torch.diag(part.double().mean(dim=1)) - (part @ part.T).double() / part.shape[1] + 1 / classes
        hessian.diagonal().add_(1e-14)
        self.factors = torch.linalg.lu_factor_ex(hessian)[:2]  # what a singular one gives lowers nothing

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the product with a gradient, shape (classes,)."""
        if self.diagonal is not None:
            return gradient / self.diagonal
        step: Tensor = torch.linalg.lu_solve(*self.factors, gradient.unsqueeze(1))
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
