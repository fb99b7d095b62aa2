"""The built-in data-free reductions: ``flatten``, ``pool``, ``select``, ``subset`` and ``project``.

The paper's section 3.4 suggests a random subset of the features (always the same ones), a projection, and pooling over
height and width.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from probekit.components import DoesNotApplyError, Reduction, Tap
from probekit.hookspecs import hookimpl
from probekit.sections import fault, runtime_option
from probekit.steps import Flatten, Last, MatMul, Max, Mean, Program, Select, Std, Step, Take

_POSITIONS = "DHWT"
_MASK = "the dataset's input or column, (examples, positions), that is 0 where there is no position"


def known_shape(tap: Tap) -> tuple[int, ...]:
    """Return a tap's shape without the batch axis.

    Raises:
        DoesNotApplyError: an axis has no known size.
    """
    if tap.shape is None or any(size is None for size in tap.shape):
        raise DoesNotApplyError(f"the shape of {tap.name!r} is not known")
    return tuple(size for size in tap.shape if size is not None)


def position_axes(tap: Tap) -> tuple[int, ...]:
    """Return the axes of depth, height, width and time, counted with the batch axis, which is the first.

    Raises:
        DoesNotApplyError: it is a vector, or its layout is not known.
    """
    if tap.shape is None:
        raise DoesNotApplyError(f"the shape of {tap.name!r} is not known")
    if len(tap.shape) <= 1:
        raise DoesNotApplyError(f"{tap.name!r} is a vector of {math.prod(known_shape(tap))}")
    if len(tap.layout) != len(tap.shape) + 1:
        what = f"the axes of {tap.name!r}, ({', '.join(['N', *('?' if s is None else str(s) for s in tap.shape)])}), "
        raise DoesNotApplyError(f"{what}are not known")
    return tuple(axis for axis, letter in enumerate(tap.layout) if letter in _POSITIONS)


class FlattenReduction(Reduction):
    """All axes into one: every value is a feature."""

    kind: Literal["flatten"] = "flatten"

    def program(self, tap: Tap) -> Program:
        """(batch, 3, 4) to (batch, 12)."""
        known_shape(tap)
        return (Flatten(),)


class PoolReduction(Reduction):
    """One number per channel: the mean, maximum or standard deviation over space or time (paper, section 4.1)."""

    kind: Literal["pool"] = "pool"
    how: Literal["mean", "max", "std"] = Field("mean", description="what is taken over the positions")
    mask: str | None = Field(None, description=f"only positions that a mask keeps count: {_MASK}")

    def program(self, tap: Tap) -> Program:
        """(batch, channels, height, width) to (batch, channels)."""
        steps: dict[str, type[Mean | Max | Std]] = {"mean": Mean, "max": Max, "std": Std}
        return (steps[self.how](position_axes(tap), self.mask), Flatten())


class SelectReduction(Reduction):
    """The channels of one position, such as a transformer's first token."""

    kind: Literal["select"] = "select"
    position: int | list[int] | Literal["last"] = Field(
        0,
        description="number of the position from 0, negative from the end; for images [row, column]; 'last' is the last"
        " one that the mask keeps",
    )
    mask: str | None = Field(None, description=f"what position 'last' asks: {_MASK}")

    @model_validator(mode="after")
    def _mask_with_last(self) -> SelectReduction:
        if (self.position == "last") != (self.mask is not None):
            raise fault("PK-Y29", "position 'last' and 'mask' go together", "give both, or position: -1 without a mask")
        return self

    def program(self, tap: Tap) -> Program:
        """(batch, time, channels) to (batch, channels)."""
        axes = position_axes(tap)
        if self.mask is not None or self.position == "last":
            if len(axes) != 1:
                raise DoesNotApplyError(f"{tap.name!r} has {len(axes)} axes of positions, 'last' needs one")
            return (Last(axes[0], str(self.mask)), Flatten())
        positions = [self.position] if isinstance(self.position, int) else self.position
        shape = known_shape(tap)
        if len(positions) != len(axes):
            raise DoesNotApplyError(
                f"{tap.name!r} has {len(axes)} axes of positions, position {positions} names {len(positions)}"
            )
        for axis, position in zip(axes, positions, strict=True):
            if not -shape[axis - 1] <= position < shape[axis - 1]:
                raise DoesNotApplyError(
                    f"{tap.name!r} has {shape[axis - 1]} positions, there is no position {position}"
                )
        # From the last axis to the first, so that the numbers of those still to come stay the same.
        steps: list[Step] = [Select(a, p) for a, p in sorted(zip(axes, positions, strict=True), reverse=True)]
        return (*steps, Flatten())


class _Drawn(Reduction):
    """A reduction that draws at random, once or under several seeds."""

    seed: int = Field(0, ge=0, description="of the draw")
    seeds: int = runtime_option(
        1,
        "how often it is drawn, under `seed` and those that follow; the report has the spread of the error over them",
        ge=1,
        le=100,
    )

    def draws(self) -> dict[int, Reduction]:
        """Return it under each seed."""
        return {seed: self.model_copy(update={"seed": seed}) for seed in range(self.seed, self.seed + self.seeds)}


class SubsetReduction(_Drawn):
    """Random features, always the same ones for the same seed and size (paper, sections 3.4 and 4.2)."""

    kind: Literal["subset"] = "subset"
    features: int = Field(1000, ge=1, description="how many; a tap that has fewer keeps all")

    def program(self, tap: Tap) -> Program:
        """(batch, ...) to (batch, features)."""
        size = math.prod(known_shape(tap))
        if size <= self.features:
            return (Flatten(),)
        indices = np.random.default_rng(self.seed).choice(size, self.features, replace=False)
        return (Flatten(), Take(np.sort(indices).astype(np.int64)))


class ProjectReduction(_Drawn):
    """A Gaussian random projection with entries of variance 1 ÷ features, which keeps distances on average."""

    kind: Literal["project"] = "project"
    features: int = Field(256, ge=1, description="how many")

    def program(self, tap: Tap) -> Program:
        """(batch, ...) to (batch, features)."""
        size = math.prod(known_shape(tap))
        if size * self.features > 2**28:
            gib = size * self.features * 4 / 2**30
            raise DoesNotApplyError(
                f"{tap.name!r} has {size} values; the matrix to {self.features} would take {gib:.1f} GiB"
            )
        matrix = np.random.default_rng(self.seed).standard_normal((size, self.features), dtype=np.float32)
        return (Flatten(), MatMul(matrix / np.float32(math.sqrt(self.features))))


@hookimpl
def register_reductions() -> list[type[Reduction]]:
    """The reductions of this module."""
    return [FlattenReduction, PoolReduction, ProjectReduction, SelectReduction, SubsetReduction]
