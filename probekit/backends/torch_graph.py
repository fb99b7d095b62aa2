"""The graph of an eager model: one run tells the modules' tensors, what feeds what, and the axis layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from probekit.backends.layouts import BY_RANK, permuted
from probekit.backends.torch_model import call, forward_inputs
from probekit.backends.torch_taps import OUTPUT, watch
from probekit.components import LAYOUTS, Graph, Tap

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        if any(word in name for word in _CHANNELS_FIRST) and first.ndim in BY_RANK:
            self._layouts.setdefault(id(first), BY_RANK[first.ndim])
            layout = BY_RANK.get(out.ndim, "")
        elif name in {"permute", "transpose"} and known:
            layout = permuted(known, _permutation(name, args, first.ndim))
        elif name == "native_layer_norm" and first.ndim == 3 and len(args[1]) == 1:
            layout = known or "NTC"
        elif name == "embedding" and out.ndim == 3:
            layout = "NTC"
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


def record_graph(module: nn.Module, example: Feed) -> Graph:
    """Run a small batch once and return every tensor that a module takes or gives.

    Args:
        module: in eval mode.
        example: two examples or more, so that the batch axis can be told from an axis of one.
    """
    batch = next((len(array) for array in example.values() if array.ndim), 0)
    inputs = set(forward_inputs(module))
    tracer = _Tracer()
    order: list[tuple[str, str, torch.Tensor, str]] = []
    called: set[nn.Module] = set()

    def seen(owner: nn.Module, name: str, tensor: torch.Tensor) -> None:
        if owner is not module and ":in" not in name:
            called.add(owner)
        tracer.tap(name, tensor)
        is_input = owner is module and name.split("[", 1)[0] in inputs | set(example)
        # The shape is noted here: an in-place operation may change it later.
        order.append((name, "Input" if is_input else type(owner).__name__, tensor, _rnn_layout(owner, tensor)))

    names = [name for name, _ in module.named_modules() if name]
    with watch(module, names, seen), torch.no_grad(), tracer:
        call(module, example)

    taps: dict[str, Tap] = {}
    for name, op, tensor, told in order:
        layout = told or tracer.layout(tensor) or ("NC" if tensor.ndim == 2 else "")
        dtype = str(tensor.dtype).removeprefix("torch.")
        shape = tuple(tensor.shape[1:]) if tensor.ndim else ()
        known = layout if layout in LAYOUTS else ""
        taps.setdefault(name, Tap(name, op, shape, dtype, known, len(taps), _why_untappable(tensor, known, batch)))
    for name, submodule in module.named_modules():
        if name and submodule not in called and name not in taps:
            reason = "its forward is never called for this input"
            taps[name] = Tap(name, type(submodule).__name__, None, "", "", len(taps), reason)
    links = dict.fromkeys((a, b) for a, b in tracer.links if a in taps and b in taps)
    outputs = tuple(
        name for name in taps if name.split("[", 1)[0] == OUTPUT and OUTPUT not in dict(module.named_modules())
    )
    return Graph(tuple(taps.values()), tuple(links), outputs)


def _rnn_layout(owner: nn.Module, tensor: torch.Tensor) -> str:
    if isinstance(owner, nn.RNNBase) and tensor.ndim == 3:
        return "NTC" if owner.batch_first else "TNC"
    return ""


def _why_untappable(tensor: torch.Tensor, layout: str, batch: int) -> str:
    if tensor.dtype.is_complex or tensor.is_quantized:
        return f"{str(tensor.dtype).removeprefix('torch.')} values; tap the tensor after its conversion to real numbers"
    if not tensor.ndim:
        return "a scalar: it has no batch axis"
    if layout == "TNC":
        return "its first axis is time, not the batch; use batch_first, or tap what follows"
    if tensor.shape[0] != batch:
        return f"no batch axis: its first axis is {tensor.shape[0]} for a batch of {batch}"
    return ""
