"""The Fashion convnet in float and in int8, end to end on some rows."""

import os
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from probekit import Plugins, load_spec, run_spec
from probekit.comparing.compare import compare
from probekit.comparing.sides import load_run

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
CUT = ("splits.limit={train: 300, valid: 100, test: 300}", "probe={kind: linear, penalty: 1.0}", "reports=[json]")
TAPS = ["image", "relu1", "pool1", "relu2", "pool2", "relu3", "logits"]


@pytest.fixture(scope="module")
def result(specs, need, tmp_path_factory):
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    folder = tmp_path_factory.mktemp("int8")
    plugins = Plugins()
    run_spec(load_spec(specs / "fashion_float_against_int8.yaml", plugins, CUT), plugins, folder / "run")
    run = load_run(folder / "run")
    return compare(run, run, model="float:int8")


def test_every_tap_is_compared_by_its_name(result):
    by_factor = {
        factor: [one for one in result.differences if one.first.factor == factor] for factor in ("garment", "worn")
    }
    for some in by_factor.values():
        assert [one.first.tap for one in some] == TAPS
        assert {one.aligned for one in some} == {"name"}
    assert result.unmatched == []
    assert result.notes == []


def test_the_input_is_the_same_and_the_rest_nearly(result):
    for one in result.differences:
        assert one.score.n == 300
        assert abs(one.score.difference) <= 0.05
        if one.first.tap == "image":
            assert (one.score.difference, one.score.p, one.loss.difference) == (0, 1, 0)
    assert any(one.loss.difference != 0 for one in result.differences)


def test_the_models_are_what_differs(result):
    assert {(one.part, one.key) for one in result.changes} == {("model", "path"), ("model", "fingerprint")}


def test_the_shipped_model_is_what_its_script_makes(specs, need):
    import onnxruntime

    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    models = specs / "models"
    script = run_path(str(models / "fashion_convnet_int8.py"))
    calibration = script["FirstImages"](FASHION / script["IMAGES"], script["CALIBRATION_ROWS"])
    made = script["quantize"](models / "fashion_convnet.onnx", calibration).SerializeToString()
    images = np.random.default_rng(0).random((20, 1, 28, 28), dtype=np.float32)
    logits = [
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["logits"], {"image": images})[0]
        for model in ((models / "fashion_convnet_int8.onnx").read_bytes(), made)
    ]
    assert np.abs(logits[0] - logits[1]).max() <= 0.05 * np.abs(logits[0]).max()
