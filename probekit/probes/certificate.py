"""The proof of a fit: its objective in float64, and a bound on its distance from the optimum.

With Q any distributions whose mean over the rows is that of the labels, duality bounds the optimum from below:

    f(W, b) - min f  ≤  mean KL(q ‖ p) + ‖Xᵀ(Q - Y)/N + λW‖² / (2λ)

for f(W, b) = mean cross-entropy + (λ/2)‖W‖² with b unpenalised, P the predicted distributions and Y the labels. With b
at its optimum for W, Q = P serves, and what is left of rounding in b is mended by mixing Q with one constant row.
Yes/no labels are the case of two classes. Of a number, half its squared error is 1-strongly convex in the prediction,
and the same bound holds with b at its optimum, where it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probekit.probes.biases import EXACT, best_bias, columns_at_once
from probekit.probes.losses import OfClasses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.probes.design import Design
    from probekit.probes.losses import Answers

_NEAR = 1e-6
"""By which share a class's mean prediction may be off where Q has a bias of its own."""
_OF_GOAL = 5e-4
"""The same where Q must be feasible, as a share of the bound that is aimed at: what mends it costs a few nats."""
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
        dual: step from the weights to those whose predictions are Q, shape (columns, features); None for Q = P. In
            float32 its logits are computed in float32: any Q will do, if the rest of the proof is of that Q.
        dual_bias: step of the bias to there, where that one is sought from.
        goal: the bound that is aimed at, in nats: how exact biases must be.
    """

    answers: Answers
    penalty: float
    weights: Tensor
    bias: Tensor
    dual: Tensor | None = None
    dual_bias: Tensor | None = None
    goal: float = 0.0


def prove(X: Design, claims: Sequence[Claim]) -> list[Proof]:
    """Solve each head's bias exactly and bound its gap, in one pass over X that all heads share, in float64.

    Args:
        X: shape (rows, features).
        claims: the heads.
    """
    device = X.device if X.device.type != "mps" else torch.device("cpu")  # which has no float64
    own, moved = _logits(X, claims, device)
    settled = [_settle(claim, *logits) for claim, logits in zip(claims, zip(own, moved, strict=True), strict=True)]
    residuals = torch.cat([one.residual for one in settled])
    gradient = torch.zeros(len(residuals), X.shape[1], dtype=torch.float64, device=device)
    at_once, first = _rows_at_once(X, len(residuals)), 0
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


def _rows_at_once(X: Design, columns: int) -> int:
    return max(256, _VALUES_AT_ONCE // max(X.shape[1], columns))


def _logits(X: Design, claims: Sequence[Claim], device: torch.device) -> tuple[list[Tensor], list[Tensor | None]]:
    """Return each head's logits without bias, (columns, rows) in float64, and those whose predictions are Q."""
    weights = torch.cat([claim.weights for claim in claims]).to(device)
    duals: dict[torch.dtype, list[tuple[int, Tensor]]] = {}
    for place, claim in enumerate(claims):
        if claim.dual is not None:
            duals.setdefault(claim.dual.dtype, []).append((place, claim.dual))
    stacked = {dtype: torch.cat([one for _, one in some]).to(device) for dtype, some in duals.items()}
    columns = len(weights) + sum(len(some) for some in stacked.values())
    Z = torch.empty(len(weights), len(X), dtype=torch.float64, device=device)
    moved = {dtype: torch.empty(len(some), len(X), dtype=Z.dtype, device=device) for dtype, some in stacked.items()}
    first = 0
    for block in X.blocks(torch.float32, _rows_at_once(X, columns)):
        here, rows = slice(first, first + len(block)), block.to(device)
        wide = rows.double()
        Z[:, here] = (wide @ weights.T).T
        for dtype, some in stacked.items():
            moved[dtype][:, here] = ((rows if dtype == torch.float32 else wide) @ some.T).T
        first += len(block)
    own = list(torch.split(Z, [len(claim.weights) for claim in claims]))
    other: list[Tensor | None] = [None] * len(claims)
    for dtype, some_duals in duals.items():
        parts = torch.split(moved[dtype], [len(one) for _, one in some_duals])
        for (place, _), part in zip(some_duals, parts, strict=True):
            other[place] = part.add_(own[place])
    return own, other


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
        moved: logits without bias whose predictions are Q; None for Q = P; overwritten.
    """
    answers, loss = claim.answers, claim.answers.loss
    y = answers.y.to(Z.device)
    exact = min(max(EXACT, _OF_GOAL * claim.goal), _NEAR)
    bias = best_bias(answers, Z, claim.bias.to(Z.device), exact if moved is None else _NEAR)
    shift = bias
    if moved is not None:
        start = bias if claim.dual_bias is None else bias + claim.dual_bias.to(Z.device)
        shift = best_bias(answers, moved, start, exact)
    value, divergence, log_predictions = 0.0, 0.0, torch.zeros((), dtype=Z.dtype, device=Z.device)
    residual = Z if moved is None else moved
    for here in columns_at_once(Z):
        Zp = Z[:, here].add_(bias.unsqueeze(-1))
        normaliser = loss.normaliser(Zp)
        value += float((normaliser - loss.fit(Zp, y[here].unsqueeze(0))).sum())
        if isinstance(loss, OfClasses):
            log_predictions = log_predictions + loss.log_predictions(Zp, normaliser)
        Zq = Zp
        if moved is not None:
            Zq = moved[:, here].add_(shift.unsqueeze(-1))
            divergence += loss.divergence(Zq, Zp, normaliser)
        loss.residual(Zq.unsqueeze(0), y[here].view(1, 1, -1))
    rows = Z.shape[1]
    value, divergence = value / rows, max(divergence / rows, 0.0)
    if not isinstance(loss, OfClasses):
        return _Settled(bias, value, residual, divergence)
    mean_log_p = log_predictions / rows
    share = loss.shares(answers)
    excess = residual.mean(dim=1)
    excess = excess if len(excess) > 1 else torch.cat([-excess, excess])
    most = float((excess / share.to(excess)).max().clamp_min(0))
    mix = most / (1 + most)
    if mix > 0:
        constant = (share.to(excess) - excess / most).clamp_min(0)
        far = float((torch.special.xlogy(constant, constant) - constant * mean_log_p).sum())
        divergence = (1 - mix) * divergence + mix * far  # KL is convex in q
        loss.mix(residual, y, constant, mix)
    return _Settled(bias, value, residual, divergence)
