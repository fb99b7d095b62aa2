"""How far two passes over the same examples are apart, as shares of the largest value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Array


def relative_difference(one: Array, other: Array) -> float:
    """Return the largest difference as a share of the largest absolute value of ``other``; NaN equals NaN.

    Where one has an infinity or NaN that the other has not, or where the shapes differ, the difference is infinite.

    Args:
        one: an array of numbers of any shape.
        other: what it is compared with.

    >>> relative_difference(np.array([1.0, 2.5]), np.array([1.0, 2.0]))
    0.25
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape:
        return float("inf")
    finite = np.isfinite(one) & np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    largest = np.abs(other[finite]).max(initial=0)
    difference = float(np.abs(one[finite] - other[finite]).max(initial=0))
    return difference / float(largest) if largest else (0.0 if difference == 0 else float("inf"))


def storable(differences: Mapping[str, Any]) -> dict[str, Any]:
    """Return differences with None for those without bound: JSON has no infinity."""
    return {
        name: storable(value) if isinstance(value, dict) else value if math.isfinite(value) else None
        for name, value in differences.items()
    }


def merge_largest(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Put differences of ``new`` into ``into``, the larger ones where both have one; inner mappings likewise."""
    for name, value in new.items():
        if isinstance(value, dict):
            merge_largest(into.setdefault(name, {}), value)
        else:
            both = value, into.get(name, value)
            into[name] = None if None in both else max(both)
