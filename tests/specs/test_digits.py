"""The digits specs with the linear probe itself, beside scikit-learn: three tasks, stopping, memory, export."""

import json

import numpy as np
import onnxruntime
import pytest
from safetensors import safe_open
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score

from probekit import Console, Plugins, load_probe, load_result, load_spec, prepared, run_spec
from probekit.progress import STAGE

SPLITS = ("train", "valid", "test")
QUICK = ("reports=[csv]", "labels.parity=null", "reductions={flatten: {kind: flatten}}")


def go(path, directory, *settings, tell=None):
    plugins = Plugins()
    console = Console() if tell is None else Console(tell=tell)
    return run_spec(load_spec(path, plugins, settings), plugins, directory, console)


def rows_of(run):
    """Return by split the numbers of the digits that a run has there, and by prediction whose it is and what."""
    with safe_open(run / "predictions.safetensors", "numpy") as file:
        facts = json.loads(file.metadata()["probekit"])
        ids = np.array([int(bytes(row).rstrip(b"\0")) for row in file.get_tensor("id")])
        split = file.get_tensor("split")
        said = [(whose, file.get_tensor(f"predicted.{key}")) for key, whose in facts["predictions"].items()]
    return ids, {name: ids[split == facts["splits"].index(name)] for name in SPLITS}, said


@pytest.fixture(scope="module")
def factors(specs, tmp_path_factory):
    settings = ("taps=[image, linear]", "reductions={flatten: {kind: flatten}}", "reports=[csv]")
    return go(specs / "digits_factors.yaml", tmp_path_factory.mktemp("factors"), *settings)


@pytest.fixture(scope="module")
def pixels():
    """The digits as standardised on the even rows, and what the labels are made of."""
    found = load_digits()
    X, y = found.images.reshape(-1, 64) / 16, found.target
    mean, spread = X[::2].mean(axis=0), X[::2].std(axis=0)
    S = (X - mean) / np.where(spread > 0, spread, 1)
    S[:, spread == 0] = 0  # a feature that is constant in train says nothing
    return S, np.stack([y % 2 == 1, np.isin(y, [0, 6, 8, 9])], axis=1).astype(int), X.mean(axis=1)


def probe_of(outcome, tap, factor):
    (found,) = [one for one in outcome.result.probes if (one.tap, one.factor) == (tap, factor)]
    return found


# --- three tasks ------------------------------------------------------------------------------------------------------


def test_every_task_ends_proven_on_a_path_that_tells_its_choice(factors):
    assert factors.failures == []
    for probe in factors.result.probes:
        assert probe.certificate.status == "proven"
        assert 0 <= probe.certificate.of_chance <= 1e-4
        assert [point.penalty for point in probe.fit.path] == sorted(
            (point.penalty for point in probe.fit.path), reverse=True
        )
        assert len(probe.fit.path) >= 6 + probe.fit.grown * (probe.task != "multilabel")
        if probe.task == "number":
            assert probe.penalty == min(probe.fit.path, key=lambda point: point.valid_loss).penalty


def test_a_number_is_what_ridge_regression_predicts(factors, pixels):
    S, _, ink = pixels
    _, parts, _ = rows_of(factors.directory)
    probe = probe_of(factors, "image", "ink")
    train = parts["train"]
    scale = ink[train].var()
    for point in probe.fit.path:
        model = Ridge(alpha=len(train) * point.penalty).fit(S[train], ink[train])
        squares = np.mean((model.predict(S[train]) - ink[train]) ** 2) / scale
        best = squares / 2 + point.penalty / 2 * np.sum(model.coef_**2) / scale
        rounding = 1e-6 * best  # of features, which are standardised in float32
        assert -rounding <= point.objective - best <= point.gap + rounding
    model = Ridge(alpha=len(train) * probe.penalty).fit(S[train], ink[train])
    for split in SPLITS:
        expected = r2_score(ink[parts[split]], model.predict(S[parts[split]]))
        assert probe.scores["r2"][split] == pytest.approx(expected, abs=1e-3)


def test_yes_no_labels_are_what_logistic_regressions_of_their_own_predict(factors, pixels):
    S, traits, _ = pixels
    _, parts, _ = rows_of(factors.directory)
    train = parts["train"]
    for index, name in enumerate(("odd", "loop")):
        label = probe_of(factors, "image", "traits").by_label[name]
        # A label is two classes, whose two rows of weights share the penalty.
        model = LogisticRegression(C=2 / (len(train) * label.penalty), tol=1e-8, max_iter=5000)
        model.fit(S[train], traits[train, index])
        for split in SPLITS:
            truth = traits[parts[split], index]
            wrong = 1 - model.score(S[parts[split]], truth)
            # Few rows lie so near the boundary that the tolerance decides them.
            assert abs(label.scores["error"][split] - wrong) <= 0.005
            loss = log_loss(truth, model.predict_proba(S[parts[split]]))
            assert label.scores["cross_entropy"][split] == pytest.approx(loss, abs=5e-3)


@pytest.mark.parametrize("factor", ["traits", "ink"])
def test_a_saved_probe_of_each_task_predicts_what_the_run_did(factors, factor):
    probe = load_probe(factors.directory, "image", factor)
    ids, _, said = rows_of(factors.directory)
    (predicted,) = [found for whose, found in said if (whose["tap"], whose["factor"]) == ("image", factor)]
    again = probe.predict((load_digits().images.reshape(-1, 64) / 16)[ids].astype(np.float32))
    if factor == "ink":
        np.testing.assert_allclose(again, predicted, rtol=1e-4, atol=1e-5)
    else:
        assert (again == predicted).mean() > 0.999


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(specs, tmp_path_factory):
    """The optimum and the paper's probe in one run."""
    probes = "probes={optimum: {kind: linear}, paper: {kind: linear, stopping: early}}"
    taps = "taps=[image, linear]"
    return go(
        specs / "digits.yaml", tmp_path_factory.mktemp("stopped"), *QUICK, "reports=[html]", taps, probes, "probe=null"
    )


def test_stopping_early_stands_beside_the_optimum(stopped):
    status = {(one.tap, one.probe): one.certificate.status for one in stopped.result.probes}
    assert status == {
        (tap, probe): {"optimum": "proven", "paper": "not_applicable"}[probe]
        for tap in ("image", "linear")
        for probe in ("optimum", "paper")
    }
    for one in stopped.result.probes:
        if one.probe == "paper":
            assert (one.penalty, one.certificate.gap) == (0, None)
            assert one.fit.notes[0].startswith("best epoch ")
            assert one.error["test"] < 0.1
        else:
            assert one.fit.notes == []
    assert load_result(stopped.directory) == stopped.result


def test_the_two_are_ranked_each_in_a_table_of_its_own(stopped):
    page = (stopped.directory / "report.html").read_text(encoding="utf-8")
    assert page.count("The best probe for digit, chosen on valid, is at") == 2
    assert "best epoch" in page
    assert "no certificate" in page


def test_both_are_saved_under_their_names(stopped):
    pixels = load_digits().images.reshape(-1, 64).astype(np.float32) / 16
    ids, _, said = rows_of(stopped.directory)
    for whose, predicted in said:
        if whose.get("tap") == "image":
            probe = load_probe(stopped.directory, "image", "digit", probe=whose["probe"])
            assert np.mean(probe.predict(pixels[ids]).astype(int) == predicted) > 0.999


# --- memory, and fits that are kept -----------------------------------------------------------------------------------


def without_times(outcome):
    return [one.model_dump(exclude={"seconds"}) for one in outcome.result.probes]


def test_a_run_in_little_memory_reads_wide_taps_anew_and_says_the_same(specs, tmp_path, monkeypatch):
    settings = (*QUICK, "taps=[relu_1, linear]", "splits.limit={train: 200, valid: 200, test: 200}")
    settings += ("probe={kind: linear, penalty: [0.1, 0.01]}",)
    whole = go(specs / "digits.yaml", tmp_path / "whole", *settings)
    monkeypatch.setattr(prepared, "COPIES", 100)  # as if the tap were that much wider
    little = go(specs / "digits.yaml", tmp_path / "little", *settings, "memory=300MB")
    assert [one.fit.streamed for one in whole.result.probes] == [False, False]
    assert [one.fit.streamed for one in little.result.probes] == [True, False]
    for one, other in zip(whole.result.probes, little.result.probes, strict=True):
        assert (one.penalty, one.certificate.status) == (other.penalty, other.certificate.status) == (
            one.penalty, "proven",
        )  # fmt: skip
        for split, rows in one.rows.items():
            assert abs(one.error[split] - other.error[split]) * rows <= 1 + 1e-9
            loss, again = (each.scores["cross_entropy"][split] for each in (one, other))
            assert again == pytest.approx(loss, abs=2e-3)


def test_a_run_that_was_interrupted_goes_on_to_the_same_result(specs, tmp_path):
    def stop(stage, done, total, detail="", left=None):
        if stage == STAGE and done == 1:
            raise KeyboardInterrupt

    settings = (*QUICK, "taps=[image, linear, logits]", "probe={kind: linear, penalty: [0.1, 0.01]}")
    with pytest.raises(KeyboardInterrupt):
        go(specs / "digits.yaml", tmp_path / "run", *settings, tell=stop)
    resumed = go(specs / "digits.yaml", tmp_path / "run", *settings)
    assert resumed.result.provenance["fits"] == {"resumed": 1}
    whole = go(specs / "digits.yaml", tmp_path / "whole", *settings)
    assert whole.result.provenance["fits"] == {"resumed": 0}
    assert without_times(resumed) == without_times(whole)
    for name in ("predictions.safetensors", "probes.safetensors"):
        assert (resumed.directory / name).read_bytes() == (whole.directory / name).read_bytes()


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", ["traits", "ink"])
def test_an_exported_model_gives_every_task_as_one_more_output(main, factors, tmp_path, factor):
    out = tmp_path / "with_probe.onnx"
    arguments = (str(factors.directory), "--tap", "linear", "--factor", factor, "-o", str(out))
    code, told, _ = main("export", *arguments)
    assert code == 0, told
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    name = session.get_outputs()[1].name
    ids, _, said = rows_of(factors.directory)
    (given,) = session.run([name], {"image": (load_digits().images[ids, None] / 16).astype(np.float32)})
    (predicted,) = [found for whose, found in said if (whose["tap"], whose["factor"]) == ("linear", factor)]
    if factor == "ink":
        np.testing.assert_allclose(given.reshape(-1), predicted, rtol=1e-3, atol=1e-4)
    else:
        assert ((given > 0.5) == predicted).mean() > 0.999
