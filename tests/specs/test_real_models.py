"""The shipped specs on real models and real data, cut by --set alone."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from probekit import Plugins, Wanted, load_spec, run_spec, steps
from probekit.components import ArrayMatrix
from probekit.data.question import ask
from probekit.features.digests import RowDigests
from probekit.probes.linear import LinearProbe
from probekit.reading import open_store, read_models

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
CUT = (
    "splits.limit={train: 2500, valid: 300, test: 1000}",
    "probe={kind: linear, penalty: 0.01}",
    "reports=[json]",
)


@pytest.fixture(scope="module")
def fashion(specs, need):
    """What each backend gives of the same rows, extracted, and the question asked of it."""
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    found = {}
    for name in ("onnx", "torch"):
        spec = load_spec(specs / f"fashion_convnet_{name}.yaml", Plugins(), CUT, trust_code=True).spec
        asked = ask(spec)
        (reading,) = read_models(spec, asked, RowDigests(asked.examples), open_store(spec))
        reading.extraction.run()
        found[name] = (asked.question(), reading)
    return found


def test_two_backends_give_the_same_features(fashion):
    (_, onnx), (_, torch) = fashion["onnx"], fashion["torch"]
    labels = [(one.label, one.reduction) for one in onnx.sets]
    assert labels == [(one.label, one.reduction) for one in torch.sets]
    assert labels[0] == ("image", "flatten")
    assert len(labels) == 10
    for number, label in enumerate([*labels, "output"]):
        first, second = (np.asarray(one.extraction.matrix(number)) for one in (onnx, torch))
        assert first.shape == second.shape
        assert np.abs(first - second).max() <= 1e-5 * np.abs(second).max(), label


def test_two_backends_share_the_features_of_their_input(fashion):
    first, second = (one.extraction.keys for _, one in fashion.values())
    assert first[0].digest == second[0].digest
    assert first[1].digest != second[1].digest


@pytest.mark.parametrize("penalty", [1e-2, 1e-3])
def test_on_pooled_taps_the_objective_is_scikit_learns(fashion, penalty):
    question, reading = fashion["onnx"]
    target = question.targets[0]
    y = target.codes[target.train]
    assert len(y) == 2500
    pooled = {one.label: number for number, one in enumerate(reading.sets) if one.reduction == "pool"}
    assert set(pooled) == {"conv1", "relu1", "pool1", "conv2", "relu2", "pool2"}
    for label in ("conv1", "relu2"):
        X = np.asarray(reading.extraction.matrix(pooled[label]))
        (fit,) = LinearProbe(penalty=penalty).fit(ArrayMatrix(X), [target])
        rows = X[target.train].astype(np.float64)
        S = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        model = LogisticRegression(C=1 / (len(y) * penalty), tol=1e-7, max_iter=20_000).fit(S, y)
        Z = model.decision_function(S)
        top = Z.max(axis=1, keepdims=True)
        loss = np.log(np.exp(Z - top).sum(axis=1)) + top[:, 0] - Z[np.arange(len(y)), y]
        best = loss.mean() + penalty / 2 * (model.coef_**2).sum()
        assert fit.objective == pytest.approx(best, rel=1e-4), label


def test_two_backends_give_the_same_errors(specs, need, tmp_path):
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    results = []
    for name in ("onnx", "torch"):
        plugins = Plugins()
        loaded = load_spec(specs / f"fashion_convnet_{name}.yaml", plugins, CUT, trust_code=True)
        results.append(run_spec(loaded, plugins, tmp_path / name).result)
    first, second = results
    assert len(first.probes) == len(second.probes) == 20
    for one, other in zip(first.probes, second.probes, strict=True):
        assert (one.tap, one.factor, one.reduction, one.penalty) == (
            other.tap,
            other.factor,
            other.reduction,
            other.penalty,
        )
        # One example at the most may lie so near a boundary that rounding decides it.
        for split, rows in one.rows.items():
            assert abs(one.error[split] - other.error[split]) * rows <= 1 + 1e-9
    assert first.model == [second.model[0].model_copy(update={"output": first.model[0].output})]
    by_tap = {probe.tap: probe.error["test"] for probe in first.probes if probe.factor == "garment"}
    # The paper's figure 3: the first ReLU is the largest step, and the last layers come near the model's own error.
    assert by_tap["conv1"] - by_tap["relu1"] > 0.15
    assert by_tap["relu3"] < 0.12
    assert abs(by_tap["fc2"] - first.model[0].error["test"]) < 0.02


def test_magika_tells_files_apart_by_three_factors(magika):
    result = magika[1].result
    error = {(probe.tap, probe.factor): probe.error["test"] for probe in result.probes}
    assert set(error) == {(tap, factor) for tap in ("bytes", "max") for factor in ("extension", "size", "text")}
    assert len(result.provenance["labels"]["extension"]["classes"]) >= 12
    assert error["max", "extension"] < 0.12 < error["bytes", "extension"]
    assert error["max", "text"] < 0.05
    assert result.model[0].factor == "extension"
    assert result.model[0].error["test"] < 0.25


@pytest.fixture(scope="module")
def resnet(specs, tmp_path_factory):
    """A folder with ResNet-50 as ONNX, on random weights, and ten made classes of five images."""
    pytest.importorskip("torchvision")
    folder = tmp_path_factory.mktemp("resnet")
    for script, out, *more in (("resnet50_onnx.py", "resnet50.onnx"), ("made_classes.py", "made", "--per-class", "5")):
        command = [sys.executable, specs / "models" / script, "--out", folder / out, *more]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def test_resnet50_is_probed_at_the_input_and_sixteen_residual_sums(specs, resnet, tmp_path):
    plugins = Plugins()
    environ = {"RESNET50": str(resnet / "resnet50.onnx"), "IMAGENET": str(resnet)}
    settings = [f"data.path={resnet / 'made'}", "model.output=null", "probe={kind: linear, penalty: 0.1}"]
    settings += ["splits={train: 0.5, valid: 0.2, test: 0.3, stratify: class}", "model.batch_size=4", "reports=[json]"]
    loaded = load_spec(specs / "resnet50.yaml", plugins, settings, environ=environ)
    result = run_spec(loaded, plugins, tmp_path / "run").result
    assert [probe.tap for probe in result.probes] == ["image", *(f"add_{i}" for i in range(1, 17))]
    # Table 4a of the paper: the channels of the four stages, in blocks of 3, 4, 6 and 3.
    assert [probe.features_used for probe in result.probes] == [3, *[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 3]
    assert {probe.rows["train"] for probe in result.probes} == {25}
    # Even random features tell ten made textures apart better than guessing does (section 3.5).
    assert min(probe.error["test"] for probe in result.probes) < 0.7
    assert all(probe.certificate.status == "proven" for probe in result.probes)


IMAGES = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)


@pytest.fixture(scope="module")
def sixteen_sums(resnet):
    """The residual sums of two images as ONNX Runtime alone gives them, by name."""
    import onnx
    import onnxruntime

    model = onnx.load(resnet / "resnet50.onnx")
    names = [node.output[0] for node in model.graph.node if node.op_type == "Add"]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(None, {"image": IMAGES}), strict=True))


@pytest.mark.parametrize("runtime", ["onnx", "torch", "openvino"])
def test_every_runtime_gives_the_same_features_of_the_sixteen_sums(resnet, sixteen_sums, need, runtime):
    """``relu#2:in`` of each bottleneck is what the ONNX graph's Add gives."""
    if runtime == "torch":
        backend = Plugins().find("backend", "torch")(factory="torchvision:resnet50", seed=0)
    else:
        need(runtime == "onnx" or find_spec("probekit_openvino") is not None, "pip install ./plugins/probekit-openvino")
        backend = Plugins().find("backend", runtime)(path=str(resnet / "resnet50.onnx"))
    feed = {"x" if runtime == "torch" else "image": IMAGES}
    graph = backend.graph(feed)
    names = [tap.name for tap in graph.taps if tap.name.endswith(".relu#2:in")] if runtime == "torch" else sixteen_sums
    assert len(names) == 16
    wanted, truth = [], []
    for name, activation in zip(names, sixteen_sums.values(), strict=True):
        shape = activation.shape[1:]
        tap = replace(graph.tap(name), shape=shape)
        drawn = np.sort(np.random.default_rng(1).permutation(activation[0].size)[:200])
        for program in ((steps.Mean((2, 3)), steps.Flatten()), (steps.Flatten(), steps.Take(drawn))):
            wanted.append(Wanted(tap, program, *steps.program_shape(program, shape)))
            truth.append(steps.run_program(program, activation))
    with backend.open_reduced(wanted) as run:
        found = run(feed, {})
    for one, features, expected in zip(wanted, found, truth, strict=True):
        scale = np.sqrt(np.mean(expected.astype(np.float64) ** 2))
        assert np.abs(features - expected).max() <= 1e-4 * scale, one.tap.name


def test_the_digits_network_is_what_its_script_trains(specs, tmp_path):
    """The shipped file knows the odd rows, which it was not trained on."""
    import onnxruntime
    from sklearn.datasets import load_digits

    digits = load_digits()
    session = onnxruntime.InferenceSession(specs / "models" / "digits_convnet.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": (digits.images[:, None] / 16).astype(np.float32)})
    assert np.mean(logits[1::2].argmax(axis=1) == digits.target[1::2]) > 0.96
