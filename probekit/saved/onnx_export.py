"""An ONNX model with a saved probe: the probe's reduction and its probabilities as one more output."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit import durable
from probekit.backends.onnx import OnnxBackend
from probekit.backends.onnx_external import external_files, point_at
from probekit.backends.onnx_graft import set_outputs, tensor_types
from probekit.backends.onnx_lowering import Lowering
from probekit.backends.onnx_means import ResidualSums
from probekit.backends.onnx_prune import needed_nodes, prune
from probekit.errors import InputError, MachineError, Problem, SpecError
from probekit.saved.files import IDENTITY
from probekit.saved.onnx_check import largest_difference
from probekit.steps import program_masks

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from probekit.saved.loaded import LoadedProbe

FIRST_OPSET = 7
"""The first operator set whose sums broadcast."""
_FIRST_IR = 4
"""The first version of the format in which weights are no inputs."""
_MOST_INSIDE = 1 << 30
"""Bytes of weights from which they go to a file beside the model; an ONNX file has less than 2 GiB."""


@dataclass(frozen=True)
class Exported:
    """A model with a probe.

    Args:
        path: the .onnx file.
        data: the file with its weights beside it; None where they are in the model.
        output: name of the probe's output.
        inputs: names of the inputs that the model had not before, by mask.
        outputs: names of all outputs, the probe's last.
        difference: largest difference from the plain model, the program in NumPy and the saved probe.
        rows: compared.
    """

    path: Path
    data: Path | None
    output: str
    inputs: dict[str, str]
    outputs: tuple[str, ...]
    difference: float
    rows: int


@dataclass(frozen=True)
class Graft:
    """What was grafted: the probe's output, the inputs of masks that the model was not fed, and all outputs."""

    output: str
    inputs: dict[str, str]
    outputs: tuple[str, ...]


def export_onnx(
    probe: LoadedProbe,
    out: str | Path,
    *,
    model_path: str | Path | None = None,
    early_exit: bool = False,
    float64: bool = False,
) -> Exported:
    """Write the run's ONNX model with the probe's probabilities as one more output, and compare it.

    Weights that lie beside the model, or take more than 1 GiB, go to ``OUT.data`` beside the new one. All weights are
    held in memory once. The probe is in float32; the store's rounding to a half-width dtype is left out.

    Args:
        probe: the saved probe.
        out: the .onnx file to write, whole or not at all; one of that name is replaced.
        model_path: where the model lies now; default: where the run found it.
        early_exit: leave the model's own outputs out, and all that the probe does not need.
        float64: compute W x + b in float64, where W x and b nearly cancel.

    Raises:
        InputError: ``PK-X14`` the model is not the run's, ``PK-X15`` model or reduction cannot be exported, ``PK-X16``
            the exported model gives other probabilities; what reading an ONNX model raises.
        SpecError: ``PK-X17``, ``out`` is the model itself or its data.
        MachineError: ``PK-R13``, it cannot be written.
    """
    import onnx

    backend = _backend(probe, model_path)
    path, out = Path(backend.path), Path(out).absolute()
    model = onnx.load(path, format="protobuf", load_external_data=False)
    files = external_files(model, path)
    data = out.with_name(f"{out.name}.data")
    _refuse_overwriting([path, *files.values()], [out, data])
    folder = point_at(model, files) if files else None
    made = graft_probe(model, probe, early_exit=early_exit, float64=float64)
    if folder is not None:
        onnx.load_external_data_for_model(model, str(folder))
    outside = folder is not None or sum(one.ByteSize() for one in model.graph.initializer) > _MOST_INSIDE
    with _folder_beside(out) as temporary:
        new = temporary / out.name
        onnx.save_model(model, new, "protobuf", save_as_external_data=outside, location=data.name)
        del model
        difference, rows = largest_difference(probe, backend, new, made.output, made.inputs, float64=float64)
        there = _put(temporary, out, data)
    return Exported(out, data if there else None, made.output, made.inputs, made.outputs, difference, rows)


def graft_probe(model: onnx.ModelProto, probe: LoadedProbe, *, early_exit: bool, float64: bool) -> Graft:
    """Add a probe's reduction and probabilities to a model, in place.

    Args:
        model: its external data need not be loaded.
        probe: the probe.
        early_exit: keep nothing else.
        float64: compute W x + b in float64.

    Raises:
        InputError: ``PK-X15``, the model's operator set is too old or the reduction has no form as nodes.
    """
    import onnx

    wanted = probe.wanted()
    typed = {value.name: value for value in model.graph.output}
    fed = {one.source: name for name, one in probe.recipe.model.inputs.items() if one.source is not None}
    inside = [mask for mask in program_masks(wanted.program) if mask in fed]
    if early_exit:
        prune(model, [wanted.tap.name, *(fed[mask] for mask in inside)])
    types = tensor_types(model, typed.values())
    dtypes = {name: one.elem_type for name, one in types.items()}
    ranks = {name: len(one.shape.dim) for name, one in types.items() if one.HasField("shape")}
    to = Lowering(model, dtypes, ResidualSums(model.graph, ranks))
    if to.opset < FIRST_OPSET:
        what = f"the model has opset {to.opset}; a probe needs opset {FIRST_OPSET} or newer"
        raise InputError(Problem("PK-X15", what, "export the model with opset 18, then run the spec again"))
    for mask in inside:
        to.masks[mask] = to.node("Cast", [fed[mask]], since=6, to=onnx.TensorProto.BOOL)
    source = to.lower(wanted)
    if not source.grafted:
        steps = ", ".join(type(step).__name__ for step in wanted.program)
        what = f"opset {to.opset} cannot express the reduction {probe.record.reduction!r} ({steps})"
        raise InputError(Problem("PK-X15", what, "export the model with opset 18, then run the spec again"))
    scores = _scores(to, source.output, probe, float64=float64)
    for mask in inside:
        del to.masks[mask]
    to.finish()
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, array in to.large.items():
        values[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    output = f"{to.prefix}{probe.record.factor}"
    attributes: dict[str, Any] = {"axis": 1} if probe.task == "classes" else {}
    last = {"classes": "Softmax", "multilabel": "Sigmoid", "number": "Identity"}[probe.task]
    model.graph.node.append(onnx.helper.make_node(last, [scores], [output], name=output, **attributes))
    names = [output] if early_exit else [*typed, output]
    _drop_unused(model, names, to.prefix)
    size = 1 if probe.task == "number" else len(probe.classes_)
    typed[output] = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [None, size])
    set_outputs(model, names, typed)
    _describe(model, probe, output, to.masks)
    model.ir_version = max(model.ir_version, _FIRST_IR)
    return Graft(output, dict(to.masks), tuple(names))


def _scores(to: Lowering, features: str, probe: LoadedProbe, *, float64: bool) -> str:
    """Add W x + b and return its name, float32."""
    import onnx

    dtype = np.float64 if float64 else np.float32
    if float64:
        features = to.node("Cast", [features], since=6, to=onnx.TensorProto.DOUBLE)
    product = to.node("MatMul", [features, to.constant(probe.linear.weights.T.astype(dtype))])
    scores = to.node("Add", [product, to.constant(probe.linear.bias.astype(dtype))], since=7)
    return to.node("Cast", [scores], since=6, to=onnx.TensorProto.FLOAT) if float64 else scores


def _drop_unused(model: onnx.ModelProto, names: list[str], prefix: str) -> None:
    """Remove grafted nodes that no output needs, such as the sizes that extraction checks, and their constants."""
    graph = model.graph
    nodes, tensors = needed_nodes(graph, names)
    kept = set(nodes)
    for number in reversed(range(len(graph.node))):
        if number not in kept and graph.node[number].name.startswith(prefix):
            del graph.node[number]
    for number in reversed(range(len(graph.initializer))):
        name = graph.initializer[number].name
        if name.startswith(prefix) and name not in tensors:
            del graph.initializer[number]


def _describe(model: onnx.ModelProto, probe: LoadedProbe, output: str, masks: dict[str, str]) -> None:
    """Write what the output means into the model's metadata, as JSON under the output's name."""
    facts = {
        **{name: getattr(probe.record, name) for name in IDENTITY},
        "certificate": probe.record.certificate.model_dump(),
        "task": probe.task,
        "classes": [] if probe.task == "number" else probe.classes_.tolist(),
        "rows": probe.recipe.per,
        "masks": masks,
    }
    model.metadata_props.add(key=output, value=json.dumps(facts, ensure_ascii=False))


def _backend(probe: LoadedProbe, model_path: str | Path | None) -> OnnxBackend:
    """Return the run's model.

    Raises:
        InputError: ``PK-X14``, ``PK-X15``.
    """
    facts = probe.recipe.model
    kind = facts.backend.get("kind")
    if kind != "onnx":
        what = f"the run's model is of kind {kind!r}, not an ONNX model"
        hint = "in Python type: probekit.load_probe(RUN, TAP, FACTOR).attach(module)" if kind == "torch" else ""
        raise InputError(Problem("PK-X15", what, hint))
    told = {name: value for name, value in facts.backend.items() if name not in {"output", "checkpoints", "providers"}}
    # Compared where every operator is: on the CPU.
    told["providers"] = ["CPUExecutionProvider"]
    if model_path is not None:
        told["path"] = str(model_path)
    backend = OnnxBackend.model_validate(told)
    found = backend.fingerprint()
    if found != facts.fingerprint:
        what = f"{backend.path!r} is not the model of the run: fingerprint {found}, the run's is {facts.fingerprint}"
        raise InputError(Problem("PK-X14", what, "name the run's own file with --model-path, or run the spec again"))
    return backend


def _refuse_overwriting(sources: list[Path], targets: list[Path]) -> None:
    for target in targets:
        if any(target.exists() and target.samefile(source) for source in sources):
            what = f"{str(target)!r} belongs to the model itself"
            raise SpecError(Problem("PK-X17", what, "name another file with -o"))


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """Give an empty folder on the disk of ``out``, which is removed at the end.

    Raises:
        MachineError: ``PK-R13`` or ``PK-R01``, it cannot be written.
    """
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name[:50]}.", dir=out.parent))
        yield temporary
    except OSError as error:
        what = f"cannot write to {str(out.parent)!r}: {error.strerror or type(error).__name__}"
        raise MachineError(Problem("PK-R13", what, "name another file with -o")) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, out: Path, data: Path) -> bool:
    """Give the files their names, the model last, so that it never stands beside other weights than its own.

    Returns:
        whether there is a file of weights.
    """
    for file in temporary.iterdir():
        with file.open("r+b") as stream:
            os.fsync(stream.fileno())
    outside = (temporary / data.name).exists()
    if outside:
        out.unlink(missing_ok=True)
        durable.disk.replace(temporary / data.name, data)
    durable.disk.replace(temporary / out.name, out)
    durable.disk.fsync_folder(out.parent)
    return outside
