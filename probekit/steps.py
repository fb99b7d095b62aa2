"""Programs of primitive steps that turn an activation into features, with their one meaning in NumPy.

A data-free reduction compiles to such a program. A backend may run the steps inside its own runtime; the
features must then be those of :func:`run_program`, which turns the activation into float32 first.

Axes count from 0, the batch axis; every step keeps the batch axis first. A mask is a column of the batch, shape (batch,
sizes of the masked axes): where it is 0, there is no position.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Masks = Mapping[str, Array]
"""The batch's masks by name."""
Shape = tuple[int | None, ...]
"""Sizes without the batch axis; None where a size changes from batch to batch."""

NO_MASKS: Masks = MappingProxyType({})


class Step(Protocol):
    """One primitive step: a frozen dataclass, whose fields say all that it does."""

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:
        """Return the step's result for an activation of shape (batch, ...)."""

    def shape(self, shape: Shape) -> Shape:
        """Return the result's shape for an activation of ``shape``; both leave the batch axis out."""


Program = tuple[Step, ...]


def _without_axes(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(size for axis, size in enumerate(shape, start=1) if axis not in axes)


def spread_mask(mask: Array, axes: tuple[int, ...], rank: int) -> Array:
    """Return a mask as booleans that broadcast against an activation.

    Args:
        mask: shape (batch, sizes of ``axes``).
        axes: ascending, the masked axes of the activation.
        rank: the activation's number of axes.
    """
    sizes = iter(mask.shape[1:])
    spread = [next(sizes) if axis in axes else 1 for axis in range(1, rank)]
    return np.asarray(mask != 0).reshape(len(mask), *spread)


@dataclass(frozen=True)
class BatchFirst:
    """Moves the batch axis to the front: always the first step of a program, for a tensor like (time, batch, ...)."""

    axis: int

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:  # noqa: ARG002 - as in the protocol
        """(7, batch, 4) from axis 1 gives (batch, 7, 4)."""
        return np.moveaxis(activation, self.axis, 0)

    def shape(self, shape: Shape) -> Shape:
        """Leave it as it is: the batch axis is not in it."""
        return shape


@dataclass(frozen=True)
class Mean:
    """The mean over ``axes``, of the positions that ``mask`` keeps."""

    axes: tuple[int, ...]
    mask: str | None = None

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:
        """(batch, 3, 4, 5) over (2, 3) gives (batch, 3)."""
        if self.mask is None:
            return np.asarray(activation.mean(axis=self.axes, dtype=np.float32))
        kept = spread_mask(masks[self.mask], self.axes, activation.ndim)
        total = np.where(kept, activation, 0).sum(axis=self.axes, dtype=np.float32)
        return np.asarray(total / kept.sum(axis=self.axes, dtype=np.float32))

    def shape(self, shape: Shape) -> Shape:
        """Drop the axes."""
        return _without_axes(shape, self.axes)


@dataclass(frozen=True)
class Max:
    """The largest value over ``axes``, of the positions that ``mask`` keeps."""

    axes: tuple[int, ...]
    mask: str | None = None

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:
        """(batch, 3, 4, 5) over (2, 3) gives (batch, 3)."""
        if self.mask is not None:
            activation = np.where(spread_mask(masks[self.mask], self.axes, activation.ndim), activation, -np.inf)
        return np.asarray(activation.max(axis=self.axes))

    def shape(self, shape: Shape) -> Shape:
        """Drop the axes."""
        return _without_axes(shape, self.axes)


@dataclass(frozen=True)
class Std:
    """The standard deviation over ``axes``, of the positions that ``mask`` keeps, divided by n (not n - 1)."""

    axes: tuple[int, ...]
    mask: str | None = None

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:
        """(batch, 3, 4, 5) over (2, 3) gives (batch, 3)."""
        mean = Mean(self.axes, self.mask).apply(activation, masks)
        around = np.square(activation - np.expand_dims(mean, self.axes))
        return np.sqrt(Mean(self.axes, self.mask).apply(around, masks))

    def shape(self, shape: Shape) -> Shape:
        """Drop the axes."""
        return _without_axes(shape, self.axes)


@dataclass(frozen=True)
class Select:
    """One position of one axis; negative positions count from the end."""

    axis: int
    position: int

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:  # noqa: ARG002 - as in the protocol
        """(batch, 7, 4) at axis 1 gives (batch, 4)."""
        return np.asarray(np.take(activation, self.position, axis=self.axis))

    def shape(self, shape: Shape) -> Shape:
        """Drop the axis."""
        return _without_axes(shape, (self.axis,))


@dataclass(frozen=True)
class Last:
    """The last position of one axis that ``mask`` keeps; the last of all in an example without any."""

    axis: int
    mask: str

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:
        """(batch, 7, 4) at axis 1 gives (batch, 4)."""
        kept = masks[self.mask] != 0
        last = kept.shape[1] - 1 - np.argmax(kept[:, ::-1], axis=1)
        places = last.reshape(-1, *[1] * (activation.ndim - 1))
        return np.asarray(np.take_along_axis(activation, places, axis=self.axis)).squeeze(self.axis)

    def shape(self, shape: Shape) -> Shape:
        """Drop the axis."""
        return _without_axes(shape, (self.axis,))


@dataclass(frozen=True)
class Positions:
    """Every position that ``mask`` keeps becomes a row of its own: the first axis then counts positions.

    Rows stand in the order of the examples, then of the positions, the last of ``axes`` fastest.
    """

    axes: tuple[int, ...]
    mask: str | None = None

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:
        """(batch, 7, 4) at axis 1 gives (positions of all examples, 4)."""
        front = np.moveaxis(activation, self.axes, range(1, len(self.axes) + 1))
        rows = front.reshape(math.prod(front.shape[: len(self.axes) + 1]), *front.shape[len(self.axes) + 1 :])
        return rows if self.mask is None else rows[(masks[self.mask] != 0).reshape(-1)]

    def shape(self, shape: Shape) -> Shape:
        """Drop the axes."""
        return _without_axes(shape, self.axes)


@dataclass(frozen=True)
class Slice:
    """The positions from ``start`` up to ``stop`` of one axis, as Python slices count them."""

    axis: int
    start: int
    stop: int

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:  # noqa: ARG002 - as in the protocol
        """(batch, 7, 4) at axis 1 from 1 to 3 gives (batch, 2, 4)."""
        return activation[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    def shape(self, shape: Shape) -> Shape:
        """Shorten the axis."""
        size = shape[self.axis - 1]
        kept = None if size is None else len(range(*slice(self.start, self.stop).indices(size)))
        return (*shape[: self.axis - 1], kept, *shape[self.axis :])


@dataclass(frozen=True)
class Flatten:
    """All axes but the batch axis into one, in row-major order."""

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:  # noqa: ARG002 - as in the protocol
        """(batch, 3, 4) gives (batch, 12)."""
        return activation.reshape(activation.shape[0], math.prod(activation.shape[1:]))

    def shape(self, shape: Shape) -> Shape:
        """One axis."""
        sizes = [size for size in shape if size is not None]
        return (math.prod(sizes) if len(sizes) == len(shape) else None,)


@dataclass(frozen=True, eq=False)
class Take:
    """Fixed columns of (batch, features).

    Args:
        indices: shape (taken,), each in [0, features).
    """

    indices: npt.NDArray[np.int64]

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:  # noqa: ARG002 - as in the protocol
        """(batch, features) gives (batch, taken)."""
        return np.asarray(np.take(activation, self.indices, axis=1))

    def shape(self, shape: Shape) -> Shape:  # noqa: ARG002 - as in the protocol
        """One axis, of the indices' length."""
        return (len(self.indices),)


@dataclass(frozen=True, eq=False)
class MatMul:
    """The product with a fixed matrix.

    Args:
        matrix: shape (features, projected), float32.
    """

    matrix: FloatArray

    def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:  # noqa: ARG002 - as in the protocol
        """(batch, features) gives (batch, projected)."""
        return np.asarray(activation.astype(np.float32, copy=False) @ self.matrix)

    def shape(self, shape: Shape) -> Shape:  # noqa: ARG002 - as in the protocol
        """One axis, of the matrix's width."""
        return (int(self.matrix.shape[1]),)


def run_program(program: Program, activation: Array, masks: Masks = NO_MASKS) -> FloatArray:
    """Return the features of an activation, the reference meaning of ``program``.

    Args:
        program: its last step must leave two axes.
        activation: shape (batch, ...), any real or boolean dtype; it is turned into float32 first.
        masks: those that the program names.

    Returns:
        shape (batch, features), or (positions, features) after a step :class:`Positions`; float32, C-contiguous.

    >>> run_program((Mean((2, 3)),), np.ones((5, 3, 4, 4))).shape
    (5, 3)
    """
    # Extraction reports what becomes infinite or NaN.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        activation = activation.astype(np.float32, copy=False)
        for step in program:
            activation = step.apply(activation, masks)
        return np.ascontiguousarray(activation, dtype=np.float32)


def program_shape(program: Program, shape: Shape) -> Shape:
    """Return the shape of a program's result without the batch axis."""
    for step in program:
        shape = step.shape(shape)
    return shape


def program_masks(program: Program) -> tuple[str, ...]:
    """Return the names of the masks that a program needs, sorted."""
    return tuple(sorted({mask for step in program if (mask := getattr(step, "mask", None)) is not None}))


def program_digest(program: Program) -> str:
    """Return what identifies a program: equal for equal steps with equal fields.

    Raises:
        TypeError: a step is no dataclass, or holds arrays inside another value, so that nobody can tell what it does.
    """
    digest = hashlib.blake2b(digest_size=16)
    for step in program:
        digest.update(f"{type(step).__module__}.{type(step).__qualname__}(".encode())
        for field in fields(step):  # type: ignore[arg-type]
            value = getattr(step, field.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{field.name}={value.dtype.str}{value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
            elif "array(" in repr(value):
                raise TypeError(f"the field {field.name!r} of {type(step).__name__} holds arrays inside {type(value)}")
            else:
                digest.update(f"{field.name}={value!r},".encode())
        digest.update(b")")
    return digest.hexdigest()
