"""Programs of primitive steps that turn an activation into features, with their one meaning in NumPy.

A data-free reduction compiles to such a program. A backend may run the steps inside its own runtime; the
features must then be those of :func:`run_program`.

Axes count from 0, the batch axis; every step keeps the batch axis first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


class Step(Protocol):
    """One primitive step."""

    def apply(self, activation: Array) -> Array:
        """Return the step's result for an activation of shape (batch, ...)."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the result's shape for an activation of ``shape``; both leave the batch axis out."""


Program = tuple[Step, ...]


def _without_axes(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for axis, size in enumerate(shape, start=1) if axis not in axes)


@dataclass(frozen=True)
class Mean:
    """The mean over ``axes``."""

    axes: tuple[int, ...]

    def apply(self, activation: Array) -> Array:
        """(batch, 3, 4, 5) over (2, 3) gives (batch, 3)."""
        return np.asarray(activation.mean(axis=self.axes, dtype=np.float32))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Drop the axes."""
        return _without_axes(shape, self.axes)


@dataclass(frozen=True)
class Max:
    """The largest value over ``axes``."""

    axes: tuple[int, ...]

    def apply(self, activation: Array) -> Array:
        """(batch, 3, 4, 5) over (2, 3) gives (batch, 3)."""
        return np.asarray(activation.max(axis=self.axes))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Drop the axes."""
        return _without_axes(shape, self.axes)


@dataclass(frozen=True)
class Std:
    """The standard deviation over ``axes``, divided by n (not n - 1)."""

    axes: tuple[int, ...]

    def apply(self, activation: Array) -> Array:
        """(batch, 3, 4, 5) over (2, 3) gives (batch, 3)."""
        return np.asarray(activation.std(axis=self.axes, dtype=np.float32))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Drop the axes."""
        return _without_axes(shape, self.axes)


@dataclass(frozen=True)
class Select:
    """One position of one axis; negative positions count from the end."""

    axis: int
    position: int

    def apply(self, activation: Array) -> Array:
        """(batch, 7, 4) at axis 1 gives (batch, 4)."""
        return np.asarray(np.take(activation, self.position, axis=self.axis))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Drop the axis."""
        return _without_axes(shape, (self.axis,))


@dataclass(frozen=True)
class Slice:
    """The positions from ``start`` up to ``stop`` of one axis, as Python slices count them."""

    axis: int
    start: int
    stop: int

    def apply(self, activation: Array) -> Array:
        """(batch, 7, 4) at axis 1 from 1 to 3 gives (batch, 2, 4)."""
        return activation[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shorten the axis."""
        kept = len(range(*slice(self.start, self.stop).indices(shape[self.axis - 1])))
        return (*shape[: self.axis - 1], kept, *shape[self.axis :])


@dataclass(frozen=True)
class Flatten:
    """All axes but the batch axis into one, in row-major order."""

    def apply(self, activation: Array) -> Array:
        """(batch, 3, 4) gives (batch, 12)."""
        return activation.reshape(activation.shape[0], math.prod(activation.shape[1:]))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One axis."""
        return (math.prod(shape),)


@dataclass(frozen=True, eq=False)
class Take:
    """Fixed columns of (batch, features).

    Args:
        indices: shape (taken,), each in [0, features).
    """

    indices: npt.NDArray[np.int64]

    def apply(self, activation: Array) -> Array:
        """(batch, features) gives (batch, taken)."""
        return np.asarray(np.take(activation, self.indices, axis=1))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ARG002 - as in the protocol
        """One axis, of the indices' length."""
        return (len(self.indices),)


@dataclass(frozen=True, eq=False)
class MatMul:
    """The product with a fixed matrix.

    Args:
        matrix: shape (features, projected), float32.
    """

    matrix: FloatArray

    def apply(self, activation: Array) -> Array:
        """(batch, features) gives (batch, projected)."""
        return np.asarray(activation.astype(np.float32, copy=False) @ self.matrix)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ARG002 - as in the protocol
        """One axis, of the matrix's width."""
        return (int(self.matrix.shape[1]),)


def run_program(program: Program, activation: Array) -> FloatArray:
    """Return the features of an activation, the reference meaning of ``program``.

    Args:
        program: its last step must leave two axes.
        activation: shape (batch, ...), any real or boolean dtype; half precision is widened first.

    Returns:
        shape (batch, features), float32, C-contiguous.

    >>> run_program((Mean((2, 3)),), np.ones((5, 3, 4, 4))).shape
    (5, 3)
    """
    if activation.dtype in (np.float16, np.bool_):
        activation = activation.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # extraction reports what becomes infinite or NaN
        for step in program:
            activation = step.apply(activation)
        return np.ascontiguousarray(activation, dtype=np.float32)


def program_shape(program: Program, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a program's result without the batch axis."""
    for step in program:
        shape = step.shape(shape)
    return shape
