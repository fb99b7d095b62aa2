"""Writes a laid-out drawing as SVG: no ids, no style attributes, nothing from elsewhere, all text escaped.

Colours are presentation attributes, so that they show where style sheets are forbidden and give way to the page's own:
a group of class ``k3`` sets the fill and, as ``color``, the ink; everything else is drawn in the page's text colour.
"""

from __future__ import annotations

import itertools
import unicodedata
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from probekit.errors import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from probekit.report.diagram import Frame, Point

WIDEST = 1088
"""The page's 68 rem."""
DIODE = 15.0
"""Room at either side of a box; the right one holds the diode."""
_MARGIN = 8
_FONT, _SMALL_FONT = 11, 9
_HEADER, _PLAIN, _VALUED, _FOLDED = 20.0, 24.0, 36.0, 40.0
"""Heights: of the name above folded taps; of a box with a name, with a value too, with folded taps."""
_LEAST_WIDTH, _LEAST_HALF = 44.0, 30.0
_BAND = 12.0
"""Height of the name within the top of a frame."""
_NARROW, _WIDE = set("fijlrtI.,:;'|!()[]/\\ -"), set("mwMW@%")


@dataclass(frozen=True)
class Value:
    """A value that is printed in a box; ``bin`` is its position in the palette, None for no colour."""

    text: str
    bin: int | None


@dataclass(frozen=True)
class Box:
    """A tap, or the taps of a folded block.

    Args:
        name: as it is printed.
        tooltip: of the whole box; not drawn where it says no more than the name.
        values: none, the tap's, or the worst and the best of several taps.
        probed: a probe is attached; it gets a diode.
        folded: it stands for several taps.
    """

    name: str
    tooltip: str
    values: tuple[Value, ...]
    probed: bool
    folded: bool = False

    @property
    def width(self) -> float:
        """In px, without the room for the diode."""
        values = [max(text_width(value.text, _FONT) + 10, _LEAST_HALF) for value in self.values]
        return float(round(max(text_width(self.name, _FONT) + 12, len(values) * max(values, default=0), _LEAST_WIDTH)))

    @property
    def height(self) -> float:
        """In px."""
        if not any(value.text for value in self.values):
            return _PLAIN
        return _FOLDED if self.folded else _VALUED


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is, rather too wide: fonts differ.

    Args:
        text: one line.
        size: of the font, in px.
    """
    return size * sum(map(_em, text))


def _em(character: str) -> float:
    if character in _NARROW:
        return 0.4
    if unicodedata.combining(character):
        return 0.0
    if character in _WIDE or unicodedata.east_asian_width(character) in "WF":
        return 1.02
    return 0.72 if character.isupper() else 0.64


def shorten(text: str, most: int) -> str:
    """Return a text of at most so many characters, its middle left out.

    >>> shorten("abcdefgh", 5)
    'ab…gh'
    """
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def safe(text: str) -> str:
    """Return text that can stand in SVG and HTML, in attributes too, whatever it holds."""
    return escape(clean(text))


def svg(
    size: Point,
    label: str,
    boxes: Sequence[tuple[Point, Box]],
    lines: Sequence[Sequence[Point]],
    frames: Sequence[tuple[Frame, str]],
    palette: Sequence[tuple[str, str]],
) -> tuple[str, int, int]:
    """Return the element, and the width and height in px that it asks for.

    Args:
        size: width and height of the layout.
        label: a sentence for screen readers.
        boxes: the centre of each, and what it is.
        lines: cubic Bézier curves end to end; each gets an arrow at its end.
        frames: each with the name that it carries.
        palette: colour and ink of each bin.
    """
    width, height = size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN
    scale = min(1.0, WIDEST / width)
    shown = round(width * scale), round(height * scale)
    lines = [[(round(x, 1), round(y, 1)) for x, y in line] for line in lines]
    head = (
        f'<svg class="model" role="img" aria-label="{safe(label)}" width="{shown[0]}" height="{shown[1]}" '
        f'viewBox="{-_MARGIN} {-_MARGIN} {_n(width)} {_n(height)}" font-family="system-ui, sans-serif" '
        f'font-size="{_FONT}" text-anchor="middle">'
    )
    parts = [head]
    if frames:
        parts.append(
            f'<g class="frames" fill="currentColor" fill-opacity=".05" font-size="{_SMALL_FONT}" text-anchor="start" '
            'stroke="currentColor" stroke-opacity=".25">'
        )
        parts += [_frame(frame, name, lines) for frame, name in frames]
        parts.append("</g>")
    parts.append('<g class="edges" fill="none" stroke="currentColor" opacity=".6">')
    parts.append(f'<path d="{"".join(map(_path, lines))}"/>')
    parts.append(f'<path class="heads" fill="currentColor" stroke="none" d="{"".join(map(_head, lines))}"/></g>')
    diodes = "".join(_diode(x + box.width / 2, y) for (x, y), box in boxes if box.probed)
    if diodes:
        parts.append(f'<path class="diodes" fill="currentColor" stroke="currentColor" d="{diodes}"/>')
    parts += [piece for centre, box in boxes for piece in _box(centre, box, palette)]
    return "".join([*parts, "</svg>"]), *shown


def _n(value: float) -> str:
    """Return a number with at most one decimal."""
    text = f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _numbers(values: Iterable[float]) -> str:
    """Return numbers as path data has them, where a minus parts two as well as a space."""
    return " ".join(map(_n, values)).replace(" -", "-")


def _rect(x: float, y: float, width: float, height: float, more: str = "") -> str:
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"{more}/>'


def _box(centre: Point, box: Box, palette: Sequence[tuple[str, str]]) -> Iterator[str]:
    width, height = box.width, box.height
    left, top = centre[0] - width / 2, centre[1] - height / 2
    plain = ' fill="currentColor" fill-opacity=".04" stroke="currentColor" stroke-opacity=".5"'
    whole = not box.folded and len(box.values) == 1
    yield f"<g {_colours('node', box.values[0].bin if whole else None, palette)}>" + (
        f"<title>{safe(box.tooltip)}</title>" if box.tooltip != box.name else ""
    )
    coloured = whole and box.values[0].bin is not None
    yield _rect(left, top, width, height, "" if coloured else plain)
    below = (
        f'<tspan x="{_n(centre[0])}" dy="14">{safe(box.values[0].text)}</tspan>' if whole and box.values[0].text else ""
    )
    yield _text(centre[0], top + 15, safe(box.name) + below)
    if not whole and height > _PLAIN:
        each = width / len(box.values)
        for place, value in enumerate(box.values):
            x = left + place * each
            look = "" if value.bin is not None else ' fill="none"'
            yield f"<g {_colours('value', value.bin, palette)}>" + _rect(x, top + _HEADER, each, height - _HEADER, look)
            yield (_text(x + each / 2, top + _HEADER + 14, safe(value.text)) if value.text else "") + "</g>"
    yield "</g>"


def _colours(name: str, number: int | None, palette: Sequence[tuple[str, str]]) -> str:
    if number is None:
        return f'class="{name}"'
    colour, ink = palette[number]
    return f'class="k{number} {name}" fill="{colour}" color="{ink}"'


def _text(x: float, y: float, inner: str) -> str:
    return f'<text x="{_n(x)}" y="{_n(y)}" fill="currentColor">{inner}</text>'


def _path(points: Sequence[Point]) -> str:
    """Return the curves as path data, relative where they bend; upright stretches are merged."""
    steps = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for place in range(1, len(points), 3):
        before, curve = points[place - 1], points[place : place + 3]
        if all(x == before[0] for x, _ in curve):
            if steps[-1][0] == "V":
                steps.pop()
            steps.append(f"V{_n(curve[-1][1])}")
        else:
            steps.append("c" + _numbers(part for x, y in curve for part in (x - before[0], y - before[1])))
    return "".join(steps)


def _head(points: Sequence[Point]) -> str:
    """Return a triangle whose tip is the end of the curves."""
    (x, y), (fx, fy) = points[-1], next((p for p in reversed(points) if p != points[-1]), (points[-1][0], -1e9))
    length = ((x - fx) ** 2 + (y - fy) ** 2) ** 0.5
    dx, dy = (x - fx) / length, (y - fy) / length
    back, across = (-7 * dx - 3.2 * dy, -7 * dy + 3.2 * dx), (6.4 * dy, -6.4 * dx)
    return f"M{_n(x)} {_n(y)}l{_numbers((*back, *across))}z"


def _diode(x: float, y: float) -> str:
    """Return a diode that leads away from a box whose right edge is at x: features get out, no gradients come in."""
    return f"M{_n(x)} {_n(y)}h4m0-3.5l6 3.5-6 3.5zm6-.5v8m0-4h4"


def _frame(frame: Frame, name: str, lines: Sequence[Sequence[Point]]) -> str:
    left, top, right, bottom = frame
    rect = _rect(left, top, right - left, bottom - top, ' rx="6"')
    printed = clean(name)
    start, room = _clear(frame, lines)
    if text_width(printed, _SMALL_FONT) > room:
        start = left + 6
        printed = shorten(printed, max(int((right - left - 10) / (0.64 * _SMALL_FONT)), 3))
    text = (
        f'<text class="block" x="{_n(start)}" y="{_n(top + _BAND - 2)}" stroke="none" fill-opacity=".75">'
        f"{escape(printed)}</text>"
    )
    return f"<g>{'' if printed == clean(name) else f'<title>{safe(name)}</title>'}{rect}{text}</g>"


def _clear(frame: Frame, lines: Sequence[Sequence[Point]]) -> Point:
    """Return where the widest part of a frame's top that no line crosses begins, and how wide it is."""
    left, top, right, _ = frame
    crossed = [left + 2, right - 2]
    for line in lines:
        for place in range(1, len(line), 3):
            points = curve_points(line[place - 1 : place + 3], 8)
            for (x, y), (after, below) in itertools.pairwise(points):
                if min(y, below) <= top + _BAND and max(y, below) >= top:
                    crossed += [one for one in (x, after) if left + 2 < one < right - 2]
    crossed.sort()
    width, start = max((b - a, -a) for a, b in itertools.pairwise(crossed))
    return 4 - start, width - 8


def curve_points(curve: Sequence[Point], count: int) -> list[Point]:
    """Return points on a cubic Bézier curve from its first point to its last.

    Args:
        curve: four points.
        count: of equal steps of the parameter.
    """
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = curve
    found = []
    for step in range(count + 1):
        t = step / count
        s = 1 - t
        found.append(
            (
                s**3 * ax + 3 * s * s * t * bx + 3 * s * t * t * cx + t**3 * dx,
                s**3 * ay + 3 * s * s * t * by + 3 * s * t * t * cy + t**3 * dy,
            )
        )
    return found
