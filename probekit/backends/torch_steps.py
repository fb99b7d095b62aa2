"""The steps of :mod:`probekit.steps` in PyTorch.

The features are those of :func:`probekit.steps.run_program`. Steps that only move values run in the tensor's own dtype,
those that compute run in float32, which is the same as float32 first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from probekit.steps import (
    BatchFirst,
    Flatten,
    Last,
    MatMul,
    Max,
    Mean,
    Positions,
    Select,
    Slice,
    Std,
    Take,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from probekit.components import Array
    from probekit.steps import Masks, Step


class BatchMasks:
    """The masks of one batch on the model's device, and what steps make of them, each computed once.

    Args:
        masks: {name: (batch, sizes of the masked axes)}.
        device: the tensors' own.
    """

    def __init__(self, masks: Masks, device: torch.device) -> None:
        self.arrays, self.device = masks, device
        self._made: dict[tuple[Any, ...], torch.Tensor] = {}
        self._parts: dict[tuple[int, int], BatchMasks] = {}

    def spread(self, name: str, axes: tuple[int, ...], rank: int) -> torch.Tensor:
        """Return booleans that broadcast against an activation of ``rank`` axes."""

        def make() -> Array:
            mask = self.arrays[name] != 0
            sizes = iter(mask.shape[1:])
            broad: Array = mask.reshape(len(mask), *(next(sizes) if axis in axes else 1 for axis in range(1, rank)))
            return broad

        return self._once(("spread", name, axes, rank), make)

    def count(self, name: str, axes: tuple[int, ...], rank: int) -> torch.Tensor:
        """Return how many positions are kept, a size of 1 for each of ``axes``, float32."""
        key = ("count", name, axes, rank)
        if key not in self._made:
            kept = self.spread(name, axes, rank).float()
            self._made[key] = kept.sum(axes, keepdim=True) if axes else kept
        return self._made[key]

    def rows(self, name: str) -> torch.Tensor:
        """Return, for the positions of all examples in a row, whether each is kept."""
        return self._once(("rows", name), lambda: (self.arrays[name] != 0).reshape(-1))

    def last(self, name: str) -> torch.Tensor:
        """Return each example's last position that is kept, the last of all where none is."""

        def make() -> Array:
            kept = self.arrays[name] != 0
            return np.asarray(kept.shape[1] - 1 - np.argmax(kept[:, ::-1], axis=1), dtype=np.int64)

        return self._once(("last", name), make)

    def part(self, start: int, stop: int) -> BatchMasks:
        """Return the masks of the examples from ``start`` up to ``stop``."""
        if (start, stop) not in self._parts:
            part = {name: array[start:stop] for name, array in self.arrays.items()}
            self._parts[start, stop] = BatchMasks(part, self.device)
        return self._parts[start, stop]

    def _once(self, key: tuple[Any, ...], make: Callable[[], Array]) -> torch.Tensor:
        if key not in self._made:
            self._made[key] = torch.from_numpy(np.ascontiguousarray(make())).to(self.device)
        return self._made[key]


class Value:
    """What a step takes, and what several steps make of it, each computed once."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self._single: torch.Tensor | None = None
        self._means: dict[tuple[Any, ...], torch.Tensor] = {}

    @property
    def single(self) -> torch.Tensor:
        """The values in float32."""
        if self._single is None:
            self._single = self.tensor.float()
        return self._single

    def mean(self, axes: tuple[int, ...], mask: str | None, masks: BatchMasks) -> torch.Tensor:
        """Return the mean, a size of 1 for each of ``axes``."""
        if (axes, mask) not in self._means:
            self._means[axes, mask] = _mean(self.single, axes, mask, masks)
        return self._means[axes, mask]


Kernel: TypeAlias = "Callable[[Value, BatchMasks], torch.Tensor]"


def _mean(tensor: torch.Tensor, axes: tuple[int, ...], mask: str | None, masks: BatchMasks) -> torch.Tensor:
    # torch takes no axes for all of them, NumPy for none.
    if mask is None:
        return tensor.mean(axes, keepdim=True) if axes else tensor
    # No product with the mask: a position that is left out may hold NaN.
    kept = tensor.where(masks.spread(mask, axes, tensor.ndim), 0.0)
    return (kept.sum(axes, keepdim=True) if axes else kept) / masks.count(mask, axes, tensor.ndim)


def _drop(tensor: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    return tensor.squeeze(axes) if axes else tensor


def _max(step: Max, value: Value, masks: BatchMasks) -> torch.Tensor:
    tensor = value.single
    if step.mask is not None:
        tensor = tensor.where(masks.spread(step.mask, step.axes, tensor.ndim), -torch.inf)
    return tensor.amax(step.axes) if step.axes else tensor


def _std(step: Std, value: Value, masks: BatchMasks) -> torch.Tensor:
    around = value.single - value.mean(step.axes, step.mask, masks)
    return _drop(_mean(around.square_(), step.axes, step.mask, masks).sqrt(), step.axes)


def _last(step: Last, value: Value, masks: BatchMasks) -> torch.Tensor:
    rows = torch.arange(len(value.tensor), device=value.tensor.device)
    return value.tensor.movedim(step.axis, 1)[rows, masks.last(step.mask)]


def _positions(step: Positions, value: Value, masks: BatchMasks) -> torch.Tensor:
    tensor, count = value.tensor, len(step.axes)
    front = tensor.movedim(step.axes, tuple(range(1, count + 1)))
    rows = front.flatten(0, count)
    return rows if step.mask is None else rows[masks.rows(step.mask)]


def _flatten(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(len(tensor), int(np.prod(tensor.shape[1:])))


class _TakeFlat:
    """Fixed columns of a flattened tensor, read where they lie: the rest is neither copied nor touched."""

    def __init__(self, step: Take) -> None:
        self._indices = step.indices
        self._offsets: dict[tuple[Any, ...], torch.Tensor] = {}

    def __call__(self, value: Value, _: BatchMasks) -> torch.Tensor:
        tensor = value.tensor
        if not tensor.numel():
            return _flatten(tensor).index_select(1, torch.tensor(self._indices).to(tensor.device))
        key = (tensor.shape[1:], tensor.stride()[1:], tensor.device)
        if key not in self._offsets:
            # Raises for an index that the tensor does not have: what lies behind it would be read.
            places = np.unravel_index(self._indices, tuple(tensor.shape[1:]))
            offsets = sum(
                (place.astype(np.int64) * stride for place, stride in zip(places, tensor.stride()[1:], strict=True)),
                np.zeros(len(self._indices), np.int64),
            )
            self._offsets = {key: torch.from_numpy(offsets).to(tensor.device)}
        axes = zip(tensor.shape[1:], tensor.stride()[1:], strict=True)
        extent = 1 + sum((size - 1) * stride for size, stride in axes)
        stored = tensor.as_strided((len(tensor), extent), (tensor.stride(0), 1))
        return stored.index_select(1, self._offsets[key])


class _MatMul:
    """The product with a matrix that is kept on the device."""

    def __init__(self, step: MatMul) -> None:
        matrix = np.asarray(step.matrix, dtype=np.float32)
        # It may be large; torch copies only what it could not write to.
        self._host = torch.from_numpy(matrix if matrix.flags.writeable else matrix.copy())
        self._matrix = self._host

    def __call__(self, value: Value, _: BatchMasks) -> torch.Tensor:
        if self._matrix.device != value.tensor.device:
            self._matrix = self._host.to(value.tensor.device)
        return value.single @ self._matrix


_KERNELS: dict[type[Any], Callable[[Any], Kernel]] = {
    BatchFirst: lambda step: lambda value, _: value.tensor.movedim(step.axis, 0),
    Mean: lambda step: lambda value, masks: _drop(value.mean(step.axes, step.mask, masks), step.axes),
    Max: lambda step: lambda value, masks: _max(step, value, masks),
    Std: lambda step: lambda value, masks: _std(step, value, masks),
    Select: lambda step: lambda value, _: value.tensor.select(step.axis, step.position),
    Last: lambda step: lambda value, masks: _last(step, value, masks),
    Positions: lambda step: lambda value, masks: _positions(step, value, masks),
    Slice: lambda step: lambda value, _: value.tensor[(slice(None),) * step.axis + (slice(step.start, step.stop),)],
    Flatten: lambda _: lambda value, _: _flatten(value.tensor),
    Take: _TakeFlat,
    MatMul: _MatMul,
}


def kernel(step: Step) -> Kernel | None:
    """Return what runs a step; None for a plugin's own, even where its class derives from one of these."""
    make = _KERNELS.get(type(step))
    return make(step) if make is not None else None
