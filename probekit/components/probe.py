"""The base class of probes, what they are fitted to, and what a fit promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from probekit.sections import Component

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probekit.components.arrays import Array, FloatArray, IntArray


class FeatureMatrix(Protocol):
    """The features of one tap, (rows, features), float32, held or read from the store as they are needed.

    ``numpy.asarray(matrix)`` gives all of it.
    """

    shape: tuple[int, int]

    def read(self, rows: IntArray | slice) -> FloatArray:
        """Return those rows, in their order."""

    def blocks(self, rows_at_once: int = 8192) -> Iterator[FloatArray]:
        """Give all rows in order, so many at a time; the arrays must not be written to."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return all rows."""


class ArrayMatrix:
    """Features that are held.

    Args:
        array: shape (rows, features), float32, C-contiguous.
    """

    def __init__(self, array: FloatArray) -> None:
        self.array = array
        self.shape: tuple[int, int] = (array.shape[0], array.shape[1])

    def read(self, rows: IntArray | slice) -> FloatArray:
        """Index the array."""
        return self.array[rows]

    def blocks(self, rows_at_once: int = 8192) -> Iterator[FloatArray]:
        """Give views of the array."""
        for start in range(0, len(self.array), rows_at_once):
            yield self.array[start : start + rows_at_once]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the array."""
        return np.array(self.array, dtype=dtype, copy=copy)


@dataclass(frozen=True)
class Target:
    """What one head group has to predict: the labels of one factor, true or controlled.

    Args:
        factor: the label factor's name.
        classes: names of the classes.
        codes: shape (rows,), class of each feature row, -1 where it has none.
        train: feature rows to fit on, each with a label.
        valid: feature rows that λ and stopping are chosen on, each with a label.
        control: the control's name, None for the true labels.
        seed: what the control was drawn with, and what a random probe draws with.
    """

    factor: str
    classes: tuple[str, ...]
    codes: IntArray
    train: IntArray
    valid: IntArray
    control: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Certificate:
    """How far a fit can at most be from the optimum of its objective.

    Args:
        status: ``proven`` (the bound is within the tolerance), ``missed`` or ``not_applicable`` (not convex, or
            stopped early on purpose).
        gap: upper bound on objective - optimum, in nats; None when not applicable.
        of_chance: ``gap`` ÷ entropy of the training labels.
        of_objective: ``gap`` ÷ objective.
    """

    status: Literal["proven", "missed", "not_applicable"]
    gap: float | None = None
    of_chance: float | None = None
    of_objective: float | None = None


class FittedProbe(ABC):
    """A probe after fitting."""

    penalty: float | None
    """The λ that was chosen; None for a probe without one."""
    certificate: Certificate
    seconds: float
    """Wall time of this target's share of the fit."""

    @abstractmethod
    def logits(self, features: FloatArray) -> FloatArray:
        """Return shape (rows, classes), whose softmax is the predicted distribution, for (rows, features)."""


class Probe(Component):
    """What is fitted to the features of a tap."""

    category: ClassVar[str] = "probe"

    @abstractmethod
    def fit(self, features: FeatureMatrix, targets: Sequence[Target]) -> list[FittedProbe]:
        """Fit all targets on the same features, choosing on each target's valid rows.

        Args:
            features: shape (rows, features), float32, finite. Unless it is an :class:`ArrayMatrix`, it is larger than
                the memory that a run may take.
            targets: all that is asked of this tap.

        Returns:
            one fitted probe per target, in their order.
        """
