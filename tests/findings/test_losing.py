"""One factor loses where another gains."""

import pytest


@pytest.fixture
def both(probe):
    """Return probes for digit and parity from a list of errors each."""

    def made(digit, parity, **changes):
        return [
            probe(f"t{number}", value, factor=factor, **changes)
            for factor, values in (("digit", digit), ("parity", parity))
            for number, value in enumerate(values)
        ]

    return made


def test_a_step_is_told_where_both_changes_are_significant(make, both, step, only):
    steps = [step("t0", "t1", -0.011, half=0.006), step("t0", "t1", 0.042, half=0.012, factor="parity")]
    one = only(make(both([0.5, 0.489], [0.1, 0.142]), steps=steps))
    assert one.sentence == (
        "From t0 to t1 the probe for parity gets worse by 4.2 points (95 % interval 3.0 to 5.4 points, paired), while "
        "others get better: digit by 1.1 points."
    )
    assert (one.severity, one.factor, one.taps, one.reduction) == ("notice", "parity", ["t0", "t1"], "pool")
    assert list(one.evidence["gains"]) == ["digit"]


@pytest.mark.parametrize("p", [(0.2, 1e-4), (1e-4, 0.2), (0.05, 0.05)])
def test_one_significant_change_is_not_enough(make, both, step, finding, p):
    steps = [step("t0", "t1", -0.01, p[0]), step("t0", "t1", 0.01, p[1], factor="parity")]
    assert finding(make(both([0.5, 0.49], [0.10, 0.11]), steps=steps)) == []


def test_two_that_lose_and_none_that_gains_are_not_told(make, both, step, finding):
    steps = [step("t0", "t1", 0.1), step("t0", "t1", 0.1, factor="parity")]
    assert finding(make(both([0.5, 0.6], [0.1, 0.2]), steps=steps)) == []


def test_a_slow_loss_is_told_from_the_best_tap_to_the_end(make, both, only):
    one = only(make(both([0.6, 0.5, 0.4, 0.3, 0.2], [0.2, 0.1, 0.13, 0.16, 0.2])))
    assert one.factor == "parity"
    assert (one.evidence["before"], one.evidence["after"]) == ("t1", "t4")
    assert one.sentence.startswith("From t1 to t4 the probe for parity gets worse by 10.0 points (95 % interval ")
    assert one.sentence.endswith("unpaired), while others get better: digit by 30.0 points.")


def test_a_slow_loss_within_the_intervals_is_not_told(make, both, finding):
    assert finding(make(both([0.6, 0.5, 0.4], [0.2, 0.19, 0.2]))) == []
    assert finding(make(both([0.4, 0.4, 0.4], [0.2, 0.1, 0.2]))) == []


def test_a_slow_loss_is_paired_where_the_run_has_compared_both_ends(make, both, contrast, only):
    known = [contrast("t2", "t1", 0.1, factor="parity"), contrast("t2", "t1", -0.1)]
    one = only(make(both([0.5, 0.4, 0.3], [0.2, 0.1, 0.2]), contrasts=known))
    assert "10.0 points (95 % interval 9.5 to 10.5 points, paired; p = 0.004 by McNemar's exact test)" in one.sentence
    assert one.evidence["gains"]["digit"]["paired"] is True


def test_a_loss_between_vectors_is_told_once_and_of_no_reduction(make, probe, step, only):
    probes, steps = [], []
    for factor, errors in (("digit", [0.6, 0.6, 0.5, 0.3]), ("parity", [0.3, 0.3, 0.1, 0.4])):
        for name, error in zip(("pool", "flatten"), errors[:2], strict=True):
            probes.append(probe("map", error, factor=factor, reduction=name))
        for tap, error in zip("ab", errors[2:], strict=True):
            probes.append(probe(tap, error, factor=factor, reduction="flatten", vector=True))
        steps.append(step("a", "b", errors[3] - errors[2], factor=factor, reduction="flatten"))
    one = only(make(probes, edges=[("map", "a"), ("a", "b")], steps=steps))
    assert one.sentence.startswith("From a to b the probe for parity gets worse by 30.0 points")


def test_a_step_to_the_end_is_told_once(make, both, step, finding):
    steps = [step("t0", "t1", -0.3), step("t0", "t1", 0.3, factor="parity")]
    assert len(finding(make(both([0.6, 0.3], [0.1, 0.4]), steps=steps))) == 1


def test_models_and_reductions_are_apart(make, both, step, finding):
    probes = [*both([0.6, 0.3], [0.1, 0.4], model="m"), *both([0.6, 0.3], [0.1, 0.4], model="n", reduction="flatten")]
    of_n = {"model": "n", "reduction": "flatten"}
    steps = [step("t0", "t1", -0.3, **of_n), step("t0", "t1", 0.3, factor="parity", **of_n)]
    found = finding(make(probes, steps=steps))
    assert [(one.model, one.reduction, one.evidence["loss"]["paired"]) for one in found] == [
        ("m", "pool", False), ("n", "flatten", True),
    ]  # fmt: skip


def test_numbers_lose_r2(make, probe, number, step, only):
    probes = [probe("t0", 0.5), probe("t1", 0.3), number("t0", 0.8), number("t1", 0.7)]
    steps = [step("t0", "t1", -0.2), step("t0", "t1", -0.1, half=0.05, factor="snr", metric="r2")]
    one = only(make(probes, steps=steps))
    assert "the probe for snr gets worse by 0.100 (95 % interval 0.050 to 0.150, paired)" in one.sentence


def test_missed_taps_have_no_part(make, both, finding):
    assert finding(make(both([0.6, 0.3], [0.1, 0.4], status="missed"))) == []


def test_one_factor_or_tap_or_none_loses_nothing_to_another(make, probe, finding):
    assert finding(make([probe("a", 0.1), probe("b", 0.9)])) == []
    assert finding(make([probe("a", 0.1), probe("a", 0.9, factor="parity")])) == []
    assert finding(make([])) == []


def test_odd_names(make, probe, only, odd):
    probes = [probe("a", 0.6), probe(odd, 0.3), probe("a", 0.1, factor=odd), probe(odd, 0.4, factor=odd)]
    one = only(make(probes))
    assert (one.taps, one.factor) == (["a", odd], odd)
    assert one.sentence.isprintable()
