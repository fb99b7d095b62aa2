"""Calling what makes a PyTorch module: factories of libraries, of modules and of files, with random weights too."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from probekit.errors import InputError, MachineError, Problem, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def build(factory: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """Call a factory with the random state of ``seed``; the state of the process is left alone.

    Raises:
        InputError: ``PK-M51`` there is no such factory, or it fails, or gives no module.
        MachineError: ``PK-E01`` its library is not installed.
    """
    source, _, name = factory.rpartition(":")
    if source == "torchvision":
        make = _torchvision(name)
    elif source == "timm":
        make = _timm(name)
    else:
        make = _function(source, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = make(**arguments)
        except Exception as error:
            what = f"the factory {name!r} raised {type(error).__name__}: {error}"
            raise InputError(Problem("PK-M51", what, field="model.factory")) from error
    if not isinstance(module, nn.Module):
        what = f"the factory {name!r} gave {type(module).__name__!r}, not a torch.nn.Module"
        raise InputError(Problem("PK-M51", what, field="model.factory"))
    return module


def build_random(factory: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """Return a factory's module with random weights: those that the factory draws under ``seed``.

    A factory may load weights of its own. So tensors that vary and are the same under another seed count as not drawn:
    their modules are reset by ``reset_parameters``, in the order of ``named_modules``, under ``seed`` once more.

    Raises:
        InputError: as :func:`build`; ``PK-M58``, the factory does not draw a parameter that takes a gradient, and its
            module has no ``reset_parameters``.
    """
    module, other = build(factory, arguments, seed), build(factory, arguments, seed ^ 1)
    tensors, others = (dict([*one.named_parameters(), *one.named_buffers()]) for one in (module, other))
    fixed = {name for name, tensor in tensors.items() if _is_fixed(tensor, others.get(name))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, owner in module.named_modules():
            own = {*owner._parameters, *owner._buffers}
            own = {f"{name}.{key}" if name else key for key in own} & fixed
            # nn.MultiheadAttention has only the second.
            reset = getattr(owner, "reset_parameters", None) or getattr(owner, "_reset_parameters", None)
            if own and callable(reset):
                reset()
                fixed -= own
    learned = sorted(name for name in fixed if tensors[name].requires_grad)
    if learned:
        what = f"no seed changes these parameters of the factory's module, and nothing resets them: {listed(learned)}"
        hint = "draw them in the factory, give their module a reset_parameters(), or leave random_weights out"
        raise InputError(Problem("PK-M58", what, hint, "model.factory"))
    return module


def _is_fixed(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Return whether a tensor is the same in two modules and is no constant, such as zeros."""
    if other is None or tensor.is_meta or tensor.shape != other.shape or tensor.numel() < 2:
        return False
    return tensor.is_floating_point() and torch.equal(tensor, other) and bool((tensor != tensor.flatten()[0]).any())


def _torchvision(name: str) -> Callable[..., Any]:
    try:
        import torchvision
    except ImportError:
        hint = "type: pip install 'probekit-platform[vision]'"
        raise MachineError(Problem("PK-E01", "torchvision is not installed", hint, "model.factory")) from None
    known = torchvision.models.list_models()
    if name not in known:
        raise InputError(Problem("PK-M51", f"torchvision has no model {name!r}", nearest(name, known), "model.factory"))
    return lambda **arguments: torchvision.models.get_model(name, weights=None, **_no_download(name, arguments))


def _no_download(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Keep detection and segmentation models from fetching the weights of their backbone."""
    import torchvision

    parameters = inspect.signature(torchvision.models.get_model_builder(name)).parameters
    kept = {key: value for key, value in arguments.items() if not key.startswith(("weights", "pretrained"))}
    return ({"weights_backbone": None} if "weights_backbone" in parameters else {}) | kept


def _timm(name: str) -> Callable[..., Any]:
    try:
        import timm
    except ImportError:
        raise MachineError(
            Problem("PK-E01", "timm is not installed", "type: pip install timm", "model.factory")
        ) from None
    known = timm.list_models()
    if name not in known:
        raise InputError(Problem("PK-M51", f"timm has no model {name!r}", nearest(name, known), "model.factory"))
    return lambda **arguments: timm.create_model(name, **{**arguments, "pretrained": False})


def _function(source: str, name: str) -> Callable[..., Any]:
    try:
        module = _module_of_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except Exception as error:
        what = f"{source!r} cannot be imported: {type(error).__name__}: {error}"
        raise InputError(Problem("PK-M51", what, field="model.factory")) from error
    found = getattr(module, name, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(
            Problem("PK-M51", f"{source!r} has no function {name!r}", nearest(name, names), "model.factory")
        )
    made: Callable[..., Any] = found
    return made


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        names = [entry.name for entry in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise FileNotFoundError(f"no such file; {nearest(path.name, names, 'there')}")
    name = f"probekit_factory_{hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - a .py file has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def code_of(factory: str) -> bytes:
    """Return the source of a factory's file or module, empty for a model out of a library's list."""
    source, _, _ = factory.rpartition(":")
    if not source.endswith(".py"):
        found = None if source in {"torchvision", "timm"} else importlib.util.find_spec(source)
        source = (found.origin if found is not None else None) or ""
    return Path(source).read_bytes() if source.endswith(".py") else b""
