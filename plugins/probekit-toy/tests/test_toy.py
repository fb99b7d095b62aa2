"""The plugin as it is installed: its spec runs from end to end, and its backend gives what NumPy gives."""

import inspect
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from probekit_toy.backend import ToyBackend
from probekit_toy.data import BlobsDataset

from probekit import Plugins, load_spec, run_spec

SPEC = Path(__file__).parent / "toy.yaml"


@pytest.fixture
def weights(tmp_path):
    rng = np.random.default_rng(1)
    sizes = [8, 16, 4]
    arrays = {}
    for n, (wide, narrow) in enumerate(pairwise(sizes)):
        arrays[f"w{n}"] = rng.standard_normal((wide, narrow)).astype(np.float32) / np.float32(np.sqrt(wide))
        arrays[f"b{n}"] = rng.standard_normal(narrow).astype(np.float32)
    path = tmp_path / "net.npz"
    np.savez(path, **arrays)
    return path


def test_the_backend_gives_what_the_formula_gives(weights):
    x = np.random.default_rng(2).standard_normal((5, 8)).astype(np.float32)
    with ToyBackend(path=str(weights)).open(["x", "relu0", "linear1"]) as run:
        found = run({"x": x})
    net = np.load(weights)
    hidden = np.where(x @ net["w0"] + net["b0"] > 0, x @ net["w0"] + net["b0"], 0)
    np.testing.assert_allclose(found["relu0"], hidden, rtol=1e-6)
    np.testing.assert_allclose(found["linear1"], hidden @ net["w1"] + net["b1"], rtol=1e-5)
    assert found["x"] is x


def test_every_tap_of_the_graph_can_be_read(weights):
    backend = ToyBackend(path=str(weights))
    taps = backend.graph().taps
    with backend.open([tap.name for tap in taps]) as run:
        found = run({"x": np.zeros((3, 8), np.float32)})
    assert {name: array.shape for name, array in found.items()} == {tap.name: (3, *tap.shape) for tap in taps}


def test_the_same_seed_gives_the_same_blobs():
    first, second = BlobsDataset(seed=3).open(), BlobsDataset(seed=3).open()
    rows = np.arange(7)
    np.testing.assert_array_equal(first.read(rows)["x"], second.read(rows)["x"])
    assert not np.array_equal(first.read(rows)["x"], BlobsDataset(seed=4).open().read(rows)["x"])


def test_the_spec_runs_from_end_to_end(weights, tmp_path):
    plugins = Plugins()
    loaded = load_spec(SPEC, plugins, environ={"TOY_WEIGHTS": str(weights)})
    result = run_spec(loaded, plugins, tmp_path / "run").result
    assert [tap.tap for tap in result.graph.taps] == ["x", "linear0", "relu0", "linear1"]
    assert {probe.factor for probe in result.probes} == {"blob", "parity"}
    by_tap = {p.tap: p.error["test"] for p in result.probes if p.factor == "blob"}
    # The blobs lie far apart, so that a linear probe reads them off the input; the untrained net itself does not.
    assert by_tap["x"] < 0.1
    assert result.model[0].error["test"] > 0.4
    used = {plugin["kind"]: plugin["distribution"] for plugin in result.provenance["plugins"]}
    assert used["backend.toy"] == "probekit-toy"


def test_the_backend_has_at_most_sixty_lines():
    text = Path(inspect.getfile(ToyBackend)).read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 60
