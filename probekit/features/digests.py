"""What identifies the rows of a dataset: digests of their content, each computed once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from probekit.components import row_digests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import numpy.typing as npt

    from probekit.components import Examples, IntArray

    _Known = dict[tuple[str, ...], tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]
    """By the columns beside the inputs: 16 bytes per row, and whether they are there."""

_ROWS_AT_ONCE = 1024


class RowDigests:
    """Digests of an opened dataset's rows: of its inputs, and of the columns that a model is fed beside them.

    Args:
        examples: the opened dataset.
        known: what :meth:`to_plain` gave for the same dataset, in another process.
    """

    def __init__(self, examples: Examples, known: _Known | None = None) -> None:
        self._examples = examples
        self._known: _Known = dict(known or {})

    def to_plain(self) -> _Known:
        """Return all that is known, as plain values."""
        return self._known

    def of(self, rows: IntArray, names: Collection[str] = ()) -> npt.NDArray[np.uint8]:
        """Return digests, shape (rows, 16).

        Args:
            rows: of the dataset.
            names: of inputs and columns that count; all inputs count always.
        """
        examples = self._examples
        columns = tuple(sorted(name for name in names if name not in examples.input_names and name in examples.columns))
        inputs = self._once((), rows, examples.digests)
        if not columns:
            return inputs

        def with_columns(part: IntArray) -> list[bytes]:
            own = self._once((), part, examples.digests)
            more = row_digests({name: examples.columns[name][part] for name in columns}, len(part))
            return [hashlib.blake2b(a.tobytes() + b, digest_size=16).digest() for a, b in zip(own, more, strict=True)]

        return self._once(columns, rows, with_columns)

    def _once(
        self, columns: tuple[str, ...], rows: IntArray, digest: Callable[[IntArray], list[bytes]]
    ) -> npt.NDArray[np.uint8]:
        if columns not in self._known:
            count = len(self._examples)
            self._known[columns] = np.zeros((count, 16), dtype=np.uint8), np.zeros(count, dtype=bool)
        digests, there = self._known[columns]
        new = np.unique(rows[~there[rows]])
        for start in range(0, len(new), _ROWS_AT_ONCE):
            part = new[start : start + _ROWS_AT_ONCE]
            digests[part] = np.frombuffer(b"".join(digest(part)), dtype=np.uint8).reshape(-1, 16)
            there[part] = True
        return digests[rows]
