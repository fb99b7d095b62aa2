"""Newton's method for one softmax regression, with the whole Hessian, in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from probekit.probes.design import Design

_ROWS_AT_ONCE = 4096


def newton_step(X: Design, y: Tensor, W: Tensor, b: Tensor, penalty: float) -> tuple[Tensor, Tensor, bool]:
    """Return W and b after one damped Newton step, and whether the objective fell."""
    each = torch.arange(len(X))
    # The mean over the classes predicts nothing and costs penalty.
    params = torch.cat([W - W.mean(dim=0), b.unsqueeze(1)], dim=1)

    def blocks() -> Iterator[Tensor]:
        for part in X.blocks():
            for i in range(0, len(part), _ROWS_AT_ONCE):
                yield torch.nn.functional.pad(part[i : i + _ROWS_AT_ONCE].double(), (0, 1), value=1.0)

    def logits(parameters: Tensor) -> Tensor:
        return torch.cat([block @ parameters.T for block in blocks()])

    def objective(parameters: Tensor) -> float:
        Z = logits(parameters)
        return float((torch.logsumexp(Z, 1) - Z[each, y]).mean() + penalty / 2 * (parameters[:, :-1] ** 2).sum())

    step, slope = _direction(blocks(), y, params, torch.softmax(logits(params), dim=1), penalty)
    now, rate = objective(params), 1.0
    while rate > 1e-6:
        moved = params - rate * step
        if objective(moved) <= now - 1e-4 * rate * slope + 1e-15:
            return moved[:, :-1], moved[:, -1] - moved[:, -1].mean(), True
        rate /= 2
    return W, b, False


def _direction(blocks: Iterable[Tensor], y: Tensor, params: Tensor, P: Tensor, penalty: float) -> tuple[Tensor, float]:
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
