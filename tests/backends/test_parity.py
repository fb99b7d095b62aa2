"""One net on both backends: the same activations, by module on one side and by operator on the other."""

import logging
import pathlib
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from probekit.backends.onnx import OnnxBackend
from probekit.backends.torch import TorchBackend
from probekit.components import Backend, Tap

MODELS = pathlib.Path(__file__).parents[2] / "specs" / "models"
TOLERANCE = 1e-5

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.gate = nn.Sigmoid()
        self.join = Join()
        self.pool = nn.MaxPool2d(2)
        self.flat = nn.Flatten()
        self.hidden = nn.Linear(96, 10)
        self.squash = nn.Tanh()
        self.logits = nn.Linear(10, 3)

    def forward(self, image):
        h = self.act(self.stem(image))
        h = self.pool(self.join(h, self.gate(self.branch(h))))
        return self.logits(self.squash(self.hidden(self.flat(h))))

class Join(nn.Module):
    def forward(self, a, b):
        return a + b
"""
PAIRS = {
    "stem": "Conv", "act": "Relu", "branch": "Conv", "gate": "Sigmoid", "join": "Add", "pool": "MaxPool",
    "hidden": "Gemm", "squash": "Tanh", "logits": "Gemm",
}  # fmt: skip


def by_operator(taps: tuple[Tap, ...], pairs: dict[str, str]) -> dict[str, str]:
    """Return the ONNX tensor of each module: the first of its operator, then the second ..."""
    left = {op: [tap.name for tap in taps if tap.op == op] for op in set(pairs.values())}
    found = {module: left[op].pop(0) for module, op in pairs.items()}
    assert not any(left.values()), f"operators that no module stands for: {left}"
    return found


def differences(torch_side: Backend, onnx_side: Backend, pairs: dict[str, str], image: Any) -> dict[str, float]:
    """Return, by module, the largest difference relative to the largest value."""
    with torch_side.open(list(pairs)) as ours, onnx_side.open(list(pairs.values())) as theirs:
        one, two = ours({"image": image}), theirs({"image": image})
    found = {}
    for module, tensor in pairs.items():
        a, b = one[module], two[tensor]
        assert (a.dtype, a.shape) == (b.dtype, b.shape), module
        assert np.ptp(a) > 0, f"{module} gives one value only"
        found[module] = float(np.abs(a - b).max() / np.abs(a).max())
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchBackend, OnnxBackend]:
    folder = tmp_path_factory.mktemp("parity")
    (folder / "net.py").write_text(NET, encoding="utf-8")
    ours = TorchBackend(factory=f"{folder}/net.py:Net", seed=4)
    module = ours._build()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        module, (torch.zeros(2, 1, 8, 8),), dynamo=True, opset_version=18, input_names=["image"], verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    onnx.save_model(program.model_proto, folder / "net.onnx")
    return ours, OnnxBackend(path=str(folder / "net.onnx"))


@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize("optimization", ["all", "off"])
def test_an_exported_net_gives_the_activations_of_its_modules(
    exported: tuple[TorchBackend, OnnxBackend], size: int, optimization: str
) -> None:
    ours, theirs = exported
    theirs = theirs.model_copy(update={"optimization": optimization})
    pairs = {"image": "image", **by_operator(theirs.graph().taps, PAIRS)}
    image = np.random.default_rng(size).standard_normal((size, 1, 8, 8), dtype=np.float32)
    found = differences(ours, theirs, pairs, image)
    assert found.keys() == pairs.keys()
    assert max(found.values()) <= TOLERANCE, found


def test_both_sides_know_the_same_shapes_layouts_and_edges(exported: tuple[TorchBackend, OnnxBackend]) -> None:
    ours, theirs = exported
    image = np.zeros((2, 1, 8, 8), np.float32)
    one, two = ours.graph({"image": image}), theirs.graph()
    pairs = {"image": "image", **by_operator(two.taps, PAIRS)}
    for module, tensor in pairs.items():
        a, b = one.tap(module), two.tap(tensor)
        assert a is not None
        assert b is not None
        assert (a.shape, a.dtype, a.layout, a.untappable) == (b.shape, b.dtype, b.layout, b.untappable), module
    edges = {(a, b) for a, b in two.contract(list(pairs.values()))}
    assert {(pairs[a], pairs[b]) for a, b in one.contract(list(pairs))} == edges
    assert (pairs["act"], pairs["join"]) in edges
    assert one.outputs == ("output",)
    assert two.outputs == (pairs["logits"],)


CONVNET = {
    "image": "Input", "conv1": "Conv", "relu1": "Relu", "pool1": "MaxPool", "conv2": "Conv", "relu2": "Relu",
    "pool2": "MaxPool", "flatten": "Reshape", "fc1": "Gemm", "relu3": "Relu", "logits": "Gemm",
}  # fmt: skip


@pytest.fixture(scope="module")
def convnet() -> tuple[TorchBackend, OnnxBackend]:
    ours = TorchBackend(
        factory=f"{MODELS}/fashion_convnet.py:build", weights=str(MODELS / "fashion_convnet.safetensors")
    )
    return ours, OnnxBackend(path=str(MODELS / "fashion_convnet.onnx"))


@pytest.mark.parametrize("size", [1, 5])
def test_the_fashion_convnet_gives_the_same_activations_as_its_export_at_every_tap(
    convnet: tuple[TorchBackend, OnnxBackend], size: int
) -> None:
    ours, theirs = convnet
    usable = tuple(tap for tap in theirs.graph().taps if not tap.untappable)
    pairs = by_operator(usable, CONVNET)
    image = np.random.default_rng(size).random((size, 1, 28, 28), dtype=np.float32)
    graph = ours.graph({"image": image})
    modules = {tap.name for tap in graph.taps if ":in" not in tap.name and tap.name != "output"}
    assert modules == set(pairs)
    found = differences(ours, theirs, pairs, image)
    assert max(found.values()) <= TOLERANCE, found
    logits = graph.tap("logits")
    assert logits is not None
    assert logits.shape == (10,)


def test_the_fashion_convnet_is_that_of_a_plain_forward_pass(convnet: tuple[TorchBackend, OnnxBackend]) -> None:
    from safetensors.numpy import load_file

    weights = load_file(MODELS / "fashion_convnet.safetensors")
    image = np.random.default_rng(0).random((3, 1, 28, 28), dtype=np.float32)
    conv = nn.functional.conv2d(
        torch.from_numpy(image), torch.from_numpy(weights["conv1.weight"]), torch.from_numpy(weights["conv1.bias"]),
        padding=2,
    )  # fmt: skip
    with convnet[0].open(["conv1"]) as function:
        np.testing.assert_allclose(function({"image": image})["conv1"], conv.numpy(), rtol=1e-5, atol=1e-6)
