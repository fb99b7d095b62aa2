"""The ``onnx`` backend: an exported graph in ONNX Runtime."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from probekit.components import Array, Backend, Feed, Graph, ModelInput, TapFunction
from probekit.errors import InputError, MachineError, Problem, listed, nearest
from probekit.hookspecs import hookimpl
from probekit.sections import SpecPath, runtime_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx

_CHUNK = 1 << 20


class OnnxBackend(Backend):
    """An exported ONNX file, run by ONNX Runtime."""

    kind: Literal["onnx"] = "onnx"
    path: SpecPath = Field(description="the .onnx file")
    providers: list[str] | None = runtime_option(
        None, "ONNX Runtime's execution providers in order of preference; default: CUDA where a GPU is there, then CPU"
    )
    optimization: Literal["all", "off"] = Field(
        "all", description="the runtime's graph optimisations; 'off' computes every tensor exactly as exported"
    )

    def signature(self) -> tuple[ModelInput, ...]:
        """Return the graph's inputs that are no initializers."""
        from probekit.backends.onnx_graph import model_inputs

        return model_inputs(self._load())

    def graph(self, example: Feed | None = None) -> Graph:  # noqa: ARG002 - an ONNX file describes itself
        """Return every tensor of the file; no runtime is needed."""
        from probekit.backends.onnx_graph import read_graph

        return read_graph(self._load())

    def fingerprint(self) -> str:
        """Return the digest of the file and of its external data."""
        digest = hashlib.blake2b(digest_size=16)
        for path in (Path(self.path), *external_files(self._load(), Path(self.path))):
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()

    def runtime(self) -> dict[str, Any]:
        """Return ONNX Runtime's version and the providers that a session gets here."""
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__, "providers": self._session(self._load()).get_providers()}

    @contextmanager
    def open(self, taps: Sequence[str]) -> Iterator[TapFunction]:
        """Expose the taps as outputs and load the graph.

        Raises:
            InputError: the file is damaged or ONNX Runtime refuses it.
        """
        model = self._load()
        inputs = {value.name for value in model.graph.input}
        computed = [name for name in taps if name not in inputs]
        session = self._session(_with_outputs(model, computed)) if computed else None

        def run(feed: Feed) -> dict[str, Array]:
            found = _run(session, computed, feed) if session is not None else []
            arrays = dict(zip(computed, found, strict=True))
            return {name: arrays[name] if name in arrays else feed[name] for name in taps}

        yield run

    def _load(self) -> onnx.ModelProto:
        import onnx
        from google.protobuf.message import DecodeError

        path = Path(self.path)
        refuse_what_is_no_onnx(path)
        try:
            model = onnx.load(path, load_external_data=False)
        except DecodeError as error:
            what = f"{str(path)!r} is cut off or is no ONNX file: {error}"
            raise InputError(Problem("PK-M02", what, field="model.path")) from None
        if not model.graph.node:
            raise InputError(Problem("PK-M02", f"{str(path)!r} holds no graph", field="model.path"))
        external_files(model, path)
        return model

    def _session(self, model: onnx.ModelProto) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.optimization == "off":
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        folder = str(Path(self.path).parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        providers = available_providers(self.providers)
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        except Exception as error:
            raise InputError(_refusal(error, self.path)) from error


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
    import torch

    return torch.cuda.is_available()


def refuse_what_is_no_onnx(path: Path) -> None:
    """Say what a file is when it is not an ONNX file.

    Raises:
        InputError: ``PK-M01`` to ``PK-M06``.
    """
    if not path.is_file():
        names = [entry.name for entry in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
        raise InputError(Problem("PK-M01", f"no file {str(path)!r}", nearest(path.name, names, "there"), "model.path"))
    with path.open("rb") as stream:
        head = stream.read(512)
    kinds = [
        (not head, "PK-M05", "is empty", "export or copy it again"),
        (head.startswith(b"version https://git-lfs"), "PK-M04", "is a Git LFS pointer", "type: git lfs pull"),
        (head.lstrip()[:5].lower() in (b"<!doc", b"<html"), "PK-M03", "is an HTML page", "download it again"),
        (head.startswith(b"PK\x03\x04"), "PK-M06", "is a PyTorch checkpoint or zip", "use kind: torch"),
        (head.startswith(b"\x80") and b"." in head, "PK-M06", "is a pickle", "use kind: torch, or export it to ONNX"),
        (head[8:9] == b"{" and head[6:8] == b"\0\0", "PK-M06", "is a safetensors file", "use kind: torch with weights"),
    ]
    for is_so, code, what, hint in kinds:
        if is_so:
            raise InputError(Problem(code, f"{str(path)!r} {what}", hint, "model.path"))


def external_files(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Return the files that hold the model's external data, all inside its own folder.

    A symbolic link is followed when model and data lie side by side by name or in truth, as in hub caches.

    Raises:
        InputError: ``PK-M07`` absent, ``PK-M08`` outside the folder, ``PK-M12`` a hard link.
    """
    import onnx.external_data_helper as external

    locations: dict[str, str] = {}
    for tensor in external._get_all_tensors(model):  # covers the tensors in attributes too
        if external.uses_external_data(tensor):
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            locations.setdefault(location, tensor.name)
    files, absent = [], []
    for location, owner in sorted(locations.items()):
        file = Path(os.path.normpath(path.parent / location))
        inside = not Path(location).is_absolute() and file.is_relative_to(path.parent) and not location.startswith("*/")
        if inside and file.exists():
            real, home = file.resolve(), path.resolve().parent
            inside = real.is_relative_to(home) or real.is_relative_to(path.parent.resolve())
        if not inside:
            what = f"tensor {owner!r} reads {location!r}, which is outside the model's folder"
            raise InputError(Problem("PK-M08", what, "keep the data beside the model", "model.path"))
        if not file.is_file():
            absent.append(location)
        elif file.stat().st_nlink > 1:
            what = f"tensor {owner!r} reads {location!r}, which is a hard link"
            raise InputError(Problem("PK-M12", what, "copy the file", "model.path"))
        else:
            files.append(file)
    if absent:
        what = f"the model's external data is absent: {listed(absent)}"
        raise InputError(Problem("PK-M07", what, f"copy it to {str(path.parent)!r}", "model.path"))
    return files


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    import onnx

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    typed = {value.name: value for value in (*model.graph.output, *model.graph.value_info)}
    del tapped.graph.output[:]
    tapped.graph.output.extend(typed.get(name) or onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    return tapped


def _run(session: Any, names: Sequence[str], feed: Feed) -> list[Array]:
    try:
        found: list[Array] = session.run(list(names), dict(feed))
    except Exception as error:
        text = str(error)
        if "bfc_arena" in text or "Failed to allocate" in text:
            what = "the model does not fit in memory"
            raise MachineError(Problem("PK-R03", what, "set a smaller model.batch_size", "model")) from error
        raise InputError(
            Problem("PK-M23", f"ONNX Runtime cannot run the model: {text.splitlines()[0]}", "", "model")
        ) from error
    return found


def _refusal(error: Exception, path: str) -> Problem:
    text = str(error).replace(path, Path(path).name)
    first = text.splitlines()[0] if text else type(error).__name__
    if "is not a registered function/op" in text:
        return Problem("PK-M19", f"the graph has an operator of another library: {first}", "", "model.path")
    if "opset" in text.lower() or "IR version" in text:
        hint = "type: pip install --upgrade onnxruntime-gpu, or export with an older opset"
        return Problem("PK-M18", f"this ONNX Runtime is too old for the file: {first}", hint, "model.path")
    return Problem("PK-M02", f"ONNX Runtime refuses the file: {first}", "", "model.path")


@hookimpl
def register_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [OnnxBackend]
