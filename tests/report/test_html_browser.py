"""The page in a browser: by keyboard, without scripts, narrow, light and dark, in forced colours, on paper."""

import itertools
import re

import pytest
from selenium.webdriver.common.keys import Keys

from probekit.report import html
from probekit.report.html import CIVIDIS, PALETTE, HtmlReport
from probekit.results import GraphRecord, TapRecord

OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"


@pytest.fixture
def undrawn(monkeypatch):
    """No charts and no drawings: for what they have no part in."""
    monkeypatch.setattr(html, "render", lambda wanted: [b'<svg viewBox="0 0 9 9"/>' for _ in wanted])
    monkeypatch.setattr(html, "draw", lambda *_: None)


@pytest.fixture(scope="module")
def drawn_pages():
    return {}


@pytest.fixture
def page(whole, drawn_pages):
    """A page with every part."""
    if not drawn_pages:
        drawn_pages["whole"] = HtmlReport().render(whole())
    return drawn_pages["whole"]


@pytest.fixture
def three(make, probe, undrawn):
    """The page of three taps and a command that is to be copied."""
    result = make([probe(name, error) for name, error in (("a", 0.1), ("b", 0.02), ("c", 0.3))])
    provenance = {**result.provenance, "command": "probekit run 'a b.yaml' --set x=<1>"}
    return HtmlReport().render(result.model_copy(update={"provenance": provenance}))


def tab_to(browser, script):
    """Press Tab until the element that has the focus is a given one."""
    for _ in range(200):
        browser.press(Keys.TAB)
        if browser.ask(f"document.activeElement === {script}"):
            return
    pytest.fail(f"Tab never comes to {script}")


# --- by keyboard ------------------------------------------------------------------------------------------------------


def test_the_keyboard_sorts_by_the_numbers_of_a_column(three, browser):
    browser.open(three)
    head = "[...document.querySelectorAll('.sort thead th')].find(one => one.textContent == 'test')"
    order = "[...document.querySelector('.sort').tBodies[0].rows].map(row => row.cells[1].innerText)"
    assert browser.ask(order) == ["a", "b (best)", "c"]
    tab_to(browser, f"{head}.firstChild")
    found = []
    for key in (Keys.ENTER, Keys.SPACE, Keys.ENTER):
        browser.press(key)
        found.append((browser.ask(order), browser.ask(f"{head}.ariaSort")))
    up = (["b (best)", "a", "c"], "ascending")
    assert found == [up, (["c", "a", "b (best)"], "descending"), up]
    assert browser.ask("document.querySelectorAll('[aria-sort]').length") == 1
    tab_to(browser, f"{head}.nextElementSibling.firstChild")
    browser.press(Keys.ENTER)
    assert browser.ask(f"[{head}.ariaSort, {head}.nextElementSibling.ariaSort]") == [None, "ascending"]


def test_the_keyboard_copies_the_command(three, browser):
    browser.open(three)
    browser.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    tab_to(browser, "document.querySelector('pre.copy').previousElementSibling")
    browser.press(Keys.ENTER)
    browser.wait("new Promise(done => setTimeout(done, 100))")
    assert browser.ask("document.activeElement.textContent") == "copied"
    assert browser.wait("navigator.clipboard.readText()") == "probekit run 'a b.yaml' --set x=<1>"


def test_where_copying_is_refused_the_command_is_selected(three, browser):
    browser.open(three)
    browser.command("Browser.setPermission", permission={"name": "clipboard-write"}, setting="denied")
    tab_to(browser, "document.querySelector('pre.copy').previousElementSibling")
    browser.press(Keys.ENTER)
    browser.wait("new Promise(done => setTimeout(done, 100))")
    assert browser.ask("getSelection().toString()") == "probekit run 'a b.yaml' --set x=<1>"
    assert browser.ask("document.activeElement.textContent") == "copy"
    assert browser.console == []
    browser.command("Browser.resetPermissions")


def test_the_keyboard_opens_and_closes_details_without_scripts(three, browser):
    browser.open(three, scripts=False)
    summary = "document.querySelector('details.tap summary')"
    tab_to(browser, summary)
    found = []
    for _ in "12":
        browser.press(Keys.ENTER)
        found.append(browser.ask(f"{summary}.parentElement.open"))
    assert found == [True, False]


def test_tab_reaches_everything_that_acts_or_scrolls_and_shows_where_it_is(page, browser):
    browser.open(page)
    acting = "a[href], button, input, summary, [tabindex], .scroll"
    count = browser.ask(f"[...document.querySelectorAll('{acting}')].filter(one => one.checkVisibility()).length")
    browser.ask("window.reached = new Set()")
    hidden = []
    for _ in range(count):
        browser.press(Keys.TAB)
        name, outlined = browser.ask(
            "(() => { const one = document.activeElement; reached.add(one);"
            "return [one.outerHTML.slice(0, 80), getComputedStyle(one).outlineStyle]; })()"
        )
        hidden += [name] if outlined == "none" else []
    missed = f"[...document.querySelectorAll('{acting}')].filter(one => one.checkVisibility() && !reached.has(one))"
    assert browser.ask(f"{missed}.map(one => one.outerHTML.slice(0, 80))") == []
    assert hidden == []


def test_a_screen_reader_is_told_a_name_of_everything_that_acts_or_is_drawn(page, browser):
    browser.open(page)
    browser.ask(OPEN_ALL)
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node]
    for role in ("button", "link", "checkbox", "image", "region", "navigation", "heading", "columnheader", "rowheader"):
        names = [name for one, name in named if one == role]
        assert names, role
        assert all(name.strip() for name in names), role
    levels = browser.ask("[...document.querySelectorAll('h1, h2, h3, h4')].map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


# --- large ---------------------------------------------------------------------------------------------------------


def test_a_page_of_a_thousand_taps_opens_and_is_folded(make, probe, undrawn, browser):
    names = [f"block{number // 10}.conv{number % 10}" for number in range(1000)]
    result = make([probe(name, 0.9 - number / 2000) for number, name in enumerate(names)])
    graph = GraphRecord(
        taps=[
            TapRecord(model="default", tap=tap, name=tap, op="Conv", shape=[8], dtype="float32", layout="NC", depth=i)
            for i, tap in enumerate(names)
        ],
        edges=[["default", *pair] for pair in itertools.pairwise(names)],
    )
    browser.open(HtmlReport().render(result.model_copy(update={"graph": graph})))
    assert browser.console == []
    shown = "[...document.querySelectorAll('tbody tr')].filter(one => one.checkVisibility()).length"
    assert browser.ask(shown) < 100
    browser.ask(OPEN_ALL)
    assert browser.ask(shown) >= 1000
    assert browser.ask("document.querySelectorAll('*').length") < 40_000


# --- without scripts --------------------------------------------------------------------------------------------------


def test_without_scripts_everything_can_be_read(page, browser):
    texts = []
    for scripts in (True, False):
        browser.open(page, scripts=scripts)
        assert bool(browser.ask("document.querySelectorAll('button').length")) == scripts
        browser.ask(OPEN_ALL)
        assert browser.hidden_texts() == []
        texts.append(re.sub(r"\s+", " ", browser.ask("document.body.innerText").replace("copy", "")))
    assert texts[0] == texts[1]


def test_the_script_reports_no_error(page, browser):
    browser.open(page)
    assert browser.ask("document.querySelectorAll('.sort thead th').length") > 20
    assert browser.ask(
        "[...document.querySelectorAll('.sort thead th')].every(one => one.firstChild.tagName == 'BUTTON')"
    )
    assert browser.console == []


def test_the_other_palette_needs_no_script_and_recolours_drawings_too(page, browser):
    browser.open(page, scripts=False)
    marks = "['td.k0', '.model .k0 rect', '.chart circle']"
    colours = (
        f"{marks}.map(one => getComputedStyle(document.querySelector(one))).map((style, i) => "
        "i ? style.fill : style.backgroundColor)"
    )
    found = [browser.ask(colours)]
    tab_to(browser, "document.querySelector('#cvd')")
    browser.press(Keys.SPACE)
    found.append(browser.ask(colours))
    as_rgb = [f"rgb({', '.join(str(int(one[0][0][i : i + 2], 16)) for i in (1, 3, 5))})" for one in (PALETTE, CIVIDIS)]
    assert found == [[one] * 3 for one in as_rgb]


def test_no_value_is_told_by_colour_alone(page, browser):
    browser.open(page)
    browser.ask(OPEN_ALL)
    cells = browser.ask("[...document.querySelectorAll('td[class^=k]')].map(one => one.innerText)")
    boxes = browser.ask("[...document.querySelectorAll('.model g[class^=k]')].map(one => one.textContent)")
    assert len(cells) > 20
    assert len(boxes) > 5
    assert [text for text in cells + boxes if not re.search(r"\d", text)] == []


# --- narrow, light and dark -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["whole", "long names"])
def test_at_400_percent_nothing_but_tables_and_figures_is_wider_than_the_window(
    page, make, probe, undrawn, browser, which
):
    if which == "long names":  # WCAG 2.2, 1.4.10: 1280 px at 400 % are 320
        long = ["x" * 500, "layer." * 90, "工具" * 200]
        page = HtmlReport().render(make([probe(name, 0.1, factor=name[:400]) for name in long], warnings=long))
    browser.open(page, width=320, height=256)
    browser.ask(OPEN_ALL)
    assert browser.ask("document.documentElement.scrollWidth") <= 320
    wide = browser.ask(
        "[...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > 321"
        " && !one.closest('.scroll, .tap > div, caption')).map(one => one.outerHTML.slice(0, 120))"
    )
    assert wide == []


@pytest.mark.parametrize("palette", ["default", "colour-blind"])
@pytest.mark.parametrize(
    "features", [{}, {"prefers_color_scheme": "dark"}, {"forced_colors": "active"}], ids=["light", "dark", "forced"]
)
def test_text_has_contrast_with_what_lies_under_it(page, browser, features, palette):
    browser.open(page, width=1400, **features)
    browser.ask(OPEN_ALL)
    browser.ask(f"document.querySelector('#cvd').checked = {str(palette != 'default').lower()}")
    browser.resize(1400, browser.ask("document.documentElement.scrollHeight"))
    found = browser.contrasts()
    assert sum(drawn for *_, drawn in found) > 50  # in charts and drawings
    assert len(found) > 500
    assert [one for one in found if one[1] < 4.5] == []


def test_forced_colours_reach_drawings_and_lines(page, browser):
    browser.open(page, forced_colors="active", prefers_color_scheme="dark")
    colours = browser.ask(
        "(() => { const probe = document.createElement('i'); document.body.append(probe);"
        "return ['CanvasText', 'Canvas', 'GrayText'].map(name => "
        "{ probe.style.color = name; return getComputedStyle(probe).color; }); })()"
    )
    text, ground, line = colours
    assert text != ground
    assert browser.ask("getComputedStyle(document.querySelector('.chart text')).fill") == text
    assert browser.ask("getComputedStyle(document.querySelector('.model .edges')).stroke") == text
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == ground
    assert browser.ask(
        f"[...document.querySelectorAll('.chart *')].some(one => getComputedStyle(one).stroke == '{line}')"
    )


def test_dark_is_dark_and_light_is_light(page, browser):
    shades = []
    for scheme in ("light", "dark"):
        browser.open(page, prefers_color_scheme=scheme)
        shades.append(browser.ask("getComputedStyle(document.body).backgroundColor"))
    assert shades == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


# --- on paper ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["whole", "hostile"])
def test_no_sheet_is_blank(page, hostile, undrawn, browser, which):
    browser.open(page if which == "whole" else HtmlReport().render(hostile))
    sheets = browser.paper()
    assert len(sheets) >= 2
    for sheet in sheets:
        assert len(re.findall(r"\bT[jJ]\b", sheet)) > 3


def test_paper_holds_what_is_folded_on_the_screen_with_and_without_scripts(page, browser):
    closed = re.sub(r"details:not\(\.long\)::details-content ?\{[^}]*\}", "", page)
    assert closed != page
    glyphs = []
    for one, scripts in ((page, True), (page, False), (closed, False)):
        browser.open(one, scripts=scripts)
        glyphs.append(sum(len(re.findall(r"\bT[jJ]\b", sheet)) for sheet in browser.paper()))
    assert glyphs[0] == pytest.approx(glyphs[1], rel=0.01)
    assert glyphs[1] > 1.2 * glyphs[2]


def test_paper_has_no_controls(page, browser):
    browser.open(page, media="print")
    shown = "[...document.querySelectorAll('nav, input, pre.copy + button, :not(th) > button')]"
    assert browser.ask(f"{shown}.length") >= 2
    assert browser.ask(f"{shown}.filter(one => one.checkVisibility()).map(one => one.outerHTML)") == []
