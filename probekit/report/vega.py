"""Charts of error by depth: what one shows, and its drawing with altair and vl-convert.

:mod:`probekit.report.charts` runs this file as a program, because a control character in a text ends the process that
vl-convert runs in. So it imports nothing of probekit.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import altair as alt

# Worst to best, with the colour of the text on each; then the same for readers who cannot tell red from green.
PALETTE = (
    ("#6d0a2a", "#fff"), ("#8d182a", "#fff"), ("#ab2b2b", "#fff"), ("#c4482f", "#fff"), ("#d46736", "#000"),
    ("#df8740", "#000"), ("#e1a34a", "#000"), ("#dbbc55", "#000"), ("#c6d061", "#000"), ("#addd75", "#000"),
    ("#93e68c", "#000"),
)  # fmt: skip
CIVIDIS = (
    ("#00224e", "#fff"), ("#10336d", "#fff"), ("#33456d", "#fff"), ("#4f576d", "#fff"), ("#666971", "#fff"),
    ("#7d7c76", "#000"), ("#958f76", "#000"), ("#aea371", "#000"), ("#c9b865", "#000"), ("#e4cf52", "#000"),
    ("#fee838", "#000"),
)  # fmt: skip
# The page's style gives these another value where the page is dark.
TEXT, MUTED, LINE, ACCENT = "#1b1f24", "#59636e", "#d1d9e0", "#0969da"

Format = Literal["svg", "png", "pdf"]
_SHAPES = ("circle", "square", "diamond", "triangle-down", "triangle-right", "triangle-left")
_LARGE = 100
"""The most points of a chart with a band that are not tiny."""
_LABEL_GAP = 1.3
"""Distance of labels at the end of lines, in font sizes."""


@dataclass(frozen=True)
class Point:
    """One probe.

    Args:
        place: the number of its tap, from 1.
        value: its height, from 0.
        low: the lower end of its interval, None without one.
        high: the upper end.
        bin: of its colour, 0 to 10; None for a probe that missed its optimum.
        series: the number of its series, from 0.
    """

    place: int
    value: float
    low: float | None
    high: float | None
    bin: int | None
    series: int = 0


@dataclass(frozen=True)
class Level:
    """A dashed line across the chart, and what stands at its end."""

    value: float
    text: str
    colour: str


@dataclass(frozen=True)
class DepthChart:
    """Errors over taps in execution order.

    Args:
        taps: their names.
        named: whether the names stand below the axis, else numbers from 1.
        points: the probes, by series in depth order.
        series: names of the series, which stand at the ends of their lines; empty for one series.
        lines: numbers of the points of each line; none: one line a series.
        ends: by series, the number of the point that its name stands beside; none: its last one.
        levels: dashed lines.
        best: the number of the point with a ring, None for none.
        best_text: its label, at the right end.
        axis: the title of the y-axis; empty for axes without titles.
        top: its upper end; its lower end is 0, and what lies above is drawn at the top as a triangle.
        band: draw the intervals as one band a series, not as a line a point.
        width: of the plot without axes and labels, in pixels.
        height: likewise.
        font_size: in pixels.
        background: a colour, or ``transparent``.
    """

    taps: list[str]
    named: bool
    points: list[Point]
    series: list[str]
    levels: list[Level]
    best: int | None
    best_text: str
    axis: str
    top: float
    lines: list[list[int]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    band: bool = False
    width: int = 720
    height: int = 280
    font_size: int = 12
    background: str = "transparent"

    @classmethod
    def from_plain(cls, fields: dict[str, Any]) -> DepthChart:
        """Return the chart whose ``dataclasses.asdict`` it was given."""
        points = [Point(**one) for one in fields["points"]]
        levels = [Level(**one) for one in fields["levels"]]
        return cls(**{**fields, "points": points, "levels": levels})


def layered(chart: DepthChart) -> alt.LayerChart:
    """Return the chart as altair has it."""
    import altair as alt

    draw = _Layers(chart)
    points = [draw.row(point) for point in chart.points]
    fitted = [row for row in points if row["colour"] is not None]
    joined = [points[number] | {"line": line} for line, some in enumerate(draw.lines()) for number in some]
    missed = [row for row in points if row["colour"] is None]
    ranged = [row for row in points if row["low"] is not None]
    labels = draw.end_labels()
    layers: list[alt.Chart] = []
    if chart.levels:
        rows = [{"value": level.value, "colour": level.colour} for level in chart.levels]
        mark = _of(rows).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
        layers.append(mark.encode(y=draw.y("value"), color=alt.Color("colour:N", scale=None)))
    if ranged and chart.band:
        mark = _of([row for row in joined if row["low"] is not None]).mark_area(color=MUTED, opacity=0.2)
        layers.append(mark.encode(x=draw.x(), y=draw.y("low"), y2="high:Q", detail="line:N", order="place:Q"))
    elif ranged:
        mark = _of(ranged).mark_rule(color=MUTED, strokeWidth=1.2)
        layers.append(mark.encode(x=draw.x(), y=draw.y("low"), y2="high:Q"))
    if fitted:
        mark = _of([row for row in joined if row["colour"] is not None]).mark_line(
            color=MUTED, strokeWidth=1, opacity=0.5
        )
        layers.append(mark.encode(x=draw.x(), y=draw.y("value"), detail="line:N", order="place:Q"))
        size = chart.font_size * (4.5 if not chart.band else 3.0 if len(fitted) <= _LARGE else 1.5)
        mark = _of(fitted).mark_point(size=size, stroke=MUTED, strokeWidth=0 if chart.band else 0.8, opacity=1)
        layers.append(mark.encode(
            x=draw.x(), y=draw.y("value"), fill=alt.Fill("colour:N", scale=None),
            shape=alt.Shape("shape:N", scale=None),
        ))  # fmt: skip
    if chart.best is not None:
        rows = [draw.row(chart.points[chart.best])]
        mark = _of(rows).mark_point(size=chart.font_size * 14, stroke=TEXT, strokeWidth=2, opacity=1, filled=False)
        layers.append(mark.encode(x=draw.x(), y=draw.y("value")))
    if missed:
        mark = _of(missed).mark_point(shape="cross", color=MUTED, filled=False, opacity=1)
        layers.append(mark.encode(x=draw.x(), y=draw.y("value")))
    if labels:
        mark = _of(labels).mark_text(align="left", baseline="middle", fontSize=chart.font_size, clip=False)
        layers.append(mark.encode(
            x=alt.value(chart.width + chart.font_size), y=draw.y("value"), text="text:N",
            color=alt.Color("colour:N", scale=None),
        ))  # fmt: skip
    if not layers:
        layers.append(_of([]).mark_point().encode(x=draw.x(), y=draw.y("value")))
    # Readers' fonts may be wider than the one that the labels were measured with.
    padding = {"left": 4, "top": 6, "bottom": 4, "right": 2 * chart.font_size}
    shown: Any = alt.layer(*layers).properties(width=chart.width, height=chart.height)
    shown = shown.configure(aria=False, background=chart.background, font="sans-serif", padding=padding)
    shown = shown.configure_axis(
        labelColor=MUTED, titleColor=MUTED, gridColor=LINE, domainColor=MUTED, tickColor=MUTED,
        labelFontSize=chart.font_size - 1, titleFontSize=chart.font_size, titleFontWeight="normal",
    )  # fmt: skip
    whole: alt.LayerChart = shown.configure_view(stroke=None)
    return whole


def _of(rows: list[dict[str, Any]]) -> alt.Chart:
    import altair as alt

    return alt.Chart({"values": rows})


class _Layers:
    """What the layers of one chart have in common."""

    def __init__(self, chart: DepthChart) -> None:
        self.chart = chart

    def lines(self) -> list[list[int]]:
        """Return the numbers of the points of each line."""
        series = dict.fromkeys(point.series for point in self.chart.points)
        return self.chart.lines or [self._of_series(number) for number in series]

    def _of_series(self, number: int) -> list[int]:
        return [one for one, point in enumerate(self.chart.points) if point.series == number]

    def x(self) -> alt.X:
        import altair as alt

        chart = self.chart
        if chart.named:
            room = chart.width / max(len(chart.taps), 1) / chart.font_size
            angle = 0 if max(map(len, chart.taps), default=0) * 0.65 < room else -40
            limit = chart.font_size * 14
            axis = alt.Axis(title=None, labelAngle=angle, labelLimit=limit, labelOverlap=False, grid=False)
            return alt.X("name:O", scale=alt.Scale(type="point", domain=chart.taps, padding=0.5), axis=axis)
        title = "tap, numbered in execution order" if chart.axis else None
        axis = alt.Axis(title=title, tickMinStep=1, format="d", grid=False, tickCount=max(2, chart.width // 60))
        scale = alt.Scale(domain=[1, max(2, len(chart.taps))], nice=False, padding=chart.font_size / 2)
        return alt.X("place:Q", scale=scale, axis=axis)

    def y(self, field: str) -> alt.Y:
        import altair as alt

        chart = self.chart
        axis = alt.Axis(
            title=chart.axis or None,
            format="~%",
            labelExpr="replace(datum.label, '%', ' %')",
            tickCount=max(2, min(6, chart.height // 40)),
            domain=False,
        )
        scale = alt.Scale(domain=[0, chart.top], nice=False, clamp=True, zero=True)
        return alt.Y(f"{field}:Q", scale=scale, axis=axis, title=chart.axis or None)

    def row(self, point: Point) -> dict[str, Any]:
        above = point.value > self.chart.top
        return {
            "place": point.place,
            "name": self.chart.taps[point.place - 1],
            "value": point.value,
            "low": point.low,
            "high": point.high,
            "series": point.series,
            "colour": None if point.bin is None else PALETTE[point.bin][0],
            "shape": "triangle-up" if above else _SHAPES[point.series % len(_SHAPES)],
        }

    def end_labels(self) -> list[dict[str, Any]]:
        """Return the labels at the right end, moved apart so that none lies on another."""
        chart = self.chart
        labels: list[dict[str, Any]] = [
            {"value": level.value, "text": level.text, "colour": level.colour} for level in chart.levels
        ]
        if chart.best is not None and chart.best_text:
            labels.append({"value": chart.points[chart.best].value, "text": chart.best_text, "colour": TEXT})
        for number, name in enumerate(chart.series):
            text = f"{_GLYPHS[number % len(_GLYPHS)]} {name}"
            last = chart.ends[number : number + 1] or self._of_series(number)[-1:]
            labels += [{"value": chart.points[one].value, "text": text, "colour": MUTED} for one in last]
        labels.sort(key=lambda label: (label["value"], label["text"]))
        gap = _LABEL_GAP * chart.font_size * chart.top / chart.height
        for label, value in zip(labels, spread([one["value"] for one in labels], gap, chart.top), strict=True):
            label["value"] = value
        return labels


_GLYPHS = ("○", "□", "◇", "▽", "▷", "◁")
"""As :data:`_SHAPES` has them."""


def spread(values: list[float], gap: float, top: float) -> list[float]:
    """Return ascending values moved apart to a least distance, between 0 and ``top`` where there is room.

    >>> spread([0.25, 0.25, 1.0], 0.25, 1.0)
    [0.25, 0.5, 1.0]
    """
    moved: list[float] = []
    for value in values:
        moved.append(max(min(value, top), moved[-1] + gap if moved else 0.0))
    ceiling = top
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def serve(order: dict[str, Any]) -> str:
    """Draw the charts of an order and return them as a JSON list of base64 texts.

    Args:
        order: ``charts`` as plain values, ``format``, and ``ppi``, of PNG.
    """
    drawn = []
    for fields in order["charts"]:
        chart = layered(DepthChart.from_plain(fields))
        stream = io.StringIO() if order["format"] == "svg" else io.BytesIO()
        extra = {"ppi": order["ppi"]} if order["format"] == "png" else {}
        chart.save(stream, format=order["format"], engine="vl-convert", **extra)
        made = stream.getvalue()
        drawn.append(base64.b64encode(made.encode() if isinstance(made, str) else made).decode())
    return json.dumps(drawn)


if __name__ == "__main__":
    sys.stdout.write(serve(json.load(sys.stdin)))
