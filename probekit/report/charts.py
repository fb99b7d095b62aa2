"""Charts of error by depth: from tables to charts, which a process of its own draws, and on to inline SVG."""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from probekit.errors import clean
from probekit.findings.wording import shown
from probekit.report.vega import ACCENT, MUTED, DepthChart, Format, Level, Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from probekit.report.page import Row, Table

_NAMED = 40
"""The most taps whose names stand below the axis."""
_LINES = 100
"""The most probes whose intervals are drawn one by one."""
_LONGEST = 26
"""Characters of a name in a chart."""
_SECONDS = 60.0
_PROGRAM = Path(__file__).with_name("vega.py")


class ChartError(Exception):
    """Charts could not be drawn; the text says why."""


def axis_top(tables: Iterable[Table]) -> float:
    """Return the upper end of the y-axis that all charts of a page share: the largest value, up to the next tenth.

    It is at most 1; with R² 1.1, as 1 - R² has no bound.
    """
    tables = list(tables)
    heights = [0.0]
    for table in tables:
        heights.append(_height(table.baseline, table.metric))
        heights += [] if table.own is None else [_height(table.own.headline()["test"], table.metric)]
        for row in table.rows:
            heights += [_height(row.scores["test"], table.metric), *(end or 0.0 for end in _ends(row, table.metric))]
    limit = 1.1 if any(table.metric == "r2" for table in tables) else 1.0
    highest = max(value for value in heights if math.isfinite(value))
    return min(limit, max(0.1, math.ceil(round(highest * 10, 6)) / 10))


def depth_chart(table: Table, top: float, *, small: bool = False, **changes: Any) -> DepthChart:
    """Return the chart of a table.

    Args:
        table: of one model, checkpoint, factor and probe kind.
        top: the upper end of the y-axis, of :func:`axis_top`.
        small: one of many: no names, no titles of axes, a band of intervals.
        changes: of the fields of :class:`DepthChart`.
    """
    taps = list(dict.fromkeys(row.probe.tap for row in table.rows))
    rows = [row for row in table.rows if math.isfinite(row.scores["test"])]
    several = len({(row.probe.tap, row.probe.reduction) for row in table.rows}) > len(taps)
    reductions = list(dict.fromkeys(row.probe.reduction for row in (rows if several else table.rows)))
    if several:
        rows.sort(key=lambda row: reductions.index(row.probe.reduction))
    points = [
        Point(
            taps.index(row.probe.tap) + 1,
            _height(row.scores["test"], table.metric),
            *_ends(row, table.metric),
            None if row.missed else row.bin,
            reductions.index(row.probe.reduction) if several else 0,
        )
        for row in rows
    ]
    places = {id(row): number for number, row in enumerate(rows)}
    series = {name: [row for row in rows if row.probe.reduction == name] for name in reductions}
    curves = {
        name: [places[id(row)] for row in curve if id(row) in places] for name, curve in (series | table.curves).items()
    }
    best = next((number for number, row in enumerate(rows) if row.best), None)
    text = ""
    if best is not None:
        text = f"{short(clean(rows[best].probe.tap))} {shown(rows[best].scores['test'], table.metric)}"
    fields: dict[str, Any] = {
        "taps": _names(taps),
        "named": len(taps) <= _NAMED and not small,
        "points": points,
        "lines": [curves[name] for name in table.curves] if several else [],
        "ends": [curves[name][-1] for name in reductions] if several else [],
        "series": [short(clean(name)) for name in reductions] if several else [],
        "levels": [level for level in _levels(table) if level.value <= top],
        "best": None if small else best,
        "best_text": text,
        "axis": "1 - R² on test" if table.metric == "r2" else "test error",
        "top": top,
        "band": small or len(rows) > _LINES,
    }
    if small:
        fields |= {"axis": "", "width": 230, "height": 130, "font_size": 11}
    return DepthChart(**fields | changes)


def near_top(chart: DepthChart) -> float | None:
    """Return the upper end of an axis that shows the lower part of a chart, where most of its points lie there.

    None where fewer than half of four or more points lie in the lowest quarter.
    """
    values = sorted(point.value for point in chart.points)
    low = [value for value in values if value <= chart.top / 4]
    if len(values) < 4 or 2 * len(low) < len(values):
        return None
    ends = [0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3]
    return next((end for end in ends if end >= 1.2 * low[-1] and end < chart.top / 2), None)


def _height(value: float, metric: str) -> float:
    return 1 - value if metric == "r2" else value


def _ends(row: Row, metric: str) -> tuple[float | None, float | None]:
    if row.interval is None or not (math.isfinite(row.interval.low) and math.isfinite(row.interval.high)):
        return None, None
    low, high = sorted((_height(row.interval.low, metric), _height(row.interval.high, metric)))
    return low, high


def _levels(table: Table) -> list[Level]:
    levels = [("chance", table.baseline, MUTED)]
    levels += [] if table.own is None else [("model", table.own.headline()["test"], ACCENT)]
    return [
        Level(_height(value, table.metric), f"{name} {shown(value, table.metric)}", colour)
        for name, value, colour in levels
        if math.isfinite(value)
    ]


def _names(taps: Sequence[str]) -> list[str]:
    """Return the taps' names as a chart shows them: short, and each another one."""
    names = [short(clean(tap)) for tap in taps]
    if len(set(names)) == len(names):
        return names
    return [f"{number} {name}" for number, name in enumerate(names, 1)]


def short(text: str, longest: int = _LONGEST) -> str:
    """Return a text with its middle left out where it is too long.

    >>> short("block_17/expand/batch_norm", 12)
    'block_…_norm'
    """
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 2
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


def render(
    charts: Sequence[DepthChart], kind: Format = "svg", seconds: float = _SECONDS, ppi: int = 300
) -> list[bytes]:
    """Return every chart as a file of a kind.

    One process draws them all; it is killed when its time is over.

    Args:
        charts: what is drawn; texts that were not cleaned end the process.
        kind: ``svg``, ``png`` or ``pdf``.
        seconds: the most that it may take.
        ppi: pixels per inch of PNG.

    Raises:
        ChartError: why there are none.
    """
    if not charts:
        return []
    order = {"charts": [asdict(one) for one in charts], "format": kind, "ppi": ppi}
    try:
        done = subprocess.run(  # noqa: S603 - a program of probekit's own, without a shell
            # -P, because modules beside the program are named like some of the standard library.
            [sys.executable, "-P", str(_PROGRAM)],
            input=json.dumps(order, allow_nan=False).encode(), capture_output=True, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ChartError(f"it took longer than {seconds:g} s") from error
    except (OSError, ValueError) as error:
        raise ChartError(f"{type(error).__name__}: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise ChartError(clean(lines[-1]))
    try:
        return [base64.b64decode(text) for text in json.loads(done.stdout)]
    except ValueError as error:
        raise ChartError(f"its output cannot be read: {error}") from error


_TAGS = {"svg", "g", "path", "line", "text", "tspan", "rect"}
_INHERITED = {
    "fill", "fill-opacity", "stroke", "stroke-dasharray", "stroke-miterlimit", "stroke-opacity", "stroke-width",
    "font-size", "font-weight", "text-anchor",
}  # fmt: skip
_PLACES = {"d", "dx", "dy", "transform", "x", "x1", "x2", "y", "y1", "y2"}
_KEPT = _INHERITED | _PLACES | {"height", "opacity", "viewBox", "width"}
_USUAL = {("opacity", "1"), ("transform", "translate(0,0)"), ("x2", "0"), ("y2", "0"), ("font-weight", "normal")}
_RUN = 3
"""The fewest elements of one colour that a group makes shorter."""
_FRAMES = {"background", "foreground"}
_CIRCLE = re.compile(r"M([\d.]+),0A\1,\1,0,1,1,-\1,0A\1,\1,0,1,1,\1,0")
_SHIFT = re.compile(r"translate\((-?[\d.]+),(-?[\d.]+)\)")


def inline(svg: bytes, label: str) -> str:
    """Return a drawn chart as an SVG element for the page: known elements and attributes only, and few bytes.

    Args:
        svg: as Vega writes it.
        label: what a screen reader says.

    Raises:
        ChartError: it is no SVG.
    """
    try:
        root = ET.fromstring(svg)  # noqa: S314 - the drawing process wrote it
    except ET.ParseError as error:
        raise ChartError(f"its output cannot be read: {error}") from error
    _reduce(root)
    root.attrib |= {"class": "chart", "font-family": "sans-serif", "role": "img", "aria-label": clean(label)}
    return ET.tostring(root, encoding="unicode").replace(" />", "/>")


def _reduce(element: ET.Element) -> None:
    """Leave out what an element does not need, and say once what all of its children say."""
    element.tag = element.tag.rpartition("}")[2]
    kept = {name: _rounded(name, value) for name, value in element.attrib.items() if name in _KEPT}
    element.attrib = {name: value for name, value in kept.items() if (name, value) not in _USUAL}
    children = [child for child in element if _is_needed(child)]
    for child in children:
        _reduce(child)
    children = [part for child in children for part in (child if child.tag == "g" and not child.attrib else [child])]
    element[:] = [child for child in children if child.tag != "g" or len(child)]
    circle, shift = _CIRCLE.fullmatch(element.get("d", "")), _SHIFT.fullmatch(element.get("transform", ""))
    if element.tag == "path" and circle and shift:
        element.tag = "circle"
        del element.attrib["d"], element.attrib["transform"]
        element.attrib |= {"cx": shift[1], "cy": shift[2], "r": circle[1]}
    for name in sorted(_INHERITED) if element.tag == "g" and len(element) else ():
        values = {child.get(name) for child in element}
        if len(values) == 1 and None not in values:
            element.set(name, values.pop() or "")
            for child in element:
                del child.attrib[name]
    if element.tag == "g":
        element[:] = _bundled(element)
    if element.tag == "g" and len(element) > 1 and all(map(_is_line, element)):
        element[:] = [ET.Element("path", {"d": "".join(map(_stroke, element))})]


def _bundled(elements: Iterable[ET.Element]) -> Iterator[ET.Element]:
    """Give elements, with those of one colour that follow each other in a group that says it once."""
    for fill, some in itertools.groupby(elements, key=lambda element: element.get("fill")):
        run = list(some)
        if fill is None or len(run) < _RUN:
            yield from run
            continue
        bundle = ET.Element("g", {"fill": fill})
        for element in run:
            del element.attrib["fill"]
            bundle.append(element)
        yield bundle


def _is_line(element: ET.Element) -> bool:
    """Return whether an element is a line from its own origin that says nothing else."""
    return element.tag == "line" and set(element.attrib) <= {"transform", "x2", "y2"}


def _stroke(line: ET.Element) -> str:
    """Return a line as path data."""
    shift, dx, dy = _SHIFT.fullmatch(line.get("transform", "")), line.get("x2", "0"), line.get("y2", "0")
    start = f"M{shift[1]} {shift[2]}" if shift else "M0 0"
    return start + (f"v{dy}" if dx == "0" else f"h{dx}" if dy == "0" else f"l{dx} {dy}")


def _is_needed(element: ET.Element) -> bool:
    return element.tag.rpartition("}")[2] in _TAGS and element.get("class") not in _FRAMES and element.get("d") != ""


def _rounded(name: str, value: str) -> str:
    """Return an attribute with at most one decimal in its coordinates."""
    if name not in _PLACES:
        return value
    return re.sub(r"-?\d+\.\d+(?:e-?\d+)?", lambda found: f"{round(float(found[0]), 1) + 0.0:g}", value)
