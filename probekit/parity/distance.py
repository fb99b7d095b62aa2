"""How far two feature matrices are apart, from their batches: nothing but sums and a sample is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from probekit.components import Array

MOST_SAMPLED = 1 << 20
"""Differences of one tap that are kept for the median: all of them, or those of features that are drawn at random."""


@dataclass(frozen=True)
class Distance:
    """How far one feature matrix is from the one that it is compared with.

    Args:
        scale: the root mean square of the reference's finite entries.
        largest: the largest absolute difference ÷ scale; 0 where all entries are equal, infinite where one side is NaN
            or infinite and the other is not the same, or where the scale is 0 and there is a difference.
        median: the median absolute difference ÷ scale, likewise.
        cosine: of both matrices' finite entries, each taken as one vector; 1 where both are zero, NaN where one is.
        place: row and column of the largest difference; None where there is none.
    """

    scale: float
    largest: float
    median: float
    cosine: float
    place: tuple[int, int] | None


class DistanceMeter:
    """Takes the batches of a reference matrix and of another one.

    The scale is that of the whole tap: were each difference a share of its own entry, an entry near zero would make a
    rounding error look large.

    Args:
        rows: of the whole matrices, at most.
        width: their columns.
        seed: of the draw of the columns that the median is taken over, where the entries are more than
            :data:`MOST_SAMPLED`.
    """

    def __init__(self, rows: int, width: int, seed: int = 0) -> None:
        most = max(MOST_SAMPLED // max(rows, 1), 1)
        drawn = np.random.default_rng(seed).permutation(width)[:most] if width > most else np.arange(width)
        self._columns = np.sort(drawn)
        self._kept: list[npt.NDArray[np.float32]] = []
        self._finite = self._rows = 0
        self._squares, self._other_squares, self._products = 0.0, 0.0, 0.0
        self._largest, self._place = 0.0, None

    _place: tuple[int, int] | None

    def add(self, reference: Array, other: Array) -> None:
        """Take a batch: two arrays of one shape, (rows, columns)."""
        a, b = np.asarray(reference, np.float64), np.asarray(other, np.float64)
        finite = np.isfinite(a) & np.isfinite(b)
        equal = (a == b) | (np.isnan(a) & np.isnan(b))
        one, two = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
        apart = np.where(finite, np.abs(two - one), np.where(equal, 0.0, np.inf))
        if apart.size and (largest := float(apart.max())) > self._largest:
            row, column = np.unravel_index(int(apart.argmax()), apart.shape)
            self._largest, self._place = largest, (self._rows + int(row), int(column))
        self._kept.append(apart[:, self._columns].astype(np.float32))
        self._squares += float(np.vdot(one, one))
        self._other_squares += float(np.vdot(two, two))
        self._products += float(np.vdot(one, two))
        self._finite += int(finite.sum())
        self._rows += len(a)

    @property
    def rows(self) -> int:
        """Rows that were taken so far."""
        return self._rows

    def distance(self) -> Distance:
        """Return how far all batches so far are apart."""
        scale = math.sqrt(self._squares / self._finite) if self._finite else 0.0
        kept = np.concatenate(self._kept) if self._kept else np.zeros((0, 0), np.float32)
        median = float(np.median(kept)) if kept.size else 0.0
        norms = math.sqrt(self._squares * self._other_squares)
        if norms:
            cosine = min(max(self._products / norms, -1.0), 1.0)
        else:
            cosine = 1.0 if self._squares == self._other_squares else math.nan
        return Distance(scale, _share(self._largest, scale), _share(median, scale), cosine, self._place)


def _share(difference: float, scale: float) -> float:
    if difference == 0:
        return 0.0
    return difference / scale if scale else math.inf
