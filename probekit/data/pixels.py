"""From stored values to what a model was trained on: (x ÷ scale - mean) ÷ std."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from probekit.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Array


Spread = Annotated[float, Field(gt=0)]
"""A standard deviation that values are divided by."""


@dataclass(frozen=True)
class Pixels:
    """A scaling per channel, where axis 1 is the channel.

    Args:
        scale: values are divided by this first.
        mean: one number, or one a channel; empty means 0.
        std: one number, or one a channel; empty means 1.
        untouched: leave values and dtype as they are.
    """

    scale: float = 1.0
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    untouched: bool = False

    def scaled(self, array: Array) -> Array:
        """Return float32 of the shape of ``array``, (examples, channels, ...).

        Raises:
            InputError: ``PK-L22``, mean or std has another number of channels.
        """
        if self.untouched:
            return array
        values = array.astype(np.float32) / np.float32(self.scale)
        if self.mean:
            values -= self._per_channel("mean", self.mean, values)
        if self.std:
            values /= self._per_channel("std", self.std, values)
        return values

    @staticmethod
    def _per_channel(name: str, numbers: Sequence[float], values: Array) -> Array:
        if len(numbers) == 1:
            return np.asarray(numbers, dtype=np.float32)
        channels = values.shape[1] if values.ndim > 1 else 1
        if len(numbers) != channels:
            what = f"preprocess.{name} has {len(numbers)} numbers for {channels} channels"
            raise InputError(Problem("PK-L22", what, "give one number, or one a channel"))
        return np.asarray(numbers, dtype=np.float32).reshape(1, -1, *[1] * (values.ndim - 2))
