"""Finding rows by the 16-byte digests of their inputs, a million at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Array, IntArray

_KEPT = 3
"""Answers that are kept: the same rows are asked for once per feature matrix."""


class Found(NamedTuple):
    """Where digests are.

    Args:
        positions: in the tables laid end to end, shape (examples,), read-only; -1 for none.
        tables: the numbers of the tables that they lie in, sorted.
    """

    positions: IntArray
    tables: list[int]


class Lookup:
    """Positions of digests in a list of tables laid end to end.

    Args:
        tables: digests, each of shape (rows, 16), uint8; where a digest stands twice, the first table wins.
        last: per table, rows that lose against all others with the same digest, boolean (rows,); None for none.
    """

    def __init__(self, tables: Sequence[Array], last: Sequence[Array | None]) -> None:
        self.bases: IntArray = np.cumsum([0, *(len(table) for table in tables)], dtype=np.int64)
        """Where each table begins; the last entry is the number of all rows."""
        digests = np.concatenate([np.zeros((0, 16), np.uint8), *tables])
        high, low = _halves(digests)
        flags = [np.zeros(len(t), np.bool_) if f is None else f for t, f in zip(tables, last, strict=True)]
        loses = self.loses = np.concatenate([np.zeros(0, np.bool_), *flags])
        order = np.argsort(high, kind="stable")
        if len(order) and (high[order[1:]] == high[order[:-1]]).any():
            order = np.lexsort((loses, low, high))
        high, low = high[order], low[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        self._high, self._low, self._rows = high[first], low[first], order[first]
        self._answers: list[tuple[Array, Found]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_answers": []}

    def find(self, digests: Array) -> Found:
        """Return where digests are.

        Args:
            digests: shape (examples, 16), uint8.
        """
        for number, (asked, found) in enumerate(self._answers):
            if np.array_equal(asked, digests):
                self._answers.insert(0, self._answers.pop(number))
                return found
        positions = self._find(*_halves(digests))
        positions.flags.writeable = False
        present = np.zeros(len(self.loses) + 1, np.bool_)
        present[positions] = True  # those that are not found fall on the last place
        counts = np.diff(np.concatenate([[0], np.cumsum(present[:-1])])[self.bases])
        found = Found(positions, np.flatnonzero(counts).tolist())
        self._answers = [(digests.copy(), found), *self._answers[: _KEPT - 1]]
        return found

    def tables_of(self, positions: IntArray) -> IntArray:
        """Return which table each position lies in."""
        return np.searchsorted(self.bases, positions, side="right") - 1

    def _find(self, high: Array, low: Array) -> IntArray:
        found = np.full(len(high), -1, np.int64)
        places = np.searchsorted(self._high, high)
        asked = np.arange(len(high))
        # Most are settled in the first round; each further one is for rows that share their first 8 bytes.
        while len(asked):
            there = places < len(self._high)
            asked, places = asked[there], places[there]
            alike = self._high[places] == high[asked]
            asked, places = asked[alike], places[alike]
            same = self._low[places] == low[asked]
            found[asked[same]] = self._rows[places[same]]
            asked, places = asked[~same], places[~same] + 1
        return found


def _halves(digests: Array) -> tuple[Array, Array]:
    if digests.dtype != np.uint8 or digests.ndim != 2 or digests.shape[1] != 16:
        raise ValueError(f"digests are uint8 of shape (examples, 16), not {digests.dtype} of {digests.shape}")
    words = np.ascontiguousarray(digests).view(np.uint64).reshape(-1, 2)
    return np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])
