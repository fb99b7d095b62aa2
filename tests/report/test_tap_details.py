"""The details of each tap: mistakes, labels, and that nothing is said twice."""

import html as markup
import re

import pytest

from probekit.report import html
from probekit.report.html import HtmlReport
from probekit.report.markdown import MarkdownReport
from probekit.report.terminal import TerminalReport
from probekit.results import ClassErrorRecord, ConfusionRecord, FindingRecord, IntervalRecord, MistakesRecord


def text_of(page):
    return markup.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page)))


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Neither charts nor drawings."""
    monkeypatch.setattr(html, "render", lambda wanted: [b'<svg viewBox="0 0 9 9"/>' for _ in wanted])
    monkeypatch.setattr(html, "draw", lambda *_: None)


def ranged(low, high):
    return IntervalRecord(low=low, high=high, kind="wilson", over="examples", n=63)


def mistaken(*classes):
    """Return the mistakes of a probe with these worst classes, each confused with the next."""
    return MistakesRecord(
        split="test",
        worst=[ClassErrorRecord(name=name, error=0.9, interval=ranged(0.88, 0.92), n=63) for name in classes],
        confused=[
            ConfusionRecord(true=a, predicted=b, count=12, share=0.1905)
            for a, b in zip(classes, [*classes[1:], classes[0]], strict=True)
        ],
    )


def test_the_worst_classes_and_the_most_confused_pairs_are_told(make, probe):
    told = mistaken("T-shirt", "Trouser", "Pullover", "Sandal", "Ankle boot")
    text = text_of(HtmlReport().render(make([probe("a", 0.1, mistakes=told)])))
    for shown in (
        "Worst on test: T-shirt 90.0 % of 63 (88.0 to 92.0); Trouser 90.0 % of 63", "Ankle boot 90.0 % of 63",
        "Confused: T-shirt → Trouser 12 (19.1 %); Trouser → Pullover 12 (19.1 %); Pullover → Sandal 12 (19.1 %).",
        "the share of wrong answers, with 95 % Wilson intervals over examples, of each one alone",
        "confusions.csv, in the run directory, has every class and every pair.",
    ):  # fmt: skip
        assert shown in text
    none = make([probe("a", 0.0, mistakes=MistakesRecord(split="test", worst=[], confused=[]))])
    assert "No mistakes on test." in text_of(HtmlReport().render(none))
    assert "confusions.csv" not in HtmlReport().render(make([probe("a", 0.0)]))


def test_names_of_classes_are_only_text(make, probe):
    name = "<img src=x onerror=alert(1)>\u202e\x00"
    page = HtmlReport().render(make([probe("a", 0.1, mistakes=mistaken(name))]))
    assert "<img" not in page
    assert text_of(page).count("<img src=x onerror=alert(1)>\\u202e\\u0000") == 3


def test_what_a_reduction_holds_is_told_where_it_holds_anything(make, probe):
    drawn = probe("a", 0.1, parameters=650, reduction_parameters=40_960)
    learned = drawn.model_copy(update={"reduction_seconds": 1.25})
    assert "Holds 650 numbers; the reduction 40,960." in text_of(HtmlReport().render(make([drawn])))
    text = text_of(HtmlReport().render(make([learned])))
    assert "Holds 650 numbers; the reduction 40,960, learned and applied in 1.2 s." in text
    pooled = probe("a", 0.1, parameters=650, reduction_parameters=0)
    assert "Holds" not in text_of(HtmlReport().render(make([pooled])))


def test_labels_are_shown_with_their_intervals_unless_they_are_too_many(make, tags):
    probe = tags("conv", {"speech": 0.123, "music": 0.345})
    by_label = {
        name: label.model_copy(update={"intervals": {"error": {"test": ranged(0.05, 0.25)}}})
        for name, label in probe.by_label.items()
    }
    text = text_of(HtmlReport().render(make([probe.model_copy(update={"by_label": by_label})])))
    assert "12.3 % 5.0 % to 25.0 % λ 0.001" in text
    assert "Worst labels: music 34.5 % (5.0 to 25.0); speech 12.3 % (5.0 to 25.0)" in text
    page = HtmlReport().render(make([tags("conv", {f"label{i}": 0.1 for i in range(3001)})]))
    assert "3001 labels at 1 probes are too many for this page" in text_of(page)
    assert len(page) < 60_000


def test_what_a_finding_says_is_no_warning_too(make, probe):
    text = "the fit failed: model m, tap a: 3 NaN or infinite values"
    finding = FindingRecord(kind="unfit_features", severity="problem", sentence="No probe: 3 NaN or infinite values.",
                            evidence={"warning": text})  # fmt: skip
    result = make([probe("b", 0.1)], warnings=[text, "another"]).model_copy(update={"findings": [finding]})
    for view in (HtmlReport(), TerminalReport(), MarkdownReport()):
        shown = view.render(result)
        assert shown.count("3 NaN or infinite values") == 1
        assert "another" in shown
