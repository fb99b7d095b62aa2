"""The main job with yes/no labels and a number beside classes, on the bundled digits, with a probe in closed form."""

import csv
import json
import sys
import types
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from safetensors import safe_open
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score

from probekit import InputError, Plugins, hookimpl, load_result, load_spec, run_spec
from probekit.components import (
    Certificate,
    FeatureMatrix,
    FitContext,
    FitFacts,
    FittedProbe,
    LinearMap,
    PathPoint,
    Probe,
    Target,
)
from probekit.plugins import Provider, installed_providers
from probekit.probes.fitted import FittedLinear

ALPHA = 10.0
IMAGE_TO_INK = {"image": ["N", 1, 8, 8], "ink": ["N", 1]}


def wanted(target: Target) -> Any:
    """Return what a least-squares fit is to give: one column an output."""
    y = target.codes[target.train]
    return np.eye(target.outputs)[y] if target.task == "classes" else y.reshape(len(y), -1) * 1.0


class LeastSquares(Probe):
    """Ridge regression onto the labels; yes above one half."""

    kind: Literal["least_squares"] = "least_squares"
    status: Literal["proven", "missed", "not_applicable"] = "not_applicable"
    end: Literal["smallest", "largest"] | None = None

    def fit(
        self, features: FeatureMatrix, targets: Sequence[Target], context: FitContext | None = None
    ) -> list[FittedProbe]:
        """Solve the normal equations."""
        return [self._fit(np.asarray(features).astype(np.float64), target) for target in targets]

    def _fit(self, features: Any, target: Target) -> FittedProbe:
        X, Y = features[target.train], wanted(target)
        centred = X - X.mean(axis=0)
        W = np.linalg.solve(centred.T @ centred + ALPHA * np.eye(X.shape[1]), centred.T @ (Y - Y.mean(axis=0))).T
        shift = 0.5 if target.task == "multilabel" else 0.0
        labels = (1.0, 0.1)[: target.outputs] if target.task == "multilabel" else ()
        certificate = Certificate(self.status, None if self.status == "not_applicable" else 0.125)
        point = PathPoint(0.1, 1.0, None, "not_applicable", 0.5, None)
        facts = FitFacts(path=(point,), end=self.end, label_penalties=labels, grown=2, reason="a reason")
        bias = Y.mean(axis=0) - X.mean(axis=0) @ W.T - shift
        return FittedLinear(LinearMap(W, bias), None if labels else 0.1, 1.0, certificate, 0.0, facts)


@hookimpl
def register_probes() -> list[type[Probe]]:
    """The probe of this module."""
    return [LeastSquares]


def go(specs, directory, *settings):
    """Run the spec that ships, with the probe in closed form and one factor of classes more."""
    module = types.ModuleType("least_squares")
    module.register_probes = register_probes
    sys.modules["least_squares"] = module
    plugins = Plugins(
        [*installed_providers(autoload=False), Provider("probe", "least_squares", "least_squares", "made", "1")]
    )
    quick = ("taps=[image, linear]", "reductions={flatten: {kind: flatten}}", "probe={kind: least_squares}")
    settings = (*quick, "labels.digit={kind: column, column: label}", *settings)
    return run_spec(load_spec(specs / "digits_factors.yaml", plugins, settings), plugins, directory)


@pytest.fixture(scope="module")
def outcome(specs, tmp_path_factory):
    return go(specs, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    found = load_digits()
    X, y = (found.images / 16).reshape(len(found.target), 64), found.target
    return X, np.stack([y % 2 == 1, np.isin(y, [0, 6, 8, 9])], axis=1).astype(int), X.mean(axis=1)


def test_the_number_is_scored_as_scikit_learn_scores_it(outcome, digits):
    X, _, ink = digits
    odd = slice(1, None, 2)
    model = Ridge(alpha=ALPHA).fit(X[::2], ink[::2])
    probe = next(p for p in outcome.result.probes if (p.tap, p.factor) == ("image", "ink"))
    assert (probe.task, probe.primary, probe.error) == ("number", "r2", None)
    assert probe.scores["r2"]["train"] == pytest.approx(r2_score(ink[::2], model.predict(X[::2])), abs=1e-6)
    rows = probe.rows
    mixed = sum(probe.scores["mae"][split] * rows[split] for split in ("valid", "test")) / (
        rows["valid"] + rows["test"]
    )
    assert mixed == pytest.approx(mean_absolute_error(ink[odd], model.predict(X[odd])), rel=1e-4)
    (interval,) = probe.intervals["r2"].values()
    assert interval.low < probe.scores["r2"]["test"] < interval.high
    assert (interval.kind, interval.over, interval.n) == ("percentile_bootstrap", "examples", rows["test"])
    assert (interval.draws, interval.level, interval.seed) == (1000, 0.95, 0)


def test_yes_no_labels_are_scored_label_by_label(outcome, digits):
    X, traits, _ = digits
    probe = next(p for p in outcome.result.probes if (p.tap, p.factor) == ("image", "traits"))
    assert (probe.task, probe.primary, probe.penalty) == ("multilabel", "error", None)
    answers = Ridge(alpha=ALPHA).fit(X[::2], traits[::2]).predict(X[::2]) > 0.5
    for index, name in enumerate(["odd", "loop"]):
        expected = 1 - accuracy_score(traits[::2, index], answers[:, index])
        assert probe.by_label[name].scores["error"]["train"] == pytest.approx(expected)
        assert probe.by_label[name].penalty == (1.0, 0.1)[index]
    assert probe.error["train"] == pytest.approx(np.mean(answers != traits[::2]))
    assert probe.scores["subset_error"]["train"] == pytest.approx(1 - accuracy_score(traits[::2], answers))
    assert set(probe.by_label["odd"].scores) == {"error", "balanced_error", "auroc", "cross_entropy"}


def test_the_facts_of_every_factor_hold_a_baseline_of_its_metric(outcome, digits):
    _, traits, ink = digits
    labels = outcome.result.provenance["labels"]
    dummies = [DummyClassifier(strategy="most_frequent").fit(traits[::2], traits[::2, index]) for index in (0, 1)]
    expected = [1 - dummy.score(traits[::2], traits[::2, index]) for index, dummy in enumerate(dummies)]
    assert labels["traits"]["baseline"]["train"] == pytest.approx(np.mean(expected))
    assert [one["train"] for one in labels["traits"]["label_baselines"].values()] == pytest.approx(expected)
    assert labels["traits"]["counts"]["train"] == traits[::2].sum(axis=0).tolist()
    assert labels["ink"]["baseline"]["train"] == pytest.approx(0, abs=1e-12)
    assert -0.05 < labels["ink"]["baseline"]["test"] <= 0
    assert labels["ink"]["numbers"]["train"]["mean"] == pytest.approx(ink[::2].mean())
    assert outcome.result.test_rows("ink") == outcome.result.test_rows("traits") == 629


def test_the_result_comes_back_equal_and_says_how_probes_were_fitted(outcome):
    assert load_result(outcome.directory) == outcome.result
    for probe in outcome.result.probes:
        assert probe.fit.path[0].penalty == 0.1
        assert (probe.fit.grown, probe.fit.preconditioner) == (2, "none")


def test_predictions_give_the_scores_of_the_results(outcome):
    with safe_open(outcome.directory / "predictions.safetensors", "numpy") as file:
        facts = json.loads(file.metadata()["probekit"])
        split = file.get_tensor("split") == facts["splits"].index("test")
        probes = {(p.tap, p.factor): p for p in outcome.result.probes}
        for key, whose in facts["predictions"].items():
            probe = probes[whose["tap"], whose["factor"]]
            label, predicted, loss = (
                file.get_tensor(f"{name}")[split]
                for name in (f"label.{whose['factor']}", f"predicted.{key}", f"loss.{key}")
            )
            kinds = {"classes": np.int32, "multilabel": np.int32, "number": np.float32}
            assert (label.dtype, predicted.dtype, loss.dtype) == (kinds[probe.task], kinds[probe.task], np.float32)
            if probe.task == "number":
                assert r2_score(label, predicted) == pytest.approx(probe.scores["r2"]["test"], abs=1e-5)
                assert np.sqrt(loss.mean()) == pytest.approx(probe.scores["rmse"]["test"], rel=1e-4)
            else:
                assert label.shape == ((629, 2) if probe.task == "multilabel" else (629,))
                assert np.mean(label != predicted) == pytest.approx(probe.error["test"])
                assert loss.mean() == pytest.approx(probe.scores["cross_entropy"]["test"], rel=1e-4)


def test_every_factor_stands_in_every_report_with_its_metric(outcome):
    page = (outcome.directory / "report.html").read_text(encoding="utf-8")
    printed = outcome.printed["terminal"]
    assert "The best probe for ink, chosen on valid, is at" in page
    assert "The best probe for traits, chosen on valid, is at" in printed.replace("\n", " ")
    with (outcome.directory / "results.csv").open(newline="") as stream:
        rows = {(row["tap"], row["factor"]): row for row in csv.DictReader(stream)}
    for probe in outcome.result.probes:
        row = rows[probe.tap, probe.factor]
        value = probe.scores[probe.primary]["test"]
        assert float(row[f"{probe.primary}.test"]) == value
        text = f"{value:.3f}" if probe.primary == "r2" else f"{100 * value:.1f} %"
        assert text in page
        assert text in printed
        assert row["fit.path"] == "0.1: 0.5"
    assert float(rows["image", "ink"]["r2.test.low"]) < float(rows["image", "ink"]["r2.test.high"])
    assert float(rows["image", "traits"]["penalty.loop"]) == 0.1
    low, value, high = (float(rows["image", "traits"][f"error.test.loop{end}"]) for end in (".low", "", ".high"))
    assert low < value < high
    assert rows["image", "digit"]["error.test.loop.low"] == ""
    assert rows["image", "digit"]["penalty.loop"] == ""


def test_a_missed_fit_says_why(specs, tmp_path):
    settings = ("probe={kind: least_squares, status: missed, end: smallest}", "labels.digit=null", "taps=[image]")
    result = go(specs, tmp_path, *settings).result
    told = [one.sentence for one in result.findings if (one.kind, one.factor) == ("missed", "ink")]
    assert told == [
        "The probe for ink is not proven to be at its optimum and is not ranked: image (bound 1.2e-01 of the "
        "variance); a reason."
    ]
    assert not any("(best on valid)" in line for line in (tmp_path / "report.html").read_text().splitlines())


def test_the_models_own_number_is_scored_beside_the_probes(specs, tmp_path):
    """A network whose only output is the ink itself."""
    image, ink = (onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in IMAGE_TO_INK.items())
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    nodes = [
        onnx.helper.make_node("Flatten", ["image"], ["flat"]),
        onnx.helper.make_node("ReduceMean", ["flat", "axes"], ["ink"], keepdims=1),
    ]
    graph = onnx.helper.make_graph(nodes, "mean", [image], [ink], [axes])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "mean.onnx")
    model = f"model={{kind: onnx, path: '{tmp_path / 'mean.onnx'}', output: {{factor: ink}}}}"
    outcome = go(specs, tmp_path / "run", model, "taps=[image]")
    (own,) = outcome.result.model
    assert (own.task, own.primary, own.error) == ("number", "r2", None)
    assert own.scores["r2"] == pytest.approx({"train": 1, "valid": 1, "test": 1})
    assert own.intervals["r2"]["test"].low == pytest.approx(1)
    assert "and the model itself 1.000" in outcome.printed["terminal"].replace("\n", " ")


def test_an_output_of_several_entries_is_no_number(specs, tmp_path):
    with pytest.raises(InputError) as caught:
        go(specs, tmp_path, "model.output={factor: ink}")
    (problem,) = caught.value.problems
    assert (problem.code, problem.what) == ("PK-L24", "an output of 10 entries for the number 'ink'")
