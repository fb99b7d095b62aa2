"""Where a feature store keeps what: its folders, its records, and the place for what is damaged.

    STORE/probekit-store.json                        the format's number
    STORE/ranges/ID.json                             one record per row range
    STORE/features/KK/KEY/ID.safetensors             one shard per key and row range
    STORE/features/KK/KEY/used                       empty; its time of change says when the key was last used
    STORE/locks/HASH.lock                            locked by the kernel while a process extracts
    STORE/quarantine/                                files that were not what they should be

All names are hashes and nothing holds a path, so that a store can be moved or copied.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Literal

from probekit import durable
from probekit.errors import MachineError, ProbekitWarning, Problem
from probekit.store.records import (
    KEY,
    MOST_BYTES,
    BadRecordError,
    NewerRecordError,
    Record,
    check_digest,
    parse_record,
)
from probekit.store.shards import BadShardError, Shard, ShardMaps, check_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

FORMAT = 1
MARKER = "probekit-store.json"
Verify = Literal["first", "full"]
_RANGE = re.compile(r"[0-9a-f]{32}")


class StoreFiles:
    """The files of one store.

    Args:
        root: the store's folder; it need not be there.
        durability: of what is written, as in :mod:`probekit.durable`.
        verify: when digests of shards are compared: on the first use, or on the first use of every index.
    """

    def __init__(self, root: Path, durability: durable.Durability, verify: Verify) -> None:
        self.root, self.durability, self.verify = root, durability, verify
        self.ranges, self.features = root / "ranges", root / "features"
        self.locks, self.quarantine = root / "locks", root / "quarantine"
        self.maps = ShardMaps()
        self.verified: set[tuple[Path, str]] = set()
        self.told: set[Path] = set()

    def folder(self, key: str) -> Path:
        """Return the folder of a key's shards."""
        if not KEY.fullmatch(key):
            raise ValueError(f"a key is 8 to 128 hex digits, not {key!r}")
        return self.features / key[:2] / key

    def shard(self, key: str, range_id: str) -> Path:
        """Return where the shard of a key and a row range is."""
        return self.folder(key) / f"{range_id}.safetensors"

    def record(self, range_id: str) -> Path:
        """Return where the record of a row range is."""
        return self.ranges / f"{range_id}.json"

    def check_format(self) -> bool:
        """Return whether the store says that it has this format.

        Raises:
            MachineError: ``PK-R18``, it has another; ``PK-R13``, it cannot be read.
        """
        try:
            content = (self.root / MARKER).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise unreadable(error, self.root) from error
        try:
            found: Any = json.loads(content)
        except (ValueError, RecursionError):
            return False
        found = found.get("format") if isinstance(found, dict) else None
        if found != FORMAT or isinstance(found, bool):
            what = f"the feature store {str(self.root)!r} has format {found!r}; this probekit reads format {FORMAT}"
            hint = "name another folder, or use the probekit that wrote it; nothing was changed"
            raise MachineError(Problem("PK-R18", what, hint, "store"))
        return True

    def range_ids(self) -> list[str]:
        """Return the ids of all row ranges that have a record, sorted."""
        return sorted(path.stem for path in listed_in(self.ranges, ".json") if _RANGE.fullmatch(path.stem))

    def shards(self) -> Iterator[tuple[str, str, Path]]:
        """Give (key, range id, path) of every file that has the name of a shard, sorted."""
        for folder in self.key_folders():
            for path in listed_in(folder, ".safetensors"):
                if _RANGE.fullmatch(path.stem):
                    yield folder.name, path.stem, path

    def key_folders(self) -> Iterator[Path]:
        """Give the folder of every key, sorted."""
        for first in listed_in(self.features):
            yield from (folder for folder in listed_in(first) if KEY.fullmatch(folder.name) and folder.is_dir())

    def read_records(
        self, keys: Collection[str] | None, refuse: Callable[[Path, str], None], newer: Callable[[Path], None]
    ) -> list[Record]:
        """Return the valid records, the newest first.

        Args:
            keys: only records that name one of these keys; None for all.
            refuse: told of a damaged record's path and of what is wrong with it.
            newer: told of a record's path that a later version wrote.
        """
        names = None if keys is None else [f'"{key}"'.encode() for key in keys]
        records = []
        for range_id in self.range_ids():
            path = self.record(range_id)
            try:
                content = _content(path)
                if content is None:
                    continue
                check_digest(content)
                if names is None or any(name in content for name in names):
                    records.append(parse_record(content, range_id))
            except BadRecordError as error:
                refuse(path, str(error))
            except NewerRecordError:
                newer(path)
        return sorted(records, key=lambda record: (record.written, record.id), reverse=True)

    def defect(self, shard: Shard, range_id: str, verified: set[tuple[Path, str]]) -> str:
        """Return what is wrong with a shard, empty for nothing.

        Args:
            shard: what its record tells of it.
            range_id: its row range.
            verified: the shards whose digest was compared; this one is added.

        Raises:
            MachineError: ``PK-R13``, it cannot be read.
        """
        path = self.shard(shard.key, range_id)
        name = (path, shard.sha256)
        try:
            try:
                check_shard(path, shard, range_id, digest=name not in verified)
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE}:
                    raise
                self.maps.forget()  # every mapped shard holds a descriptor
                check_shard(path, shard, range_id, digest=name not in verified)
        except BadShardError as error:
            return str(error)
        except OSError as error:
            raise unreadable(error, path) from error
        verified.add(name)
        return ""

    def set_aside(self, path: Path) -> str:
        """Move a file to the quarantine, and say where it is now."""
        self.maps.forget(path)
        target = self.quarantine / f"{path.parent.name}.{path.name}.{uuid.uuid4().hex[:8]}"
        try:
            durable.make_folder(self.quarantine, durability=self.durability)
            durable.disk.replace(path, target)
        except FileNotFoundError:
            return "it was not there any more"
        except OSError as error:
            return f"it could not be moved: {error.strerror}"
        return f"it was moved to {self.quarantine.name}/{target.name}"

    def warn_of_record(self, path: Path, why: str) -> None:
        """Set a damaged record aside and warn of it."""
        where = self.set_aside(path)
        tell(f"the record {path.name!r} of the feature store is not valid: {why}; {where}; its rows count as missing")

    def warn_of_newer(self, path: Path) -> None:
        """Warn of a record of a later version, once."""
        if path not in self.told:
            self.told.add(path)
            tell(f"the record {path.name!r} of the feature store is of a later version of probekit: it is not used")

    def touch(self, key: str) -> None:
        """Note that a key was used; a store that cannot be written to is left as it is."""
        path = self.folder(key) / "used"
        with contextlib.suppress(OSError):
            path.touch()


def tell(text: str) -> None:
    """Warn of what a user should know."""
    warnings.warn(text, ProbekitWarning, stacklevel=3)


def _content(path: Path) -> bytes | None:
    """Return a record's bytes; None when it is not there any more."""
    try:
        if path.stat().st_size > MOST_BYTES or not path.is_file():
            raise BadRecordError("it is too large, or no file")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in {errno.EIO, errno.EISDIR, errno.ELOOP}:
            raise BadRecordError(f"it cannot be read: {error.strerror}") from error
        raise unreadable(error, path) from error


def listed_in(folder: Path, suffix: str = "") -> list[Path]:
    """Return what is in a folder, sorted; nothing when there is none."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.endswith(suffix) and not e.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(error, folder) from error
    return [folder / name for name in names]


def unreadable(error: OSError, path: Path) -> MachineError:
    """Return what a user can do about a part of the store that cannot be read."""
    if error.errno not in {errno.EACCES, errno.EPERM}:
        what = f"cannot read {str(path)!r}: {error.strerror}"
        return MachineError(Problem("PK-R17", what, "check the disk, then run the same command", "store"))
    what = f"cannot read {str(path)!r}: {error.strerror}"
    return MachineError(Problem("PK-R13", what, "make it readable, or name another folder", "store"))
