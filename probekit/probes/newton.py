"""Newton's method for one head, with its whole Hessian, in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probekit.probes.losses import SOFTMAX, OfColumns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.probes.design import Design
    from probekit.probes.losses import Answers, Loss

_ROWS_AT_ONCE = 4096
_SHORTEST = 1e-6
_FEW_UNKNOWNS, _FEW_FLOPS = 704, 6e9


def newton_step(X: Design, answers: Answers, W: Tensor, b: Tensor, penalty: float) -> tuple[Tensor, Tensor, bool]:
    """Return W and b after one damped Newton step, and whether the objective fell.

    Args:
        X: shape (rows, axes).
        answers: what is asked of each row.
        W: shape (columns, axes), float64.
        b: shape (columns,), float64.
        penalty: λ.
    """
    loss, y = answers.loss, answers.loss.shaped(answers.y)
    # The mean over the classes predicts nothing and costs penalty.
    own = W - W.mean(dim=0) if loss is SOFTMAX else W
    params = torch.cat([own, b.unsqueeze(1)], dim=1)

    def objective(parameters: Tensor) -> float:
        total, first = 0.0, 0
        for block in _blocks(X):
            here = slice(first, first + len(block))
            total += float(loss.values((parameters @ block.T).unsqueeze(0), y[..., here]).sum())
            first += len(block)
        return total / len(X) + penalty / 2 * float(parameters[:, :-1].pow(2).sum())

    step, slope = newton_direction(X, answers, params, penalty)
    now, rate = objective(params), 1.0
    while rate > _SHORTEST:
        moved = params - rate * step
        if objective(moved) <= now - 1e-4 * rate * slope + 1e-15:
            shift = moved[:, -1].mean() if loss is SOFTMAX else 0.0
            return moved[:, :-1], moved[:, -1] - shift, True
        rate /= 2
    return W, b, False


def _blocks(X: Design) -> Iterator[Tensor]:
    """Give the rows in float64, each with a one at its end."""
    for block in X.blocks(torch.float64, _ROWS_AT_ONCE):
        yield torch.nn.functional.pad(block, (0, 1), value=1.0)


def newton_direction(X: Design, answers: Answers, params: Tensor, penalty: float) -> tuple[Tensor, float]:
    """Return the inverse Hessian's product with the gradient, shape (columns, axes + 1), and its slope.

    Args:
        X: shape (rows, axes).
        answers: what is asked of each row.
        params: W with b as its last column, shape (columns, axes + 1), float64.
        penalty: λ.
    """
    columns, size = params.shape
    y = answers.loss.shaped(answers.y)
    hessian = torch.zeros(columns * size, columns * size, dtype=torch.float64)
    gradient = torch.zeros(columns, size, dtype=torch.float64)
    first = 0
    for block in _blocks(X):
        Z = params @ block.T
        add_curvature(hessian, answers.loss, Z, block, 1 / len(X))
        answers.loss.residual(Z.unsqueeze(0), y[..., first : first + len(block)])
        gradient += Z @ block / len(X)
        first += len(block)
    gradient[:, :-1] += penalty * params[:, :-1]
    ridge = torch.full((columns, size), penalty, dtype=torch.float64)
    ridge[:, -1] = 1e-12  # an equal shift of all biases of a softmax changes nothing
    hessian.diagonal().add_(ridge.flatten())
    step = torch.linalg.solve(hessian, gradient.flatten()).view(columns, size)
    return step, float((gradient * step).sum())


def add_curvature(matrix: Tensor, loss: Loss, Z: Tensor, ones: Tensor, share: float) -> None:
    """Add a share of the sum over some rows of the second derivative of a loss in W and b, in place.

    Args:
        matrix: shape (columns · size, the same), column by column.
        loss: of the rows.
        Z: logits, shape (columns, rows).
        ones: the rows, each with a one at its end, shape (rows, size).
        share: of the sum.
    """
    size = ones.shape[1]
    if isinstance(loss, OfColumns):
        second = loss.second(Z).T
    else:
        second = torch.softmax(Z, dim=0).T
        scaled = (second.unsqueeze(2) * ones.unsqueeze(1)).flatten(1)
        matrix.addmm_(scaled.T, scaled, alpha=-share)
    for column in range(len(Z)):
        place = slice(column * size, (column + 1) * size)
        matrix[place, place].addmm_(ones.T, second[:, column : column + 1] * ones, alpha=share)


def is_newton_small(X: Design, answers: Answers) -> bool:
    """Return whether a head is finished faster by Newton's method than by ever more passes."""
    if X.device.type != "cpu":
        return False
    return _unknowns(X, answers) <= _FEW_UNKNOWNS or newton_flops(X, answers) <= _FEW_FLOPS


def newton_flops(X: Design, answers: Answers) -> float:
    """Return the operations of one Newton step; infinite where it is not made, off the CPU."""
    if X.device.type != "cpu":
        return math.inf
    unknowns = _unknowns(X, answers)
    return 2.0 * len(X) * unknowns**2 + unknowns**3


def _unknowns(X: Design, answers: Answers) -> int:
    return answers.columns * (X.shape[1] + 1)
