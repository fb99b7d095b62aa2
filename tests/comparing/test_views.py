"""The views of a comparison: inert, offline, complete."""

import html.parser
import json
import re

import numpy as np
import pytest

from probekit.comparing import html as page
from probekit.comparing import markdown, terminal
from probekit.comparing.compare import compare
from probekit.comparing.wording import number, shown_p, shown_score

CODES = np.arange(100) % 4


def wrong(count):
    predicted = CODES.copy()
    predicted[:count] = (predicted[:count] + 1) % 4
    return predicted


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


def test_every_view_tells_every_number(plain):
    shown = {
        "html": "".join(read(page.render(plain)).text).replace("\u00a0", " "),
        "md": markdown.render(plain).replace("\\", ""),
        "terminal": terminal.render(plain, 120),
    }
    score = plain.differences[2].score
    for name, text in shown.items():
        for part in (
            "before", "after", "10.00 %", "40.00 %", "+30.00", number(score.interval.low, "error"), "< 0.001",
            "only_before", "only_after", "packages.numpy", '"2.1"', "worse>1", "worse>99",
            "after is worse than before at 1 of 3 taps, most at c: 40.00 % against 10.00 %, +30.00 points",
            "f, the models' own predictions: after is worse than before",
        ):  # fmt: skip
            assert part in text.replace("&lt;", "<"), (name, part)


def test_names_are_inert_in_the_page(hostile):
    text = page.render(hostile)
    reader = read(text)
    assert not {"img", "b", "i", "u"} & set(reader.tags)
    assert reader.tags.count("script") == 1
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    shown = "".join(reader.text)
    for name in (
        "<script>alert(1)</script>",
        "{{7*7}}",
        "[red]red[/red] :smile:",
        "a\\u202eb\\u001b[31mc",
        "工具 🧪 שלום",
    ):
        assert name in shown
    policy = next(value for name, value in reader.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'")


def test_the_page_fetches_nothing(plain):
    assert not re.search(r"https?:|\bsrc=|\bhref=|url\(|@import", page.render(plain))


def test_names_are_inert_on_the_terminal(hostile):
    text = terminal.render(hostile, 100, colour=True)
    assert "[red]red[/red] :smile:" in text
    assert "\u202e" not in text
    assert "\\u202eb\\u001b[31mc" in text.replace("\n", "")
    codes = set(re.findall(r"\x1b\[([0-9;]*)m", text))
    assert codes <= {"", "0", "1", "31", "32", "33", "1;31", "2"}


def test_names_are_inert_in_markdown(hostile):
    text = markdown.render(hostile)
    outside = re.sub(r"(`+).*?\1|<code>.*?</code>", "", text)
    assert set(re.findall(r"<(/?\w+)", outside)) <= {"details", "/details", "summary", "/summary"}
    assert not re.search(r"@\w", outside)
    assert "://" not in outside
    for line in re.findall(r"^\|.*\|$", text, flags=re.MULTILINE):
        assert line.count("|") - line.count("\\|") >= 4
    heads = {line.count("|") for line in text.split("\n") if line.startswith("| tap ")}
    rows = {line.count("|") for line in text.split("\n") if re.match(r"\| (`|<code>)", line) and "points" not in line}
    assert heads <= rows | heads
    assert "\x1b" not in text


def test_without_colour_there_is_no_escape(plain):
    assert "\x1b" not in terminal.render(plain, 80)
    assert "\x1b" in terminal.render(plain, 80, colour=True)


def test_no_line_of_the_terminal_ends_between_a_number_and_its_percent(plain):
    for width in range(40, 121):
        text = terminal.render(plain, width)
        assert not [line for line in text.splitlines() if line.lstrip().startswith("%")]
        assert "40.00 % against" in " ".join(text.split())
        assert not re.search(r" $", text, re.MULTILINE)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_the_terminal_keeps_to_its_width(hostile, plain, width):
    for result in (hostile, plain):
        text = terminal.render(result, width)
        lengths = [len(line) for line in text.split("\n") if line.isascii()]
        assert max(lengths) <= max(width, 40)


def test_the_same_comparison_gives_the_same_bytes(hostile):
    for render in (page.render, markdown.render, terminal.render):
        assert render(hostile) == render(hostile)


def test_bars_are_on_one_axis(plain):
    text = page.render(plain)
    bars = re.findall(
        r'class="zero" x1="([0-9.]+)".*?class="ends" x1="([0-9.]+)" x2="([0-9.]+)".*?class="point" x1="([0-9.]+)"',
        text,
    )
    assert len(bars) == 3
    assert len({zero for zero, *_ in bars}) == 1
    for one, (zero, low, high, point) in zip(plain.differences, bars, strict=True):
        ends = [float(value) for value in (low, point, high)]
        assert ends == sorted(ends)
        assert (float(point) > float(zero)) == (one.score.difference > 0)
        assert 0 <= ends[0] <= ends[2] <= 100


def test_factors_share_one_axis(runs):
    """What is drawn as long is as large."""
    made = []
    for counts in ((5, 5), (5, 40)):
        probes = [runs.said("a", wrong(count), factor=factor) for factor, count in zip("fg", counts, strict=True)]
        made.append(runs(probes, {"f": CODES, "g": CODES}))
    text = page.render(compare(*made))
    assert len(set(re.findall(r'class="zero" x1="([0-9.]+)"', text))) == 1
    assert len(set(re.findall(r"from (-?[0-9.]+) to (\+[0-9.]+) points in all, as in the other tables", text))) == 1


def test_equal_models_still_make_views(runs):
    result = compare(*(runs([runs.said("a", CODES)], {"f": CODES}, name="same") for _ in range(2)))
    assert "run2 has the same error as run1 at 1 tap" in terminal.render(result, 80)
    assert "Nothing that was recorded" in page.render(result)
    assert "| `a` |" in markdown.render(result)


def test_a_single_row_has_no_interval_and_still_a_view(runs):
    made = [runs([runs.said("a", [said])], {"f": np.array([0])}, classes={"f": ["x", "y"]}) for said in (0, 1)]
    result = compare(*made)
    for render in (page.render, markdown.render, terminal.render):
        assert "+100.00" in render(result)
    json.loads(result.to_json())


def test_many_taps_stay_small(plain):
    (one, *_) = plain.differences
    many = []
    for place in range(1000):
        ends = [whose.model_copy(update={"tap": f"layer{place}.1.relu"}) for whose in (one.first, one.second)]
        many.append(one.model_copy(update={"first": ends[0], "second": ends[1]}))
    result = plain.model_copy(update={"differences": many})
    assert len(page.render(result).encode()) < 2 << 20
    text = markdown.render(result)
    assert len(text) < 65_536
    assert "940 more taps" in text
    assert "more are left out here" in text


def test_numbers():
    assert [number(value, "error") for value in (0.01234, -0.5, 0.00001, -0.00001)] == [
        "+1.23",
        "-50.00",
        "0.00",
        "0.00",
    ]
    assert number(0.0004, "r2") == "0.000"
    assert [shown_p(p) for p in (0.00049, 0.0005, 1.0)] == ["< 0.001", "0.001", "1.000"]
    assert shown_score(0.1234, "cross_entropy") == "0.123"
