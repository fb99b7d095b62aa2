"""From pydantic's errors to problems in the user's words."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

from probekit.errors import Problem, UnknownKindError, nearest
from probekit.sections import Pluggable, Section
from probekit.spec.model import NOT_BUILT_YET, Spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

    from probekit.sections import Lookup

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "literal_error": "",
}
_RANGES = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "too_short",
    "too_long",
    "finite_number",
}

Path = tuple[str | int, ...]


def problems_of(errors: Iterable[ErrorDetails], tree: Mapping[str, Any], plugins: Lookup) -> list[Problem]:
    """Return one problem per faulty place.

    Args:
        errors: of pydantic.
        tree: the plain values that were validated.
        plugins: finds the classes, whose keys messages name.
    """
    places: dict[Path, list[ErrorDetails]] = {}
    for error in errors:
        places.setdefault(_in_tree(error["loc"], tree, error["type"]), []).append(error)
    problems = []
    for path, found in places.items():
        deeper = any(other[: len(path)] == path and len(other) > len(path) for other in places)
        told = [error for error in found if error["type"] not in _EXPECTED]
        if told:
            # A branch of a union that took the value tells more than the branches that could not.
            problems += [_told(path, error, tree, plugins) for error in told]
        elif not deeper:
            problems.append(_wrong_type(path, found))
    return list(dict.fromkeys(problems))


def shown(path: Path) -> str:
    """Return a path as messages show it: ``taps[2].op``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def described(value: Any) -> str:
    """Return a value with its type, in the words of YAML."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    names = {str: "text", int: "the number", float: "the number", list: "a list", dict: "a mapping"}
    text = repr(value)
    return f"{names.get(type(value), type(value).__name__)} {text if len(text) <= 60 else text[:57] + '...'}"


def _in_tree(loc: tuple[int | str, ...], tree: Any, kind: str) -> Path:
    """Keep the parts of a location that the user wrote; pydantic adds the branches of unions."""
    path: list[str | int] = []
    node = tree
    for index, part in enumerate(loc):
        known = isinstance(node, dict) and part in node
        if known or (isinstance(node, list) and isinstance(part, int) and part < len(node)):
            node = node[part]
            path.append(part)
        elif kind == "missing" and index == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _wrong_type(path: Path, errors: list[ErrorDetails]) -> Problem:
    value = errors[0]["input"]
    choices = [error["ctx"]["expected"] for error in errors if error["type"] == "literal_error"]
    wanted = [_EXPECTED[error["type"]] for error in errors if error["type"] != "literal_error"]
    words = choices + list(dict.fromkeys(wanted))
    expected = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    hint = ""
    if choices and isinstance(value, str):
        names = [name.strip(" '") for choice in choices for name in choice.replace(" or ", ",").split(",")]
        hint = nearest(value, names)
    return Problem("PK-Y04", f"expected {expected}, got {described(value)}", hint, shown(path))


def _told(path: Path, error: ErrorDetails, tree: Mapping[str, Any], plugins: Lookup) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    field = shown(path)
    if kind.startswith("PK-"):
        return Problem(kind, context["what"], context["hint"], field)
    if kind == "extra_forbidden":
        keys = _valid_keys(path[:-1], tree, plugins)
        if len(path) == 1 and path[0] in NOT_BUILT_YET:
            # check_tree says so where the key holds something; an empty one changes nothing.
            return Problem("PK-Y37", f"{NOT_BUILT_YET[str(path[0])]}: not built yet", "leave the key out", field)
        return Problem("PK-Y03", f"unknown key {str(path[-1])!r}", nearest(str(path[-1]), keys), field)
    if kind == "missing":
        return Problem("PK-Y38", f"needs '{path[-1]}:'", "", shown(path[:-1]))
    if kind in _RANGES:
        what = (
            error["msg"].replace("Input should", "must").replace("should", "must").replace("Dictionary", "the mapping")
        )
        what = what[0].lower() + what[1:].replace(" after validation", "")
        return Problem("PK-Y30", f"{what}, got {described(error['input'])}", "", field)
    return Problem("PK-Y04", f"{error['msg'][0].lower()}{error['msg'][1:]}, got {described(error['input'])}", "", field)


def _valid_keys(path: Path, tree: Any, plugins: Lookup) -> list[str]:
    """Return the keys that the section at ``path`` may have."""
    section: Any = Spec
    node = tree
    for part in path:
        node = node[part]
        if isinstance(section, type) and issubclass(section, Section):
            info = section.model_fields.get(str(part))
            section = [info.annotation, *info.metadata] if info is not None else None
        section = _section_in(section, node, plugins) or section
    if not (isinstance(section, type) and issubclass(section, Section)):
        return []
    names = [info.alias or name for name, info in section.model_fields.items()]
    return names + (["kind"] if "kind" in names else [])


def _section_in(annotation: Any, node: Any, plugins: Lookup) -> Any:
    """Return the section class that an annotation and its value lead to; the annotation itself for a container."""
    parts = annotation if isinstance(annotation, list) else [annotation]
    for part in parts:
        marks = [part, *getattr(part, "__metadata__", ())]
        mark = next((m for m in marks if isinstance(m, Pluggable)), None)
        if mark is not None and isinstance(node, dict) and "kind" in node:
            try:
                return plugins.find(mark.category, str(node["kind"]))
            except UnknownKindError:
                return None
        if isinstance(part, type) and issubclass(part, Section) and mark is None:
            return part
        inner = _section_in(list(typing.get_args(part)), node, plugins) if typing.get_args(part) else None
        if inner is not None:
            return inner
    return None
