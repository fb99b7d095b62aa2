"""The principal axes of a feature matrix: what the heads are preconditioned with, and iterate in where they are few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probekit.probes.design import Held

if TYPE_CHECKING:
    from probekit.probes.design import Design

EXACT = 512
"""Up to so many features or rows all axes are computed, beyond it the leading ones are sketched."""
SKETCH_RANK = 256
SKETCH_ROWS = 4096
_SAMPLE_BYTES = 128 << 20
_ROWS_AT_ONCE = 4096
_ROUNDING = 1e-14
_LEAST_SHIFT = 1e-12


def sketch_rows(rows: int, features: int) -> int:
    """Return how many rows the leading axes are sketched from."""
    return min(rows, SKETCH_ROWS, max(2 * SKETCH_RANK, _SAMPLE_BYTES // (4 * features)))


class Axes:
    """X in its principal axes, as far as they can be had.

    Where features or rows are few (and the rows are held) the axes are exact, and X is turned into them. Beyond, X
    stays as it is, and the leading axes of a sample of rows are sketched (randomised Nyström approximation: Frangella,
    Tropp & Udell, SIAM J. Matrix Anal. Appl. 44, 2023, algorithm 2.1).

    Args:
        X: shape (rows, features), centred.
        negligible: axes whose eigenvalues of XᵀX/N add up to at most this are left out.
        seed: of the sketch.
    """

    def __init__(self, X: Design, negligible: float, seed: int = 0) -> None:
        rows, features = X.shape
        self.turn: Tensor | None = None
        self.leading: Tensor | None = None
        self.rest = 0.0
        self.X = X
        if min(rows, features) <= EXACT and (features <= EXACT or not X.streamed):
            self.kind = "exact"
            vectors = self._exact(X, negligible)
            if X.streamed:  # to turn every block in every pass would cost more than the pass
                self.leading = vectors
            else:
                self.turn = vectors
                self.X = _turned(X, vectors)
        else:
            self.kind = "sketch"
            self._sketch(X, seed)
        width = self.X.shape[1]
        self.mean = (float(self.values.sum()) + self.rest * (width - len(self.values))) / width
        self._as: dict[tuple[str, torch.dtype], Tensor] = {}
        self._sampled: tuple[Tensor, Tensor] | None = None

    def _exact(self, X: Design, negligible: float) -> Tensor:
        rows, features = X.shape
        wide = features > rows
        values, vectors = torch.linalg.eigh(_outer(X) if wide else _gram(X))
        values /= rows
        keep = values.clamp_min(0).cumsum(0) > negligible
        if wide:  # axes that rounding made would not be orthogonal
            keep &= values > _ROUNDING * values[-1]
        keep[-1] = True
        self.values, vectors = values[keep].clamp_min(0), vectors[:, keep]
        if not wide:
            chosen: Tensor = vectors
            return chosen
        whole: Tensor = torch.zeros(features, len(self.values), dtype=torch.float64)
        first = 0
        for block in X.blocks(torch.float32, _ROWS_AT_ONCE):
            whole.addmm_(block.cpu().double().T, vectors[first : first + len(block)])
            first += len(block)
        whole /= (rows * self.values.clamp_min(1e-300)).sqrt()
        return whole

    def _sketch(self, X: Design, seed: int) -> None:
        rows, features = X.shape
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(rows, generator=generator)[: sketch_rows(rows, features)]
        sample = X.gather(chosen.sort().values.to(X.device))
        rank = min(SKETCH_RANK, len(sample), features)
        test = torch.linalg.qr(torch.randn(features, rank, generator=generator)).Q.to(X.device)
        image = (sample.T @ (sample @ test) / len(sample)).cpu().double()
        test = test.cpu().double()
        shift = max(1e-6 * float(image.norm()), _LEAST_SHIFT)
        image += shift * test
        middle = test.T @ image
        root, failed = torch.linalg.cholesky_ex((middle + middle.T) / 2)
        while int(failed):
            shift *= 10
            root, failed = torch.linalg.cholesky_ex((middle + middle.T) / 2 + shift * torch.eye(rank).double())
        factor = torch.linalg.solve_triangular(root, image.T, upper=False)  # (rank, features): G is about its square
        squares, vectors = torch.linalg.eigh(factor @ factor.T)
        self.values = (squares - shift).clamp_min(0)
        self.leading = factor.T @ vectors / squares.clamp_min(1e-300).sqrt()
        total = float(sample.norm(dim=1).cpu().double().pow(2).sum()) / len(sample)
        self.rest = max(total - float(self.values.sum()), 0.0) / max(features - rank, 1)

    def sample(self, rows: Tensor) -> Tensor:
        """Return some rows of X in its axes, float32; they are kept, for the next time they are asked for."""
        if self._sampled is None or not torch.equal(self._sampled[0], rows):
            self._sampled = (rows, self.X.gather(rows))
        return self._sampled[1]

    def back(self, weights: Tensor) -> Tensor:
        """Return weights, (..., axes) in float64 on the CPU, for the features that X was given in."""
        turned: Tensor = weights if self.turn is None else weights @ self.turn.T
        return turned

    def condition(self, penalty: float) -> float:
        """Return the largest over the smallest eigenvalue of the Hessian's model at full curvature."""
        least = float(self.values.min()) if len(self.values) == self.X.shape[1] else self.rest
        return (float(self.values.max()) + penalty) / (least + penalty)

    def solve(self, gradient: Tensor, curvature: Tensor, shift: Tensor) -> Tensor:
        """Return (curvature ⊗ G + shift)⁻¹ gradient.

        Args:
            gradient: shape (heads, columns, axes).
            curvature: shape (heads, columns), eigenvalues of the loss's second derivative.
            shift: shape (heads, 1).
        """
        full: Tensor = 1 / (curvature.unsqueeze(-1) * self.cast("values", gradient) + shift.unsqueeze(-1))
        if self.leading is None:
            return gradient * full
        leading = self.cast("leading", gradient)
        flat: Tensor = (1 / (curvature * self.rest + shift)).unsqueeze(-1)
        return (gradient * flat).add_(((gradient @ leading).mul_(full - flat)) @ leading.T)

    def cast(self, name: str, like: Tensor) -> Tensor:
        """Return ``values`` or ``leading`` in the dtype and on the device of a tensor; it is kept for the next time."""
        key = (name, like.dtype)
        if key not in self._as:
            self._as[key] = getattr(self, name).to(dtype=like.dtype, device=like.device)
        return self._as[key]


def _gram(X: Design) -> Tensor:
    """Return XᵀX in float64; blocks are multiplied in float32, whose rounding only the preconditioner sees."""
    total: Tensor = torch.zeros(X.shape[1], X.shape[1], dtype=torch.float64)
    for block in X.blocks(torch.float32, _ROWS_AT_ONCE):
        total += (block.T @ block).cpu()
    return total


def _outer(X: Design) -> Tensor:
    """Return XXᵀ in float64, for few rows."""
    rows = torch.empty(X.shape, dtype=torch.float64)
    first = 0
    for block in X.blocks(torch.float32, _ROWS_AT_ONCE):
        rows[first : first + len(block)] = block
        first += len(block)
    outer: Tensor = rows @ rows.T
    return outer


def _turned(X: Design, vectors: Tensor) -> Held:
    """Return X vectors in float32, multiplied in float64 where that is small."""
    dtype = torch.float64 if X.numel() <= 1 << 22 and X.device.type != "mps" else torch.float32
    factor = vectors.to(dtype=dtype, device=X.device)
    turned = torch.empty(len(X), factor.shape[1], device=X.device)
    first = 0
    for block in X.blocks(torch.float32, _ROWS_AT_ONCE):
        turned[first : first + len(block)] = block.to(dtype) @ factor
        first += len(block)
    return Held(turned)
