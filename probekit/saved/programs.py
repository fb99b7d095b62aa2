"""Programs of primitive steps as JSON, their arrays by name."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit import steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from probekit.components import Array
    from probekit.steps import Program, Step

STEPS: dict[str, type[Any]] = {
    step.__name__: step
    for step in (
        steps.BatchFirst, steps.Flatten, steps.Last, steps.MatMul, steps.Max, steps.Mean, steps.Positions,
        steps.Select, steps.Slice, steps.Std, steps.Take,
    )
}  # fmt: skip


class ForeignStepError(Exception):
    """A step is a plugin's own, so that its name does not tell what it does."""


def program_to_json(program: Program, keep: Callable[[Array], str]) -> list[dict[str, Any]]:
    """Return the steps as plain values.

    Args:
        program: the steps.
        keep: keeps an array and returns its name.

    Raises:
        ForeignStepError: a step is none of :mod:`probekit.steps`.
    """
    return [_step_to_json(step, keep) for step in program]


def program_from_json(program: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array]) -> Program:
    """Return the steps that :func:`program_to_json` wrote.

    Raises:
        KeyError, TypeError: it did not write them.
    """
    return tuple(_step_from_json(step, arrays) for step in program)


def program_tensors(program: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the arrays that a written program needs."""
    return [value["tensor"] for step in program for value in step.values() if isinstance(value, dict)]


def _step_to_json(step: Step, keep: Callable[[Array], str]) -> dict[str, Any]:
    name = type(step).__name__
    if STEPS.get(name) is not type(step):
        raise ForeignStepError(f"the step {type(step).__module__}.{type(step).__qualname__} is a plugin's own")
    plain: dict[str, Any] = {"step": name}
    for field in fields(step):  # type: ignore[arg-type] # every step of STEPS is a dataclass
        value = getattr(step, field.name)
        if isinstance(value, np.ndarray):
            plain[field.name] = {"tensor": keep(value)}
        else:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain


def _step_from_json(plain: Mapping[str, Any], arrays: Mapping[str, Array]) -> Step:
    given: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            given[name] = arrays[value["tensor"]]
        elif name != "step":
            given[name] = tuple(value) if isinstance(value, list) else value
    step: Step = STEPS[plain["step"]](**given)
    return step
