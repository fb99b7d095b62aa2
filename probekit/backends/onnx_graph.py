"""What can be tapped in an ONNX graph: names, shapes, dtypes, axis layouts, and why the rest cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from probekit.backends.layouts import BY_RANK, propagate
from probekit.components import Graph, ModelInput, Tap
from probekit.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import onnx

# Operators whose data input and output have channels on axis 1, by the standard's own definition.
_CHANNELS_FIRST = {
    "AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool",
    "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "QLinearConv",
}  # fmt: skip
# Operators whose result has the axes of their (first) data input.
_SAME_AXES = {
    "Abs", "Add", "Cast", "Celu", "Clip", "DequantizeLinear", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "LayerNormalization", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul",
    "Neg", "PRelu", "Pow", "QuantizeLinear", "Relu", "Sigmoid", "SimplifiedLayerNormalization", "Softmax", "Softplus",
    "Sqrt",    "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where", "Concat", "Pad", "Resize",
}  # fmt: skip


@dataclass
class _Tensors:
    """What is known of each tensor by name."""

    shapes: dict[str, tuple[int | str | None, ...] | None] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def model_inputs(model: onnx.ModelProto) -> tuple[ModelInput, ...]:
    """Return the inputs that must be fed, with the batch axis."""
    constants = {tensor.name for tensor in model.graph.initializer}
    made = []
    for value in model.graph.input:
        if value.name not in constants:
            shape, dtype, _ = _type_of(value)
            sizes = None if shape is None else tuple(size if isinstance(size, int) else None for size in shape)
            made.append(ModelInput(value.name, sizes, dtype))
    return tuple(made)


def read_graph(model: onnx.ModelProto, constant: Collection[str] = ()) -> Graph:
    """Return every tensor of the main graph in execution order; weights and the tensors of inner graphs come last.

    Args:
        model: weights need not be loaded; no runtime is needed.
        constant: inputs that are fed the same values for every batch, which need no batch axis.

    Raises:
        InputError: ``PK-M02``, the graph contradicts itself.
    """
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise InputError(Problem("PK-M02", f"the graph is damaged: {error}", field="model.path")) from error
    graph = inferred.graph
    tensors = _read_types(graph)
    weights = [tensor.name for tensor in graph.initializer] + [
        tensor.values.name for tensor in graph.sparse_initializer
    ]
    constants = set(weights)
    inputs = [value.name for value in graph.input if value.name not in constants]
    batch = _batch_size([name for name in inputs if name not in constant], tensors)

    order: list[tuple[str, str]] = [(name, "Input") for name in inputs]
    edges: list[tuple[str, str]] = []
    live = set(inputs)
    for node in graph.node:
        sources = [name for name in (*node.input, *_outer_names(node)) if name in live]
        for output in filter(None, node.output):
            order.append((output, node.op_type))
            if sources and node.op_type not in {"Shape", "Size"}:
                live.add(output)
                edges += [(source, output) for source in dict.fromkeys(sources)]
    bodies = dict(_body_tensors(graph))
    layouts = propagate(_layout_seeds(graph, tensors), _layout_links(graph), _ranks(tensors))

    order += [(name, "Initializer") for name in weights] + [(name, "Body") for name in bodies]
    taps = []
    for depth, (name, op) in enumerate(order):
        shape = tensors.shapes.get(name)
        layout = layouts.get(name, "") or ("NC" if shape is not None and len(shape) == 2 else "")
        reason = bodies.get(name) or _why_untappable(name, op, tensors, live, batch)
        if layout == "TNC" and not reason:
            reason = "its first axis is time, not the batch; tap what follows"
        inner = None if shape is None else tuple(size if isinstance(size, int) else None for size in shape[1:])
        taps.append(Tap(name, op, inner, tensors.dtypes.get(name, ""), layout, depth, reason))
    return Graph(tuple(taps), tuple(edges), tuple(value.name for value in graph.output))


def _why_untappable(name: str, op: str, tensors: _Tensors, live: set[str], batch: int | str | None) -> str:
    if op == "Initializer":
        return "an initializer: a weight, the same for every input"
    if name not in live:
        return "constant: it does not depend on the input's values"
    if name in tensors.reasons:
        return tensors.reasons[name]
    shape = tensors.shapes.get(name)
    if shape is not None and not shape:
        return "a scalar: it has no batch axis"
    if shape is not None and isinstance(shape[0], int) and shape[0] != batch:
        return f"no batch axis: its first axis is always {shape[0]}"
    return ""


def _read_types(graph: onnx.GraphProto) -> _Tensors:
    tensors = _Tensors()
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape, dtype, reason = _type_of(value)
        tensors.shapes[value.name] = shape
        tensors.dtypes[value.name] = dtype or ""
        if reason:
            tensors.reasons[value.name] = reason
    codes = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in codes:
            tensors.reasons[node.input[0]] = f"the raw codes of QuantizeLinear; tap {node.output[0]!r}, their values"
    return tensors


def _type_of(value: onnx.ValueInfoProto) -> tuple[tuple[int | str | None, ...] | None, str | None, str]:
    """Return shape (sizes, symbols, None), NumPy's dtype name, and why its values cannot be read."""
    import numpy as np
    import onnx

    kind = value.type.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        name = str(kind).removesuffix("_type")
        return None, None, f"{'an' if name == 'optional' else 'a'} {name}, not a tensor"
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(_axis(axis) for axis in tensor.shape.dim)
    if not tensor.elem_type:
        return shape, None, ""
    if tensor.elem_type not in onnx.TensorProto.DataType.values():
        return shape, None, f"values of a type that onnx {onnx.__version__} does not know"
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    if name == "string":
        return shape, "str", "text, not numbers"
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if dtype.kind not in "biuf" or dtype.isbuiltin != 1:
        return shape, name, f"{name} values, which NumPy cannot hold; tap the tensor after its cast or DequantizeLinear"
    return shape, dtype.name, ""


def _axis(axis: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """Return the size, else the symbol, else None; exporters write -1 for any size."""
    return axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else axis.dim_param or None


def _batch_size(inputs: list[str], tensors: _Tensors) -> int | str | None:
    """Return the first axis of the first input that has axes: a number where the batch is fixed, else its symbol."""
    return next((shape[0] for name in inputs if (shape := tensors.shapes.get(name))), None)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    import onnx

    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _outer_names(node: onnx.NodeProto) -> list[str]:
    """Return the names that the bodies of a node read; those of the outer graph are among them."""
    names = []
    for body in _subgraphs(node):
        for inner in body.node:
            names += [*inner.input, *_outer_names(inner)]
    return names


def _body_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        for body in _subgraphs(node):
            for inner in body.node:
                for name in filter(None, inner.output):
                    yield name, f"inside the body of the {node.op_type} node {node.name or node.output[0]!r}"
            yield from _body_tensors(body)


def _ranks(tensors: _Tensors) -> dict[str, int]:
    return {name: len(shape) for name, shape in tensors.shapes.items() if shape is not None}


def _layout_seeds(graph: onnx.GraphProto, tensors: _Tensors) -> dict[str, str]:
    """Return the layouts that an operator's definition fixes."""
    ranks, seeds = _ranks(tensors), {}
    for node in graph.node:
        if node.op_type in _CHANNELS_FIRST:
            for name in (node.input[0], node.output[0]):
                if ranks.get(name) in BY_RANK:
                    seeds[name] = BY_RANK[ranks[name]]
        elif node.op_type in {"LSTM", "GRU", "RNN"} and _attribute(node, "layout", 0) == 0:
            seeds[node.input[0]] = "TNC"
        elif node.op_type in {"LayerNormalization", "SimplifiedLayerNormalization"} and ranks.get(node.input[0]) == 3:
            axis = _attribute(node, "axis", -1)
            shape = tensors.shapes.get(node.input[0]) or ()
            if axis in (-1, 2) and not isinstance(shape[0], int):
                seeds[node.output[0]] = "NTC"
    return seeds


def _layout_links(graph: onnx.GraphProto) -> list[tuple[str, str, tuple[int, ...] | None]]:
    """Return (a, b, permutation): b has the axes of a, permuted; None leaves them as they are."""
    links: list[tuple[str, str, tuple[int, ...] | None]] = []
    for node in graph.node:
        if node.op_type == "Transpose":
            permutation = tuple(next((a.ints for a in node.attribute if a.name == "perm"), ()))
            if permutation:
                links.append((node.input[0], node.output[0], permutation))
        elif node.op_type in _SAME_AXES:
            links += [(name, node.output[0], None) for name in node.input if name]
    return links


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)
