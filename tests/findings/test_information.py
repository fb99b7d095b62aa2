"""Whether there is any information: yes, no, cannot tell."""

import pytest


def test_answers_are_counted_with_how_sure_they_are(make, probe, told, only):
    probes = [probe(tap, 0.5) for tap in "abcde"]
    information = [
        told("a", "no", gain=0.001, of_chance=0.001, half=0.004), told("b", "cannot_tell", gain=0.01, of_chance=0.01),
        told("c", "yes", of_chance=0.2, p=0.03), told("d", "yes", of_chance=0.7), told("e", "yes", of_chance=0.9),
    ]  # fmt: skip
    one = only(make(probes, information=information))
    assert one.sentence == (
        "Information about digit that a linear probe can use, of 5 taps: yes at 3 (p at most 0.03 after Holm's "
        "correction; gain 20.0 % to 90.0 % of what chance loses); no at 1 (a; gain at most 0.5 %); cannot tell at 1 "
        "(b)."
    )
    assert (one.severity, one.taps) == ("info", ["a", "b"])
    assert one.evidence == {
        "yes": 3, "no": 1, "cannot_tell": 1, "largest_p_of_yes": 0.03, "largest_gain_of_no": pytest.approx(0.005),
    }  # fmt: skip


def test_very_small_p_values_are_not_told_in_full(make, probe, told, only):
    assert "yes at 1 (p < 0.001 after" in only(make([probe("a", 0.1)], information=[told("a", "yes")])).sentence


def test_it_is_a_notice_where_no_tap_says_yes(make, probe, told, only):
    assert only(make([probe("a", 0.9)], information=[told("a", "cannot_tell")])).severity == "notice"


def test_a_no_without_an_interval_names_no_bound(make, probe, told, only):
    for unknown in ({"interval": None}, {"gain": 0.0, "of_chance": 0.0}):
        one = only(make([probe("a", 0.9)], information=[told("a", "no", **unknown)]))
        assert one.sentence.endswith("no at 1 (a).")
        assert one.evidence["largest_gain_of_no"] is None


def test_reductions_are_named_where_there_are_several(make, probe, told, only):
    probes = [probe("a", 0.9), probe("a", 0.1, reduction="flatten")]
    one = only(make(probes, information=[told("a", "no"), told("a", "yes", reduction="flatten")]))
    assert "of 2 probes: yes at 1 " in one.sentence
    assert "no at 1 (a (pool); " in one.sentence


def test_each_factor_has_its_own(make, probe, told, finding):
    probes = [probe("a", 0.1), probe("a", 0.1, factor="parity")]
    both = finding(make(probes, information=[told("a", "yes"), told("a", "no", factor="parity")]))
    assert [(one.factor, one.severity) for one in both] == [("digit", "info"), ("parity", "notice")]


def test_nothing_is_said_where_nothing_was_judged(make, probe, finding):
    assert finding(make([probe("a", 0.1)])) == []
    assert finding(make([])) == []


def test_odd_names(make, probe, told, only, odd):
    one = only(make([probe(odd, 0.9, factor=odd)], information=[told(odd, "no", factor=odd)]))
    assert one.taps == [odd]
    assert one.sentence.isprintable()
