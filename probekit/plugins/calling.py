"""The hooks that a run calls: findings and events."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from probekit.errors import MachineError, ProbekitWarning, Problem, nearest
from probekit.plugins.built_in import FINDING, LISTENER, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import ModuleType

    from probekit.plugins.loading import Plugins
    from probekit.plugins.providers import Provider
    from probekit.results import FindingRecord, RunResult


class RunHooks:
    """The findings and listeners of one run: the built-in ones and those of the distributions that its spec requires.

    Any other plugin that happens to be installed is not imported and has no part in the results.

    Args:
        plugins: what there is.
        required: the distributions that the spec requires, in normal form.
    """

    def __init__(self, plugins: Plugins, required: Collection[str] = ()) -> None:
        self.plugins = plugins
        wanted = [one for one in plugins.providers if one.kind and (one.built_in or one.name in required)]
        self._listeners = [one for one in wanted if one.category == LISTENER]
        self._findings = [one for one in wanted if one.category == FINDING]
        self._hearing: list[ModuleType] = []

    def load(self) -> None:
        """Import every listener and every module with findings; one that is broken costs a warning that names it."""
        for provider in self._listeners:
            try:
                self.plugins.load(provider)
            except MachineError as error:
                _left_out(provider, str(error))
            else:
                module = importlib.import_module(provider.module)
                self._hearing += [] if module in self._hearing else [module]
        self._finders()

    def emit(self, event: str, **arguments: Any) -> None:
        """Call an event hook of each loaded listener; one that raises costs a warning that names it."""
        manager = self.plugins.manager
        for implementation in getattr(manager.hook, event).get_hookimpls():
            if implementation.plugin not in self._hearing:
                continue
            others = [plugin for plugin in manager.get_plugins() if plugin is not implementation.plugin]
            try:
                manager.subset_hook_caller(event, others)(**arguments)
            except Exception as error:  # a listener's fault must not end a run
                text = f"{event} of plugin {implementation.plugin_name} raised {type(error).__name__}: {error}"
                warnings.warn(text, category=ProbekitWarning, stacklevel=2)

    def findings(self, result: RunResult) -> list[FindingRecord]:
        """Return all that is found in a result: the most severe first, else in the order in which it is found.

        The built-in findings come before those of plugins. A module that cannot be loaded, that raises, or that returns
        anything but records of the names that it declares costs a warning that names it.

        Args:
            result: complete but for its findings.
        """
        manager = self.plugins.manager
        found: list[FindingRecord] = []
        for providers, module in self._finders():
            others = [plugin for plugin in manager.get_plugins() if plugin is not module]
            try:
                found += _found(manager.subset_hook_caller("find", others), providers, result)
            except MachineError as error:
                _left_out(providers[0], str(error))
        return sorted(found, key=lambda one: SEVERITIES.index(one.severity))

    def _finders(self) -> list[tuple[list[Provider], ModuleType]]:
        """Return each module with findings, imported, and who declares it; of two with one name, the first counts."""
        first: dict[str, Provider] = {}
        modules: dict[str, list[Provider]] = {}
        for provider in self._findings:
            if first.setdefault(provider.kind, provider) is provider:
                modules.setdefault(provider.module, []).append(provider)
            else:
                text = f"{provider} has the name of {first[provider.kind]}; type: pip uninstall {provider.distribution}"
                _left_out(provider, text)
        finders = []
        for providers in modules.values():
            try:
                finders.append((providers, self.plugins.finder(providers[0])))
            except MachineError as error:
                _left_out(providers[0], str(error))
        return finders


def _found(hook: Callable[..., list[Any]], providers: Sequence[Provider], result: RunResult) -> list[FindingRecord]:
    """Return what one module finds.

    Raises:
        MachineError: it raises (``PK-G02``), or it returns no records or those of other names (``PK-G04``).
    """
    from pydantic import TypeAdapter, ValidationError

    who, names = f"find of plugin {providers[0]}", [provider.kind for provider in providers]
    annotation: Any = type(result).model_fields["findings"].annotation
    records = TypeAdapter(annotation)
    try:
        found = [one for some in hook(result=result) for one in records.validate_python(some)]
        records.dump_json(found)
    except ValidationError as error:
        what = f"{who} returns no list of FindingRecord: {error.errors()[0]['msg']}"
        raise MachineError(Problem("PK-G04", what)) from error
    except Exception as error:
        raise MachineError(Problem("PK-G02", f"{who} raised {type(error).__name__}: {error}")) from error
    for one in found:
        if one.kind not in names:
            what = f"{who} returns a finding {one.kind!r}, which its entry points do not declare"
            raise MachineError(Problem("PK-G04", what, nearest(one.kind, names, "declared")))
    return found


def _left_out(provider: Provider, reason: str) -> None:
    text = f"{provider.category} {provider.kind!r} is left out: {reason}"
    warnings.warn(text, category=ProbekitWarning, stacklevel=3)
