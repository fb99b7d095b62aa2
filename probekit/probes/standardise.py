"""Features centred and scaled by their training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.zero_copy import tensor_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from probekit.components import FeatureMatrix, FloatArray, IntArray

ROWS_AT_ONCE = 1 << 14
BLOCK_BYTES = 32 << 20
_SHIFT_ROWS = 256
_CACHED_VALUES = 1 << 18
_SMALLEST_SCALE = 1e-12
_LARGEST_MEAN, _LARGEST_OF_ONE = 32.0, 256.0
"""In deviations, as a root of the mean square over the features, and of each."""
_FINEST_SQUARE = 1e-30
"""Smaller ones lose digits in float32."""


def rows_at_once(features: FeatureMatrix) -> int:
    """Return how many rows are read at a time: fewer where they are wide."""
    return block_rows(features.shape[1])


def block_rows(width: int, most: int = BLOCK_BYTES) -> int:
    """Return how many rows of a width take so many bytes in float32: 256 at least, ``ROWS_AT_ONCE`` at most."""
    return max(256, min(ROWS_AT_ONCE, most // (4 * width)))


class Standardiser:
    """Centres and scales features by their training rows; a constant feature becomes 0.

    Args:
        features: shape (rows, features).
        train: rows that mean and deviation come from.
    """

    def __init__(self, features: FeatureMatrix, train: IntArray) -> None:
        # Sums of squares lose nothing where they are taken about a point near the mean.
        some = features.read(train[:: -(-len(train) // _SHIFT_ROWS)])
        self._shift = some.mean(axis=0, dtype=np.float64).astype(np.float32)
        offset, squares = self._moments(features, train, np.dtype(np.float32))
        overflowed = not np.isfinite(squares).all()
        self._dtype: np.dtype[Any] = np.dtype(np.float64 if overflowed else np.float32)
        varies = (offset != 0) | (some != some[:1]).any(axis=0)
        if overflowed or ((squares < _FINEST_SQUARE) & varies).any():
            offset, squares = self._moments(features, train, np.dtype(np.float64))
        self.mean = self._shift.astype(np.float64) + offset
        deviation = np.sqrt(np.maximum(squares - offset**2, 0))
        # Below float32's resolution of the mean, what varies is rounding.
        varies &= deviation > 1e-6 * np.abs(self.mean)
        self.scale = np.where(varies & (deviation > 1e-37), deviation, np.inf)
        self._steps = [step.astype(self._dtype) for step in (self._shift, offset, 1 / self.scale)]

    def _moments(
        self, features: FeatureMatrix, train: IntArray, dtype: np.dtype[Any]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the mean and the mean square about the shift, shape (features,) each; blocks are summed in a dtype."""
        width = features.shape[1]
        total, squares = np.zeros(width), np.zeros(width)
        at_once = max(64, min(rows_at_once(features), _CACHED_VALUES // width))
        with np.errstate(over="ignore"):
            for i in range(0, len(train), at_once):
                part = features.read(train[i : i + at_once]).astype(dtype) - self._shift
                total += part.sum(axis=0)
                np.multiply(part, part, out=part)
                squares += part.sum(axis=0)
        return total / len(train), squares / len(train)

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return standardised float32 of the same shape; ``rows`` stay as they are."""
        import torch  # takes seconds; how many rows are read at a time can be told without it

        standard = np.empty(rows.shape, np.float32)
        given, out = tensor_of(np.ascontiguousarray(rows)), torch.from_numpy(standard)
        shift, offset, factor = map(torch.from_numpy, self._steps)
        piece = max(1, _CACHED_VALUES // max(1, rows.shape[1]))
        for start in range(0, len(rows), piece):
            here = slice(start, start + piece)
            # Two differences in float32 are exact where one, of a large mean, would not be.
            out[here] = torch.sub(given[here].to(shift.dtype), shift).sub_(offset).mul_(factor)
        return standard

    @property
    def is_mild(self) -> bool:
        """Whether standardising can be left to the weights in float32, without many digits lost.

        The logits of features as they are carry the rounding of their means, which cancel.
        """
        used = np.isfinite(self.scale)
        scale, far = self.scale[used], np.abs(self.mean[used]) / self.scale[used]
        return bool(
            self._dtype == np.float32
            and ((scale > _SMALLEST_SCALE) & (scale < 1 / _SMALLEST_SCALE) & (far <= _LARGEST_OF_ONE)).all()
            and (np.abs(self.mean[~used]) <= _LARGEST_MEAN).all()
            and np.sum(far**2) <= _LARGEST_MEAN**2 * len(far)
        )

    def fold(
        self, weights: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return W and b for the features' own units."""
        own = weights / self.scale
        return own, bias - own @ self.mean
