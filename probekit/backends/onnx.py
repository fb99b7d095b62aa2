"""The ``onnx`` backend: an exported graph in ONNX Runtime."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from probekit.backends.file_kinds import read_head, refuse_absent, refuse_what_is_no_model
from probekit.backends.onnx_external import external_files, point_at
from probekit.backends.onnx_session import available_providers, open_session, run_session, session_options
from probekit.components import Array, Backend, Feed, Graph, ModelInput, ReducedFunction, TapFunction, Wanted
from probekit.errors import InputError, Problem
from probekit.hookspecs import hookimpl
from probekit.sections import SpecPath, runtime_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    import onnx

    from probekit.backends.onnx_reduced import GraftedFunction
    from probekit.steps import Masks

_CHUNK = 1 << 20
_MOST_BYTES = 1 << 31
"""What protobuf can hold."""


class OnnxBackend(Backend):
    """An exported ONNX file, run by ONNX Runtime."""

    kind: Literal["onnx"] = "onnx"
    # Where a model lies does not shape its values: its fingerprint tells what it is.
    path: SpecPath = Field(description="the .onnx file", json_schema_extra={"format": "path", "shapes_values": False})
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

    def tap_fingerprints(self, taps: Sequence[str]) -> dict[str, str]:
        """Return, for each tap, a digest of the operators and weights that it is computed with, whatever their names.

        Two files that differ in names, or in what comes after a tap, agree on the tap.
        """
        from probekit.backends.onnx_fingerprint import tensor_digests

        model = self._load()
        try:
            return tensor_digests(model, taps, external_files(model, Path(self.path)))
        except KeyError:  # a file whose nodes stand in no order: it is taken as a whole
            return super().tap_fingerprints(taps)

    def with_checkpoint(self, path: str) -> Backend:
        """Return the same component with another file."""
        return self.model_copy(update={"path": path})

    def runtime(self) -> dict[str, Any]:
        """Return ONNX Runtime's version and how its sessions run here; the model is not loaded for it."""
        import onnx
        import onnxruntime

        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N"])
        graph = onnx.helper.make_graph([node], "any", [value], [onnx.ValueInfoProto(name="y")])
        any_model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 13)])
        options = session_options(self.optimization)
        session = open_session(any_model.SerializeToString(), available_providers(self.providers), options)
        return {
            "onnxruntime": onnxruntime.__version__,
            "providers": session.get_providers(),
            "optimization": self.optimization,
            "threads": options.intra_op_num_threads or "default",
            "memory_pattern": options.enable_mem_pattern,
        }

    @contextmanager
    def open(self, taps: Sequence[str]) -> Iterator[TapFunction]:
        """Load what the taps need of the graph, with the taps as outputs.

        A tap that NumPy cannot hold, such as bfloat16, comes as float32.

        Raises:
            InputError: ``PK-M26`` there is no such tap; the file is damaged or ONNX Runtime refuses it.
        """
        from probekit.backends.onnx_graft import raw_outputs
        from probekit.components.graph import require_taps

        def serialised() -> tuple[dict[str, str], bytes, Path | None]:
            model, folder = self._load_to_run()
            made = {name for node in model.graph.node for name in node.output if name}
            require_taps(taps, made | {value.name for value in model.graph.input})
            outputs = raw_outputs(model, taps)
            return outputs, model.SerializeToString() if outputs else b"", folder

        outputs, content, folder = serialised()
        options, providers = session_options(self.optimization), available_providers(self.providers)
        session = open_session(content, providers, options, folder) if content else None
        del content

        def run(feed: Feed) -> dict[str, Array]:
            found = run_session(session, list(outputs.values()), feed) if session is not None else {}
            return {name: found[outputs[name]] if name in outputs else feed[name] for name in taps}

        yield run

    @contextmanager
    def open_reduced(self, wanted: Sequence[Wanted]) -> Iterator[ReducedFunction]:
        """Load what the taps need of the graph, with their programs as nodes of it.

        Raises:
            InputError: the file is damaged or ONNX Runtime refuses it; the function raises ``PK-M20`` when a size
                is not what the trial run saw.
        """
        with self._open_grafted(wanted) as run:
            yield lambda feed, masks: run(feed, masks)[0]

    def compare(self, wanted: Sequence[Wanted], feed: Feed, masks: Masks) -> dict[str, Any]:
        """Run the first batch without the taps, with them, and with them but without optimisations.

        A first output that is no tensor of numbers, or that cannot be computed here, is left out.
        """
        if self.optimization == "off":
            return {"against_unoptimised": {one.tap.name: 0.0 for one in wanted}, "output_against_untapped": 0.0}
        from probekit.backends.differences import relative_difference

        # One session after the other, so that memory is not doubled.
        output = self._load().graph.output[0].name
        untapped: Any = None
        try:
            with self._open_grafted([], more=[output]) as run:
                untapped = run(feed, masks)[1][output]
        except InputError:
            pass  # the taps may need less than the output does: not an operator that is missing, not an input
        compared = isinstance(untapped, np.ndarray) and untapped.dtype.kind in "biuf"
        with self._open_grafted(wanted, more=[output] if compared else []) as run:
            fast, tapped = run(feed, masks)
        with self._open_grafted(wanted, optimization="off") as run:
            plain, _ = run(feed, masks)
        differences = dict.fromkeys((one.tap.name for one in wanted), 0.0)
        for one, this, other in zip(wanted, fast, plain, strict=True):
            differences[one.tap.name] = max(differences[one.tap.name], relative_difference(this, other))
        told: dict[str, Any] = {"against_unoptimised": differences}
        if compared:
            told["output_against_untapped"] = relative_difference(tapped[output], untapped)
        return told

    def _open_grafted(
        self, wanted: Sequence[Wanted], optimization: str | None = None, more: Sequence[str] = ()
    ) -> AbstractContextManager[GraftedFunction]:
        from probekit.backends.onnx_reduced import open_grafted

        chosen = optimization or self.optimization
        options, providers = session_options(chosen), available_providers(self.providers)
        return open_grafted(self._load_to_run, wanted, more, self.open, options, providers, exact=chosen == "off")

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

    def _load_to_run(self) -> tuple[onnx.ModelProto, Path | None]:
        """Return the model with its external data named by their real paths, and the folder that these start from."""
        model = self._load()
        files = external_files(model, Path(self.path))
        return model, point_at(model, files) if files else None


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


@hookimpl
def register_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [OnnxBackend]
