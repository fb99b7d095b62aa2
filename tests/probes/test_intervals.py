"""The bootstrap interval of R², against scikit-learn and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from probekit.probes.intervals import r2_interval


def made(seed, rows, noise=0.7):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(rows)
    return x, x + noise * rng.standard_normal(rows), rng


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(3, 40), st.integers(0, 3), st.floats(-1e6, 1e6))
def test_it_is_that_of_drawing_whole_units_one_by_one(seed, rows, grouped, shift):
    predicted, numbers, rng = made(seed, rows)
    units = rng.integers(0, max(2, rows // (grouped + 1)), rows)
    units[:2] = [0, 1]
    found = r2_interval(predicted, numbers + shift, units, seed, draws=50)
    names, picks = np.unique(units), np.random.default_rng(seed)
    scores = []
    for draw in picks.integers(len(names), size=(50, len(names))):
        places = np.concatenate([np.flatnonzero(units == names[pick]) for pick in draw])
        if np.ptp(numbers[places]) > 0:
            scores.append(r2_score(numbers[places] + shift, predicted[places]))
    low, high = np.quantile(scores, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-5, abs=1e-6)
    assert (found.n, found.draws, found.seed, found.kind) == (len(names), 50, seed, "percentile_bootstrap")


def test_it_holds_the_true_value_about_as_often_as_it_says():
    true, hits, trials = 1 - 0.49 / 1.49, 0, 400
    for seed in range(trials):
        predicted, numbers, _ = made(seed, 150)
        found = r2_interval(predicted, numbers, np.arange(150), seed, draws=400)
        hits += found.low <= true <= found.high
    assert 0.92 <= hits / trials <= 0.98


def test_rows_of_one_group_are_no_independent_evidence():
    """Five copies of every example widen nothing; whoever took them for examples would say half the width."""
    predicted, numbers, _ = made(0, 200)
    alone = r2_interval(predicted, numbers, np.arange(200))
    five, units = np.repeat(numbers, 5), np.repeat(np.arange(200), 5)
    grouped = r2_interval(np.repeat(predicted, 5), five, units)
    naive = r2_interval(np.repeat(predicted, 5), five, np.arange(1000))
    assert (grouped.low, grouped.high, grouped.n) == pytest.approx((alone.low, alone.high, 200))
    assert naive.high - naive.low < 0.6 * (grouped.high - grouped.low)


def test_the_same_seed_draws_the_same_in_blocks_of_any_size(monkeypatch):
    predicted, numbers, _ = made(1, 60)
    whole = r2_interval(predicted, numbers, np.arange(60), 3)
    monkeypatch.setattr("probekit.probes.intervals._NUMBERS_AT_ONCE", 600)
    assert r2_interval(predicted, numbers, np.arange(60), 3) == whole
    assert r2_interval(predicted, numbers, np.arange(60), 4) != whole


def test_one_unit_has_no_interval():
    assert r2_interval(np.zeros(3), np.arange(3.0), np.zeros(3, int)) is None
    assert r2_interval(np.zeros(0), np.zeros(0), np.zeros(0, int)) is None


def test_draws_in_which_all_numbers_are_alike_are_left_out():
    found = r2_interval(np.array([0.0, 1.5]), np.array([0.0, 1.0]), np.arange(2))
    assert np.isfinite([found.low, found.high]).all()
