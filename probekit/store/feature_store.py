"""The feature store: feature matrices on disk, under keys that say what made them, in row ranges.

A row range is written shard by shard, its record last; readers believe only records, and compare digests. So a
process that is killed, or a machine that loses power, leaves whole ranges behind and no half ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit import durable
from probekit.store import housekeeping
from probekit.store.index import StoreIndex
from probekit.store.layout import FORMAT, MARKER, StoreFiles, Verify, tell
from probekit.store.locks import locked
from probekit.store.records import Record
from probekit.store.shards import SHARD_FORMAT, Dtype, Shard, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from probekit.components import Array, FloatArray, IntArray
    from probekit.errors import Problem
    from probekit.store.housekeeping import KeyEntry

_NOTHING_BAD: Mapping[int, str] = {}


@dataclass(frozen=True, eq=False)
class Entry:
    """One feature matrix of a row range, to be written.

    Args:
        key: hex; says what made the features.
        label: for messages and lists.
        features: shape (feature rows, width), float32.
        dtype: what is stored.
        variant: which row digests identify its rows.
        counts: feature rows per example, shape (examples,); None: one each, none for those that are bad.
    """

    key: str
    label: str
    features: FloatArray
    dtype: Dtype = "float32"
    variant: str = ""
    counts: IntArray | None = None


class FeatureStore:
    """Features on disk. Nothing is opened or made before a method is called; readers take no lock.

    Args:
        root: the store's folder.
        durability: ``full`` survives a loss of power with all that was committed; ``fast`` leaves syncing to the
            operating system, and what a loss of power damages is found and extracted again.
        verify: ``first`` compares the digest of a shard when this object first uses it, ``full`` when each index
            first does. Size and header are compared always.
    """

    def __init__(self, root: Path, *, durability: durable.Durability = "full", verify: Verify = "first") -> None:
        self.root, self.durability, self.verify = root, durability, verify
        self._files = StoreFiles(root, durability, verify)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.root, self.durability, self.verify)

    def prepare(self) -> None:
        """Make the store ready to be written to, and remove temporary files that no process writes any more.

        Raises:
            MachineError: ``PK-R13``, it is not writable; ``PK-R01``, the disk is full or fails; ``PK-R18``, the store
                has another format.
        """
        marker = self.root / MARKER
        try:
            if not self._files.check_format():
                if marker.exists():
                    tell(f"{str(marker)!r} was damaged; it is written again")
                durable.make_folder(self.root, durability=self.durability)
                durable.write_file(marker, json.dumps({"format": FORMAT}) + "\n", durability=self.durability)
            for folder in (self._files.ranges, self._files.features, self._files.locks, self._files.quarantine):
                durable.make_folder(folder, durability=self.durability)
            with durable.Temporary(self._files.ranges / "try", "fast") as trial:
                trial.write(b"probekit")
            for folder in housekeeping.folders(self._files):
                durable.remove_stale(folder)
        except OSError as error:
            raise durable.disk_error(error, self.root) from error

    def lock(
        self, name: str, *, timeout: float | None = None, waiting: Callable[[str], None]
    ) -> AbstractContextManager[None]:
        """Hold a lock while features are extracted, so that no other process extracts the same ones.

        Args:
            name: what is locked; any text.
            timeout: seconds to wait; None for as long as it takes, 0 for not at all.
            waiting: told once, before it waits, who holds the lock: process, host and since when.

        Raises:
            MachineError: ``PK-R09``, the lock was not had in time, or the file system has no locks; ``PK-R13``, the
                store is not writable.
        """
        return locked(self._files.locks, name, timeout, waiting)

    def write_range(
        self,
        digests: Mapping[str, Array],
        entries: Sequence[Entry],
        facts: Mapping[str, Any],
        bad: Mapping[int, str] = _NOTHING_BAD,
    ) -> str:
        """Write the features of some examples, extracted together: all of it or, on an error, nothing.

        Args:
            digests: per variant the digests of the examples' inputs, shape (examples, 16), uint8.
            entries: one per key.
            facts: JSON that :meth:`StoreIndex.facts` gives back.
            bad: example to reason, of examples that could not be read; they have no feature rows.

        Returns:
            The range's id, 32 hex digits.

        Raises:
            InputError: ``PK-M40``, a value is too large for an entry's dtype.
            MachineError: ``PK-R01``, the disk is full or fails; ``PK-R13``, the store is not writable.
            ValueError: the arguments do not fit each other.
        """
        examples = _check(digests, entries, bad)
        range_id = uuid.uuid4().hex
        needed = sum(entry.features.size * (4 if entry.dtype == "float32" else 2) for entry in entries)
        try:
            # The record's temporary file is opened first: while it is locked, the shards are no rubbish.
            with durable.Temporary(self._files.record(range_id), self.durability) as file:
                shards = {entry.key: self._write_shard(entry, range_id) for entry in entries}
                together = tuple(entry.key for entry in entries)
                copied = {name: np.ascontiguousarray(rows) for name, rows in digests.items()}
                record = Record(range_id, time.time(), examples, copied, together, facts, bad, shards)
                file.write(record.to_bytes())
                file.commit()
        except BaseException as error:
            self._discard(range_id, entries)
            if isinstance(error, OSError):
                raise durable.disk_error(error, self.root, needed) from error
            raise
        for entry in entries:
            self._files.touch(entry.key)
        return range_id

    def index(self, keys: Iterable[str]) -> StoreIndex:
        """Return what the store has of some keys now; a store that is not there has nothing.

        Raises:
            MachineError: ``PK-R18``, the store has another format; ``PK-R13``, it cannot be read.
        """
        self._files.check_format()
        return StoreIndex(self._files, keys)

    def entries(self) -> list[KeyEntry]:
        """Return what the store has per key, sorted by label; digests are not compared."""
        self._files.check_format()
        return housekeeping.entries(self._files)

    def history(self) -> list[Mapping[str, Any]]:
        """Return the facts of every row range, the newest first; digests are not compared."""
        self._files.check_format()
        return housekeeping.history(self._files)

    def check(self) -> list[Problem]:
        """Compare every record and shard with its digest, and move what is damaged to the quarantine.

        Returns:
            One problem per damaged, missing or later file; empty when all is sound.
        """
        self._files.check_format()
        return housekeeping.check(self._files)

    def collect_garbage(
        self, *, older_than_days: float | None, keep: Collection[str] = (), dry_run: bool
    ) -> tuple[int, int]:
        """Remove temporary files, shards and records that nothing needs, the quarantine, and keys out of use.

        Args:
            older_than_days: also remove keys that were last read or written longer ago; None for none.
            keep: keys that stay however old they are.
            dry_run: only count.

        Returns:
            Files and bytes.

        Raises:
            MachineError: ``PK-R13`` or ``PK-R01``, a file cannot be removed; ``PK-R18``, the store has another format.
        """
        if not self._files.check_format():
            return 0, 0  # not known to be a store: nothing in it is ours to remove
        return housekeeping.collect_garbage(self._files, older_than_days, keep, dry_run=dry_run)

    def _write_shard(self, entry: Entry, range_id: str) -> Shard:
        facts = {"format": SHARD_FORMAT, "key": entry.key, "range": range_id, "variant": entry.variant}
        content = encode(entry.features, entry.dtype, entry.label, facts)
        path = self._files.shard(entry.key, range_id)
        durable.make_folder(path.parent, durability=self.durability)
        durable.write_file(path, content, durability=self.durability)
        counts = None if entry.counts is None else entry.counts.astype(np.int32)
        sha256 = hashlib.sha256(content).hexdigest()
        rows, width = entry.features.shape
        return Shard(entry.key, entry.variant, entry.label, len(content), sha256, rows, width, entry.dtype, counts)

    def _discard(self, range_id: str, entries: Sequence[Entry]) -> None:
        """Remove the shards of a range that got no record, to give a full disk its space back."""
        if self._files.record(range_id).exists():
            return  # only its last sync failed
        for entry in entries:
            with contextlib.suppress(OSError, ValueError):
                durable.disk.unlink(self._files.shard(entry.key, range_id))


def _reopened(root: Path, durability: durable.Durability, verify: Verify) -> FeatureStore:
    return FeatureStore(root, durability=durability, verify=verify)


def _check(digests: Mapping[str, Array], entries: Sequence[Entry], bad: Mapping[int, str]) -> int:
    """Return the number of examples.

    Raises:
        ValueError: the arguments of a range do not fit each other.
    """
    shapes = {rows.shape for rows in digests.values()}
    if len(shapes) != 1 or any(rows.dtype != np.uint8 or rows.shape[1:] != (16,) for rows in digests.values()):
        raise ValueError(f"digests are uint8, alike in shape (examples, 16), not {sorted(shapes)}")
    examples = int(shapes.pop()[0])
    if not all(0 <= row < examples for row in bad):
        raise ValueError(f"bad examples of {examples}: {sorted(bad)[:5]}")
    if len({entry.key for entry in entries}) != len(entries):
        raise ValueError("a key stands twice in one range")
    for entry in entries:
        if entry.variant not in digests or entry.features.ndim != 2 or entry.features.dtype != np.float32:
            raise ValueError(
                f"{entry.label!r}: float32 of two axes and digests of variant {entry.variant!r} are needed"
            )
        rows = examples - len(bad)
        if entry.counts is not None:
            if entry.counts.shape != (examples,) or any(entry.counts[row] for row in bad) or (entry.counts < 0).any():
                raise ValueError(f"{entry.label!r}: counts are one per example, none for bad ones")
            rows = int(entry.counts.sum())
        if len(entry.features) != rows:
            raise ValueError(f"{entry.label!r}: {len(entry.features)} feature rows, {rows} expected")
    return examples
