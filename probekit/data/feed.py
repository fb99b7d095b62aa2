"""From a dataset's rows to the inputs that a model declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probekit.errors import InputError, Problem, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from probekit.components import Array, Examples, InputBinding, IntArray, ModelInput

_DTYPES = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


def input_sources(
    signature: Sequence[ModelInput], bindings: Mapping[str, InputBinding], examples: Examples
) -> dict[str, str]:
    """Return which of the dataset's inputs or columns each of the model's inputs is fed; constants have none.

    Raises:
        InputError: ``PK-M22`` an input is unbound or a binding names no input, ``PK-L16`` there is no such column.
    """
    names = [model_input.name for model_input in signature]
    unknown = [name for name in bindings if name not in names]
    if unknown:
        raise InputError(
            Problem(
                "PK-M22", f"the model has no input {unknown[0]!r}", nearest(unknown[0], names, "inputs"), "model.inputs"
            )
        )
    for name, bound in bindings.items():
        _check_dtype(name, bound)
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
    return sources


def make_feed(
    signature: Sequence[ModelInput], bindings: Mapping[str, InputBinding], examples: Examples
) -> Callable[[IntArray, Mapping[str, Array]], dict[str, Array]]:
    """Return a function from rows, and what ``examples.read`` gave for them, to the model's inputs.

    Args:
        signature: the model's inputs.
        bindings: the spec's ``model.inputs``.
        examples: the opened dataset.

    Raises:
        InputError: as :func:`input_sources`. The returned function raises ``PK-M23`` when a dtype, rank or size does
            not fit.
    """
    sources = input_sources(signature, bindings, examples)

    def feed(rows: IntArray, inputs: Mapping[str, Array]) -> dict[str, Array]:
        made = {}
        for declared in signature:
            binding, source = bindings.get(declared.name), sources.get(declared.name)
            if source is not None:
                value = inputs[source] if source in inputs else examples.columns[source][rows]
                value = _cast(declared, value, binding.dtype if binding is not None else None)
            else:
                assert binding is not None  # noqa: S101 - every input has a source or a binding
                value = _constant(declared, binding, len(rows))
            made[declared.name] = _fitted(declared, value)
        return made

    return feed


def _check_dtype(name: str, binding: InputBinding) -> None:
    try:
        np.dtype(binding.dtype)
    except (TypeError, ValueError, SyntaxError):
        what = f"{binding.dtype!r} is no dtype of NumPy"
        raise InputError(
            Problem("PK-M23", what, nearest(str(binding.dtype), _DTYPES, "such as"), f"model.inputs.{name}.dtype")
        ) from None


def _constant(declared: ModelInput, binding: InputBinding, batch: int) -> Array:
    dtype = binding.dtype or declared.dtype
    if binding.zeros is not None:
        return np.zeros([batch if size == "N" else size for size in binding.zeros], dtype or np.float64)
    value = np.asarray(binding.value)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = value if dtype is None else value.astype(dtype)
    if not (np.isfinite(cast).all() if cast.dtype.kind == "f" else np.array_equal(cast, value)):
        what = f"the model wants {dtype}, the value is {binding.value}"
        raise InputError(Problem("PK-M23", what, field=f"model.inputs.{declared.name}.value"))
    return cast


def _cast(declared: ModelInput, value: Array, said: str | None) -> Array:
    """Return the data in the dtype that the spec says, else in the model's where no value changes by that."""
    field, dtype = f"model.inputs.{declared.name}", said or declared.dtype
    if dtype is None or value.dtype == np.dtype(dtype):
        return value
    if said is None and not (np.can_cast(value.dtype, dtype, "safe") and _holds(dtype, value)):
        what = f"the model wants {dtype}, the data is {value.dtype}; values would change"
        raise InputError(Problem("PK-M23", what, "convert the data, or set dtype: to say so", field))
    try:
        return value.astype(dtype)
    except (TypeError, ValueError) as error:
        raise InputError(Problem("PK-M23", f"the data is not {dtype} everywhere: {error}", field=field)) from None


def _holds(dtype: str, value: Array) -> bool:
    """Return whether a float dtype holds these integers; NumPy calls int64 to float64 safe."""
    if value.dtype.kind not in "iu" or np.dtype(dtype).kind != "f":
        return True
    with np.errstate(invalid="ignore"):
        return np.array_equal(value.astype(dtype).astype(value.dtype), value)


def _fitted(declared: ModelInput, value: Array) -> Array:
    if declared.shape is not None:
        fits = len(declared.shape) == value.ndim and all(
            size in (None, got) or axis == 0
            for axis, (size, got) in enumerate(zip(declared.shape, value.shape, strict=True))
        )
        if not fits:
            want = ", ".join("any" if size is None else str(size) for size in declared.shape)
            raise InputError(
                Problem(
                    "PK-M23",
                    f"the model wants shape ({want}), the data is {value.shape}",
                    field=f"model.inputs.{declared.name}",
                )
            )
    return np.asarray(value, order="C")  # ascontiguousarray would give a scalar an axis
