"""The trend of the error with depth, and single steps that are worse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FALLING = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3]


def taps(count):
    return [f"t{number}" for number in range(count)]


def curve(probe, values, **changes):
    return [probe(tap, value, **changes) for tap, value in zip(taps(len(values)), values, strict=True)]


@given(st.lists(st.integers(0, 9), min_size=5, max_size=8))
@settings(max_examples=40, deadline=None)
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


@pytest.mark.parametrize("count", range(5))
def test_taps_too_few_for_any_trend_to_be_significant_say_nothing_of_one(make, probe, finding, count):
    """Of n! equally likely orders two are as strict as can be: 2 ÷ n! > .05 for n < 5."""
    assert finding(make(curve(probe, FALLING[:count]))) == []


def test_five_taps_are_enough(make, probe, only):
    one = only(make(curve(probe, FALLING[:5])))
    assert one.evidence["p"] == pytest.approx(2 / 120)
    assert "falls with depth" in one.sentence


def test_no_clear_trend(make, probe, only):
    one = only(make(curve(probe, [0.5, 0.4, 0.6, 0.3, 0.7])))
    assert "has no clear trend with depth (Kendall's τ 0.20, p = 0.82, 5 taps)" in one.sentence
    assert one.severity == "info"


def test_equal_errors_have_no_tau(make, probe, only):
    one = only(make(curve(probe, [0.5] * 5)))
    assert one.sentence == "The test error for digit is the same at all 5 taps."


def test_significant_steps_of_few_taps_are_told_together(make, probe, step, only):
    """Of all reductions, the worst first; not those that are better, too small or not significant."""
    names = [f"after_{number}" for number in range(6)]
    probes = [one for name in names for one in curve(probe, [0.5, 0.6, 0.4], reduction=name)]
    steps = [
        step("t0", "t1", 0.02, half=0.01, reduction="after_1"),
        step("t1", "t2", 0.05, half=0.01, reduction="after_4"),
        step("t0", "t1", 0.09, p=0.06, reduction="after_2"),
        step("t0", "t1", 4e-4, half=1e-4, reduction="after_3"),
        *(step("t1", "t2", -0.2, reduction=name) for name in names[:3]),
    ]
    one = only(make(probes, steps=steps))
    assert one.sentence == (
        "For digit, 2 steps to the next tap are significantly worse after Holm's correction: t2 (after_4) is 5.0 "
        "points worse than t1 (after_4), which feeds it (95 % interval 4.0 to 6.0 points, paired) and t1 (after_1) is "
        "2.0 points worse than t0 (after_1), which feeds it (95 % interval 1.0 to 3.0 points, paired)."
    )
    assert (one.severity, one.reduction, one.taps) == ("notice", None, ["t0", "t1", "t2"])
    assert [(each["before"], each["value"]) for each in one.evidence["worse"]] == [("t1", -0.05), ("t0", -0.02)]


def test_a_lone_significant_step_has_the_reduction_that_it_is_under(make, probe, step, only):
    one = only(make(curve(probe, [0.5, 0.6, 0.4]), steps=[step("t0", "t1", 0.1)]))
    assert one.sentence.startswith(
        "For digit, 1 step to the next tap is significantly worse after Holm's correction: t1 is 10.0 points worse"
    )
    assert (one.reduction, one.taps) == ("pool", ["t0", "t1"])


def test_a_step_that_a_trend_tells_is_not_told_twice(make, probe, step, only):
    """Two vectors are in the curve of what reduces the taps before them, and in that of few taps too."""
    vectors = [probe(tap, 0.3 + number / 10, reduction="flatten", vector=True) for number, tap in enumerate("yz")]
    few = [probe("t2", 0.6, reduction="few"), probe("t3", 0.5, reduction="few")]
    long = curve(probe, FALLING[:4])
    probes = [*long[:3], few[0], long[3], few[1], *vectors]
    between = step("y", "z", 0.1, reduction="flatten")
    one = only(make(probes, steps=[between]))
    assert "under pool falls" in one.sentence
    assert [(each["before"], each["after"]) for each in one.evidence["worse"]] == [("y", "z")]


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
        "1 step significantly worse by less than 0.001." in only(make(curve(number, [0.9] * 5), steps=steps)).sentence
    )


def test_it_is_said_that_no_step_is_worse(make, probe, step, only):
    one = only(make(curve(probe, FALLING), steps=[step("t0", "t1", -0.1), step("t1", "t2", 0.004, p=0.3)]))
    assert one.sentence.endswith("; no step to the next tap is significantly worse.")


def test_steps_of_numbers_are_told_in_r2(make, number, step, only):
    steps = [step("t0", "t1", -0.1, half=0.05, factor="snr", metric="r2")]
    one = only(make(curve(number, [0.8, 0.7, 0.9, 0.9, 0.9]), steps=steps))
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


def test_odd_names(make, probe, step, only, odd):
    probes = [probe(odd, 0.5, factor=odd), probe("b", 0.6, factor=odd), probe("c", 0.1, factor=odd)]
    one = only(make(probes, steps=[step(odd, "b", 0.1, factor=odd)]))
    assert one.taps == [odd, "b"]
    assert one.sentence.isprintable()
