"""From a probe's values to its scores, whatever is asked."""

import numpy as np
import pytest

from probekit.components import Certificate, FitFacts, LinearMap, Target
from probekit.probes.fitted import FittedLinear
from probekit.probes.scoring import label_penalties, remarks, score_target

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
    found = score_target(logits, target(numbers, "number"), ROWS, np.arange(40))
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
    found = score_target(logits, target(codes, "multilabel", ("a", "b", "c")), ROWS, np.arange(40))
    yes = 1 / (1 + np.exp(-logits[:39].astype(np.float64)))
    np.testing.assert_allclose(found.losses[:39], -np.log(np.where(codes[:39] == 1, yes, 1 - yes)), rtol=1e-9)
    assert np.isnan(found.losses[39]).all()
    assert found.predicted.tolist() == (logits > 0).astype(int).tolist()
    for split, rows in ROWS.items():
        assert found.scores["cross_entropy"][split] == pytest.approx(found.losses[rows].mean())
        assert found.by_label["b"]["error"][split] == pytest.approx(np.mean(found.predicted[rows, 1] != codes[rows, 1]))


def test_every_label_has_its_penalty():
    asked = target(np.zeros((40, 2), int), "multilabel", ("a", "b"))
    assert label_penalties(fitted(label_penalties=(0.1, 1.0)), asked) == {"a": 0.1, "b": 1.0}
    assert label_penalties(fitted(0.5), asked) == {"a": 0.5, "b": 0.5}
    assert label_penalties(fitted(0.5), target(np.zeros(40), "number")) == {}


def test_a_missed_certificate_is_explained():
    classes = target(np.zeros(40, int), "classes", ("a", "b"))
    expected = "is not proven to be at its optimum (bound 5.0e-01 nats): the budget ended; it is not ranked"
    assert list(remarks(fitted(reason="the budget ended"), classes, "p")) == [expected]
    assert list(remarks(fitted(gap=None), classes, "p")) == [
        "is not proven to be at its optimum; it is not ranked"
    ]  # fmt: skip
    assert list(remarks(fitted(status="proven", reason=None), classes, "p")) == []


@pytest.mark.parametrize(
    ("facts", "end", "further"),
    [
        ({"penalty": 10.0, "end": "largest"}, "10, the largest of its path", "10, 100, 1e+03"),
        ({"penalty": 1e-7, "end": "smallest", "grown": 2}, "1e-07, the smallest of its path, to which 2 were added",
         "1e-07, 1e-08, 1e-09"),
        ({"label_penalties": (1, 1e-3), "end": "smallest"}, "0.001, the smallest of its path", "0.001, 0.0001, 1e-05"),
    ],
)  # fmt: skip
def test_a_best_penalty_at_an_end_names_what_to_type(facts, end, further):
    told = list(remarks(fitted(status="proven", **facts), target(np.zeros(40, int), "classes"), "p"))
    assert told == [f"chose λ = {end}; a better one may lie beyond: give the probe 'p' penalty: [{further}]"]
