"""The base classes of reductions: what turns an activation into features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from probekit.components.arrays import FloatArray
from probekit.sections import Component

if TYPE_CHECKING:
    from probekit.components.graph import Tap
    from probekit.steps import Program


class DoesNotApplyError(Exception):
    """A reduction does not fit a tap; the text says why."""


class Reduction(Component):
    """What turns an activation into features. A data-free one is its program alone."""

    category: ClassVar[str] = "reduction"

    @abstractmethod
    def program(self, tap: Tap) -> Program:
        """Return the steps for a tap of known shape.

        Args:
            tap: as a trial run saw it, with the batch axis first; None for an axis whose size changes from batch to
                batch, which a program may average over.

        Raises:
            DoesNotApplyError: the reduction has no meaning for this shape and layout.
        """

    def draws(self) -> dict[int, Reduction]:
        """Return it under every seed that the spec asks for, by seed, itself first; nothing where it draws nothing.

        Each draw has features of its own, from the same pass. Their probes tell how much an error owes to the draw.
        """
        return {}


FittedReduction = Callable[[FloatArray], FloatArray]
"""A learned reduction after fitting: maps (rows, features) to (rows, fewer features).

Probes on one that is linear can be saved and exported: it is then a :class:`LinearMap`, which is folded into theirs.
"""


class LearnedReduction(Reduction):
    """A reduction that is fitted on the features, which its program gives, of training rows only."""

    @abstractmethod
    def fit(self, features: FloatArray) -> FittedReduction:
        """Fit on shape (training rows, features)."""
