"""Locks of a feature store: one process at a time extracts the same features.

The kernel holds a lock for a process and frees it when the process ends, however it ends. The text beside it says
who holds it; it is for messages only and may be wrong.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import json
import os
import socket
from typing import TYPE_CHECKING

from probekit import durable
from probekit.errors import MachineError, Problem, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL}


@contextlib.contextmanager
def locked(folder: Path, name: str, timeout: float | None, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock.

    Args:
        folder: where locks are.
        name: what is locked.
        timeout: seconds to wait; None for as long as it takes, 0 for not at all.
        waiting: told once, before it waits, who holds the lock.

    Raises:
        MachineError: ``PK-R09``, another process holds it, or the file system has no locks; ``PK-R13``, the folder
            cannot be written to.
    """
    from filelock import FileLock, Timeout

    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
    try:
        durable.make_folder(folder, durability="fast")
        _check_locks(folder)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if timeout == 0:
                raise
            waiting(f"{_holder(path)} is extracting from the same model; waiting for it to end")
            lock.acquire(timeout=-1 if timeout is None else timeout, poll_interval=0.1)
    except Timeout as error:
        hint = "wait for it to end, or allow more time with --lock-timeout"
        raise MachineError(Problem("PK-R09", f"{_holder(path)} is extracting from the same model", hint)) from error
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise _no_locks(folder) from error
        raise durable.disk_error(error, folder) from error
    text = path.with_suffix(".json")
    try:
        with contextlib.suppress(OSError):
            now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            facts = {"pid": os.getpid(), "host": socket.gethostname(), "start": now, "name": name}
            durable.write_file(text, json.dumps(facts), durability="fast")
        yield
    finally:
        with contextlib.suppress(OSError):
            durable.disk.unlink(text)
        lock.release()


def _holder(path: Path) -> str:
    """Return who holds a lock, as far as it is known."""
    try:
        facts = json.loads(path.with_suffix(".json").read_bytes()[:10_000])
        pid, host, start = (str(facts[name])[:100] for name in ("pid", "host", "start"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
    return printable(f"process {pid} on {host}, since {start},")


def _check_locks(folder: Path) -> None:
    """Refuse a file system that has no locks, where filelock would fall back to a file that outlives its process."""
    try:
        with durable.Temporary(folder / "try", "fast") as file:
            held = durable.is_held(file.temporary)
    except OSError as error:
        raise durable.disk_error(error, folder) from error
    if held is None:
        raise _no_locks(folder)


def _no_locks(folder: Path) -> MachineError:
    what = f"the file system of {str(folder)!r} has no file locks (flock)"
    return MachineError(Problem("PK-R09", what, "name a folder on a local disk", "store"))
