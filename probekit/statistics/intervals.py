"""How far a score could be off because only so many examples were drawn."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from probekit.statistics.resampling import drawn_columns, drawn_sums, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from probekit.components import Array, BoolArray, IntArray

DRAWS = 1000
LEVEL = 0.95
_RUNS = 500


@dataclass(frozen=True)
class Interval:
    """A range for a score.

    Args:
        low, high: its ends.
        kind: how it was made: ``wilson``, ``newcombe`` (of a paired difference) or ``percentile_bootstrap``.
        n: independent units: examples, or groups of them.
        draws: of a bootstrap: how often units were drawn.
        level: the share of such ranges that hold the score over all examples there could be.
        seed: of the draws.
    """

    low: float
    high: float
    kind: str
    n: int
    draws: int | None = None
    level: float = LEVEL
    seed: int | None = None


def wilson_bounds(count: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209).

    Args:
        count: of n independent rows, those that are counted.
        n: rows, at least one.
        level: of the interval.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = count / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = 0.0 if count == 0 else max(0.0, float(centre - half))
    high = 1.0 if count == n else min(1.0, float(centre + half))
    return low, high


def share_interval(
    wrong: BoolArray, units: Array, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval | None:
    """Return the interval of a share, such as an error, or None where it cannot be told.

    Wilson's where each unit has one row and each row one answer. Else whole units are drawn; where all answers are
    wrong or all are right, such draws know no spread, and it is Wilson's of as many answers as there are units.

    Args:
        wrong: shape (rows,); or (rows, labels), of which the share over all answers is meant.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.
    """
    unit, count = numbered(units)
    alone = wrong.ndim == 1 and count == len(wrong)
    if count < (1 if alone else 2):
        return None
    if alone or not wrong.any() or wrong.all():
        share = float(wrong.mean())
        low, high = wilson_bounds(round(share * count), count, level)
        return Interval(low, high, "wilson", count, level=level)
    return mean_interval(wrong if wrong.ndim == 1 else wrong.mean(axis=1), unit, seed, draws, level)


def mean_interval(
    values: Array, units: Array, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval | None:
    """Return the percentile bootstrap interval of a mean over rows, or None where there are fewer than two units.

    Whole units are drawn, with replacement, so that rows of one unit need not be independent of each other (Davison
    and Hinkley 1997, Bootstrap Methods and their Application, sections 3.8 and 5.3).

    Args:
        values: shape (rows,).
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.
    """
    columns = np.stack([np.ones(len(values)), values])
    return _drawn_interval(columns, lambda sums: sums[1] / sums[0], units, seed, draws, level)


def balanced_error_interval(
    predicted: IntArray, codes: IntArray, units: Array, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval | None:
    """Return the percentile bootstrap interval of the mean of the classes' error rates.

    In each draw the mean is over the classes that are in it.

    Args:
        predicted: shape (rows,), classes; or (rows, labels), 1 or 0: then of the mean over the labels.
        codes: of the same shape, the true ones.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.

    Returns:
        None where there are fewer than two units, and where every draw gives the same, as with no error at all: that is
        no measure of how sure it is.
    """
    unit, count = numbered(units)
    if count < 2:
        return None
    labels = codes.reshape(len(codes), -1).shape[1]
    classes, code = np.unique(codes, return_inverse=True)
    size = labels * len(classes)
    # Cells: of each label, of each class, its rows; then in the same order its wrong rows.
    cells = (code.reshape(len(codes), labels) + np.arange(labels) * len(classes)).ravel()
    owner = np.repeat(unit, labels)
    wrong = np.flatnonzero((predicted != codes).ravel())
    entries = np.concatenate([cells, size + cells[wrong]]), np.concatenate([owner, owner[wrong]])
    found = []
    for sums in drawn_sums(*entries, np.ones(len(entries[0])), 2 * size, draws, seed):
        rows, errors = sums.reshape(2, labels, len(classes), -1)
        present = rows > 0
        rates = np.divide(errors, rows, out=np.zeros_like(rows), where=present)
        found.append((rates.sum(axis=1) / present.sum(axis=1)).mean(axis=0))
    return _spread_interval(np.concatenate(found), count, draws, level, seed)


def auroc_interval(
    scores: Array, codes: IntArray, units: Array, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval | None:
    """Return the percentile bootstrap interval of the area under the ROC curve.

    Draws in which one of the two answers is missing have no such area and are left out.

    Args:
        scores: shape (rows,), higher for yes; or (rows, labels): then of the mean over the labels with both answers.
        codes: of the same shape, 1 for yes, 0 for no.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.

    Returns:
        None where there are fewer than two units, where no label has both answers, and where every draw gives the same.
    """
    unit, count = numbered(units)
    if count < 2:
        return None
    pairs = zip(scores.reshape(len(codes), -1).T, codes.reshape(len(codes), -1).T, strict=True)
    by_label = [_drawn_auroc(own, yes == 1, unit, draws, seed) for own, yes in pairs if yes.min() != yes.max()]
    if not by_label:
        return None
    areas = np.stack(by_label)
    told = np.isfinite(areas)
    some = told.any(axis=0)
    means = np.where(told, areas, 0).sum(axis=0)[some] / told.sum(axis=0)[some]
    return _spread_interval(means, count, draws, level, seed)


def r2_interval(
    predicted: Array, numbers: Array, units: Array, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval | None:
    """Return the percentile bootstrap interval of R², or None where there are fewer than two units.

    Args:
        predicted: shape (rows,).
        numbers: shape (rows,).
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.
    """
    if not len(numbers):
        return None
    centred = numbers - numbers.mean()
    squares = (predicted.astype(np.float64) - numbers) ** 2

    def r2(sums: Array) -> Array:
        rows, total, total_squares, wrong = sums
        spread = total_squares - total**2 / rows
        # Numbers that are all alike in a draw have no R².
        kept = spread > 1e-12 * total_squares
        return np.asarray(1 - wrong[kept] / spread[kept])

    columns = np.stack([np.ones(len(numbers)), centred, centred**2, squares])
    return _drawn_interval(columns, r2, units, seed, draws, level)


def _drawn_interval(
    columns: Array, score: Callable[[Array], Array], units: Array, seed: int, draws: int, level: float
) -> Interval | None:
    """Return the interval of a score of the columns' sums over the rows of drawn units, None where there is none.

    Args:
        columns: shape (columns, rows).
        score: from sums of shape (columns, draws) to the scores of those draws that have one.
        units: shape (rows,), the example or group of each row, any values.
        seed: of the draws.
        draws: how many.
        level: of the interval.
    """
    unit, count = numbered(units)
    if count < 2:
        return None
    found = score(drawn_columns(columns, unit, draws, seed))
    return percentile_interval(found, count, draws, level, seed) if len(found) else None


def percentile_interval(found: Array, n: int, draws: int, level: float, seed: int) -> Interval:
    """Return the middle part of what a score became (Efron and Tibshirani 1993, chapter 13).

    Args:
        found: shape (draws that have a score,).
        n: units.
        draws: how many.
        level: of the interval.
        seed: of the draws.
    """
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), "percentile_bootstrap", n, draws, level, seed)


def _spread_interval(found: Array, n: int, draws: int, level: float, seed: int) -> Interval | None:
    if not len(found) or found.min() == found.max():
        return None
    return percentile_interval(found, n, draws, level, seed)


def _drawn_auroc(scores: Array, yes: BoolArray, unit: IntArray, draws: int, seed: int) -> Array:
    """Return the area in every draw, shape (draws,), NaN where an answer is missing.

    Rows are sorted once. Neighbours of one answer are one run, because the order among them does not matter; neighbours
    of one score are one too, and a pair of them counts half. More than :data:`_RUNS` runs are put together into so
    many; all areas are then moved by what this does to the area of the rows themselves.
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    new = np.append(True, ranked[1:] != ranked[:-1])
    starts = np.flatnonzero(new)
    share = np.add.reduceat(yes[order].astype(np.float64), starts) / np.diff(np.append(starts, len(order)))
    apart = np.append(True, (share[1:] != share[:-1]) | (share[1:] % 1 != 0))
    run = np.empty(len(order), dtype=np.int64)
    run[order] = (np.cumsum(apart) - 1)[np.cumsum(new) - 1]
    size = int(apart.sum())
    moved = 0.0
    if size > _RUNS:
        fine, run, size = run, run * _RUNS // size, _RUNS
        moved = _area(fine, yes) - _area(run, yes)
    entries = run + size * yes, unit, np.ones(len(run))
    areas = [_areas(sums[:size], sums[size:]) for sums in drawn_sums(*entries, 2 * size, draws, seed)]
    return np.clip(np.concatenate(areas) + moved, 0, 1)


def _area(run: IntArray, yes: BoolArray) -> float:
    """Return the area of the rows themselves, from the run of each."""
    size = int(run.max()) + 1
    no, hits = (np.bincount(run[yes == answer], minlength=size)[:, None].astype(float) for answer in (False, True))
    return float(_areas(no, hits)[0])


def _areas(no: Array, yes: Array) -> Array:
    """Return the area of each draw, shape (draws,), from how often each answer is in each run, (runs, draws)."""
    below = np.cumsum(no, axis=0) - no / 2
    pairs = no.sum(axis=0) * yes.sum(axis=0)
    areas = np.full(len(pairs), np.nan)
    np.divide(np.einsum("rd,rd->d", yes, below), pairs, out=areas, where=pairs > 0)
    return areas
