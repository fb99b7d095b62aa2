"""Projections that hold more than a probe on the whole activation would."""

import pytest


def costly(probe, tap, held, *, seconds=None, raw=640, used=64, outputs=10, **changes):
    cost = {"parameters": outputs * (used + 1), "reduction_parameters": held, "reduction_seconds": seconds}
    return probe(tap, 0.2, features_raw=raw, features_used=used, **cost, **changes)


def test_a_learned_projection_larger_than_a_probe_on_everything_is_warned_of(make, probe, only):
    probes = [
        costly(probe, "a", 64 * 640, seconds=1.25, reduction="learned"),
        costly(probe, "b", 64 * 6400, seconds=2.5, reduction="learned", raw=6400),
        costly(probe, "b", 0, reduction="mean", raw=6400),
    ]
    one = only(make(probes))
    # 10 classes: 650 numbers on 64 features, 64,010 on all 6,400.
    assert one.sentence == (
        "The learned reduction learned holds 409,600 numbers at b, which took 2.5 s to learn and apply: 630 times as "
        "many as the probe after it (650) and 6.4 times as many as a probe on all 6,400 values would hold (64,010); it "
        "is larger than that at 2 taps."
    )
    assert (one.severity, one.reduction, one.taps) == ("warning", "learned", ["a", "b"])
    assert one.evidence["parameters_of_whole"] == 64_010


def test_a_drawn_one_is_a_notice(make, probe, only):
    one = only(make([costly(probe, "a", 64 * 640, reduction="random")]))
    assert (one.severity, one.taps) == ("notice", ["a"])
    assert "learn" not in one.sentence
    assert one.sentence.endswith("at 1 tap.")


@pytest.mark.parametrize("features", [1, 9, 10, 11])
def test_more_features_than_outputs_is_the_border(make, probe, finding, features):
    """A matrix of raw x k against (raw + 1) x 10."""
    told = finding(make([costly(probe, "a", features * 640, used=features)]))
    assert bool(told) == (features > 10)


def test_several_models_and_reductions_are_told_apart(make, probe, finding):
    probes = [
        costly(probe, "a", 99_999, model=model, reduction=name) for model in ("m", "n") for name in ("one", "two")
    ]
    found = finding(make(probes))
    assert [(one.model, one.reduction) for one in found] == [("m", "one"), ("m", "two"), ("n", "one"), ("n", "two")]
    assert found[2].sentence.startswith("Model n: the reduction one holds 99,999 numbers at a")


def test_controls_and_probes_that_do_not_tell_say_nothing(make, probe, finding):
    assert finding(make([])) == []
    assert finding(make([probe("a", 0.5)])) == []
    assert finding(make([costly(probe, "a", None)])) == []
    assert finding(make([costly(probe, "a", 99_999, control="shuffled_labels")])) == []
    assert finding(make([probe("a", 0.5, reduction_parameters=99_999)])) == []


def test_odd_names(make, probe, only, odd):
    one = only(make([costly(probe, odd, 99_999, reduction=odd or "r")]))
    assert one.taps == [odd]
    assert one.sentence.isprintable()
