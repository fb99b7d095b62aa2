"""Intervals and differences, against scipy and statsmodels."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.proportion import confint_proportions_2indep

from probekit.findings.differences import (
    Difference,
    advantage,
    improvement,
    interval_of,
    significant,
    standard_error,
    unpaired,
)


@given(st.data())
@settings(max_examples=50)
def test_an_unpaired_difference_has_newcombes_interval(probe, data):
    rows = {"train": 10, "valid": 10, "test": data.draw(st.integers(2, 500))}
    other_rows = {**rows, "test": data.draw(st.integers(2, 500))}
    wrong, other_wrong = data.draw(st.integers(0, rows["test"])), data.draw(st.integers(0, other_rows["test"]))
    one = probe("a", wrong / rows["test"], rows=rows)
    other = probe("b", other_wrong / other_rows["test"], rows=other_rows)
    found = unpaired(one, other)
    low, high = confint_proportions_2indep(
        other_wrong, other_rows["test"], wrong, rows["test"], method="newcomb", compare="diff"
    )
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.value == pytest.approx(other_wrong / other_rows["test"] - wrong / rows["test"])
    assert not found.paired


def test_of_r2_more_is_better(number):
    found = unpaired(number("a", 0.8), number("b", 0.5))
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3 - 0.05 * 2**0.5, 0.3 + 0.05 * 2**0.5))
    assert found.better
    assert not found.worse


def test_without_an_interval_only_the_value_is_known(probe, own):
    one = probe("a", 0.1, intervals={"error": {"train": probe("a", 0.1).intervals["error"]["train"]}})
    found = unpaired(one, own(0.2))
    assert found == Difference(pytest.approx(0.1))
    assert (found.better, found.worse) == (False, False)
    assert found.sure("error") == "interval unknown"


def test_an_interval_that_does_not_hold_its_score_does_no_harm(number):
    one = number("a", 0.8, half=0.0)
    shifted = one.intervals["r2"]["test"].model_copy(update={"low": 0.81, "high": 0.85})
    one = one.model_copy(update={"intervals": {"r2": {"test": shifted}}})
    found = unpaired(one, number("b", 0.5, half=0.0))
    assert (found.low, found.high) == pytest.approx((0.3, 0.35))


@pytest.mark.parametrize(("wrong", "n"), [(0, 300), (3, 300), (300, 300), (1, 2)])
def test_an_error_of_a_result_without_intervals_has_wilsons(probe, wrong, n):
    one = probe("a", 0.5, valid=wrong / n, rows={"train": 9, "valid": n, "test": 7}, sure=False)
    known = binomtest(wrong, n).proportion_ci(method="wilson")
    found = interval_of(one, "valid")
    assert (found.low, found.high, found.n) == pytest.approx((known.low, known.high, n), abs=1e-12)


def test_a_recorded_interval_comes_first(probe, tags):
    one = probe("a", 0.1)
    assert interval_of(one) is one.intervals["error"]["test"]
    assert interval_of(tags("a", 0.1)).over == "groups"
    assert interval_of(tags("a", 0.1), "valid") is None


def test_the_first_test_split_counts(probe):
    rows = {"train": 90, "valid": 30, "near": 60, "far": 60}
    errors = {"train": 0.0, "valid": 0.1, "near": 0.2, "far": 0.5}
    one = probe("a", 0.2, scores={"error": errors}, rows=rows, sure=False)
    assert interval_of(one).n == 60
    assert interval_of(one).low < 0.2 < interval_of(one).high


def test_the_interval_of_r2_on_valid_is_scaled_from_test(number):
    one = number("a", 0.8, valid=0.7, half=0.06)
    found = interval_of(one, "valid")
    assert (found.low, found.high) == pytest.approx((0.7 - 0.06 * 2**0.5, 0.7 + 0.06 * 2**0.5))
    assert found.n == 300
    groups = one.intervals["r2"]["test"].model_copy(update={"over": "groups", "n": 40})
    found = interval_of(one.model_copy(update={"intervals": {"r2": {"test": groups}}}), "valid")
    assert (found.n, found.over) == (20, "groups")
    assert interval_of(number("a", 0.8, intervals={})) is None
    assert standard_error(number("a", 0.8, intervals={}), "valid") is None


def test_the_standard_error_of_a_share_is_that_of_a_binomial(probe):
    rows = {"train": 10, "valid": 40_000, "test": 10}
    one = probe("a", 0.5, valid=0.2, rows=rows)
    assert standard_error(one, "valid") == pytest.approx((0.2 * 0.8 / 40_000) ** 0.5, rel=1e-3)
    nothing = probe("a", 0.5, valid=0.0, rows=rows)
    assert standard_error(nothing, "valid") == pytest.approx(0.98 / 40_000, rel=1e-2)


def test_a_step_down_in_error_is_an_improvement(step):
    found = improvement(step("a", "b", -0.1, half=0.02))
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.08, 0.12))
    assert found.paired
    assert improvement(step("a", "b", -0.1, interval=None)) == Difference(0.1, paired=True)


def test_more_r2_is_an_improvement(step):
    found = improvement(step("a", "b", -0.1, half=0.05, factor="snr", metric="r2"))
    assert (found.value, found.low, found.high) == pytest.approx((-0.1, -0.15, -0.05))


def test_paired_differences_are_taken_where_there_are_any(probe, step):
    a, b, c = probe("a", 0.3), probe("b", 0.2), probe("c", 0.2, reduction="flatten")
    steps = [step("a", "b", -0.1), step("a", "c", -0.1, reduction="flatten")]
    assert advantage(steps, [], b, a) == improvement(steps[0])
    assert advantage(steps, [], a, b) == improvement(steps[0]).turned()
    assert not advantage(steps, [], c, a).paired
    assert not advantage([], [], b, a).paired


def test_a_contrast_comes_first_and_knows_its_test(probe, own, step, contrast):
    a, b = probe("a", 0.3), probe("b", 0.2, reduction="flatten")
    model = own(0.25)
    known = [contrast("b", "a", -0.1, reduction="flatten"), contrast("b", None, -0.05, reduction="flatten")]
    found = advantage([step("a", "b", -0.1)], known, b, a)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.095, 0.105))
    assert (found.paired, found.test, found.p) == (True, "mcnemar_exact", 0.004)
    assert advantage([], known, a, b) == found.turned()
    assert found.sure("error") == "95 % interval 9.5 to 10.5 points, paired; p = 0.004 by McNemar's exact test"
    assert found.turned().evidence() == {
        "value": -0.1, "low": pytest.approx(-0.105), "high": pytest.approx(-0.095), "paired": True,
        "test": "mcnemar_exact", "p": 0.004,
    }  # fmt: skip
    assert advantage([], known, b, model).value == pytest.approx(0.05)
    assert not advantage([], known, a, model).paired
    more = contrast("b", "a", 0.2, metric="r2", test="paired_bootstrap", half=0.01)
    gained = advantage([], [more], probe("b", 0.2), a)
    assert (gained.value, gained.low, gained.high) == pytest.approx((0.2, 0.19, 0.21))


def test_a_step_is_significant_by_its_adjusted_p(step):
    assert significant(step("a", "b", 0.1, p=0.2, p_adjusted=0.049))
    assert not significant(step("a", "b", 0.1, p=0.01, p_adjusted=0.05))


def test_intervals_of_differences_as_text():
    found = Difference(0.021, 0.01, 0.032, paired=True)
    assert found.sure("error") == "95 % interval 1.0 to 3.2 points, paired"
    assert found.turned().sure("error") == "95 % interval -3.2 to -1.0 points, paired"
    assert Difference(0.1, 0.0, 0.2).sure("r2") == "95 % interval 0.000 to 0.200, unpaired"
