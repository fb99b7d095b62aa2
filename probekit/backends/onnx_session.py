"""ONNX Runtime sessions: how they are made, run, and what their refusals mean."""

from __future__ import annotations

import ctypes
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.errors import InputError, MachineError, Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from probekit.components import Array, Feed


def session_options(optimization: str) -> Any:
    """Return the options of every session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # A plan of all buffers for each size of a batch: no faster here, and half as much memory again.
    options.enable_mem_pattern = False
    if optimization == "off":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def open_session(
    content: bytes,
    providers: Sequence[str],
    options: Any,
    folder: Path | None = None,
    large: Mapping[str, Array] | None = None,
) -> Any:
    """Load a model.

    Args:
        content: a serialised model, with its external data named from ``folder``.
        providers: as :func:`available_providers` gives them.
        options: of the session.
        folder: where external data lie.
        large: values of initializers that the model names as external but no file holds; they must outlive the session.

    Raises:
        InputError: the runtime refuses the model.
    """
    import onnxruntime

    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    if large:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in large.values()]
        options.add_external_initializers(list(large), values)
    try:
        # Without the fallback: another provider than the one asked for is never taken in silence.
        session = onnxruntime.InferenceSession(content, options, providers=list(providers), enable_fallback=0)
    except Exception as error:
        raise InputError(_refusal(error)) from error
    # Kept for the fallback alone, it would hold all weights a second time.
    session._model_bytes = None
    give_memory_back()
    return session


def give_memory_back() -> None:
    """Return what loading a model left free to the system; glibc would keep it for later."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def available_providers(wanted: Sequence[str] | None) -> list[str]:
    """Return the providers that can run here, in order; the CPU is always last.

    The runtime's own list names CUDA wherever its build could use it, so the device is asked.

    Args:
        wanted: the user's order; None: CUDA where there is a GPU.

    Raises:
        MachineError: ``PK-E02``, a wanted one is not there.
    """
    import onnxruntime

    built = onnxruntime.get_available_providers()
    if wanted is None:
        gpu = "CUDAExecutionProvider" in built and _has_cuda()
        return ["CUDAExecutionProvider", "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
    here = [name for name in built if not name.startswith(("CUDA", "Tensorrt", "NvTensorRT")) or _has_cuda()]
    absent = [name for name in wanted if name not in here]
    if absent:
        what = f"the provider {absent[0]!r} is not available here"
        raise MachineError(Problem("PK-E02", what, nearest(absent[0], here, "available"), "model.providers"))
    return [*wanted, *(name for name in ("CPUExecutionProvider",) if name not in wanted)]


def _has_cuda() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False  # no driver: torch, which takes its time and memory to load, need not be asked
    import torch

    return torch.cuda.is_available()


def run_session(session: Any, names: Sequence[str], feed: Feed, grafted: str | None = None) -> dict[str, Array]:
    """Run a model once.

    Args:
        session: from :func:`open_session`.
        names: of the outputs to fetch.
        feed: arrays by name; the session takes those that it has an input for.
        grafted: what the names of grafted nodes begin with; the rest, up to a colon, names the tap.

    Returns:
        the outputs by name.

    Raises:
        InputError: ``PK-M20`` a grafted node does not fit, ``PK-M23`` the runtime refuses the inputs.
        MachineError: ``PK-R03``, no memory.
    """
    inputs = {value.name for value in session.get_inputs()}
    fed = {name: array for name, array in feed.items() if name in inputs}
    try:
        if session.get_providers()[0] == "CUDAExecutionProvider":
            found = _run_on_device(session, names, fed)
        else:
            found = session.run(list(names), fed)
    except Exception as error:
        text = str(error)
        if "bfc_arena" in text or "Failed to allocate" in text:
            what = "the model does not fit in memory"
            raise MachineError(Problem("PK-R03", what, "set a smaller model.batch_size", "model")) from error
        if grafted is not None and (place := re.search(rf"Name:'{re.escape(grafted)}(.*):\w+'", text)):
            raise changes_its_size(place[1]) from error
        what = f"ONNX Runtime cannot run the model: {_reason(error)}"
        raise InputError(Problem("PK-M23", what, "", "model")) from error
    return dict(zip(names, found, strict=True))


def _run_on_device(session: Any, names: Sequence[str], feed: Feed) -> list[Array]:
    """Run on a GPU: each input goes there once, the outputs stay until all are done and come back together."""
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    for name in names:
        binding.bind_output(name, "cuda")
    session.run_with_iobinding(binding)
    found: list[Array] = binding.copy_outputs_to_cpu()
    return found


def changes_its_size(tap: str, change: str = "") -> InputError:
    """Return the error for a tap whose batches do not fit one matrix of features."""
    what = f"tap {tap!r} changes its size{change}"
    return InputError(Problem("PK-M20", what, "give the dataset inputs of one size"))


def _reason(error: Exception) -> str:
    """Return what ONNX Runtime says, on one line, without its own codes and source paths."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"^/\S+:\d+ .*\) (?=[A-Z])", "", text)


def _refusal(error: Exception) -> Problem:
    text = _reason(error)
    if found := re.search(r"Opset (\d+) .* is till opset (\d+)", text):
        what = f"the file has opset {found[1]}, this ONNX Runtime knows up to {found[2]}"
        hint = f"type: pip install --upgrade onnxruntime-gpu, or export with opset {found[2]} or older"
        return Problem("PK-M18", what, hint, "model.path")
    if found := re.search(r"IR version: (\d+), max supported IR version: (\d+)", text):
        what = f"the file has IR version {found[1]}, this ONNX Runtime knows up to {found[2]}"
        hint = "type: pip install --upgrade onnxruntime-gpu, or export with an older opset"
        return Problem("PK-M18", what, hint, "model.path")
    if found := re.search(r"(\S+):(\w+)\(-?\d+\) is not a registered function/op", text):
        what = f"ONNX Runtime has no operator {found[2]!r} of the domain {found[1]!r}"
        return Problem("PK-M19", what, "export the model with standard operators", "model.path")
    if found := re.search(r"No Op registered for (\w+) with domain_version of (\d+)", text):
        what = f"ONNX Runtime has no operator {found[1]!r} in opset {found[2]}"
        return Problem("PK-M19", what, "export the model with standard operators", "model.path")
    return Problem("PK-M02", f"ONNX Runtime refuses the file: {text}", "", "model.path")
