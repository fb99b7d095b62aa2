"""A drawing of boxes and lines before and after it is laid out. Lengths are in px, y grows downwards."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]
Frame = tuple[float, float, float, float]
"""Left, top, right and bottom."""


@dataclass(frozen=True)
class Diagram:
    """What is to be laid out.

    Args:
        sizes: each box's width and height.
        edges: pairs (a, b) of positions in ``sizes``, a < b, each once; a is drawn above b.
        clusters: the positions of the boxes that get a frame around them, none in two of them.
    """

    sizes: list[Point]
    edges: list[tuple[int, int]]
    clusters: list[list[int]]


@dataclass(frozen=True)
class Layout:
    """Where everything goes.

    Args:
        centres: of each box.
        routes: each edge's cubic Bézier curves, end to end, from a to b: one point, then three for every curve.
        frames: around each cluster; None where a frame would hold a box that is not of it.
        width: of the whole.
        height: of the whole.
        fallback: why Graphviz did not do it; empty where it did.
    """

    centres: list[Point]
    routes: list[list[Point]]
    frames: list[Frame | None]
    width: float
    height: float
    fallback: str = ""
