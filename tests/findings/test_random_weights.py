"""What training gained over random weights."""

import pytest

from probekit.results import IntervalRecord, TwinRecord


def made_twin(tap, trained, random, p=1e-4, *, half=0.02, **changes):
    difference = trained - random
    interval = IntervalRecord(low=difference - half, high=difference + half, kind="newcombe", over="examples", n=600)
    fields = {
        "model": "default", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": "digit", "probe": "default",
        "control": "random_weights", "seeds": [0], "metric": "error", "trained": trained, "twin": random, "low": random,
        "high": random, "difference": difference, "interval": interval, "test": "mcnemar_exact", "p": p,
        "p_adjusted": p, "n": 600, "missed": False,
    }  # fmt: skip
    return TwinRecord(**{**fields, **changes})


def with_twins(made, *twins):
    return made.model_copy(update={"twins": list(twins)})


def test_what_training_gained_is_told(make, probe, only):
    probes = [probe("in", 0.05), probe("a", 0.3), probe("b", 0.1)]
    one = only(with_twins(make(probes), made_twin("a", 0.3, 0.5), made_twin("b", 0.1, 0.4)))
    assert one.sentence == (
        "Training gains 30.0 points (95 % interval 28.0 to 32.0 points, paired) for digit at b; error 10.0 % with the "
        "trained weights, 40.0 % with random ones."
    )
    assert (one.severity, one.taps, one.factor) == ("info", ["b"], "digit")
    assert one.evidence["best"] == {
        "tap": "b", "reduction": "pool", "trained": 0.1, "random_weights": 0.4, "seeds": [0],
        "gain": {"value": pytest.approx(0.3), "low": pytest.approx(0.28), "high": pytest.approx(0.32), "paired": True},
        "p_adjusted": 1e-4,
    }  # fmt: skip
    counts = ("compared", "gains", "not_shown", "random_is_better")
    assert [one.evidence[name] for name in counts] == [2, 2, 0, 0]


def test_taps_without_a_gain_are_named(make, probe, only):
    probes = [probe(tap, error) for tap, error in (("a", 0.4), ("b", 0.3), ("c", 0.1))]
    twins = made_twin("a", 0.4, 0.39, 0.7), made_twin("b", 0.3, 0.2), made_twin("c", 0.1, 0.4)
    one = only(with_twins(make(probes), *twins))
    assert (one.severity, one.taps) == ("notice", ["a", "b"])
    assert one.sentence.endswith(
        "with random ones; random weights do better at 1 of 3 places: b; no gain is shown at 1 of 3 places: a."
    )


def test_no_gain_at_the_best_tap(make, probe, only):
    probes = [probe("a", 0.3), probe("b", 0.1)]
    one = only(with_twins(make(probes), made_twin("a", 0.3, 0.5), made_twin("b", 0.1, 0.11, 0.4)))
    assert one.sentence == (
        "No gain from training is shown for digit at b: 1.0 points (95 % interval -1.0 to 3.0 points, paired); error "
        "10.0 % with the trained weights, 11.0 % with random ones."
    )
    assert (one.severity, one.taps) == ("notice", ["b"])


def test_random_weights_that_do_better_are_a_warning(make, probe, only):
    one = only(with_twins(make([probe("a", 0.3)]), made_twin("a", 0.3, 0.2)))
    assert one.sentence == (
        "Random weights do better than the trained ones for digit at a, by 10.0 points (95 % interval 8.0 to 12.0 "
        "points, paired); error 30.0 % with the trained weights, 20.0 % with random ones."
    )
    assert one.severity == "warning"


def test_of_r2_more_is_better_and_draws_are_averaged(make, number, only):
    changes = {"metric": "r2", "factor": "snr", "seeds": [3, 4], "interval": None}
    one = only(with_twins(make([number("a", 0.8)]), made_twin("a", 0.8, 0.3, **changes)))
    assert one.sentence == (
        "Training gains 0.500 (interval unknown) for snr at a; R² 0.800 with the trained weights, 0.300 with random "
        "ones, the mean of 2 draws."
    )
    assert one.severity == "info"


@pytest.mark.parametrize(("p", "severity"), [(0.0499, "info"), (0.05, "notice")])
def test_the_border_is_that_of_all_tests(make, probe, only, p, severity):
    assert only(with_twins(make([probe("a", 0.1)]), made_twin("a", 0.1, 0.3, p))).severity == severity


def test_what_is_not_judged_says_nothing(make, probe, finding):
    assert finding(make([probe("a", 0.1)])) == []
    missed = made_twin("a", 0.1, 0.3, p_adjusted=None, missed=True)
    assert finding(with_twins(make([probe("a", 0.1, status="missed")]), missed)) == []
    assert finding(with_twins(make([probe("a", 0.1)]), missed)) == []
    assert finding(with_twins(make([probe("a", 0.1)]), made_twin("a", 0.1, 0.3, control="another"))) == []


def test_each_checkpoint_and_factor_is_told_of_by_itself(make, probe, finding):
    probes = [probe("a", 0.1, checkpoint="1"), probe("a", 0.1, checkpoint="2", factor="parity")]
    twins = made_twin("a", 0.1, 0.3, checkpoint="1"), made_twin("a", 0.1, 0.3, checkpoint="2", factor="parity")
    found = finding(with_twins(make(probes), *twins))
    assert [(one.checkpoint, one.factor) for one in found] == [("1", "digit"), ("2", "parity")]
    assert found[0].sentence.startswith("Checkpoint 1: training gains 20.0 points")


def test_reductions_and_odd_names(make, probe, only, odd):
    probes = [probe(odd, 0.1, factor=odd), probe(odd, 0.2, factor=odd, reduction="flatten")]
    twins = [made_twin(odd, 0.1, 0.1, 1.0, factor=odd, reduction=name) for name in ("pool", "flatten")]
    one = only(with_twins(make(probes), *twins))
    assert (one.taps, one.reduction, one.evidence["not_shown"]) == ([odd], None, 2)
    assert one.sentence.isprintable()
