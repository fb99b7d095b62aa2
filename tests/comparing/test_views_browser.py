"""The page of a comparison in a browser: inert, without scripts, sorted, narrow, dark, on paper."""

import re

import pytest

from probekit.comparing import html


def test_hostile_names_do_nothing(hostile, browser):
    address = browser.open(html.render(hostile))
    assert browser.dialogs == []
    assert browser.requests == [address]
    assert browser.console == []
    assert "<script>alert(1)</script>" in browser.ask("document.body.innerText")


def test_without_scripts_everything_is_shown(plain, browser):
    browser.open(html.render(plain), scripts=False)
    shown = browser.ask("document.body.innerText").replace("\u00a0", " ")
    for part in (
        "after is worse than before at 1 of 3 taps", "Failed: fail if worse>1", "Passed: fail if worse>99",
        "+30.00 worse", "< 0.001", "only_before", "only_after", "packages.numpy",
    ):  # fmt: skip
        assert part in shown
    assert browser.ask("document.querySelectorAll('.drawn svg line.point').length") == 3


@pytest.mark.parametrize(("column", "clicks", "order"), [(2, 1, "abc"), (2, 2, "cba"), (5, 1, "cab")])
def test_tables_are_sorted_by_numbers(plain, browser, column, clicks, order):
    """By the error of B, and by p, of which the smallest is shown as < 0.001."""
    browser.open(html.render(plain))
    for _ in range(clicks):
        browser.ask(f"document.querySelectorAll('.sort thead th')[{column}].firstChild.click()")
    rows = "[...document.querySelector('.sort').tBodies[0].rows]"
    assert browser.ask(f"{rows}.map(row => row.cells[0].textContent.trim())") == list(order)


def test_four_times_as_large_the_page_needs_no_scrolling_sideways(hostile, plain, browser):
    for result in (plain, hostile):
        browser.open(html.render(result), width=320)
        assert browser.ask("document.documentElement.scrollWidth") <= 320


def contrast(first, second):
    """Return the contrast ratio of two colours, as WCAG 2.2 has it."""
    lights = []
    for text in (first, second):
        shares = [int(value) / 255 for value in re.findall(r"\d+", text)[:3]]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_worse_stands_out_from_its_ground(plain, browser, scheme):
    browser.open(html.render(plain), prefers_color_scheme=scheme)
    colour = browser.ask("getComputedStyle(document.querySelector('.worse .d')).color")
    text = browser.ask("getComputedStyle(document.body).color")
    ground = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert contrast(colour, ground) >= 4.5
    assert contrast(text, ground) >= 7
    assert colour != text
    assert browser.ask("getComputedStyle(document.querySelector('.worse .point')).stroke") == colour


def test_in_forced_colours_differences_are_drawn(plain, browser):
    browser.open(html.render(plain), forced_colors="active")
    stroke = browser.ask("getComputedStyle(document.querySelector('.worse .point')).stroke")
    assert contrast(stroke, browser.ask("getComputedStyle(document.body).backgroundColor")) >= 4.5


def test_no_sheet_of_paper_is_blank(plain, browser):
    browser.open(html.render(plain))
    sheets = browser.paper()
    assert 1 <= len(sheets) <= 3
    assert all("Tj" in sheet or "TJ" in sheet for sheet in sheets)
