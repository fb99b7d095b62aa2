"""A recurrent network that reads images row by row."""

import os
from pathlib import Path

import pytest

from probekit import Plugins, load_spec, run_spec

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
PROBE = ("probe={kind: linear, penalty: [0.1, 0.01]}", "reports=[json]")


def outcome(specs, need, name, folder, *settings):
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    plugins = Plugins()
    loaded = load_spec(specs / f"{name}.yaml", plugins, (*PROBE, *settings), trust_code=True)
    return run_spec(loaded, plugins, folder).result


@pytest.fixture(scope="module")
def rows(specs, need, tmp_path_factory):
    limit = "splits.limit={train: 200, valid: 60, test: 150}"
    return outcome(specs, need, "fashion_lstm", tmp_path_factory.mktemp("rows"), limit)


def test_each_time_step_is_a_row(rows):
    assert {one.tap for one in rows.probes} == {"pixels", "lstm1", "lstm2"}
    for one in rows.probes:
        assert one.rows == {"train": 200 * 28, "valid": 60 * 28, "test": 150 * 28}
        assert one.features_used == (28 if one.tap == "pixels" else 64)
        # Time steps of one image are no independent evidence.
        assert one.interval().n == 150


def test_a_state_knows_more_than_a_row_of_pixels(rows):
    by = {(one.tap, one.factor): one for one in rows.probes}
    assert by["lstm1", "garment"].error["test"] < by["pixels", "garment"].error["test"] - 0.1
    assert by["lstm1", "row"].scores["r2"]["test"] > by["pixels", "row"].scores["r2"]["test"] + 0.2


def test_the_error_falls_as_more_is_read(specs, need, tmp_path):
    limit = "splits.limit={train: 1200, valid: 300, test: 800}"
    result = outcome(specs, need, "fashion_lstm_steps", tmp_path, limit)
    error = {(one.tap, one.reduction): one.error["test"] for one in result.probes}
    assert len(error) == 3 * 7
    assert error["lstm2", "after_04"] > error["lstm2", "after_12"] + 0.05 > error["lstm2", "after_28"] + 0.1
    # The logits are read off the last state alone.
    assert abs(error["lstm2", "after_28"] - result.model[0].error["test"]) < 0.03
