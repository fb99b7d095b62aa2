"""The plugin API as text: every public name, hook and test class, with signatures and fields.

``python -m probekit.authoring.api`` prints ``docs/plugin_api.md``.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from abc import ABC
from dataclasses import MISSING, is_dataclass
from dataclasses import fields as dataclass_fields
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

_VOCABULARY = ("components", "results", "results.judgements", "results.scores", "steps", "sections", "spec", "errors")
"""Where the types stand that signatures and fields name."""
_OWN = "probekit."

_HEAD = """\
# Plugin API {version}

What a plugin may use, made from the code by `python -m probekit.authoring.api`. Digest: `{digest}`.

A plugin that uses nothing else works with every probekit of the same first number of this version. The second number
rises with what is new, the first with what is changed or gone; [the changelog](../CHANGELOG.md) says what.
`probekit.API_VERSION` holds it. [The plugin guide](plugin_guide.md) shows how the names are used.
"""


def page() -> str:
    """Return the page of the API, Markdown."""
    from probekit.hookspecs import API_VERSION

    text = listing()
    return f"{_HEAD.format(version=API_VERSION, digest=digest(text))}\n{text}"


def digest(text: str) -> str:
    """Return 12 hexadecimal digits (BLAKE2b) that identify a listing."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def announcement(text: str) -> str:
    """Return what the changelog says of a version of the API, for :func:`listing`'s text."""
    from probekit.hookspecs import API_VERSION

    return f"Plugin API {API_VERSION} (`{digest(text)}`)"


def listing() -> str:
    """Return the list of hooks, names, records and test classes, Markdown, the same for the same code."""
    import probekit
    from probekit import hookspecs, testing

    public = {name: getattr(probekit, name) for name in probekit.__all__ if name != "API_VERSION"}
    hooks = {name: getattr(hookspecs, name) for name in hookspecs.hook_names()}
    kit = {name: getattr(testing, name) for name in testing.__all__}
    lines = ["## Hooks", "", "```python"]
    lines += [signature(name, hook) for name, hook in hooks.items()]
    lines += ["```", "", "## Names of `probekit`"]
    for name, one in public.items():
        lines += _entry(name, one)
    classes, aliases = reached([*public.values(), *hooks.values()], public)
    lines += ["", "## Records that these name"]
    for name, one in sorted(classes.items()):
        lines += _entry(name, one)
    lines += ["", "## Types that these name", "", "```python"]
    lines += [f"{name} = {_source_of_alias(name)}" for name in sorted(aliases)]
    lines += ["```"]
    lines += ["", "## Test classes of `probekit.testing`", "", "Listed are the fixtures that an author may override."]
    for name, one in kit.items():
        lines += _kit_entry(name, one)
    return "\n".join(lines) + "\n"


def reached(start: list[Any], known: Mapping[str, Any]) -> tuple[dict[str, type], set[str]]:
    """Return what signatures and fields lead to, without what is known: probekit's classes by name, and other types."""
    classes: dict[str, type] = {}
    aliases: set[str] = set()
    todo = [one for one in start if inspect.isclass(one) or inspect.isfunction(one)]
    while todo:
        for name in set(re.findall(r"\b[A-Z]\w+\b", "\n".join(_own_lines(todo.pop())))) - {*known, *classes}:
            one = _named(name)
            if inspect.isclass(one) and one.__module__.startswith(_OWN):
                classes[name] = one
                todo.append(one)
            elif one is not None and not inspect.isclass(one) and _source_of_alias(name):
                aliases.add(name)
    return classes, aliases


def _named(name: str) -> Any:
    """Return what the vocabulary calls by a name; None where it is not of it."""
    homes = (importlib.import_module(f"{_OWN}{home}") for home in _VOCABULARY)
    return next((getattr(home, name) for home in homes if hasattr(home, name)), None)


def _own_lines(one: Any) -> list[str]:
    return members(one) if inspect.isclass(one) else [signature("f", one)]


def _entry(name: str, one: Any) -> list[str]:
    title = ["", f"### `{name}`", ""]
    if isinstance(one, ModuleType):
        inner = [(key, value) for key, value in vars(one).items() if _is_of(one, key, value)]
        blocks = [line for key, value in inner for line in (*_shown(key, value), "")]
        return [*title, _summary(one), "", "```python", *blocks[:-1], "```"]
    if not (inspect.isclass(one) or inspect.isroutine(one)):
        return [*title, "```python", f"{name} = {_source_of_alias(name)}", "```"]
    return [*title, _summary(one), "", "```python", *_shown(name, one), "```"]


def _source_of_alias(name: str) -> str:
    """Return what a name stands for, as its module says it."""
    pattern = re.compile(rf"^{name}(?:: [^=]*)? = (.+)$", flags=re.MULTILINE)
    for module in [module for key, module in sorted(sys.modules.items()) if key.startswith(_OWN)]:
        if hasattr(module, name):
            match = pattern.search(inspect.getsource(module))
            if match is not None:
                return match[1]
    return ""


def _is_of(module: ModuleType, name: str, one: Any) -> bool:
    own = getattr(one, "__module__", None) == module.__name__
    return own and not name.startswith("_") and (inspect.isclass(one) or inspect.isfunction(one))


def _shown(name: str, one: Any) -> list[str]:
    if not inspect.isclass(one):
        return [signature(name, one)]
    bases = [base.__name__ for base in one.__bases__ if base not in (object, ABC, Protocol)]
    head = f"class {name}({', '.join(bases)})" if bases else f"class {name}"
    lines = members(one)
    return [f"{head}:" if lines else head, *(f"    {line}" for line in lines)]


def members(one: type) -> list[str]:
    """Return the lines of what a class itself declares: fields with their defaults, methods with their signatures."""
    lines = [*_fields(one)]
    abstract: frozenset[str] = getattr(one, "__abstractmethods__", frozenset())
    if _is_own(vars(one).get("__init__")) and not is_dataclass(one):
        lines.append(signature("__init__", vars(one)["__init__"]))
    for name, member in vars(one).items():
        if (name.startswith("_") and name != "__call__") or name in inspect.get_annotations(one):
            continue
        raw = getattr(member, "__func__", getattr(member, "wrapped", member))
        if isinstance(member, property) or type(member).__name__ == "cached_property":
            getter: Any = member.fget if isinstance(member, property) else member.func
            lines.append(f"{name}: {_annotation(inspect.get_annotations(getter).get('return', 'Any'))}  # property")
        elif _is_own(raw):
            lines.append(f"{signature(name, raw)}{'  # to write' if name in abstract else ''}")
    return lines


def _is_own(member: Any) -> bool:
    return inspect.isfunction(member) and (member.__module__ or "").startswith(_OWN)


def _fields(one: type) -> Iterator[str]:
    annotations = inspect.get_annotations(one)
    declared = {field.name: field for field in dataclass_fields(one)} if is_dataclass(one) else {}
    models = getattr(one, "model_fields", {}) if issubclass(one, BaseModel) else {}
    for name, annotation in annotations.items():
        if name.startswith("_") or name == "model_config":
            continue
        said = f"{name}: {annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)}"
        if name in models:
            yield f"{said}{_default(models[name])}"
        elif name in declared:
            field = declared[name]
            made = field.default_factory is not MISSING
            yield (
                said
                if field.default is MISSING and not made
                else f"{said} = {'...' if made else _value(field.default)}"
            )
        else:
            yield f"{said} = {_value(vars(one)[name])}" if name in vars(one) else said


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None:
        return " = ..."
    return "" if info.default is PydanticUndefined else f" = {_value(info.default)}"


def signature(name: str, function: Any) -> str:
    """Return a signature as it stands in the source, with its annotations unresolved."""
    parts: list[str] = []
    kinds = inspect.Parameter
    before = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is kinds.KEYWORD_ONLY and before not in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL):
            parts.append("*")
        stars = "*" if parameter.kind is kinds.VAR_POSITIONAL else "**" if parameter.kind is kinds.VAR_KEYWORD else ""
        typed = "" if parameter.annotation is kinds.empty else f": {_annotation(parameter.annotation)}"
        equals = " = " if typed else "="
        default = "" if parameter.default is kinds.empty else f"{equals}{_value(parameter.default)}"
        parts.append(f"{stars}{parameter.name}{typed}{default}")
        before = parameter.kind
    returned = inspect.signature(function).return_annotation
    arrow = "" if returned is inspect.Signature.empty else f" -> {_annotation(returned)}"
    return f"def {name}({', '.join(parts)}){arrow}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _value(value: Any) -> str:
    """Return a default as source would have it; of what has no short form its name."""
    if isinstance(value, str | int | float | bool | tuple | list | dict | frozenset) or value is None:
        return repr(value)
    name = getattr(value, "__name__", "_")
    return "..." if name.startswith("_") else name


def plain(text: str) -> str:
    """Return a docstring's text with Markdown's code spans.

    >>> plain("Takes ``x`` of :meth:`open`.")
    'Takes `x` of `open`.'
    """
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", text).replace("``", "`")


def _summary(one: Any) -> str:
    return " ".join(plain((inspect.getdoc(one) or "").split("\n\n")[0]).split())


def _kit_entry(name: str, one: Any) -> list[str]:
    if not inspect.isclass(one):
        return _entry(name, one)
    fixtures: dict[str, str] = {}
    for base in reversed(one.__mro__):
        for key, member in vars(base).items():
            function = getattr(member, "_get_wrapped_function", lambda: None)()
            if function is not None and base.__module__.startswith(_OWN):
                fixtures[key] = str(inspect.get_annotations(function).get("return", "Any"))
    lines = [f"    {key}: {returned}" for key, returned in fixtures.items() if key != "component"]
    return ["", f"### `{name}`", "", _summary(one), "", "```python", f"class {name}:", *lines, "```"]


if __name__ == "__main__":
    sys.stdout.write(page())
