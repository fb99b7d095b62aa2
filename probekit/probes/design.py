"""The training rows that a fit passes over, in memory or read from the store block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from probekit.components import FloatArray

ROWS_AT_ONCE = 1 << 14
"""Rows that are turned into float64 at a time."""
_SAMPLE_BYTES = 64 << 20


class Design(ABC):
    """A matrix of standardised rows, as the products that a fit needs.

    Attributes:
        shape: (rows, features).
        dtype: of the products.
    """

    shape: tuple[int, int]
    dtype: torch.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def numel(self) -> int:
        """Return the number of values."""
        return self.shape[0] * self.shape[1]

    @abstractmethod
    def times(self, weights: Tensor) -> Tensor:
        """Return weights Xᵀ, shape (k, rows), for weights of shape (k, features)."""

    @abstractmethod
    def back(self, residuals: Tensor) -> Tensor:
        """Return residuals X, shape (k, features), for residuals of shape (k, rows)."""

    @abstractmethod
    def blocks(self) -> Iterator[Tensor]:
        """Give the rows in order, up to ``ROWS_AT_ONCE`` at a time."""

    @abstractmethod
    def sample(self, rows: int, generator: torch.Generator) -> Tensor:
        """Return at most so many random rows."""

    @abstractmethod
    def to(self, dtype: torch.dtype) -> Design:
        """Return the same rows in another dtype."""

    @abstractmethod
    def turned(self, vectors: Tensor) -> Design:
        """Return X vectors, for vectors of shape (features, axes) in float64."""


class InMemory(Design):
    """Rows that are held.

    Args:
        X: shape (rows, features).
    """

    def __init__(self, X: Tensor) -> None:
        self.X = X
        self.shape = (X.shape[0], X.shape[1])
        self.dtype = X.dtype

    def times(self, weights: Tensor) -> Tensor:
        """One product."""
        return weights @ self.X.T

    def back(self, residuals: Tensor) -> Tensor:
        """One product."""
        return residuals @ self.X

    def blocks(self) -> Iterator[Tensor]:
        """Views of the rows."""
        for i in range(0, len(self), ROWS_AT_ONCE):
            yield self.X[i : i + ROWS_AT_ONCE]

    def sample(self, rows: int, generator: torch.Generator) -> Tensor:
        """Gather random rows."""
        return self.X[torch.randperm(len(self), generator=generator)[:rows]]

    def to(self, dtype: torch.dtype) -> Design:
        """Convert all rows."""
        return self if dtype == self.dtype else InMemory(self.X.to(dtype))

    def turned(self, vectors: Tensor) -> Design:
        """Multiply all rows, in float64 where that is small."""
        exact = self.numel() <= ROWS_AT_ONCE * 1024
        return InMemory((self.X.double() @ vectors).to(self.dtype) if exact else self.X @ vectors.to(self.dtype))


class Streamed(Design):
    """Rows that are read, standardised and turned anew in every pass.

    Args:
        read: gives the standardised rows from start up to stop, float32.
        shape: (rows, features) of what it gives.
        vectors: shape (features, axes), what rows are multiplied with; None leaves them as they are.
        dtype: of the products.
        rows_at_once: rows of a block.
    """

    def __init__(
        self,
        read: Callable[[int, int], FloatArray],
        shape: tuple[int, int],
        vectors: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        rows_at_once: int = ROWS_AT_ONCE,
    ) -> None:
        self._read, self._features, self._vectors, self._rows_at_once = read, shape[1], vectors, rows_at_once
        self.shape = (shape[0], shape[1] if vectors is None else vectors.shape[1])
        self.dtype = dtype

    def times(self, weights: Tensor) -> Tensor:
        """One product a block."""
        return torch.cat([weights @ block.T for block in self.blocks()], dim=1)

    def back(self, residuals: Tensor) -> Tensor:
        """The sum of one product a block."""
        total = torch.zeros(len(residuals), self.shape[1], dtype=self.dtype)
        for number, block in enumerate(self.blocks()):
            start = number * self._rows_at_once
            total.addmm_(residuals[:, start : start + len(block)], block)
        return total

    def blocks(self) -> Iterator[Tensor]:
        """Read block by block."""
        for start in range(0, len(self), self._rows_at_once):
            block = torch.from_numpy(self._read(start, min(start + self._rows_at_once, len(self)))).to(self.dtype)
            yield block if self._vectors is None else block @ self._vectors.to(self.dtype)

    def sample(self, rows: int, generator: torch.Generator) -> Tensor:
        """Gather random rows of every block, fewer where they are wide."""
        most = min(rows, max(512, _SAMPLE_BYTES // (4 * self.shape[1])))
        chosen = torch.randperm(len(self), generator=generator)[:most].sort().values
        found = []
        for number, block in enumerate(self.blocks()):
            start = number * self._rows_at_once
            here = chosen[(chosen >= start) & (chosen < start + len(block))]
            found.append(block[here - start].clone())
        return torch.cat(found)

    def to(self, dtype: torch.dtype) -> Design:
        """Convert each block as it is read."""
        shape = (self.shape[0], self._features)
        return Streamed(self._read, shape, self._vectors, dtype, self._rows_at_once)

    def turned(self, vectors: Tensor) -> Design:
        """Multiply each block as it is read."""
        both = vectors if self._vectors is None else self._vectors @ vectors
        return Streamed(self._read, (self.shape[0], self._features), both, self.dtype, self._rows_at_once)
