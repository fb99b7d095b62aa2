"""A feature matrix whose rows lie in many shards, read as if it were one array."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.errors import MachineError, Problem
from probekit.store.shards import BadShardError, starts_of, widen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from probekit.components import Array, FloatArray, IntArray
    from probekit.store.lookup import Found, Lookup
    from probekit.store.records import Record
    from probekit.store.shards import Shard, ShardMaps

_COPIED_BY_RUN = {"float32": 1 << 11, "float16": 1 << 14, "bfloat16": 1 << 14}
"""Rows that follow each other in a shard are copied at once where they hold on average as many values as this."""
_FETCHED_AHEAD = 2
"""Blocks that the system reads while one is used."""
_GAP_BYTES = 1 << 19
"""What lies between two rows that are fetched is fetched with them, up to so much."""
_WORTH_A_BLOCK = 256
"""Rows that follow each other in a shard are a block of their own where there are on average as many as this."""


@dataclass(frozen=True, eq=False)
class Segment:
    """The features of one key in one row range.

    Args:
        record: of the row range.
        shard: of the key.
        path: the shard's file.
    """

    record: Record
    shard: Shard
    path: Path

    @property
    def digests(self) -> Array:
        """The digests of the segment's examples, shape (examples, 16)."""
        return self.record.variants[self.shard.variant]

    @property
    def plain(self) -> bool:
        """Whether every example has one feature row."""
        return self.shard.counts is None and not self.record.bad

    def bad(self) -> Array:
        """Return which examples could not be read, boolean (examples,)."""
        bad = np.zeros(self.record.examples, np.bool_)
        bad[list(self.record.bad)] = True
        return bad

    def counts(self) -> Array:
        """Return feature rows per example, shape (examples,)."""
        return (~self.bad()).astype(np.int32) if self.shard.counts is None else self.shard.counts


class StoredMatrix:
    """The features of one key for the examples asked, shape (feature rows, width), float32.

    Args:
        maps: opens shards.
        segments: where rows may lie, in the order of the lookup's tables.
        lookup: over the segments' digests.
        found: where the examples asked are in it; none is missing.
    """

    def __init__(self, maps: ShardMaps, segments: Sequence[Segment], lookup: Lookup, found: Found) -> None:
        self._maps, self._segments, self._lookup = maps, segments, lookup
        positions = self._positions = found.positions
        used = [segments[table] for table in found.tables]
        widths = {segment.shard.width for segment in used or segments}
        if len(widths) > 1:
            raise ValueError(f"the features of {used[0].shard.label!r} have several widths: {sorted(widths)}")
        self._plain = all(segment.plain for segment in used)
        self.counts: IntArray = np.broadcast_to(np.int64(1), positions.shape)
        """Feature rows per example asked, shape (examples,)."""
        rows = len(positions)
        if not self._plain:
            each = [segment.counts() for segment in segments]
            self.counts = np.concatenate(each)[positions].astype(np.int64)
            self._starts: IntArray = np.concatenate([starts_of(counts) for counts in each])[positions]
            self._ends: IntArray = np.cumsum(self.counts)
            rows = int(self._ends[-1]) if rows else 0
        self.shape: tuple[int, int] = (rows, min(widths, default=0))

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: IntArray | slice) -> FloatArray:
        """Return some feature rows.

        Args:
            rows: their numbers, negative ones from the end, or a slice.

        Returns:
            shape (rows, width), C-contiguous, the caller's own.

        Raises:
            IndexError: there is no such row.
            MachineError: ``PK-R17``, a shard vanished or changed after it was checked.
        """
        return self._gather(*self._locate(self._numbers(rows)))

    def blocks(self, rows_at_once: int = 8192, rows: IntArray | None = None) -> Iterator[FloatArray]:
        """Give the feature rows in order, some at a time.

        A block ends where a shard does, so that it need not be copied. Where the rows asked lie scattered, every block
        but the last has ``rows_at_once``.

        Args:
            rows_at_once: the most rows of a block.
            rows: the numbers of the feature rows to give; None for all.

        Yields:
            shape (up to ``rows_at_once``, width): read-only memory of the shard where the rows follow each other in
            one of float32, else a copy.

        Raises:
            IndexError: as :meth:`read`.
            MachineError: as :meth:`read`.
        """
        for tables, offsets in self._located(rows_at_once, rows):
            breaks = np.flatnonzero((tables[1:] != tables[:-1]) | (offsets[1:] - offsets[:-1] != 1)) + 1
            if len(breaks) and len(tables) < _WORTH_A_BLOCK * (len(breaks) + 1):
                yield self._gather(tables, offsets)
                continue
            for first, last in pairwise([0, *breaks.tolist(), len(tables)]):
                segment = self._segments[tables[first]]
                if segment.shard.dtype == "float32":
                    yield self._stored(segment)[offsets[first] : offsets[first] + last - first]
                else:
                    yield self._gather(tables[first:last], offsets[first:last])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a stored matrix becomes an array only by a copy")
        return self.read(slice(None)).astype(np.float32 if dtype is None else dtype, copy=False)

    def _located(self, rows_at_once: int, rows: IntArray | None) -> Iterator[tuple[IntArray, IntArray]]:
        """Give what :meth:`_locate` says of each block, while the system fetches the next ones."""
        numbers = None if rows is None else self._numbers(rows)
        total = self.shape[0] if numbers is None else len(numbers)
        ahead: deque[tuple[IntArray, IntArray]] = deque()
        for start in range(0, total, rows_at_once):
            stop = min(start + rows_at_once, total)
            ahead.append(self._locate(np.arange(start, stop) if numbers is None else numbers[start:stop]))
            if total > rows_at_once:
                self._fetch(*ahead[-1])
            if len(ahead) > _FETCHED_AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _fetch(self, tables: IntArray, offsets: IntArray) -> None:
        """Let the system read these rows, each stretch without wide gaps by itself."""
        for table in np.unique(tables).tolist():
            segment, there = self._segments[table], np.sort(offsets[tables == table])
            row = segment.shard.width * (4 if segment.shard.dtype == "float32" else 2)
            most = max(1, _GAP_BYTES // max(1, row))
            for some in np.split(there, np.flatnonzero(np.diff(there) > most) + 1):
                with _same_shard(segment):
                    where = (segment.path, segment.shard, segment.record.id)
                    self._maps.fetch(*where, slice(int(some[0]), int(some[-1]) + 1))

    def _numbers(self, rows: IntArray | slice) -> IntArray:
        if isinstance(rows, slice):
            return np.arange(*rows.indices(self.shape[0]))
        rows = np.asarray(rows)
        if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
            raise TypeError(f"rows are integers of shape (rows,), not {rows.dtype} of {rows.shape}")
        rows = rows.astype(np.int64, copy=False)
        if len(rows) and not -self.shape[0] <= int(rows.min()) <= int(rows.max()) < self.shape[0]:
            raise IndexError(f"feature rows {rows.min()} to {rows.max()} of {self.shape[0]}")
        return np.where(rows < 0, rows + self.shape[0], rows)

    def _locate(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Return the segment of each feature row, and its place in the segment's shard."""
        if self._plain:
            positions = self._positions[rows]
            tables = self._lookup.tables_of(positions)
            return tables, positions - self._lookup.bases[tables]
        examples = np.searchsorted(self._ends, rows, side="right")
        within = rows - self._ends[examples] + self.counts[examples]
        return self._lookup.tables_of(self._positions[examples]), self._starts[examples] + within

    def _gather(self, tables: IntArray, offsets: IntArray) -> FloatArray:
        out = np.empty((len(tables), self.shape[1]), np.float32)
        if not len(tables):
            return out
        breaks = np.flatnonzero((tables[1:] != tables[:-1]) | (offsets[1:] - offsets[:-1] != 1)) + 1
        least = _COPIED_BY_RUN[self._segments[tables[0]].shard.dtype]
        if (len(breaks) + 1) * least <= out.size or not len(breaks):
            for start, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(tables)], strict=True):
                segment, first = self._segments[tables[start]], offsets[start]
                widen(self._stored(segment)[first : first + stop - start], segment.shard.dtype, out[start:stop])
            return out
        order = np.argsort(tables, kind="stable")
        changes = np.flatnonzero(np.diff(tables[order])) + 1
        for places in np.split(order, changes):
            segment = self._segments[tables[places[0]]]
            stored = self._stored(segment)[offsets[places]]
            if segment.shard.dtype == "float32":
                out[places] = stored
            else:
                wide = np.empty(stored.shape, np.float32)
                widen(stored, segment.shard.dtype, wide)
                out[places] = wide
        return out

    def _stored(self, segment: Segment) -> Array:
        with _same_shard(segment):
            return self._maps.get(segment.path, segment.shard, segment.record.id)


@contextmanager
def _same_shard(segment: Segment) -> Iterator[None]:
    """Tell of a shard that is no longer what its record says."""
    try:
        yield
    except BadShardError as error:
        what = f"stored features of {segment.shard.label!r} changed while they were read: {error}"
        raise MachineError(Problem("PK-R17", what, "run the same command again", "store")) from error
