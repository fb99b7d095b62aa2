"""How far two passes over the same examples are apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import FloatArray


def relative_difference(first: FloatArray, second: FloatArray) -> float:
    """Return the largest difference as a share of the largest value; what is not finite in both counts as equal."""
    if first.shape != second.shape:
        return float("inf")
    both = np.isfinite(first) & np.isfinite(second)
    if (np.isfinite(first) != np.isfinite(second)).any():
        return float("inf")
    gap = np.abs(np.subtract(first, second, where=both, out=np.zeros_like(first))).max(initial=0.0)
    size = np.abs(first, where=both, out=np.zeros_like(first)).max(initial=0.0)
    return float(gap / size) if size else float(gap)


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
