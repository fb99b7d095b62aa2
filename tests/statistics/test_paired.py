"""Paired tests against statsmodels, SciPy and published examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_rel
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep

from probekit.statistics import means
from probekit.statistics.means import one_sided
from probekit.statistics.paired import (
    mcnemar_p,
    newcombe_bounds,
    paired_errors,
    paired_errors_batch,
    paired_values,
    paired_values_batch,
)


def pairs(both, only_first, only_second, neither):
    """Return two arrays of wrong answers with these counts."""
    counts = (both, only_first, only_second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


TABLES = st.tuples(*[st.integers(0, 60)] * 4).filter(any)


# --- McNemar and Newcombe ---------------------------------------------------------------------------------------------


@given(TABLES)
def test_one_row_a_unit_is_mcnemars_exact_test(table):
    both, only_first, only_second, neither = table
    found = paired_errors(*pairs(*table), np.arange(sum(table)))
    expected = mcnemar([[both, only_first], [only_second, neither]], exact=True)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    if only_first + only_second:
        assert found.p == pytest.approx(binomtest(only_first, only_first + only_second).pvalue, rel=1e-9)
    assert (found.test, found.only_first, found.only_second, found.n) == (
        "mcnemar_exact", only_first, only_second, sum(table),
    )  # fmt: skip
    assert found.difference == pytest.approx((only_second - only_first) / sum(table))
    assert (found.interval.kind, found.interval.n, found.interval.draws) == ("newcombe", sum(table), None)


def test_many_rows_do_not_overflow():
    assert mcnemar_p(400_000, 400_000) == 1
    assert mcnemar_p(0, 5000) == 0
    low, high = newcombe_bounds(10**7, 10**6, 10**6, 10**8)
    assert low == pytest.approx(-high)
    assert high == pytest.approx(1.96 * np.sqrt(2e6) / 1e8, rel=1e-3)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # Cavo et al. 2012 and Bentur et al. 2009, in Fagerland, Lydersen and Laake 2017, Statistical Analysis of
        # Contingency Tables, chapter 8; and the thallium test in Altman et al. 2000, Statistics with Confidence, p. 52.
        ((59, 16, 6, 80), (-0.1186, -0.0046)),
        ((1, 7, 1, 12), (-0.507, -0.026)),
        ((14, 0, 5, 22), (0.011, 0.226)),
    ],
)
def test_newcombes_interval_is_that_of_published_examples(table, expected):
    both, only_first, only_second, _ = table
    digits = 4 if expected[0] == -0.1186 else 3
    low, high = newcombe_bounds(both, only_first, only_second, sum(table))
    assert (round(low, digits), round(high, digits)) == expected


@given(TABLES)
def test_newcombes_interval_holds_the_difference_and_turns_with_it(table):
    both, only_first, only_second, neither = table
    n = sum(table)
    low, high = newcombe_bounds(both, only_first, only_second, n)
    assert -1 <= low <= (only_second - only_first) / n + 1e-12
    assert (only_second - only_first) / n - 1e-12 <= high <= 1
    assert newcombe_bounds(both, only_second, only_first, n) == pytest.approx((-high, -low))
    assert newcombe_bounds(neither, only_second, only_first, n) == pytest.approx((-high, -low))


@given(TABLES)
def test_without_correlation_newcombes_interval_is_that_of_two_samples(table):
    both, only_first, only_second, neither = table
    n = sum(table)
    if 0 <= both * neither - only_first * only_second <= n / 2:
        expected = confint_proportions_2indep(
            both + only_second, n, both + only_first, n, method="newcomb", compare="diff"
        )  # fmt: skip
        assert newcombe_bounds(both, only_first, only_second, n) == pytest.approx(expected, abs=1e-9)


# --- the paired bootstrap ---------------------------------------------------------------------------------------------


def drawn(values, units, seed, draws):
    """Return the means of units that are drawn one by one."""
    names = np.unique(units)
    picks = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    rows = {name: np.flatnonzero(units == name) for name in names}
    return np.array([values[np.concatenate([rows[names[pick]] for pick in draw])].mean() for draw in picks])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(14, 40), st.floats(-1, 1))
def test_numbers_are_drawn_with_their_partners(seed, count, shift):
    rng = np.random.default_rng(seed)
    units = np.concatenate([np.arange(count), rng.integers(count, size=count)])
    first = rng.standard_normal(2 * count)
    second = first + shift + rng.standard_normal(2 * count)
    found = paired_values(first, second, units, seed, draws=99)
    by_hand = drawn(second - first, units, seed, 99)
    smaller = min(np.sum(by_hand <= 0), np.sum(by_hand >= 0))
    assert found.difference == pytest.approx(np.mean(second - first))
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))
    assert found.p == pytest.approx(min(1, 2 * (1 + smaller) / 100))
    assert (found.test, found.n, found.interval.n, found.only_first) == ("paired_bootstrap", 2 * count, count, None)
    mean, interval, p = one_sided(second - first, units, seed, draws=99)
    assert (mean, interval) == (found.difference, found.interval)
    assert p == pytest.approx((1 + np.sum(by_hand <= 0)) / 100)
    back = paired_values(second, first, units, seed, draws=99)
    assert back.p == found.p
    assert (back.interval.low, back.interval.high) == pytest.approx((-found.interval.high, -found.interval.low))


def test_errors_of_grouped_rows_are_drawn_and_counted():
    rng = np.random.default_rng(0)
    first, second, units = rng.random(300) < 0.4, rng.random(300) < 0.3, np.arange(300) // 3
    found = paired_errors(first, second, units, 5)
    same = paired_values(first, second, units, 5)
    assert (found.interval, found.p, found.test) == (same.interval, same.p, "paired_bootstrap")
    assert (found.only_first, found.only_second) == (np.sum(first & ~second), np.sum(second & ~first))


def test_errors_of_several_answers_a_row_are_drawn_by_row():
    rng = np.random.default_rng(0)
    first, second = rng.random((90, 4)) < 0.4, rng.random((90, 4)) < 0.3
    found = paired_errors(first, second, np.arange(90), 5)
    assert found == paired_values(first.mean(axis=1), second.mean(axis=1), np.arange(90), 5)
    assert found.difference == pytest.approx(second.mean() - first.mean())


def test_equal_probes_do_not_differ():
    wrong, units = np.arange(60) % 3 == 0, np.arange(60) // 2
    found = paired_errors(wrong, wrong, units)
    assert (found.difference, found.p, found.interval.low, found.interval.high) == (0, 1, 0, 0)
    assert paired_errors(wrong, wrong, np.arange(60)).p == 1


def test_sums_that_are_zero_but_for_rounding_count_as_zero():
    """Thirds that cancel in every draw."""
    first = np.tile([1 / 3, 1 / 3, 1 / 3 + 2 / 3], 40)
    second = np.tile([2 / 3, 2 / 3, 1 / 3], 40)
    assert paired_values(first, second, np.arange(120) // 3).p == 1


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_p_is_close_to_that_of_the_t_test(shift):
    rng = np.random.default_rng(3)
    first = rng.standard_normal(400)
    second = first + rng.standard_normal(400) + shift
    expected = ttest_rel(second, first).pvalue
    assert paired_values(first, second, np.arange(400)).p == pytest.approx(expected, abs=0.02)


def test_p_is_never_zero_and_small_enough_for_many_taps():
    assert paired_values(np.zeros(500), np.ones(500), np.arange(500)).p == pytest.approx(2 / 10_001)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_units_cannot_be_surer_than_a_sign_test(count):
    values, units = np.ones(10 * count), np.repeat(np.arange(count), 10)
    expected = binomtest(count, count).pvalue
    assert paired_values(np.zeros(len(units)), values, units).p == pytest.approx(expected)


def test_one_unit_tells_nothing():
    found = paired_values(np.zeros(2), np.ones(2), np.zeros(2, int))
    assert (found.difference, found.interval, found.p) == (1.0, None, 1.0)


@pytest.mark.parametrize("compare", [paired_errors, paired_values])
def test_what_is_no_pair_is_refused(compare):
    with pytest.raises(ValueError, match="no pairs"):
        compare(np.zeros(3, bool), np.zeros(4, bool), np.arange(3))
    with pytest.raises(ValueError, match="no pairs"):
        compare(np.zeros(0, bool), np.zeros(0, bool), np.zeros(0, int))


# --- many tests at once -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 7), st.integers(1, 7), st.booleans())
def test_many_tests_at_once_give_what_each_gives_alone(seed, count, tests, at_once, grouped):
    """To the last bit, of numbers of any size, in batches of any size and order."""
    rng = np.random.default_rng(seed)
    units = np.concatenate([np.arange(count), rng.integers(count, size=count)]) if grouped else np.arange(count)
    sizes = 10.0 ** rng.integers(-20, 20, tests)
    pairs = [tuple(size * rng.standard_normal((2, len(units)))) for size in sizes]
    wrong = [(first > 0, second > 0) for first, second in pairs]
    wrong.append((rng.random((len(units), 3)) < 0.5, rng.random((len(units), 3)) < 0.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(means, "_TESTS_AT_ONCE", at_once)
        values = paired_values_batch(iter(pairs), units, seed, 99)
        errors = paired_errors_batch(iter(wrong), units, seed, 99)
        assert paired_values_batch(pairs[::-1], units, seed, 99) == values[::-1]
    assert values == [paired_values(*pair, units, seed, 99) for pair in pairs]
    assert errors == [paired_errors(*pair, units, seed, 99) for pair in wrong]


def test_no_tests_give_none():
    assert paired_values_batch([], np.arange(3)) == paired_errors_batch([], np.arange(3)) == []
