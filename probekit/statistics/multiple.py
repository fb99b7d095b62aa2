"""What many tests at once are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNIFICANT = 0.05
"""A p-value, adjusted where there are many, is told as a difference where it is smaller."""


def holm(p: Sequence[float]) -> list[float]:
    """Return p values, adjusted so that chance makes any of them 0.05 or less in at most 5 % of such families of tests.

    Holm 1979, Scandinavian Journal of Statistics 6, 65. It holds however the tests depend on each other.

    Args:
        p: of each test, in [0, 1].

    Returns:
        in the same order, each at least as large and at most 1.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1))
    found = np.empty(len(p))
    found[order] = np.minimum(adjusted, 1)
    return [float(value) for value in found]
