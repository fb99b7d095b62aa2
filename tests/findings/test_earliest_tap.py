"""The earliest tap within one standard error of the best, on valid."""

import pytest


def test_the_earliest_of_those_that_are_near_is_told(make, probe, only):
    # The standard error of 10 % of 300 is 1.7 points.
    probes = [probe("a", 0.3, 0.12), probe("b", 0.14, 0.115), probe("c", 0.10, 0.11), probe("d", 0.09, 0.10)]
    one = only(make(probes))
    assert one.evidence["standard_error"] == pytest.approx((0.1 * 0.9 / 300) ** 0.5, rel=0.02)
    assert one.sentence == (
        "The earliest tap for digit within one standard error (1.7 points on valid) of the best is b, 2 taps before d: "
        "14.0 % of 600 test examples wrong (95 % interval 11.5 % to 17.0 %, Wilson)."
    )
    assert (one.taps, one.severity) == (["b", "d"], "info")
    assert (one.evidence["taps_before_best"], one.evidence["test"]) == (2, {"earliest": 0.14, "best": 0.09})


def test_exactly_one_standard_error_is_near(make, probe, only):
    best = probe("b", 0.1, 0.1)
    error = only(make([probe("a", 0.5, 0.5), best])).evidence["standard_error"]
    assert only(make([probe("a", 0.5, 0.1 + error * 0.999), best])).taps == ["a", "b"]
    assert only(make([probe("a", 0.5, 0.1 + error * 1.001), best])).taps == ["b"]


def test_it_is_said_where_none_is_near(make, probe, only):
    one = only(make([probe("a", 0.5), probe("b", 0.1)]))
    assert one.sentence == "No tap before b is within one standard error (1.7 points on valid) of it for digit."


def test_of_several_reductions_at_the_earliest_tap_the_better_is_told(make, probe, only):
    probes = [probe("a", 0.11), probe("a", 0.105, reduction="flatten"), probe("b", 0.1)]
    assert "is a (flatten), 1 tap before b (pool): " in only(make(probes)).sentence


def test_without_any_error_one_error_more_is_near(make, probe, only):
    assert only(make([probe("a", 0.0, 1 / 300), probe("b", 0.0, 0.0)])).taps == ["b"]
    assert only(make([probe("a", 0.0, 0.9 / 300), probe("b", 0.0, 0.0)])).taps == ["a", "b"]


def test_r2_takes_the_width_from_test(make, number, only):
    one = only(make([number("a", 0.6, 0.78), number("b", 0.8, 0.8, half=0.05)]))
    assert one.evidence["standard_error"] == pytest.approx(0.05 / 1.96 * 2**0.5, rel=1e-3)
    assert "(0.036 on valid)" in one.sentence
    assert one.taps == ["a", "b"]


@pytest.mark.parametrize("first", [{"valid": 0.1}, {"status": "missed", "valid": 0.3}])
def test_nothing_is_said_where_the_first_tap_that_may_be_ranked_is_the_best(make, probe, finding, first):
    later = probe("b", 0.3) if first["valid"] < 0.3 else probe("b", 0.2)
    assert finding(make([probe("a", 0.1, **first), later])) == []


def test_nothing_is_said_of_one_tap_of_none_at_chance_or_without_a_standard_error(make, probe, number, finding):
    assert finding(make([probe("a", 0.1)])) == []
    assert finding(make([])) == []
    assert finding(make([probe("a", 0.95), probe("b", 0.92)])) == []
    assert finding(make([number("a", 0.1), number("b", 0.5, intervals={})])) == []
