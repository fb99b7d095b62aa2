"""The best tap: chosen on valid, told by its test error."""

import pytest


def test_it_is_chosen_on_valid_and_told_on_test(make, probe, only):
    one = only(make([probe("a", 0.05, 0.2), probe("b", 0.10, 0.1), probe("c", 0.02, 0.01, status="missed")]))
    assert one.sentence == (
        "The best tap for digit, chosen on valid, is b: 10.0 % of 600 test examples wrong (95 % interval 7.8 % to "
        "12.7 %, Wilson)."
    )
    assert (one.severity, one.taps, one.reduction, one.factor) == ("info", ["b"], "pool", "digit")
    assert (one.evidence["valid"], one.evidence["test"], one.evidence["ranked"]) == (0.1, 0.1, 2)
    assert one.evidence["interval"]["kind"] == "wilson"


def test_the_reduction_is_named_where_there_are_several(make, probe, only):
    one = only(make([probe("a", 0.3), probe("a", 0.1, reduction="flatten")]))
    assert "is a (flatten): " in one.sentence


def test_numbers_and_labels(make, number, tags, finding):
    r2, answers = finding(make([number("a", 0.5), number("b", 0.6), tags("a", 0.2), tags("b", 0.3)]))
    assert "is b: R² 0.600 (95 % interval 0.550 to 0.650, bootstrap) on 600 test examples." in r2.sentence
    assert "is a: 20.0 % of the answers for 600 test examples wrong" in answers.sentence


def test_each_model_checkpoint_and_probe_has_its_own(make, probe, finding):
    probes = [probe("a", 0.1, model=model, probe=name) for model in ("fp32", "int8") for name in ("x", "y")]
    starts = [one.sentence.split(":")[0] for one in finding(make(probes))]
    assert starts == [f"Model {m}, probe {p}" for m in ("fp32", "int8") for p in ("x", "y")]


@pytest.mark.parametrize("test", [0.9, 0.95])
def test_what_is_no_better_than_chance_is_not_the_best(make, probe, finding, test):
    assert finding(make([probe("a", test)])) == []


def test_nothing_is_ranked_where_all_are_missed_or_there_are_none(make, probe, finding):
    assert finding(make([probe("a", 0.1, status="missed")])) == []
    assert finding(make([])) == []


def test_odd_names_stay_in_the_taps_and_are_shown_in_the_sentence(make, probe, only, odd):
    one = only(make([probe(odd, 0.1, factor=odd, reduction=odd), probe("b", 0.2, factor=odd)]))
    assert (one.taps, one.factor, one.reduction) == ([odd], odd, odd)
    assert one.sentence.isprintable()
    assert len(one.sentence) < 400
