"""What probes reach on train with shuffled labels."""

import pytest


def shuffled(probe, tap, train, seed=0, **changes):
    return probe(tap, 0.9, train=train, control="shuffled_labels", seed=seed, **changes)


def test_taps_that_memorise_are_counted_and_the_most_capable_is_named(make, probe, only):
    probes = [
        probe("a", 0.5), shuffled(probe, "a", 0.4), probe("b", 0.1), shuffled(probe, "b", 0.0), probe("c", 0.1),
        shuffled(probe, "c", 0.7),
    ]  # fmt: skip
    one = only(make(probes))
    assert one.sentence == (
        "With shuffled labels, 2 of 3 probes for digit can memorise, most of all error 0.0 % on train at b, where "
        "chance has 90.0 %; what they reach on train says little."
    )
    assert (one.severity, one.taps) == ("notice", ["a", "b"])
    assert (one.evidence["probes"], one.evidence["memorised"]) == (3, 2)
    assert one.evidence["most"] == {"tap": "b", "reduction": "pool", "train": 0.0, "seeds": 1}


def test_it_is_said_that_none_can_memorise(make, probe, only):
    one = only(make([probe("a", 0.5), shuffled(probe, "a", 0.8), probe("b", 0.5), shuffled(probe, "b", 0.6)]))
    assert one.sentence == (
        "With shuffled labels, no probe for digit can memorise; the nearest to it is error 60.0 % on train at b, where "
        "chance has 90.0 %."
    )
    assert (one.severity, one.taps) == ("info", ["b"])


@pytest.mark.parametrize(("train", "severity"), [(0.44, "notice"), (0.46, "info")])
def test_half_of_chance_is_the_border(make, probe, only, train, severity):
    assert only(make([probe("a", 0.5), shuffled(probe, "a", train)])).severity == severity


def test_seeds_are_averaged(make, probe, only):
    probes = [probe("a", 0.5), *(shuffled(probe, "a", train, seed) for seed, train in enumerate((0.2, 0.4, 0.6)))]
    evidence = only(make(probes)).evidence["most"]
    assert (evidence["train"], evidence["seeds"]) == (pytest.approx(0.4), 3)


def test_numbers_memorise_by_r2(make, number, only):
    probes = [number("a", 0.5), number("a", 0.0, train=0.9, control="shuffled_labels")]
    one = only(make(probes))
    assert one.severity == "notice"
    assert "R² 0.900 on train at a, where chance has -0.010" in one.sentence


def test_other_controls_missed_ones_and_none_say_nothing(make, probe, finding):
    assert finding(make([])) == []
    assert finding(make([probe("a", 0.5)])) == []
    assert finding(make([probe("a", 0.5), probe("a", 0.5, control="control_task by word")])) == []
    assert finding(make([probe("a", 0.5), shuffled(probe, "a", 0.0, status="missed")])) == []


def test_reductions_and_odd_names(make, probe, only, odd):
    probes = [probe(odd, 0.5, factor=odd), probe(odd, 0.5, factor=odd, reduction="flatten")]
    probes += [shuffled(probe, odd, 0.0, factor=odd, reduction=name) for name in ("pool", "flatten")]
    one = only(make(probes))
    assert (one.taps, one.reduction, one.evidence["probes"]) == ([odd], None, 2)
    assert one.sentence.isprintable()
