"""What can be tapped in an ONNX graph: names, shapes, dtypes, axis layouts, and why the rest cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from probekit.backends.layouts import BY_RANK, propagate_layouts
from probekit.backends.onnx_prune import read_by, subgraphs
from probekit.components import Graph, ModelInput, Tap
from probekit.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

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
    "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where", "Concat", "Pad", "Resize",
}  # fmt: skip


CAST_TO_FLOAT = {
    "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "int4", "uint4", "int2",
    "uint2",
}  # fmt: skip
"""Types that NumPy lacks, float32 holds and ONNX Runtime can cast."""

_Shape = tuple[int | str | None, ...]
"""Sizes, symbols, and None where an axis has neither."""


@dataclass
class _Tensors:
    """What is known of each tensor by name."""

    shapes: dict[str, _Shape | None] = field(default_factory=dict)
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
    graph = inferred_graph(model)
    tensors = _read_types(graph)
    weights = [tensor.name for tensor in model.graph.initializer] + [
        tensor.values.name for tensor in graph.sparse_initializer
    ]
    constants = set(weights)
    inputs = [value.name for value in graph.input if value.name not in constants]
    layouts = propagate_layouts(_layout_seeds(graph, tensors), _layout_links(graph), _ranks(tensors))
    axes = _Axes(graph, tensors, layouts, [name for name in inputs if name not in constant])

    order: list[tuple[str, str]] = [(name, "Input") for name in inputs]
    edges: list[tuple[str, str]] = []
    live = set(inputs)
    for node in graph.node:
        sources = [name for name in read_by(node) if name in live]
        for output in filter(None, node.output):
            order.append((output, node.op_type))
            if sources and node.op_type not in {"Shape", "Size"}:
                live.add(output)
                edges += [(source, output) for source in dict.fromkeys(sources)]
    bodies = dict(_body_tensors(graph))

    order += [(name, "Initializer") for name in weights] + [(name, "Body") for name in bodies]
    taps = []
    for depth, (name, op) in enumerate(order):
        shape, dtype = (None, "") if op == "Initializer" else (tensors.shapes.get(name), tensors.dtypes.get(name, ""))
        layout = layouts.get(name, "") or ("NC" if shape is not None and len(shape) == 2 else "")
        axis, no_batch = axes.batch(name, op, shape, layouts.get(name, ""))
        reason = bodies.get(name) or _why_untappable(name, op, tensors, live) or no_batch
        if op == "Input" and dtype in CAST_TO_FLOAT:
            reason = _cannot_hold(dtype)
        if layout == "NC" and axis:
            layout = ""
        inner = None
        if shape is not None:
            inner = tuple(
                size if isinstance(size, int) else None for number, size in enumerate(shape) if number != axis
            )
        taps.append(Tap(name, op, inner, dtype, layout, depth, reason, axis))
    return Graph(tuple(taps), tuple(edges), tuple(value.name for value in graph.output))


_SMALL = 4096
"""Bytes of a constant that may tell a shape."""


def inferred_graph(model: onnx.ModelProto) -> onnx.GraphProto:
    """Return a graph with the types and shapes that can be inferred, and without the values of large weights.

    Raises:
        InputError: ``PK-M02``, the graph contradicts itself.
    """
    import onnx

    bare = onnx.ModelProto(ir_version=model.ir_version)
    for name in ("opset_import", "functions"):
        getattr(bare, name).extend(getattr(model, name))
    for name in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(bare.graph, name).extend(getattr(model.graph, name))
    declared = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() <= _SMALL:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            # Copied once by protobuf and once by the inference, the weights would fill the memory three times.
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        return onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise InputError(Problem("PK-M02", f"the graph is damaged: {error}", field="model.path")) from error


def _why_untappable(name: str, op: str, tensors: _Tensors, live: set[str]) -> str:
    if op == "Initializer":
        return "an initializer: a weight, the same for every input"
    if name not in live:
        return "constant: it does not depend on the input's values"
    if name in tensors.reasons:
        return tensors.reasons[name]
    shape = tensors.shapes.get(name)
    return "a scalar: it has no batch axis" if shape is not None and not shape else ""


class _Axes:
    """Which axis of each tensor is the batch.

    Args:
        inputs: the names of the inputs that are fed a batch.
    """

    def __init__(
        self, graph: onnx.GraphProto, tensors: _Tensors, layouts: Mapping[str, str], inputs: Sequence[str]
    ) -> None:
        shaped = [(layouts.get(name, ""), shape) for name in inputs if (shape := tensors.shapes.get(name))]
        self.size = next((shape[_place_of_n(layout)] for layout, shape in shaped), None)
        """A number where the batch is fixed, else its symbol."""
        self._symbols = {size for _, shape in shaped for size in shape if isinstance(size, str)}
        self._recurrent: dict[str, int] = {}
        for node in graph.node:
            if node.op_type in {"LSTM", "GRU", "RNN"} and _attribute(node, "layout", 0) == 0:
                # By the standard: Y (time, directions, batch, hidden), last states (directions, batch, hidden).
                self._recurrent.update(zip(node.output, (2, 1, 1), strict=False))

    def batch(self, name: str, op: str, shape: _Shape | None, layout: str) -> tuple[int, str]:
        """Return the batch axis and why there is none; axis 0 where a trial has to tell.

        Args:
            name: of the tensor.
            op: what produces it.
            shape: its axes; None where nothing is known.
            layout: empty where it is not known.
        """
        axis = self._recurrent.get(name)
        if axis is None:
            axis = _place_of_n(layout)
            if not layout and shape and isinstance(self.size, str) and self.size in shape:
                axis = shape.index(self.size)
        if not shape or not isinstance(shape[axis], int) or shape[axis] == self.size:
            return axis, ""
        # A size that no input declares may be the batch. That of NonZero is a count.
        unknown = any(not isinstance(size, int) and size not in self._symbols for size in shape)
        if unknown and axis == 0 and op != "NonZero":
            return axis, ""
        which = "first axis" if axis == 0 else f"axis {axis}"
        return axis, f"no batch axis: its {which} is always {shape[axis]}"


def _place_of_n(layout: str) -> int:
    return max(layout.find("N"), 0)


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


def _type_of(value: onnx.ValueInfoProto) -> tuple[_Shape | None, str | None, str]:
    """Return shape, NumPy's dtype name, and why its values cannot be read."""
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
    if name not in CAST_TO_FLOAT and (dtype.kind not in "biuf" or dtype.isbuiltin != 1):
        return shape, name, _cannot_hold(name)
    return shape, name if name in CAST_TO_FLOAT else dtype.name, ""


def _cannot_hold(name: str) -> str:
    return f"{name} values, which NumPy cannot hold; tap the tensor after its cast or DequantizeLinear"


def _axis(axis: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """Return the size, else the symbol, else None; exporters write -1 for any size."""
    return axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else axis.dim_param or None


def _body_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        for body in subgraphs(node):
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
