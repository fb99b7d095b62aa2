"""The plugins that a spec requires: whether they are there, and the kinds as that spec sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from probekit.errors import Problem, UnknownKindError, listed, nearest
from probekit.plugins.built_in import CORE, FIRST_PARTY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.requirements import Requirement

    from probekit.plugins.loading import Plugins
    from probekit.plugins.providers import Provider
    from probekit.sections import Component


class SpecPlugins:
    """The kinds as one spec sees them.

    Where two distributions claim a kind, the one that is required, or that the command line names, is meant. A required
    plugin that is absent or has another version is not imported.

    Args:
        plugins: what there is.
        requirements: of the spec, one a distribution; without extras, addresses and markers.
    """

    def __init__(self, plugins: Plugins, requirements: Sequence[Requirement]) -> None:
        self.plugins = plugins
        self.names = {str(canonicalize_name(one.name)) for one in requirements}
        found = {str(one): unmet(one, plugins) for one in requirements}
        self.unmet = {text: problem for text, problem in found.items() if problem is not None}
        """The problem of each requirement that is not met, by the requirement's text."""
        self._without = {str(canonicalize_name(one.name)) for one in requirements if str(one) in self.unmet}

    def kinds(self, category: str) -> list[str]:
        """Return the names of a category's kinds, without importing anything."""
        return sorted({one.kind for one in self._providers() if one.category == category and one.kind})

    def find(self, category: str, kind: str) -> type[Component]:
        """Return the class that a kind names, importing its module; see :meth:`Plugins.find`.

        Raises:
            UnknownKindError: nothing provides it; ``PK-G05`` where a plugin that the spec requires may do so.
            MachineError: two distributions claim it, or its plugin is broken.
        """
        if self._without and (category, kind) not in {(one.category, one.kind) for one in self._providers()}:
            what = f"no plugin provides kind {kind!r} while {listed(sorted(self._without))} cannot be used"
            raise UnknownKindError(what, "see 'plugins'", "PK-G05")
        return self.plugins.find(category, kind, {*self.names, *self.plugins.named} - self._without)

    def _providers(self) -> list[Provider]:
        return [one for one in self.plugins.providers if one.built_in or one.name not in self._without]


def unmet(requirement: Requirement, plugins: Plugins) -> Problem | None:
    """Return why a requirement is not met, without a place; None where it is.

    A pre-release that is installed counts, as for pip.

    Returns:
        ``PK-G05``: no such plugin is there; ``PK-G06``: it has another version.
    """
    name, wanted = str(canonicalize_name(requirement.name)), str(requirement)
    there = next((one for one in plugins.providers if one.name == name), None)
    if there is not None:
        try:
            fits = requirement.specifier.contains(Version(there.release), prereleases=True)
        except InvalidVersion:
            fits = not requirement.specifier
        what = f"{there.distribution} {there.release} is installed, but the spec requires {wanted!r}"
        return None if fits else Problem("PK-G06", what, _install(name, wanted))
    for one, by in plugins.off.items():
        if one.name == name:
            return Problem("PK-G05", f"the required plugin {name!r} is switched off {by}", "switch it on again")
    others = [one.distribution for one in plugins.providers if not one.built_in]
    close = nearest(name, others)
    if _is_installed(name):
        what = f"{name!r} is installed, but is no plugin: it has no entry point in the group 'probekit'"
        return Problem("PK-G05", what, close if close.startswith("did you mean") else "leave it out")
    hint = f"{close} or {_install(name, wanted)}" if close.startswith("did you mean") else _install(name, wanted)
    return Problem("PK-G05", f"the required plugin {name!r} is not installed", hint)


def _install(name: str, wanted: str) -> str:
    own = next((place for place in FIRST_PARTY.values() if place.rpartition("/")[2] == name), None)
    if own is not None:
        return f"type: pip install {own}  (in probekit's source folder)"
    return f"type: pip install {'--upgrade ' if name == CORE else ''}'{wanted}'"


def _is_installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
