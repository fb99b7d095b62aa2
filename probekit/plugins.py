"""Which kinds exist, who provides them, and the loading of a kind's module when a spec names it.

The metadata of installed distributions answers which kinds exist; nothing is imported for that. The built-in
components are listed as strings and come in through the same hooks as anyone's.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_origin

import pluggy

from probekit import hookspecs
from probekit.errors import MachineError, ProbekitWarning, Problem, UnknownKindError, nearest
from probekit.hookspecs import REGISTER_HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

    from probekit.results import FindingRecord, RunResult
    from probekit.sections import Component

GROUP = "probekit"
LISTENER = "listener"
FINDING = "finding"
CORE = "probekit-platform"

FINDINGS = (
    "best_tap", "gain", "earliest_tap", "model_error", "monotonicity", "information", "losing", "dead_segment",
    "fading_segment", "auxiliary_head", "overfitting", "capacity", "selectivity", "random_weights", "path_end", "missed",
    "unfit_features", "projection_cost",
)  # fmt: skip
"""The built-in findings, in the order in which those of one severity are told."""

SEVERITIES = ("problem", "warning", "notice", "info")
"""Of findings, the most severe first."""

BUILT_IN = {
    "backend.onnx": "probekit.backends.onnx",
    "backend.torch": "probekit.backends.torch",
    "dataset.arrays": "probekit.data.arrays",
    "dataset.digits": "probekit.data.arrays",
    "dataset.idx": "probekit.data.idx",
    "dataset.images": "probekit.data.images",
    "factor.bins": "probekit.data.factors",
    "factor.column": "probekit.data.factors",
    "factor.group": "probekit.data.factors",
    "factor.multilabel": "probekit.data.yes_no",
    "factor.number": "probekit.data.numbers",
    "factor.table": "probekit.data.factors",
    "reduction.flatten": "probekit.reductions.data_free",
    "reduction.pca": "probekit.reductions.pca",
    "reduction.pool": "probekit.reductions.data_free",
    "reduction.project": "probekit.reductions.data_free",
    "reduction.select": "probekit.reductions.data_free",
    "reduction.subset": "probekit.reductions.data_free",
    "probe.linear": "probekit.probes.linear",
    "control.control_task": "probekit.data.controls",
    "control.random_weights": "probekit.data.controls",
    "control.shuffled_labels": "probekit.data.controls",
    "report.csv": "probekit.report.files",
    "report.html": "probekit.report.html",
    "report.json": "probekit.report.files",
    "report.markdown": "probekit.report.markdown",
    "report.terminal": "probekit.report.terminal",
    **{f"finding.{name}": f"probekit.findings.{name}" for name in FINDINGS},
}

FIRST_PARTY = {
    "backend.toy": "./plugins/probekit-toy",
    "dataset.toy_blobs": "./plugins/probekit-toy",
    "factor.toy_parity": "./plugins/probekit-toy",
}
"""Kinds that distributions in probekit's own source tree provide, and how pip finds them there."""


@dataclass(frozen=True)
class Provider:
    """One kind, as its distribution's metadata declares it.

    Args:
        category: ``backend``, ``dataset``, ``factor``, ``reduction``, ``probe``, ``control``, ``report``,
            ``listener`` or ``finding``.
        kind: the name that specs use.
        module: what is imported when it is needed.
        distribution: who provides it.
        release: the distribution's version.
    """

    category: str
    kind: str
    module: str
    distribution: str
    release: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.release} ({self.module})"


def installed_providers(autoload: bool = True) -> list[Provider]:
    """Return all kinds that the metadata of installed distributions declares, the built-in ones first.

    Args:
        autoload: False leaves out every distribution but probekit's own.
    """
    from probekit import __version__

    providers = [
        Provider(category, kind, module, CORE, __version__)
        for (category, kind), module in ((name.split("."), module) for name, module in BUILT_IN.items())
    ]
    if not autoload:
        return providers
    found = {
        (*point.name.partition(".")[::2], point.value, point.dist.name or "(no name)", point.dist.version or "?")
        for point in importlib.metadata.entry_points(group=GROUP)
        if point.dist is not None
    }
    return providers + [Provider(*parts) for parts in sorted(found)]


class Plugins:
    """The kinds that are there; modules are imported when a kind is looked up.

    Args:
        providers: what there is; default: everything installed, or only probekit's own kinds where the variable
            ``PROBEKIT_DISABLE_PLUGIN_AUTOLOAD`` is set.
    """

    def __init__(self, providers: Sequence[Provider] | None = None) -> None:
        autoload = not os.environ.get("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD")
        self.providers = list(providers) if providers is not None else installed_providers(autoload)
        self._classes: dict[str, dict[tuple[str, str], type[Component]]] = {}

    @cached_property
    def manager(self) -> pluggy.PluginManager:
        """The pluggy manager; it holds the modules loaded so far."""
        manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(hookspecs)
        return manager

    def kinds(self, category: str) -> list[str]:
        """Return the names of a category's kinds, without importing anything."""
        return sorted({p.kind for p in self.providers if p.category == category and p.kind})

    def loaded(self) -> list[Provider]:
        """Return the providers whose module was imported, without the built-in findings, which are always there."""
        own = (FINDING, CORE)
        imported = [provider for provider in self.providers if provider.module in self._classes]
        return [provider for provider in imported if (provider.category, provider.distribution) != own]

    def find(self, category: str, kind: str) -> type[Component]:
        """Return the class that a kind names, importing its module.

        Raises:
            UnknownKindError: nothing provides it.
            MachineError: two distributions claim it (``PK-G01``), or its plugin is broken (``PK-G02`` to ``PK-G04``).
        """
        claims = [p for p in self.providers if (p.category, p.kind) == (category, kind)]
        if not claims:
            raise self._unknown(category, kind)
        if len(claims) > 1:
            what = f"{category} kind {kind!r} is claimed by {' and by '.join(map(str, claims))}"
            raise MachineError(Problem("PK-G01", what, f"type: pip uninstall {claims[-1].distribution}"))
        classes = self._load(claims[0])
        found = classes.get((category, kind))
        if found is None:
            what = f"{claims[0]} declares {category}.{kind}, but its {REGISTER_HOOKS[category]} does not return it"
            returned = [k for c, k in classes if c == category]
            raise MachineError(Problem("PK-G04", what, nearest(kind, returned, "it returns")))
        return found

    def check(self, provider: Provider) -> None:
        """Import a provider's module, to see whether it holds what its metadata declares.

        Raises:
            MachineError: it does not, see :meth:`find`.
        """
        if provider.category in REGISTER_HOOKS and provider.kind:
            self.find(provider.category, provider.kind)
        elif provider.category == LISTENER:
            self._load(provider)
        elif provider.category == FINDING and provider.kind:
            self._finder(provider)
        else:
            declared = f"{provider.category}.{provider.kind}".rstrip(".")
            categories = ", ".join([*REGISTER_HOOKS, LISTENER, FINDING])
            hint = f"its entry point is to be CATEGORY.KIND, with one of {categories}"
            raise MachineError(Problem("PK-G04", f"{provider} declares {declared!r}, which is no kind", hint))

    def _unknown(self, category: str, kind: str) -> UnknownKindError:
        name = f"{category}.{kind}"
        if name in FIRST_PARTY:
            hint = f"type: pip install {FIRST_PARTY[name]}  (in probekit's source folder)"
            return UnknownKindError(f"no installed plugin provides kind {kind!r}", hint)
        close = nearest(kind, self.kinds(category), "installed")
        listing = "" if close.startswith("installed") else f" installed: {', '.join(self.kinds(category))}"
        return UnknownKindError(f"no plugin provides kind {kind!r}", close + listing)

    def load_listeners(self) -> None:
        """Import every installed listener; one that is broken costs a warning that names it."""
        for provider in self.providers:
            if provider.category == LISTENER:
                try:
                    self._load(provider)
                except MachineError as error:
                    _left_out(provider, str(error))

    def load_findings(self) -> None:
        """Import every module with findings; one that is broken costs a warning that names it."""
        self._finders()

    def findings(self, result: RunResult) -> list[FindingRecord]:
        """Return all that is found in a result: the most severe first, else in the order in which it is found.

        The built-in findings come before those of plugins. A module that cannot be loaded, that raises, or that returns
        anything but records of the names that it declares costs a warning that names it.

        Args:
            result: complete but for its findings.
        """
        found: list[FindingRecord] = []
        for providers, module in self._finders():
            others = [plugin for plugin in self.manager.get_plugins() if plugin is not module]
            try:
                found += _found(self.manager.subset_hook_caller("find", others), providers, result)
            except MachineError as error:
                _left_out(providers[0], str(error))
        return sorted(found, key=lambda one: SEVERITIES.index(one.severity))

    def _finders(self) -> list[tuple[list[Provider], ModuleType]]:
        """Return each module with findings, imported, and who declares it; of two with one name, the first counts."""
        first: dict[str, Provider] = {}
        modules: dict[str, list[Provider]] = {}
        for provider in (one for one in self.providers if one.category == FINDING and one.kind):
            if first.setdefault(provider.kind, provider) is provider:
                modules.setdefault(provider.module, []).append(provider)
            else:
                text = f"{provider} has the name of {first[provider.kind]}; type: pip uninstall {provider.distribution}"
                _left_out(provider, text)
        finders = []
        for providers in modules.values():
            try:
                finders.append((providers, self._finder(providers[0])))
            except MachineError as error:
                _left_out(providers[0], str(error))
        return finders

    def _finder(self, provider: Provider) -> ModuleType:
        """Import and return a module that has the hook ``find``."""
        self._load(provider)
        module = importlib.import_module(provider.module)
        if not any(one.plugin is module for one in self.manager.hook.find.get_hookimpls()):
            declared = f"{provider.category}.{provider.kind}"
            raise MachineError(Problem("PK-G04", f"{provider} declares {declared}, but has no hook 'find'"))
        return module

    def emit(self, event: str, **arguments: Any) -> None:
        """Call an event hook of each loaded listener; one that raises costs a warning that names it."""
        for implementation in getattr(self.manager.hook, event).get_hookimpls():
            others = [p for p in self.manager.get_plugins() if p is not implementation.plugin]
            try:
                self.manager.subset_hook_caller(event, others)(**arguments)
            except Exception as error:  # a listener's fault must not end a run
                text = f"{event} of plugin {implementation.plugin_name} raised {type(error).__name__}: {error}"
                warnings.warn(text, category=ProbekitWarning, stacklevel=2)

    def _load(self, provider: Provider) -> dict[tuple[str, str], type[Component]]:
        if provider.module not in self._classes:
            try:
                module = importlib.import_module(provider.module)
            except (Exception, SystemExit) as error:
                what = f"plugin {provider} cannot be imported: {type(error).__name__}: {error}"
                hint = f"type: pip install --upgrade {provider.distribution}"
                raise MachineError(Problem("PK-G02", what, hint)) from error
            try:
                self._register(module, provider)
                self._classes[provider.module] = self._classes_of(module, provider)
            except MachineError:
                if self.manager.is_registered(module):
                    self.manager.unregister(module)
                raise
        return self._classes[provider.module]

    def _register(self, module: object, provider: Provider) -> None:
        try:
            self.manager.register(module, f"{provider.distribution} {provider.release}: {provider.module}")
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            hooks = {name for name in vars(hookspecs) if name.startswith(("register_", "on_")) or name == "find"}
            wrong = [name for name in vars(module) if name not in hooks and self._is_hookimpl(module, name)]
            problems = [
                Problem("PK-G03", f"plugin {provider} implements {name!r}, which is no hook", nearest(name, hooks))
                for name in wrong
            ]
            what = f"plugin {provider} does not fit the hooks: {str(error).splitlines()[-1]}"
            raise MachineError(*problems or [Problem("PK-G03", what)]) from error

    def _is_hookimpl(self, module: object, name: str) -> bool:
        return self.manager.parse_hookimpl_opts(module, name) is not None

    def _classes_of(self, module: object, provider: Provider) -> dict[tuple[str, str], type[Component]]:
        others = [plugin for plugin in self.manager.get_plugins() if plugin is not module]
        classes: dict[tuple[str, str], type[Component]] = {}
        for category, hook in REGISTER_HOOKS.items():
            try:
                lists: Iterable[list[type[Component]]] = self.manager.subset_hook_caller(hook, others)()
                found = [component for one in lists for component in one]
            except Exception as error:
                what = f"{hook} of plugin {provider} raised {type(error).__name__}: {error}"
                raise MachineError(Problem("PK-G02", what)) from error
            for component in found:
                lack = _lack(component, category)
                if lack:
                    shown = getattr(component, "__name__", repr(component))
                    raise MachineError(Problem("PK-G04", f"{hook} of plugin {provider} returns {shown}, which {lack}"))
                classes[category, component.kind_name()] = component
        return classes


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


def _lack(component: object, category: str) -> str:
    """Return what a registered thing lacks to be a component of a category; nothing when it is one."""
    from probekit.components import BASE_CLASSES

    if not (isinstance(component, type) and issubclass(component, BASE_CLASSES[category])):
        return f"is no {category}"
    if component.__abstractmethods__:
        return f"lacks {', '.join(sorted(component.__abstractmethods__))}"
    if get_origin(component.model_fields["kind"].annotation) is not Literal:
        return "lacks a kind: Literal[...]"
    return ""
