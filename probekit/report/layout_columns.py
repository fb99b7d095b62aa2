"""Where in its row each box of a layered layout goes, by Brandes and Köpf.

U. Brandes and B. Köpf (2002), "Fast and Simple Horizontal Coordinate Assignment", Graph Drawing 2001. Boxes are lined
up under a median of what they are joined to, four times from four corners; each gets the mean of the middle two places.
Lined-up boxes are placed by longest paths with their widths, which avoids the faults of the paper's compaction (U.
Brandes, J. Walter and J. Zink 2020, "Erratum: Fast and Simple Horizontal Coordinate Assignment").
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.report.diagram import Point


def columns(
    rows: Sequence[Sequence[int]],
    uppers: Sequence[Sequence[int]],
    widths: Sequence[float],
    gap: float,
    boxes: int,
) -> list[float]:
    """Return the centre of each, such that neighbours in a row are at least ``gap`` apart.

    Args:
        rows: from top to bottom, in order from left to right; every number from 0 on is in one of them.
        uppers: of each, those in the row above that it is joined to.
        widths: of each.
        gap: between neighbours.
        boxes: numbers below it are boxes, the others places that a line passes, which are kept straight.
    """
    lowers: list[list[int]] = [[] for _ in uppers]
    for one, joined in enumerate(uppers):
        for other in joined:
            lowers[other].append(one)
    conflicts = _conflicts(rows, uppers, boxes)
    placed = []
    for upwards in (False, True):
        for mirrored in (False, True):
            turned = [list(reversed(row)) if mirrored else list(row) for row in rows]
            if upwards:
                turned.reverse()
            roots = _line_up(turned, lowers if upwards else uppers, conflicts)
            xs = _pack(turned, roots, widths, gap)
            placed.append([-x for x in xs] if mirrored else xs)
    return _balanced(placed, widths)


def _conflicts(rows: Sequence[Sequence[int]], uppers: Sequence[Sequence[int]], boxes: int) -> set[tuple[int, int]]:
    """Return the lines between two rows that cross a line between two passed places (algorithm 1), both ways round."""
    found: set[tuple[int, int]] = set()
    for upper, lower in itertools.pairwise(rows):
        position = {one: place for place, one in enumerate(upper)}
        first, done = 0, 0
        for place, one in enumerate(lower):
            passed = [position[u] for u in uppers[one] if u >= boxes] if one >= boxes else []
            if not passed and place < len(lower) - 1:
                continue
            last = passed[0] if passed else len(upper) - 1
            for other in lower[done : place + 1]:
                crossing = [u for u in uppers[other] if not first <= position[u] <= last]
                found.update(pair for u in crossing for pair in ((u, other), (other, u)))
            first, done = last, place + 1
    return found


def _line_up(
    rows: Sequence[Sequence[int]], joined: Sequence[Sequence[int]], conflicts: set[tuple[int, int]]
) -> list[int]:
    """Return the first of those that each is lined up with (algorithm 2).

    Args:
        rows: those before come first.
        joined: of each, those in the row before.
        conflicts: pairs that are not lined up.
    """
    root, following = list(range(len(joined))), list(range(len(joined)))
    for before, row in itertools.pairwise(rows):
        position = {one: place for place, one in enumerate(before)}
        rightmost = -1
        for one in row:
            known = sorted(joined[one], key=position.__getitem__)
            for middle in sorted({(len(known) - 1) // 2, len(known) // 2}) if known else ():
                other = known[middle]
                if following[one] == one and (other, one) not in conflicts and rightmost < position[other]:
                    following[other] = one
                    root[one] = root[other]
                    following[one] = root[one]
                    rightmost = position[other]
    return root


def _pack(rows: Sequence[Sequence[int]], roots: Sequence[int], widths: Sequence[float], gap: float) -> list[float]:
    """Return the leftmost centre of each, then drawn to the right as far as its neighbours leave room."""
    after: dict[int, dict[int, float]] = {root: {} for root in roots}
    waiting = dict.fromkeys(after, 0)
    for row in rows:
        for left, right in itertools.pairwise(row):
            a, b = roots[left], roots[right]
            if b not in after[a]:
                waiting[b] += 1
            after[a][b] = max(after[a].get(b, 0.0), (widths[left] + widths[right]) / 2 + gap)
    order = sorted(root for root, count in waiting.items() if not count)
    at = dict.fromkeys(after, 0.0)
    for root in order:  # grows while it is gone through
        for other, apart in after[root].items():
            at[other] = max(at[other], at[root] + apart)
            waiting[other] -= 1
            if not waiting[other]:
                order.append(other)
    for root in reversed(order):
        if after[root]:
            at[root] = max(at[root], min(at[other] - apart for other, apart in after[root].items()))
    return [at[root] for root in roots]


def _balanced(placed: Sequence[Sequence[float]], widths: Sequence[float]) -> list[float]:
    """Return the mean of the middle two places, after the four were moved to where the narrowest lies (section 4.3).

    Args:
        placed: packed to the left, to the right, and both again.
        widths: of each.
    """
    reaches: list[Point] = [
        (
            min(x - width / 2 for x, width in zip(xs, widths, strict=True)),
            max(x + width / 2 for x, width in zip(xs, widths, strict=True)),
        )
        for xs in placed
    ]
    narrowest = min(reaches, key=lambda reach: reach[1] - reach[0])
    moved = []
    for number, (xs, (left, right)) in enumerate(zip(placed, reaches, strict=True)):
        by = narrowest[1] - right if number % 2 else narrowest[0] - left
        moved.append([x + by for x in xs])
    middle = [sorted(places)[1:3] for places in zip(*moved, strict=True)]
    return [(a + b) / 2 for a, b in middle]
