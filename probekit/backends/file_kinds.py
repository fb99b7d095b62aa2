"""What a file is by its first bytes, when it is not what a spec says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.errors import InputError, Problem, absent_file

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = 512


def refuse_absent(path: Path, suffix: str, field: str) -> None:
    """Name the nearest file where there is none.

    Raises:
        InputError: ``PK-M01``.
    """
    if not path.is_file():
        raise InputError(absent_file(path, field, suffix))


def refuse_what_is_no_model(path: Path, field: str) -> None:
    """Say what a file is that holds no model at all.

    Raises:
        InputError: ``PK-M03`` an HTML page, ``PK-M04`` a Git LFS pointer, ``PK-M05`` empty.
    """
    head = read_head(path)
    kinds = [
        (not head, "PK-M05", "is empty", "export or copy it again"),
        (head.startswith(b"version https://git-lfs"), "PK-M04", "is a Git LFS pointer", "type: git lfs pull"),
        (head.lstrip()[:5].lower() in (b"<!doc", b"<html"), "PK-M03", "is an HTML page", "download it again"),
    ]
    for is_so, code, what, hint in kinds:
        if is_so:
            raise InputError(Problem(code, f"{str(path)!r} {what}", hint, field))


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(_HEAD)
