"""Whether two probes differ on the same rows, and whether a mean is above zero."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from probekit.statistics.intervals import LEVEL, Interval, percentile_interval, wilson_bounds
from probekit.statistics.multiple import SIGNIFICANT
from probekit.statistics.resampling import drawn_columns, numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from probekit.components import Array, BoolArray

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


@dataclass(frozen=True)
class PairedDifference:
    """How much two probes differ on the same rows.

    Args:
        difference: mean of the second - mean of the first.
        interval: of the difference; None where there are fewer than two units.
        test: how ``p`` was made.
        p: two-sided: of so large a difference where there is none.
        only_first: rows on which only the first is wrong; None where a row has no one answer.
        only_second: rows on which only the second is wrong.
        n: rows.
    """

    difference: float
    interval: Interval | None
    test: Literal["mcnemar_exact", "paired_bootstrap"]
    p: float
    only_first: int | None
    only_second: int | None
    n: int


def paired_errors(
    first_wrong: BoolArray,
    second_wrong: BoolArray,
    units: Array,
    seed: int = 0,
    draws: int = TEST_DRAWS,
    level: float = LEVEL,
) -> PairedDifference:
    """Compare two errors on the same rows.

    Where each unit has one row and each row one answer: McNemar's exact test and Newcombe's interval. Else the paired
    bootstrap by unit, as :func:`paired_values`.

    Args:
        first_wrong: shape (rows,); or (rows, labels), of which the share over all answers is meant.
        second_wrong: of the same shape.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.

    Raises:
        ValueError: the shapes differ, or there are no rows.
    """
    return paired_errors_batch([(first_wrong, second_wrong)], units, seed, draws, level)[0]


def paired_errors_batch(
    pairs: Iterable[tuple[BoolArray, BoolArray]],
    units: Array,
    seed: int = 0,
    draws: int = TEST_DRAWS,
    level: float = LEVEL,
) -> list[PairedDifference]:
    """Return what :func:`paired_errors` gives for each of many pairs on the same rows, which share their draws.

    Args:
        pairs: of wrong answers, each of shape (rows,), or (rows, labels).
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.

    Raises:
        ValueError: the shapes of a pair differ, or there are no rows.
    """
    given = [_paired(*pair) for pair in pairs]
    alone = numbered(units)[1] == len(units)
    shares = ((_share(first), _share(second)) for first, second in given if first.ndim > 1 or not alone)
    drawn = iter(paired_values_batch(shares, units, seed, draws, level))
    return [
        _mcnemar(first, second, level) if alone and first.ndim == 1 else _counted(next(drawn), first, second)
        for first, second in given
    ]


def paired_values(
    first: Array, second: Array, units: Array, seed: int = 0, draws: int = TEST_DRAWS, level: float = LEVEL
) -> PairedDifference:
    """Compare the means of two numbers a row, such as squared errors, by the paired bootstrap.

    Whole units are drawn with both of their numbers. The two-sided p is twice that of :func:`one_sided`, of the side
    where it is smaller: the level at which the percentile interval begins to hold 0.

    Args:
        first: shape (rows,), finite.
        second: shape (rows,), finite.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.

    Raises:
        ValueError: the shapes differ, or there are no rows.
    """
    return paired_values_batch([(first, second)], units, seed, draws, level)[0]


def paired_values_batch(
    pairs: Iterable[tuple[Array, Array]],
    units: Array,
    seed: int = 0,
    draws: int = TEST_DRAWS,
    level: float = LEVEL,
) -> list[PairedDifference]:
    """Return what :func:`paired_values` gives for each of many pairs on the same rows, which share their draws.

    Args:
        pairs: of numbers, each of shape (rows,), finite.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.

    Raises:
        ValueError: the shapes of a pair differ, or there are no rows.
    """
    given = (_paired(*pair) for pair in pairs)
    differences = (second.astype(np.float64) - first.astype(np.float64) for first, second in given)
    return [
        PairedDifference(
            one.mean, one.interval, "paired_bootstrap", min(1.0, 2 * min(one.p_above, one.p_below)), None, None,
            len(units),
        )
        for one in _drawn_means(differences, units, seed, draws, level)
    ]  # fmt: skip


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
    return [(one.mean, one.interval, one.p_above) for one in _drawn_means(wide, units, seed, draws, level)]


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test: which of the two is wrong alone is a toss of a coin.

    The exact conditional test, two-sided by doubling (McNemar 1947, Psychometrika 12, 153; Fagerland, Lydersen and
    Laake 2013, BMC Med. Res. Methodol. 13, 91, section on the exact conditional test).

    Args:
        only_first: rows on which only the first is wrong.
        only_second: rows on which only the second is wrong.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def newcombe_bounds(both: int, only_first: int, only_second: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a paired difference of shares, the second's - the first's.

    Newcombe 1998, Statistics in Medicine 17, 2635, method 10: Wilson's intervals of both shares, put together with
    their correlation φ, which is corrected for continuity.

    Args:
        both: rows on which both are wrong.
        only_first: rows on which only the first is.
        only_second: rows on which only the second is.
        n: rows.
        level: of the interval.
    """
    neither = n - both - only_first - only_second
    first, second = both + only_first, both + only_second
    product = both * neither - only_first * only_second
    corrected = max(product - n / 2, 0.0) if product > 0 else float(product)
    # The counts may be too large for a product of four in 64 bits; integers of Python are not.
    margins = first * (n - first) * second * (n - second)
    phi = corrected / float(margins) ** 0.5 if margins else 0.0
    (low_first, high_first), (low_second, high_second) = (wilson_bounds(k, n, level) for k in (first, second))
    down, up = second / n - low_second, high_first - first / n
    low = (second - first) / n - max(0.0, down**2 - 2 * phi * down * up + up**2) ** 0.5
    down, up = first / n - low_first, high_second - second / n
    high = (second - first) / n + max(0.0, down**2 - 2 * phi * down * up + up**2) ** 0.5
    return max(-1.0, low), min(1.0, high)


def _paired(first: Array, second: Array) -> tuple[Array, Array]:
    if first.shape != second.shape or not len(first):
        raise ValueError(f"values of shape {first.shape} and {second.shape} are no pairs")
    return first, second


def _share(wrong: BoolArray) -> Array:
    return wrong if wrong.ndim == 1 else wrong.mean(axis=1)


def _mcnemar(first: BoolArray, second: BoolArray, level: float) -> PairedDifference:
    n, both = len(first), int(np.sum(first & second))
    only_first, only_second = int(first.sum()) - both, int(second.sum()) - both
    low, high = newcombe_bounds(both, only_first, only_second, n, level)
    interval = Interval(low, high, "newcombe", n, level=level)
    p = mcnemar_p(only_first, only_second)
    return PairedDifference((only_second - only_first) / n, interval, "mcnemar_exact", p, only_first, only_second, n)


def _counted(found: PairedDifference, first: BoolArray, second: BoolArray) -> PairedDifference:
    """Return the same with the rows on which only one is wrong, where a row has one answer."""
    if first.ndim > 1:
        return found
    return replace(found, only_first=int(np.sum(first & ~second)), only_second=int(np.sum(second & ~first)))


class _DrawnMean(NamedTuple):
    """A mean, its interval, and the one-sided p of its being above 0 and below 0."""

    mean: float
    interval: Interval | None
    p_above: float
    p_below: float


def _drawn_means(columns: Iterable[Array], units: Array, seed: int, draws: int, level: float) -> Iterator[_DrawnMean]:
    unit, count = numbered(units)
    least, ones, left = 0.5**count, np.ones(len(unit)), iter(columns)
    at_once = max(1, min(_TESTS_AT_ONCE, _VALUES_AT_ONCE // max(1, len(unit)), _DRAWN_AT_ONCE // draws))
    while some := list(islice(left, at_once)):
        if count < 2:
            yield from (_DrawnMean(float(values.mean()), None, 1.0, 1.0) for values in some)
            continue
        rows, *totals = drawn_columns([ones, *some], unit, draws, seed)
        for values, total in zip(some, totals, strict=True):
            interval = percentile_interval(total / rows, count, draws, level, seed)
            # A sum that is 0 but for rounding counts as 0, on both sides.
            rounding = 1e-12 * np.abs(values).sum()
            p_above = max(least, (1 + int(np.sum(total <= rounding))) / (draws + 1))
            p_below = max(least, (1 + int(np.sum(total >= -rounding))) / (draws + 1))
            yield _DrawnMean(float(values.mean()), interval, p_above, p_below)
