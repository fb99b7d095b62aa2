"""Intervals against statsmodels, and against drawing units one by one with scikit-learn's scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from probekit.statistics import intervals
from probekit.statistics.intervals import (
    auroc_interval,
    balanced_error_interval,
    mean_interval,
    r2_interval,
    share_interval,
    wilson_bounds,
)

DRAWS = 40


def grouped(rng, rows, per_unit):
    units = rng.integers(0, max(2, rows // per_unit), rows)
    units[:2] = [0, 1]
    return units


def one_by_one(units, seed, score):
    """Return the middle 95 % of what a score of row numbers becomes, over the draws in which it has a value."""
    names = np.unique(units)
    found = []
    for draw in np.random.default_rng(seed).integers(len(names), size=(DRAWS, len(names))):
        value = score(np.concatenate([np.flatnonzero(units == names[pick]) for pick in draw]))
        if value is not None:
            found.append(value)
    return found, (np.quantile(found, [0.025, 0.975]) if found else None)


CASES = given(st.integers(0, 2**31), st.integers(3, 40), st.integers(1, 4))


# --- shares -----------------------------------------------------------------------------------------------------------


@given(st.data(), st.integers(1, 10**6), st.sampled_from([0.8, 0.95, 0.99]))
def test_one_row_a_unit_gets_wilsons_interval(data, n, level):
    count = data.draw(st.integers(0, n))
    low, high = wilson_bounds(count, n, level)
    expected = proportion_confint(count, n, 1 - level, "wilson")
    assert (low, high) == pytest.approx(expected, abs=1e-9)
    assert 0 <= low <= count / n <= high <= 1


def test_the_interval_of_a_share_says_how_it_was_made():
    found = share_interval(np.arange(50) < 5, np.arange(50) + 7)
    assert (found.low, found.high) == wilson_bounds(5, 50)
    assert (found.kind, found.n, found.draws, found.level, found.seed) == ("wilson", 50, None, 0.95, None)


def test_groups_of_rows_are_drawn_as_a_whole():
    rng = np.random.default_rng(0)
    wrong, units = rng.random(200) < 0.3, np.arange(200) // 4
    found = share_interval(wrong, units, 3)
    assert found == mean_interval(wrong, units, 3)
    assert (found.kind, found.n, found.draws, found.seed) == ("percentile_bootstrap", 50, 1000, 3)


def test_the_share_of_several_answers_a_row_is_drawn_by_row():
    wrong = np.random.default_rng(0).random((60, 3)) < 0.3
    assert share_interval(wrong, np.arange(60)) == mean_interval(wrong.mean(axis=1), np.arange(60))


@pytest.mark.parametrize("answer", [False, True])
@pytest.mark.parametrize("shape", [(80,), (80, 3)])
def test_answers_that_are_all_alike_get_wilsons_interval_of_as_many_as_there_are_units(answer, shape):
    found = share_interval(np.full(shape, answer), np.arange(80) // 4)
    assert (found.low, found.high) == wilson_bounds(20 * answer, 20)
    assert (found.kind, found.n) == ("wilson", 20)


def test_no_rows_and_one_group_have_no_interval():
    assert share_interval(np.zeros(0, bool), np.zeros(0, int)) is None
    assert share_interval(np.array([True, False]), np.zeros(2, int)) is None
    assert share_interval(np.array([True]), np.zeros(1, int)).n == 1


# --- the bootstrap ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@CASES
def test_a_mean_is_drawn_unit_by_unit(seed, rows, per_unit):
    rng = np.random.default_rng(seed)
    values, units = rng.standard_normal(rows), grouped(rng, rows, per_unit)
    found = mean_interval(values, units, seed, DRAWS)
    _, expected = one_by_one(units, seed, lambda places: values[places].mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)
    assert (found.n, found.draws) == (len(np.unique(units)), DRAWS)


@settings(deadline=None, max_examples=20)
@CASES
def test_r2_is_drawn_unit_by_unit(seed, rows, per_unit):
    rng = np.random.default_rng(seed)
    predicted = rng.standard_normal(rows)
    numbers, units = predicted + 0.7 * rng.standard_normal(rows) + rng.uniform(-1e6, 1e6), grouped(rng, rows, per_unit)
    found = r2_interval(predicted, numbers, units, seed, DRAWS)

    def score(places):
        return r2_score(numbers[places], predicted[places]) if np.ptp(numbers[places]) > 0 else None

    _, expected = one_by_one(units, seed, score)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-5, abs=1e-6)
    assert (found.n, found.draws, found.seed, found.kind) == (
        len(np.unique(units)), DRAWS, seed, "percentile_bootstrap",
    )  # fmt: skip


@settings(deadline=None, max_examples=20)
@CASES
def test_a_balanced_error_is_drawn_unit_by_unit(seed, rows, per_unit):
    rng = np.random.default_rng(seed)
    codes, units = rng.integers(0, 4, rows) * 3, grouped(rng, rows, per_unit)
    predicted = np.where(rng.random(rows) < 0.6, codes, rng.integers(-1, 4, rows) * 3)
    found = balanced_error_interval(predicted, codes, units, seed, DRAWS)

    def score(places):
        return np.mean([np.mean(predicted[places][codes[places] == code] != code) for code in set(codes[places])])

    values, expected = one_by_one(units, seed, score)
    if np.ptp(values) < 1e-12:
        assert found is None or found.high - found.low < 1e-12
    else:
        assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)
        assert 0 <= found.low <= found.high <= 1


def test_the_balanced_error_of_labels_is_the_mean_over_them():
    rng = np.random.default_rng(2)
    codes, units = rng.integers(0, 2, (50, 3)), np.arange(50) // 2
    predicted = np.where(rng.random(codes.shape) < 0.8, codes, 1 - codes)
    found = balanced_error_interval(predicted, codes, units, 1, DRAWS)

    def score(places):
        return 1 - np.mean([balanced_accuracy_score(codes[places, k], predicted[places, k]) for k in range(3)])

    _, expected = one_by_one(units, 1, score)
    assert (found.low, found.high) == pytest.approx(tuple(expected))


@settings(deadline=None, max_examples=20)
@CASES
def test_an_auroc_is_drawn_unit_by_unit(seed, rows, per_unit):
    """With ties within and across the two answers."""
    rng = np.random.default_rng(seed)
    codes, units = rng.integers(0, 2, rows), grouped(rng, rows, per_unit)
    codes[:2] = [0, 1]
    scores = np.round(rng.standard_normal(rows) + codes, int(rng.integers(0, 3)))
    found = auroc_interval(scores, codes, units, seed, DRAWS)

    def score(places):
        return roc_auc_score(codes[places], scores[places]) if len(set(codes[places])) == 2 else None

    values, expected = one_by_one(units, seed, score)
    if not values or np.ptp(values) < 1e-12:
        assert found is None or found.high - found.low < 1e-12
    else:
        assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)
        assert 0 <= found.low <= found.high <= 1


def test_the_auroc_of_labels_is_the_mean_over_those_with_both_answers():
    rng = np.random.default_rng(2)
    codes, units = rng.integers(0, 2, (60, 3)), np.arange(60)
    codes[:, 1] = 1
    scores = rng.standard_normal(codes.shape) + codes
    found = auroc_interval(scores, codes, units, 1, DRAWS)
    _, expected = one_by_one(
        units, 1, lambda places: np.mean([roc_auc_score(codes[places, k], scores[places, k]) for k in (0, 2)])
    )
    assert (found.low, found.high) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("apart", [0.2, 1.0, 3.0])
def test_the_auroc_of_many_rows_is_drawn_from_runs_that_are_put_together(monkeypatch, apart):
    """Two thousand runs or more: as precise as all of them, to a hundredth of the width."""
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 2, 6000)
    scores, units = rng.standard_normal(6000) + apart * codes, np.arange(6000)
    found = auroc_interval(scores, codes, units)
    monkeypatch.setattr(intervals, "_RUNS", 10**6)
    exact = auroc_interval(scores, codes, units)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.01 * (exact.high - exact.low))
    assert found.low < roc_auc_score(codes, scores) < found.high


def test_infinite_scores_are_ranked_too():
    scores = np.array([-np.inf, -np.inf, 0.0, 1.0, np.inf, np.inf])
    found = auroc_interval(scores, np.array([0, 1, 0, 1, 0, 1]), np.arange(6), 0, DRAWS)
    same = auroc_interval(np.array([0, 0, 1, 2, 3, 3]), np.array([0, 1, 0, 1, 0, 1]), np.arange(6), 0, DRAWS)
    assert found == same


INTERVALS = [
    lambda units: mean_interval(np.arange(len(units)), units),
    lambda units: r2_interval(np.zeros(len(units)), np.arange(len(units)), units),
    lambda units: balanced_error_interval(np.zeros(len(units), int), np.arange(len(units)) % 2, units),
    lambda units: auroc_interval(np.sin(np.arange(len(units))), np.arange(len(units)) % 2, units),
]


@pytest.mark.parametrize("interval", INTERVALS)
def test_one_unit_has_no_interval(interval):
    assert interval(np.zeros(6, int)) is None
    assert interval(np.zeros(0, int)) is None


@pytest.mark.parametrize("interval", INTERVALS)
def test_units_may_be_anything(interval):
    numbers = np.arange(24) // 2
    assert interval(numbers) == interval(numbers * 10 + 3) == interval(np.array([f"u{n:03}" for n in numbers]))


def test_copies_of_an_example_narrow_nothing():
    """Whoever took five copies of every example for examples would say half the width."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 200)
    scores = codes + rng.standard_normal(200)
    five, units = np.repeat(np.arange(200), 5), np.repeat(np.arange(200), 5)
    for alone, copied, naive in [
        (mean_interval(scores, np.arange(200)), mean_interval(scores[five], units),
         mean_interval(scores[five], np.arange(1000))),
        (auroc_interval(scores, codes, np.arange(200)), auroc_interval(scores[five], codes[five], units),
         auroc_interval(scores[five], codes[five], np.arange(1000))),
        (balanced_error_interval(scores > 0.5, codes, np.arange(200)),
         balanced_error_interval((scores > 0.5)[five], codes[five], units),
         balanced_error_interval((scores > 0.5)[five], codes[five], np.arange(1000))),
        (r2_interval(scores, codes, np.arange(200)), r2_interval(scores[five], codes[five], units),
         r2_interval(scores[five], codes[five], np.arange(1000))),
    ]:  # fmt: skip
        assert (copied.low, copied.high, copied.n) == pytest.approx((alone.low, alone.high, 200))
        assert naive.high - naive.low < 0.6 * (copied.high - copied.low)


def test_where_every_draw_gives_the_same_the_bootstrap_says_nothing():
    codes = np.arange(20) % 2
    assert balanced_error_interval(codes, codes, np.arange(20)) is None
    assert auroc_interval(codes, codes, np.arange(20)) is None
    assert auroc_interval(np.zeros(20), codes, np.arange(20)) is None


def test_one_answer_has_no_auroc():
    assert auroc_interval(np.arange(20), np.ones(20, int), np.arange(20)) is None
    assert auroc_interval(np.ones((20, 2)), np.zeros((20, 2), int), np.arange(20)) is None


def test_draws_in_which_all_numbers_are_alike_are_left_out():
    found = r2_interval(np.array([0.0, 1.5]), np.array([0.0, 1.0]), np.arange(2))
    assert np.isfinite([found.low, found.high]).all()
