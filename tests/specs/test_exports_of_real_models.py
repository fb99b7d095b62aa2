"""Probes on real models, put onto the models themselves: a convnet, a file-type classifier, their own data."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from probekit import Plugins, load_probe, load_spec, run_spec
from probekit.data.question import ask
from probekit.features.digests import RowDigests
from probekit.reading import open_store, read_models
from probekit.saved.onnx_export import export_onnx

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
TOLERANCE = 1e-4
"""Of a probability: the grafted graph and the store's features differ by float32's rounding."""


def test_a_convnets_layers_leave_early(specs, need, tmp_path):
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    settings = [
        "splits.limit={train: 1000, valid: 200, test: 400}",
        "probe={kind: linear, penalty: 0.01}",
        "taps=[{op: Relu, as: 'relu{i}'}, {op: MaxPool, as: 'pool{i}', reductions: [some]}]",
        "reductions={pool: {kind: pool}, some: {kind: subset, features: 200}}",
        "reports=[json]",
    ]
    loaded = load_spec(specs / "fashion_convnet_onnx.yaml", Plugins(), settings)
    check_exports(loaded, run_spec(loaded, Plugins(), tmp_path / "run"), tmp_path)


def test_a_file_classifier_tells_its_factors_itself(magika, tmp_path):
    check_exports(*magika, tmp_path)


def check_exports(loaded, outcome, folder):
    """Export each probe of a run, and compare what ONNX Runtime gives with the store's features."""
    run, result, spec = outcome.directory, outcome.result, loaded.spec
    asked = ask(spec)
    (reading,) = read_models(spec, asked, RowDigests(asked.examples), open_store(spec))
    rows = asked.rows[:: max(1, len(asked.rows) // 64)]
    feed = reading.runner.read(rows).feed
    places = np.searchsorted(asked.rows, rows)
    for number, one in enumerate(result.probes):
        probe = load_probe(run, one.tap, one.factor, reduction=one.reduction)
        made = export_onnx(probe, folder / f"{number}.onnx", early_exit=number % 2 == 0)
        session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
        (found,) = session.run([made.output], {name: feed[name] for name in (i.name for i in session.get_inputs())})
        matrix = next(
            reading.extraction.matrix(place)
            for place, each in enumerate(reading.sets)
            if (each.label, each.reduction) == (one.tap, one.reduction)
        )
        expected = probe.predict_proba(np.asarray(matrix.read(places)))
        assert found == pytest.approx(expected, abs=TOLERANCE), (one.tap, one.factor)
        assert found.std(axis=0).max() > 0.01
