"""ResNet-101 and -152, VGG-16 and -19, Inception v3: the specs on torchvision's networks with random weights."""

import importlib.util
import re
import subprocess
import sys
from math import prod

import numpy as np
import pytest

from probekit import Plugins, load_spec, run_spec
from probekit.backends.torch import TorchBackend

pytest.importorskip("torchvision")

CUT = (
    "model.arguments={num_classes: 3}",
    "splits={train: 0.5, valid: 0.25, test: 0.25, stratify: class}",
    "probe={kind: linear, penalty: 0.1}",
    "reports=[json]",
)
ANYWHERE = {"IMAGENET": "imagenet"}
SMALL = ("data.preprocess.resize=64", "data.preprocess.center_crop=64")
STAGES_101 = {1: (3, 256), 2: (4, 512), 3: (23, 1024), 4: (3, 2048)}
STAGES_152 = {1: (3, 256), 2: (8, 512), 3: (36, 1024), 4: (3, 2048)}


@pytest.fixture(scope="module")
def made(specs, tmp_path_factory):
    """Three made classes of eight images."""
    folder = tmp_path_factory.mktemp("classes") / "made"
    script = specs / "models" / "made_classes.py"
    command = [sys.executable, script, "--out", folder, "--classes", "3", "--per-class", "8"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def outcome(specs, name, made, folder, *settings):
    plugins = Plugins()
    settings = (*CUT, f"data.path={made}", *settings)
    loaded = load_spec(specs / f"{name}.yaml", plugins, settings, trust_code=True, environ=ANYWHERE)
    return run_spec(loaded, plugins, folder).result


def test_resnet101_is_probed_at_thirty_three_sums_named_by_stage(specs, made, tmp_path):
    result = outcome(specs, "resnet101", made, tmp_path, "model.weights=null", *SMALL)
    sums = [f"stage{stage}_add{i}" for stage, (blocks, _) in STAGES_101.items() for i in range(1, blocks + 1)]
    assert [one.tap for one in result.probes] == ["x", *sums]
    channels = [width for blocks, width in STAGES_101.values() for _ in range(blocks)]
    assert [one.features_used for one in result.probes] == [3, *channels]
    # 64 x 64 pixels: a quarter of them at the first stage's sides, half as many at each that follows.
    sides = [64, *(16 >> (stage - 1) for stage, (blocks, _) in STAGES_101.items() for _ in range(blocks))]
    assert [one.features_raw for one in result.probes] == [
        width * side**2 for width, side in zip([3, *channels], sides, strict=True)
    ]
    (own,) = result.model
    assert own.factor == "class"
    assert {one.kind for one in result.findings} >= {"model_error", "monotonicity"}


@pytest.mark.parametrize("stages", [STAGES_101, STAGES_152], ids=["resnet101", "resnet152"])
def test_the_patterns_choose_the_sums_of_every_block(specs, stages):
    """By the graph alone: He et al. 2016, table 1, has the number of blocks."""
    from probekit.taps import choose_taps

    factory = f"torchvision:resnet{101 if stages is STAGES_101 else 152}"
    settings = ("model.weights=null", f"model.factory={factory}")
    spec = load_spec(specs / "resnet101.yaml", Plugins(), settings, environ=ANYWHERE).spec
    graph = TorchBackend(factory=factory).graph({"x": np.zeros((2, 3, 32, 32), np.float32)})
    labels = [one.label for one in choose_taps(spec.taps, graph, spec.max_taps)]
    assert labels[1:] == [f"stage{n}_add{i}" for n, (blocks, _) in stages.items() for i in range(1, blocks + 1)]


@pytest.mark.slow
def test_vgg16_is_probed_at_every_relu_and_pooling(specs, made, tmp_path):
    result = outcome(specs, "vgg16", made, tmp_path, "model.weights=null", *SMALL)
    width = {one.tap: one.features_used for one in result.probes}
    assert list(width) == ["x", *vgg_labels((2, 2, 3, 3, 3))]
    # Simonyan and Zisserman 2015, table 1.
    assert [width[f"pool{i}"] for i in range(1, 6)] == [64, 128, 256, 512, 512]
    assert (width["fc1"], width["fc2"]) == (4096, 4096)


def test_the_same_patterns_are_right_for_vgg19(specs):
    from probekit.taps import choose_taps

    settings = ("model.weights=null", "model.factory=torchvision:vgg19")
    spec = load_spec(specs / "vgg16.yaml", Plugins(), settings, environ=ANYWHERE).spec
    graph = TorchBackend(factory="torchvision:vgg19").graph({"x": np.zeros((2, 3, 32, 32), np.float32)})
    labels = [one.label for one in choose_taps(spec.taps, graph, spec.max_taps)]
    assert labels[1:] == vgg_labels((2, 2, 4, 4, 4))


def vgg_labels(blocks):
    """Return the taps after the input: the ReLUs of each block and its pooling, then the linear layers'."""
    labels, count = [], 0
    for number, convolutions in enumerate(blocks, start=1):
        labels += [f"relu{count + i}" for i in range(1, convolutions + 1)] + [f"pool{number}"]
        count += convolutions
    return [*labels, "fc1", "fc2"]


def inception(specs):
    found = importlib.util.spec_from_file_location("inception_v3", specs / "models" / "inception_v3.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_both_heads_of_inception_are_torchvisions(specs):
    """torchvision gives both heads to a module that believes it is in training."""
    import torch

    model = inception(specs).build(num_classes=7).eval()
    image = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 3, 299, 299)).astype(np.float32))
    with torch.no_grad():
        ours = model(image)
        model.training = True  # of the root alone: dropout and batch norm stay as they are
        theirs = super(type(model), model).forward(image)
    assert torch.equal(ours["logits"], theirs.logits)
    assert torch.equal(ours["aux"], theirs.aux_logits)


def test_inception_is_probed_at_a_thousand_values_that_are_always_the_same(specs, made, tmp_path):
    """Two checkpoints at real size, few images; the second one is the first with another main head."""
    import torch
    from safetensors.torch import save_file

    module = inception(specs)
    for step in (0, 9):
        torch.manual_seed(0)
        model = module.build(num_classes=3)
        if step:
            torch.nn.init.normal_(model.fc.weight)
        save_file(model.state_dict(), tmp_path / f"step_{step}.safetensors")
    settings = (
        f"model.checkpoints={{glob: {tmp_path}/step_*.safetensors, step: step_*}}",
        "splits={train: 0.25, valid: 0.125, test: 0.125, stratify: class}",
        "model.batch_size=2",
        "taps=[{match: Conv2d_3b_1x1}, {match: Mixed_6e}, {match: AuxLogits, as: aux_head}, "
        "{match: Mixed_7c}, {match: fc, as: main_head}]",
    )
    result = outcome(specs, "inception_v3", made, tmp_path / "run", *settings)
    # Appendix C of the paper names a tensor of 426,320 values.
    assert {one.features_raw for one in result.probes if one.tap == "Conv2d_3b_1x1"} == {426_320}
    assert {one.checkpoint for one in result.probes} == {"0", "9"}
    by = {(one.checkpoint, one.tap): one for one in result.probes}
    for name in ("Conv2d_3b_1x1", "Mixed_6e", "Mixed_7c"):
        first, second = by["0", name], by["9", name]
        assert first.features_used == second.features_used == 1000
        # The same values of the same tensors give the same probe.
        assert first.scores == second.scores
    assert by["0", "main_head"].scores != by["9", "main_head"].scores
    edges = {(a, b) for _, a, b in result.graph.edges}
    assert ("Mixed_6e", "aux_head") in edges
    assert not any(a == "aux_head" for a, _ in edges)
    assert {one.checkpoint for one in result.findings if one.kind == "auxiliary_head"} <= {"0", "9"}


def test_the_spec_taps_the_tensors_of_figure_8(specs):
    from probekit.taps import choose_taps

    settings = ("model.checkpoints=null",)
    spec = load_spec(specs / "inception_v3.yaml", Plugins(), settings, trust_code=True, environ=ANYWHERE).spec
    backend = TorchBackend(factory=f"{specs / 'models' / 'inception_v3.py'}:build", arguments={"num_classes": 3})
    graph = backend.graph({"image": np.zeros((2, 3, 299, 299), np.float32)})
    chosen = {one.label: one.tap for one in choose_taps(spec.taps, graph, spec.max_taps)}
    mixed = [f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")]
    assert [label for label in chosen if label.startswith("Mixed")] == mixed
    assert [label for label in chosen if re.match("Conv2d|max", label)] == [
        "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
    ]  # fmt: skip
    assert {"image", "aux_conv0", "aux_conv1", "aux_head", "avgpool", "main_head"} < set(chosen)
    assert prod(chosen["Mixed_6e"].shape) == 768 * 17 * 17
    assert graph.outputs == ("output[logits]", "output[aux]")


@pytest.mark.slow
def test_inception_at_four_moments_on_made_classes(specs, tmp_path_factory):
    """Trains the network at real size for eight minibatches, and probes all tensors of figure 8."""
    folder = tmp_path_factory.mktemp("inception")
    for script, *more in (
        ("made_classes.py", "--out", folder / "made", "--per-class", "6"),
        ("inception_v3.py", "--images", folder / "made", "--out", folder, "--moments", "0", "2", "4", "8"),
    ):
        subprocess.run([sys.executable, specs / "models" / script, *more], check=True, capture_output=True)
    plugins = Plugins()
    settings = (
        f"data.path={folder / 'made'}", "model.arguments={num_classes: 10}",
        "splits={train: 0.5, valid: 0.25, test: 0.25, stratify: class}",
        f"model.checkpoints={{glob: {folder}/step_*.safetensors, step: step_*}}",
    )  # fmt: skip
    loaded = load_spec(specs / "inception_v3.yaml", plugins, settings, trust_code=True, environ=ANYWHERE)
    result = run_spec(loaded, plugins, folder / "run").result
    assert list(dict.fromkeys(one.checkpoint for one in result.probes)) == ["0", "2", "4", "8"]
    assert {one.checkpoint for one in result.model} == {"0", "2", "4", "8"}
    assert len({one.tap for one in result.probes}) == 24
    assert {one.checkpoint for one in result.findings if one.kind == "auxiliary_head"} == {"0", "2", "4", "8"}
