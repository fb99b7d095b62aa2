"""Reads spec files: YAML 1.2 without tags and merge keys, under caps, into plain Python values with their places."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, NoReturn

from probekit.errors import Problem, SpecError, nearest
from probekit.spec.yaml_places import START, Document, Place, end_of
from probekit.spec.yaml_reader import MAX_BYTES, Reader, too_large
from probekit.spec.yaml_scalars import cited

if TYPE_CHECKING:
    import pathlib


def read_text(path: pathlib.Path, shown: str) -> str:
    """Return the text of a spec file, which messages call ``shown``, without its byte order mark.

    Raises:
        SpecError: PK-Y16 too large, PK-Y22 not UTF-8, PK-Y25 missing, unreadable or no YAML file.
    """
    try:
        status = path.stat()
        if kind := _special(status.st_mode):
            _stop("PK-Y25", f"this is {kind}, not a file", "name a .yaml file", shown)
        if path.suffix.lower() not in {".yaml", ".yml"}:
            _stop("PK-Y25", f"a spec ends in .yaml or .yml, not in {path.suffix!r}", "rename the file", shown)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if not path.parent.is_dir():
            _stop("PK-Y25", f"no such file, as there is no folder {str(path.parent)!r}", "", shown)
        names = [other.name for other in path.parent.glob("*.y*ml") if other.is_file()]
        _stop("PK-Y25", "no such file", nearest(path.name, names, "specs in this folder"), shown)
    except (OSError, ValueError) as error:
        why = str(getattr(error, "strerror", None) or error).lower()
        _stop("PK-Y25", f"the file cannot be read: {why}", "", shown)
    if len(data) > MAX_BYTES:
        _stop("PK-Y16", *too_large(max(len(data), status.st_size)), shown)
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        _stop("PK-Y22", what, "save the file as UTF-8", shown, end_of(data[: error.start].decode()))


def load(text: str, file: str) -> Document:
    """Return the mapping that ``text`` holds; ``file`` is its name in messages.

    Problems that leave the rest readable (a key twice, a tag) stand in the document, so that they can be told together
    with what validation finds.

    Raises:
        SpecError: a syntax error or a breach of a cap, after the structural problems before it; no mapping at all.
    """
    reader = Reader(text, file)
    root = reader.read()
    value = root and root.value
    if value is None:
        _raise(reader.problems)
        _stop("PK-Y20", "the spec is empty", "begin with a key, such as model:", file, START)
    if not isinstance(value, dict):
        _raise(reader.problems)
        what = f"the top level must be a mapping, but is {'a list' if isinstance(value, list) else cited(value)}"
        _stop("PK-Y21", what, "begin with a key, such as model:", file, reader.values[()])
    return Document(file, value, reader.keys, reader.values, tuple(reader.problems))


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise SpecError(*problems)


def parse_value(text: str) -> Any:
    """Return the value of ``--set key=VALUE`` under the rules of a spec file; lists and mappings in brackets only.

    Raises:
        SpecError: the problems found, with their places in ``text`` and without a file.
    """
    if not text.strip():
        return None
    reader = Reader(text, "")
    root = reader.read()
    _raise(reader.problems)
    if root is None or not root.flow or text.split(maxsplit=1)[0] == "---":
        hint = "quote it if text is meant; lists and mappings need [...] and {...}"
        _stop("PK-Y10", f"{cited(text)} is syntax of YAML, not a value", hint, "", START)
    return root.value


def _stop(code: str, what: str, hint: str, file: str = "", place: Place | None = None) -> NoReturn:
    problem = Problem(code, what, hint, file=file)
    raise SpecError(problem.at(file, place.line, place.column) if place else problem) from None


def _special(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe (FIFO)"), (stat.S_ISSOCK, "a socket"))
    return next((kind for test, kind in kinds if test(mode)), "" if stat.S_ISREG(mode) else "a device")
