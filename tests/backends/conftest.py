"""Hand-built ONNX models, and what a refusal says."""

import pathlib
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from probekit.errors import UserError

Refused = Callable[[Callable[[], Any]], list[tuple[str, str]]]


def _refused(call: Callable[[], Any]) -> list[tuple[str, str]]:
    with pytest.raises(UserError) as caught:
        call()
    return [(problem.code, str(problem)) for problem in caught.value.problems]


@pytest.fixture(scope="session")
def refused() -> Refused:
    """Return the code and whole message of each problem that a call raises."""
    return _refused


def _model(
    nodes: Iterable[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    opset: int = 18,
    ir_version: int = 10,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def _value(name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def _weight(name: str, array: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def _external(name: str, shape: Sequence[int], **entries: Any) -> onnx.TensorProto:
    """Return a float32 tensor whose values lie in another file; ``entries`` as in the format, ``location`` first."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _save(model: onnx.ModelProto, path: pathlib.Path) -> pathlib.Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def build() -> types.SimpleNamespace:
    """Return short names for building ONNX models by hand."""
    return types.SimpleNamespace(
        node=helper.make_node, model=_model, value=_value, weight=_weight, external=_external, save=_save
    )
