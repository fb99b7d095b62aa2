"""The page is small, and the same every time."""

import pytest

from probekit.report import html
from probekit.report.html import HtmlReport

NAMES = [f"block{i // 6}.{part}{i % 6}" for i, part in enumerate(("conv", "norm", "relu", "conv", "norm", "add") * 200)]


@pytest.fixture
def undrawn(monkeypatch):
    """Neither charts nor drawings."""
    monkeypatch.setattr(html, "render", lambda wanted: [b'<svg viewBox="0 0 9 9"/>' for _ in wanted])
    monkeypatch.setattr(html, "draw", lambda *_: None)


# --- small, the same every time


def test_the_same_result_gives_the_same_bytes(of_run):
    result = of_run(NAMES[:6])
    assert HtmlReport().render(result) == HtmlReport().render(result)


def test_sixty_taps_with_controls_mistakes_and_findings_are_small(of_run, with_everything):
    page = HtmlReport().render(with_everything(of_run(NAMES[:60])))
    assert len(page.encode()) <= 140 * 1024
    for part in (
        'id="controls"',
        "Worst on test: T-shirt",
        "Confused: T-shirt",
        "11: The probe",
        ">shuffled_labels</th>",
    ):
        assert part in page


@pytest.mark.parametrize(("count", "most"), [(1, 40), (60, 125), (1000, 2048)])
def test_the_page_stays_small(of_run, count, most):
    page = HtmlReport().render(of_run(NAMES[:count]))
    assert len(page.encode()) <= most * 1024
    assert page.count('<details class="tap') == count
    assert page.count('<th scope="row">') == count


def test_more_than_three_hundred_rows_are_folded_by_block(of_run, undrawn):
    page = HtmlReport().render(of_run(NAMES[:301], factors=("a", "b")))
    part = page[page.index('id="taps"') : page.index('id="details"')]
    assert part.count('<th scope="row">') == 602
    assert part.count("<summary>block") > 20
    part = page[page.index('id="factors"') : page.index('id="taps"')]
    assert part.count('<th scope="row">') == 301
    assert "<summary>" in part
