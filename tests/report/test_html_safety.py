"""The page is inert and offline, whatever names a run has."""

import base64
import hashlib
import json
import re
from importlib.resources import files

import pytest

from probekit.report import html
from probekit.report.html import CIVIDIS, PALETTE, HtmlReport, environment

ATTACKS = [
    "<script>alert(1)</script>",
    "</title></style></script></textarea><script>alert(1)</script>",
    "<!--<script>alert(1)</script>-->",
    "]]></svg></text><svg onload=alert(1)><script>alert(1)</script></svg>",
    "<img src=x onerror=alert(1)>",
    "&lt;img src=x onerror=alert(1)&gt;",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<details open ontoggle=alert(1)><summary>x</summary></details>",
    "<a href='javascript:alert(1)'>x</a>",
    "<link rel=stylesheet href=https://x.example/a.css><style>@import '//x.example/b.css'; a { b: url(c) }</style>",
    "' autofocus tabindex=0 onfocus='alert(1)' x='",
    '" onmouseover="alert(1)" onclick="alert(1)" x="',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}${alert(1)}",
]
POLICY = r'<meta http-equiv="Content-Security-Policy"[^>]*>'
TOUCH_ALL = """(() => {
  const kinds = ['click', 'mouseover', 'mouseenter', 'focus', 'focusin', 'keydown', 'toggle', 'error', 'load'];
  for (const one of document.querySelectorAll('*')) {
    for (const kind of kinds) one.dispatchEvent(new Event(kind));
    if (!one.matches('a:not([href^="#"])')) one.click?.();
  }
  return [...document.links].filter(one => one.protocol != 'file:').map(one => one.outerHTML);
})()"""


@pytest.fixture
def undrawn(monkeypatch):
    """No charts and no drawings: for what they have no part in."""
    blank = b'<svg viewBox="0 0 9 9"/>'
    monkeypatch.setattr(html, "render", lambda wanted: [blank for _ in wanted])
    monkeypatch.setattr(html, "draw", lambda *_: None)


@pytest.fixture(scope="module")
def drawn_pages():
    return {}


@pytest.fixture
def page(hostile, drawn_pages):
    """The page of hostile names, with its charts."""
    if "hostile" not in drawn_pages:
        drawn_pages["hostile"] = HtmlReport().render(hostile)
    return drawn_pages["hostile"]


@pytest.fixture
def attacked(whole, drawn_pages):
    """A page with every part, whose every name is an attack."""
    if "attacked" not in drawn_pages:
        every = "".join(ATTACKS)
        result = whole(lambda kind, name: name if kind == "tap" else f"{name}{every}", names=ATTACKS)
        drawn_pages["attacked"] = HtmlReport().render(result)
    return drawn_pages["attacked"]


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [True, False], ids=["with the policy", "without it"])
def test_no_name_opens_a_dialog_or_asks_for_anything(attacked, browser, policy):
    address = browser.open(attacked if policy else re.sub(POLICY, "", attacked))
    assert browser.ask(TOUCH_ALL) == []
    browser.wait("new Promise(done => setTimeout(done, 200))")
    assert browser.dialogs == []
    assert browser.requests == [address]
    assert browser.console == []
    text = browser.ask("document.body.textContent")
    for attack in ATTACKS:
        assert text.count(attack) > 20


@pytest.mark.parametrize("attack", [one for one in ATTACKS if one[:2] in {"<s", "</", "]]", "<i", "<d", "<a", "<l"}])
def test_the_policy_alone_stops_what_is_not_escaped(make, probe, undrawn, browser, attack):
    page = HtmlReport().render(make([probe("a", 0.1)])).replace("<h1>", f"<h1>{attack}")
    found = []
    for one in (page, re.sub(POLICY, "", page)):
        browser.open(one)
        browser.ask("[...document.querySelectorAll('h1 a')].forEach(one => one.click())")
        browser.wait("new Promise(done => setTimeout(done, 50))")
        found.append((browser.dialogs, browser.requests[1:]))
        assert browser.ask("document.querySelectorAll('th button').length") > 5
    assert found[0] == ([], [])
    assert found[1] != ([], [])


def test_the_table_in_the_page_is_what_json_readers_make_of_it(attacked, browser):
    browser.open(attacked)
    table = browser.ask("JSON.parse(document.querySelector('#results').textContent)")
    place = table["columns"].index("tap")
    assert {row[place] for row in table["rows"]} == set(ATTACKS)


# --- as text ----------------------------------------------------------------------------------------------------------


def test_hostile_names_are_shown_and_inert(page, read):
    reader = read(page)
    assert reader.tags.count("script") == 2
    assert not {"img", "iframe", "object", "embed", "link", "form", "base"} & set(reader.tags)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    text = "".join(reader.text)
    for shown in (
        "<script>alert(1)</script>", '"onmouseover="alert(1)', "{{7*7}}", "[red]red[/red]",
        "a\\u202eb\\u001b[31mc\\u0000",
        "工具 🧪 שלום", "x" * 500, "]]><img src=x onerror=alert(1)>",
    ):  # fmt: skip
        assert shown in text
    assert "49" not in re.findall(r">\s*49\s*<", page)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


def test_the_embedded_table_cannot_end_its_element(make, probe, hostile, undrawn):
    probes = [*hostile.probes, *(probe(name, 0.5) for name in ("a&amp;b", "a\u2028b\u2029c", "<!--<script>"))]
    result = make(probes)
    page = HtmlReport().render(result)
    start = page.index('id="results">') + len('id="results">')
    raw = page[start : page.index("</script>", start)]
    assert not set("<>&\u2028\u2029\u202e") & set(raw)
    table = json.loads(raw)
    place = table["columns"].index("tap")
    assert [row[place] for row in table["rows"]] == [one.tap for one in probes]


def test_the_page_fetches_nothing(page, read):
    attributes = read(page).attributes
    assert not {name for _, name, _ in attributes} & {
        "src",
        "srcset",
        "action",
        "data",
        "poster",
        "xlink:href",
        "xmlns",
    }
    links = {value for _, name, value in attributes if name == "href" and not value.startswith("#")}
    assert links == {"results.json", "results.csv"}
    assert not re.search(r"https?:|//|url\(|@import|expression\(", page)


def test_the_policy_allows_the_style_and_one_script_of_less_than_a_kilobyte(make, probe, undrawn, read):
    reader = read(HtmlReport().render(make([probe("a", 0.1)])))
    policy = next(value for tag, name, value in reader.attributes if tag == "meta" and "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    (script,) = ["".join(text) for attributes, text in reader.scripts if "type" not in attributes]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert len(script.encode()) < 1024


def test_templates_trust_drawings_and_their_own_constants_alone():
    trusted = set()
    for path in files("probekit.report").joinpath("templates").iterdir():
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|setAttribute\(.on", source)
        trusted |= set(re.findall(r"([^\s{}]+(?: class=\"\w+\"')?)\s*\|\s*safe", source))
    assert trusted == {
        "chart", "drawing.details", "drawing.svg", "figures.depth[head.number]", "figures.near[head.number][1]",
        "policy", "script", '"<br>"', "' class=\"best\"'", "' class=\"l\"'", "' class=\"steps\"'", "' class=\"tall\"'",
    }  # fmt: skip


def test_every_value_is_cleaned_and_escaped_whatever_a_template_forgets():
    made = environment().from_string('{{ x }}<i title="{{ x }}">{% macro m(y) %}{{ y }}{% endmacro %}{{ m(x) }}')
    assert made.render(x='<a>"\x1b\u202e') == (
        '&lt;a&gt;&#34;\\u001b\\u202e<i title="&lt;a&gt;&#34;\\u001b\\u202e">&lt;a&gt;&#34;\\u001b\\u202e'
    )


def test_text_on_every_colour_can_be_read():
    def luminance(colour):
        full = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour, ink in PALETTE + CIVIDIS:
        low, high = sorted([luminance(colour), luminance(ink)])
        assert (high + 0.05) / (low + 0.05) >= 4.5
    for palette in (PALETTE, CIVIDIS):  # in grey too, better is lighter
        shades = [luminance(colour) for colour, _ in palette]
        assert shades == sorted(shades)


def test_figures_and_scrolled_parts_have_names_and_take_the_focus(page):
    tags = re.findall(r"<(?:svg|div)[^>]*>", page)
    scrolled = [tag for tag in tags if 'class="scroll"' in tag]
    assert scrolled
    assert all(re.search(r'tabindex="0" role="region" aria-label="[^"]', tag) for tag in scrolled)
    drawn = [tag for tag in tags if tag.startswith("<svg")]
    assert drawn
    assert all('aria-hidden="true"' in tag or re.search(r'role="img".* aria-label="[^"]', tag) for tag in drawn)
