"""The graph of an eager model: one run tells the modules' tensors, what feeds what, and the axis layouts."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from probekit.backends.layouts import BY_RANK, permuted
from probekit.backends.torch_model import forward_inputs
from probekit.backends.torch_run import CPU, Place, call
from probekit.backends.torch_taps import input_tap, output_tap, watch
from probekit.components import LAYOUTS, Graph, Tap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from probekit.components import Feed

_CHANNELS_FIRST = (
    "convolution", "max_pool", "avg_pool", "batch_norm", "native_group_norm", "upsample", "instance_norm", "mkldnn",
)  # fmt: skip


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every tensor through every operator: the taps it comes from, and its axes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Tensors are kept alive so that their ids stay theirs.
        self._alive: dict[int, torch.Tensor] = {}
        self._origins: dict[int, frozenset[str]] = {}
        self._layouts: dict[int, str] = {}
        self.links: list[tuple[str, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and note what its results come from."""
        out = func(*args, **(kwargs or {}))
        inputs = [*_flat(args), *_flat((kwargs or {}).values())]
        outputs = list(_flat([out]))
        origins = frozenset().union(*(self._origins.get(id(tensor), frozenset()) for tensor in inputs))
        for tensor in outputs:
            self._alive[id(tensor)] = tensor
            self._origins[id(tensor)] = origins or self._origins.get(id(tensor), frozenset())
        if inputs and outputs:
            self._follow_axes(func, args, inputs, outputs[0])
        return out

    def _follow_axes(self, func: Any, args: tuple[Any, ...], inputs: list[torch.Tensor], out: torch.Tensor) -> None:
        name = func.overloadpacket.__name__
        first = inputs[0]
        known = self._layouts.get(id(first), "")
        layout = ""
        # oneDNN's recurrent layer is no convolution.
        if any(word in name for word in _CHANNELS_FIRST) and "rnn" not in name and first.ndim in BY_RANK:
            self._layouts.setdefault(id(first), BY_RANK[first.ndim])
            layout = BY_RANK.get(out.ndim, "")
        elif name in {"permute", "transpose"} and known:
            layout = permuted(known, _permutation(name, args, first.ndim))
        elif name == "native_layer_norm" and first.ndim == 3 and len(args[1]) == 1:
            layout = known or "NTC"
        elif name == "embedding" and out.ndim == 3:
            layout = "NTC"
        elif name in {"mean", "sum", "amax"} and out.ndim == first.ndim:
            layout = known
        elif name == "cat" or torch.Tag.pointwise in func.tags or name in {"native_dropout", "clone", "_to_copy"}:
            same = [tensor for tensor in inputs if tensor.ndim == out.ndim and id(tensor) in self._layouts]
            layout = self._layouts[id(same[0])] if same else ""
        if layout:
            self._layouts[id(out)] = layout

    def tap(self, name: str, tensor: torch.Tensor) -> None:
        """Note that a tap sees this tensor: it comes from the tensor's earlier taps, and later tensors from it."""
        self._alive[id(tensor)] = tensor
        self.links += [
            (origin, name) for origin in sorted(self._origins.get(id(tensor), frozenset())) if origin != name
        ]
        self._origins[id(tensor)] = frozenset({name})

    def know(self, tensor: torch.Tensor, layout: str) -> None:
        """Note the axes of a tensor that its module's definition tells."""
        self._layouts[id(tensor)] = layout

    def layout(self, tensor: torch.Tensor) -> str:
        """Return the axes of a tensor, empty where they are not certain."""
        return self._layouts.get(id(tensor), "")


def _flat(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _flat(value)


def _permutation(name: str, args: tuple[Any, ...], rank: int) -> tuple[int, ...]:
    if name == "permute":
        return tuple(axis % rank for axis in args[1])
    axes = list(range(rank))
    first, second = args[1] % rank, args[2] % rank
    axes[first], axes[second] = axes[second], axes[first]
    return tuple(axes)


def record_graph(module: nn.Module, example: Feed, constant: Collection[str] = (), place: Place = CPU) -> Graph:
    """Run a small batch once and return every tensor that a module takes or gives.

    Args:
        module: in eval mode, at ``place``.
        example: two examples or more, so that the batch axis can be told from an axis of one; best a number that no
            other axis has. Of several axes of that size the layout's N is taken, else the first.
        constant: inputs that are fed the same values for every batch, which need no batch axis.
        place: where the module runs.
    """
    batch = next((len(array) for name, array in example.items() if array.ndim and name not in constant), 0)
    submodules = {name: owner for name, owner in module.named_modules() if name}
    inputs = {input_tap(name, submodules) for name in {*forward_inputs(module), *example}}
    tracer = _Tracer()
    taps: dict[str, Tap] = {}
    tensors: dict[str, torch.Tensor] = {}
    called: set[nn.Module] = set()

    shapes: dict[str, tuple[int, ...]] = {}

    def seen(owner: nn.Module, name: str, tensor: torch.Tensor) -> None:
        tracer.tap(name, tensor)
        if name not in taps:
            is_input = owner is module and any(name == one or name.startswith(f"{one}[") for one in inputs)
            # The shape is noted here: an in-place operation may change it later.
            shapes[name], dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
            if by_definition := _rnn_layout(owner, name, tensor):
                tracer.know(tensor, by_definition)
            taps[name] = Tap(
                name, "Input" if is_input else _op(owner), None, dtype, "", len(taps), _why_untappable(tensor)
            )
            tensors[name] = tensor

    handles = [owner.register_forward_pre_hook(lambda owner, _: called.add(owner)) for owner in submodules.values()]
    try:
        with watch(module, list(submodules), seen), torch.no_grad(), tracer:
            call(module, example, place)
    finally:
        for handle in handles:
            handle.remove()

    taps = {name: _with_axes(tap, shapes[name], tracer.layout(tensors[name]), batch) for name, tap in taps.items()}
    for name, owner in submodules.items():
        if name not in taps and not any(other.startswith((f"{name}[", f"{name}#")) for other in taps):
            reason = "it gives no tensor" if owner in called else "its forward is never called for this input"
            taps[name] = Tap(name, _op(owner), None, "", "", len(taps), reason)
    links = dict.fromkeys((a, b) for a, b in tracer.links if a in taps and b in taps)
    whole = output_tap(submodules)
    outputs = tuple(name for name in taps if name == whole or name.startswith(f"{whole}["))
    return Graph(tuple(taps.values()), tuple(links), outputs)


def _op(owner: nn.Module) -> str:
    """Return the class of a module; an exported program knows that of the module it was exported from."""
    exported = getattr(owner, "type_name", None)
    return str(exported()).rpartition(".")[2] if callable(exported) else type(owner).__name__


def _with_axes(tap: Tap, shape: tuple[int, ...], known: str, batch: int) -> Tap:
    """Add the batch axis, the shape without it, and the layout."""
    layout = known if len(known) == len(shape) else ""
    # Where the layout is known, another axis of the batch's size is chance.
    places = [layout.index("N")] if "N" in layout else range(len(shape))
    axis = next((axis for axis in places if shape[axis] == batch), None)
    if axis is None:
        reason = (
            f"no batch axis: its shape is {shape} for a batch of {batch}" if shape else "a scalar: it has no batch axis"
        )
        return replace(
            tap, shape=shape[1:], layout=layout if layout in LAYOUTS else "", untappable=tap.untappable or reason
        )
    if not layout and len(shape) == 2 and axis == 0:
        layout = "NC"
    without = shape[:axis] + shape[axis + 1 :]
    return replace(tap, shape=without, layout=layout if layout in LAYOUTS else "", batch_axis=axis)


def _rnn_layout(owner: nn.Module, name: str, tensor: torch.Tensor) -> str:
    """Return the axes of a recurrent layer's sequences and of its states, (layers, batch, size) whatever the first."""
    if not isinstance(owner, nn.RNNBase) or tensor.ndim != 3:
        return ""
    if re.search(r"(:in|:in\[0\]|:in\[input\]|^[^\[:]*\[0\]|^input)$", name):
        return "NTC" if owner.batch_first else "TNC"
    return "LNC" if re.search(r"(:in\[1\]|:in\[hx\]|^[^\[:]*\[1\]|^hx)(\[[01]\])?$", name) else ""


def _why_untappable(tensor: torch.Tensor) -> str:
    if tensor.dtype.is_complex or tensor.is_quantized:
        return f"{str(tensor.dtype).removeprefix('torch.')} values; tap the tensor after its conversion to real numbers"
    if tensor.layout != torch.strided:
        return "a sparse tensor; tap it after its conversion to a dense one"
    return ""
