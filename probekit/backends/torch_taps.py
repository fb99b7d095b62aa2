"""Names of the tensors that modules take and give, and the hooks that read them."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from probekit.backends.torch_model import forward_inputs
from probekit.backends.torch_programs import to_numpy
from probekit.backends.torch_run import CPU, Place, call
from probekit.errors import InputError, Problem, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence

    from probekit.components import Array, Feed, TapFunction

OUTPUT = "output"
"""The tap of what the whole model gives; ``:out`` where a submodule has that name."""


def input_tap(name: str, modules: Container[str]) -> str:
    """Return the tap of one of the root's inputs: its own name, ``:in[name]`` where a submodule has that name."""
    return f":in[{name}]" if name in modules else name


def output_tap(modules: Container[str]) -> str:
    """Return the tap of what the root gives."""
    return ":out" if OUTPUT in modules else OUTPUT


def tensors_in(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Give every tensor inside tuples, lists, dicts and dataclasses, named by index and key.

    >>> [name for name, _ in tensors_in((torch.ones(1), {"a": torch.ones(1)}), "lstm")]
    ['lstm[0]', 'lstm[1][a]']
    """
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors_in(inner, f"{name}[{key}]")
    elif isinstance(value, tuple | list):
        for index, inner in enumerate(value):
            yield from tensors_in(inner, f"{name}[{index}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name), f"{name}[{field.name}]")


class _Watcher:
    """Names what modules take and give, call by call.

    Args:
        module: the root.
        seen: told of each tensor.
    """

    def __init__(self, module: nn.Module, seen: Callable[[nn.Module, str, torch.Tensor], None]) -> None:
        self._inputs, self._seen = forward_inputs(module), seen
        self._modules = dict(module.named_modules())
        self._calls: Counter[str] = Counter()

    def before(self, name: str) -> Callable[..., None]:
        """Return the hook that runs before a module's forward; the root's has no name."""

        def root(owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._calls.clear()
            for key, value in [*zip(self._inputs, args, strict=False), *kwargs.items()]:
                self._tell(owner, value, input_tap(key, self._modules))

        def inner(owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._calls[name] += 1
            taken = f"{self._call(name)}:in"
            self._tell(owner, args[0] if len(args) == 1 and not kwargs else args, taken)
            self._tell(owner, kwargs, taken)

        return inner if name else root

    def after(self, name: str) -> Callable[..., None]:
        """Return the hook that runs after a module's forward."""

        def hook(owner: nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any) -> None:
            self._tell(owner, output, self._call(name) if name else output_tap(self._modules))

        return hook

    def _call(self, name: str) -> str:
        earlier = self._calls[name] - 1
        return f"{name}#{earlier}" if earlier else name

    def _tell(self, owner: nn.Module, value: Any, name: str) -> None:
        for tap, tensor in tensors_in(value, name):
            self._seen(owner, tap, tensor)


@contextmanager
def watch(
    module: nn.Module, names: Sequence[str], seen: Callable[[nn.Module, str, torch.Tensor], None]
) -> Iterator[None]:
    """Call ``seen(module, tap name, tensor)`` for all that the named modules take (``:in``) and give, call by call.

    The hooks are removed at the end, after errors too. Each forward pass of the root counts calls anew.

    Args:
        module: the root, which is watched too: its inputs by the names of ``forward``, what it gives as ``output``.
        names: of the submodules to watch.
        seen: must copy a tensor that it keeps: a later in-place operation may change it.
    """
    watcher = _Watcher(module, seen)
    submodules = dict(module.named_modules())
    handles = []
    try:
        for name in dict.fromkeys(["", *names]):
            owner = submodules[name]
            handles.append(owner.register_forward_pre_hook(watcher.before(name), with_kwargs=True))
            handles.append(owner.register_forward_hook(watcher.after(name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def module_of(tap: str, modules: Mapping[str, nn.Module]) -> str:
    """Return the name of the submodule that a tap belongs to, empty for the root."""
    stem = re.split(r"#|:in|\[", tap, maxsplit=1)[0]
    return stem if stem in modules else ""


@contextmanager
def tapped(module: nn.Module, taps: Sequence[str], place: Place = CPU) -> Iterator[TapFunction]:
    """Give a function from the model's inputs to copies of the taps' activations, their batch axis where it is.

    Raises:
        InputError: the returned function raises ``PK-M26`` when a tap is not reached.
    """
    modules = dict(module.named_modules())
    wanted = set(taps)
    found: dict[str, Array] = {}
    told: set[str] = set()

    def keep(_: nn.Module, name: str, tensor: torch.Tensor) -> None:
        told.add(name)
        # The first of two tensors of one name: the graph lists that one.
        if name in wanted and name not in found:
            found[name] = to_numpy(tensor)

    def run(feed: Feed) -> dict[str, Array]:
        found.clear()
        call(module, feed, place)
        absent = [name for name in taps if name not in found]
        if absent:
            raise not_reached(absent, modules, told)
        return {name: found[name] for name in taps}

    with watch(module, [name for tap in taps if (name := module_of(tap, modules))], keep):
        yield run


def not_reached(taps: Sequence[str], modules: Collection[str] = (), told: Collection[str] = ()) -> InputError:
    """Return the error of taps that a pass did not come by, ``PK-M26``.

    Args:
        taps: their names.
        modules: that there are; another name than theirs is answered with the nearest.
        told: names of taps that the pass came by.
    """
    what = f"the model did not reach {listed(taps)} for this input"
    hints = [nearest(tap, {*modules, *told}) for tap in taps if tap not in modules]
    close = [hint for hint in hints if hint.startswith("did you mean")]
    return InputError(Problem("PK-M26", what, close[0] if close else "tap what every input reaches", "taps"))
