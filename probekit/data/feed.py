"""From a dataset's rows to the inputs that a model declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probekit.errors import InputError, Problem, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from probekit.components import Array, Examples, InputBinding, IntArray, ModelInput


def make_feed(
    signature: Sequence[ModelInput], bindings: Mapping[str, InputBinding], examples: Examples
) -> Callable[[IntArray, Mapping[str, Array]], dict[str, Array]]:
    """Return a function from rows, and what ``examples.read`` gave for them, to the model's inputs.

    Args:
        signature: the model's inputs.
        bindings: the spec's ``model.inputs``.
        examples: the opened dataset.

    Raises:
        InputError: ``PK-M22`` an input is unbound or a binding names no input. The returned function raises
            ``PK-M23`` when a dtype, rank or size does not fit.
    """
    names = [model_input.name for model_input in signature]
    unknown = [name for name in bindings if name not in names]
    if unknown:
        raise InputError(
            Problem(
                "PK-M22", f"the model has no input {unknown[0]!r}", nearest(unknown[0], names, "inputs"), "model.inputs"
            )
        )
    sources: dict[str, str] = {}
    unbound: list[str] = []
    for name in names:
        binding = bindings.get(name)
        if binding is not None:
            if binding.column is not None:
                sources[name] = binding.column
        elif name in examples.input_names or name in examples.columns:
            sources[name] = name
        elif len(names) == 1 and len(examples.input_names) == 1:
            sources[name] = examples.input_names[0]
        else:
            unbound.append(name)
    if unbound:
        known = listed([*examples.input_names, *examples.columns], 9)
        what = f"the model's inputs {listed(unbound)} are fed nothing; the dataset has {known}"
        raise InputError(Problem("PK-M22", what, f"type: inputs: {{{unbound[0]}: {{column: ...}}}}", "model.inputs"))
    absent = [
        source for source in sources.values() if source not in examples.input_names and source not in examples.columns
    ]
    if absent:
        known_names = [*examples.input_names, *examples.columns]
        raise InputError(
            Problem("PK-L16", f"no column {absent[0]!r}", nearest(absent[0], known_names, "columns"), "model.inputs")
        )

    def feed(rows: IntArray, inputs: Mapping[str, Array]) -> dict[str, Array]:
        made = {}
        for declared in signature:
            binding, source = bindings.get(declared.name), sources.get(declared.name)
            if source is not None:
                value = inputs[source] if source in inputs else examples.columns[source][rows]
            else:
                assert binding is not None  # noqa: S101 - every input has a source or a binding
                value = _constant(binding, len(rows))
            dtype = (binding.dtype if binding is not None else None) or declared.dtype
            made[declared.name] = _fitted(declared, value, dtype, is_constant=source is None)
        return made

    return feed


def _constant(binding: InputBinding, batch: int) -> Array:
    if binding.zeros is not None:
        return np.zeros([batch if size == "N" else size for size in binding.zeros])
    return np.asarray(binding.value)


def _fitted(declared: ModelInput, value: Array, dtype: str | None, *, is_constant: bool) -> Array:
    field = f"model.inputs.{declared.name}"
    if dtype is not None and value.dtype != np.dtype(dtype):
        if not is_constant and not np.can_cast(value.dtype, dtype, "safe"):
            what = f"the model wants {dtype}, the data is {value.dtype}; values would change"
            raise InputError(Problem("PK-M23", what, "convert the data, or set dtype: to say so", field))
        value = value.astype(dtype)
    if declared.shape is not None:
        fits = len(declared.shape) == value.ndim and all(
            size in (None, got) or axis == 0
            for axis, (size, got) in enumerate(zip(declared.shape, value.shape, strict=True))
        )
        if not fits:
            want = ", ".join("any" if size is None else str(size) for size in declared.shape)
            raise InputError(
                Problem("PK-M23", f"the model wants shape ({want}), the data is {value.shape}", field=field)
            )
    return np.ascontiguousarray(value)
