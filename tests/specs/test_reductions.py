"""The paper's suggestions for fewer features, side by side on the Fashion convnet (section 3.4)."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from probekit import Plugins, load_spec, run_spec

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
RAW = {"relu1": 32 * 28 * 28, "pool1": 32 * 14 * 14, "relu2": 64 * 14 * 14, "pool2": 64 * 7 * 7, "relu3": 512}
CUT = (
    "taps=[{match: pool1}, {match: pool2}]",
    "splits.limit={train: 800, valid: 200, test: 600}",
    "probe={kind: linear, penalty: [0.1, 0.01]}",
    "reports=[csv]",
)


def outcome(specs, need, folder, *settings):
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    plugins = Plugins()
    loaded = load_spec(specs / "fashion_reductions.yaml", plugins, settings, trust_code=True)
    return run_spec(loaded, plugins, folder)


@pytest.fixture(scope="module")
def cut(specs, need, tmp_path_factory):
    return outcome(specs, need, tmp_path_factory.mktemp("reductions"), *CUT)


def held(tap, reduction):
    """How many numbers a reduction to 64 features holds, by counting."""
    return {"pool": 0, "subset": 64, "project": 64 * RAW[tap], "pca": 64 * RAW[tap] + 64}[reduction]


def test_every_tap_has_all_four_and_the_drawn_ones_five_times(cut):
    counts = {}
    for one in cut.result.probes:
        counts[one.tap, one.reduction] = counts.get((one.tap, one.reduction), 0) + 1
    draws = {"pool": 1, "subset": 5, "project": 5, "pca": 1}
    assert counts == {(tap, name): number for tap in ("pool1", "pool2") for name, number in draws.items()}


def test_each_says_what_it_and_its_probe_hold(cut):
    for one in cut.result.probes:
        assert one.features_raw == RAW[one.tap]
        used = 32 if (one.tap, one.reduction) == ("pool1", "pool") else 64
        assert (one.features_used, one.parameters) == (used, 10 * (used + 1))
        assert one.reduction_parameters == held(one.tap, one.reduction)
        assert (one.reduction_seconds is not None) == (one.reduction == "pca")


def test_the_table_has_the_cost(cut):
    with (cut.directory / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(cut.result.probes)
    for row, one in zip(rows, cut.result.probes, strict=True):
        assert int(row["parameters"]) == one.parameters
        assert int(row["reduction_parameters"]) == one.reduction_parameters
        assert bool(row["reduction_seconds"]) == (one.reduction == "pca")


def test_projections_are_warned_of(cut):
    found = {one.reduction: one for one in cut.result.findings if one.kind == "projection_cost"}
    assert {name: one.severity for name, one in found.items()} == {"pca": "warning", "project": "notice"}
    assert found["pca"].taps == ["pool1", "pool2"]
    assert found["pca"].evidence["reduction_parameters"] == held("pool1", "pca")
    assert found["pca"].evidence["parameters_of_whole"] == 10 * (RAW["pool1"] + 1)


def test_the_spread_over_draws_is_of_the_errors_of_all_seeds(cut):
    spreads = {(one.tap, one.reduction): one for one in cut.result.spreads}
    assert set(spreads) == {(tap, name) for tap in ("pool1", "pool2") for name in ("subset", "project")}
    for (tap, name), one in spreads.items():
        errors = [p.error["test"] for p in cut.result.probes if (p.tap, p.reduction) == (tap, name)]
        assert len(set(errors)) > 1
        assert (one.low, one.median, one.high) == (min(errors), np.median(errors), max(errors))


@pytest.mark.slow
def test_the_whole_grid_ranks_the_suggestions(specs, need, tmp_path):
    """With 64 features of 3,136 to 25,088, what sees all values beats a subset of them."""
    result = outcome(specs, need, tmp_path).result
    error = {(p.tap, p.reduction): p.error["test"] for p in result.probes if p.control is None}
    # A vector has no positions to pool.
    assert {tap for tap, name in error if name == "pool"} == set(RAW) - {"relu3"}
    for tap in ("relu1", "pool1", "relu2", "pool2"):
        assert error[tap, "pca"] < error[tap, "subset"]
        assert error[tap, "pca"] < error[tap, "pool"]
    assert all(p.reduction_parameters == held(p.tap, p.reduction) for p in result.probes)
