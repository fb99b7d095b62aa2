"""One tree of errors that a user can mend. Each carries all problems found, and each problem says
what is wrong, the offending value, where it stands, the nearest valid choice and what to type next.

Anything that is not a :class:`UserError` is a fault of probekit itself.
"""

from __future__ import annotations

import difflib
import json
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True)
class Problem:
    """One thing that the user can mend.

    Args:
        code: the fault's stable code, ``PK-Y03``; its paragraph stands in ``docs/errors.md``.
        what: the fact and the offending value, lower case, no full stop.
        hint: the nearest valid choice or the command to type next; empty when there is none.
        field: the spec's field, dotted (``model.path``); empty when no field is concerned.
        file: the file the problem stands in; empty when it stands in none.
        line: line in ``file``, from 1; 0 when unknown.
        column: column in ``line``, from 1; 0 when unknown.
    """

    code: str
    what: str
    hint: str = ""
    field: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)]) if self.file else ""
        text = ": ".join(part for part in (place, self.field, self.what) if part)
        return printable(f"{text}; {self.hint}" if self.hint else text)

    def at(self, file: str, line: int = 0, column: int = 0) -> Problem:
        """Return the same problem with its place."""
        return replace(self, file=file, line=line, column=column)


class UserError(Exception):
    """A request that cannot be carried out, for reasons the user can mend.

    Args:
        problems: all that was found, in the order of their places.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.problems


class SpecError(UserError):
    """The spec or the command line is wrong; no probe was fitted."""

    exit_code = 2


class InputError(UserError):
    """The model, the labels or the data are unusable."""

    exit_code = 3


class MachineError(UserError):
    """The machine lacks something: memory, disk, a permission, a package, a plugin."""

    exit_code = 4


class UnknownKindError(LookupError):
    """No installed plugin provides a kind.

    Args:
        what: the fact and the kind.
        hint: the nearest kind, the installed ones, what to type.
        code: the fault's code.
    """

    def __init__(self, what: str, hint: str, code: str = "PK-Y31") -> None:
        super().__init__(what)
        self.what, self.hint, self.code = what, hint, code


class ProbekitWarning(UserWarning):
    """Something that the reader of a result should know; a run keeps it in the provenance."""


EXIT_CODES = {
    0: "done",
    1: "finished, but a probe failed, a --fail-if condition held, or parity found a tap apart; what was found is told",
    2: "the spec or the command line is wrong; no probe was fitted",
    3: "the model, the labels or the data are unusable",
    4: "the environment lacks something: memory, disk, a permission, a package, a plugin",
    70: "a fault of probekit itself; the path of the crash file is printed",
    130: "interrupted",
    143: "terminated",
}


def nearest(name: str, choices: Iterable[str], label: str = "valid") -> str:
    """Say which of ``choices`` was probably meant, else list them.

    >>> nearest("tapz", ["taps", "model"])
    "did you mean 'taps'?"
    >>> nearest("xyz", ["taps", "model"])
    'valid: model, taps'
    """
    known = sorted(set(choices))
    lower = {choice.lower(): choice for choice in reversed(known)}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if close:
        return f"did you mean {lower[close[0]]!r}?"
    shown = ", ".join(known[:24]) + (f" and {len(known) - 24} more" if len(known) > 24 else "")
    return f"{label}: {shown}" if known else f"{label}: none"


def absent_file(path: Path, field: str = "", suffix: str = "", more: str = "") -> Problem:
    """Return the problem of a file that is not there, with the nearest name in its folder.

    Args:
        path: where it should be.
        field: the spec's field that names it.
        suffix: only files that end so are named.
        more: what else was looked for, after the path.
    """
    there = path.parent.glob(f"*{suffix}") if path.parent.is_dir() else []
    names = [entry.name for entry in there if entry.name != path.name]  # a folder may have that very name
    return Problem("PK-M01", f"no file {str(path)!r}{more}", nearest(path.name, names, "there"), field)


@contextmanager
def reading_file(path: str | Path, field: str = "model.path") -> Iterator[Path]:
    """Refuse a model's file that is not there, or on which what reads it raises::

        with reading_file(self.path) as file:
            return np.load(file)

    A :class:`UserError` and what says that memory is short go out as they are.

    Args:
        path: the file.
        field: the spec's field that names it.

    Yields:
        the path.

    Raises:
        InputError: ``PK-M01``, it is not there, with the nearest name in its folder; ``PK-M02``, it cannot be read:
            what was raised, on one line.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(absent_file(file, field))
    try:
        yield file
    except (UserError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        what = f"{str(path)!r} cannot be read: {text}"
        raise InputError(Problem("PK-M02", what, "export or copy it again", field)) from error


def listed(names: Iterable[object], most: int = 5) -> str:
    """Return the first ``most`` names and how many more there are.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    all_names = list(names)
    text = ", ".join(repr(str(name)) for name in all_names[:most])
    return text + (f" and {len(all_names) - most} more" if len(all_names) > most else "")


def described(value: Any) -> str:
    """Return a value with its type, in the words of YAML.

    >>> described({"kind": None}), described(True), described([])
    ('a mapping {"kind": null}', 'true', 'an empty list')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, list | dict):
        name = "list" if isinstance(value, list) else "mapping"
        return f"a {name} {_cut(json.dumps(value, ensure_ascii=False, default=str))}" if value else f"an empty {name}"
    names = {str: "text", int: "the number", float: "the number"}
    return f"{names.get(type(value), type(value).__name__)} {_cut(repr(value))}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(text: str) -> str:
    """Return text in which line ends, control characters and direction overrides are shown, not obeyed.

    >>> printable("a\\x1b[31m")
    'a\\\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clean(text: str) -> str:
    """Return text in which control characters and direction overrides are shown, not obeyed.

    Unlike :func:`printable` it leaves what a reader needs to see, such as joined emoji.

    >>> clean("a\\u202eb")
    'a\\\\u202eb'
    """
    return _UNSAFE.sub(_escaped, text)


def json_text(values: Any) -> str:
    """Return strict JSON; what a terminal would obey stands in JSON's own escapes, so that names stay exact.

    Raises:
        ValueError: a number is NaN or infinite.

    >>> json_text({"a\\u202eb": "\\x9b31m"})
    '{\\n "a\\\\u202eb": "\\\\u009b31m"\\n}\\n'
    """
    text = json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else _escaped(match), text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """Give a list that holds, at the end, what probekit warned of; other warnings go their usual way."""
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ProbekitWarning)
        usual = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, ProbekitWarning):
                told.append(str(message))
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = keep
        yield told
