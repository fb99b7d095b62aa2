"""The trend of the error with depth, and single steps that are worse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FALLING = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3]


def taps(count):
    return [f"t{number}" for number in range(count)]


def curve(probe, values, **changes):
    return [probe(tap, value, **changes) for tap, value in zip(taps(len(values)), values, strict=True)]


@given(st.lists(st.integers(0, 9), min_size=3, max_size=8))
@settings(max_examples=40)
def test_tau_counts_pairs_in_order(make, probe, only, wrong):
    """Kendall's τ-b: (concordant - discordant) ÷ √(all pairs · those not tied), depth having no ties."""
    one = only(make(curve(probe, [value / 10 for value in wrong])))
    pairs = [(a, b) for i, a in enumerate(wrong) for b in wrong[i + 1 :]]
    untied = sum(a != b for a, b in pairs)
    order = sum((b > a) - (b < a) for a, b in pairs)
    assert one.evidence["tau"] == pytest.approx(order / (len(pairs) * untied) ** 0.5 if untied else 0.0)


def test_a_falling_error_is_told_with_its_p(make, probe, only):
    one = only(make(curve(probe, FALLING)))
    # All 6! orders are equally likely; two of them have |τ| = 1.
    assert one.sentence == "The test error for digit falls with depth (Kendall's τ -1.00, p = 0.0028, 6 taps)."
    assert one.evidence["p"] == pytest.approx(2 / 720)
    assert (one.severity, one.taps, one.evidence["taps"]) == ("info", [], 6)


def test_a_rising_error_is_a_notice(make, probe, only):
    one = only(make(curve(probe, FALLING[::-1])))
    assert one.severity == "notice"
    assert "rises with depth" in one.sentence


def test_r2_is_to_rise(make, number, only):
    up, down = only(make(curve(number, FALLING[::-1]))), only(make(curve(number, FALLING)))
    assert up.sentence.startswith("The test R² for snr rises with depth (Kendall's τ 1.00")
    assert (up.severity, down.severity) == ("info", "notice")


def test_few_taps_have_no_clear_trend(make, probe, only):
    one = only(make(curve(probe, FALLING[:3])))
    assert "has no clear trend with depth (Kendall's τ -1.00, p = 0.33, 3 taps)" in one.sentence
    assert one.severity == "info"


def test_equal_errors_have_no_tau(make, probe, only):
    one = only(make(curve(probe, [0.5] * 4)))
    assert one.sentence == "The test error for digit is the same at all 4 taps."


def test_a_significant_step_up_is_named(make, probe, step, only):
    steps = [step("t0", "t1", -0.1), step("t1", "t2", 0.05, half=0.01), step("t2", "t3", 0.02, half=0.01, p=0.2)]
    one = only(make(curve(probe, FALLING), steps=steps))
    assert one.severity == "notice"
    assert one.sentence.endswith(
        "; significant after Holm's correction: t2 is 5.0 points worse than t1, which feeds it (95 % interval 4.0 to "
        "6.0 points, paired); 1 step worse by the interval alone, not after Holm's correction."
    )
    assert [(one["before"], one["after"]) for one in one.evidence["worse"]] == [("t1", "t2")]
    assert (one.evidence["better"], one.evidence["steps"], one.taps) == (1, 3, ["t1", "t2"])


def test_steps_too_small_to_be_shown_are_only_counted(make, probe, number, step, only):
    steps = [step("t0", "t1", 4e-4, half=1e-4), step("t1", "t2", 1e-4, half=5e-5)]
    one = only(make(curve(probe, FALLING), steps=steps))
    assert one.sentence.endswith("; 2 steps significantly worse by less than 0.1 points.")
    assert (one.taps, one.evidence["worse"]) == ([], [])
    steps = [step("t0", "t1", -4e-4, half=1e-4, factor="snr", metric="r2")]
    assert (
        "1 step significantly worse by less than 0.001." in only(make(curve(number, [0.9] * 3), steps=steps)).sentence
    )


def test_it_is_said_that_no_step_is_worse(make, probe, step, only):
    one = only(make(curve(probe, FALLING), steps=[step("t0", "t1", -0.1), step("t1", "t2", 0.004, p=0.3)]))
    assert one.sentence.endswith("; no step to the next tap is significantly worse.")


def test_steps_of_numbers_are_told_in_r2(make, number, step, only):
    steps = [step("t0", "t1", -0.1, half=0.05, factor="snr", metric="r2")]
    one = only(make(curve(number, [0.8, 0.7, 0.9]), steps=steps))
    assert "t1 is 0.100 worse than t0, which feeds it (95 % interval 0.050 to 0.150, paired)" in one.sentence


def test_taps_beside_the_main_branch_and_missed_ones_are_left_out(make, probe, step, only):
    probes = [*curve(probe, FALLING[:4]), probe("aux", 0.9), probe("gone", 0.9, status="missed"), probe("end", 0.1)]
    edges = [("t0", "t1"), ("t1", "t2"), ("t1", "aux"), ("t2", "t3"), ("t3", "gone"), ("gone", "end")]
    one = only(make(probes, edges=edges, steps=[step("t1", "aux", 0.3)]))
    assert (one.evidence["taps"], one.evidence["steps"]) == (5, 0)


def test_each_reduction_and_factor_has_its_own(make, probe, finding):
    probes = [
        *curve(probe, FALLING), *curve(probe, FALLING, reduction="flatten"), *curve(probe, FALLING, factor="parity"),
    ]  # fmt: skip
    starts = [one.sentence.split(" falls")[0] for one in finding(make(probes))]
    assert starts == [
        "The test error for digit under pool", "The test error for digit under flatten", "The test error for parity",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_taps_have_no_trend(make, probe, finding, count):
    assert finding(make(curve(probe, FALLING[:count]))) == []


def test_odd_names(make, probe, step, only, odd):
    probes = [probe(odd, 0.5, factor=odd), probe("b", 0.6, factor=odd), probe("c", 0.1, factor=odd)]
    one = only(make(probes, steps=[step(odd, "b", 0.1, factor=odd)]))
    assert one.taps == [odd, "b"]
    assert one.sentence.isprintable()
