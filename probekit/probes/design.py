"""The training rows that a fit passes over, held or read block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probekit.probes.standardise import rows_at_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.components import FeatureMatrix, IntArray
    from probekit.probes.standardise import Standardiser

READ_AHEAD = 2
"""Blocks that wait, read and standardised, for the products."""


class Design(ABC):
    """Standardised rows on a device.

    Attributes:
        shape: (rows, features).
        device: where blocks are.
        streamed: whether each pass reads the rows anew.
    """

    shape: tuple[int, int]
    device: torch.device
    streamed: bool

    def __len__(self) -> int:
        return self.shape[0]

    def numel(self) -> int:
        """Return the number of values."""
        return self.shape[0] * self.shape[1]

    @abstractmethod
    def blocks(self, dtype: torch.dtype, at_once: int) -> Iterator[Tensor]:
        """Give the rows in order.

        Args:
            dtype: of the blocks.
            at_once: the most rows of a block.
        """

    @abstractmethod
    def release(self) -> None:
        """Drop copies of another dtype."""

    @abstractmethod
    def gather(self, rows: Tensor) -> Tensor:
        """Return some rows in float32; their numbers rise."""


class Held(Design):
    """Rows that are held.

    Args:
        X: shape (rows, features), float32 or float64.
    """

    streamed = False

    def __init__(self, X: Tensor) -> None:
        self.X = X
        self.shape, self.device = (X.shape[0], X.shape[1]), X.device
        self._cast: dict[torch.dtype, Tensor] = {}

    def blocks(self, dtype: torch.dtype, at_once: int) -> Iterator[Tensor]:
        """Give views of the rows; a half-width copy is kept once it is asked for, a wider one is not."""
        X = self._narrow(dtype) if dtype.itemsize < self.X.dtype.itemsize else self.X
        for start in range(0, len(self), at_once):
            yield X[start : start + at_once].to(dtype)

    def gather(self, rows: Tensor) -> Tensor:
        """Index the rows."""
        return self.X[rows].float()

    def release(self) -> None:
        """Drop the half-width copy."""
        self._cast.clear()

    def _narrow(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._cast:
            self._cast[dtype] = self.X.to(dtype)
        return self._cast[dtype]


class Streamed(Design):
    """Rows that are read and standardised anew in every pass, by a thread that is a few blocks ahead.

    Args:
        features: of all rows.
        train: the rows to pass over.
        scale: standardises them.
        device: where blocks go.
        most: rows that are read at a time at most; default: as many as :func:`rows_at_once` says.
    """

    streamed = True

    def __init__(
        self,
        features: FeatureMatrix,
        train: IntArray,
        scale: Standardiser,
        device: torch.device | str = "cpu",
        most: int | None = None,
    ) -> None:
        self._features, self._train, self._scale = features, train, scale
        self._most = most or rows_at_once(features)
        self.shape, self.device = (len(train), features.shape[1]), torch.device(device)

    def blocks(self, dtype: torch.dtype, at_once: int) -> Iterator[Tensor]:
        """Read block by block."""
        at_once = min(at_once, self._most)
        starts = list(range(0, len(self), at_once))

        def read(start: int) -> Tensor:
            rows = self._features.read(self._train[start : start + at_once])
            return torch.from_numpy(self._scale(rows)).to(dtype=dtype)

        if len(starts) == 1:
            yield read(0).to(self.device)
            return
        with ThreadPoolExecutor(1, "probekit-rows") as pool:
            waiting = [pool.submit(read, start) for start in starts[:READ_AHEAD]]
            try:
                for place in range(len(starts)):
                    block = waiting.pop(0).result()
                    if place + READ_AHEAD < len(starts):
                        waiting.append(pool.submit(read, starts[place + READ_AHEAD]))
                    yield block.to(self.device)
            finally:
                for one in waiting:
                    one.cancel()

    def release(self) -> None:
        """There are none."""

    def gather(self, rows: Tensor) -> Tensor:
        """Read some rows."""
        chosen = self._train[rows.cpu().numpy()]
        found = torch.empty(len(chosen), self.shape[1], device=self.device)
        for start in range(0, len(chosen), self._most):
            part = self._features.read(chosen[start : start + self._most])
            found[start : start + self._most] = torch.from_numpy(self._scale(part))
        return found


def hold(source: Design) -> Held:
    """Read all rows of a design."""
    X = torch.empty(source.shape, dtype=torch.float32, device=source.device)
    first = 0
    for block in source.blocks(torch.float32, len(source)):
        X[first : first + len(block)] = block
        first += len(block)
    return Held(X)
