"""Figures at a paper's size: charts side by side in one SVG of a given width, and that as PDF or PNG."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from probekit.errors import clean
from probekit.report.charts import ChartError, axis_top, depth_chart, render, short
from probekit.report.vega import LINE, MUTED, PALETTE, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from probekit.report.figures import Figure
    from probekit.report.page import Row
    from probekit.report.vega import DepthChart, Format

WIDTHS = {"single": 85.0, "double": 175.0}
"""Of one and of two columns, in mm."""
PPI = 300
_POINT, _UNIT = 25.4 / 72, 25.4 / 96
"""A point and a user unit of the SVG, in mm."""
_FONT = 9
_GAP = 5.0
_TALLEST = 240
"""Of a plot."""
_SWATCH = 6
"""Width of a colour of the legend."""
_PANEL = 42.0
"""The least width of a panel, in mm."""
_SECONDS = 60.0
_SVG = "http://www.w3.org/2000/svg"
_CONVERT = """
import base64, json, sys
order = json.load(sys.stdin)
sys.path[:] = order["path"]
import vl_convert
if order["kind"] == "png":
    made = [vl_convert.svg_to_png(svg, scale=1.0, ppi=order["ppi"]) for svg in order["svgs"]]
else:
    made = [vl_convert.svg_to_pdf(svg, scale=order["scale"]) for svg in order["svgs"]]
json.dump([base64.b64encode(one).decode() for one in made], sys.stdout)
"""
_PAGE_WIDTH = re.compile(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)")

Element = ET.Element


def draw(
    figures: Sequence[Figure], kinds: Iterable[Format], width: float = WIDTHS["single"]
) -> list[dict[Format, bytes]]:
    """Return every figure as a file of each kind.

    They are drawn in processes of their own, which end when their time is over.

    Args:
        figures: of :func:`probekit.report.figures.figures`.
        kinds: ``svg``, ``pdf``, ``png`` (300 pixels per inch, on white).
        width: in mm, of the whole figure.

    Raises:
        ChartError: why there are none.
    """
    total = width / _UNIT
    panels = [_Panels(one, total) for one in figures]
    for _ in range(2):  # the first drawing tells how much the axes and labels take
        charts = [chart for one in panels for chart in one.charts()]
        drawn = iter(render(charts))
        for one in panels:
            one.fit([next(drawn) for _ in one.charts()])
    roots = [_heat_map(one.figure, total) if one.figure.is_map else one.composed() for one in panels]
    made: list[dict[Format, bytes]] = [{} for _ in roots]
    for kind in kinds:
        if kind == "svg":
            contents = [_text(_in_mm(root, one.caption)).encode() for root, one in zip(roots, figures, strict=True)]
        else:
            contents = _converted([_text(root, white=kind == "png") for root in roots], kind, width / _POINT)
        for files, content in zip(made, contents, strict=True):
            files[kind] = content
    return made


class _Panels:
    """The charts of one figure and their place.

    Args:
        figure: what is drawn.
        total: the width of the figure, in user units.
    """

    def __init__(self, figure: Figure, total: float) -> None:
        self.figure, self.total = figure, total
        self.columns = min(len(figure.tables), max(1, int(total * _UNIT / _PANEL)))
        self._plot = total / self.columns - 80
        self._drawn: list[Element] = []

    def charts(self) -> list[DepthChart]:
        """Return the panels' charts."""
        tables = () if self.figure.is_map else self.figure.tables
        top, several = axis_top(self.figure.tables), len(tables) > 1
        plot = max(int(self._plot), 30)
        made = []
        for number, table in enumerate(tables):
            taps = len({row.probe.tap for row in table.rows})
            named = several or taps * 1.3 * _FONT <= plot
            chart = depth_chart(
                table, top, width=plot, height=int(min(plot * (0.8 if several else 0.65), _TALLEST)), font_size=_FONT,
                named=named, best=None,
            )  # fmt: skip
            if several:
                levels = [replace(level, text="") for level in chart.levels]
                axis = "" if number % self.columns else chart.axis
                chart = replace(chart, levels=levels, series=[], axis=axis, taps=_numbers(taps, plot))
            made.append(chart)
        return made

    def fit(self, drawn: Sequence[bytes]) -> None:
        """Take the drawn charts, and what they leave for the next drawing."""
        self._drawn = [_parsed(one) for one in drawn]
        if not drawn:
            return
        plot = max(int(self._plot), 30)
        around = [
            max(_size(one)[0] - plot for one in self._drawn[column :: self.columns]) for column in range(self.columns)
        ]
        self._plot = (self.total - _GAP * (self.columns - 1) - sum(around)) / self.columns

    def composed(self) -> Element:
        """Return the panels in rows, each below its title."""
        root = Element("svg")
        head = 1.6 * _FONT if any(self.figure.titles) else 0.0
        right, y = 0.0, 0.0
        for start in range(0, len(self._drawn), self.columns):
            row = self._drawn[start : start + self.columns]
            x = 0.0
            for title, panel in zip(self.figure.titles[start:], row, strict=False):
                if title:
                    middle = x + _size(panel)[0] / 2
                    _add_text(root, short(title), middle, y + 1.1 * _FONT, anchor="middle")
                panel.attrib |= {"x": f"{x:.2f}", "y": f"{y + head:.2f}"}
                root.append(panel)
                x += _size(panel)[0] + _GAP
            right = max(right, x - _GAP)
            y += head + max(_size(panel)[1] for panel in row)
        # Names that take all of the width make everything smaller.
        return _sized(root, self.total, max(right, self.total), y)


def _numbers(taps: int, plot: float) -> list[str]:
    """Return numbers from 1 as names of taps, some of them blank where there is no room.

    >>> _numbers(4, 1000), _numbers(4, 50)
    (['1', '2', '3', '4'], [' ', '2', '   ', '4'])
    """
    every = max(1, round(2.6 * _FONT * taps / plot))
    # Each name is another one, as an axis needs it.
    return [" " * place if place % every else str(place) for place in range(1, taps + 1)]


def _heat_map(figure: Figure, total: float) -> Element:
    """Return taps by checkpoints, each cell coloured by how much of chance's error is left."""
    cells: dict[tuple[str, str], dict[int, Row]] = {}
    for number, table in enumerate(figure.tables):
        for row in table.rows:
            cells.setdefault((row.probe.tap, row.probe.reduction), {})[number] = row
    several = len({reduction for _, reduction in cells}) > 1
    names = [short(clean(f"{tap} ({reduction})" if several else tap)) for tap, reduction in cells]
    letter, height = 0.56 * _FONT, max(3.0, min(1.4 * _FONT, 800 / max(len(names), 1)))
    left = min(total / 2, letter * max(map(len, names), default=0) + _GAP)
    above = letter * max(len(short(title)) for title in figure.titles) + _GAP
    width = (total - left) / len(figure.tables)
    every = max(1, round(1.1 * _FONT / height))
    root = Element("svg")
    for number, title in enumerate(figure.titles):
        if number % max(1, round(1.1 * _FONT / width)) == 0:
            x, y = left + (number + 0.5) * width + 0.35 * _FONT, above - 2
            _add_text(root, short(title), x, y, transform=f"rotate(-90 {x:.2f} {y:.2f})")
    for line, (name, by_number) in enumerate(zip(names, cells.values(), strict=True)):
        y = above + line * height
        if line % every == 0:
            _add_text(root, name, left - 2, y + height / 2 + 0.35 * _FONT, anchor="end")
        for number, row in by_number.items():
            fill = LINE if row.missed else PALETTE[row.bin][0]
            _add_rect(root, left + number * width, y, width, height, fill)
    bottom = above + len(names) * height + _FONT
    _add_text(root, "0", 2, bottom + _FONT)
    for number, (colour, _) in enumerate(reversed(PALETTE)):
        _add_rect(root, letter * 2 + number * _SWATCH, bottom, _SWATCH, _FONT, colour)
    what = "1 - R²" if figure.tables[0].metric == "r2" else "error ÷ that of chance"
    _add_text(root, f"1, {what}", letter * 3 + len(PALETTE) * _SWATCH, bottom + _FONT)
    return _sized(root, total, total, bottom + 2 * _FONT)


def _add_text(root: Element, text: str, x: float, y: float, anchor: str = "start", transform: str = "") -> None:
    attributes = {
        "x": f"{x:.2f}", "y": f"{y:.2f}", "text-anchor": anchor, "font-family": "sans-serif", "font-size": str(_FONT),
        "fill": TEXT if anchor == "middle" else MUTED,
    }  # fmt: skip
    one = ET.SubElement(root, "text", attributes | ({"transform": transform} if transform else {}))
    one.text = text


def _add_rect(root: Element, x: float, y: float, width: float, height: float, fill: str) -> None:
    place = {"x": f"{x:.2f}", "y": f"{y:.2f}", "width": f"{width:.2f}", "height": f"{height:.2f}"}
    ET.SubElement(root, "rect", place | {"fill": fill})


def _sized(root: Element, total: float, width: float, height: float) -> Element:
    """Return an SVG of a size in points, in which what is ``width`` wide takes the figure's width.

    Args:
        root: the SVG.
        total: the figure's width in user units.
        width: of what is drawn, likewise.
        height: likewise.
    """
    scale = total / width * _UNIT / _POINT
    root.attrib |= {
        "xmlns": _SVG, "width": f"{width * scale:.2f}", "height": f"{height * scale:.2f}",
        "viewBox": f"0 0 {width:.2f} {height:.2f}",
    }  # fmt: skip
    return root


def _in_mm(root: Element, caption: str) -> Element:
    """Return an SVG with its size in mm, and with what a screen reader says."""
    own = Element("svg", dict(root.attrib))
    for name in ("width", "height"):
        own.set(name, f"{float(root.attrib[name]) * _POINT:.2f}mm")
    own.attrib |= {"role": "img", "aria-label": caption}
    own.extend(root)
    return own


def _text(root: Element, *, white: bool = False) -> str:
    if white:
        own = Element("svg", dict(root.attrib))
        ET.SubElement(own, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
        own.extend(root)
        root = own
    return ET.tostring(root, encoding="unicode") + "\n"


def _parsed(svg: bytes) -> Element:
    """Return a drawn chart as an element without namespaces.

    Raises:
        ChartError: it is no SVG.
    """
    try:
        root = ET.fromstring(svg)  # noqa: S314 - the drawing process wrote it
        _size(root)
    except (ET.ParseError, KeyError, ValueError) as error:
        raise ChartError(f"its output cannot be read: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _size(svg: Element) -> tuple[float, float]:
    return float(svg.attrib["width"]), float(svg.attrib["height"])


def _converted(svgs: Sequence[str], kind: Format, width: float) -> list[bytes]:
    """Return SVGs as PDF, whose pages are ``width`` points wide, or as PNG."""
    made = _convert(svgs, kind, 1.0)
    page = _PAGE_WIDTH.search(made[0]) if kind == "pdf" and made else None
    if page is None or abs(float(page[1]) - width) < 0.5:
        return made
    return _convert(svgs, kind, width / float(page[1]))


def _convert(svgs: Sequence[str], kind: Format, scale: float) -> list[bytes]:
    order = {
        "path": [place for place in sys.path if place], "svgs": list(svgs), "kind": kind, "ppi": PPI, "scale": scale,
    }  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and a constant program
            [sys.executable, "-I", "-c", _CONVERT],
            input=json.dumps(order).encode(), capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ChartError(f"it took longer than {_SECONDS:g} s") from error
    except OSError as error:
        raise ChartError(f"{type(error).__name__}: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise ChartError(clean(lines[-1]))
    return [base64.b64decode(text) for text in json.loads(done.stdout)]
