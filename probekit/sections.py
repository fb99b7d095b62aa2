"""What a section of a spec is made of: strict pydantic models, paths, names, and components looked up by ``kind``.

A component *is* one section of the spec and the thing that it configures: a frozen pydantic model with a ``kind``,
whose fields are the YAML keys and whose methods do the work. It holds no lifetimes: what it opens, it returns. It
pickles.
"""

from __future__ import annotations

import os
import re
from abc import ABC
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from probekit.errors import UnknownKindError, described

if TYPE_CHECKING:
    from collections.abc import Mapping


class Lookup(Protocol):
    """Finds the class that a kind names."""

    def find(self, category: str, kind: str) -> type[Component]:
        """Return the class, or raise an UnknownKindError that names the nearest kind."""

    def kinds(self, category: str) -> list[str]:
        """Return the names of a category's kinds."""


@dataclass(frozen=True)
class SpecContext:
    """What validation needs to know beside the spec's own text; pydantic hands it to validators as the context.

    Args:
        plugins: finds component classes by category and kind.
        folder: the spec's folder, which relative paths start from.
        environ: the variables that ``${NAME}`` in paths may name.
        lenient: leave ``${NAME}`` as it is where the variable is not set, to see what else is wrong.
    """

    plugins: Lookup
    folder: Path
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    lenient: bool = False


def fault(code: str, what: str, hint: str = "") -> PydanticCustomError:
    """Return an error for a validator to raise: its code, the fact with the offending value, what to type next."""
    return PydanticCustomError(code, "{what}", {"what": what, "hint": hint})


def faults_below(*faults: tuple[tuple[str | int, ...], PydanticCustomError]) -> ValidationError:
    """Return an error for a section's validator to raise, whose faults stand at keys below the section."""
    lines: list[InitErrorDetails] = [{"type": error, "loc": keys, "input": None} for keys, error in faults]
    return ValidationError.from_exception_data("section", lines)


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^${}]*))?\}")


def expand_path(text: str, folder: Path, environ: Mapping[str, str], *, lenient: bool = False) -> str:
    """Return an absolute path: ``${VAR}``, ``${VAR:-default}`` and ``~`` replaced, relative parts from ``folder``.

    Args:
        text: the path; a variable in it that is empty counts as one that is not set.
        folder: where a relative path starts.
        environ: the variables.
        lenient: leave ``${VAR}`` as it is where it is not set.

    Raises:
        PydanticCustomError: ``PK-Y33``, a variable is not set and has no default; ``PK-Y28``, no path.
    """
    if "${" in _VARIABLE.sub("", text):
        raise fault("PK-Y28", f"{text!r} holds a '${{' that begins no variable", "write ${NAME} or ${NAME:-default}")

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        found = environ.get(name) or default
        if found is None and not lenient:
            state = "is empty" if name in environ else "is not set"
            raise fault("PK-Y33", f"the variable ${{{name}}} in {text!r} {state}", f"type: export {name}=...")
        return match[0] if found is None else found

    expanded = os.path.expanduser(_VARIABLE.sub(value, text))  # noqa: PTH111 - Path would expand ./~ too
    if expanded.startswith("~"):
        hint = "write ./~... for a file of that name"
        raise fault("PK-Y28", f"{text!r} begins with the home folder of an unknown user", hint)
    return os.path.normpath(folder / expanded)


def resolve_path(text: str, info: ValidationInfo) -> str:
    """Return an absolute path; relative ones start from the spec's folder, or from the current one without a spec."""
    if "\0" in text or not text:
        raise fault("PK-Y28", f"{text!r} is not a path")
    context = info.context
    if isinstance(context, SpecContext):
        return expand_path(text, context.folder, context.environ, lenient=context.lenient)
    return expand_path(text, Path.cwd(), os.environ)


SpecPath = Annotated[str, AfterValidator(resolve_path), Field(json_schema_extra={"format": "path"})]
"""A path in a spec: relative to the spec's own file; ``~``, ``${VAR}`` and ``${VAR:-default}`` are replaced."""

_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


def _check_name(text: str) -> str:
    if (
        not re.fullmatch(r"[A-Za-z0-9._-]{1,80}", text)
        or text in {".", ".."}
        or text.split(".", maxsplit=1)[0].upper() in _RESERVED
    ):
        shown = text if len(text) <= 80 else f"{text[:40]}... ({len(text)} characters)"
        raise fault("PK-Y28", f"{shown!r} is not a name", "a name has 1 to 80 of A-Z a-z 0-9 . _ -")
    return text


Name = Annotated[str, AfterValidator(_check_name)]
"""A name that is also safe as a file's: 1 to 80 of ``A-Z a-z 0-9 . _ -``."""


def runtime_option(default: Any, description: str, **constraints: Any) -> Any:
    """Declare a field that changes how a thing is computed but not its values: it never enters a key."""
    return Field(default, description=description, json_schema_extra={"shapes_values": False}, **constraints)


def told_by_fingerprint(default: Any, description: str, **constraints: Any) -> Any:
    """Declare a field of a backend that says where a model is or what is asked of it: the model's own fingerprint tells
    what it holds, so that the field never enters a key.
    """
    return Field(default, description=description, json_schema_extra={"shapes_values": False}, **constraints)


class Section(BaseModel):
    """A part of a spec: strict, closed to unknown keys, frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Component(Section, ABC):
    """One section of a spec and the thing that it configures. Subclasses give ``kind`` a ``Literal`` type."""

    category: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same fields come to mean other values."""
    kind: str

    @classmethod
    def kind_name(cls) -> str:
        """Return the value of ``kind`` that names this class."""
        return str(cls.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]

    def code_to_trust(self) -> str | None:
        """Return the name of the code of the user's that this component would run, None when it runs none."""
        return None

    def identity(self) -> dict[str, Any]:
        """Return all that shapes values: the kind, its version and the fields that are no runtime options."""
        options = {
            name
            for name, info in type(self).model_fields.items()
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("shapes_values") is False
        }
        return {"version": type(self).version, **self.model_dump(mode="json", exclude=options)}


COMPONENT_MARK = "x-probekit-component"


class Pluggable:
    """Marks a field as a component: the class is looked up by the ``kind`` that the spec gives.

    Args:
        category: ``backend``, ``dataset``, ``factor``, ``reduction``, ``probe``, ``control``, ``report`` or
            ``executor``.
        bare: a lone kind's name stands for ``{kind: NAME}``.
    """

    def __init__(self, category: str, *, bare: bool = False) -> None:
        self.category = category
        self.bare = bare

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by the class that ``kind`` names."""
        return core_schema.with_info_plain_validator_function(
            self._validate, serialization=core_schema.plain_serializer_function_ser_schema(Component.model_dump)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Leave a mark that the whole spec's schema replaces by all installed kinds."""
        return {COMPONENT_MARK: self.category}

    def _validate(self, value: Any, info: Any) -> Component:
        if isinstance(value, Component):
            return value
        context = info.context
        if not isinstance(context, SpecContext):
            raise TypeError("components given as plain values need a SpecContext; see probekit.spec.load_spec")
        kinds = context.plugins.kinds(self.category)
        installed = f"installed: {', '.join(kinds)}"
        if self.bare and isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            wanted = "a kind or a mapping with one" if self.bare else "a mapping with a 'kind:'"
            hint = f"write {{kind: {value}}}" if value in kinds else installed
            raise fault("PK-Y04", f"expected {wanted}, got {described(value)}", hint)
        kind = value.get("kind")
        if kind is None:
            raise faults_below((("kind",), fault("PK-Y31", "is missing", installed)))
        if not isinstance(kind, str):
            raise faults_below((("kind",), fault("PK-Y04", f"expected text, got {described(kind)}", installed)))
        try:
            component = context.plugins.find(self.category, kind)
        except UnknownKindError as error:
            raise faults_below((("kind",), fault(error.code, error.what, error.hint))) from error
        return component.model_validate(value, context=context)
