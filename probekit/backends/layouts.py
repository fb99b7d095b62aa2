"""Axis layouts: known at some tensors by their operator's definition, carried along to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


BY_RANK = {3: "NCT", 4: "NCHW", 5: "NCDHW"}
"""The layout of a convolution's tensors by their number of axes."""


def permuted(layout: str, permutation: tuple[int, ...]) -> str:
    """Return the layout after a transposition.

    >>> permuted("NCHW", (0, 2, 3, 1))
    'NHWC'
    """
    return "".join(layout[axis] for axis in permutation)


def propagate_layouts(
    seeds: Mapping[str, str], links: Iterable[tuple[str, str, tuple[int, ...] | None]], ranks: Mapping[str, int]
) -> dict[str, str]:
    """Carry layouts along links, forwards and backwards, until nothing changes; a seed is never overwritten.

    Args:
        seeds: layouts known by definition.
        links: (a, b, permutation): b has the axes of a, permuted.
        ranks: number of axes of each tensor; a layout of another length is not carried (broadcasting).
    """
    layouts = dict(seeds)
    steps = list(links)
    changed = True
    while changed:
        changed = False
        for first, second, permutation in steps:
            there = layouts.get(first)
            if there is not None and second not in layouts and (permutation is None or len(permutation) == len(there)):
                layout = permuted(there, permutation) if permutation else there
                if ranks.get(second) == len(layout):
                    layouts[second] = layout
                    changed = True
            back = layouts.get(second)
            if back is not None and first not in layouts and (permutation is None or len(permutation) == len(back)):
                inverse = tuple(permutation.index(axis) for axis in range(len(permutation))) if permutation else None
                layout = permuted(back, inverse) if inverse else back
                if ranks.get(first) == len(layout):
                    layouts[first] = layout
                    changed = True
    return layouts
