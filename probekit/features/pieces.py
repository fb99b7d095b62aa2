"""What the batches of one row range gave, until the range is written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from probekit.errors import InputError, Problem
from probekit.steps import Positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import FloatArray, IntArray, Wanted
    from probekit.features.runner import Batch


class RangePieces:
    """What the batches of one row range gave so far."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self.wanted = wanted
        self.positions = [any(isinstance(step, Positions) for step in one.program) for one in wanted]
        self.features: list[list[FloatArray]] = [[] for _ in wanted]
        self.counts: list[list[IntArray]] = [[] for _ in wanted]
        self.bad: dict[int, str] = {}
        self.rows = 0
        self.begun = time.monotonic()

    def add(
        self, rows: IntArray, batch: Batch, found: Sequence[FloatArray], labels: Sequence[str], sets: Sequence[int]
    ) -> None:
        """Take one batch's features; ``rows`` are those that were to be read."""
        there = np.isin(rows, batch.rows)
        self.bad |= {self.rows + int(place): batch.bad[int(rows[place])] for place in np.flatnonzero(~there)}
        self.rows += len(rows)
        for place, one in enumerate(self.wanted):
            counts = np.zeros(len(rows), dtype=np.int64)
            if found:
                counts[there] = self._counts(place, batch, found[place])
                features = found[place][: counts.sum()]
                if features.shape != (counts.sum(), one.width):
                    what = (
                        f"tap {labels[sets[place]]!r} changes its size: {one.width} features in the first rows, shape "
                        f"{found[place].shape} for {len(batch.rows)} examples later"
                    )
                    raise InputError(Problem("PK-M20", what, "give the dataset inputs of one size"))
                self.features[place].append(features)
            else:
                self.features[place].append(np.zeros((0, one.width), dtype=np.float32))
            self.counts[place].append(counts)

    def _counts(self, place: int, batch: Batch, features: FloatArray) -> IntArray:
        """Return how many feature rows each example of a batch has."""
        count = len(batch.rows)
        if not self.positions[place]:
            return np.ones(count, dtype=np.int64)
        mask = next(step.mask for step in self.wanted[place].program if isinstance(step, Positions))
        if mask is not None:
            return np.asarray(batch.masks[mask][:count].reshape(count, -1).sum(axis=1), dtype=np.int64)
        fed = max((len(value) for value in batch.feed.values() if value.ndim), default=count)
        return np.full(count, len(features) // max(fed, 1), dtype=np.int64)
