"""Names of the tensors that modules take and give, and the hooks that read them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from probekit.backends.torch_model import call, forward_inputs
from probekit.errors import InputError, Problem, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from probekit.components import Array, Feed, TapFunction

OUTPUT = "output"
"""The tap of what the whole model gives."""


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
    calls: Counter[str] = Counter()
    submodules = dict(module.named_modules())
    roots = forward_inputs(module)

    def base(name: str, *, count: bool) -> str:
        number = calls[name] if count else calls[name] - 1
        if count:
            calls[name] += 1
        return f"{name}#{number}" if number else name

    def before(name: str) -> Callable[..., None]:
        def hook(owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not name:
                calls.clear()
                given = [*zip(roots, args, strict=False), *kwargs.items()]
                for key, value in given:
                    for tap, tensor in tensors_in(value, key):
                        seen(owner, tap, tensor)
                return
            whole = args[0] if len(args) == 1 and not kwargs else args
            for tap, tensor in [*tensors_in(whole, f"{base(name, count=True)}:in")]:
                seen(owner, tap, tensor)
            for key, value in kwargs.items():
                for tap, tensor in tensors_in(value, f"{base(name, count=False)}:in[{key}]"):
                    seen(owner, tap, tensor)

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG001
            for tap, tensor in tensors_in(output, base(name, count=False) if name else OUTPUT):
                seen(owner, tap, tensor)

        return hook

    handles = []
    try:
        for name in dict.fromkeys(["", *names]):
            owner = submodules[name]
            handles.append(owner.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(owner.register_forward_hook(after(name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def module_of(tap: str, modules: Mapping[str, nn.Module]) -> str:
    """Return the name of the submodule that a tap belongs to, empty for the root."""
    stem = tap.split("#")[0].split(":in")[0].split("[")[0]
    return stem if stem in modules else ""


@contextmanager
def tapped(module: nn.Module, taps: Sequence[str]) -> Iterator[TapFunction]:
    """Give a function from the model's inputs to copies of the taps' activations.

    Raises:
        InputError: the returned function raises ``PK-M26`` when a tap is not reached.
    """
    modules = dict(module.named_modules())
    wanted = set(taps)
    found: dict[str, Array] = {}

    def keep(_: nn.Module, name: str, tensor: torch.Tensor) -> None:
        if name in wanted:
            found[name] = to_numpy(tensor)

    def run(feed: Feed) -> dict[str, Array]:
        found.clear()
        call(module, feed)
        absent = [name for name in taps if name not in found]
        if absent:
            what = f"the model did not reach {listed(absent)} for this input"
            raise InputError(Problem("PK-M26", what, "tap what every input reaches", "taps"))
        return {name: found[name] for name in taps}

    with watch(module, [name for tap in taps if (name := module_of(tap, modules))], keep):
        yield run


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return a copy in NumPy; bfloat16, which NumPy lacks, as float32."""
    plain = tensor.detach()
    if plain.dtype == torch.bfloat16:
        plain = plain.float()
    return plain.cpu().numpy().copy()
