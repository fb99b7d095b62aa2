"""The section ``plugins``: the distributions that a spec requires, with versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from probekit.sections import fault, faults_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import PydanticCustomError

Key = int | str


def requirements(value: Any) -> dict[Key, Requirement]:
    """Return what a spec requires, by the entry's position or name; entries that cannot be read are left out.

    Args:
        value: of ``plugins``: a list of requirements, or a mapping from names to versions; of any other type nothing.
    """
    found = {}
    for key, text in _entries(value):
        try:
            found[key] = _requirement(text)
        except InvalidRequirement:
            continue
    return found


def check_requirements(value: list[str] | dict[str, str | None]) -> None:
    """See that every entry can be read and that no distribution stands twice.

    Raises:
        ValidationError: ``PK-Y40``, an entry is no requirement; ``PK-Y29``, a distribution stands twice.
    """
    faults: list[tuple[tuple[Key, ...], PydanticCustomError]] = []
    seen: set[str] = set()
    for key, text in _entries(value):
        try:
            name = canonicalize_name(_requirement(text).name)
        except InvalidRequirement:
            faults.append(((key,), fault("PK-Y40", f"{text!r} is no requirement", _meant(text))))
            continue
        if name in seen:
            faults.append(((key,), fault("PK-Y29", f"the plugin {name!r} stands twice", "keep one entry")))
        seen.add(name)
    if faults:
        raise faults_below(*faults)


def _entries(value: Any) -> Iterator[tuple[Key, str]]:
    if isinstance(value, list):
        yield from ((number, text) for number, text in enumerate(value) if isinstance(text, str))
    elif isinstance(value, dict):
        for name, version in value.items():
            if version is None or isinstance(version, str):
                yield name, f"{name} {version or ''}".strip()


def _requirement(text: str) -> Requirement:
    found = Requirement(text)
    if found.extras or found.url or found.marker:
        raise InvalidRequirement(text)
    return found


def _meant(text: str) -> str:
    """Return what was probably meant, as a hint."""
    match = re.fullmatch(
        r"\s*([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)(\[.*\])?\s*[=:@ ]?\s*v?(\d[\w.]*)?.*", text, re.DOTALL
    )
    if match is None:
        return "write the distribution's name and versions: probekit-toy >= 0.1"
    return f"write {match[1]} >= {match[3]}" if match[3] else f"write {match[1]}, or {match[1]} >= 0.1"
