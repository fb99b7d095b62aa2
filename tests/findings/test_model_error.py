"""The model's own error against the best probe."""

import pytest


def test_neither_is_better_where_the_interval_holds_0(make, probe, own, only):
    one = only(make([probe("a", 0.2), probe("b", 0.10)], own=[own(0.11)]))
    assert one.sentence.startswith(
        "The model's own output logits for digit: 11.0 % of 600 test examples wrong (95 % interval 8.7 % to 13.8 %, "
        "Wilson); the best probe, at b: 10.0 % of 600 test examples wrong (95 % interval 7.8 % to 12.7 %, Wilson). "
        "Which of them is better cannot be told (difference 1.0 points, 95 % interval -"
    )
    assert (one.severity, one.taps) == ("info", ["b"])


@pytest.mark.parametrize(("model", "text", "severity"), [(0.3, "The probe", "notice"), (0.02, "The model", "info")])
def test_who_is_better_is_said(make, probe, own, only, model, text, severity):
    one = only(make([probe("b", 0.10)], own=[own(model)]))
    assert f"{text} is better by {100 * abs(model - 0.1):.1f} points (95 % interval" in one.sentence
    assert "interval -" not in one.sentence
    assert one.severity == severity


def test_on_the_same_rows_a_smaller_difference_is_told(make, probe, own, contrast, only):
    made = {"probes": [probe("b", 0.10)], "own": [own(0.11)]}
    assert "cannot be told" in only(make(**made)).sentence
    one = only(make(**made, contrasts=[contrast("b", None, -0.01)]))
    sure = "95 % interval 0.5 to 1.5 points, paired; p = 0.004 by McNemar's exact test"
    assert one.sentence.endswith(f"The probe is better by 1.0 points ({sure}).")
    assert one.evidence["best"]["better_than_model"]["paired"] is True
    other = contrast("b", None, -0.01, checkpoint="another")
    assert "unpaired" in only(make(**made, contrasts=[other])).sentence


@pytest.mark.parametrize("model", [0.89, 0.95])
def test_a_model_at_chance_is_a_warning(make, probe, own, only, model):
    one = only(make([probe("b", 0.1)], own=[own(model)]))
    assert one.severity == "warning"
    assert "is not shown to be better than always saying the commonest class (90.0 %)" in one.sentence


def test_without_a_ranked_probe_the_model_is_told_alone(make, probe, own, only):
    one = only(make([probe("b", 0.1, status="missed")], own=[own(0.2)]))
    assert one.sentence.endswith("Wilson).")
    assert "best" not in one.evidence


def test_it_is_that_of_the_same_checkpoint_model_and_factor(make, probe, own, finding):
    probes = [probe("a", 0.1, checkpoint=name) for name in ("1", "2")]
    others = [own(0.2, checkpoint="2"), own(0.2, checkpoint="3"), own(0.2, factor="other", checkpoint="1")]
    (one,) = finding(make(probes, own=others))
    assert one.checkpoint == "2"
    assert one.sentence.startswith("Checkpoint 2: the model's own output ")


def test_a_number_and_its_r2(make, number, own, only):
    r2 = {"train": 0.9, "valid": 0.9, "test": 0.9}
    model = own(0.5, factor="snr", task="number", scores={"r2": r2}, primary="r2", error=None)
    model = model.model_copy(update={"intervals": number("a", 0.9, half=0.01).intervals})
    one = only(make([number("a", 0.5)], own=[model]))
    assert one.sentence.endswith("The model is better by 0.400 (95 % interval 0.349 to 0.451, unpaired).")


def test_nothing_is_said_without_an_output_or_of_another_metric(make, probe, own, finding):
    assert finding(make([probe("a", 0.1)])) == []
    assert finding(make([], own=[own(0.1)])) == []
    assert finding(make([probe("a", 0.1)], own=[own(0.1, primary="r2")])) == []


def test_odd_names(make, probe, own, only, odd):
    one = only(make([probe(odd, 0.1, factor=odd)], own=[own(0.2, factor=odd, output=odd)]))
    assert one.sentence.isprintable()
    assert one.evidence["output"] == odd
