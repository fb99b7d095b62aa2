"""Each step of a program as nodes of an ONNX graph; :func:`probekit.steps.run_program` is their meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit import steps
from probekit.backends.onnx_graph import CAST_TO_FLOAT
from probekit.backends.onnx_prune import subgraphs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import onnx

    from probekit.backends.onnx_means import ResidualSums
    from probekit.components import Array, Wanted
    from probekit.steps import Shape

_LARGE = 1 << 20
"""Bytes from which a constant is handed to the session as it is, rather than copied into the model."""


@dataclass(frozen=True)
class Guard:
    """A size that has to be what the trial run saw, or the features of two batches would not mean the same.

    Args:
        output: the graph's output that holds the sizes of an activation, batch axis first.
        sizes: those that are due, without the batch axis; None where any will do.
        mask: the mask that has to have the sizes of ``axes``, if any.
        axes: the masked axes.
    """

    output: str
    sizes: Shape
    mask: str | None = None
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where the features of one wanted come from.

    Args:
        output: the graph's output: the features, or the raw activation of a program that NumPy runs.
        grafted: whether it is the features.
        guards: what has to hold of the batch.
        doubts: outputs that are finite when the features are beyond doubt. The runtime's maximum loses NaN and the
            infinities; where a sum says that there are any, NumPy takes the maximum.
    """

    output: str
    grafted: bool
    guards: tuple[Guard, ...] = ()
    doubts: tuple[str, ...] = ()

    def outputs(self) -> list[str]:
        """Return the names of all outputs that it reads."""
        return [self.output, *self.doubts, *(guard.output for guard in self.guards)]


def numpy_holds(element_type: int) -> bool:
    """Return whether a session gives a tensor of this type of elements to NumPy; an unknown type counts as one."""
    import onnx

    return onnx.TensorProto.DataType.Name(element_type).lower() not in CAST_TO_FLOAT


class _CannotLowerError(Exception):
    """The model's operator set, or what is known of the tensor, does not allow a step."""


@dataclass
class _Value:
    """A tensor on its way through a program.

    Args:
        name: in the graph.
        shape: without the batch axis.
        guards: what has been asked of the batch so far.
        doubts: as in :class:`Source`.
        sized: the name of a vector that is known to have the size that is due.
    """

    name: str
    shape: Shape
    guards: list[Guard] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    sized: str = ""

    @property
    def rank(self) -> int:
        return len(self.shape) + 1


class Lowering:
    """Nodes to add to a model. Equal nodes are made once, so that equal work of several programs is done once.

    Args:
        model: to be changed in place by :meth:`finish`.
        dtypes: type of the elements of each tensor.
        residual_sums: of the model, whose means may be taken before the sum; None reads every tensor itself.
    """

    def __init__(
        self, model: onnx.ModelProto, dtypes: Mapping[str, int], residual_sums: ResidualSums | None = None
    ) -> None:
        self.model = model
        self.dtypes = dtypes
        self.residual_sums = residual_sums
        self.opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
        self.prefix = _free_prefix(model)
        self.masks: dict[str, str] = {}
        self.large: dict[str, Array] = {}
        self.tap = ""
        # By tensor: the number of the last node of the model that it needs.
        self._place = {name: number for number, node in enumerate(model.graph.node) for name in node.output}
        self._made: dict[tuple[Any, ...], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def lower(self, wanted: Wanted) -> Source:
        """Add the nodes of a program; where that cannot be, of the raw activation."""
        tap = self.tap = wanted.tap.name
        before = [dict(self.masks), dict(self.large), dict(self._made), list(self._nodes), list(self._weights)]
        try:
            if wanted.tap.shape is None:
                raise _CannotLowerError("unknown shape")
            value = _Value(self.float32(tap), wanted.tap.shape)
            for step in wanted.program:
                lower = _LOWERINGS.get(type(step))
                if lower is None:
                    raise _CannotLowerError(type(step).__name__)
                shape = step.shape(value.shape)
                value.name = lower(self, step, value)
                value.shape = shape
        except _CannotLowerError:
            self.masks, self.large, self._made, self._nodes, self._weights = before  # type: ignore[assignment] # each as it was taken
            return Source(self.raw(tap), grafted=False)
        return Source(value.name, True, tuple(value.guards), tuple(value.doubts))

    def raw(self, name: str) -> str:
        """Return a tensor as NumPy can read it."""
        self.tap = name
        return name if numpy_holds(self.dtypes.get(name, 0)) else self.float32(name)

    def float32(self, name: str) -> str:
        """Return a tensor as float32."""
        import onnx

        if self.dtypes.get(name) == onnx.TensorProto.FLOAT:
            return name
        return self.node("Cast", [name], since=6, to=onnx.TensorProto.FLOAT)

    def finish(self) -> None:
        """Put the nodes, their constants and the masks into the model."""
        import onnx

        graph = self.model.graph
        graph.initializer.extend(self._weights)
        kind = onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=onnx.TensorProto.BOOL))
        graph.input.extend(onnx.ValueInfoProto(name=name, type=kind) for name in self.masks.values())
        # The runtime starts from the last node that nothing reads, with all that it needs, then takes the one before.
        # So the first tap comes last: each tensor is reduced as soon as it is there and need not be kept for the end.
        # What masks alone need comes before all that reads it.
        shared = [node for node in self._nodes if self._place[node.output[0]] < 0]
        others = [node for node in self._nodes if self._place[node.output[0]] >= 0]
        graph.node.extend([*shared, *sorted(others, key=lambda node: -self._place[node.output[0]])])

    def node(self, op: str, inputs: Sequence[str], *, since: int = 1, **attributes: Any) -> str:
        """Add a node and return its output; ``since`` is the operator set that has it in this form."""
        import onnx

        if self.opset < max(since, 1):
            raise _CannotLowerError(f"{op} of opset {since}")
        key = (op, tuple(inputs), repr(sorted(attributes.items())))
        if key not in self._made:
            output = f"{self.prefix}{self.tap}:{op}_{len(self._made)}"
            node = onnx.helper.make_node(op, inputs, [output], name=output, **attributes)
            place = max((self._place.get(name, -1) for name in inputs), default=-1)
            self._place[output] = place
            self._nodes.append(node)
            self._made[key] = output
        return self._made[key]

    def constant(self, array: Array) -> str:
        """Add an initializer and return its name."""
        import onnx

        array = np.ascontiguousarray(array) if array.ndim else array
        if array.nbytes >= _LARGE:
            for name, other in self.large.items():
                if other is array or (other.dtype == array.dtype and np.array_equal(other, array)):
                    return name
            name = f"{self.prefix}:constant_{len(self._made)}_{len(self.large)}"
            dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            place = onnx.StringStringEntryProto(key="location", value=name)
            outside = onnx.TensorProto.EXTERNAL
            self._weights.append(
                onnx.TensorProto(
                    name=name, data_type=dtype, dims=array.shape, data_location=outside, external_data=[place]
                )
            )
            self.large[name] = array
            return name
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            self._made[key] = f"{self.prefix}:constant_{len(self._made)}"
            self._weights.append(onnx.numpy_helper.from_array(array, self._made[key]))
        return self._made[key]

    def integers(self, *values: int) -> str:
        """Add a vector of int64."""
        return self.constant(np.array(values, np.int64))

    def reduce(self, op: str, name: str, axes: tuple[int, ...], *, keep: bool = False) -> str:
        """Reduce axes; newer operator sets take them as an input."""
        if not axes:
            raise _CannotLowerError("no axes")
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.node(op, [name, self.integers(*axes)], keepdims=int(keep))
        return self.node(op, [name], axes=list(axes), keepdims=int(keep))

    def mask(self, name: str, value: _Value, axes: tuple[int, ...]) -> str:
        """Return a mask, shape (batch, sizes of ``axes``), as an input of the graph, which the sizes have to fit."""
        self.masks.setdefault(name, f"{self.prefix}:mask_{name}")
        self.guard(value, (None,) * len(value.shape), name, axes)
        return self.masks[name]

    def spread(self, mask: str, axes: tuple[int, ...], rank: int) -> str:
        """Return a mask that broadcasts against an activation, as :func:`probekit.steps.spread_mask`."""
        missing = [axis for axis in range(1, rank) if axis not in axes]
        if not missing:
            return mask
        if self.opset >= 13:
            return self.node("Unsqueeze", [mask, self.integers(*missing)])
        return self.node("Unsqueeze", [mask], axes=missing)

    def guard(self, value: _Value, sizes: Shape, mask: str | None = None, axes: tuple[int, ...] = ()) -> None:
        """Ask for sizes when the model runs."""
        guard = Guard(self.node("Shape", [value.name]), sizes, mask, axes)
        if guard not in value.guards:
            value.guards.append(guard)


def _free_prefix(model: onnx.ModelProto) -> str:
    def names(graph: onnx.GraphProto) -> Iterator[str]:
        yield from (value.name for value in graph.input)
        yield from (tensor.name for tensor in graph.initializer)
        for node in graph.node:
            yield from (node.name, *node.output)
            for body in subgraphs(node):
                yield from names(body)

    taken = list(names(model.graph))
    prefix = "probekit/"
    while any(name.startswith(prefix) for name in taken):
        prefix = f"_{prefix}"
    return prefix


# --- one function for each step --------------------------------------------------------------------------------------


def _batch_first(to: Lowering, step: steps.BatchFirst, value: _Value) -> str:
    order = [step.axis, *(axis for axis in range(value.rank) if axis != step.axis)]
    return to.node("Transpose", [value.name], perm=order) if step.axis else value.name


def _is_image(axes: tuple[int, ...], value: _Value) -> bool:
    """Return whether all axes behind the channels go: the runtime then need not leave its own layout of images."""
    return value.rank in (3, 4, 5) and axes == tuple(range(2, value.rank))


def _mean(to: Lowering, step: steps.Mean, value: _Value) -> str:
    if step.mask is not None:
        return _masked_mean(to, step.mask, step.axes, value, value.name, keep=False)
    if _is_image(step.axes, value):
        before = to.residual_sums.mean(value.name, to.node) if to.residual_sums is not None else None
        return to.node("Flatten", [before or to.node("GlobalAveragePool", [value.name])], axis=1)
    return to.reduce("ReduceMean", value.name, step.axes)


def _masked_mean(to: Lowering, mask: str, axes: tuple[int, ...], value: _Value, name: str, *, keep: bool) -> str:
    """Return the mean of ``name``, which has the axes of ``value``."""
    kept = to.spread(to.mask(mask, value, axes), axes, value.rank)
    zero = to.constant(np.array(0, np.float32))
    total = to.reduce("ReduceSum", to.node("Where", [kept, name, zero], since=9), axes, keep=keep)
    count = to.reduce("ReduceSum", to.node("Cast", [kept], since=6, to=1), axes, keep=keep)
    return to.node("Div", [total, count], since=7)


def _max(to: Lowering, step: steps.Max, value: _Value) -> str:
    if step.mask is not None:
        kept = to.spread(to.mask(step.mask, value, step.axes), step.axes, value.rank)
        zero, lowest = (to.constant(np.array(fill, np.float32)) for fill in (0, -np.inf))
        value.doubts.append(to.reduce("ReduceSum", to.node("Where", [kept, value.name, zero], since=9), step.axes))
        return to.reduce("ReduceMax", to.node("Where", [kept, value.name, lowest], since=9), step.axes)
    value.doubts.append(_mean(to, steps.Mean(step.axes), value))
    if _is_image(step.axes, value):
        return to.node("Flatten", [to.node("GlobalMaxPool", [value.name])], axis=1)
    return to.reduce("ReduceMax", value.name, step.axes)


def _std(to: Lowering, step: steps.Std, value: _Value) -> str:
    def mean(name: str, *, keep: bool) -> str:
        if step.mask is not None:
            return _masked_mean(to, step.mask, step.axes, value, name, keep=keep)
        return to.reduce("ReduceMean", name, step.axes, keep=keep)

    around = to.node("Sub", [value.name, mean(value.name, keep=True)], since=7)
    return to.node("Sqrt", [mean(to.node("Mul", [around, around], since=7), keep=False)])


def _select(to: Lowering, step: steps.Select, value: _Value) -> str:
    position = to.constant(np.array(step.position, np.int64))
    return to.node("Gather", [value.name, position], since=11 if step.position < 0 else 1, axis=step.axis)


def _last(to: Lowering, step: steps.Last, value: _Value) -> str:
    mask = to.mask(step.mask, value, (step.axis,))
    # With nothing kept all are equal, and the last index of the largest is the last of all.
    last = to.node(
        "ArgMax", [to.node("Cast", [mask], since=6, to=1)], since=12, axis=1, keepdims=1, select_last_index=1
    )
    order = [0, step.axis, *(axis for axis in range(1, value.rank) if axis != step.axis)]
    front = value.name if step.axis == 1 else to.node("Transpose", [value.name], perm=order)
    return to.node("GatherND", [front, last], since=12, batch_dims=1)


def _slice(to: Lowering, step: steps.Slice, value: _Value) -> str:
    bounds = [to.integers(number) for number in (step.start, step.stop, step.axis)]
    return to.node("Slice", [value.name, *bounds], since=10)


def _positions(to: Lowering, step: steps.Positions, value: _Value) -> str:
    mask = None if step.mask is None else to.mask(step.mask, value, step.axes)
    others = [axis for axis in range(1, value.rank) if axis not in step.axes]
    sizes = [value.shape[axis - 1] for axis in others]
    to.guard(value, tuple(None if axis in step.axes else value.shape[axis - 1] for axis in range(1, value.rank)))
    order = [0, *step.axes, *others]
    front = value.name if order == sorted(order) else to.node("Transpose", [value.name], perm=order)
    rows = to.node("Flatten", [front], axis=len(step.axes) + 1)
    if len(sizes) != 1:
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            raise _CannotLowerError("a row of unknown size")
        rows = to.node("Reshape", [rows, to.integers(0 if known else -1, *known)], since=5)
    if mask is None:
        return rows
    return to.node("Compress", [rows, to.node("Reshape", [mask, to.integers(-1)], since=5)], since=9, axis=0)


def _flatten(to: Lowering, step: steps.Flatten, value: _Value) -> str:  # noqa: ARG001 - one signature for all
    if value.rank == 2:
        return value.name
    to.guard(value, value.shape)
    value.sized = to.node("Flatten", [value.name], axis=1)
    return value.sized


def _take(to: Lowering, step: steps.Take, value: _Value) -> str:
    if value.name != value.sized:
        to.guard(value, value.shape)
    return to.node("Gather", [value.name, to.constant(step.indices.astype(np.int64, copy=False))], axis=1)


def _matmul(to: Lowering, step: steps.MatMul, value: _Value) -> str:
    return to.node("MatMul", [value.name, to.constant(step.matrix)])


_LOWERINGS: dict[type, Callable[[Lowering, Any, _Value], str]] = {
    steps.BatchFirst: _batch_first,
    steps.Flatten: _flatten,
    steps.Last: _last,
    steps.MatMul: _matmul,
    steps.Max: _max,
    steps.Mean: _mean,
    steps.Positions: _positions,
    steps.Select: _select,
    steps.Slice: _slice,
    steps.Std: _std,
    steps.Take: _take,
}
