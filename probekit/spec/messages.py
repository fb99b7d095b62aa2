"""From pydantic's errors to problems in the user's words."""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic.fields import FieldInfo

from probekit.errors import Problem, described, nearest
from probekit.sections import Pluggable, Section
from probekit.spec.model import Spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic_core import ErrorDetails

    from probekit.sections import Lookup

_EXPECTED = {
    "string_type": ["text"],
    "int_type": ["a whole number"],
    "int_from_float": ["a whole number"],
    "float_type": ["a number"],
    "bool_type": ["true", "false"],
    "list_type": ["a list"],
    "dict_type": ["a mapping"],
    "model_type": ["a mapping"],
    "model_attributes_type": ["a mapping"],
    "literal_error": [],
}
_ORDER = ["text", "a whole number", "a number", "a list", "a mapping", "true", "false"]
_BOUNDS = {
    "greater_than": ("must be more than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
    "too_short": ("must have at least", "min_length"),
    "too_long": ("must have at most", "max_length"),
}
_EXAMPLES = {
    "probekit": "write probekit: 1",
    "data": "write data: {kind: digits}",
    "labels": "write labels: {NAME: {kind: column, column: label}}",
}

Path = tuple[str | int, ...]


class Found(NamedTuple):
    """A problem before it has its line.

    Args:
        path: what is concerned, in the spec's tree; the last part may be absent there.
        problem: without a place.
        at_key: the key itself is wrong, not its value.
    """

    path: Path
    problem: Problem
    at_key: bool = False


def found(path: Path, code: str, what: str, hint: str = "", *, at_key: bool = False) -> Found:
    """Return a problem of the field at ``path``."""
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return Found(path, Problem(code, what, hint, field), at_key)


def problems_of(errors: Iterable[ErrorDetails], tree: Mapping[str, Any], plugins: Lookup) -> list[Found]:
    """Return what is wrong at each faulty place.

    Args:
        errors: of pydantic.
        tree: the plain values that were validated.
        plugins: finds the classes, whose keys messages name.
    """
    places: dict[Path, list[ErrorDetails]] = {}
    for error in errors:
        places.setdefault(_in_tree(error["loc"], tree, error["type"]), []).append(error)
    problems = []
    for path, here in places.items():
        deeper = any(other[: len(path)] == path and len(other) > len(path) for other in places)
        told = [error for error in here if error["type"] not in _EXPECTED]
        if told:
            # A branch of a union that took the value tells more than the branches that could not.
            problems += [_told(path, error, tree, plugins) for error in told]
        elif not deeper:
            problems.append(_wrong_type(path, here))
    return list(dict.fromkeys(problems))


def _in_tree(loc: tuple[int | str, ...], tree: Any, kind: str) -> Path:
    """Keep the parts of a location that the user wrote; pydantic adds the branches of unions."""
    path: list[str | int] = []
    node = tree
    for index, part in enumerate(loc):
        known = isinstance(node, dict) and part in node
        if known or (isinstance(node, list) and isinstance(part, int) and part < len(node)):
            node = node[part]
            path.append(part)
        elif index == len(loc) - 1 and (kind == "missing" or (part == "kind" and isinstance(node, dict))):
            path.append(part)
    return tuple(path)


def _wrong_type(path: Path, errors: list[ErrorDetails]) -> Found:
    value = errors[0]["input"]
    choices = [
        choice
        for error in errors
        if error["type"] == "literal_error"
        for choice in error["ctx"]["expected"].replace(" or ", ", ").split(", ")
    ]
    wanted = {word for error in errors for word in _EXPECTED[error["type"]]}
    if "a number" in wanted:
        wanted.discard("a whole number")
    words = choices + sorted(wanted, key=_ORDER.index)
    expected = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return found(path, "PK-Y04", f"expected {expected}, got {described(value)}", _meant(value, words))


def _meant(value: Any, words: list[str]) -> str:
    """Return the value in the form that was probably meant, as a hint."""
    if isinstance(value, str):
        near = nearest(value, [word[1:-1] for word in words if word[0] == "'"])
        if near.startswith("did you mean"):
            return near
        yes_no = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(value.lower())
        if yes_no and "true" in words:
            return f"write {yes_no}"
        if "a whole number" in words or "a number" in words:
            try:
                return f"write {int(value)}"
            except ValueError:
                return ""
    elif isinstance(value, float) and "a whole number" in words and value.is_integer():
        return f"write {int(value)}"
    elif isinstance(value, int) and "text" in words:
        return f"quote it: '{str(value).lower() if isinstance(value, bool) else value}'"
    if words == ["a list"] and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"write [{value}]" if len(str(value)) <= 60 else ""
    return "put '- ' before it, or [ ] around it" if words == ["a list"] and isinstance(value, dict) else ""


def _told(path: Path, error: ErrorDetails, tree: Mapping[str, Any], plugins: Lookup) -> Found:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind.startswith("PK-"):
        return found(path, kind, context["what"], context["hint"])
    if kind == "extra_forbidden":
        return _unknown_key(path, tree, plugins)
    if kind == "missing":
        return found(path, "PK-Y38", "is missing", _EXAMPLES.get(str(path[0]), "") if len(path) == 1 else "")
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        if kind.startswith("too_"):
            entries = "entry" if context[bound] == 1 else "entries"
            return found(path, "PK-Y30", f"{words} {context[bound]} {entries}, got {described(value)}")
        limit = context[bound]
        whole = isinstance(limit, float) and limit.is_integer()
        return found(path, "PK-Y30", f"{words} {int(limit) if whole else limit}, got {value!r}")
    if kind in ("value_error", "assertion_error"):
        return found(path, "PK-Y30", f"{context['error']}, got {described(value)}")
    return found(path, "PK-Y04", f"{error['msg'][0].lower()}{error['msg'][1:]}, got {described(value)}")


def _unknown_key(path: Path, tree: Mapping[str, Any], plugins: Lookup) -> Found:
    keys = _valid_keys(path[:-1], tree, plugins)
    return found(path, "PK-Y03", f"unknown key {str(path[-1])!r}", nearest(str(path[-1]), keys), at_key=True)


def _valid_keys(path: Path, tree: Any, plugins: Lookup) -> list[str]:
    """Return the keys that the section at ``path`` may have."""
    node: Any = tree
    here: list[Any] = [Spec]
    for part in path:
        node = node[part]
        here = [one for outer in here for inner in _below(outer, part) for one in _opened(inner, node, plugins)]
    sections = [one for one in here if isinstance(one, type) and issubclass(one, Section)]
    return [info.alias or name for section in sections for name, info in section.model_fields.items()]


def _below(outer: Any, part: str | int) -> Iterator[Any]:
    """Give what is declared for a key of a section, or for the entries of a container."""
    if isinstance(outer, type) and issubclass(outer, Section):
        yield from (info for name, info in outer.model_fields.items() if part == (info.alias or name))
    else:
        yield from typing.get_args(outer)[-1:]


def _opened(declared: Any, node: Any, plugins: Lookup) -> Iterator[Any]:
    """Give the sections and containers that may stand there: unions opened, kinds looked up."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if isinstance(declared, FieldInfo):
        origin, arguments = typing.Annotated, (declared.annotation, *declared.metadata)
    mark = next((one for one in arguments if isinstance(one, Pluggable)), None)
    if mark is not None:
        yield plugins.find(mark.category, node["kind"])
    elif origin is typing.Annotated:
        yield from _opened(arguments[0], node, plugins)
    elif origin in (typing.Union, types.UnionType):
        yield from (one for option in arguments for one in _opened(option, node, plugins))
    else:
        yield declared
