"""What a feature store has of some keys, at one moment."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.store.layout import tell
from probekit.store.lookup import Lookup
from probekit.store.matrix import Segment, StoredMatrix

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from probekit.components import Array
    from probekit.store.layout import StoreFiles
    from probekit.store.lookup import Found
    from probekit.store.records import Record

_LOOKUPS = 8


class StoreIndex:
    """What a store has of some keys, from records that were read once; later writes are not seen.

    A shard is checked when rows of it are first asked for. One that is not what its record says is moved to the
    quarantine with a :class:`~probekit.errors.ProbekitWarning`, and its rows count as missing.

    Args:
        files: the store.
        keys: those that may be asked for.
    """

    def __init__(self, files: StoreFiles, keys: Iterable[str]) -> None:
        self._files = files
        self._verified: set[tuple[Path, str]] = files.verified if files.verify == "first" else set()
        self._live: dict[str, list[Segment]] = {key: [] for key in keys}
        self._lost: dict[str, list[Segment]] = {key: [] for key in self._live}
        self._lookups: OrderedDict[tuple[tuple[str, str], ...], Lookup] = OrderedDict()
        # The records are read before the folders are listed: the shards of a record are there before it is.
        records = files.read_records(self._live, files.warn_of_record, files.warn_of_newer)
        for key in self._live:
            self._sort(key, records)

    def missing(self, key: str, digests: Array) -> Array:
        """Return which examples have no features of a key; one that is recorded as unreadable is not missing.

        Args:
            key: one of the index's.
            digests: shape (examples, 16), uint8.

        Returns:
            boolean, shape (examples,).
        """
        missing: Array = self._found(key, digests)[1].positions < 0
        if missing.any() and self._lost[key]:
            self._tell_gone(key, digests[missing])
        return missing

    def bad(self, key: str, digests: Array) -> dict[int, str]:
        """Return the examples that are recorded as unreadable, with the reason; arguments as in :meth:`missing`."""
        lookup, (positions, _) = self._found(key, digests)
        there = np.flatnonzero(positions >= 0)
        flagged = there[lookup.loses[positions[there]]]
        tables = lookup.tables_of(positions[flagged])
        rows = positions[flagged] - lookup.bases[tables]
        records = [self._live[key][table].record for table in tables]
        return {int(e): record.bad[int(row)] for e, row, record in zip(flagged, rows, records, strict=True)}

    def together(self, key: str, digests: Array) -> list[tuple[tuple[str, ...], Array]]:
        """Return the row ranges that cover missing examples but have lost their shard of a key.

        Args:
            key: one of the index's.
            digests: shape (examples, 16), uint8.

        Returns:
            Per range, the newest first: the keys that were extracted together (another set is another graph, with
            other last bits), and the digests of all its examples for this key, shape (examples, 16). An example that
            several ranges cover counts for the newest alone.
        """
        missing = digests[self.missing(key, digests)]
        lost = self._lost[key]
        if not len(missing) or not lost:
            return []
        lookup = self._lookup(lost)
        return [(lost[table].record.together, lost[table].digests) for table in lookup.find(missing).tables]

    def facts(self, key: str, digests: Array) -> list[Mapping[str, Any]]:
        """Return the facts of the records that the examples' features are of, in the order of the examples.

        Args:
            key: one of the index's.
            digests: shape (examples, 16), uint8; missing ones tell nothing.

        Returns:
            Equal ones once.
        """
        lookup, (positions, _) = self._found(key, digests)
        tables, first = np.unique(lookup.tables_of(positions[positions >= 0]), return_index=True)
        used = (self._live[key][table].record.facts for table in tables[np.argsort(first)])
        return list({json.dumps(facts, sort_keys=True): facts for facts in used}.values())

    def matrix(self, key: str, digests: Array) -> StoredMatrix:
        """Return the features of examples, in their order.

        Args:
            key: one of the index's.
            digests: shape (examples, 16), uint8; one may stand twice.

        Raises:
            KeyError: some are missing.
        """
        lookup, found = self._found(key, digests)
        absent = int((found.positions < 0).sum())
        if absent:
            raise KeyError(f"{absent} of {len(digests)} examples have no features of {key}")
        self._files.touch(key)
        return StoredMatrix(self._files.maps, tuple(self._live[key]), lookup, found)

    def _sort(self, key: str, records: Sequence[Record]) -> None:
        """Sort the row ranges of a key into those whose shard is there and those that have lost it."""
        folder = self._files.folder(key)
        if not folder.is_dir():
            return  # the whole key was removed: nothing of it is lost
        there = {path.stem for path in folder.glob("*.safetensors")}
        for record in records:
            if key in record.shards:
                segment = Segment(record, record.shards[key], self._files.shard(key, record.id))
                (self._live if record.id in there else self._lost)[key].append(segment)

    def _found(self, key: str, digests: Array) -> tuple[Lookup, Found]:
        """Return where examples are, in shards that were checked."""
        live = self._live[key]
        while True:
            lookup = self._lookup(live)
            found = lookup.find(digests)
            damaged = [live[table] for table in found.tables if not self._sound(live[table])]
            if not damaged:
                return lookup, found
            self._lost[key] = sorted([*self._lost[key], *damaged], key=_newest, reverse=True)
            live[:] = [segment for segment in live if segment not in damaged]

    def _sound(self, segment: Segment) -> bool:
        why = self._files.defect(segment.shard, segment.record.id, self._verified)
        if why:
            self._files.told.add(segment.path)
            where = self._files.set_aside(segment.path)
            name = "/".join(segment.path.parts[-2:])
            tell(
                f"stored features of {segment.shard.label!r} are damaged: {name}: {why}; {where}; "
                f"its {segment.record.examples} examples are extracted again"
            )
        return not why

    def _lookup(self, segments: Sequence[Segment]) -> Lookup:
        name = tuple((segment.record.id, segment.shard.variant) for segment in segments)
        if name not in self._lookups:
            bad = [segment.bad() if segment.record.bad else None for segment in segments]
            self._lookups[name] = Lookup([segment.digests for segment in segments], bad)
            while len(self._lookups) > _LOOKUPS:
                self._lookups.popitem(last=False)
        self._lookups.move_to_end(name)
        return self._lookups[name]

    def _tell_gone(self, key: str, digests: Array) -> None:
        gone = [segment for segment in self._lost[key] if segment.path not in self._files.told]
        covered = self._lookup(gone).find(digests).positions >= 0 if gone else np.zeros(0, np.bool_)
        if covered.any():
            self._files.told.update(segment.path for segment in gone)
            tell(
                f"shards of the stored features of {gone[0].shard.label!r} are gone ({len(gone)} of them); "
                f"{int(covered.sum())} examples are extracted again"
            )


def _newest(segment: Segment) -> tuple[float, str]:
    return segment.record.written, segment.record.id
