"""Ridge regression in closed form: weights of heads that ask for a number, from one Gram matrix for all of them.

    W = (XᵀX/N + λ)⁻¹ Xᵀ(y - mean y)/N

All of it is computed in float64: rounding in float32 would shift small eigenvalues by more than a small λ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from probekit.probes.axes import EXACT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.probes.design import Design
    from probekit.probes.head import Head
    from probekit.probes.losses import Answers

MOST = 2048
"""Features up to which a Gram matrix, whose arithmetic grows by their square, is worth the passes that it saves."""
_ROWS_AT_ONCE = 1024
_BYTES = 4 * 8
"""Of each value of the matrix: itself, λ on a diagonal, their sum, and its factor."""


def gram_bytes(features: int) -> int:
    """Return what a Gram matrix of some features and what is made of it take."""
    return _BYTES * features**2 + 3 * 8 * _ROWS_AT_ONCE * features


def gram_flops(rows: int, features: int) -> int:
    """Return the operations of a Gram matrix, as many as take its time in float32; 0 where none is made."""
    return 4 * rows * features**2 if EXACT < features <= MOST else 0


class ClosedForm:
    """The Gram matrix of a design, and what numbers have in common with it, made in one pass.

    Args:
        X: shape (rows, features), centred.
        asked: the numbers.
    """

    def __init__(self, X: Design, asked: Sequence[Answers]) -> None:
        device = X.device if X.device.type != "mps" else torch.device("cpu")  # which has no float64
        self._places = {id(one): place for place, one in enumerate(asked)}
        y = torch.stack([one.y.double() for one in asked], dim=1).to(device)
        y -= y.mean(dim=0)
        self._gram = torch.zeros(X.shape[1], X.shape[1], dtype=torch.float64, device=device)
        self._right = torch.zeros(X.shape[1], len(asked), dtype=torch.float64, device=device)
        first = 0
        for block in X.blocks(torch.float32, _ROWS_AT_ONCE):
            wide = block.to(device).double()
            self._gram.addmm_(wide.T, wide)
            self._right.addmm_(wide.T, y[first : first + len(wide)])
            first += len(wide)
        self._gram /= len(X)
        self._right /= len(X)

    def put_at_optimum(self, heads: Sequence[Head]) -> None:
        """Give heads of those numbers the weights of their optimum; their bounds are not proven by that.

        Those that are solved say so. A head whose λ is so small that the matrix is not definite stays as it is.
        """
        for penalty in sorted({head.penalty for head in heads}):
            some = [head for head in heads if head.penalty == penalty]
            factor, failed = torch.linalg.cholesky_ex(self._gram + penalty * torch.eye(len(self._gram)).to(self._gram))
            if not int(failed):
                right = self._right[:, [self._places[id(head.answers)] for head in some]]
                for head, weights in zip(some, torch.cholesky_solve(right, factor).T.cpu(), strict=True):
                    head.weights, head.solved = weights.unsqueeze(0).clone(), True
                    head.passes += 1.0
                    head.arithmetic.append("float64")
            del factor
