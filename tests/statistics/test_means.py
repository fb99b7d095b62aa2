"""Whether a mean is above 0: against SciPy's t and sign tests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from statsmodels.stats.multitest import multipletests

from probekit.statistics import means
from probekit.statistics.means import enough_draws, one_sided, one_sided_batch


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_p_is_close_to_that_of_the_t_test(shift):
    values = np.random.default_rng(3).standard_normal(400) + shift
    mean, interval, p = one_sided(values, np.arange(400))
    assert p == pytest.approx(ttest_1samp(values, 0, alternative="greater").pvalue, abs=0.02)
    assert mean == pytest.approx(np.mean(values))
    assert interval.low < mean < interval.high


def test_p_is_never_zero_and_small_enough_for_many_taps():
    _, _, p = one_sided(np.ones(500) + 0.1 * np.sin(np.arange(500)), np.arange(500))
    assert p == pytest.approx(1 / 10_001)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_units_cannot_be_surer_than_a_sign_test(count):
    values, units = np.ones(10 * count), np.repeat(np.arange(count), 10)
    assert one_sided(values, units)[2] == pytest.approx(binomtest(count, count, alternative="greater").pvalue)


def test_one_unit_tells_nothing():
    assert one_sided(np.array([1.0, 3.0]), np.zeros(2, int)) == (2.0, None, 1.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 7), st.integers(1, 7))
def test_many_means_at_once_are_what_each_is_alone(seed, count, tests, at_once):
    """To the last bit, of numbers of any size, in batches of any size."""
    rng = np.random.default_rng(seed)
    units = np.concatenate([np.arange(count), rng.integers(count, size=count)])
    columns = [size * rng.standard_normal(2 * count) for size in 10.0 ** rng.integers(-20, 20, tests)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(means, "_TESTS_AT_ONCE", at_once)
        found = one_sided_batch(iter(columns), units, seed, 99)
    assert found == [one_sided(values, units, seed, 99) for values in columns]


@pytest.mark.parametrize("sides", [1, 2])
@settings(deadline=None, max_examples=20)
@given(st.integers(1, 100_000))
def test_holms_method_can_tell_the_smallest_p_among_any_number_of_tests(sides, tests):
    draws = enough_draws(tests, sides)
    smallest = sides / (draws + 1)
    assert draws >= 10_000
    assert multipletests([smallest, *[1.0] * min(tests - 1, 50)], method="holm")[1][0] < 0.05
    assert smallest * tests < 0.025


@pytest.mark.parametrize(("sums", "batches"), [(30_000, 2), (10_000, 5), (1, 5)])
def test_sums_that_are_held_at_once_are_bounded(monkeypatch, sums, batches):
    units, rng, widths = np.arange(40), np.random.default_rng(0), []
    columns = [rng.standard_normal(40) for _ in range(5)]
    expected, drawn = one_sided_batch(columns, units), means.drawn_columns
    monkeypatch.setattr(means, "_DRAWN_AT_ONCE", sums)
    monkeypatch.setattr(
        means, "drawn_columns", lambda columns, *more: widths.append(len(columns)) or drawn(columns, *more)
    )
    assert one_sided_batch(columns, units) == expected
    assert len(widths) == batches
    assert sum(widths) == 5 + batches  # each counts its units too


def test_no_tests_give_none():
    assert one_sided_batch([], np.arange(3)) == []
