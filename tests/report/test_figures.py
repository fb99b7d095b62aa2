"""Figures for papers: which there are, what their captions say, their size, and that names are only text."""

import doctest
import io
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from probekit.report import figures as figures_module
from probekit.report import paper, wording
from probekit.report.charts import ChartError
from probekit.report.figures import figures
from probekit.report.paper import PPI, WIDTHS, draw
from probekit.results import IntervalRecord

SINGLE, DOUBLE = WIDTHS["single"], WIDTHS["double"]
SVG = "{http://www.w3.org/2000/svg}"


def wilson(value):
    low, high = max(value - 0.1, 0), min(value + 0.1, 1)
    return {"error": {"test": IntervalRecord(low=low, high=high, kind="wilson", over="examples", n=629)}}


def millimetres(svg):
    """Return the width and height that an SVG says."""
    root = ET.fromstring(svg)
    return tuple(float(root.get(name).removesuffix("mm")) for name in ("width", "height"))


def drawn_by_hand(charts, *_):
    """Stand for the drawing of charts: axes and labels take a fixed space."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{one.width + 41}" height="{one.height + 33}"/>'.encode()
        for one in charts
    ]


@pytest.fixture
def by_hand(monkeypatch):
    """Draw nothing, only sizes."""
    monkeypatch.setattr(paper, "render", drawn_by_hand)


def test_examples_in_docstrings_hold():
    for module in (figures_module, paper, wording):
        done = doctest.testmod(module)
        assert (done.failed, done.attempted > 0) == (0, True)


def test_every_factor_model_and_probe_has_a_figure(make, probe):
    probes = [
        probe("a", 0.1, factor=factor, model=model) for model in ("fp32", "int8") for factor in ("digit", "a/b")
    ]  # fmt: skip
    assert [one.name for one in figures(make(probes))] == ["fp32_digit", "fp32_a_b", "int8_digit", "int8_a_b"]


def test_checkpoints_are_panels_of_one_figure(make, probe):
    (figure,) = figures(make([probe("a", 0.1, checkpoint=name) for name in ("start", "e\u202end")]))
    assert figure.titles == ("start", "e\\u202end")
    assert len(figure.tables) == 2
    assert not figure.is_map


def test_controls_have_no_figure(make, probe):
    assert len(figures(make([probe("a", 0.1), probe("a", 0.9, control="shuffled_labels")]))) == 1
    assert figures(make([])) == []


def test_the_caption_says_what_every_mark_is(make, probe):
    probes = [
        probe(tap, 0.3, reduction=reduction, intervals=wilson(0.3), status=status)
        for tap, reduction, status in [("a", "pool", "proven"), ("a", "flatten", "missed"), ("b", "pool", "proven")]
    ]
    (figure,) = figures(make(probes, own=0.027))
    assert figure.caption == (
        "Test error of probes for digit at the taps in execution order. Colour: error ÷ that of chance, from dark "
        "(1 or more) to light (0). Lines or bands at the points: 95 % Wilson intervals over 629 examples. Reductions: "
        "circles pool, squares flatten. Dashed: always saying the commonest class (90.0 %); the model itself (2.7 %). "
        "Best on valid: a (pool), 30.0 %. Crosses: probes that missed their tolerance."
    )


def test_the_caption_of_a_number_says_r2(make, number):
    (figure,) = figures(make([number("a", 0.5)]))
    assert figure.caption.startswith("1 - R² on test of probes for snr")
    assert "percentile bootstrap intervals over 10 examples" in figure.caption


@given(st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_names_of_files_are_safe_and_each_another_one(names):
    made = figures_module._file_names(names)
    assert len({name.lower() for name in made}) == len(names)
    for name in made:
        assert name
        assert re.fullmatch(r"[\w.-]+", name)
        assert not name.startswith(".")
        assert len(name) <= 70


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(panels=st.integers(1, 20), taps=st.integers(1, 30), width=st.floats(60, 300))
def test_a_figure_is_as_wide_as_it_is_asked_to_be(by_hand, make, probe, panels, taps, width):
    probes = [probe(f"t{tap}", 0.5, checkpoint=f"c{panel}") for panel in range(panels) for tap in range(taps)]
    made = figures(make(probes))
    root = ET.fromstring(draw(made, ["svg"], width)[0]["svg"])
    assert float(root.get("width").removesuffix("mm")) == pytest.approx(width, abs=0.01)
    _, _, right, bottom = (float(part) for part in root.get("viewBox").split())
    for one in root.iter():
        x, y = float(one.get("x", 0)), float(one.get("y", 0))
        if one.tag in {f"{SVG}rect", f"{SVG}svg"} and one is not root:
            assert x + float(one.get("width")) <= right + 0.02
            assert y + float(one.get("height")) <= bottom + 0.02


def test_panels_do_not_overlap_and_share_their_axis(by_hand, make, probe):
    probes = [probe("a", 0.1 * panel, checkpoint=f"c{panel}") for panel in range(1, 8)]
    root = ET.fromstring(draw(figures(make(probes)), ["svg"], DOUBLE)[0]["svg"])
    places = [
        tuple(float(one.get(name)) for name in ("x", "y", "width", "height"))
        for one in root.iter(f"{SVG}svg")
        if one is not root
    ]
    assert len(places) == 7
    assert len({x for x, *_ in places}) == 4
    for number, (x, y, width, height) in enumerate(places):
        for left, top, *_ in places[number + 1 :]:
            assert left >= x + width or top >= y + height or left < x
    titles = [one.text for one in root.iter(f"{SVG}text")]
    assert titles == [f"c{panel}" for panel in range(1, 8)]


def test_more_checkpoints_than_panels_are_a_map(make, probe):
    probes = [probe(tap, 0.03 * step, checkpoint=f"s{step}") for step in range(20) for tap in ("a", "b")]
    probes[0] = probe("a", 0.0, checkpoint="s0", status="missed")
    (figure,) = figures(make(probes))
    assert figure.is_map
    root = ET.fromstring(draw([figure], ["svg"], DOUBLE)[0]["svg"])
    cells = list(root.iter(f"{SVG}rect"))
    assert len(cells) == 40 + 11
    assert cells[0].get("fill") == paper.LINE
    assert [one.text for one in root.iter(f"{SVG}text")][-2:] == ["0", "1, error ÷ that of chance"]


def test_the_map_of_a_number_names_its_own_measure(make, number):
    probes = [number("a", 0.5, checkpoint=str(step)) for step in range(20)]
    (made,) = draw(figures(make(probes)), ["svg"], DOUBLE)
    assert [one.text for one in ET.fromstring(made["svg"]).iter(f"{SVG}text")][-2:] == ["0", "1, 1 - R²"]


def test_what_cannot_be_drawn_says_why(make, probe, monkeypatch):
    made = figures(make([probe("a", 0.1, checkpoint=f"c{i}") for i in range(13)]))
    monkeypatch.setattr(paper, "_CONVERT", "import sys; sys.exit('no vl_convert')")
    with pytest.raises(ChartError, match="no vl_convert"):
        draw(made, ["png"])
    monkeypatch.setattr(paper, "_CONVERT", "import os; os.abort()")
    with pytest.raises(ChartError, match="exit code -6"):
        draw(made, ["pdf"])


def test_a_drawing_that_takes_too_long_is_ended(make, probe, monkeypatch):
    made = figures(make([probe("a", 0.1, checkpoint=f"c{i}") for i in range(13)]))
    monkeypatch.setattr(paper, "_CONVERT", "import time; time.sleep(60)")
    monkeypatch.setattr(paper, "_SECONDS", 0.2)
    with pytest.raises(ChartError, match="longer than"):
        draw(made, ["png"])


# --- drawn in earnest, once for all ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files():
    """Files of each kind, of one panel with hostile names, by a factory of results that holds no state."""
    return {}


@pytest.fixture
def drawn(files, hostile, make, probe):
    """The files of two figures: hostile names at one checkpoint, and three checkpoints."""
    if not files:
        taps = [one.tap for one in hostile.probes]
        own = [probe(tap, 0.08 * i, factor="digit", intervals=wilson(0.08 * i)) for i, tap in enumerate(taps)]
        steps = [
            probe(tap, 0.1 * step, factor="digit", checkpoint=f"<b>{step}</b>")
            for step in (1, 2, 3)
            for tap in taps[:4]
        ]
        made = [*figures(make(own, own=0.1)), *figures(make(steps))]
        files["single"], files["panels"] = draw(made, ["svg", "pdf", "png"], SINGLE)
    return files


@pytest.mark.parametrize("name", ["single", "panels"])
def test_an_svg_is_a_column_wide_and_inert(drawn, name):
    svg = drawn[name]["svg"].decode()
    assert millimetres(svg)[0] == pytest.approx(SINGLE, abs=0.01)
    assert 30 < millimetres(svg)[1] < 250
    root = ET.fromstring(svg)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {"svg", "g", "path", "line", "text", "tspan", "rect"}
    assert not [key for one in root.iter() for key in one.keys() if key.startswith("on") or key.endswith("href")]  # noqa: SIM118
    assert root.get("role") == "img"
    assert root.get("aria-label").startswith("Test error of probes for digit")


def test_names_are_in_the_svg_as_text(drawn):
    text = "\n".join(one.text or "" for one in ET.fromstring(drawn["panels"]["svg"]).iter())
    assert "<b>2</b>" in text


@pytest.mark.parametrize("name", ["single", "panels"])
def test_a_png_has_300_pixels_an_inch(drawn, name):
    with Image.open(io.BytesIO(drawn[name]["png"])) as picture:
        assert picture.width == pytest.approx(SINGLE / 25.4 * PPI, abs=1.5)
        assert picture.info["dpi"] == pytest.approx((PPI, PPI), abs=0.5)
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24)) > 10


@pytest.mark.parametrize("name", ["single", "panels"])
def test_a_pdf_is_a_column_wide(drawn, name):
    pdf = drawn[name]["pdf"]
    assert pdf.startswith(b"%PDF-")
    (box,) = re.findall(rb"/MediaBox\s*\[([^\]]*)\]", pdf)
    left, bottom, right, top = (float(part) for part in box.split())
    assert (left, bottom) == (0, 0)
    assert right / 72 * 25.4 == pytest.approx(SINGLE, abs=0.2)
    assert top > 50


def test_drawing_again_gives_the_same_svg_and_png(make, probe):
    made = figures(make([probe(tap, 0.1, checkpoint=f"c{i}") for i in range(13) for tap in ("a", "b")]))
    first, second = (draw(made, ["svg", "png"], SINGLE)[0] for _ in range(2))
    assert first == second
