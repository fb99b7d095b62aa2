"""From a run of the digits spec to an ONNX session: what was predicted then is predicted by what was saved."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_digits

from probekit import Plugins, load_probe, load_spec, run_spec
from probekit.saved.files import FILE
from probekit.saved.onnx_export import export_onnx

SETTINGS = (
    "taps=[image, relu_1, linear]",
    "reductions={pool: {kind: pool}, flatten: {kind: flatten}, parts: {kind: pca, features: 8, of: {kind: flatten}}, "
    "far: {kind: project, features: 40}}",
    "probe={kind: linear, penalty: 0.01}",
    "splits.limit={train: 200, valid: 60, test: 100}",
    "reports=[json]",
)


@pytest.fixture(scope="module")
def run(specs, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    run_spec(load_spec(specs / "digits.yaml", Plugins(), SETTINGS), Plugins(), directory)
    return directory


@pytest.fixture(scope="module")
def predictions(run):
    """The run's digits and predictions."""
    return predicted_by(run)


def predicted_by(run):
    """Return the digits of a run's rows, and by tap, reduction and factor what it predicted for them."""
    with safe_open(run / "predictions.safetensors", "numpy") as file:
        told = json.loads(file.metadata()["probekit"])["predictions"]
        ids = [int(bytes(row).rstrip(b"\0")) for row in file.get_tensor("id")]
        found = {
            (one["tap"], one["reduction"], one["factor"]): file.get_tensor(f"predicted.{key}")
            for key, one in told.items()
            if "tap" in one
        }
    return load_digits().images[ids][:, None].astype(np.float32) / 16, found


def test_every_probe_is_saved(run, predictions):
    with safe_open(run / FILE, "numpy") as file:
        told = json.loads(file.metadata()["probekit"])
    saved = {(one["tap"], one["reduction"], one["factor"]) for one in told["probes"]}
    assert saved == set(predictions[1])
    assert {reduction for _, reduction, _ in saved} == {"pool", "flatten", "parts", "far"}
    assert all(one["left_out"] is None for one in told["probes"])
    assert told["models"]["default"]["inputs"]["image"] == {
        "source": "image",
        "shape": [2, 1, 8, 8],
        "dtype": "float32",
    }


def test_onnx_runtime_gives_what_the_run_predicted(run, predictions, tmp_path):
    images, found = predictions
    for number, ((tap, reduction, factor), predicted) in enumerate(found.items()):
        probe = load_probe(run, tap, factor, reduction=reduction)
        made = export_onnx(probe, tmp_path / f"{number}.onnx", early_exit=number % 2 == 0)
        session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
        (probabilities,) = session.run([made.output], {"image": images})
        top = np.sort(probabilities, axis=1)
        sure = top[:, -1] - top[:, -2] > 1e-5
        assert sure.mean() > 0.95
        np.testing.assert_array_equal(probabilities.argmax(axis=1)[sure], predicted[sure])


NET = """
import torch

def build():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        conv, head = torch.nn.Conv2d(1, 12, 3), torch.nn.Linear(432, 10)
    return torch.nn.Sequential(conv, torch.nn.ReLU(inplace=True), torch.nn.Flatten(), head)
"""
TORCH_SPEC = """
probekit: 1
model: {kind: torch, factory: "./net.py:build"}
data: {kind: digits}
taps: ["0", "3:in"]
reductions: {pool: {kind: pool, how: max}, parts: {kind: pca, features: 8}}
labels: {digit: {kind: column, column: label}}
splits: {column: half, train: even, valid: {of: odd, share: 0.3}, test: odd, limit: {train: 200, valid: 60, test: 100}}
probe: {kind: linear, penalty: 0.01}
reports: [json]
"""


def test_a_torch_module_gives_what_the_run_predicted(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "s.yaml").write_text(TORCH_SPEC)
    loaded = load_spec(tmp_path / "s.yaml", Plugins(), trust_code=True)
    run_spec(loaded, Plugins(), tmp_path / "run")
    images, found = predicted_by(tmp_path / "run")
    namespace = {}
    exec(NET, namespace)
    module = namespace["build"]().eval()
    assert {(tap, reduction) for tap, reduction, _ in found} == {("0", "pool"), ("0", "parts"), ("3:in", "parts")}
    for (tap, reduction, factor), predicted in found.items():
        probed = load_probe(tmp_path / "run", tap, factor, reduction=reduction).attach(module)
        output, probabilities = probed(torch.tensor(images))
        torch.testing.assert_close(output, module(torch.tensor(images)))
        same = probabilities.numpy().argmax(axis=1) == predicted
        top = np.sort(probabilities.numpy(), axis=1)
        assert same[top[:, -1] - top[:, -2] > 1e-5].all()
        assert same.mean() > 0.95


def test_the_same_run_writes_the_same_probes(run, specs, tmp_path):
    run_spec(load_spec(specs / "digits.yaml", Plugins(), SETTINGS), Plugins(), tmp_path)
    assert (tmp_path / FILE).read_bytes() == (run / FILE).read_bytes()


def test_loading_a_probe_imports_neither_torch_nor_the_runtime(run):
    code = (
        "import sys, probekit; probekit.load_probe(sys.argv[1], 'linear', 'digit', reduction='flatten'); "
        "print([name for name in ('torch', 'onnxruntime', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
