"""The accuracy on the task less that on a control task."""

import pytest

WORD = "control_task by word_id"


def control(probe, tap, test, seed=0, **changes):
    return probe(tap, test, **{"control": WORD, "seed": seed, **changes})


def test_the_best_tap_and_the_lowest_are_told(make, probe, only):
    probes = [
        probe("a", 0.2), control(probe, "a", 0.25), probe("b", 0.03), control(probe, "b", 0.7), probe("c", 0.1),
        control(probe, "c", 0.8),
    ]  # fmt: skip
    one = only(make(probes))
    assert one.sentence.startswith(
        "Against the control task by word_id, the probe for digit at b has a selectivity of 67.0 points (95 % interval "
    )
    assert one.sentence.endswith(
        "unpaired): error 3.0 % on the task, 70.0 % on the control; the lowest, 5.0 points, is at a; at 1 tap half of "
        "the gain over chance or more can be memorised."
    )
    assert (one.severity, one.taps, one.evidence["control"]) == ("info", ["a"], WORD)
    assert (one.evidence["probes"], one.evidence["low"]) == (3, 1)
    found = {one.evidence[name]["tap"]: one.evidence[name]["selectivity"]["value"] for name in ("best", "lowest")}
    assert found == pytest.approx({"a": 0.05, "b": 0.67})


@pytest.mark.parametrize(("test", "severity"), [(0.1, "warning"), (0.3, "notice"), (0.6, "info")])
def test_a_low_one_at_the_best_tap_is_graver(make, probe, only, test, severity):
    one = only(make([probe("a", 0.1), control(probe, "a", test)]))
    assert one.severity == severity
    assert one.taps == ["a"]


def test_seeds_are_averaged(make, probe, only):
    probes = [probe("a", 0.1), *(control(probe, "a", test, seed) for seed, test in enumerate((0.5, 0.6, 0.7)))]
    evidence = only(make(probes)).evidence["best"]
    assert evidence["control"] == pytest.approx(0.6)
    assert evidence["selectivity"]["value"] == pytest.approx(0.5)
    assert evidence["selectivity"]["low"] < 0.5 < evidence["selectivity"]["high"]
    assert evidence["seeds"] == 3


def test_each_control_task_has_its_own(make, probe, finding):
    probes = [probe("a", 0.1), control(probe, "a", 0.5), control(probe, "a", 0.5, control="control_task by lemma")]
    assert [one.evidence["control"] for one in finding(make(probes))] == [WORD, "control_task by lemma"]


def test_numbers_and_unknown_intervals(make, number, only):
    one = only(make([number("a", 0.8, intervals={}), number("a", 0.1, control=WORD)]))
    assert "has a selectivity of 0.700 (interval unknown): R² 0.800 on the task, 0.100 on the control" in one.sentence
    assert one.severity == "info"


def test_other_controls_missed_ones_and_none_say_nothing(make, probe, finding):
    assert finding(make([])) == []
    assert finding(make([probe("a", 0.1)])) == []
    assert finding(make([probe("a", 0.1), probe("a", 0.9, control="shuffled_labels")])) == []
    assert finding(make([probe("a", 0.1), control(probe, "a", 0.5, status="missed")])) == []
    assert finding(make([probe("a", 0.1, status="missed"), control(probe, "a", 0.5)])) == []


def test_odd_names(make, probe, only, odd):
    name = f"control_task by {odd}"
    one = only(make([probe(odd, 0.1, factor=odd), control(probe, odd, 0.5, factor=odd, control=name)]))
    assert one.evidence["control"] == name
    assert one.sentence.isprintable()
