"""The page: inert, offline, complete."""

import html.parser
import re
import shutil
import subprocess

import pytest

from probekit.report.html import PALETTE, HtmlReport


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def test_hostile_names_are_shown_and_inert(hostile):
    page = HtmlReport().render(hostile)
    reader = read(page)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    text = "".join(reader.text)
    for shown in (
        "<script>alert(1)</script>",
        '"onmouseover="alert(1)',
        "{{7*7}}",
        "[red]red[/red]",
        "a\\u202eb\\u001b[31mc\\u0000",
    ):
        assert shown in text


def test_the_page_fetches_nothing_and_forbids_it(hostile):
    page = HtmlReport().render(hostile)
    policy = next(value for name, value in read(page).attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'")
    markup = re.sub(r">[^<]*<", "><", page)
    assert not re.search(r"""https?:|\bsrc=|\bhref=|url\(|@import""", markup)


def test_every_number_stands_in_the_page(make, probe):
    probes = [probe("conv1", 0.123, 0.456), probe("fc", 0.0789, 0.0321, status="missed")]
    text = "".join(read(HtmlReport().render(make(probes, own=0.0654, warnings=["mind the gap"]))).text)
    for number in (
        "12.3 %",
        "45.6 %",
        "7.9 %",
        "3.2 %",
        "6.5 %",
        "90.0 %",
        "64 of 640",
        "missed: not ranked",
        "mind the gap",
    ):
        assert number in text
    assert "probekit run <b>.yaml" in text


def test_the_page_names_every_checkpoint(make, probe):
    page = HtmlReport().render(make([probe("a", 0.1, checkpoint="step<1>"), probe("a", 0.2, checkpoint="step<2>")]))
    text = "".join(read(page).text)
    assert "step<1>" in text
    assert "step<2>" in text


def test_the_same_result_gives_the_same_bytes(hostile):
    assert HtmlReport().render(hostile) == HtmlReport().render(hostile)


def test_text_on_every_colour_can_be_read():
    def luminance(colour):
        full = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour, ink in PALETTE:
        low, high = sorted([luminance(colour), luminance(ink)])
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_a_browser_shows_the_page_and_finds_no_script_in_it(hostile, tmp_path, need):
    chromium = shutil.which("chromium")
    need(chromium is not None, "apt-get install chromium")
    (tmp_path / "report.html").write_text(HtmlReport().render(hostile), encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--disable-sync",
    ]
    command = [
        chromium,
        *flags,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        (tmp_path / "report.html").as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "Probe report: made" in shown
    assert "<script" not in shown


@pytest.mark.parametrize("count", [1, 60])
def test_the_page_stays_small(make, probe, count):
    page = HtmlReport().render(make([probe(f"layer{i}.relu", i / 100) for i in range(count)]))
    assert len(page.encode()) <= 150 * 1024


def test_the_page_shows_numbers_labels_and_fits(make, number, tags, fit):
    probes = [
        number("conv", 0.612, fit=fit(0.9, 0.8, 0.85, notes=["best epoch <3>"])),
        number("fc", 0.3, status="missed", fit=fit(0.7, end="smallest", reason="the budget <ended>")),
        tags("conv", {"speech": 0.123, "mu<b>sic": 0.345}),
    ]
    text = "".join(read(HtmlReport().render(make(probes))).text)
    for shown in (
        "snr: test R² by depth", "0.612", "0.512 to 0.712", "Examples were resampled", "1: 0.9 · 0.1: 0.8 · 0.01: 0.85",
        "the smallest was chosen", "missed: the budget <ended>", "exact", "By label", "mu<b>sic", "12.3 %", "34.5 %",
        "0.002", "Errors are means over 2 labels", "best epoch <3>",
    ):  # fmt: skip
        assert shown in text


def test_a_page_of_classes_alone_has_no_column_for_intervals(make, probe):
    text = "".join(read(HtmlReport().render(make([probe("a", 0.1)]))).text)
    assert "interval" not in text
    assert "By label" not in text
