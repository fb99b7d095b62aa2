"""The ``onnx`` backend: an exported graph in ONNX Runtime."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from probekit.backends.file_kinds import read_head, refuse_absent, refuse_what_is_no_model
from probekit.backends.onnx_external import external_files, point_at
from probekit.components import Array, Backend, Feed, Graph, ModelInput, TapFunction
from probekit.errors import InputError, MachineError, Problem, nearest
from probekit.hookspecs import hookimpl
from probekit.sections import SpecPath, runtime_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx

_CHUNK = 1 << 20
_MOST_BYTES = 1 << 31
"""What protobuf can hold."""


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

        constant = [name for name, binding in self.inputs.items() if binding.column is None]
        return read_graph(self._load(), constant)

    def fingerprint(self) -> str:
        """Return the digest of the file and of its external data."""
        path = Path(self.path)
        digest = hashlib.blake2b(digest_size=16)
        for file in (path, *external_files(self._load(), path).values()):
            with file.open("rb") as stream:
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
            model = onnx.load(path, format="protobuf", load_external_data=False)
        except DecodeError as error:
            what = f"{str(path)!r} is cut off or is no ONNX file: {error}"
            raise InputError(Problem("PK-M02", what, field="model.path")) from None
        for is_so, what in ((not model.graph.node, "graph"), (not model.opset_import, "opset")):
            if is_so:
                raise InputError(Problem("PK-M02", f"{str(path)!r} holds no {what}: it is cut off", field="model.path"))
        external_files(model, path)
        return model

    def _session(self, model: onnx.ModelProto) -> Any:
        """Load the model, whose external data are then named by their real paths."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.optimization == "off":
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if files := external_files(model, Path(self.path)):
            folder = str(point_at(model, files))
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        providers = available_providers(self.providers)
        try:
            content = model.SerializeToString()
            # Without the fallback: another provider than the one asked for is never taken in silence.
            return onnxruntime.InferenceSession(content, options, providers=providers, enable_fallback=0)
        except Exception as error:
            raise InputError(_refusal(error)) from error


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
        InputError: ``PK-M01``, ``PK-M03`` to ``PK-M06``, ``PK-M43`` too large for the format.
    """
    field = "model.path"
    refuse_absent(path, ".onnx", field)
    refuse_what_is_no_model(path, field)
    head = read_head(path)
    kinds = [
        (head.startswith(b"PK\x03\x04"), "is a PyTorch checkpoint or zip", "use kind: torch"),
        (head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5", "is a pickle", "use kind: torch, or export it to ONNX"),
        (head[8:9] == b"{" and head[6:8] == b"\0\0", "is a safetensors file", "use kind: torch with weights"),
    ]
    for is_so, what, hint in kinds:
        if is_so:
            raise InputError(Problem("PK-M06", f"{str(path)!r} {what}", hint, field))
    size = path.stat().st_size
    if size >= _MOST_BYTES:
        what = f"{str(path)!r} has {size} bytes, an ONNX file has less than 2 GiB"
        raise InputError(Problem("PK-M43", what, "save it with external data", field))


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
        what = f"ONNX Runtime cannot run the model: {_reason(error)}"
        raise InputError(Problem("PK-M23", what, "", "model")) from error
    return found


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


@hookimpl
def register_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [OnnxBackend]
