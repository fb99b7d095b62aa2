"""The model drawn as a graph of its taps, coloured by what was read off them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.errors import clean
from probekit.report.blocks import Block, blocks, folded, too_large
from probekit.report.diagram import Diagram
from probekit.report.drawing_svg import DIODE, Box, Value, safe, shorten, svg
from probekit.report.layout import SECONDS, lay_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.results import GraphRecord

_LONGEST_NAME, _LONGEST_TEXT = 26, 16
"""In characters."""


@dataclass(frozen=True)
class DrawnCell:
    """What is drawn at one tap.

    Args:
        text: the value that is printed in the box; may be empty.
        share: error ÷ baseline, 0 to 1, by which the worst and the best of folded taps are found; None for no value.
        bin: its colour, a position in the palette; None for no colour.
        hint: what follows the tap's full name in the tooltip.
        probed: a probe is attached; it gets the diode of Alain and Bengio (2016), appendix A.
    """

    text: str
    share: float | None
    bin: int | None
    hint: str
    probed: bool


@dataclass(frozen=True)
class Drawing:
    """A drawing for the page.

    Args:
        svg: one element, to be put into HTML as it is.
        notes: what the reader should know about how it was made, as sentences.
        width: in px, at most the page's 68 rem, to which a wider drawing is scaled down.
        height: in px.
        details: a ``<details>`` element with one for each box of folded taps, to be put into HTML as it is; else empty.
    """

    svg: str
    notes: list[str]
    width: int
    height: int
    details: str = ""

    def standalone(self) -> str:
        """Return the SVG as a file of its own, for viewers and converters."""
        return self.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def draw(
    graph: GraphRecord,
    model: str,
    cells: Mapping[str, DrawnCell],
    title: str,
    palette: Sequence[tuple[str, str]],
    seconds: float = SECONDS,
) -> Drawing | None:
    """Return the drawing of a model, its input at the top; None with fewer than two taps, or none that are joined.

    A model of more than 150 taps, of more than 1,000 edges or of more than 10 edges a tap is drawn by blocks.

    Args:
        graph: of the result.
        model: which of its models.
        cells: what is drawn at each tap, by its label; the others get a name only.
        title: what the drawing shows, for screen readers.
        palette: colour and ink of each bin; the classes ``k0``, ``k1`` ... of the page's style sheet override them.
        seconds: how long Graphviz may take.
    """
    taps = sorted((tap for tap in graph.taps if tap.model == model), key=lambda tap: tap.depth)
    labels = list(dict.fromkeys(tap.tap for tap in taps))
    at = {label: place for place, label in enumerate(labels)}
    ends = [(at[a], at[b]) for owner, a, b in graph.edges if owner == model and a in at and b in at]
    joined = {(a, b) for a, b in ends if a != b}
    if not joined:
        return None
    drawn, frames = [Block(place, place + 1, label) for place, label in enumerate(labels)], blocks(labels)
    notes, details = [], ""
    if too_large(len(labels), len(_downwards(joined))):
        drawn, frames = folded(labels, _downwards(joined)), []
        notes.append(
            f"Folded: {len(labels):,} taps in {len(drawn)} boxes by the beginnings of their names; "
            "a box of several taps shows the worst and the best of them."
        )
        details = _details([block for block in drawn if len(block) > 1], labels, cells)
    of = [number for number, block in enumerate(drawn) for _ in range(len(block))]
    edges = sorted({(of[a], of[b]) for a, b in joined if of[a] != of[b]})
    names = _printed(labels, frames)
    boxes = [_box(block, labels, names, cells) for block in drawn]
    diagram = Diagram(
        sizes=[(box.width + 2 * DIODE, box.height) for box in boxes],
        edges=_downwards(edges),
        clusters=[list(range(frame.start, frame.stop)) for frame in frames],
    )
    layout = lay_out(diagram, seconds)
    if layout.fallback:
        notes.append(f"Laid out by the fallback: {layout.fallback}.")
    routes = dict(zip(diagram.edges, layout.routes, strict=True))
    label = (
        f"{title}. {len(labels):,} taps and {len(joined):,} edges between them, "
        f"{shorten(clean(labels[0]), 60)} at the top, {shorten(clean(labels[-1]), 60)} last in execution order."
    )
    made = svg(
        (layout.width, layout.height),
        label,
        list(zip(layout.centres, boxes, strict=True)),
        [routes[a, b] if a < b else routes[b, a][::-1] for a, b in edges],
        [(place, block.name) for place, block in zip(layout.frames, frames, strict=True) if place],
        palette,
    )
    return Drawing(made[0], notes, made[1], made[2], details)


def _downwards(edges: set[tuple[int, int]] | Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the edges in order, each from what comes first in execution order."""
    return sorted({(min(edge), max(edge)) for edge in edges})


def _printed(labels: Sequence[str], frames: Sequence[Block]) -> list[str]:
    """Return the names in the boxes: where one in a frame is long, without what the frame says."""
    names = [clean(label) for label in labels]
    for frame in frames:
        inside = range(frame.start, frame.stop)
        if max(len(names[place]) for place in inside) > _LONGEST_NAME:
            for place in inside:
                rest = labels[place].removeprefix(frame.name).lstrip("./_")
                names[place] = clean(rest or labels[place])
    return [shorten(name, _LONGEST_NAME) for name in names]


def _box(block: Block, labels: Sequence[str], names: Sequence[str], cells: Mapping[str, DrawnCell]) -> Box:
    inside = [(label, cells[label]) for label in labels[block.start : block.stop] if label in cells]
    probed = any(cell.probed for _, cell in inside)
    if len(block) == 1:
        label = labels[block.start]
        if not inside:
            return Box(names[block.start], label, (), probed)
        cell = inside[0][1]
        tooltip = f"{label}: {cell.hint}" if cell.hint else label
        return Box(names[block.start], tooltip, (_value(cell),), probed)
    count = f"{len(block)} taps"
    name = f"{shorten(clean(block.name), _LONGEST_NAME)} · {count}"
    shares = [(cell.share, label, cell) for label, cell in inside if cell.share is not None]
    if not shares:
        missed = f"; {inside[0][1].text} at {inside[0][0]}" if inside else ""
        return Box(name, f"{block.name}: {count}{missed}", (), probed, folded=True)
    worst, best = max(shares, key=lambda one: one[0]), min(shares, key=lambda one: one[0])
    told = [f"{what} {cell.text} at {label}" for what, (_, label, cell) in (("worst", worst), ("best", best))]
    values = tuple(_value(cell) for cell in dict.fromkeys((worst[2], best[2])))
    return Box(name, f"{block.name}: {count}; {'; '.join(told)}", values, probed, folded=True)


def _value(cell: DrawnCell) -> Value:
    return Value(shorten(clean(cell.text), _LONGEST_TEXT), cell.bin)


def _details(found: Sequence[Block], labels: Sequence[str], cells: Mapping[str, DrawnCell]) -> str:
    """Return what is folded in each box, in HTML."""
    inside = "".join(
        f"<details><summary>{safe(block.name)}: {len(block)} taps</summary>"
        f"<p>{' · '.join(_listed(label, cells.get(label)) for label in labels[block.start : block.stop])}</p></details>"
        for block in found
    )
    return f'<details class="folded"><summary>What is in the folded boxes</summary>{inside}</details>'


def _listed(label: str, cell: DrawnCell | None) -> str:
    if cell is None or not cell.text:
        return safe(label)
    colour = "" if cell.bin is None else f' class="k{cell.bin} cell"'
    return f"{safe(label)} <span{colour}>{safe(cell.text)}</span>"
