"""Whether an exported model gives the probabilities of the plain model, the program in NumPy and the saved probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.backends.onnx_session import open_session, run_session, session_options
from probekit.components import Examples
from probekit.errors import InputError, Problem
from probekit.features.runner import Runner
from probekit.steps import program_masks, run_program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from probekit.backends.onnx import OnnxBackend
    from probekit.components import Array, Feed
    from probekit.saved.loaded import LoadedProbe
    from probekit.steps import Masks

TOLERANCE = 1e-5
"""Largest difference of two probabilities; of numbers, as a share of the largest one above 1."""
_EXAMPLES = 4


def largest_difference(
    probe: LoadedProbe, backend: OnnxBackend, path: Path, output: str, masks: Mapping[str, str], *, float64: bool
) -> tuple[float, int]:
    """Run an exported model and the run's own on made examples; return the largest difference and the rows compared.

    Floats are drawn from [0, 1), integers are 0 or 1, masks keep the first position and others at random.

    Args:
        probe: the saved probe.
        backend: the run's model.
        path: the exported model.
        output: the probe's output of it.
        masks: its input of each mask that the plain model is not fed.
        float64: whether it computes W x + b in float64.

    Raises:
        InputError: ``PK-X16``, the difference is more than ``TOLERANCE``; what running a model raises.
    """
    feed, made_masks = made_examples(probe, backend)
    wanted = probe.wanted()
    with backend.open([wanted.tap.name]) as run:
        activation = run(feed)[wanted.tap.name]
    features = run_program(wanted.program, activation, made_masks)
    finite = np.isfinite(features).all(axis=1)
    if not finite.any():
        what = f"tap {wanted.tap.name!r} is NaN or infinite on all made examples, so that nothing can be compared"
        raise InputError(Problem("PK-X16", what, "export a probe of another tap"))
    expected = _expected(probe, features[finite])
    session = open_session(path.read_bytes(), ["CPUExecutionProvider"], session_options("all"), path.parent)
    given = {**feed, **{name: made_masks[mask] for mask, name in masks.items()}}
    found = run_session(session, [output], given)[output]
    if found.shape != (len(features), expected.shape[1]):
        what = f"{output!r} has shape {found.shape}, expected {(len(features), expected.shape[1])}"
        raise InputError(Problem("PK-X16", what, "report this with the model"))
    scale = max(1.0, float(np.abs(expected).max())) if probe.task == "number" else 1.0
    difference = float(np.abs(found[finite] - expected).max()) / scale
    if not difference <= TOLERANCE:
        what = f"the exported model's {output!r} differs by {difference:.1e} from the saved probe, allowed: {TOLERANCE}"
        hint = "export a probe of a larger penalty, or of another tap" if float64 else "add --float64"
        raise InputError(Problem("PK-X16", what, hint))
    return difference, int(finite.sum())


def made_examples(probe: LoadedProbe, backend: OnnxBackend) -> tuple[Feed, Masks]:
    """Return a feed of the model and the masks of its rows, always the same ones."""
    rng = np.random.default_rng(0)
    program = probe.wanted().program
    masks = program_masks(program)
    inputs: dict[str, Array] = {}
    for one in probe.recipe.model.inputs.values():
        if one.source is not None and one.source not in inputs:
            inputs[one.source] = _random(rng, one.shape[1:], one.dtype, keep_first=one.source in masks)
    columns = {
        name: _random(rng, _masked_sizes(probe, step), "bool", keep_first=True)
        for step in program
        if (name := getattr(step, "mask", None)) is not None and name not in inputs
    }
    runner = Runner(backend, Examples(columns, inputs))
    batch = runner.read(np.arange(min(_EXAMPLES, runner.fixed_batch or _EXAMPLES)), masks)
    return batch.feed, batch.masks


def _masked_sizes(probe: LoadedProbe, step: Any) -> tuple[int, ...]:
    """Return the sizes of the axes that a step masks; the steps before it move or drop none but the batch's."""
    shape = probe.wanted().tap.shape or ()
    for before in probe.wanted().program:
        if before is step:
            break
        shape = before.shape(shape)
    axes = step.axes if hasattr(step, "axes") else (step.axis,)
    return tuple(shape[axis - 1] or 1 for axis in axes)


def _random(rng: np.random.Generator, sizes: Sequence[int], dtype: str, *, keep_first: bool) -> Array:
    kind = np.dtype(dtype)
    shape = (_EXAMPLES, *sizes)
    made = (rng.random(shape) if kind.kind == "f" else rng.integers(0, 2, shape)).astype(kind)
    if keep_first:
        made.reshape(_EXAMPLES, -1)[:, 0] = 1
    return made


def _expected(probe: LoadedProbe, features: Array) -> Array:
    return probe.predict(features)[:, None] if probe.task == "number" else probe.predict_proba(features)
