"""How far a score could be off because only so many examples were drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.components import Array, IntArray

DRAWS = 1000
LEVEL = 0.95
_NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A range for a score.

    Args:
        low, high: its ends.
        kind: how it was made: ``percentile_bootstrap``.
        n: units that were resampled: examples, or groups of them.
        draws: how often.
        level: the share of such ranges that hold the score over all examples there could be.
        seed: of the draws.
    """

    low: float
    high: float
    kind: str
    n: int
    draws: int
    level: float
    seed: int


def r2_interval(
    predicted: Array, numbers: Array, units: IntArray, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval | None:
    """Return the percentile bootstrap interval of R², or None where there are fewer than two units.

    Whole units are drawn, with replacement, so that rows of one unit need not be independent of each other.

    Args:
        predicted: shape (rows,).
        numbers: shape (rows,).
        units: shape (rows,), the example or group of each row, any numbers.
        seed: of the draws.
        draws: how many.
        level: of the interval.
    """
    unit = np.unique(units, return_inverse=True)[1].ravel()
    count = int(unit.max(initial=-1)) + 1
    if count < 2:
        return None
    centred = numbers - numbers.mean()
    squares = (predicted.astype(np.float64) - numbers) ** 2
    parts = (np.ones(len(unit)), centred, centred**2, squares)
    sums = np.stack([np.bincount(unit, weights=part, minlength=count) for part in parts], axis=1)
    drawn = np.concatenate([times @ sums for times in _drawn_times(count, draws, seed)])
    rows, total, total_squares, wrong = drawn.T
    spread = total_squares - total**2 / rows
    # Numbers that are all alike in a draw have no R².
    kept = spread > 1e-12 * total_squares
    if not kept.any():
        return None
    found = 1 - wrong[kept] / spread[kept]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), "percentile_bootstrap", count, draws, level, seed)


def _drawn_times(count: int, draws: int, seed: int) -> Iterator[Array]:
    """Give how often each unit is in a draw, (some draws, units), float64."""
    rng = np.random.default_rng(seed)
    some = max(1, _NUMBERS_AT_ONCE // count)
    for start in range(0, draws, some):
        size = min(some, draws - start)
        picks = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(picks.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
