"""How far a run is, and how long the rest of its fits will take."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from probekit.components import FitProgress

STAGE = "probes"
"""What the stage is called in which probes are fitted."""
_WORK_OF_A_FIT = 256
"""What a fit costs that its features do not, as so many of them."""
_PAUSE = 0.2
"""Seconds between two tellings within one fit, at least."""


class Tell(Protocol):
    """Is told how far a stage of a run is."""

    def __call__(self, stage: str, done: int, total: int, detail: str = "", left: float | None = None) -> None:
        """Hear of a step.

        Args:
            stage: its name.
            done: steps that are finished.
            total: in all.
            detail: what the step at work is at; empty where there is nothing to say.
            left: seconds until the stage ends; None where the finished steps tell it as well, being of one size.
        """


def silent(stage: str, done: int, total: int, detail: str = "", left: float | None = None) -> None:
    """Tell nothing."""


def work_of(features: int) -> int:
    """Return the work of a fit to so many features, in units that grow with its time where the rows are the same."""
    return _WORK_OF_A_FIT + features


class FittingProgress:
    """How far the fits of a run are, over all models, taps and probes.

    Fits that were kept by an earlier run cost nothing, and so do not count when the rest is estimated.

    Args:
        tell: is told.
        fits: in all.
        work: of all fits, in any unit that grows with their time, such as that of :func:`work_of`.
    """

    def __init__(self, tell: Tell = silent, fits: int = 0, work: float = 0.0) -> None:
        self._tell, self._fits, self._work = tell, fits, work
        self._finished, self._worked = 0, 0.0
        self._now, self._share, self._detail = 0.0, 0.0, ""
        self._begun: float | None = None
        self._started = self._told = 0.0

    def begin(self, work: float, detail: str) -> None:
        """Tell that a fit begins.

        Args:
            work: of this fit.
            detail: which it is.
        """
        self._started = time.monotonic()
        if self._begun is None:
            self._begun = self._started
        self._now, self._share, self._detail = work, 0.0, detail
        self._say(detail)

    def hear(self, progress: FitProgress) -> None:
        """Tell how far the fit at work is, unless that was just told."""
        self._share = progress.done / progress.heads if progress.heads else 0.0
        if time.monotonic() - self._told >= _PAUSE:
            self._say(f"{heads(progress)}, {self._detail}")

    def end(self, *, kept: bool = False) -> None:
        """Count the fit at work as finished.

        Args:
            kept: it was not made but found.
        """
        if kept and self._begun is not None:
            self._work -= self._now
            self._begun += time.monotonic() - self._started
        else:
            self._worked += self._now
        self._now = self._share = 0.0
        self._count(1)

    def skip(self, fits: int, work: float) -> None:
        """Count fits as finished that cannot be made.

        Args:
            fits: how many.
            work: of all of them.
        """
        self._work -= work
        self._count(fits)

    def left(self) -> float | None:
        """Return the seconds that are left; None before the first fit that is made has advanced."""
        worked = self._worked + self._share * self._now
        if self._begun is None or worked <= 0:
            return None
        return (time.monotonic() - self._begun) * max(0.0, self._work - worked) / worked

    def _count(self, fits: int) -> None:
        self._finished += fits
        if self._finished == self._fits:
            self._say("")

    def _say(self, detail: str) -> None:
        self._told = time.monotonic()
        self._tell(STAGE, self._finished, self._fits, detail, self.left())


def heads(progress: FitProgress) -> str:
    """Return how far a fit is.

    >>> from probekit.components import FitProgress
    >>> heads(FitProgress(24, 48, 0.0031, 40)), heads(FitProgress(0, 1, None, 0))
    ('24 of 48 heads, worst gap 3e-3', '0 of 1 head')
    """
    text = f"{progress.done} of {progress.heads} head{'s' if progress.heads != 1 else ''}"
    gap = progress.worst_gap
    if gap is None or not math.isfinite(gap):
        return text
    mantissa, exponent = f"{gap:.0e}".split("e")
    return f"{text}, worst gap {mantissa}e{int(exponent)}"
