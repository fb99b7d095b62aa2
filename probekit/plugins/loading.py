"""The loading of a kind's module, and what it must hold."""

from __future__ import annotations

import importlib
import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_origin

import pluggy
from packaging.utils import canonicalize_name

from probekit import hookspecs
from probekit.errors import MachineError, Problem, SpecError, UnknownKindError, nearest
from probekit.hookspecs import EVENT_HOOKS, FIND_HOOK, REGISTER_HOOKS, hook_names
from probekit.plugins.built_in import FINDING, FIRST_PARTY, GROUP, LISTENER
from probekit.plugins.providers import Provider, installed_providers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from types import ModuleType

    from probekit.sections import Component

DISABLE = "PROBEKIT_DISABLE_PLUGIN_AUTOLOAD"
"""The variable that switches every plugin off."""


class Plugins:
    """The kinds that are there; modules are imported when a kind is looked up.

    Args:
        providers: what there is; default: everything installed, or only probekit's own kinds where the variable
            ``PROBEKIT_DISABLE_PLUGIN_AUTOLOAD`` is set.
        without: names of distributions that are switched off.
        named: names of distributions that are used though the variable switches all off, and whose findings and
            listeners take part as if the spec required them.

    Raises:
        SpecError: ``PK-Y41``, no plugin has a name of ``without`` or ``named``, or both have it.
    """

    def __init__(
        self,
        providers: Sequence[Provider] | None = None,
        without: Collection[str] = (),
        named: Collection[str] = (),
    ) -> None:
        self.without, self.named = _normal(without), _normal(named)
        found = list(providers) if providers is not None else installed_providers()
        disabled = providers is None and bool(os.environ.get(DISABLE))
        self.off = {
            one: f"by --no-plugin {one.distribution}" if one.name in self.without else f"by {DISABLE}"
            for one in found
            if not one.built_in and (one.name in self.without or (disabled and one.name not in self.named))
        }
        """What is installed and switched off, and by what."""
        self.providers = [one for one in found if one not in self.off]
        wrong = _misnamed({one.name: one.distribution for one in found if not one.built_in}, self.without, self.named)
        if wrong:
            raise SpecError(*wrong)
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

    def loaded(self, used: Collection[tuple[str, str]] = ()) -> list[Provider]:
        """Return the providers whose module was imported, without the built-in findings, which are always there.

        Args:
            used: categories and kinds whose modules were imported for a spec, maybe through another object than this.
        """
        modules = {one.module for one in self.providers if (one.category, one.kind) in used}
        modules = {*self._classes, *(module for module in modules if module in sys.modules)}
        found = [one for one in self.providers if one.module in modules]
        return [one for one in found if not (one.built_in and one.category == FINDING)]

    def find(self, category: str, kind: str, meant: Collection[str] = ()) -> type[Component]:
        """Return the class that a kind names, importing its module.

        A built-in kind is probekit's own, whoever else claims it.

        Args:
            category: such as ``backend``.
            kind: the name in specs.
            meant: of several distributions that claim the kind, those that the spec requires, in normal form.

        Raises:
            UnknownKindError: nothing provides it.
            MachineError: two distributions claim it (``PK-G01``), or its plugin is broken (``PK-G02`` to ``PK-G04``).
        """
        claims = [p for p in self.providers if (p.category, p.kind) == (category, kind)]
        if not claims:
            raise self._unknown(category, kind)
        chosen = (
            [p for p in claims if p.built_in] or [p for p in claims if len(claims) == 1 or p.name in meant] or claims
        )
        if len(chosen) > 1:
            raise MachineError(_claimed(chosen))
        return self._class(chosen[0])

    def check(self, provider: Provider) -> None:
        """Import a provider's module, to see whether it holds what its metadata declares.

        Raises:
            MachineError: it does not, see :meth:`find`.
        """
        if provider.category in REGISTER_HOOKS and provider.kind:
            claims = [p for p in self.providers if (p.category, p.kind) == (provider.category, provider.kind)]
            if len(claims) > 1 and not provider.built_in:
                raise MachineError(_claimed(claims))
            self._class(provider)
        elif provider.category == LISTENER and provider.kind:
            self.load(provider)
        elif provider.category == FINDING and provider.kind:
            self.finder(provider)
        else:
            declared = f"{provider.category}.{provider.kind}".rstrip(".")
            categories = ", ".join([*REGISTER_HOOKS, LISTENER, FINDING])
            hint = f"its entry point is to be CATEGORY.KIND, with one of {categories}"
            raise MachineError(Problem("PK-G04", f"{provider} declares {declared!r}, which is no kind", hint))

    def finder(self, provider: Provider) -> ModuleType:
        """Import and return a module that has the hook ``find``.

        Raises:
            MachineError: it cannot be loaded, or has none (``PK-G04``).
        """
        self.load(provider)
        module = importlib.import_module(provider.module)
        if not self._implements(module, [FIND_HOOK]):
            declared = f"{provider.category}.{provider.kind}"
            raise MachineError(Problem("PK-G04", f"{provider} declares {declared}, but has no hook 'find'"))
        return module

    def load(self, provider: Provider) -> dict[tuple[str, str], type[Component]]:
        """Import a provider's module once and return the classes that it registers, by category and kind.

        Raises:
            MachineError: its plugin is broken (``PK-G02`` to ``PK-G04``).
        """
        if provider.module not in self._classes:
            try:
                module = importlib.import_module(provider.module)
            except (Exception, SystemExit) as error:
                what = f"plugin {provider} cannot be imported: {type(error).__name__}: {error}"
                hint = f"type: pip install --upgrade {provider.distribution}"
                raise MachineError(Problem("PK-G02", what, hint)) from error
            try:
                self._register(module, provider)
                self._refuse_undeclared(module, provider)
                self._classes[provider.module] = self._classes_of(module, provider)
            except MachineError:
                if self.manager.is_registered(module):
                    self.manager.unregister(module)
                raise
        return self._classes[provider.module]

    def _unknown(self, category: str, kind: str) -> UnknownKindError:
        name = f"{category}.{kind}"
        for provider, by in self.off.items():
            if (provider.category, provider.kind) == (category, kind):
                what = f"kind {kind!r} is {provider.distribution}'s, which is switched off {by}"
                return UnknownKindError(what, "switch it on again")
        if name in FIRST_PARTY:
            hint = f"type: pip install {FIRST_PARTY[name]}  (in probekit's source folder)"
            return UnknownKindError(f"no installed plugin provides kind {kind!r}", hint)
        close = nearest(kind, self.kinds(category), "installed")
        listing = "" if close.startswith("installed") else f" installed: {', '.join(self.kinds(category))}"
        return UnknownKindError(f"no plugin provides kind {kind!r}", close + listing)

    def _class(self, provider: Provider) -> type[Component]:
        category, kind = provider.category, provider.kind
        classes = self.load(provider)
        found = classes.get((category, kind))
        if found is None:
            what = f"{provider} declares {category}.{kind}, but its {REGISTER_HOOKS[category]} does not return it"
            returned = [k for c, k in classes if c == category]
            raise MachineError(Problem("PK-G04", what, nearest(kind, returned, "it returns")))
        return found

    def _register(self, module: object, provider: Provider) -> None:
        try:
            self.manager.register(module, f"{provider.distribution} {provider.release}: {provider.module}")
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            hooks = hook_names()
            wrong = [name for name in vars(module) if name not in hooks and self._is_hookimpl(module, name)]
            problems = [
                Problem("PK-G03", f"plugin {provider} implements {name!r}, which is no hook", nearest(name, hooks))
                for name in wrong
            ]
            what = f"plugin {provider} does not fit the hooks: {str(error).splitlines()[-1]}"
            raise MachineError(*problems or [Problem("PK-G03", what)]) from error

    def _refuse_undeclared(self, module: object, provider: Provider) -> None:
        """Refuse hooks that would never be called, because no entry point declares them."""
        declared = {one.category for one in self.providers if one.module == provider.module}
        for category, hooks in ((FINDING, [FIND_HOOK]), (LISTENER, EVENT_HOOKS)):
            silent = [] if category in declared else self._implements(module, hooks)
            if silent:
                what = f"plugin {provider} implements {silent[0]!r}, but has no entry point '{category}.NAME'"
                hint = f'declare it: "{category}.NAME" = "{provider.module}"'
                raise MachineError(Problem("PK-G04", what, hint))

    def _implements(self, module: object, hooks: Iterable[str]) -> list[str]:
        calls = self.manager.hook
        return [h for h in hooks if any(one.plugin is module for one in getattr(calls, h).get_hookimpls())]

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


def _normal(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(canonicalize_name(name)) for name in names))


def _misnamed(known: Mapping[str, str], without: Sequence[str], named: Sequence[str]) -> list[Problem]:
    """Return what is wrong with the names of plugins on a command line.

    Args:
        known: the distributions' names, by their normal form.
        without: after ``--no-plugin``, in normal form.
        named: after ``-p``, likewise.
    """
    wrong = [
        Problem("PK-Y41", f"{option}: no plugin {name!r} is installed", nearest(name, known.values(), "installed"))
        for option, names in (("--no-plugin", without), ("-p", named))
        for name in names
        if name not in known
    ]
    both = [name for name in named if name in without]
    return wrong + [Problem("PK-Y41", f"-p and --no-plugin both name {name!r}", "leave one out") for name in both]


def _claimed(claims: Sequence[Provider]) -> Problem:
    """Return the problem of a kind that several distributions claim; the last one of them is in the way."""
    other = next(one for one in reversed(claims) if not one.built_in).distribution
    what = f"{claims[0].category} kind {claims[0].kind!r} is claimed by {' and by '.join(map(str, claims))}"
    return Problem("PK-G01", what, f"type: pip uninstall {other}, or add --no-plugin {other}")


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
