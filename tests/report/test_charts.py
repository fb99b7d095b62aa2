"""Charts: what they show, how a process of its own draws them, and what of them reaches the page."""

import itertools
import math
import re
import subprocess
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probekit.report import charts
from probekit.report.charts import ChartError, axis_top, depth_chart, inline, render, short
from probekit.report.page import tables
from probekit.report.vega import PALETTE, DepthChart, Level, Point, spread
from probekit.results import IntervalRecord

shares = st.floats(0, 1)


def ranged(low, high, metric="error"):
    interval = IntervalRecord(low=low, high=high, kind="wilson", over="examples", n=10)
    return {metric: {"test": interval}}


def plain(count=5, **changes):
    """Return a chart of falling errors."""
    values = [0.9 - 0.8 * i / count for i in range(count)]
    points = [Point(i + 1, value, value - 0.05, value + 0.05, i % 11) for i, value in enumerate(values)]
    fields = {
        "taps": [f"layer{i}" for i in range(count)], "named": True, "points": points, "series": [],
        "levels": [Level(0.9, "chance 90.0 %", "#59636e"), Level(0.12, "model 12.0 %", "#0969da")],
        "best": count - 1, "best_text": "layer 1.6 %", "axis": "test error", "top": 1.0,
    }  # fmt: skip
    return DepthChart(**{**fields, **changes})


HOSTILE = [
    "<script>alert(1)</script>",
    "]]><img src=x onerror=alert(1)>",
    "{{7*7}}",
    '"onload="alert(1)',
    "工具 🧪 שלום",
]


@pytest.fixture(scope="module")
def drawn():
    """Several charts, drawn at once."""
    wanted = {
        "plain": plain(),
        "hostile": plain(taps=HOSTILE, best_text=HOSTILE[0], levels=[Level(0.5, HOSTILE[1], "#59636e")]),
        "series": plain(
            6, series=["pool", "flatten"],
            points=[Point(i % 3 + 1, 0.1 * (i + 1), None, None, i, i // 3) for i in range(6)], best=None,
        ),
        "missed": plain(2, points=[Point(1, 0.5, None, None, None), Point(2, 1.0, None, None, 3)], best=None, top=0.8),
        "band": plain(60, named=False, band=True, best=None),
        "empty": plain(0, points=[], levels=[], best=None),
        "one": plain(1),
    }  # fmt: skip
    return dict(zip(wanted, map(inline, render(list(wanted.values())), wanted), strict=True)), wanted


def test_every_point_is_a_circle_at_its_place_in_its_colour(drawn):
    root = ET.fromstring(drawn[0]["plain"])
    *circles, ring = root.iter("circle")
    assert len(circles) == 5
    assert (ring.get("cx"), ring.get("cy")) == (circles[4].get("cx"), circles[4].get("cy"))  # the best one
    chart = drawn[1]["plain"]
    parents = {child: parent for parent in root.iter() for child in parent}
    for circle, point in zip(circles, chart.points, strict=True):
        assert float(circle.get("cy")) == pytest.approx(chart.height * (1 - point.value / chart.top), abs=0.1)
        fill = circle.get("fill") or parents[circle].get("fill")
        assert fill == PALETTE[point.bin][0]
    steps = [float(b.get("cx")) - float(a.get("cx")) for a, b in itertools.pairwise(circles)]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.2)


@pytest.mark.parametrize("name", ["plain", "band", "series", "one"])
def test_lines_that_are_put_together_are_those_that_were_drawn(drawn, name):
    """Every tick, rule and interval of Vega's own SVG, with its length in both directions."""
    (svg,) = render([drawn[1][name]])
    given = []
    for line in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}line"):
        x, y = (float(one) for one in re.findall(r"-?[\d.]+", line.get("transform", "translate(0,0)")))
        given.append((x, y, float(line.get("x2", 0)), float(line.get("y2", 0))))
    kept, root = [], ET.fromstring(drawn[0][name])
    for path in root.iter("path"):
        strokes = re.findall(r"M(-?[\d.]+) (-?[\d.]+)([vh])(-?[\d.]+)", path.get("d"))
        kept += [(float(x), float(y), *((0, float(by)) if way == "v" else (float(by), 0))) for x, y, way, by in strokes]
    for line in root.iter("line"):
        x, y = (float(one) for one in re.findall(r"-?[\d.]+", line.get("transform", "translate(0,0)")))
        kept.append((x, y, float(line.get("x2", 0)), float(line.get("y2", 0))))
    assert len(kept) == len(given) > 10
    for one, other in zip(sorted(kept), sorted(given), strict=True):
        assert one == pytest.approx(other, abs=0.051)


def test_names_values_and_levels_are_text(drawn):
    text = "|".join(ET.fromstring(drawn[0]["plain"]).itertext())
    for shown in ("layer0", "layer4", "chance 90.0 %", "model 12.0 %", "layer 1.6 %", "test error", "20 %", "100 %"):
        assert shown in text


def test_hostile_names_stay_text(drawn):
    root = ET.fromstring(drawn[0]["hostile"])
    assert {one.tag for one in root.iter()} <= {"svg", "g", "path", "line", "rect", "text", "tspan", "circle"}
    text = "|".join(root.itertext())
    assert "<script>alert(1)</script>" in text
    assert "{{7*7}}" in text
    assert "工具 🧪 שלום" in text


def test_a_chart_brings_no_ids_styles_or_addresses(drawn):
    for svg in drawn[0].values():
        markup = re.sub(r">[^<]*<", "><", svg)
        assert not re.search(r"""https?:|xmlns|\bid=|\bstyle=|\bhref=|url\(|<!|<script|\bon\w+=""", markup)


def test_a_chart_has_a_sentence_for_screen_readers(drawn):
    for name, svg in drawn[0].items():
        root = ET.fromstring(svg)
        assert (root.get("role"), root.get("aria-label")) == ("img", name)
        assert root.get("viewBox")


def test_series_have_shapes_and_names_of_their_own(drawn):
    text = "|".join(ET.fromstring(drawn[0]["series"]).itertext())
    assert "○ pool" in text
    assert "□ flatten" in text
    assert drawn[0]["series"].count("<circle") == 3


def test_what_lies_above_the_axis_is_drawn_at_its_top(drawn):
    assert drawn[0]["missed"].count("<circle") == 0  # a cross, and a triangle at the top


def test_charts_without_points_are_drawn(drawn):
    assert "<circle" not in drawn[0]["empty"]
    assert drawn[0]["one"].count("<circle") == 1 + 1  # with its ring


def test_sixty_points_with_a_band_are_few_bytes(drawn):
    assert drawn[0]["band"].count("<circle") == 60
    assert len(drawn[0]["band"].encode()) < 16_000


def test_the_same_charts_are_the_same_bytes(drawn):
    wanted = {name: drawn[1][name] for name in ("plain", "hostile")}
    again = render(list(wanted.values()))
    assert dict(zip(wanted, map(inline, again, wanted), strict=True)) == {name: drawn[0][name] for name in wanted}


def test_one_process_draws_them_all(monkeypatch):
    calls = []

    def counted(*arguments, **more):
        calls.append(arguments)
        return subprocess.CompletedProcess(arguments, 0, b'["YQ==", "Yg=="]')

    monkeypatch.setattr(charts.subprocess, "run", counted)
    assert render([plain(), plain(3)]) == [b"a", b"b"]
    assert len(calls) == 1


def test_figures_for_papers():
    (made,) = render([plain(3, background="white")], "pdf")
    assert made.startswith(b"%PDF")


def test_nothing_to_draw_starts_no_process(monkeypatch):
    monkeypatch.setattr(charts.subprocess, "run", None)
    assert render([]) == []


def test_a_crash_of_the_process_is_told():
    with pytest.raises(ChartError):
        render([plain(2, taps=["a\x00", "b"])])


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import time; time.sleep(60)", "longer than 0.5 s"),
        ("raise SystemExit('no altair')", "no altair"),
        ("import os; os.abort()", "exit code -6"),
        ("print('not json')", "cannot be read"),
    ],
)
def test_what_stops_the_process_is_told(tmp_path, monkeypatch, program, reason):
    path = tmp_path / "program.py"
    path.write_text(program)
    monkeypatch.setattr(charts, "_PROGRAM", path)
    with pytest.raises(ChartError, match=re.escape(reason)):
        render([plain(2)], seconds=0.5 if "sleep" in program else 30)


def test_a_missing_interpreter_is_told(monkeypatch):
    monkeypatch.setattr(charts.sys, "executable", "/no/such/python")
    with pytest.raises(ChartError, match="FileNotFoundError"):
        render([plain(2)])


def test_unknown_elements_and_attributes_are_left_out():
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" onload="x"><script>alert(1)</script>'
        b'<g class="a" style="x"><text id="t" fill="#fff" aria-label="x">a &lt;b&gt;</text>'
        b'<text fill="#fff" x="1.26">c</text></g><g/></svg>'
    )
    assert inline(svg, 'a "label"') == (
        '<svg viewBox="0 0 9 9" class="chart" font-family="sans-serif" role="img" aria-label="a &quot;label&quot;">'
        '<g fill="#fff"><text>a &lt;b&gt;</text><text x="1.3">c</text></g></svg>'
    )
    with pytest.raises(ChartError, match="cannot be read"):
        inline(b"<svg>", "")


# --- from a table to a chart


def test_a_table_becomes_a_chart(make, probe):
    probes = [
        probe("a", 0.5, intervals=ranged(0.4, 0.6)), probe("b", 0.2, intervals=ranged(0.1, 0.3)),
        probe("c", 0.3, status="missed"),
    ]  # fmt: skip
    (table,) = tables(make(probes, own=0.15))
    chart = depth_chart(table, 1.0)
    assert chart.points == [
        Point(1, 0.5, 0.4, 0.6, table.rows[0].bin), Point(2, 0.2, 0.1, 0.3, table.rows[1].bin),
        Point(3, 0.3, None, None, None),
    ]  # fmt: skip
    assert [(level.value, level.text) for level in chart.levels] == [(0.9, "chance 90.0 %"), (0.15, "model 15.0 %")]
    assert (chart.best, chart.best_text, chart.named, chart.series) == (1, "b 20.0 %", True, [])


def test_a_number_is_drawn_as_what_is_left_of_its_variance(make, number):
    (table,) = tables(make([number("a", 0.7), number("b", -3.0)]))
    chart = depth_chart(table, axis_top([table]))
    first, second = chart.points
    assert (first.value, first.low, first.high) == pytest.approx((0.3, 0.2, 0.4))
    assert second.value == 4
    assert (chart.axis, chart.top) == ("1 - R² on test", 1.1)


def test_reductions_of_one_tap_are_series_and_those_of_other_taps_are_not(make, probe):
    several = [
        probe(tap, error, reduction=name) for tap, error in (("a", 0.5), ("b", 0.3)) for name in ("pool", "flat")
    ]
    (table,) = tables(make(several))
    chart = depth_chart(table, 1.0)
    assert chart.series == ["pool", "flat"]
    assert [(point.place, point.series) for point in chart.points] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    (table,) = tables(make([probe("a", 0.5), probe("b", 0.2, reduction="flatten")]))
    assert depth_chart(table, 1.0).series == []


def test_a_curve_goes_on_through_vectors_and_its_name_stands_at_its_end(make, probe):
    maps = [probe(tap, error, reduction=name) for tap, error in (("a", 0.5), ("b", 0.3)) for name in ("pool", "flat")]
    vectors = [probe(tap, 0.1, reduction="flat", vector=True) for tap in ("c", "d")]
    (table,) = tables(make([*maps, *vectors]))
    chart = depth_chart(table, 1.0)
    taps = [[(chart.points[one].place, chart.points[one].series) for one in line] for line in chart.lines]
    assert taps == [[(1, 0), (2, 0), (3, 1), (4, 1)], [(1, 1), (2, 1), (3, 1), (4, 1)]]
    assert [chart.points[one].place for one in chart.ends] == [4, 4]
    (svg,) = render([chart])
    lines = [one for one in ET.fromstring(svg).iter() if (one.get("d") or "").count("L") == 3 and one.get("stroke")]
    assert len(lines) == 2


def test_what_is_not_finite_is_not_drawn(make, probe):
    (table,) = tables(make([probe("a", 0.5), probe("b", 0.4, intervals=ranged(0.1, math.inf))]))
    assert [point.high for point in depth_chart(table, 1.0).points] == [None, None]


def test_many_taps_are_numbered_and_have_a_band(make, probe):
    (table,) = tables(make([probe(f"layer{i}", 0.5) for i in range(130)]))
    chart = depth_chart(table, 1.0)
    assert (chart.named, chart.band) == (False, True)
    assert depth_chart(table, 1.0, small=True).width < chart.width


def test_names_in_a_chart_differ_although_they_are_short(make, probe):
    names = ["x" * 40 + "a" + "x" * 40, "x" * 40 + "b" + "x" * 40, "a\x1b"]
    (table,) = tables(make([probe(name, 0.5) for name in names]))
    shown = depth_chart(table, 1.0).taps
    assert len(set(shown)) == 3
    assert not any(c < " " for name in shown for c in name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(shares, min_size=1, max_size=6), shares)
def test_the_axis_holds_all_that_is_drawn(make, probe, errors, baseline):
    top = axis_top(tables(make([probe(f"t{i}", error) for i, error in enumerate(errors)], baseline=baseline)))
    assert 0.1 <= top <= 1
    assert top >= max([*errors, baseline]) - 1e-9
    assert top * 10 == pytest.approx(round(top * 10))


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.01, 0.3))
def test_labels_are_moved_apart_where_there_is_room(values, gap):
    moved = spread(sorted(values), gap, 1.0)
    assert moved == sorted(moved)
    assert all(value <= 1 for value in moved)
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(moved))
    if (len(values) - 1) * gap <= 1:
        assert all(value >= -1e-9 for value in moved)


@given(st.text(min_size=1, max_size=80), st.integers(3, 40))
def test_short_names_keep_both_ends(text, longest):
    shown = short(text, longest)
    assert len(shown) <= longest
    assert (shown[0], shown[-1]) == (text[0], text[-1])
