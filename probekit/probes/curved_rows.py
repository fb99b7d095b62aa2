"""A metric that knows the most curved rows one by one.

Where labels are read off almost without loss, nearly all curvature is that of the few rows near a boundary, and the
mean over the rows tells little of their directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probekit.probes.metric import Metric
from probekit.probes.stack import dots

if TYPE_CHECKING:
    from probekit.probes.axes import Axes
    from probekit.probes.stack import Heads

_MOST_ROWS, _SHARE_OF_ROWS = 6144, 8
_PAIRS_A_ROW = 2
MOST_COLUMNS, _MOST_HEADS = 16, 4
_SHARE_OF_CURVATURE = 0.5
_LEAST_CURVATURE = 1e-12


class CurvedRows(Metric):
    """The inverse of I ⊗ (s G + μ) + Σ a u uᵀ ⊗ x xᵀ / N of each head.

    The sum is over the largest eigenpairs (a, u) of the second derivatives of the chosen rows x; s is what the rest of
    all rows' curvature is on average, and μ is λ and the damping of s. The inverse is that of Woodbury's identity, in
    as many unknowns as there are pairs.

    Args:
        heads: at their parameters of now.
        axes: of X, sketched.
        rows: the chosen rows, rising.
    """

    too_long = False

    def __init__(self, heads: Heads, axes: Axes, rows: Tensor) -> None:
        super().__init__(heads, axes)
        self.rows = axes.X.gather(rows)
        leading = axes.cast("leading", self.rows)
        values, along = axes.cast("values", self.rows), self.rows @ leading
        plain = self.rows @ self.rows.T
        traces = heads.loss.traces(heads.Z).sum(dim=1).double()
        self.parts: list[_Pairs] = []
        for number, (logits, penalty) in enumerate(zip(heads.Z[:, :, rows], heads.penalties.tolist(), strict=True)):
            curvature, vectors = heads.loss.pairs(logits.double(), _PAIRS_A_ROW)
            curvature = curvature.clamp_min(0)
            chosen = curvature.flatten().topk(len(rows)).indices.sort().values
            place, which = chosen // curvature.shape[1], chosen % curvature.shape[1]
            size, vector = curvature.flatten()[chosen], vectors[place, :, which]
            rest = max(float(traces[number] - size.sum()) / heads.rows / max(1, heads.columns - 1), _LEAST_CURVATURE)
            level = float(self.curvature[number].mean())
            shift = penalty + (float(self.shift[number]) - penalty) * rest / max(level, _LEAST_CURVATURE)
            flat = 1 / (rest * axes.rest + shift)
            steep = 1 / (rest * values + shift) - flat
            weighted = (vector * (size / heads.rows).sqrt().unsqueeze(1)).to(self.rows)
            inner = torch.addmm(plain, along * steep, along.T, beta=flat)
            if bool((place[1:] == place[:-1]).any()):  # else each row has one pair
                inner = inner[place][:, place]
            inner.mul_(weighted @ weighted.T).diagonal().add_(1)
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(inner))
            self.parts.append(_Pairs(place, weighted, inverse, flat, steep))
        self._leading = leading

    def keep(self, mask: Tensor) -> None:
        """Drop the heads that are done."""
        super().keep(mask)
        self.parts = [part for part, there in zip(self.parts, mask.tolist(), strict=True) if there]

    def squared_norm(self, gradient: Tensor) -> Tensor:
        """Return the inner product of a gradient and its product, shape (heads,)."""
        return dots(gradient, self(gradient))

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the product with a gradient, shape (heads, columns, axes + 1)."""
        product = torch.empty_like(gradient)
        product[..., -1] = self.of_biases(gradient[..., -1])
        for number, part in enumerate(self.parts):
            first = self._without(gradient[number, :, :-1].to(self.rows), part)
            told = ((self.rows @ first.T)[part.place] * part.vectors).sum(dim=1, keepdim=True)
            share = part.inverse @ told
            back = torch.zeros(len(self.rows), gradient.shape[1], dtype=self.rows.dtype, device=self.rows.device)
            added = share * part.vectors
            for some in part.apart:
                back.index_add_(0, part.place[some], added[some])
            product[number, :, :-1] = first - self._without(back.T @ self.rows, part)
        return product

    def _without(self, gradient: Tensor, part: _Pairs) -> Tensor:
        """Return the product with (s G + μ)⁻¹, shape (columns, axes)."""
        return torch.addmm(gradient, (gradient @ self._leading) * (part.steep / part.flat), self._leading.T) * part.flat


class _Pairs:
    """What is kept of one head.

    Args:
        place: of each pair's row among the chosen ones.
        vectors: of each pair, times the root of its share of the mean curvature, shape (pairs, columns).
        inverse: of 1 + Vᵀ (s G + μ)⁻¹ V for pairs V.
        flat: (s G + μ)⁻¹ beyond the leading axes.
        steep: by how much it differs along each of them.
    """

    def __init__(self, place: Tensor, vectors: Tensor, inverse: Tensor, flat: float, steep: Tensor) -> None:
        self.place, self.vectors, self.inverse, self.flat, self.steep = place, vectors, inverse, flat, steep
        rank = torch.arange(len(place), device=place.device) - torch.searchsorted(place, place)
        # No row twice in one addition: on a GPU the order of its terms would be left to chance.
        self.apart = [torch.nonzero(rank == one).flatten() for one in range(_PAIRS_A_ROW)]


def may_know_rows(heads: Heads, axes: Axes) -> bool:
    """Return whether heads are few and narrow enough for it, and axes are sketched, as of very many features."""
    return (
        axes.kind == "sketch"
        and not heads.loss.exact_curvature
        and len(heads) <= _MOST_HEADS
        and heads.columns <= MOST_COLUMNS
        and axes.X.device.type != "mps"  # which has no float64
    )


def known_rows(rows: int, spare: int | None, features: int) -> int:
    """Return how many rows may be known one by one.

    Args:
        rows: of X.
        spare: bytes that are left for it; None: no bound.
        features: of a row.
    """
    count = min(_MOST_ROWS, rows // _SHARE_OF_ROWS)
    while spare is not None and count and known_bytes(count, features) > spare:
        count //= 2
    return count


def known_bytes(count: int, features: int) -> int:
    """Return what so many rows take, with the products of each two of them, of several heads."""
    return 4 * count * features + 4 * (_MOST_HEADS + 3) * count**2


def most_curved(heads: Heads, count: int) -> Tensor | None:
    """Return the rows that hold most of the curvature of each head; None where no so few rows do.

    Args:
        heads: at their parameters of now.
        count: of rows.
    """
    traces = heads.loss.traces(heads.Z)
    shares = traces / traces.sum(dim=1, keepdim=True).clamp_min(_LEAST_CURVATURE)
    if count < 1 or bool((shares.topk(count, dim=1).values.sum(dim=1) < _SHARE_OF_CURVATURE).any()):
        return None
    return shares.amax(dim=0).topk(count).indices.sort().values
