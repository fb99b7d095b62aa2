"""Whether means over rows are above 0, by the bootstrap."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from probekit.statistics.intervals import LEVEL, Interval, percentile_interval
from probekit.statistics.multiple import SIGNIFICANT
from probekit.statistics.resampling import drawn_columns, numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from probekit.components import Array

TEST_DRAWS = 10_000
"""Of a bootstrap that gives a p, unless there are more tests than these can tell: see :func:`enough_draws`."""

_TESTS_AT_ONCE, _VALUES_AT_ONCE, _DRAWN_AT_ONCE = 256, 1 << 22, 1 << 24
"""The most tests that share one matrix product, and the most values and drawn sums that are held for it."""


def enough_draws(tests: int, sides: Literal[1, 2] = 2) -> int:
    """Return how many draws let Holm's method tell any of so many tests: at least :data:`TEST_DRAWS`.

    The smallest p of n draws is sides ÷ (n + 1). Times the number of tests it stays below half of
    :data:`~probekit.statistics.multiple.SIGNIFICANT`.

    Args:
        tests: of one family.
        sides: of p.

    >>> enough_draws(60), enough_draws(1000), enough_draws(1000, sides=1)
    (10000, 80000, 40000)
    """
    return max(TEST_DRAWS, math.ceil(2 * sides * tests / SIGNIFICANT))


def one_sided(
    values: Array, units: Array, seed: int = 0, draws: int = TEST_DRAWS, level: float = LEVEL
) -> tuple[float, Interval | None, float]:
    """Tell whether a mean over rows is above 0, by the bootstrap.

    p is (1 + draws with a mean of 0 or less) ÷ (1 + draws) (Davison and Hinkley 1997, equation 4.11), and never less
    than the smallest of a sign test, 2 to the power of minus the number of units: a few units cannot be surer.

    Args:
        values: shape (rows,), at least one, finite.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.

    Returns:
        the mean, its two-sided percentile interval, and p. With fewer than two units there is no interval and p is 1.
    """
    return one_sided_batch([values], units, seed, draws, level)[0]


def one_sided_batch(
    columns: Iterable[Array], units: Array, seed: int = 0, draws: int = TEST_DRAWS, level: float = LEVEL
) -> list[tuple[float, Interval | None, float]]:
    """Return what :func:`one_sided` gives for each of many means over the same rows, which share their draws.

    Args:
        columns: each of shape (rows,), at least one, finite.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the intervals.
    """
    wide = (values.astype(np.float64) for values in columns)
    return [(one.mean, one.interval, one.p_above) for one in drawn_means(wide, units, seed, draws, level)]


class DrawnMean(NamedTuple):
    """A mean, its interval, and the one-sided p of its being above 0 and below 0."""

    mean: float
    interval: Interval | None
    p_above: float
    p_below: float


def drawn_means(columns: Iterable[Array], units: Array, seed: int, draws: int, level: float) -> Iterator[DrawnMean]:
    """Give the mean of each column of values, which share their draws; see :func:`one_sided`.

    Args:
        columns: each of shape (rows,), float64, finite.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the intervals.
    """
    unit, count = numbered(units)
    least, ones, left = 0.5**count, np.ones(len(unit)), iter(columns)
    at_once = max(1, min(_TESTS_AT_ONCE, _VALUES_AT_ONCE // max(1, len(unit)), _DRAWN_AT_ONCE // draws))
    while some := list(islice(left, at_once)):
        if count < 2:
            yield from (DrawnMean(float(values.mean()), None, 1.0, 1.0) for values in some)
            continue
        rows, *totals = drawn_columns([ones, *some], unit, draws, seed)
        for values, total in zip(some, totals, strict=True):
            interval = percentile_interval(total / rows, count, draws, level, seed)
            # A sum that is 0 but for rounding counts as 0, on both sides.
            rounding = 1e-12 * np.abs(values).sum()
            p_above = max(least, (1 + int(np.sum(total <= rounding))) / (draws + 1))
            p_below = max(least, (1 + int(np.sum(total >= -rounding))) / (draws + 1))
            yield DrawnMean(float(values.mean()), interval, p_above, p_below)
