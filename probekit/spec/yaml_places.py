"""Where things stand in the text of a spec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probekit.errors import Problem

Path = tuple[str | int, ...]
"""Keys and numbers of list items, from the top of a spec down."""


@dataclass(frozen=True)
class Place:
    """Where something stands in a text; both numbers count from 1."""

    line: int
    column: int


START = Place(1, 1)


@dataclass(frozen=True)
class Document:
    """A spec file as plain Python values, and where each value stands.

    Args:
        file: the file as the user named it, for messages.
        value: str, int, float, bool, None, list and dict only.
        keys: where the key (or list item) of each path stands; below an alias, where the alias stands.
        values: where the value of each path begins; likewise.
        problems: what is wrong with the structure, where the rest could still be read.
    """

    file: str
    value: dict[str, Any]
    keys: dict[Path, Place]
    values: dict[Path, Place]
    problems: tuple[Problem, ...] = ()

    def place(self, path: Path) -> Place:
        """Return where ``path`` or its nearest known ancestor stands: a mapping at its key, all else at its value."""
        while path and path not in self.values:
            path = path[:-1]
        value: Any = self.value
        for step in path:
            value = value[step]
        return (self.keys if isinstance(value, dict) else self.values).get(path, START)


def place_of(mark: Any) -> Place:
    """Return the place of a mark of PyYAML, which counts from 0."""
    return Place(mark.line + 1, mark.column + 1)


def end_of(text: str) -> Place:
    """Return the place of what follows a text; its lines may end in any way."""
    lines = re.split("\r\n?|\n", text)
    return Place(len(lines), len(lines[-1]) + 1)
