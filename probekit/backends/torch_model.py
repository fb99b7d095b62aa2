"""What a PyTorch module is read from and asked: checked weights, exported programs, its attributes and inputs."""

from __future__ import annotations

import inspect
import re
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from probekit.backends.file_kinds import refuse_absent, refuse_what_is_no_model
from probekit.components import ModelInput
from probekit.errors import InputError, Problem, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def load_program(path: Path) -> tuple[nn.Module, tuple[ModelInput, ...]]:
    """Return the module of a ``torch.export`` program, with the submodules it was exported from, and its inputs.

    Raises:
        InputError: ``PK-M01`` no file, ``PK-M02`` no program, ``PK-M03`` to ``PK-M05`` another kind of file.
    """
    field = "model.program"
    refuse_absent(path, ".pt2", field)
    refuse_what_is_no_model(path, field)
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not a zip file")
        program = torch.export.load(path)
        module = torch.export.unflatten(program)
    except Exception as error:
        what = f"{str(path)!r} is no torch.export program: {first_line(error)}"
        raise InputError(Problem("PK-M02", what, field=field)) from error
    names = [str(name) for name in program.graph_signature.user_inputs]
    values = {node.name: node.meta["val"] for node in program.graph.find_nodes(op="placeholder")}
    _call_by_name(module, names, positional=program.call_spec.in_spec.children()[0].num_children)
    return module, tuple(_input(name, values[name]) for name in names)


def _input(name: str, value: torch.Tensor) -> ModelInput:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    dtype = str(value.dtype).removeprefix("torch.")
    return ModelInput(name, shape, None if value.dtype == torch.bfloat16 else dtype)


def _call_by_name(module: nn.Module, names: Sequence[str], positional: int) -> None:
    """Give a program's module the signature that its program declares, in place of ``*args``."""
    inner = module.forward

    def forward(**given: Any) -> Any:
        values = [given[name] for name in names]
        return inner(*values[:positional], **dict(zip(names[positional:], values[positional:], strict=True)))

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    module.forward = forward


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a state dict into a module; every key must fit. Nothing is unpickled but tensors.

    Raises:
        InputError: ``PK-M01`` no file, ``PK-M02`` to ``PK-M05`` another kind of file, ``PK-M44`` pickled objects,
            ``PK-M45`` keys, ``PK-M46`` shapes, ``PK-M49`` an archive that unpacks to far more than its size.
    """
    refuse_absent(path, path.suffix, "model.weights")
    refuse_what_is_no_model(path, "model.weights")
    _refuse_bomb(path, "model.weights")
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


_MOST_TIMES = 64
"""torch.save packs without compression; what unpacks to so many times its size is no checkpoint."""
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"Rar!")


def _refuse_bomb(path: Path, field: str) -> None:
    """Judge an archive by what it declares, before anything is unpacked.

    Raises:
        InputError: ``PK-M49``.
    """
    if not zipfile.is_zipfile(path):
        return
    problem = ""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            declared = sum(member.file_size for member in members)
            if declared > _MOST_TIMES * path.stat().st_size:
                problem = f"declares {declared} bytes in a file of {path.stat().st_size}"
            else:
                nested = next((one.filename for one in members if _is_archive(archive, one)), None)
                problem = f"holds another archive, {nested!r}" if nested is not None else ""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, zlib.error, EOFError, ValueError):
        return  # a damaged archive: torch says how
    if problem:
        hint = "save it as .safetensors: safetensors.torch.save_file(model.state_dict(), FILE)"
        raise InputError(Problem("PK-M49", f"{path.name!r} {problem}; it is not unpacked", hint, field))


def _is_archive(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    # Tensors lie below data/: their bytes may be anything.
    if "/data/" in f"/{member.filename}" and not Path(member.filename).suffix:
        return False
    with archive.open(member) as stream:
        return stream.read(8).startswith(_ARCHIVES)


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
    except Exception as error:
        if found := re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error)):
            what = f"{path.name!r} holds pickled objects of {found[1]}, which are not loaded: they could run code"
            raise InputError(Problem("PK-M44", what, hint, "model.weights")) from None
        if path.open("rb").read(2)[:1] == b"\x80":
            what = f"{path.name!r} is a pickle that torch.save did not write; it is not loaded: it could run code"
            raise InputError(Problem("PK-M44", what, hint, "model.weights")) from None
        what = f"{path.name!r} is damaged or no checkpoint: {first_line(error).split('. ')[0]}"
        raise InputError(Problem("PK-M02", what, hint, "model.weights")) from None
    is_state = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    )
    if not is_state:
        what = f"{path.name!r} holds no state dict (names to tensors)"
        raise InputError(Problem("PK-M44", what, hint, "model.weights"))
    found_state: dict[str, torch.Tensor] = state
    return found_state


def attributes(module: nn.Module) -> tuple[list[tuple[str, Any]], dict[str, torch.Tensor]]:
    """Return what a module keeps beside parameters and buffers: plain values, and tensors by name."""
    plain: list[tuple[str, Any]] = []
    tensors: dict[str, torch.Tensor] = {}
    for owner_name, owner in module.named_modules():
        for key, value in sorted(vars(owner).items()):
            name = f"{owner_name}.{key}"
            if key.startswith("_") or key == "training":
                continue
            if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta:
                tensors[f"attribute {name}"] = value
            elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
                tensors[f"attribute {name}"] = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy())
            elif value is None or isinstance(value, bool | int | float | str):
                plain.append((name, value))
    return plain, tensors


def forward_inputs(module: nn.Module, bound: Iterable[str] = ()) -> list[str]:
    """Return the names of the inputs that ``forward`` needs, and of the optional ones that the spec binds."""
    parameters = inspect.signature(module.forward).parameters.values()
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in plain if p.default is p.empty or p.name in set(bound)]
    return names or ["input"]


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
