"""Whether two probes differ on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from probekit.statistics.intervals import LEVEL, Interval, wilson_bounds
from probekit.statistics.means import TEST_DRAWS, drawn_means
from probekit.statistics.resampling import numbered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from probekit.components import Array, BoolArray


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

    Whole units are drawn with both of their numbers. The two-sided p is twice that of
    :func:`probekit.statistics.means.one_sided`, of the side where it is smaller: the level at which the percentile
    interval begins to hold 0.

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
        for one in drawn_means(differences, units, seed, draws, level)
    ]  # fmt: skip


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
