"""Softmax regression to its optimum: several penalties at once, with a bound on what is left.

The objective of one head, for rows x of X with labels y, is

    f(W, b) = mean over rows of cross-entropy(softmax(W x + b), y) + (λ/2) ‖W‖²,  in nats, b unpenalised.

All heads share every pass over X. Each is minimised by L-BFGS whose initial inverse Hessian is the Kronecker model
(S ⊗ G + λ)⁻¹, S the mean of diag(p) - p pᵀ, G = XᵀX/N. G is damped by 100 F/N of its mean, without which rare
directions are followed too early.

The bound: with b minimised exactly for a given W, f as a function of W alone is λ-strongly convex, so that
f(W) - min f ≤ ‖∇f(W)‖² / (2λ). It is evaluated in float64.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

_FULL_SPECTRUM = 1024
_SKETCH_RANK = 256
_HISTORY = 12
_ROWS_AT_ONCE = 1 << 14
_REFRESH = (0, 2, 5, 10)


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


class Spectrum:
    """The leading eigenvectors of XᵀX/N, the rest taken as one mean eigenvalue.

    Args:
        X: shape (rows, features), centred.
        seed: of the rows and directions that are drawn for a large X.
    """

    def __init__(self, X: Tensor, seed: int = 0) -> None:
        rows, features = X.shape
        generator = torch.Generator().manual_seed(seed)
        most = max(8 * min(features, _FULL_SPECTRUM), 4 * _SKETCH_RANK)
        sample = X[torch.randperm(rows, generator=generator)[:most]] if rows > most else X
        if features <= _FULL_SPECTRUM:
            gram = (sample.T @ sample).double() / len(sample)
            values, vectors = torch.linalg.eigh(gram)
            self.values, self.vectors = values.clamp_min(0), vectors.to(X.dtype)
            self.rest = 0.0
        else:
            rank = min(_SKETCH_RANK, len(sample))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _, singular, vectors = torch.svd_lowrank(sample, q=rank, niter=2)
            self.values, self.vectors = singular.double() ** 2 / len(sample), vectors
            total = float((sample.double() ** 2).sum()) / len(sample)
            self.rest = max(total - float(self.values.sum()), 0.0) / max(features - rank, 1)
        self.mean = (float(self.values.sum()) + self.rest * max(features - len(self.values), 0)) / features

    def solve(self, gradient: Tensor, curvature: Tensor, shift: Tensor) -> Tensor:
        """Return (curvature ⊗ G + shift)⁻¹ gradient for gradient (heads, classes, features), the rest (heads, classes)."""
        kept = gradient @ self.vectors
        full = 1 / (curvature.unsqueeze(-1) * self.values.to(gradient.dtype) + shift.unsqueeze(-1))
        if len(self.values) == gradient.shape[-1]:
            return (kept * full) @ self.vectors.T
        flat = 1 / (curvature * self.rest + shift)
        return gradient * flat.unsqueeze(-1) + (kept * (full - flat.unsqueeze(-1))) @ self.vectors.T


class _Heads:
    """The state of all heads that are still iterating: parameters, logits, history."""

    def __init__(self, X: Tensor, y: Tensor, classes: int, penalties: Tensor, start: tuple[Tensor, Tensor]) -> None:
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
        return (W.reshape(heads * self.classes, -1) @ self.X.T).view(heads, self.classes, self.rows) + b.unsqueeze(-1)

    def evaluate(self, Z: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective of each head in float64, and the predicted distributions."""
        top = Z.amax(dim=1, keepdim=True)
        P = (Z - top).exp_()
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
        gW = (residual.view(heads * self.classes, -1) @ self.X).view_as(self.W) + self.penalties.view(-1, 1, 1) * self.W
        return torch.cat([gW, residual.sum(dim=2).unsqueeze(-1)], dim=2)

    def keep(self, mask: Tensor) -> None:
        """Drop the heads that are done; the others no longer pay for them."""
        for name in ("W", "b", "Z", "P", "loss", "gradient", "penalties"):
            setattr(self, name, getattr(self, name)[mask])
        self.pairs = deque(((s[mask], y[mask], rho[mask]) for s, y, rho in self.pairs), maxlen=_HISTORY)


class _Metric:
    """The initial inverse Hessian of the heads: their class curvature beside the shared spectrum."""

    def __init__(self, heads: _Heads, spectrum: Spectrum) -> None:
        self.spectrum = spectrum
        self.curvature, self.basis = self._class_curvature(heads)
        damping = 100 * heads.X.shape[1] / heads.rows * spectrum.mean
        self.shift = heads.penalties.unsqueeze(-1) + damping * self.curvature.mean(dim=1, keepdim=True)
        # The bias has no penalty and its curvature none along equal shifts of all classes.
        self.bias_shift = 1e-3 * self.curvature.mean(dim=1, keepdim=True)

    @staticmethod
    def _class_curvature(heads: _Heads) -> tuple[Tensor, Tensor]:
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
        rotated = self.basis.mT @ gradient
        weights = self.spectrum.solve(rotated[..., :-1].contiguous(), self.curvature, self.shift)
        bias = rotated[..., -1:] / (self.curvature + self.bias_shift).unsqueeze(-1)
        return self.basis @ torch.cat([weights, bias], dim=2)


def minimise(
    X: Tensor, y: Tensor, classes: int, penalties: list[float], tolerance: float, max_passes: int, spectrum: Spectrum
) -> Optimum:
    """Minimise one head per penalty.

    Args:
        X: shape (rows, features), centred and scaled, float32 or float64.
        y: shape (rows,), int64, every class of range(classes) among them.
        classes: two or more.
        penalties: λ of each head, above 0.
        tolerance: nats; a head is done when its bound is at most this.
        max_passes: over X, in which a head may take part.
        spectrum: of X; the same for every label factor of the same rows.
    """
    count = torch.bincount(y, minlength=classes).double()
    prior = (count / count.sum()).log()
    heads = len(penalties)
    result = Optimum(
        torch.zeros(heads, classes, X.shape[1], dtype=torch.float64),
        prior.repeat(heads, 1),
        torch.full((heads,), math.inf, dtype=torch.float64),
        torch.full((heads,), math.inf, dtype=torch.float64),
        0,
    )
    todo = torch.arange(heads)
    passes = 0
    data = X
    # A head whose gain sinks below float32's rounding goes on in float64.
    for dtype in dict.fromkeys((X.dtype, torch.float64)):
        data = data.to(dtype)
        passes += _descend(data, y, classes, penalties, tolerance, max_passes - passes, spectrum, todo, result)
        todo = torch.nonzero(result.gap > tolerance).flatten()
        if not len(todo) or passes >= max_passes or X.numel() > 2**28:
            break
    return Optimum(result.weights, result.bias, result.objective, result.gap, passes)


def _descend(
    X: Tensor, y: Tensor, classes: int, penalties: list[float], tolerance: float, max_passes: int,
    spectrum: Spectrum, todo: Tensor, result: Optimum,
) -> int:  # fmt: skip
    """Iterate the heads in ``todo`` from where ``result`` stands, write what they reach into it, return the passes."""
    labels = y.view(1, 1, -1)
    start = (result.weights[todo], result.bias[todo])
    heads = _Heads(X, labels, classes, torch.tensor(penalties, dtype=torch.float64)[todo], start)
    spectrum_here = _in_dtype(spectrum, X.dtype)
    metric = _Metric(heads, spectrum_here)
    hint = torch.full((len(todo),), tolerance / 2, dtype=torch.float64)
    passes = 1
    for iteration in range(max_passes):
        squared = (heads.gradient[..., :-1].double() ** 2).sum(dim=(1, 2)) / (2 * heads.penalties.double())
        last = iteration == max_passes - 1
        stuck = torch.zeros_like(hint, dtype=torch.bool)
        if iteration and not last:
            stuck = _step(heads, metric)
            passes += 1
            squared = (heads.gradient[..., :-1].double() ** 2).sum(dim=(1, 2)) / (2 * heads.penalties.double())
        done = torch.zeros_like(stuck)
        for place in torch.nonzero((squared <= hint) | stuck | last).flatten().tolist():
            gap = _certify(X, y, heads, place, int(todo[place]), result)
            done[place] = gap <= tolerance or bool(stuck[place])
            hint[place] /= 4
        if done.any():
            todo, hint = todo[~done], hint[~done]
            heads.keep(~done)
            metric.keep(~done)
        if not len(todo):
            break
        if iteration in _REFRESH or iteration % 20 == 0:
            metric = _Metric(heads, spectrum_here)
    return passes


def _in_dtype(spectrum: Spectrum, dtype: torch.dtype) -> Spectrum:
    if spectrum.vectors.dtype == dtype:
        return spectrum
    changed = object.__new__(Spectrum)
    changed.values, changed.rest, changed.mean = spectrum.values, spectrum.rest, spectrum.mean
    changed.vectors = spectrum.vectors.to(dtype)
    return changed


def _step(heads: _Heads, metric: _Metric) -> Tensor:
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


def _two_loop(gradient: Tensor, pairs: deque[tuple[Tensor, Tensor, Tensor]], metric: _Metric) -> Tensor:
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


def _certify(X: Tensor, y: Tensor, heads: _Heads, place: int, head: int, result: Optimum) -> float:
    """Solve the bias exactly, bound the gap in float64, keep the solution if it is the head's best; return its gap."""
    W = heads.W[place].double()
    penalty = float(heads.penalties[place].double())
    rows = len(X)
    Z = torch.cat([W @ X[i : i + _ROWS_AT_ONCE].double().T for i in range(0, rows, _ROWS_AT_ONCE)], dim=1)
    b, residue = solve_bias(Z, y, heads.b[place].double())
    Z += b.unsqueeze(-1)
    objective = float((torch.logsumexp(Z, 0) - Z[y, torch.arange(rows)]).mean() + penalty / 2 * (W**2).sum())
    P = torch.softmax(Z, dim=0)
    P[y, torch.arange(rows)] -= 1
    gradient = penalty * W
    for i in range(0, rows, _ROWS_AT_ONCE):
        gradient += P[:, i : i + _ROWS_AT_ONCE] @ X[i : i + _ROWS_AT_ONCE].double() / rows
    gap = float((gradient**2).sum()) / (2 * penalty) + residue
    if gap < float(result.gap[head]):
        result.weights[head], result.bias[head] = W, b
        result.objective[head], result.gap[head] = objective, gap
    return gap


def solve_bias(Z: Tensor, y: Tensor, start: Tensor) -> tuple[Tensor, float]:
    """Return the b that minimises the mean cross-entropy of Z + b, and what its last gradient leaves open, in nats.

    Args:
        Z: logits without bias, shape (classes, rows), float64.
        y: shape (rows,).
        start: shape (classes,).
    """
    classes, rows = Z.shape
    share = torch.bincount(y, minlength=classes).double() / rows
    picked = Z[y, torch.arange(rows)].mean()
    b = start - start.mean()

    def loss_of(bias: Tensor) -> float:
        return float(torch.logsumexp(Z + bias.unsqueeze(-1), 0).mean() - picked - share @ bias)

    loss, residue = loss_of(b), math.inf
    for _ in range(50):
        P = torch.softmax(Z + b.unsqueeze(-1), dim=0)
        mean = P.mean(dim=1)
        gradient = mean - share
        # The Hessian is singular along equal shifts of all classes, where the gradient has no part.
        hessian = torch.diag(mean) - P @ P.T / rows + torch.full((classes, classes), 1 / classes, dtype=Z.dtype)
        hessian += torch.eye(classes, dtype=Z.dtype) * 1e-14
        step = torch.linalg.solve(hessian, gradient)
        residue = float(gradient @ step)
        if residue <= 1e-16:
            break
        rate = 1.0
        while rate > 1e-8 and loss_of(b - rate * step) > loss - 1e-4 * rate * residue + 1e-15:
            rate /= 2
        b = b - rate * step
        b = b - b.mean()
        loss = loss_of(b)
    return b, max(residue, 0.0)
