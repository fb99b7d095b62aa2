"""The paper's pathologically deep network: its dead half is found, and none is found in healthy networks."""

import subprocess
import sys
from itertools import pairwise

import pytest

from probekit import Plugins, load_spec, run_spec

KINDS = {"dead_segment", "fading_segment"}
HALF = 64
FIRST = (3, 7, 15, 23, 31, 39, 47, 55, 63)
SECOND = (64, 65, 67)
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
CUT = ("splits.limit={train: 1500, valid: 400, test: 1000}", "probe={kind: linear, penalty: [1.0, 0.1, 0.01]}")


@pytest.fixture(scope="module")
def trained(specs, mnist, tmp_path_factory):
    """Return a function that trains a network and returns the folder of its checkpoints."""

    def made(*arguments):
        folder = tmp_path_factory.mktemp("pathological_net")
        script = specs / "models" / "pathological_net.py"
        command = [sys.executable, script, "--data", mnist, "--out", folder, *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True)
        return folder

    return made


@pytest.fixture(scope="module")
def run(specs, mnist, tmp_path_factory):
    """Return a function from checkpoints and settings to the result of the spec."""

    def result(checkpoints, *settings):
        environ = {"PATHOLOGICAL_NET": str(checkpoints), "MNIST": str(mnist)}
        plugins = Plugins()
        settings = ("reports=[json]", *settings)
        loaded = load_spec(specs / "pathological_net.yaml", plugins, settings, trust_code=True, environ=environ)
        return run_spec(loaded, plugins, tmp_path_factory.mktemp("run")).result

    return result


def at(numbers, of="tanh"):
    """Return the setting that taps the image and some layers, counted from 0."""
    names = ", ".join(f"{of}.{number}" for number in numbers)
    return f"taps=[{{match: image, as: image}}, {{match: [{names}]}}]"


def segments(result):
    return [one for one in result.findings if one.kind in KINDS]


def skips(one):
    return one.evidence["skips"] if one.kind == "dead_segment" else [one.evidence["skip"]]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_unused_half_is_found_and_its_skip_named(trained, run, seed):
    result = run(trained("--seed", seed, "--minibatches", 40), *CUT, at((*FIRST, *SECOND)))
    found = segments(result)
    numbers = {int(tap.removeprefix("tanh.")) for one in found for tap in one.taps}
    assert numbers <= set(FIRST)
    assert numbers >= {number for number in FIRST if number >= HALF // 2}
    assert all([["image", f"tanh.{HALF}"]] == skips(one) for one in found)
    error = {probe.tap: probe.error["test"] for probe in result.probes}
    assert error[f"tanh.{HALF}"] < 0.25
    assert error[f"tanh.{HALF - 1}"] > error[f"tanh.{HALF}"] + 0.25


HEALTHY = {
    "a sum at every layer": (("--skip", "every", "--gain", 0.1), at((*FIRST, *SECOND), "sum"), ("skip: every",)),
    "the same skip over few layers": (("--depth", 16), at(range(16)), ("depth: 16",)),
    "the same skip and weights that keep the signal": (("--gain", 1), at((*FIRST, *SECOND)), ()),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_network_has_none(trained, run, name, seed):
    training, taps, arguments = HEALTHY[name]
    changed = f"model.arguments={{{', '.join(arguments)}}}"
    result = run(trained("--seed", seed, "--minibatches", 20, *training), *CUT, taps, changed)
    assert segments(result) == []
    # It could have one: something is read at every tap, and the graph is known.
    assert len(result.graph.edges) >= len(result.graph.taps) - 1
    answers = [one.answer for one in result.information]
    assert "no" not in answers
    assert answers.count("yes") > 0.8 * len(answers)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_figure_6_at_its_real_size(trained, run):
    result = run(trained(), "splits.limit={train: 10000, valid: 2000}")
    early, late = (one.error["test"] for one in result.model)
    assert [one.checkpoint for one in result.model] == ["500", "2000"]
    assert late < 0.5 * early
    found = segments(result)
    assert {one.checkpoint for one in found} == {"500", "2000"}
    for one in found:
        numbers = [int(tap.removeprefix("layer_")) for tap in one.taps]
        assert numbers[-1] == HALF
        assert numbers == list(range(numbers[0], HALF + 1))
        assert len(numbers) > HALF // 2
        assert skips(one) == [["image", f"layer_{HALF + 1}"]]
    error = {(one.checkpoint, one.tap): one.error["test"] for one in result.probes}
    second = [error["2000", f"layer_{number}"] for number in range(HALF + 1, 2 * HALF + 1)]
    assert max(second) < 0.4
    assert error["2000", f"layer_{HALF}"] > 0.6
    assert sum(b > a + 0.05 for a, b in pairwise(second)) == 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_network_of_the_same_size_has_none(trained, run, seed):
    folder = trained("--seed", seed, "--skip", "every", "--gain", 0.1, "--minibatches", 500)
    limit = "splits.limit={train: 10000, valid: 2000}"
    taps = "taps=[{match: image, as: image}, {match: tanh.0, as: layer_1}, {op: Identity, as: 'sum_{i}'}]"
    assert segments(run(folder, limit, taps, "model.arguments={skip: every}")) == []
