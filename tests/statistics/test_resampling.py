"""Draws of whole units, against drawing them one by one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.statistics import resampling
from probekit.statistics.resampling import BLOCKS, drawn_columns, drawn_sums, numbered


@pytest.fixture(autouse=True)
def _nothing_kept():
    resampling._kept_times.cache_clear()
    yield
    resampling._kept_times.cache_clear()


def test_units_are_numbered_from_zero_whatever_they_are():
    unit, count = numbered(np.array(["b", "a", "b", "é"]))
    assert unit.tolist() == [1, 0, 1, 2]
    assert count == 3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 60), st.integers(1, 4))
def test_sums_are_those_of_drawing_units_one_by_one(seed, count, more, size):
    rng = np.random.default_rng(seed)
    unit = np.concatenate([np.arange(count), rng.integers(count, size=more)])
    cells, weights = rng.integers(size, size=len(unit)), rng.integers(-5, 6, len(unit))
    found = np.concatenate(list(drawn_sums(cells, unit, weights, size, 20, seed)), axis=1)
    picks = np.random.default_rng(seed).integers(count, size=(20, count))
    for draw, picked in enumerate(picks):
        rows = np.concatenate([np.flatnonzero(unit == pick) for pick in picked])
        expected = np.bincount(cells[rows], weights=weights[rows], minlength=size)
        assert found[:, draw].tolist() == expected.tolist()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 5), st.integers(-150, 150))
def test_columns_are_summed_one_by_one_whatever_the_others_are(seed, count, size, magnitude):
    """Against exact sums (``math.fsum``) of what is drawn one by one; to the last bit as each column alone."""
    rng = np.random.default_rng(seed)
    columns = 10.0**magnitude * rng.standard_cauchy((size, count))
    found = drawn_columns(columns, np.arange(count), 10, seed)
    for draw, picked in enumerate(np.random.default_rng(seed).integers(count, size=(10, count))):
        for own, column in zip(found[:, draw], columns, strict=True):
            within = count**2 * 2**-51 * np.abs(column).max()
            assert own == pytest.approx(math.fsum(column[picked]), rel=0, abs=within)
    for own, column in zip(found, columns, strict=True):
        np.testing.assert_array_equal(drawn_columns([column], np.arange(count), 10, seed)[0], own)


@pytest.mark.parametrize("kept", [0, 10_000_000])
def test_the_same_seed_draws_the_same_in_pieces_of_any_size(monkeypatch, kept):
    unit, columns = np.arange(60), np.random.default_rng(0).standard_normal((2, 60))
    whole = drawn_columns(columns, unit, 100, 3)
    monkeypatch.setattr(resampling, "_NUMBERS_AT_ONCE", 600)
    monkeypatch.setattr(resampling, "_NUMBERS_KEPT", kept)
    resampling._kept_times.cache_clear()
    np.testing.assert_array_equal(drawn_columns(columns, unit, 100, 3), whole)
    assert not np.array_equal(drawn_columns(columns, unit, 100, 4), whole)


def test_as_many_units_are_drawn_as_there_are():
    (rows,) = drawn_columns(np.ones((1, 40)), np.arange(40), 50, 0)
    assert rows.tolist() == [40] * 50


def test_many_units_are_drawn_in_blocks_of_as_many_with_the_same_spread():
    """The deviation of a drawn mean is that of the values ÷ √n, within 3 standard errors of its estimate."""
    rng = np.random.default_rng(5)
    values = rng.standard_normal(4 * BLOCKS)
    found = []
    for seed in range(8):
        rows, totals = drawn_columns(np.stack([np.ones(len(values)), values]), np.arange(len(values)), 1000, seed)
        assert set(rows) == {len(values)}
        found.append(np.std(totals / rows))
    assert np.mean(found) == pytest.approx(values.std() / np.sqrt(len(values)), rel=0.04)


def test_blocks_keep_the_rows_of_a_unit_together():
    """Two rows a unit that cancel: sums are 0 in every draw."""
    unit = np.repeat(np.arange(3 * BLOCKS), 2)
    (totals,) = drawn_columns(np.tile([1.0, -1.0], 3 * BLOCKS)[None], unit, 20, 0)
    assert not totals.any()
