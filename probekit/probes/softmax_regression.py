"""Softmax regression to its optimum: several penalties at once, with a bound on what is left.

The objective of one head, for rows x of X with labels y, is

    f(W, b) = mean over rows of cross-entropy(softmax(W x + b), y) + (λ/2) ‖W‖²,  in nats, b unpenalised.

All heads share every pass over X, which is first turned into its principal axes; axes that cannot matter at the
smallest λ are left out. Each head is minimised by L-BFGS whose initial inverse Hessian is the Kronecker model
(S ⊗ G + λ)⁻¹, S the mean of diag(p) - p pᵀ, G = XᵀX/N, damped by 100 F/N of the mean of G, without which rare
directions are followed too early. What is slow to converge and small enough is finished by Newton's method.

The bound: with b minimised exactly for a given W, f as a function of W alone is λ-strongly convex, so that
f(W) - min f ≤ ‖∇f(W)‖² / (2λ). It is evaluated in float64.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from probekit.probes.descent import Heads, Metric, take_step
from probekit.probes.newton import newton_step, solve_bias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from probekit.probes.axes import Axes
    from probekit.probes.design import Design

_REFRESH = (0, 2, 5, 10)
_PASSES_BEFORE_NEWTON = 150
_NEWTON_UNKNOWNS = 704
_NEWTON_FLOPS = 6e9
_ONE_THREAD_FLOPS = 2e8


@dataclass(frozen=True)
class Optimum:
    """The heads' solutions in float64.

    Args:
        weights: shape (heads, classes, features).
        bias: shape (heads, classes).
        objective: shape (heads,), in nats.
        gap: shape (heads,), an upper bound on objective - minimum, in nats.
        passes: passes over X, one being X Wᵀ and Rᵀ X.
    """

    weights: Tensor
    bias: Tensor
    objective: Tensor
    gap: Tensor
    passes: int


def minimise(
    X: Design, y: Tensor, classes: int, penalties: list[float], tolerance: float, max_passes: int, axes: Axes
) -> Optimum:
    """Minimise one head per penalty.

    Args:
        X: shape (rows, features), centred and scaled, float32 or float64.
        y: shape (rows,), int64, every class of range(classes) among them.
        classes: two or more.
        penalties: λ of each head, above 0.
        tolerance: a head is done when its bound is at most this share of its objective; an objective below 1 % of the
            labels' entropy counts as that 1 %.
        max_passes: over X, in which a head may take part.
        axes: of X; the same for every label factor of the same rows.
    """
    with _threads_for(4 * axes.X.numel() * classes * len(penalties)):
        return _minimise(X, y, classes, penalties, tolerance, max_passes, axes)


@contextmanager
def _threads_for(flops: int) -> Iterator[None]:
    """Keep small passes on one thread: there, waiting for the other threads takes longer than the work.

    Args:
        flops: of one pass.
    """
    usual = torch.get_num_threads()
    if flops < _ONE_THREAD_FLOPS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _minimise(
    X: Design, y: Tensor, classes: int, penalties: list[float], tolerance: float, max_passes: int, axes: Axes
) -> Optimum:
    fit = _Fit(X, y, classes, penalties, tolerance, axes)
    unknowns = (classes if classes > 2 else 1) * (axes.X.shape[1] + 1)
    newton = unknowns <= _NEWTON_UNKNOWNS or 2 * len(X) * unknowns**2 + unknowns**3 <= _NEWTON_FLOPS
    fit.descend(X.dtype, min(max_passes, _PASSES_BEFORE_NEWTON) if newton else max_passes)
    if newton:
        fit.newton(max_passes)
    # A head whose gain sinks below float32's rounding goes on in float64.
    elif X.dtype != torch.float64 and X.numel() <= 2**28:
        fit.descend(torch.float64, max_passes)
    return Optimum(axes.back(fit.weights), fit.bias, fit.objective, fit.gap, fit.passes)


class _Fit:
    """One problem and the best that each head has reached, in the axes' coordinates and float64."""

    def __init__(
        self, X: Design, y: Tensor, classes: int, penalties: list[float], tolerance: float, axes: Axes
    ) -> None:
        heads = len(penalties)
        self.X, self.y, self.classes, self.axes, self.tolerance = X, y, classes, axes, tolerance
        self.penalties = torch.tensor(penalties, dtype=torch.float64)
        share = torch.bincount(y, minlength=classes).double() / len(y)
        self.least = -0.01 * float(share @ share.log())
        self.weights = torch.zeros(heads, classes, axes.X.shape[1], dtype=torch.float64)
        self.bias = share.log().repeat(heads, 1)
        self.objective = torch.full((heads,), math.inf, dtype=torch.float64)
        self.gap = torch.full((heads,), math.inf, dtype=torch.float64)
        self.passes = 0

    def todo(self) -> Tensor:
        """Return the heads that are not proven yet."""
        return torch.nonzero(~(self.gap <= self.goal(self.objective))).flatten()

    def goal(self, objective: Tensor) -> Tensor:
        """Return the bound, in nats, at which a head with this objective is done."""
        return self.tolerance * objective.nan_to_num(posinf=0.0).clamp_min(self.least)

    def descend(self, dtype: torch.dtype, max_passes: int) -> None:
        """Iterate the unproven heads by L-BFGS until each is proven, stuck in rounding, or out of passes."""
        todo = self.todo()
        if not len(todo) or self.passes >= max_passes:
            return
        X = self.axes.X.to(dtype)
        heads = Heads(
            X, self.y.view(1, 1, -1), self.classes, self.penalties[todo], (self.weights[todo], self.bias[todo])
        )
        metric = Metric(heads, self.axes)
        slack = torch.full((len(todo),), 0.5, dtype=torch.float64)
        self.passes += 1
        for iteration in range(max_passes):
            last = self.passes >= max_passes
            stuck = torch.zeros_like(slack, dtype=torch.bool)
            if iteration and not last:
                stuck = take_step(heads, metric)
                self.passes += 1
            bound = (heads.gradient[..., :-1].double() ** 2).sum(dim=(1, 2)) / (2 * heads.penalties.double())
            done = torch.zeros_like(stuck)
            for place in torch.nonzero((bound <= slack * self.goal(heads.loss)) | stuck | last).flatten().tolist():
                proven = self.certify(int(todo[place]), heads.W[place].double(), heads.b[place].double())
                done[place] = proven or bool(stuck[place])
                slack[place] /= 4
            if done.any():
                todo, slack = todo[~done], slack[~done]
                heads.keep(~done)
                metric.keep(~done)
            if not len(todo) or last:
                return
            if iteration in _REFRESH or iteration % 20 == 0:
                metric = Metric(heads, self.axes)

    def newton(self, max_passes: int) -> None:
        """Finish the unproven heads by Newton's method with the whole Hessian, in float64."""
        for head in self.todo().tolist():
            W, b = self.weights[head], self.bias[head]
            for _ in range(40):
                W, b, gained = newton_step(self.axes.X, self.y, W, b, float(self.penalties[head]))
                self.passes += 1
                if self.certify(head, W, b) or not gained or self.passes >= max_passes:
                    break

    def certify(self, head: int, W: Tensor, b: Tensor) -> bool:
        """Solve the bias exactly, bound the gap on X itself, keep what is the head's best; return whether it is done.

        Args:
            head: its number.
            W: shape (classes, axes), float64.
            b: shape (classes,), float64, where the bias is sought from.
        """
        rows, penalty = len(self.X), float(self.penalties[head])
        each = torch.arange(rows)
        own = self.axes.back(W)
        Z = torch.cat([own @ block.double().T for block in self.X.blocks()], dim=1)
        b, residue = solve_bias(Z, self.y, b)
        Z += b.unsqueeze(-1)
        objective = float((torch.logsumexp(Z, 0) - Z[self.y, each]).mean() + penalty / 2 * (own**2).sum())
        P = torch.softmax(Z, dim=0)
        P[self.y, each] -= 1
        gradient = penalty * own
        first = 0
        for block in self.X.blocks():
            gradient += P[:, first : first + len(block)] @ block.double() / rows
            first += len(block)
        gap = float((gradient**2).sum()) / (2 * penalty) + residue
        if gap < float(self.gap[head]):
            self.weights[head], self.bias[head] = W, b
            self.objective[head], self.gap[head] = objective, gap
        return gap <= float(self.goal(torch.tensor(objective)))
