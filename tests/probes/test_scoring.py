"""From a probe's values to its scores, whatever is asked."""

import numpy as np
import pytest

from probekit.components import Certificate, FitFacts, LinearMap, Target
from probekit.probes.fitted import FittedLinear
from probekit.probes.scoring import by_metric, label_penalties, score_output, score_target
from probekit.statistics.intervals import (
    auroc_interval,
    balanced_error_interval,
    share_interval,
    wilson_bounds,
)

ROWS = {"train": np.arange(0, 10), "valid": np.arange(10, 20), "easy": np.arange(20, 30), "hard": np.arange(30, 39)}


def target(codes, task, classes=()):
    return Target("f", classes, codes, ROWS["train"], ROWS["valid"], task=task, seed=7)


def fitted(penalty=None, status="missed", gap=0.5, **facts):
    linear = LinearMap(np.zeros((1, 1)), np.zeros(1))
    return FittedLinear(linear, penalty, 1.0, Certificate(status, gap), facts=FitFacts(**facts))


def test_numbers_have_an_interval_on_every_test_split_and_squared_losses():
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(40)
    numbers[39] = np.nan
    logits = (rng.standard_normal((40, 1)) + 0).astype(np.float32)
    found = score_target([logits], target(numbers, "number"), ROWS, np.arange(40))
    assert list(found.intervals["r2"]) == ["easy", "hard"]
    assert found.intervals["r2"]["hard"].n == 9
    assert found.intervals["r2"]["easy"].seed == 7
    np.testing.assert_allclose(found.losses[:39], (logits[:39, 0] - numbers[:39]) ** 2)
    assert np.isnan(found.losses[39])
    assert found.predicted.tolist() == logits[:, 0].tolist()


def test_losses_of_yes_no_labels_are_one_a_label():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 2, (40, 3))
    codes[39] = -1
    logits = rng.standard_normal((40, 3)).astype(np.float32)
    found = score_target([logits], target(codes, "multilabel", ("a", "b", "c")), ROWS, np.arange(40))
    yes = 1 / (1 + np.exp(-logits[:39].astype(np.float64)))
    np.testing.assert_allclose(found.losses[:39], -np.log(np.where(codes[:39] == 1, yes, 1 - yes)), rtol=1e-9)
    assert np.isnan(found.losses[39]).all()
    assert found.predicted.tolist() == (logits > 0).astype(int).tolist()
    for split, rows in ROWS.items():
        assert found.scores["cross_entropy"][split] == pytest.approx(found.losses[rows].mean())
        assert found.by_label["b"]["error"][split] == pytest.approx(np.mean(found.predicted[rows, 1] != codes[rows, 1]))


def test_an_error_has_an_interval_on_every_split_and_auroc_on_test_splits():
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 2, 40)
    codes[39] = -1
    logits = rng.standard_normal((40, 2)).astype(np.float32)
    found = score_target([logits], target(codes, "classes", ("a", "b")), ROWS, np.arange(40))
    assert list(found.intervals) == ["error", "balanced_error", "auroc"]
    assert list(found.intervals["error"]) == list(ROWS)
    for split, rows in ROWS.items():
        own = found.intervals["error"][split]
        wrong = np.sum(found.predicted[rows] != codes[rows])
        assert (own.low, own.high, own.kind, own.n) == (*wilson_bounds(wrong, len(rows)), "wilson", len(rows))
    hard = ROWS["hard"]
    gap = logits[hard, 1].astype(float) - logits[hard, 0]
    assert found.intervals["balanced_error"] == {
        split: balanced_error_interval(found.predicted[rows], codes[rows], rows, 7)
        for split, rows in ROWS.items()
        if split in {"easy", "hard"}
    }
    assert list(found.intervals["auroc"]) == ["easy", "hard"]
    assert found.intervals["auroc"]["hard"] == auroc_interval(gap, codes[hard], hard, 7)


def test_rows_of_one_group_are_drawn_together():
    rng = np.random.default_rng(3)
    codes, logits = rng.integers(0, 3, 40), rng.standard_normal((40, 3)).astype(np.float32)
    units = np.arange(40) // 3
    found = score_target([logits], target(codes, "classes", ("a", "b", "c")), ROWS, units)
    assert list(found.intervals) == ["error", "balanced_error"]
    easy = ROWS["easy"]
    expected = share_interval(found.predicted[easy] != codes[easy], units[easy], 7)
    assert found.intervals["error"]["easy"] == expected
    assert (expected.kind, expected.n, expected.seed) == ("percentile_bootstrap", 4, 7)


def test_means_over_labels_have_intervals_too():
    rng = np.random.default_rng(4)
    codes, logits = rng.integers(0, 2, (40, 3)), rng.standard_normal((40, 3)).astype(np.float32)
    found = score_target([logits], target(codes, "multilabel", ("a", "b", "c")), ROWS, np.arange(40))
    assert list(found.intervals) == ["error", "balanced_error", "auroc"]
    assert list(found.intervals["error"]) == list(ROWS)
    assert list(found.intervals["auroc"]) == ["easy", "hard"]
    for metric, by_split in found.intervals.items():
        for split, own in by_split.items():
            assert own.low <= found.scores[metric][split] <= own.high
            assert own.kind == "percentile_bootstrap"


def test_a_split_without_a_yes_has_no_auroc_and_the_others_keep_theirs():
    rng = np.random.default_rng(5)
    codes, logits = rng.integers(0, 2, 40), rng.standard_normal((40, 2)).astype(np.float32)
    codes[ROWS["train"]] = codes[ROWS["hard"]] = 0
    found = score_target([logits], target(codes, "classes", ("a", "b")), ROWS, np.arange(40))
    assert list(found.scores["auroc"]) == ["valid", "easy"]
    assert list(found.scores["error"]) == list(ROWS)
    assert list(found.intervals["auroc"]) == ["easy"]
    codes = np.stack([codes, rng.integers(0, 2, 40)], axis=1)
    found = score_target([logits], target(codes, "multilabel", ("a", "b")), ROWS, np.arange(40))
    assert list(found.by_label["a"]["auroc"]) == ["valid", "easy"]
    assert list(found.scores["auroc"]) == list(ROWS)
    assert found.scores["auroc"]["hard"] == found.by_label["b"]["auroc"]["hard"]


def test_metrics_keep_the_splits_that_have_them():
    assert by_metric({"x": {"a": 1.0}, "y": {"a": 2.0, "b": 3.0}}) == {"a": {"x": 1.0, "y": 2.0}, "b": {"y": 3.0}}


# --- the model's own output -------------------------------------------------------------------------------------------


def test_a_models_own_scores_have_the_same_intervals_as_a_probes():
    rng = np.random.default_rng(6)
    codes, logits = rng.integers(0, 2, 40), rng.standard_normal((40, 2)).astype(np.float32)
    asked, units = target(codes, "classes", ("a", "b")), np.arange(40) // 2
    probe = score_target([logits], asked, ROWS, units)
    predicted, scores, intervals = score_output(logits, np.array([0, 1]), asked, ROWS, units)
    assert predicted.tolist() == probe.predicted.tolist()
    assert scores == {metric: probe.scores[metric] for metric in ("error", "balanced_error", "auroc")}
    assert intervals == probe.intervals
    assert score_output(logits[:, ::-1], np.array([1, 0]), asked, ROWS, units)[1] == scores


@pytest.mark.parametrize(
    ("mapped", "classes"), [([0, 1, -1], ("a", "b")), ([0, 1, 1], ("a", "b")), ([0, 1], ("a", "b", "c"))]
)
def test_other_outputs_have_no_auroc(mapped, classes):
    rng = np.random.default_rng(7)
    output, codes = rng.standard_normal((40, len(mapped))), rng.integers(0, 2, 40)
    asked = target(codes, "classes", classes)
    _, scores, intervals = score_output(output, np.array(mapped), asked, ROWS, np.arange(40))
    assert set(scores) == set(intervals) == {"error", "balanced_error"}


def test_every_label_has_its_penalty():
    asked = target(np.zeros((40, 2), int), "multilabel", ("a", "b"))
    assert label_penalties(fitted(label_penalties=(0.1, 1.0)), asked) == {"a": 0.1, "b": 1.0}
    assert label_penalties(fitted(0.5), asked) == {"a": 0.5, "b": 0.5}
    assert label_penalties(fitted(0.5), target(np.zeros(40), "number")) == {}
