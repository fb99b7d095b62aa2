"""The blocks of a model by the names of its taps, and which of them are folded where a drawing would be too large."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_BOXES, _MOST_EDGES, _MOST_EDGES_A_BOX = 150, 1000, 10
_CHUNKS = (120, 60, 20)
"""How many boxes to try where names give no blocks. 20 boxes have at most 9.5 edges a box."""
_NEARLY_ALL, _HALF = 0.85, 0.5
_MOST_LEVELS = 24
"""Of a name that are looked at."""


@dataclass(frozen=True, order=True)
class Block:
    """Taps that follow each other and belong together.

    Args:
        start: position of the first.
        stop: one past the last.
        name: what their names begin with; of a lone tap its name.
    """

    start: int
    stop: int
    name: str

    def __len__(self) -> int:
        return self.stop - self.start


def blocks(labels: Sequence[str]) -> list[Block]:
    """Return the blocks with two or more taps, in order; none overlap.

    A tap belongs with those around it that share what precedes a ``.`` or ``/`` of its name (an ``_`` where it has
    neither), as far down the name as it shares it with the tap before or after it. ``layer1.0.conv1`` and
    ``layer1.0.relu`` are of ``layer1.0``, and so is the tap ``layer1.0`` itself. A block takes in the blocks within it,
    if that leaves at least half of the taps outside.

    Args:
        labels: names of taps in depth order.

    >>> [block.name for block in blocks(["input", "layer1.0.conv", "layer1.0.relu", "layer1.1.conv", "layer1.1.relu"])]
    ['layer1.0', 'layer1.1']
    """
    owned = [_beginnings(label) for label in labels]
    found: list[Block] = []
    for place in range(len(labels)):
        name = _shared(owned, place)
        if name and not (found and found[-1].name == name and place < found[-1].stop):
            found.append(_run(owned, place, name))
    kept: list[Block] = []
    for block in sorted(set(found), key=lambda one: (-len(one), one)):
        holds = any(block.start <= one.start and one.stop <= block.stop and one != block for one in found)
        most = (_HALF if holds else _NEARLY_ALL) * len(labels)
        if len(block) <= most and all(block.stop <= one.start or one.stop <= block.start for one in kept):
            kept.append(block)
    return sorted(kept)


def _beginnings(label: str) -> list[str]:
    """Return what a label may share with another, the shortest first, itself last; not ``relu`` of ``relu_1``."""
    separators = "[./]" if re.search("[./]", label) else "_"
    ends = [match.start() for match in re.finditer(separators, label) if match.start()][-_MOST_LEVELS:]
    return [label[:end] for end in ends if separators != "_" or not label[end + 1 :].isdecimal()] + [label]


def _shared(owned: Sequence[Sequence[str]], place: int) -> str | None:
    """Return the longest beginning that a tap shares with the one before or after it."""
    near = {name for names in (*owned[max(place - 1, 0) : place], *owned[place + 1 : place + 2]) for name in names}
    return next((name for name in reversed(owned[place]) if name in near), None)


def _run(owned: Sequence[Sequence[str]], place: int, name: str) -> Block:
    start = stop = place
    while start > 0 and name in owned[start - 1]:
        start -= 1
    while stop < len(owned) and name in owned[stop]:
        stop += 1
    return Block(start, stop, name)


def too_large(boxes: int, edges: int) -> bool:
    """Return whether a drawing would be unreadable, or take minutes to lay out: then blocks are folded."""
    return boxes > _MOST_BOXES or edges > min(_MOST_EDGES, _MOST_EDGES_A_BOX * boxes)


def folded(labels: Sequence[str], edges: Sequence[tuple[int, int]]) -> list[Block]:
    """Return the boxes of a drawing that is not too large, in depth order: every tap is in one of them.

    Blocks come first, then ever shorter beginnings of the names; where names do not help, taps that follow each other.

    Args:
        labels: names of taps in depth order.
        edges: pairs of positions.
    """
    for boxes in _foldings(labels):
        of = [number for number, box in enumerate(boxes) for _ in range(len(box))]
        if len(boxes) > 2 and not too_large(len(boxes), len({(of[a], of[b]) for a, b in edges if of[a] != of[b]})):
            return boxes
    raise AssertionError("20 boxes are never too large")


def _foldings(labels: Sequence[str]) -> Iterator[list[Block]]:
    """Give ways to fold, the finest first."""
    yield _with_lone_taps(blocks(labels), labels)
    parts = [re.split("([./_])", label) for label in labels]
    for depth in range(min(max(map(len, parts)) // 2, _MOST_LEVELS), 0, -1):
        names = ["".join(part[: 2 * depth - 1]) for part in parts]
        yield _runs(labels, names)
    for count in _CHUNKS:
        size = math.ceil(len(labels) / count)
        firsts = [place - place % size for place in range(len(labels))]
        yield _runs(labels, [f"{labels[at]} … {labels[min(at + size, len(labels)) - 1]}" for at in firsts])


def _with_lone_taps(found: Sequence[Block], labels: Sequence[str]) -> list[Block]:
    inside = {place for block in found for place in range(block.start, block.stop)}
    lone = [Block(place, place + 1, label) for place, label in enumerate(labels) if place not in inside]
    return sorted([*found, *lone])


def _runs(labels: Sequence[str], names: Sequence[str]) -> list[Block]:
    """Return the runs of taps with the same name of a block."""
    found = []
    for name, run in itertools.groupby(range(len(labels)), names.__getitem__):
        start, *rest = run
        found.append(Block(start, start + 1 + len(rest), name if rest and name else labels[start]))
    return found
