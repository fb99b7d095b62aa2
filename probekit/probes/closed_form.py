"""Ridge regression in closed form: weights of heads that ask for a number, from one Gram matrix for all of them.

    W = (XᵀX/N + λ)⁻¹ Xᵀ(y - mean y)/N

The matrix is multiplied in float32; a step or two of iterative refinement against X itself take off what that rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from probekit.probes.design import Design
    from probekit.probes.head import Head

MOST = 4096
"""Features up to which a Gram matrix is worth its arithmetic, which grows by their square."""
_ROWS_AT_ONCE = 4096
_REFINEMENTS = 4
_OF_GOAL = 1e-3
"""To which share of its goal a head's bound is brought: the goal falls with the objective, to a hundredth."""
_BYTES = 8 + 8 + 8
"""Of each value of the matrix: itself, shifted, and its factor."""


def gram_bytes(features: int) -> int:
    """Return what a Gram matrix of some features and what is made of it take."""
    return _BYTES * features**2


class ClosedForm:
    """The Gram matrix of a design, and the solutions that it gives.

    Args:
        X: shape (rows, features), centred.
    """

    def __init__(self, X: Design) -> None:
        self._X = X
        self._gram = torch.zeros(X.shape[1], X.shape[1], dtype=torch.float64)
        for _, block in self._blocks():
            self._gram += (block.T @ block).cpu()
        self._gram /= len(X)

    def put_at_optimum(self, heads: Sequence[Head]) -> None:
        """Give heads of numbers the weights of their optimum, to rounding; their bounds are not proven by that.

        A head whose penalty is so small that rounding makes the matrix indefinite stays as it is.
        """
        for penalty in sorted({head.penalty for head in heads}):
            shifted = self._gram.clone()
            shifted.diagonal().add_(penalty)
            factor, failed = torch.linalg.cholesky_ex(shifted)
            if not int(failed):
                self._solve([head for head in heads if head.penalty == penalty], factor)

    def _solve(self, heads: Sequence[Head], factor: Tensor) -> None:
        """Solve heads of one penalty, given the matrix's factor with it."""
        penalty, y = heads[0].penalty, torch.stack([head.answers.y.double() for head in heads], dim=1)
        y = y - y.mean(dim=0)
        weights = torch.zeros(self._X.shape[1], len(heads), dtype=torch.float64)
        left, passes = self._back(y), 1.0
        for _ in range(_REFINEMENTS):
            weights += torch.cholesky_solve(left, factor)
            left = self._back(y - self._logits(weights)) - penalty * weights
            passes += 1
            bounds = left.pow(2).sum(dim=0) / (2 * penalty)
            if all(bound <= _OF_GOAL * head.goal for bound, head in zip(bounds.tolist(), heads, strict=True)):
                break
        for head, own in zip(heads, weights.T, strict=True):
            head.weights = own.unsqueeze(0).clone()
            head.passes += passes

    def _logits(self, weights: Tensor) -> Tensor:
        """Return X times some columns, float64, of products in float32: weights are given to both their halves."""
        most = weights.float()
        halves = torch.cat([most, (weights - most).float()], dim=1).to(self._X.device)
        found = torch.empty(len(self._X), weights.shape[1], dtype=torch.float64)
        for here, block in self._blocks():
            both = (block @ halves).cpu().double()
            found[here] = both[:, : weights.shape[1]] + both[:, weights.shape[1] :]
        return found

    def _back(self, logits: Tensor) -> Tensor:
        """Return Xᵀ times some columns over the number of rows, float64, of products in float32."""
        found = torch.zeros(self._X.shape[1], logits.shape[1], dtype=torch.float64)
        narrow = logits.float().to(self._X.device)
        for here, block in self._blocks():
            found += (narrow[here].T @ block).T.cpu()
        return found / len(self._X)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Give the rows in order, and which they are."""
        first = 0
        for block in self._X.blocks(torch.float32, _ROWS_AT_ONCE):
            yield slice(first, first + len(block)), block
            first += len(block)
