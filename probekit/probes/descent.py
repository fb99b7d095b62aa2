"""L-BFGS on many softmax regressions at once, preconditioned by a Kronecker model of their Hessians."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from probekit.probes.axes import Axes
    from probekit.probes.design import Design

_HISTORY = 12


class Heads:
    """The state of all heads that are still iterating: parameters, logits, history."""

    def __init__(self, X: Design, y: Tensor, classes: int, penalties: Tensor, start: tuple[Tensor, Tensor]) -> None:
        self.X, self.y, self.classes, self.rows = X, y, classes, len(X)
        self.penalties = penalties.to(X.dtype)
        self.W, self.b = (part.to(X.dtype) for part in start)
        self.Z = self.logits(self.W, self.b)
        self.pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=_HISTORY)
        self.loss, self.P = self.evaluate(self.Z, self.W)
        self.gradient = self.gradients()

    def logits(self, W: Tensor, b: Tensor) -> Tensor:
        """Shape (heads, classes, rows): the classes' axis is short and must not be the last one."""
        heads = len(W)
        return self.X.times(W.reshape(heads * self.classes, -1)).view(heads, self.classes, self.rows) + b.unsqueeze(-1)

    def evaluate(self, Z: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective of each head in float64, and the predicted distributions."""
        top = Z.amax(dim=1, keepdim=True)
        # Below e^-60 a share changes nothing but would become a denormal number, which is slow to multiply.
        P = (Z - top).clamp_min_(-60).exp_()
        total = P.sum(dim=1, keepdim=True)
        picked = Z.gather(1, self.y.expand(len(Z), 1, -1))
        loss = (total.log() + top - picked).mean(dim=(1, 2), dtype=torch.float64)
        P /= total
        return loss + self.penalties.double() / 2 * (W.double() ** 2).sum(dim=(1, 2)), P

    def gradients(self) -> Tensor:
        """Return the gradient of each head, shape (heads, classes, features + 1), the bias last."""
        heads = len(self.W)
        residual = self.P  # consumed: the distributions are computed anew at the next point
        residual.scatter_add_(
            1, self.y.expand(heads, 1, -1), torch.full_like(self.y, -1, dtype=residual.dtype).expand(heads, 1, -1)
        )
        residual /= self.rows
        gW = (
            self.X.back(residual.view(heads * self.classes, -1)).view_as(self.W)
            + self.penalties.view(-1, 1, 1) * self.W
        )
        return torch.cat([gW, residual.sum(dim=2).unsqueeze(-1)], dim=2)

    def keep(self, mask: Tensor) -> None:
        """Drop the heads that are done; the others no longer pay for them."""
        for name in ("W", "b", "Z", "P", "loss", "gradient", "penalties"):
            setattr(self, name, getattr(self, name)[mask])
        self.pairs = deque(((s[mask], y[mask], rho[mask]) for s, y, rho in self.pairs), maxlen=_HISTORY)


class Metric:
    """The initial inverse Hessian of the heads: their class curvature beside the shared spectrum."""

    def __init__(self, heads: Heads, axes: Axes) -> None:
        self.axes = axes
        self.curvature, self.basis = self._class_curvature(heads)
        damping = 100 * heads.X.shape[1] / heads.rows * axes.mean
        self.shift = heads.penalties.unsqueeze(-1) + damping * self.curvature.mean(dim=1, keepdim=True)
        # The bias has no penalty and its curvature none along equal shifts of all classes.
        self.bias_shift = 1e-3 * self.curvature.mean(dim=1, keepdim=True)

    @staticmethod
    def _class_curvature(heads: Heads) -> tuple[Tensor, Tensor]:
        Z = heads.Z
        step = max(1, heads.rows // max(4 * heads.classes, 4096))
        P = torch.softmax(Z[:, :, ::step].double(), dim=1)
        mean = P.mean(dim=2)
        S = torch.diag_embed(mean) - P @ P.mT / P.shape[2]
        values, basis = torch.linalg.eigh(S)
        return values.clamp_min(0).to(Z.dtype), basis.to(Z.dtype)

    def keep(self, mask: Tensor) -> None:
        """Drop the heads that are done."""
        for name in ("curvature", "basis", "shift", "bias_shift"):
            setattr(self, name, getattr(self, name)[mask])

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the product with a gradient, shape (heads, classes, axes + 1) as it is given."""
        rotated = self.basis.mT @ gradient
        weights = self.axes.solve(rotated[..., :-1].contiguous(), self.curvature, self.shift)
        bias = rotated[..., -1:] / (self.curvature + self.bias_shift).unsqueeze(-1)
        return self.basis @ torch.cat([weights, bias], dim=2)


def take_step(heads: Heads, metric: Metric) -> Tensor:
    """Move every head along its L-BFGS direction; return which could not get lower."""
    gradient = heads.gradient
    direction = -_two_loop(gradient, heads.pairs, metric)
    slope = (gradient.double() * direction.double()).sum(dim=(1, 2))
    Zd = heads.logits(direction[..., :-1].contiguous(), direction[..., -1])
    rate = torch.ones(len(slope), dtype=heads.X.dtype)
    accepted = torch.zeros(len(slope), dtype=torch.bool)
    rounding = torch.finfo(heads.X.dtype).eps * heads.loss.abs()
    for _ in range(25):
        W = heads.W + rate.view(-1, 1, 1) * direction[..., :-1]
        Z = heads.Z + rate.view(-1, 1, 1) * Zd
        loss, P = heads.evaluate(Z, W)
        accepted = loss <= heads.loss + 1e-4 * rate.double() * slope + rounding
        if accepted.all():
            break
        rate = torch.where(accepted, rate, rate / 3)
    stuck = ~accepted | (slope > -1e-2 * rounding)
    moved = rate * accepted
    step = moved.view(-1, 1, 1) * direction
    if not accepted.all():
        W = heads.W + step[..., :-1]
        Z = heads.Z + moved.view(-1, 1, 1) * Zd
        loss, P = heads.evaluate(Z, W)
    heads.W, heads.b, heads.Z, heads.loss, heads.P = W, heads.b + step[..., -1], Z, loss, P
    heads.gradient = heads.gradients()
    change = heads.gradient - gradient
    curved = (step.double() * change.double()).sum(dim=(1, 2))
    rho = torch.where(curved > 1e-30, 1 / curved, torch.zeros_like(curved))
    heads.pairs.append((step, change, rho.to(heads.X.dtype)))
    return stuck


def _two_loop(gradient: Tensor, pairs: deque[tuple[Tensor, Tensor, Tensor]], metric: Metric) -> Tensor:
    """The L-BFGS product of inverse Hessian and gradient (Nocedal & Wright, algorithm 7.4), per head."""
    q = gradient
    weights = []
    for step, change, rho in reversed(pairs):
        weight = rho.view(-1, 1, 1) * (step * q).sum(dim=(1, 2), keepdim=True)
        weights.append(weight)
        q = q - weight * change
    r = metric(q)
    for (step, change, rho), weight in zip(pairs, reversed(weights), strict=True):
        r = r + step * (weight - rho.view(-1, 1, 1) * (change * r).sum(dim=(1, 2), keepdim=True))
    return r
