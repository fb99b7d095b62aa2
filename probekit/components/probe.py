"""The base class of probes, what they are fitted to, and what a fit promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from probekit.components.data import known_rows
from probekit.sections import Component

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from probekit.components.arrays import Array, BoolArray, FloatArray, IntArray
    from probekit.components.data import Task

_VALUES_AT_ONCE = 1 << 22


class FeatureMatrix(Protocol):
    """The features of one tap, (rows, features), float32, held or read from the store as they are needed.

    ``numpy.asarray(matrix)`` gives all of it.
    """

    shape: tuple[int, int]

    def read(self, rows: IntArray | slice) -> FloatArray:
        """Return those rows, in their order."""

    def blocks(self, rows_at_once: int = 8192, rows: IntArray | None = None) -> Iterator[FloatArray]:
        """Give all rows in order, or some of them, so many at a time at most; the arrays must not be written to."""

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

    def blocks(self, rows_at_once: int = 8192, rows: IntArray | None = None) -> Iterator[FloatArray]:
        """Give views of the array where rows follow each other, else copies."""
        for start in range(0, len(self.array) if rows is None else len(rows), rows_at_once):
            if rows is None:
                yield self.array[start : start + rows_at_once]
                continue
            part = rows[start : start + rows_at_once]
            first, last = int(part[0]), int(part[-1])
            yield self.array[first : last + 1] if (np.diff(part) == 1).all() and first >= 0 else self.array[part]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the array."""
        return np.array(self.array, dtype=dtype, copy=copy)


@dataclass(frozen=True)
class Target:
    """What one head group has to predict: the labels of one factor, true or controlled.

    Args:
        factor: the label factor's name.
        classes: names of the classes; of the yes/no labels of a ``multilabel`` factor; empty for a number.
        codes: of each feature row, as :class:`Labels` has them: shape (rows,), a class or -1; (rows, labels) of yes/no
            labels; (rows,) float64 of a number.
        train: feature rows to fit on, each with a label.
        valid: feature rows that λ and stopping are chosen on, each with a label.
        control: the control's name, None for the true labels.
        seed: what the control was drawn with, and what a random probe draws with.
        task: what is asked: a class, yes/no labels, or a number.
    """

    factor: str
    classes: tuple[str, ...]
    codes: Array
    train: IntArray
    valid: IntArray
    control: str | None = None
    seed: int = 0
    task: Task = "classes"

    @property
    def outputs(self) -> int:
        """How many values a probe gives for a row: one a class, one a yes/no label, one for a number."""
        return len(self.classes) if self.task != "number" else 1

    def known(self) -> BoolArray:
        """Return which feature rows have a label, shape (rows,)."""
        return known_rows(self.codes, self.task)


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


@dataclass(frozen=True)
class PathPoint:
    """One λ that was tried.

    Args:
        penalty: λ, in units of standardised features.
        objective: on the training rows, in nats (of a number: in squares of its standard deviation).
        gap: upper bound on objective - optimum; None when not applicable.
        status: of its certificate.
        valid_loss: mean cross-entropy in nats on the valid rows; of a number the mean squared error, as a share of its
            variance over the training rows.
        valid_error: share of wrong predictions on the valid rows; None for a number.
    """

    penalty: float
    objective: float
    gap: float | None
    status: Literal["proven", "missed", "not_applicable"]
    valid_loss: float
    valid_error: float | None


@dataclass(frozen=True)
class FitFacts:
    """How a probe was fitted.

    Args:
        path: every λ that was tried, the largest first.
        grown: how many λ were added because the best one lay at an end of the path.
        end: at which end of the path the chosen λ lies all the same; None inside of it, and where there was no choice.
        label_penalties: the λ of each label of a ``multilabel`` factor, in the order of ``classes``; else empty.
        heads: that shared the passes over X.
        passes: over the training rows, one being X Wᵀ and Rᵀ X, in which this probe's heads took part.
        preconditioner: ``exact`` (all principal axes), ``sketch`` (the leading ones of a sample), ``gram`` (a
            number's solution in closed form, from one Gram matrix) or ``none``.
        arithmetic: of the products: what the iterations used, the final proof being float64.
        device: that X lay on.
        streamed: whether X was read in every pass.
        reason: why a certificate was missed; None where it was not.
        notes: what else the reader of a result should know, such as the best epoch of a fit that stopped early.
    """

    path: tuple[PathPoint, ...] = ()
    grown: int = 0
    end: Literal["smallest", "largest"] | None = None
    label_penalties: tuple[float, ...] = ()
    heads: int = 1
    passes: int = 0
    preconditioner: str = "none"
    arithmetic: tuple[str, ...] = ("float32",)
    device: str = "cpu"
    streamed: bool = False
    reason: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LinearMap:
    """What a linear probe computes of a row of features: weights x + bias.

    Args:
        weights: shape (outputs, features), float64, in the features' own units.
        bias: shape (outputs,), float64; -inf for a class without training examples.
    """

    weights: Array
    bias: Array

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return shape (rows, outputs), computed in float64, as float32."""
        at_once = max(256, _VALUES_AT_ONCE // max(1, self.weights.shape[1]))
        blocks = (features[start : start + at_once] for start in range(0, len(features), at_once))
        parts = [block.astype(np.float64) @ self.weights.T + self.bias for block in blocks]
        return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, len(self.bias)), np.float32)


class FittedProbe(ABC):
    """A probe after fitting."""

    penalty: float | None
    """The λ that was chosen; None for a probe without one, and where yes/no labels chose several."""
    certificate: Certificate
    seconds: float
    """Wall time of this target's share of the fit."""
    linear: LinearMap | None = None
    """What the probe computes where that is linear: such a probe can be saved and exported."""
    facts: FitFacts | None = None
    """How it was fitted."""

    @abstractmethod
    def logits(self, features: FloatArray) -> FloatArray:
        """Return shape (rows, outputs) for features of shape (rows, features).

        Their softmax is the predicted distribution over classes; of yes/no labels the sigmoid of each is the
        probability of yes; of a number it is the predicted value.
        """


@dataclass(frozen=True)
class FitProgress:
    """How far a fit is.

    Args:
        done: heads that are finished.
        heads: in all; it grows with a path of λ.
        worst_gap: largest bound over the heads that are not finished, as a share of what chance would lose; None
            before the first pass and without a certificate.
        passes: over the training rows so far.
    """

    done: int
    heads: int
    worst_gap: float | None
    passes: int


def _silent(progress: FitProgress) -> None:
    """Tell nothing."""


@dataclass(frozen=True)
class FitContext:
    """What a run gives to a fit.

    Args:
        memory: bytes that the fit may take beside the features that it is given; None: no bound.
        tell: called as the fit goes on, some times a second at most; what it raises ends the fit.
    """

    memory: int | None = None
    tell: Callable[[FitProgress], None] = _silent


class Probe(Component):
    """What is fitted to the features of a tap."""

    category: ClassVar[str] = "probe"

    def side_by_side(self, rows: int, features: int, targets: Sequence[Target]) -> int | None:  # noqa: ARG002
        """Return the bytes that a fit takes beside its features, where several may be made at the same time.

        Each is then made in a process of its own: the probe and what it returns must pickle, and a fit must be the same
        there, whatever the number of threads.

        Args:
            rows: of the feature matrix.
            features: its width.
            targets: all that is asked of it.

        Returns:
            None where a fit is made alone, which is the default.
        """
        return None

    @abstractmethod
    def fit(
        self, features: FeatureMatrix, targets: Sequence[Target], context: FitContext | None = None
    ) -> list[FittedProbe]:
        """Fit all targets on the same features, choosing on each target's valid rows.

        Args:
            features: shape (rows, features), float32, finite. Unless it is an :class:`ArrayMatrix`, it is larger than
                the memory that a run may take.
            targets: all that is asked of this tap.
            context: the run's memory and how it hears of progress; default: no bound, nobody.

        Returns:
            one fitted probe per target, in their order.
        """
