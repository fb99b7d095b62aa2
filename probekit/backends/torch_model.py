"""Building PyTorch modules: factories, checked weights, exported programs."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from probekit.errors import InputError, MachineError, Problem, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


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
        what = f"the factory {name!r} gave a {type(module).__name__}, not a torch.nn.Module"
        raise InputError(Problem("PK-M51", what, field="model.factory"))
    return module


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
    kept = {key: value for key, value in arguments.items() if key != "weights"}
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
    spec = importlib.util.spec_from_file_location(f"probekit_factory_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - a .py file has a loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_program(path: Path) -> nn.Module:
    """Return the module of a ``torch.export`` program.

    Raises:
        InputError: ``PK-M01`` no file, ``PK-M02`` no program.
    """
    if not path.is_file():
        raise InputError(Problem("PK-M01", f"no file {str(path)!r}", field="model.program"))
    try:
        return torch.export.load(path).module()
    except Exception as error:
        what = f"{str(path)!r} is no torch.export program: {error}"
        raise InputError(Problem("PK-M02", what, field="model.program")) from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a state dict into a module; every key must fit. Nothing is unpickled but tensors.

    Raises:
        InputError: ``PK-M01`` no file, ``PK-M44`` pickled objects, ``PK-M45`` keys, ``PK-M46`` shapes.
    """
    if not path.is_file():
        names = [entry.name for entry in path.parent.glob("*")] if path.parent.is_dir() else []
        raise InputError(
            Problem("PK-M01", f"no file {str(path)!r}", nearest(path.name, names, "there"), "model.weights")
        )
    state = _read_state(path)
    own = module.state_dict()
    problems = []
    for word, keys in (("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())):
        if keys:
            what = f"{len(keys)} {word} keys in {path.name!r}: {listed(sorted(keys))}"
            problems.append(Problem("PK-M45", what, field="model.weights"))
    for name in sorted(own.keys() & state.keys()):
        if own[name].shape != state[name].shape:
            what = f"{name!r} is {tuple(state[name].shape)} in {path.name!r}, {tuple(own[name].shape)} in the model"
            problems.append(Problem("PK-M46", what, field="model.weights"))
    if problems:
        raise InputError(*problems)
    module.load_state_dict(state)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            what = f"{path.name!r} is no safetensors file: {error}"
            raise InputError(Problem("PK-M02", what, field="model.weights")) from None
    hint = "save it as .safetensors: safetensors.torch.save_file(model.state_dict(), FILE)"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        what = f"{path.name!r} cannot be read as plain tensors: {str(error).splitlines()[0]}"
        raise InputError(Problem("PK-M44", what, hint, "model.weights")) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        what = f"{path.name!r} holds no state dict (names to tensors)"
        raise InputError(Problem("PK-M44", what, hint, "model.weights"))
    return state


def forward_inputs(module: nn.Module, bound: Iterable[str] = ()) -> list[str]:
    """Return the names of the inputs that ``forward`` needs, and of the optional ones that the spec binds."""
    parameters = inspect.signature(module.forward).parameters.values()
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in plain if p.default is p.empty or p.name in set(bound)]
    return names or ["input"]


def call(module: nn.Module, feed: Mapping[str, Any]) -> Any:
    """Run a module on a feed of NumPy arrays, without gradients.

    Raises:
        InputError: ``PK-M23``, the model refuses the inputs.
    """
    tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
    parameters = inspect.signature(module.forward).parameters
    by_name = {name: value for name, value in tensors.items() if name in parameters}
    positional = [value for name, value in tensors.items() if name not in parameters]
    with torch.no_grad():
        try:
            return module(*positional, **by_name)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = ", ".join(f"{name} {tuple(array.shape)} {array.dtype}" for name, array in feed.items())
            first = str(error).strip().splitlines()[0]
            raise InputError(
                Problem("PK-M23", f"the model refuses its inputs ({shapes}): {first}", "", "model")
            ) from error
