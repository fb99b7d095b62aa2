"""The principal axes of a feature matrix: the coordinates that a fit iterates in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from probekit.probes.design import Design

EXACT = 1024
"""Up to so many features or rows the axes are computed, beyond it they are sketched."""
SKETCH_RANK = 256


class Axes:
    """X in its principal axes, as far as they can be had: the coordinates that the heads iterate in.

    Up to 1,024 features or rows the axes are exact, and X is turned into them. Beyond, X stays as it is, and the 256
    leading axes of a sample of rows are sketched for the preconditioner.

    Args:
        X: shape (rows, features), centred.
        negligible: axes whose eigenvalues of XᵀX/N add up to at most this are left out.
        seed: of the sketch.
    """

    def __init__(self, X: Design, negligible: float, seed: int = 0) -> None:
        rows, features = X.shape
        self.turn: Tensor | None = None
        self.leading: Tensor | None = None
        if min(rows, features) <= EXACT:
            wide = features > rows
            values, vectors = torch.linalg.eigh((_outer(X) if wide else _gram(X)) / rows)
            keep = values.clamp_min(0).cumsum(0) > negligible
            keep[-1] = True
            self.values, vectors = values[keep].clamp_min(0), vectors[:, keep]
            if wide:
                whole = torch.zeros(features, len(self.values), dtype=torch.float64)
                first = 0
                for block in X.blocks():
                    whole.addmm_(block.T.double(), vectors[first : first + len(block)])
                    first += len(block)
                vectors = whole / (rows * self.values.clamp_min(1e-300)).sqrt()
            self.turn = vectors
            self.X = X.turned(vectors)
            self.rest = 0.0
        else:
            generator = torch.Generator().manual_seed(seed)
            sample = X.sample(8 * EXACT, generator)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _, singular, self.leading = torch.svd_lowrank(sample, q=SKETCH_RANK, niter=2)
            self.values = singular.double() ** 2 / len(sample)
            total = float((sample.double() ** 2).sum()) / len(sample)
            self.rest = max(total - float(self.values.sum()), 0.0) / (features - SKETCH_RANK)
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


def _gram(X: Design) -> Tensor:
    """Return XᵀX in float64."""
    total = torch.zeros(X.shape[1], X.shape[1], dtype=torch.float64)
    for block in X.blocks():
        wide = block.double()
        total.addmm_(wide.T, wide)
    return total


def _outer(X: Design) -> Tensor:
    """Return XXᵀ in float64, for few rows."""
    rows = torch.cat([block.double() for block in X.blocks()])
    return rows @ rows.T
