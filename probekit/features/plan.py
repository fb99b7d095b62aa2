"""What is there already and what has to be extracted: lists of row ranges, each with the taps to extract together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from probekit.components import IntArray, Wanted

RANGE_BYTES = 64 << 20
"""Features of one row range, which are in memory at once."""
MOST_ROWS = 8192
"""A row range has no more examples, so that a kill costs little."""


@dataclass(frozen=True)
class Job:
    """One row range.

    Args:
        sets: numbers of the feature matrices that are extracted together: another set is another graph, with other
            last bits.
        rows: places within the rows that were asked.
    """

    sets: tuple[int, ...]
    rows: IntArray


def range_rows(wanted: Sequence[Wanted], batch_size: int, positions: int = 1) -> int:
    """Return how many examples a row range has: whole batches, some 64 MiB of features.

    Args:
        wanted: what is extracted together.
        batch_size: examples of one pass.
        positions: feature rows of an example, the most there are.
    """
    width = max(1, sum(one.width for one in wanted) * 4 * positions)
    most = min(MOST_ROWS, RANGE_BYTES // width)
    return max(batch_size, most - most % batch_size)


def plan_jobs(
    missing: npt.NDArray[np.bool_],
    repeats: Sequence[tuple[tuple[int, ...], IntArray]],
    wanted: Sequence[Wanted],
    batch_size: int,
    positions: int = 1,
) -> list[Job]:
    """Return the row ranges to extract, those with one set of matrices one after the other.

    Args:
        missing: shape (matrices, rows), what is not in the store.
        repeats: (matrices, rows) of ranges that were extracted before and are damaged: extracted again as they were.
        wanted: the matrices.
        batch_size: examples of one pass.
        positions: feature rows of an example, the most there are.
    """
    left = missing.copy()
    jobs = []
    for sets, rows in repeats:
        here = np.ix_(np.array(sets), rows)
        if left[here].any():
            jobs.append(Job(sets, rows))
            left[here] = False
    patterns, group = np.unique(left, axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        sets = tuple(np.flatnonzero(patterns[:, number]).tolist())
        if not sets:
            continue
        rows = np.flatnonzero(group.reshape(-1) == number)
        size = range_rows([wanted[one] for one in sets], batch_size, positions)
        jobs += [Job(sets, rows[start : start + size]) for start in range(0, len(rows), size)]
    return sorted(jobs, key=lambda job: (job.sets, int(job.rows[0])))
