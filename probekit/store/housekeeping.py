"""Looking after a feature store: what is in it, whether it is sound, and what may go."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit import durable
from probekit.errors import Problem
from probekit.store.layout import listed_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from probekit.components import Array
    from probekit.store.layout import StoreFiles
    from probekit.store.shards import Shard

_DAY = 86400.0
_REPAIR = "run the spec again: its rows are extracted again"


@dataclass(frozen=True)
class KeyEntry:
    """What a store has of one key.

    Args:
        key: hex.
        label: as the newest record gives it.
        rows: feature rows, of all row ranges; rows of ranges that overlap count in each.
        width: features.
        dtype: of the stored values.
        ranges: row ranges.
        bytes: on disk.
        written: when the newest range was written, seconds since 1970 by that machine's clock.
        used: when the key was last read or written, seconds since 1970; 0 when unknown.
    """

    key: str
    label: str
    rows: int
    width: int
    dtype: str
    ranges: int
    bytes: int
    written: float
    used: float


def entries(files: StoreFiles) -> list[KeyEntry]:
    """Return what there is per key, sorted by label and key; digests are not compared, damaged records are left out."""
    records = files.read_records(None, _ignore, lambda _: None)
    found = []
    for folder in files.key_folders():
        key = folder.name
        there = {path.stem: path.stat().st_size for path in listed_in(folder, ".safetensors")}
        mine = [record for record in records if key in record.shards and record.id in there]
        if mine:
            newest, rows = mine[0].shards[key], sum(record.shards[key].rows for record in mine)
            size = sum(there[record.id] for record in mine)
            when = mine[0].written, _last_use(folder)
            found.append(KeyEntry(key, newest.label, rows, newest.width, newest.dtype, len(mine), size, *when))
    return sorted(found, key=lambda entry: (entry.label, entry.key))


def history(files: StoreFiles) -> list[Mapping[str, Any]]:
    """Return the facts of every record, the newest first; damaged records are left out."""
    records = files.read_records(None, _ignore, lambda _: None)
    return [record.facts for record in sorted(records, key=lambda record: record.written, reverse=True)]


def check(files: StoreFiles) -> list[Problem]:
    """Compare every record and every shard with their digests, and set aside what is damaged.

    Returns:
        ``PK-R17`` per damaged file and per missing one whose rows are in no other, ``PK-R18`` per record of a later
        version; empty when all is sound.
    """
    problems: list[Problem] = []

    def refuse(path: Path, why: str) -> None:
        problems.append(_finding(files, path, f"{why}; {files.set_aside(path)}"))

    def newer(path: Path) -> None:
        what = "it was written by a later version of probekit; it is left alone"
        problems.append(Problem("PK-R18", f"{path.relative_to(files.root)}: {what}", "upgrade probekit"))

    gone: list[tuple[Shard, Array, Problem]] = []
    sound: dict[tuple[str, str], set[bytes]] = {}
    for record in files.read_records(None, refuse, newer):
        for shard in record.shards.values():
            path, digests = files.shard(shard.key, record.id), record.variants[shard.variant]
            if not path.parent.is_dir():
                continue  # the whole key was removed
            why = files.defect(shard, record.id, set())
            if why and path.exists():
                refuse(path, f"{shard.label!r}: {why}")
            elif why:
                gone.append((shard, digests, _finding(files, path, f"{shard.label!r}: {why}")))
            else:
                sound.setdefault((shard.key, shard.variant), set()).update(row.tobytes() for row in digests)
    for shard, digests, problem in gone:
        # What was lost and extracted again is no loss any more.
        again = sound.get((shard.key, shard.variant), set())
        if not all(row.tobytes() in again for row in digests):
            problems.append(problem)
    return problems


def collect_garbage(
    files: StoreFiles, older_than_days: float | None, keep: Collection[str], *, dry_run: bool
) -> tuple[int, int]:
    """Remove what nothing needs; arguments and result as in ``FeatureStore.collect_garbage``."""
    gone = _Removal(dry_run=dry_run)
    now = time.time()
    # The shards are listed before the records: a shard that is listed has its record's temporary file until it has
    # its record, so that a range that is being written is not taken for rubbish.
    shards = list(files.shards())
    dead = set(durable.stale(files.ranges, unlocked_since=now - _DAY))
    kept = {path.name[1:33] for path in durable.temporaries(files.ranges) if path not in dead}
    damaged: list[Path] = []
    found = files.read_records(None, lambda path, _: damaged.append(path), lambda path: kept.add(path.stem))
    records = {record.id: record for record in found}
    old = {folder.name for folder in _old_keys(files, older_than_days, keep, now)}
    for path in [*damaged, *listed_in(files.quarantine)]:
        gone.remove(path)
    for folder in folders(files):
        for path in durable.stale(folder, unlocked_since=now - _DAY):
            gone.remove(path)
    for key, range_id, path in shards:
        record = records.get(range_id)
        wanted = key not in old if record and key in record.shards else False
        if range_id not in kept and not wanted:
            gone.remove(path)
    listed = {(key, range_id) for key, range_id, _ in shards}
    for record in found:
        left = [key for key in record.shards if key not in old]
        # The shards of a record that is younger than their list were not listed.
        if not any((key, record.id) in listed or files.shard(key, record.id).exists() for key in left):
            gone.remove(files.record(record.id))
    if not dry_run:
        _remove_folders(files, old)
    return gone.files, gone.bytes


def folders(files: StoreFiles) -> Iterator[Path]:
    """Give every folder that files are written to."""
    yield from (files.root, files.ranges, files.locks, *files.key_folders())


class _Removal:
    """Removes files and counts them."""

    def __init__(self, *, dry_run: bool) -> None:
        self.dry_run, self.files, self.bytes = dry_run, 0, 0

    def remove(self, path: Path) -> None:
        """Remove one file; one that another process removed is not counted."""
        try:
            size = path.lstat().st_size
            if not self.dry_run:
                durable.disk.unlink(path)
        except (FileNotFoundError, IsADirectoryError):
            return
        except OSError as error:
            raise durable.disk_error(error, path.parent) from error
        self.files, self.bytes = self.files + 1, self.bytes + size


def _old_keys(files: StoreFiles, days: float | None, keep: Collection[str], now: float) -> Iterator[Path]:
    for folder in files.key_folders():
        if days is not None and folder.name not in keep and _last_use(folder) < now - days * _DAY:
            yield folder


def _last_use(folder: Path) -> float:
    """Return when a key was last used: its mark's time, else that of its newest file, else 0."""
    times = []
    for path in [folder / "used", *listed_in(folder)]:
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
            if path.name == "used":
                break
    return max(times, default=0.0)


def _remove_folders(files: StoreFiles, keys: Collection[str]) -> None:
    for key in keys:
        folder = files.folder(key)
        with contextlib.suppress(OSError):
            (folder / "used").unlink(missing_ok=True)
            folder.rmdir()
            folder.parent.rmdir()


def _finding(files: StoreFiles, path: Path, why: str) -> Problem:
    return Problem("PK-R17", f"{path.relative_to(files.root)}: {why}", _REPAIR)


def _ignore(path: Path, why: str) -> None:
    """Leave a damaged record to those who read it for its features."""
