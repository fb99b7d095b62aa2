"""Probes that fit train far better than valid."""

import pytest


def test_the_worst_is_told_with_its_gap(make, probe, only):
    probes = [probe("a", 0.4, train=0.1), probe("b", 0.6, 0.5, features_used=2000), probe("c", 0.1, train=0.08)]
    one = only(make(probes))
    assert one.sentence.startswith(
        "2 of 3 probes for digit fit the training rows far better than valid, most of all at b: error 0.0 % on train, "
        "50.0 % on valid (gap 50.0 points, 95 % interval 44."
    )
    assert one.sentence.endswith(", unpaired), with 2,000 features for 900 training rows.")
    assert (one.severity, one.taps) == ("notice", ["a", "b"])
    assert (one.evidence["probes"], one.evidence["far"], one.evidence["worst"]["tap"]) == (3, 2, "b")


def test_a_very_large_gap_is_a_warning(make, probe, only):
    assert only(make([probe("a", 0.7)])).severity == "warning"


def test_a_tenth_of_chance_is_the_border(make, probe, finding, only):
    """With a baseline of 0.9, the gap's lower end must pass 0.09."""
    assert finding(make([probe("a", 0.12)])) == []
    one = only(make([probe("a", 0.14)]))
    assert one.evidence["worst"]["gap"]["low"] > 0.09
    assert one.sentence.startswith("1 of 1 probes for digit fits the training rows ")


def test_numbers_by_r2(make, number, only, finding):
    one = only(make([number("a", 0.5, 0.5, 0.99)]))
    assert "most of all at a: R² 0.990 on train, 0.500 on valid (gap 0.490, 95 % interval 0." in one.sentence
    assert finding(make([number("a", 0.5, 0.5, 0.55)])) == []
    assert finding(make([number("a", 0.5, 0.5, 0.99, intervals={})])) == []


def test_missed_probes_and_a_baseline_without_error_say_nothing(make, probe, finding):
    assert finding(make([probe("a", 0.5, status="missed")])) == []
    assert finding(make([probe("a", 0.5)], baseline=0.0)) == []
    assert finding(make([])) == []


@pytest.mark.parametrize("train", [0.5, 0.9])
def test_an_error_that_is_as_large_on_train_is_no_overfitting(make, probe, finding, train):
    assert finding(make([probe("a", 0.5, train=train)])) == []


def test_odd_names(make, probe, only, odd):
    one = only(make([probe(odd, 0.5, factor=odd, reduction=odd)]))
    assert one.taps == [odd]
    assert one.sentence.isprintable()
