"""The built-in backends pass the kit on the committed convnets."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file, save_file

from probekit.backends.onnx import OnnxBackend
from probekit.backends.torch import TorchBackend
from probekit.testing import BackendConformance

MODELS = Path(__file__).parents[2] / "specs" / "models"


def images(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def onnx_with_another_weight(path: Path, to: Path) -> Path:
    """Write a model some of whose first weights are changed: of float32, or of int8 where it is quantised."""
    model = onnx.load(path)
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    weight = next(one for one in model.graph.initializer if one.data_type in kinds and len(one.dims) > 1)
    array = onnx.numpy_helper.to_array(weight).copy()
    array.flat[:16] = 1 if array.dtype == np.float32 else 100
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    to.write_bytes(model.SerializeToString())
    return to


class OnnxConformance(BackendConformance):
    model: str
    shape: tuple[int, ...]

    @pytest.fixture
    def backend(self) -> OnnxBackend:
        return OnnxBackend(path=str(MODELS / self.model))

    @pytest.fixture
    def batch(self) -> dict[str, Any]:
        return {"image": images(5, *self.shape)}

    @pytest.fixture
    def other_weights(self, tmp_path: Path) -> OnnxBackend:
        return OnnxBackend(path=str(onnx_with_another_weight(MODELS / self.model, tmp_path / "other.onnx")))

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> str:
        return str(onnx_with_another_weight(MODELS / self.model, tmp_path / "step.onnx"))


class TestOnnxDigits(OnnxConformance):
    model, shape = "digits_convnet.onnx", (1, 8, 8)


class TestOnnxFashion(OnnxConformance):
    model, shape = "fashion_convnet.onnx", (1, 28, 28)


class TestOnnxFashionInt8(OnnxConformance):
    model, shape = "fashion_convnet_int8.onnx", (1, 28, 28)


class TestOnnxUnoptimised(OnnxConformance):
    model, shape = "digits_convnet.onnx", (1, 8, 8)

    @pytest.fixture
    def backend(self) -> OnnxBackend:
        return OnnxBackend(path=str(MODELS / self.model), optimization="off")


FACTORY = f"{MODELS}/fashion_convnet.py:build"


class TestTorchFashion(BackendConformance):
    """A factory with a file of weights."""

    @pytest.fixture
    def backend(self) -> TorchBackend:
        return TorchBackend(factory=FACTORY, weights=str(MODELS / "fashion_convnet.safetensors"), device="cpu")

    @pytest.fixture
    def batch(self) -> dict[str, Any]:
        return {"image": images(5, 1, 28, 28)}

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> str:
        weights = load_file(MODELS / "fashion_convnet.safetensors")
        weights["conv1.weight"][0, 0, 0, 0] += 0.5
        save_file(weights, tmp_path / "step.safetensors")
        return str(tmp_path / "step.safetensors")

    @pytest.fixture
    def other_weights(self, backend: TorchBackend, checkpoint: str) -> TorchBackend:
        return backend.with_checkpoint(checkpoint)


RECURRENT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(5, 3)

    def forward(self, ids, scale):
        states, _ = self.lstm(self.embed(ids).transpose(0, 1))
        return self.fc(self.drop(self.norm(states[-1] * scale)))
"""


class TestTorchRecurrent(BackendConformance):
    """Two inputs, a time-first tap, whole numbers, batch normalisation, dropout; weights drawn by the seed."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> TorchBackend:
        (tmp_path / "recurrent.py").write_text(RECURRENT, encoding="utf-8")
        return TorchBackend(factory=f"{tmp_path}/recurrent.py:Net", seed=2, device="cpu")

    @pytest.fixture
    def batch(self) -> dict[str, Any]:
        rng = np.random.default_rng(1)
        return {"ids": rng.integers(0, 11, (5, 7)), "scale": rng.random((5, 1), dtype=np.float32)}

    @pytest.fixture
    def other_weights(self, backend: TorchBackend) -> TorchBackend:
        return backend.model_copy(update={"seed": 3})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12, 2))
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    torch.export.save(torch.export.export(net.eval(), (torch.zeros(2, 1, 4, 4),)), path)
    return path


class TestTorchProgram(BackendConformance):
    """A program of torch.export for two examples at a time."""

    @pytest.fixture
    def backend(self, file: Path) -> TorchBackend:
        return TorchBackend(program=str(file), device="cpu")

    @pytest.fixture
    def batch(self) -> dict[str, Any]:
        return {"input": images(6, 1, 4, 4)}
