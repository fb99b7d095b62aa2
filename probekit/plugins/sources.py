"""The files of a plugin: what identifies them, and whether an error came out of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from probekit.plugins.providers import installed_providers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from probekit.plugins.providers import Provider

_OWN = Path(__file__).parents[1]
"""probekit's own folder."""


def digest(distribution: str, modules: Iterable[str]) -> str | None:
    """Return a digest of the files of a distribution: of their names and contents, not of what its metadata claims.

    Counted are the files that its installation recorded, without metadata and compiled bytecode. Where that records no
    source, as for an editable installation, it is the source of the modules, with all of their packages. So both
    installations of the same source have the same digest, unless the distribution brings files beside its packages.

    Args:
        distribution: its name.
        modules: of its entry points, imported.

    Returns:
        32 hexadecimal digits (BLAKE2b); None where there is no file.
    """
    files = _recorded(distribution) or dict(_sources(modules))
    if not files:
        return None
    total = hashlib.blake2b(digest_size=16)
    for name, path in sorted(files.items()):
        total.update(f"{len(name)}:{name}".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    return total.hexdigest()


def _recorded(distribution: str) -> dict[str, Path]:
    """Return the files that the installation of a distribution recorded, by their names below its folder."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = {}
    for file in files:
        metadata = file.parts[0].endswith((".dist-info", ".egg-info")) or file.parts[0] == ".."
        editable = file.suffix == ".pth" or file.name.startswith("__editable__")
        path = Path(str(file.locate()))
        if not (metadata or editable or _compiled(file.parts)) and path.is_file():
            found[file.as_posix()] = path
    return found


def _sources(modules: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Give the files of modules, and of packages all files, by their names below the folder that imports look in."""
    for module in modules:
        prefix, root = source_of(module)
        if root is None:
            continue
        if root.is_file():
            yield f"{prefix}{root.name}", root
            continue
        for path in root.rglob("*"):
            parts = path.relative_to(root).parts
            if path.is_file() and not _compiled(parts) and not any(part.startswith(".") for part in parts):
                yield f"{prefix}{'/'.join([root.name, *parts])}", path


def source_of(module: str) -> tuple[str, Path | None]:
    """Return where a module's source is: the outermost package that holds it, else its file.

    Returns:
        what stands before its name below the folder that imports look in (``company/`` of a package without a file of
        its own), and the path; None where there is no file.
    """
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        found = sys.modules.get(".".join(parts[:end]))
        file = getattr(found, "__file__", None)
        if file is not None:
            prefix = "".join(f"{part}/" for part in parts[: end - 1])
            return prefix, Path(file).parent if hasattr(found, "__path__") else Path(file)
    return "", None


def _compiled(parts: Sequence[str]) -> bool:
    return "__pycache__" in parts or parts[-1].endswith((".pyc", ".pyo"))


def blamed(error: BaseException) -> Provider | None:
    """Return the plugin whose code raised an error; None where that was probekit's own or nobody's.

    It is the one that the innermost call lies in, calls of other libraries apart. The text of an error counts where it
    holds the traceback of another process.
    """
    roots = {
        root: one
        for one in installed_providers()
        if not one.built_in and (root := source_of(one.module)[1]) is not None
    }
    for file in reversed(list(_files(error))):
        for root, provider in roots.items():
            if Path(file) == root or root in Path(file).parents:
                return provider
        if _OWN in Path(file).parents:
            return None
    return None


def _files(error: BaseException) -> Iterator[str]:
    """Give the file of each call that an error came through, the innermost last."""
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame.f_code.co_filename
        step = step.tb_next
    yield from re.findall(r'^  File "([^"\n]+)", line \d+', str(error), flags=re.MULTILINE)
