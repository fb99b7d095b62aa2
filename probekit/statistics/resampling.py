"""Drawing whole units anew, with replacement: sums over rows under the bootstrap."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from probekit.components import Array, IntArray

BLOCKS = 1000
"""The most that is drawn from: more units are put together at random into so many blocks first."""

_NUMBERS_AT_ONCE = 1 << 16
"""In float64, so that they stay in a processor's cache."""
_NUMBERS_KEPT = 10_000_000


def numbered(units: Array) -> tuple[IntArray, int]:
    """Return each row's unit as a number from 0 on, shape (rows,), and how many units there are."""
    names, unit = np.unique(units, return_inverse=True)
    return unit.ravel(), len(names)


def drawn_sums(cells: IntArray, unit: IntArray, weights: Array, size: int, draws: int, seed: int) -> Iterator[Array]:
    """Give what sums over rows become when whole units are drawn, as many as there are.

    Entry e adds ``weights[e]`` to the sum ``cells[e]`` each time that its unit is drawn. More than :data:`BLOCKS` units
    are put at random into so many blocks of as many units, and blocks are drawn. A block's sums are as independent as a
    unit's, and a spread that is estimated from k of them deviates by 1 / √(2 k) of itself, 2 % (the random groups of
    Wolter 2007, Introduction to Variance Estimation, chapter 2).

    Args:
        cells: shape (entries,), from 0 to size - 1.
        unit: shape (entries,), every number from 0 to units - 1.
        weights: shape (entries,).
        size: how many sums.
        draws: how many.
        seed: of the draws; the same seed draws the same from as many units.

    Yields:
        float64, shape (size, some of the draws), all draws in order.
    """
    from scipy.sparse import csr_array

    unit, count = _blocks(unit, seed)
    table = csr_array((weights.astype(np.float64), (cells, unit)), shape=(size, count))
    for times in _drawn_pieces(count, draws, seed, max(1, _NUMBERS_AT_ONCE // max(size, count))):
        yield table @ times


def drawn_columns(columns: Iterable[Array], unit: IntArray, draws: int, seed: int) -> Array:
    """Return the sums over rows of several values a row, in every draw: one matrix product for all of them.

    A column's sums by unit are rounded to multiples of a power of 2 so large that every sum of a draw is exact in
    float64, each by at most 2⁻⁵² of the largest sum that a draw of this column could have. So what is drawn depends
    neither on the order of adding nor on which other columns are there.

    Args:
        columns: each of shape (rows,), finite.
        unit: shape (rows,), every number from 0 to units - 1; draws are as in :func:`drawn_sums`.
        draws: how many.
        seed: of the draws.

    Returns:
        shape (columns, draws).
    """
    unit, count = _blocks(unit, seed)
    sums = [_exact(np.bincount(unit, weights=column, minlength=count)) for column in columns]
    table, drawn, start = np.array(sums).reshape(-1, count), np.empty((len(sums), draws)), 0
    for times in _drawn_pieces(count, draws, seed, max(1, _NUMBERS_AT_ONCE // count)):
        stop = start + times.shape[1]
        np.matmul(table, times, out=drawn[:, start:stop])
        start = stop
    return drawn


def _exact(sums: Array) -> Array:
    """Round sums by unit so that as many of them as there are units add up exactly, whichever are drawn."""
    exponent = int(np.frexp(len(sums) * np.abs(sums).max())[1])
    return np.asarray(np.ldexp(np.rint(np.ldexp(sums, 52 - exponent)), exponent - 52))


def _blocks(unit: IntArray, seed: int) -> tuple[IntArray, int]:
    """Return what each row is drawn with, a unit or a block of them, and how many of these there are."""
    count = int(unit.max()) + 1
    if count <= BLOCKS:
        return unit, count
    return (np.random.default_rng([seed, count]).permutation(count) % BLOCKS)[unit], BLOCKS


def _drawn_pieces(count: int, draws: int, seed: int, at_once: int) -> Iterator[Array]:
    """Give how often each unit is in a draw, float64, (units, some of the draws)."""
    for times in _drawn_times(count, draws, seed):
        for start in range(0, times.shape[1], at_once):
            yield times[:, start : start + at_once].astype(np.float64, order="C")


def _drawn_times(count: int, draws: int, seed: int) -> Iterator[Array]:
    """Give how often each unit is in a draw, uint8, (units, some of the draws)."""
    if count * draws <= _NUMBERS_KEPT:
        yield _kept_times(count, draws, seed)
    else:
        yield from _fresh_times(count, draws, seed)


@functools.lru_cache(maxsize=4)
def _kept_times(count: int, draws: int, seed: int) -> Array:
    """Return all of them; the probes of a run are scored on the same rows."""
    return np.concatenate(list(_fresh_times(count, draws, seed)), axis=1)


def _fresh_times(count: int, draws: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    some = max(1, _NUMBERS_AT_ONCE // count)
    for start in range(0, draws, some):
        size = min(some, draws - start)
        picks = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(picks.ravel(), minlength=size * count).reshape(size, count)
        # No unit is ever drawn 256 times: of so many or more, that has a probability below 1e-500.
        yield np.ascontiguousarray(times.T, dtype=np.uint8)
