"""Row ranges to extract: every missing value once, together with what is missing in the same rows."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from probekit.components import Tap, Wanted
from probekit.features.plan import MOST_ROWS, RANGE_BYTES, Job, plan_jobs, range_rows


def wanted(*widths: int) -> list[Wanted]:
    return [Wanted(Tap(f"t{n}", "Any", (width,), "float32"), (), width) for n, width in enumerate(widths)]


def plain(jobs: list[Job]) -> list[tuple[tuple[int, ...], list[int]]]:
    return [(job.sets, job.rows.tolist()) for job in jobs]


@settings(deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 30))), st.integers(1, 7))
def test_jobs_cover_what_is_missing_once_and_nothing_else(missing: Any, batch_size: int) -> None:
    covered = np.zeros(missing.shape, int)
    for job in plan_jobs(missing, [], wanted(*[3] * len(missing)), batch_size):
        assert len(job.rows)
        covered[np.ix_(np.array(job.sets), job.rows)] += 1
    np.testing.assert_array_equal(covered, missing.astype(int))


def test_what_is_missing_in_the_same_rows_is_extracted_together() -> None:
    missing = np.array([[1, 1, 0, 0, 1], [1, 1, 0, 1, 1], [0, 0, 0, 1, 0]], bool)
    assert plain(plan_jobs(missing, [], wanted(1, 1, 1), 64)) == [((0, 1), [0, 1, 4]), ((1, 2), [3])]


def test_nothing_missing_is_no_job() -> None:
    assert plan_jobs(np.zeros((2, 5), bool), [], wanted(1, 1), 64) == []


def test_ranges_of_one_set_of_taps_follow_each_other_in_the_order_of_the_rows() -> None:
    jobs = plan_jobs(np.ones((1, 3 * MOST_ROWS), bool), [], wanted(1), 64)
    assert [(int(job.rows[0]), len(job.rows)) for job in jobs] == [(n * MOST_ROWS, MOST_ROWS) for n in range(3)]


def test_a_damaged_range_is_extracted_as_it_was_with_the_taps_that_are_there() -> None:
    missing = np.zeros((2, 10), bool)
    missing[0, 2:6] = True
    range_before = ((0, 1), np.arange(0, 6))
    assert plain(plan_jobs(missing, [range_before], wanted(1, 1), 64)) == [((0, 1), [0, 1, 2, 3, 4, 5])]


def test_a_damaged_range_that_another_one_covers_is_not_extracted() -> None:
    missing = np.zeros((1, 10), bool)
    missing[0, 2:6] = True
    both = [((0,), np.arange(0, 8)), ((0,), np.arange(2, 6))]
    assert plain(plan_jobs(missing, both, wanted(1), 64)) == [((0,), list(range(8)))]


def test_what_no_damaged_range_covers_is_extracted_on_its_own() -> None:
    missing = np.zeros((2, 10), bool)
    missing[0, 2:6] = missing[:, 9] = True
    assert plain(plan_jobs(missing, [((0, 1), np.arange(2, 6))], wanted(1, 1), 64)) == [
        ((0, 1), [2, 3, 4, 5]), ((0, 1), [9]),
    ]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.integers(1, 5_000_000), min_size=1, max_size=4), st.integers(1, 20_000), st.integers(1, 500))
def test_a_range_is_whole_batches_and_bounded_in_rows_and_bytes(
    widths: list[int], batch_size: int, positions: int
) -> None:
    rows = range_rows(wanted(*widths), batch_size, positions)
    assert rows % batch_size == 0
    bytes_of_range = rows * positions * sum(widths) * 4
    assert rows == batch_size or (rows <= MOST_ROWS and bytes_of_range <= RANGE_BYTES)
    # It is no smaller than it must be: one more batch would not fit.
    more = rows + batch_size
    assert more > MOST_ROWS or more * positions * sum(widths) * 4 > RANGE_BYTES
