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
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXACT = 1024
_SKETCH_RANK = 256
_HISTORY = 12
_ROWS_AT_ONCE = 1 << 14
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


class Axes:
    """X in its principal axes, as far as they can be had: the coordinates that the heads iterate in.

    Up to 1,024 features or rows the axes are exact, and X is turned into them. Beyond, X stays as it is, and the 256
    leading axes of a sample of rows are sketched for the preconditioner.

    Args:
        X: shape (rows, features), centred.
        negligible: axes whose eigenvalues of XᵀX/N add up to at most this are left out.
        seed: of the sketch.
    """

    def __init__(self, X: Tensor, negligible: float, seed: int = 0) -> None:
        rows, features = X.shape
        self.turn: Tensor | None = None
        self.leading: Tensor | None = None
        if min(rows, features) <= _EXACT:
            wide = features > rows
            values, vectors = torch.linalg.eigh(_gram(X.T if wide else X) / rows)
            keep = values.clamp_min(0).cumsum(0) > negligible
            keep[-1] = True
            self.values, vectors = values[keep].clamp_min(0), vectors[:, keep]
            if wide:
                vectors = (X.T.double() @ vectors) / (rows * self.values.clamp_min(1e-300)).sqrt()
            self.turn = vectors
            self.X = (
                (X.double() @ vectors).to(X.dtype)
                if rows * features <= _ROWS_AT_ONCE * _EXACT
                else X @ vectors.to(X.dtype)
            )
            self.rest = 0.0
        else:
            generator = torch.Generator().manual_seed(seed)
            sample = X[torch.randperm(rows, generator=generator)[: 8 * _EXACT]]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _, singular, self.leading = torch.svd_lowrank(sample, q=_SKETCH_RANK, niter=2)
            self.values = singular.double() ** 2 / len(sample)
            total = float((sample.double() ** 2).sum()) / len(sample)
            self.rest = max(total - float(self.values.sum()), 0.0) / (features - _SKETCH_RANK)
            self.X = X
        width = self.X.shape[1]
        self.mean = (float(self.values.sum()) + self.rest * (width - len(self.values))) / width

    def back(self, weights: Tensor) -> Tensor:
        """Return weights, (..., axes) in float64, for the features that X was given in."""
        turned: Tensor = weights if self.turn is None else weights @ self.turn.T
        return turned

    def solve(self, gradient: Tensor, curvature: Tensor, shift: Tensor) -> Tensor:
        """Return (curvature ⊗ G + shift)⁻¹ gradient.

        Args:
            gradient: shape (heads, classes, axes).
            curvature: shape (heads, classes), eigenvalues of S.
            shift: shape (heads, 1).
        """
        full: Tensor = 1 / (curvature.unsqueeze(-1) * self.values.to(gradient.dtype) + shift.unsqueeze(-1))
        if self.leading is None:
            solved: Tensor = gradient * full
        else:
            leading = self.leading.to(gradient.dtype)
            flat: Tensor = (1 / (curvature * self.rest + shift)).unsqueeze(-1)
            solved = gradient * flat + (gradient @ leading * (full - flat)) @ leading.T
        return solved


def _gram(X: Tensor) -> Tensor:
    """Return XᵀX in float64, over blocks of rows."""
    total = torch.zeros(X.shape[1], X.shape[1], dtype=torch.float64)
    for i in range(0, len(X), _ROWS_AT_ONCE):
        block = X[i : i + _ROWS_AT_ONCE].double()
        total.addmm_(block.T, block)
    return total


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
        gW = (residual.view(heads * self.classes, -1) @ self.X).view_as(self.W) + self.penalties.view(-1, 1, 1) * self.W
        return torch.cat([gW, residual.sum(dim=2).unsqueeze(-1)], dim=2)

    def keep(self, mask: Tensor) -> None:
        """Drop the heads that are done; the others no longer pay for them."""
        for name in ("W", "b", "Z", "P", "loss", "gradient", "penalties"):
            setattr(self, name, getattr(self, name)[mask])
        self.pairs = deque(((s[mask], y[mask], rho[mask]) for s, y, rho in self.pairs), maxlen=_HISTORY)


class _Metric:
    """The initial inverse Hessian of the heads: their class curvature beside the shared spectrum."""

    def __init__(self, heads: _Heads, axes: Axes) -> None:
        self.axes = axes
        self.curvature, self.basis = self._class_curvature(heads)
        damping = 100 * heads.X.shape[1] / heads.rows * axes.mean
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
        weights = self.axes.solve(rotated[..., :-1].contiguous(), self.curvature, self.shift)
        bias = rotated[..., -1:] / (self.curvature + self.bias_shift).unsqueeze(-1)
        return self.basis @ torch.cat([weights, bias], dim=2)


def minimise(
    X: Tensor, y: Tensor, classes: int, penalties: list[float], tolerance: float, max_passes: int, axes: Axes
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
    X: Tensor, y: Tensor, classes: int, penalties: list[float], tolerance: float, max_passes: int, axes: Axes
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
        self, X: Tensor, y: Tensor, classes: int, penalties: list[float], tolerance: float, axes: Axes
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
        heads = _Heads(
            X, self.y.view(1, 1, -1), self.classes, self.penalties[todo], (self.weights[todo], self.bias[todo])
        )
        metric = _Metric(heads, self.axes)
        slack = torch.full((len(todo),), 0.5, dtype=torch.float64)
        self.passes += 1
        for iteration in range(max_passes):
            last = self.passes >= max_passes
            stuck = torch.zeros_like(slack, dtype=torch.bool)
            if iteration and not last:
                stuck = _step(heads, metric)
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
                metric = _Metric(heads, self.axes)

    def newton(self, max_passes: int) -> None:
        """Finish the unproven heads by Newton's method with the whole Hessian, in float64."""
        for head in self.todo().tolist():
            W, b = self.weights[head], self.bias[head]
            for _ in range(40):
                W, b, gained = _newton_step(self.axes.X, self.y, W, b, float(self.penalties[head]))
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
        blocks = [self.X[i : i + _ROWS_AT_ONCE] for i in range(0, rows, _ROWS_AT_ONCE)]
        own = self.axes.back(W)
        Z = torch.cat([own @ block.double().T for block in blocks], dim=1)
        b, residue = solve_bias(Z, self.y, b)
        Z += b.unsqueeze(-1)
        objective = float((torch.logsumexp(Z, 0) - Z[self.y, each]).mean() + penalty / 2 * (own**2).sum())
        P = torch.softmax(Z, dim=0)
        P[self.y, each] -= 1
        gradient = penalty * own
        for i, block in enumerate(blocks):
            gradient += P[:, i * _ROWS_AT_ONCE : (i + 1) * _ROWS_AT_ONCE] @ block.double() / rows
        gap = float((gradient**2).sum()) / (2 * penalty) + residue
        if gap < float(self.gap[head]):
            self.weights[head], self.bias[head] = W, b
            self.objective[head], self.gap[head] = objective, gap
        return gap <= float(self.goal(torch.tensor(objective)))


def _newton_step(X: Tensor, y: Tensor, W: Tensor, b: Tensor, penalty: float) -> tuple[Tensor, Tensor, bool]:
    """Return W and b after one damped Newton step, and whether the objective fell."""
    rows, each = len(X), torch.arange(len(X))
    # The mean over the classes predicts nothing and costs penalty.
    params = torch.cat([W - W.mean(dim=0), b.unsqueeze(1)], dim=1)
    blocks = [torch.nn.functional.pad(X[i : i + 4096].double(), (0, 1), value=1.0) for i in range(0, rows, 4096)]

    def logits(parameters: Tensor) -> Tensor:
        return torch.cat([block @ parameters.T for block in blocks])

    def objective(parameters: Tensor) -> float:
        Z = logits(parameters)
        return float((torch.logsumexp(Z, 1) - Z[each, y]).mean() + penalty / 2 * (parameters[:, :-1] ** 2).sum())

    step, slope = _newton_direction(blocks, y, params, torch.softmax(logits(params), dim=1), penalty)
    now, rate = objective(params), 1.0
    while rate > 1e-6:
        moved = params - rate * step
        if objective(moved) <= now - 1e-4 * rate * slope + 1e-15:
            return moved[:, :-1], moved[:, -1] - moved[:, -1].mean(), True
        rate /= 2
    return W, b, False


def _newton_direction(
    blocks: list[Tensor], y: Tensor, params: Tensor, P: Tensor, penalty: float
) -> tuple[Tensor, float]:
    """Return the inverse Hessian's product with the gradient, shape (classes, axes + 1), and its slope.

    Args:
        blocks: the rows, each with a one at its end.
        y: shape (rows,).
        params: shape (classes, axes + 1), whose mean over the classes is 0.
        P: predicted distributions, shape (rows, classes).
        penalty: λ.
    """
    classes, size = params.shape
    # Two classes have opposite rows: half the difference of the two is all there is to solve for.
    mix = (
        torch.tensor([[-0.5], [0.5]], dtype=torch.float64) if classes == 2 else torch.eye(classes, dtype=torch.float64)
    )
    kinds = mix.shape[1]
    hessian = torch.zeros(kinds * size, kinds * size, dtype=torch.float64)
    gradient = torch.zeros(classes, size, dtype=torch.float64)
    first = 0
    for block in blocks:
        rows = torch.arange(len(block))
        part = P[first : first + len(block)]
        own = part @ mix
        scaled = (own.unsqueeze(2) * block.unsqueeze(1)).flatten(1)
        hessian.addmm_(scaled.T, scaled, alpha=-1 / len(y))
        spread = part @ mix**2
        for k in range(kinds):
            place = slice(k * size, (k + 1) * size)
            hessian[place, place].addmm_(block.T, spread[:, k : k + 1] * block, alpha=1 / len(y))
        residual = part.clone()
        residual[rows, y[first : first + len(block)]] -= 1
        gradient += residual.T @ block / len(y)
        first += len(block)
    gradient[:, :-1] += penalty * params[:, :-1]
    ridge = (mix**2).sum(dim=0).unsqueeze(1) * torch.full((kinds, size), penalty, dtype=torch.float64)
    ridge[:, -1] = 1e-12  # an equal shift of all biases changes nothing
    hessian.diagonal().add_(ridge.flatten())
    step = mix @ torch.linalg.solve(hessian, (mix.T @ gradient).flatten()).view(kinds, size)
    return step, float((gradient * step).sum())


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
