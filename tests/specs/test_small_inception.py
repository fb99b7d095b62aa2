"""A small network with an auxiliary head at four moments of its training."""

import importlib.util
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from probekit import Plugins, load_spec, run_spec

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
LIMIT = "splits.limit={train: 1200, valid: 300, test: 800}"
CUT = (LIMIT, "probe={kind: linear, penalty: [0.1, 0.01]}", "reports=[json]")


def module(specs, name):
    found = importlib.util.spec_from_file_location(name, specs / "models" / f"{name}.py")
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    return made


def outcome(specs, need, name, folder, *settings):
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    plugins = Plugins()
    loaded = load_spec(specs / f"{name}.yaml", plugins, settings, trust_code=True)
    return run_spec(loaded, plugins, folder).result


@pytest.fixture(scope="module")
def moments(specs, need, tmp_path_factory):
    taps = "taps=[conv1, mixed3, {match: aux, as: aux_head}, mixed4, {match: fc, as: main_head}]"
    return outcome(specs, need, "small_inception", tmp_path_factory.mktemp("moments"), *CUT, taps)


def test_four_moments_are_in_one_result_in_order(moments):
    steps = list(dict.fromkeys(one.checkpoint for one in moments.probes))
    assert steps == sorted(steps, key=int)
    assert len(steps) == 4
    assert steps[0] == "0"
    assert [one.checkpoint for one in moments.model] == steps


def test_training_makes_deeper_tensors_better(moments):
    steps = list(dict.fromkeys(one.checkpoint for one in moments.probes))
    error = {(one.checkpoint, one.tap): one.error["test"] for one in moments.probes}
    own = [one.error["test"] for one in moments.model]
    assert own[0] > 0.8
    assert own[-1] < 0.15
    for tap in ("mixed3", "mixed4", "main_head"):
        assert error[steps[-1], tap] < error[steps[0], tap] - 0.05
    assert error[steps[-1], "main_head"] < error[steps[-1], "conv1"] - 0.05
    assert abs(error[steps[-1], "main_head"] - own[-1]) < 0.03


def test_the_auxiliary_head_is_compared_with_the_main_branch_at_each_moment(moments):
    steps = list(dict.fromkeys(one.checkpoint for one in moments.probes))
    found = {one.checkpoint: one for one in moments.findings if one.kind == "auxiliary_head"}
    assert sorted(found, key=int) == steps
    error = {(one.checkpoint, one.tap): one.error["test"] for one in moments.probes}
    for step, one in found.items():
        assert one.evidence["fork"] == "mixed3"
        assert one.evidence["branch"] == ["aux_head"]
        difference = error[step, "mixed4"] - error[step, "aux_head"]
        assert one.evidence["ahead"]["value"] == pytest.approx(difference)


def test_the_untrained_network_is_the_first_moment(specs):
    """Rounded to what half precision can hold."""
    from safetensors.torch import load_file

    state = load_file(specs / "models" / "small_inception" / "step_0.safetensors")
    fresh = module(specs, "small_inception").build().state_dict()
    assert set(state) == set(fresh)
    for name, tensor in fresh.items():
        assert np.array_equal(
            state[name].numpy(), tensor.half().float().numpy() if tensor.dtype.is_floating_point else tensor.numpy()
        )


def test_the_script_keeps_the_moments_and_the_end(specs, need, tmp_path):
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    command = [sys.executable, specs / "models" / "small_inception.py", "--data", FASHION, "--out", tmp_path]
    command += ["--rows", "600", "--epochs", "4", "--moments", "0", "3", "7"]
    subprocess.run(command, check=True, capture_output=True)
    # Five minibatches an epoch.
    assert {path.name for path in tmp_path.iterdir()} == {f"step_{step}.safetensors" for step in (0, 3, 7, 20)}


@pytest.mark.slow
def test_the_whole_spec_shows_the_dynamics(specs, need, tmp_path):
    result = outcome(specs, need, "small_inception", tmp_path)
    steps = list(dict.fromkeys(one.checkpoint for one in result.probes))
    error = {(one.checkpoint, one.tap): one.error["test"] for one in result.probes}
    for before, after in pairwise(steps):
        assert error[after, "main_head"] < error[before, "main_head"]
    assert {one.checkpoint for one in result.findings if one.kind == "auxiliary_head"} == set(steps)
