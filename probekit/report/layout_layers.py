"""A layered layout without Graphviz: rows by depth, few crossings, lines that run between the boxes.

The steps are those of Sugiyama, Tagawa and Toda (1981), "Methods for Visual Understanding of Hierarchical System
Structures". What a box feeds far below hangs on one trunk, which has a place of its own in every row it passes.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.report.diagram import Layout
from probekit.report.layout_columns import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.report.diagram import Diagram, Frame, Point

_GAP, _TRUNK = 10.0, 2.0
"""Between neighbours in a row; how wide a trunk is."""
_ROW_GAP, _SLANT, _MOST_SLANT = 32.0, 0.05, 36.0
"""Between rows: at least so much, more of it the further the lines in it go sideways."""
_ABOVE, _BESIDE, _BELOW = 15.0, 4.0, 8.0
"""From a box to the frame around it."""
_SMALL = 4000
"""Stretches of lines up to which crossings are searched for longer."""


@dataclass
class _Net:
    """Boxes and the places of trunks, row by row, and what is joined to what in the rows next to it.

    Args:
        rows: numbers in the order they are drawn; boxes keep their positions in the diagram, trunks follow.
        uppers: of each, those above it that it is joined to.
        lowers: of each, those below.
        trunks: (box, row) to the trunk's number.
    """

    rows: list[list[int]]
    uppers: list[list[int]]
    lowers: list[list[int]]
    trunks: dict[tuple[int, int], int]


def layered(diagram: Diagram) -> Layout:
    """Return a layout in which every edge leads downwards and no line passes through a box.

    Args:
        diagram: at least one box.
    """
    count = len(diagram.sizes)
    row_of = _longest_paths(count, diagram.edges)
    net = _net(row_of, diagram.edges)
    _uncross(net)
    widths = [width for width, _ in diagram.sizes] + [_TRUNK] * len(net.trunks)
    xs = columns(net.rows, net.uppers, widths, _GAP, count)
    bands = _bands(net, diagram, xs)
    centres = [(xs[box], sum(bands[row_of[box]]) / 2) for box in range(count)]
    routes = []
    for a, b in diagram.edges:
        passed = [net.trunks[a, row] for row in range(row_of[a] + 1, row_of[b])]
        ends = centres[a][1] + diagram.sizes[a][1] / 2, centres[b][1] - diagram.sizes[b][1] / 2
        routes.append(_route([xs[one] for one in (a, *passed, b)], bands[row_of[a] : row_of[b] + 1], *ends))
    reach = [(x - width / 2, x + width / 2) for x, width in zip(xs, widths, strict=True)]
    return _in_place(centres, routes, _frames(diagram, centres), reach, bands)


def _longest_paths(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return each box's row: how many edges the longest path to it has."""
    rows = [0] * count
    for a, b in sorted(edges):
        rows[b] = max(rows[b], rows[a] + 1)
    return rows


def _net(row_of: Sequence[int], edges: Sequence[tuple[int, int]]) -> _Net:
    net = _Net([[] for _ in range(max(row_of) + 1)], [[] for _ in row_of], [[] for _ in row_of], {})
    for box, row in enumerate(row_of):
        net.rows[row].append(box)
    for a, b in sorted(edges):
        above = a
        for row in range(row_of[a] + 1, row_of[b]):
            if (a, row) not in net.trunks:
                net.trunks[a, row] = len(net.uppers)
                net.rows[row].append(len(net.uppers))
                net.lowers[above].append(len(net.uppers))
                net.uppers.append([above])
                net.lowers.append([])
            above = net.trunks[a, row]
        net.lowers[above].append(b)
        net.uppers[b].append(above)
    return net


def _uncross(net: _Net) -> None:
    """Reorder the rows so that few lines cross: barycentres down and up in turn, then swaps of neighbours."""
    stretches = sum(map(len, net.uppers))
    rounds = 16 if stretches <= _SMALL else 4
    best, fewest = [list(row) for row in net.rows], _crossings(net)
    for number in range(rounds):
        if not fewest:
            break
        down = number % 2 == 0
        order = range(1, len(net.rows)) if down else range(len(net.rows) - 2, -1, -1)
        for row in order:
            _by_barycentre(net, row, row - 1 if down else row + 1, net.uppers if down else net.lowers)
        _transpose(net, 4 if stretches <= _SMALL else 1)
        crossings = _crossings(net)
        if crossings < fewest:
            best, fewest = [list(row) for row in net.rows], crossings
    net.rows = best


def _by_barycentre(net: _Net, row: int, fixed: int, joined: Sequence[Sequence[int]]) -> None:
    """Sort a row by the mean position of what each is joined to in the fixed row; what is joined to nothing stays."""
    position = {one: place for place, one in enumerate(net.rows[fixed])}
    means = {
        one: sum(position[other] for other in joined[one]) / len(joined[one]) for one in net.rows[row] if joined[one]
    }
    moved = iter(sorted(means, key=means.__getitem__))
    net.rows[row] = [next(moved) if one in means else one for one in net.rows[row]]


def _transpose(net: _Net, rounds: int) -> None:
    """Swap neighbours while that takes crossings away (Gansner et al. 1993, section 3)."""
    for _ in range(rounds):
        swapped = False
        for number, row in enumerate(net.rows):
            above = {one: place for place, one in enumerate(net.rows[number - 1])} if number else {}
            below = {one: place for place, one in enumerate(net.rows[number + 1])} if row is not net.rows[-1] else {}
            places = {
                one: (sorted(above[u] for u in net.uppers[one]), sorted(below[v] for v in net.lowers[one]))
                for one in row
            }
            for place in range(len(row) - 1):
                left, right = places[row[place]], places[row[place + 1]]
                now = _inversions(left[0], right[0]) + _inversions(left[1], right[1])
                if now and _inversions(right[0], left[0]) + _inversions(right[1], left[1]) < now:
                    row[place], row[place + 1] = row[place + 1], row[place]
                    swapped = True
        if not swapped:
            break


def _inversions(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many pairs (l, r) of two sorted lists have l > r."""
    return sum(len(left) - bisect_right(left, one) for one in right)


def _crossings(net: _Net) -> int:
    """Return how many pairs of lines between two rows cross."""
    total = 0
    for upper, lower in zip(net.rows, net.rows[1:], strict=False):
        position = {one: place for place, one in enumerate(upper)}
        seen: list[int] = []
        for one in lower:
            places = sorted(position[other] for other in net.uppers[one])
            total += _inversions(seen, places)
            for place in places:
                insort(seen, place)
    return total


def _bands(net: _Net, diagram: Diagram, xs: Sequence[float]) -> list[Point]:
    """Return each row's top and bottom."""
    bands: list[Point] = []
    top = 0.0
    for number, row in enumerate(net.rows):
        if number:
            sideways = max(abs(xs[one] - xs[other]) for one in row for other in net.uppers[one])
            top += _ROW_GAP + min(_SLANT * sideways, _MOST_SLANT)
        height = max(diagram.sizes[one][1] for one in row if one < len(diagram.sizes))
        bands.append((top, top + height))
        top += height
    return bands


def _route(xs: Sequence[float], bands: Sequence[Point], start: float, end: float) -> list[Point]:
    """Return the curves of one edge: upright beside the boxes of a row, from side to side only between rows.

    Args:
        xs: where it is in each row that it passes, its ends' included.
        bands: those rows.
        start: the bottom of the box where it begins.
        end: the top of the box where it ends.
    """
    points = [(xs[0], start)]

    def straight(x: float, y: float) -> None:
        before = points[-1][1]
        if y > before:
            points.extend([(x, before + (y - before) / 3), (x, y - (y - before) / 3), (x, y)])

    straight(xs[0], bands[0][1])
    for here, there, (_, bottom), (top, low) in zip(xs, xs[1:], bands, bands[1:], strict=False):
        half = (bottom + top) / 2
        points.extend([(here, half), (there, half), (there, top)])
        straight(there, end if (top, low) == bands[-1] else low)
    return points


def _frames(diagram: Diagram, centres: Sequence[Point]) -> list[Frame | None]:
    """Return a frame around each cluster, None where it would touch another frame or a box that is not in it."""
    boxes = [
        (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        for (x, y), (width, height) in zip(centres, diagram.sizes, strict=True)
    ]
    frames: list[Frame | None] = []
    for members in diagram.clusters:
        lefts, tops, rights, bottoms = zip(*(boxes[one] for one in members), strict=True)
        frame = min(lefts) - _BESIDE, min(tops) - _ABOVE, max(rights) + _BESIDE, max(bottoms) + _BELOW
        others = [box for one, box in enumerate(boxes) if one not in set(members)] + [one for one in frames if one]
        frames.append(None if any(_touch(frame, other) for other in others) else frame)
    return frames


def _touch(a: Frame, b: Frame) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _in_place(
    centres: Sequence[Point],
    routes: Sequence[Sequence[Point]],
    frames: Sequence[Frame | None],
    reach: Sequence[Point],
    bands: Sequence[Point],
) -> Layout:
    """Return the layout moved so that it begins at 0, 0."""
    there = [frame for frame in frames if frame]
    left = min([low for low, _ in reach] + [frame[0] for frame in there])
    right = max([high for _, high in reach] + [frame[2] for frame in there])
    top = min([bands[0][0]] + [frame[1] for frame in there])
    bottom = max([bands[-1][1]] + [frame[3] for frame in there])
    return Layout(
        centres=[(x - left, y - top) for x, y in centres],
        routes=[[(x - left, y - top) for x, y in route] for route in routes],
        frames=[frame and (frame[0] - left, frame[1] - top, frame[2] - left, frame[3] - top) for frame in frames],
        width=right - left,
        height=bottom - top,
    )
