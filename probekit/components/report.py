"""The base class of reports."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from probekit.sections import Component

if TYPE_CHECKING:
    from probekit.results import RunResult


class Report(Component):
    """A view of a run's result: a function from result to text."""

    category: ClassVar[str] = "report"
    filename: ClassVar[str | None] = None
    """The file below the run directory; None: the text is printed."""

    @abstractmethod
    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:
        """Return the report's text.

        Args:
            result: everything a report may say.
            width: columns of the terminal, for a printed report.
            colour: whether a printed report may hold ANSI colours.
        """
