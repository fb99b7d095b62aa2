"""What is scored: a model's own predictions and a probe's, by hand and by scikit-learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, r2_score, roc_auc_score

from probekit.components import (
    ArrayMatrix,
    Certificate,
    Examples,
    FittedProbe,
    Labels,
    LinearMap,
    ModelOutput,
    Tap,
    Target,
    Wanted,
)
from probekit.data.arrays import DigitsDataset
from probekit.data.factors import ColumnFactor
from probekit.data.numbers import NumberFactor
from probekit.data.question import Asked
from probekit.data.splits import split_examples
from probekit.errors import ProbekitWarning
from probekit.reductions.assign import FeatureSet
from probekit.reductions.data_free import FlattenReduction
from probekit.scorer import Scorer, few_decide, outputs_of
from probekit.spec import Spec
from probekit.spec.splits import Splits

COUNT = 60
X = np.random.default_rng(0).standard_normal((COUNT, 2)).astype(np.float32)
CODES = (X[:, 0] > 0).astype(int)
TAP = Tap("a", "Relu", (2,), "float32", "NC")
SET = FeatureSet(Wanted(TAP, FlattenReduction().program(TAP), 2), "a", "flat", 2, None)


class Fitted(FittedProbe):
    """A linear map that somebody proved."""

    certificate = Certificate("proven", 0.0, 0.0, 0.0)
    penalty, seconds, facts = 1.0, 2.0, None

    def __init__(self, *rows: list[float]) -> None:
        self.linear = LinearMap(np.array(rows), np.zeros(len(rows)))

    def logits(self, features):
        return self.linear(features)


def made_scorer(factor, labels: Labels, tests: tuple[str, ...] = ("test",)) -> Scorer:
    columns = {
        "id": np.array([f"x{n}" for n in range(COUNT)]),
        "part": np.resize(["train", "train", "valid", *tests], COUNT),
    }
    splits = Splits(column="part", train="train", valid="valid", test=list(tests))
    spec = Spec(probekit=1, name="x", data=DigitsDataset(), labels={"left": factor}, splits=splits, reports=[])
    parts = split_examples(splits, columns, {"left": labels})
    examples = Examples(columns, {"x": X})
    return Scorer(Asked(spec, examples, {"left": labels}, parts, np.arange(COUNT)).question())


@pytest.fixture
def scorer() -> Scorer:
    return made_scorer(ColumnFactor(), Labels(("no", "yes"), CODES))


def score(scorer: Scorer, fitted: FittedProbe, **more):
    (target,) = scorer.question.targets
    features = ArrayMatrix(X)
    return scorer.score_probe(
        ("m", "c"), SET, "ridge", features, None, fitted, target, **{"constant": False, "spent": None} | more
    )


def test_a_probe_is_scored_as_scikit_learn_does_it(scorer):
    result = score(scorer, Fitted([-3.0, 0.5], [3.0, -0.5]))
    probabilities = 1 / (1 + np.exp(-(X.astype(np.float64) @ [6.0, -1.0])))
    for split, rows in scorer.question.parts.items():
        assert result.scores["cross_entropy"][split] == pytest.approx(log_loss(CODES[rows], probabilities[rows]))
        assert result.scores["auroc"][split] == pytest.approx(roc_auc_score(CODES[rows], probabilities[rows]))
        wrong = (probabilities[rows] > 0.5) != CODES[rows]
        assert result.error[split] == pytest.approx(wrong.mean())
    assert (result.model, result.checkpoint, result.tap, result.reduction) == ("m", "c", "a", "flat")
    assert (result.parameters, result.seconds, result.penalty) == (6, 2.0, 1.0)
    np.testing.assert_array_equal(scorer.predicted["0"], probabilities > 0.5)
    own = np.where(CODES, probabilities, 1 - probabilities)
    np.testing.assert_allclose(scorer.losses["0"], -np.log(own), rtol=1e-5)
    assert scorer.keys["0"]["tap"] == "a"


def test_what_is_scored_is_saved(scorer, tmp_path: Path):
    score(scorer, Fitted([-3.0, 0.5], [3.0, -0.5]))
    scorer.saved.write(tmp_path / "p.safetensors", {}, {"per": "example", "mask": None})
    assert (tmp_path / "p.safetensors").is_file()


@pytest.mark.parametrize("tests", [("test",), ("easy", "hard")])
def test_a_number_is_scored_on_every_test_split_and_its_worst_rows_are_told_of(tests):
    numbers = 2.0 * X[:, 0]
    scorer = made_scorer(NumberFactor(column="id"), Labels((), numbers.astype(np.float64), "number"), tests)
    result = score(scorer, Fitted([1.5, 0.0]))
    for split, rows in scorer.question.parts.items():
        assert result.scores["r2"][split] == pytest.approx(r2_score(numbers[rows], 1.5 * X[rows, 0]))
    assert [one.tap for one in scorer.probes] == ["a"]
    far = scorer.question.parts[tests[0]][0]
    before = X[far, 1]
    X[far, 1] = 1e4
    try:
        with pytest.warns(ProbekitWarning) as told:
            score(scorer, Fitted([2.0, 1.0]))
    finally:
        X[far, 1] = before
    assert any("probe for left predicts" in str(one.message) for one in told)


def test_a_number_beyond_float32_is_refused_and_leaves_nothing_behind():
    scorer = made_scorer(NumberFactor(column="id"), Labels((), X[:, 0].astype(np.float64), "number"))
    with pytest.raises(ValueError, match="the probe predicts NaN or infinite values"):
        score(scorer, Fitted([1e39, 0.0]))
    assert (scorer.probes, scorer.keys, scorer.losses) == ([], {}, {})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_probe_without_finite_predictions_leaves_nothing_behind(scorer, value):
    with pytest.raises(ValueError, match="the probe predicts NaN or infinite values"):
        score(scorer, Fitted([value, 0.0], [0.0, 1.0]))
    assert (scorer.probes, scorer.keys, scorer.predicted, scorer.losses) == ([], {}, {}, {})


def test_a_probe_that_is_no_better_than_chance_is_told_of(scorer):
    with pytest.warns(ProbekitWarning, match=r"tap a \(flat\): the probe for left does no better than"):
        score(scorer, Fitted([3.0, 0.0], [-3.0, 0.0]))


def test_the_models_own_scores_are_those_of_the_true_labels_with_intervals(scorer):
    """Controls of a factor come before it here."""
    (target,) = scorer.question.targets
    scorer.question.targets.insert(0, replace(target, codes=1 - target.codes, control="shuffled_labels"))
    output = ModelOutput(factor="left", classes="sorted")
    scorer.score_model("m", None, "logits", output, np.stack([-X[:, 0], X[:, 0]], axis=1))
    (own,) = scorer.models
    assert own.error == {"train": 0, "valid": 0, "test": 0}
    assert own.scores["auroc"] == {"train": 1, "valid": 1, "test": 1}
    assert (own.intervals["error"]["test"].kind, own.intervals["error"]["test"].n) == ("wilson", 15)
    assert set(own.intervals) == {"error"}


@pytest.mark.parametrize(
    ("predicted", "told"),
    [
        ([0.0, 4.0, -3.9, 7.9], None),
        ([0.0, 1.0, 2.0, -4.1], "predicts -4.1 where the training rows have 0 to 4: 1 of 4 test rows make up 9"),
        ([0.0, 1e5, 0.0, -4.1], "predicts 1e+05 where the training rows have 0 to 4: 2 of 4 test rows make up 100%"),
        ([9.0, 9.0, 9.0, 9.0], None),
        ([9.0, 0.0, 30.0, 0.0], None),  # rightly far out
    ],
)
def test_numbers_far_beyond_the_training_labels_are_told_of_where_they_decide_the_error(predicted, told):
    codes = np.array([0.0, 1.0, 4.0, 2.0, 0.5, 1.5, 1.0, 2.0])
    if predicted[2] == 30:
        codes[6] = 30.5
        codes[4] = 9
    target = Target("size", (), codes, np.arange(4), np.array([3]), task="number")
    every = np.concatenate([np.zeros(4), predicted])
    found = few_decide(every, (every - codes) ** 2, target, np.arange(4, 8))
    assert found is None if told is None else found.startswith(told)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([0.1, 0.2, 19.0, 0.1], None),
        ([0.1, 0.2, 210.0, 0.1], "gives 1 of 4 test rows hardly any probability of what they are, the least exp(-210)"),
        ([15.0, 15.0, 21.0, 15.0], None),  # nothing was learnt
        ([np.inf, 0.2, 0.3, 0.1], None),  # a class without training rows
        ([np.nan, 0.2, 30.0, 0.1], "gives 1 of 4 test rows"),
        ([[0.1, 0.2], [0.0, 90.0], [0.3, 0.1], [0.1, 0.1]], "gives 1 of 4 test rows"),
        ([[0.7] * 40, [30.0, *[0.1] * 39], [0.7] * 40, [0.7] * 40], None),  # a third of all
        ([30.0, 40.0, 50.0, 60.0], None),
    ],
)
def test_classes_far_from_the_truth_are_told_of_where_they_decide_the_loss(losses, told):
    losses = np.array(losses)
    task = "classes" if losses.ndim == 1 else "multilabel"
    target = Target("size", ("a", "b"), np.zeros(8, np.int64), np.arange(4), np.array([3]), task=task)
    every = np.concatenate([np.full_like(losses, 99.0), losses])
    found = few_decide(np.zeros(8), every, target, np.arange(4, 8))
    assert found is None if told is None else found.startswith(told)
    assert found is None or "constant in nearly all training rows, for labels that are wrong" in found


def test_numbers_keep_the_digits_of_float64():
    class Dates(FittedProbe):
        certificate, penalty, seconds = Certificate("proven", 0.0, 0.0, 0.0), 1.0, 0.0
        linear = LinearMap(np.array([[1.0, 0.0]]), np.array([1.7e9]))

        def logits(self, features):
            return self.linear(features)

    target = Target("time", (), np.zeros(COUNT), np.arange(9), np.arange(9), task="number")
    found = np.concatenate(list(outputs_of(Dates(), ArrayMatrix(X), target)))
    np.testing.assert_allclose(found[:, 0] - 1.7e9, X[:, 0], atol=1e-6)
    classes = Target("left", ("no", "yes"), CODES, np.arange(9), np.arange(9))
    found = np.concatenate(list(outputs_of(Dates(), ArrayMatrix(X), classes)))
    np.testing.assert_array_equal(found, Dates().logits(X))
