"""Files that are written whole or not at all, whatever fails on the way.

A file is written under another name in the same folder, synced, renamed, and the folder is synced. All steps go
through :data:`disk`, which a test may replace by a disk that fails.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import uuid
from typing import TYPE_CHECKING, Literal, Self

from probekit.errors import MachineError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

if sys.platform != "win32":
    import fcntl

Durability = Literal["full", "fast"]
Bytes = bytes | bytearray | memoryview

TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.tmp", re.DOTALL)
"""The names of temporary files; another file is never removed as one."""

AGAIN = "free some space, then run the same command"


class Disk:
    """The operations that change a disk, each one system call or a short loop of one."""

    def open(self, path: Path) -> int:
        """Create a file that is not there yet, for writing, and return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)

    def write(self, file: int, data: memoryview) -> None:
        """Write all bytes."""
        while data:
            data = data[os.write(file, data) :]

    def fsync(self, file: int) -> None:
        """Bring a file's bytes to the disk."""
        os.fsync(file)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another."""
        os.replace(source, target)  # noqa: PTH105 - one call, also for names that Path would change

    def fsync_folder(self, folder: Path) -> None:
        """Bring a folder's names to the disk, where the file system can."""
        if sys.platform == "win32":
            return
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
                raise
        finally:
            os.close(file)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def mkdir(self, folder: Path) -> None:
        """Make one folder whose parent exists."""
        folder.mkdir()


disk: Disk = Disk()


class Temporary:
    """A file that takes its name when it is whole.

    From its opening to its end its descriptor is locked (``flock``), so that :func:`remove_stale` of another process
    leaves it alone. As a context manager it removes what was not committed.

    Args:
        path: the name that it will have; what stands there stays until :meth:`commit`.
        durability: ``full`` syncs file and folder; ``fast`` leaves that to the operating system.
    """

    def __init__(self, path: Path, durability: Durability = "full") -> None:
        self.path, self.durability = path, durability
        self._committed = False
        for _ in range(100):
            self.temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.tmp")
            self._file: int | None = disk.open(self.temporary)
            if _locked(self._file) is not False and os.fstat(self._file).st_nlink > 0:
                return
            self._close()  # another process took it for a stale one before it was locked
        raise OSError(errno.EBUSY, "temporary files vanish while they are opened", str(path.parent))

    def write(self, content: str | Bytes | Iterable[Bytes]) -> None:
        """Add text as UTF-8, bytes, or bytes piece by piece."""
        assert self._file is not None  # noqa: S101 - only an open file is written
        for piece in _pieces(content):
            disk.write(self._file, piece)

    def commit(self) -> None:
        """Give the file its name.

        Raises:
            OSError: the file is lost, also where only a sync failed: the kernel may have dropped its bytes.
        """
        assert self._file is not None  # noqa: S101 - as above
        if self.durability == "full":
            disk.fsync(self._file)
        if sys.platform == "win32":
            self._close()  # Windows renames no open file
        disk.replace(self.temporary, self.path)
        self._committed = True
        self._close()
        if self.durability == "full":
            disk.fsync_folder(self.path.parent)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if not self._committed:
            with contextlib.suppress(OSError):
                disk.unlink(self.temporary)


def write_file(path: Path, content: str | Bytes | Iterable[Bytes], *, durability: Durability = "full") -> None:
    """Write a file whole or not at all.

    Args:
        path: the file; an old one stays until the new one is whole.
        content: text (written as UTF-8), bytes, or bytes in pieces.
        durability: ``full`` syncs file and folder before it returns, so that a power loss keeps the old or the new
            file; ``fast`` does not.

    Raises:
        OSError: nothing was written; the old file stands, unless only the last sync of the folder failed.
    """
    with Temporary(path, durability) as file:
        file.write(content)
        file.commit()


def make_folder(folder: Path, *, durability: Durability = "full") -> None:
    """Make a folder and its parents, each synced in its parent.

    Raises:
        OSError: as from the operating system; FileExistsError where a file has its name.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent, durability=durability)
    try:
        disk.mkdir(folder)
    except FileExistsError:
        if not folder.is_dir():
            raise
    if durability == "full":
        disk.fsync_folder(folder.parent)


def stale(folder: Path, *, unlocked_since: float | None = None) -> Iterator[Path]:
    """Give the temporary files in a folder that no process writes any more.

    Args:
        folder: only its own files are looked at, not those of the folders in it.
        unlocked_since: where the file system has no locks, those last changed before this time (seconds since 1970)
            are given; None gives none there.
    """
    for path in temporaries(folder):
        held = is_held(path)
        if held is None and unlocked_since is not None:
            with contextlib.suppress(OSError):
                held = path.stat().st_mtime >= unlocked_since
        if held is False:
            yield path


def remove_stale(folder: Path) -> int:
    """Remove the temporary files in a folder that no process writes any more; return how many."""
    removed = 0
    for path in stale(folder):
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(path)
            removed += 1
    return removed


def temporaries(folder: Path) -> list[Path]:
    """Return the temporary files in a folder, sorted; none when there is no such folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name))
    return []


def is_held(path: Path) -> bool | None:
    """Return whether a process still writes a temporary file; None when the file system cannot tell."""
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        try:
            file = os.open(path, os.O_RDWR | flags)  # NFS locks only what may be written
        except PermissionError:
            file = os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        return True  # it has got its name
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        locked = _locked(file)
        return None if locked is None else not locked
    finally:
        os.close(file)


def disk_error(error: OSError, folder: Path, needed: int = 0) -> MachineError:
    """Return what a user can do about a file that could not be written.

    Args:
        error: what the operating system said.
        folder: the folder that was written to.
        needed: how many bytes were to be written; 0 when unknown.

    Returns:
        ``PK-R13`` for a missing permission or a file in a folder's place, else ``PK-R01``.
    """
    reason = error.strerror or type(error).__name__
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR}:
        what = f"cannot write to {str(folder)!r}: {reason}"
        return MachineError(Problem("PK-R13", what, "make it writable, or name another folder", "store"))
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        what = f"cannot write to {str(folder)!r}: {reason}"
        return MachineError(Problem("PK-R01", what, "check the disk, then run the same command", "store"))
    free = ""
    with contextlib.suppress(OSError):
        existing = next(place for place in (folder, *folder.parents) if place.is_dir())
        free = f", {in_bytes(shutil.disk_usage(existing).free)} are free"
    quota = " (a quota is reached)" if error.errno == errno.EDQUOT else ""
    wanted = f": {in_bytes(needed)} are needed{free}" if needed else free
    return MachineError(Problem("PK-R01", f"the disk of {str(folder)!r} is full{quota}{wanted}", AGAIN, "store"))


def in_bytes(count: float) -> str:
    """Return a number of bytes for people.

    >>> in_bytes(12_400_000_000), in_bytes(999)
    ('12.4 GB', '999 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _locked(file: int) -> bool | None:
    """Lock a descriptor; False when another holds it, None when the file system has no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _pieces(content: str | Bytes | Iterable[Bytes]) -> Iterator[memoryview]:
    if isinstance(content, str):
        content = content.encode()
    for piece in [content] if isinstance(content, bytes | bytearray | memoryview) else content:
        yield memoryview(piece).cast("B") if len(piece) else memoryview(b"")
