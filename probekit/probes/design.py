"""The training rows that a fit passes over, held or read block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probekit.components import ArrayMatrix
from probekit.probes.standardise import rows_at_once
from probekit.zero_copy import tensor_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.components import FeatureMatrix, IntArray
    from probekit.probes.standardise import Standardiser


@dataclass(frozen=True)
class OwnUnits:
    """How products with rows as they are become products with standardised rows, (x - mean) ⋅ factor.

    Args:
        mean: shape (features,), float64.
        factor: shape (features,), float64; 0 for a constant feature.
    """

    mean: Tensor
    factor: Tensor

    def weights(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (columns, features) for rows as they are, and what is to be added to their products."""
        own = weights.double() * self.factor
        return own.to(weights.dtype), -(own @ self.mean).to(weights.dtype)

    def gradient(self, product: Tensor, sums: Tensor) -> Tensor:
        """Return residuals times standardised rows.

        Args:
            product: residuals times rows as they are, shape (columns, features).
            sums: of the residuals, shape (columns,).
        """
        centred = product.double() - sums.double().unsqueeze(1) * self.mean
        return centred.mul_(self.factor).to(product.dtype)


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

    def own_units(self, dtype: torch.dtype) -> OwnUnits | None:  # noqa: ARG002 - of streamed rows
        """Return how to multiply :meth:`own_blocks`; None where rows are better standardised first."""
        return None

    def own_blocks(self, at_once: int) -> Iterator[Tensor]:
        """Give the rows in order as they were given, in float32, not to be written to; see :meth:`blocks`."""
        raise TypeError(f"{type(self).__name__} has standardised rows only, not {at_once} as they were")

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
    """Rows that are read and standardised anew in every pass; the store fetches a few blocks ahead.

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
        self._units: OwnUnits | None = None
        if scale.is_mild and self.device.type != "mps":  # which has no float64
            self._units = OwnUnits(
                torch.from_numpy(scale.mean).to(self.device), torch.from_numpy(1 / scale.scale).to(self.device)
            )

    def blocks(self, dtype: torch.dtype, at_once: int) -> Iterator[Tensor]:
        """Read and standardise block by block."""
        for rows in self._features.blocks(min(at_once, self._most), self._train):
            yield torch.from_numpy(self._scale(rows)).to(device=self.device, dtype=dtype)

    def own_units(self, dtype: torch.dtype) -> OwnUnits | None:
        """Leave standardising to the weights, where that loses few digits of the dtype."""
        return self._units if dtype == torch.float32 else None

    def own_blocks(self, at_once: int) -> Iterator[Tensor]:
        """Read block by block: memory of the store itself where the rows lie there as they are needed."""
        for rows in self._features.blocks(min(at_once, self._most), self._train):
            yield tensor_of(rows).to(self.device)

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


def is_worth_holding(features: FeatureMatrix, device: torch.device) -> bool:
    """Return whether standardised rows may be held: not those of the store on a processor, that maps its files anyway.

    Args:
        features: of all rows.
        device: where the rows are needed; to a GPU they would go in every pass.
    """
    return isinstance(features, ArrayMatrix) or device.type != "cpu"


def hold(source: Design) -> Held:
    """Read all rows of a design."""
    X = torch.empty(source.shape, dtype=torch.float32, device=source.device)
    first = 0
    for block in source.blocks(torch.float32, len(source)):
        X[first : first + len(block)] = block
        first += len(block)
    return Held(X)
