"""The Markdown report, read by an independent parser: what is said, what is folded, and that names are only text."""

import doctest
import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from probekit.errors import clean
from probekit.report import markdown
from probekit.report.markdown import LIMIT, MarkdownReport, beginning, code, escape, fenced
from probekit.results import FindingRecord, IntervalRecord, PairedRecord

MARKS = st.text(st.sampled_from(list("\\`*_[](){}<>|~$&@#:!=+-./ abc19\n\u202e工")), max_size=40)
NAMES = st.one_of(st.text(max_size=40), MARKS)


def parse(text):
    return MarkdownIt("commonmark").enable("table").parse(text)


def inline(tokens):
    return [child for token in tokens if token.type == "inline" for child in token.children or []]


def said(children):
    """Return the text that inline tokens show, without zero-width spaces."""
    return "".join(child.content for child in children if child.type != "html_inline").replace("\u200b", "")


def rows(text):
    """Return the cells of every row of every table, as the text that they show."""
    found, row = [], None
    for token in parse(text):
        if token.type == "tr_open":
            row = []
        elif token.type == "inline" and row is not None:
            row.append(said(token.children))
        elif token.type == "tr_close":
            found.append(row)
            row = None
    return found


def finding(severity, sentence, kind="made"):
    return FindingRecord(kind=kind, severity=severity, sentence=sentence)


def step(before, after, difference, p, metric="error", test="mcnemar_exact"):
    return PairedRecord(
        model="default", checkpoint=None, reduction="pool", factor="digit", probe="default", control=None, seed=0,
        before=before, before_reduction="pool", after=after, metric=metric, difference=difference, interval=None,
        test=test, p=p, p_adjusted=p, only_before_wrong=1, only_after_wrong=2, n=10,
    )  # fmt: skip


def wilson(low, high):
    return {"error": {"test": IntervalRecord(low=low, high=high, kind="wilson", over="examples", n=10)}}


def test_examples_in_docstrings_hold():
    assert doctest.testmod(markdown).failed == 0


@given(NAMES)
def test_escaped_text_is_shown_as_it_is(text):
    (paragraph,) = MarkdownIt("commonmark").parseInline(escape(text))
    assert {child.type for child in paragraph.children} <= {"text"}
    assert said(paragraph.children) == clean(text).replace("\u200b", "")


@given(NAMES)
def test_no_line_begins_a_block(text):
    tokens = parse(f"- {beginning(escape(text))} end\n")
    assert {token.type for token in tokens} <= {
        "bullet_list_open", "list_item_open", "paragraph_open", "inline", "paragraph_close", "list_item_close",
        "bullet_list_close",
    }  # fmt: skip


@given(NAMES)
def test_a_name_is_one_cell_of_code(name):
    (_, row) = rows(f"| tap | test |\n| :-- | --: |\n| {code(name)} | 1 |\n")
    shown = clean(name).replace("\u200b", "")
    assert [cell.strip() for cell in row] == [shown.strip() or row[0].strip(), "1"]
    children = inline(parse(code(name)))
    assert {child.type for child in children} <= {"code_inline", "html_inline", "text"}
    assert [child.content for child in children if child.type == "html_inline"] in ([], ["<code>", "</code>"])


@given(NAMES)
def test_a_block_of_code_holds_its_text(text):
    tokens = parse(f"{fenced(text, 'sh')}\n\nafter")
    assert [token.type for token in tokens][:2] == ["fence", "paragraph_open"]
    assert tokens[0].content == f"{clean(text)}\n"


@pytest.mark.parametrize(
    "text",
    [
        "@octocat",
        "@org/team",
        "see #12",
        "a/b#3",
        "GH-7",
        ":tada: and :+1:",
        "https://x.example",
        "www.x.example",
        "a@b.c",
    ],
)
def test_nothing_is_left_that_a_platform_would_link(text):
    shown = "".join(child.content for child in inline(parse(escape(text))))
    assert not re.search(r"@\w|#\d|(?i:gh-\d)|:[\w+-]+:|://|www\.", shown)


def test_hostile_names_are_shown_and_inert(hostile):
    result = hostile.model_copy(update={"findings": [finding("warning", name) for name in ("<b>x</b>", "@all", "|a|")]})
    tokens = parse(MarkdownReport().render(result))
    markup = [token.content for token in tokens if token.type == "html_block"]
    markup += [child.content for child in inline(tokens) if child.type == "html_inline"]
    left = re.sub(r"</?(details|summary|sub|code)>|\d+ more [a-z, ]+", "", "".join(markup))
    assert left.strip() == ""
    assert {child.type for child in inline(tokens)} <= {
        "text", "code_inline", "html_inline", "strong_open", "strong_close", "softbreak",
    }  # fmt: skip
    shown = said(inline(tokens))
    for name in (
        "<script>alert(1)</script>",
        "{{7*7}}",
        "[red]red[/red]",
        "=1+1",
        "a\\u202eb\\u001b[31mc\\u0000",
        "工具 🧪",
    ):
        assert name in shown


def test_the_verdict_comes_first_then_findings_then_evidence(make, probe):
    result = make([probe("conv", 0.3), probe("fc", 0.1)], warnings=["mind the gap"])
    result = result.model_copy(update={"findings": [finding("problem", "It broke."), finding("info", "It is fine.")]})
    text = MarkdownReport().render(result)
    parts = [
        "## Probe report: `made`", "The best probe for digit", "- **problem**: It broke.", "- **info**: It is fine.",
        "| `conv` | 30.0 % |", "| **`fc`** (best on valid) | 10.0 % |", "- mind the gap",
        "```sh\nprobekit run <b>.yaml\n```",
    ]  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "step" not in text


def test_what_the_verdict_says_is_not_said_twice(make, probe):
    result = make([probe("fc", 0.1)]).model_copy(update={"findings": [finding("info", "Best is fc.", "best_tap")]})
    assert "Best is fc." not in MarkdownReport().render(result)


def test_intervals_and_significant_steps_stand_in_the_table(make, probe):
    probes = [
        probe("a", 0.5, intervals=wilson(0.4, 0.6)), probe("b", 0.3, intervals=wilson(0.2, 0.4)),
        probe("c", 0.31, intervals=wilson(0.21, 0.41)), probe("d", 0.4, intervals=wilson(0.3, 0.5)),
    ]  # fmt: skip
    pairs = [step("a", "b", -0.2, 0.001), step("b", "c", 0.01, 0.9), step("b", "d", 0.1, 0.04)]
    text = MarkdownReport().render(make(probes).model_copy(update={"comparisons": pairs}))
    header, *cells = rows(text)
    assert header == ["tap", "test error [interval]", "step"]
    assert [row[1:] for row in cells] == [
        ["50.0 % [40.0 % to 60.0 %]", ""], ["30.0 % [20.0 % to 40.0 %]", "▼ -20.0 points"],
        ["31.0 % [21.0 % to 41.0 %]", ""], ["40.0 % [30.0 % to 50.0 %]", "▲ +10.0 points from b"],
    ]  # fmt: skip
    assert "Brackets: 95 % Wilson intervals over 10 examples." in text
    assert "p < 0.05 by McNemar's exact test and Holm's correction" in text


def test_steps_to_a_vector_say_from_which_reduction(make, probe):
    probes = [
        probe("a", 0.5), probe("a", 0.4, reduction="flatten"), probe("b", 0.2, reduction="flatten", vector=True),
        probe("c", 0.1, reduction="flatten", vector=True),
    ]  # fmt: skip
    pairs = [
        step(before, after, change, 0.001).model_copy(update={"before_reduction": origin, "reduction": "flatten"})
        for before, origin, after, change in (
            ("a", "pool", "b", -0.3), ("a", "flatten", "b", -0.2), ("b", "flatten", "c", -0.1)
        )
    ]  # fmt: skip
    text = MarkdownReport().render(make(probes).model_copy(update={"comparisons": pairs}))
    assert [row[-1] for row in rows(text)][3:] == [
        "▼ -30.0 points from a (pool), ▼ -20.0 points from a (flatten)", "▼ -10.0 points",
    ]  # fmt: skip


def test_steps_of_numbers_are_told_in_r2(make, number):
    pairs = [step("a", "b", 0.4, 0.001, "r2", "paired_bootstrap").model_copy(update={"factor": "snr"})]
    text = MarkdownReport().render(make([number("a", 0.2), number("b", 0.6)]).model_copy(update={"comparisons": pairs}))
    header, _, second = rows(text)
    assert header == ["tap", "test R² [interval]", "step"]
    assert second[1:] == ["0.600 [0.500 to 0.700]", "▲ +0.400"]
    assert "how the test R² changes" in text


@pytest.mark.parametrize("count", [1, 60, 61, 400])
def test_at_most_60_taps_are_not_folded(make, probe, count):
    best = count * 3 // 5
    text = MarkdownReport().render(make([probe(f"t{i}", 0.5 if i != best else 0.1) for i in range(count)]))
    open_part, *folded = text.split("<details>")
    first = [row[0] for row in rows(open_part)[1:]]
    assert len(first) == min(count, 60)
    assert f"t{best} (best on valid)" in first
    numbers = [int(re.match(r"t(\d+)", name)[1]) for name in first]
    assert numbers == sorted(numbers)
    rest = [row[0] for part in folded for row in rows(part) if row[0] != "tap"]
    assert sorted(int(re.match(r"t(\d+)", name)[1]) for name in [*first, *rest]) == list(range(count))


def test_a_comment_on_github_can_hold_it(make, probe):
    probes = [probe(f"{'x' * 400}{i}", 0.1, factor=f"f{factor}") for factor in range(3) for i in range(300)]
    text = MarkdownReport().render(make(probes, warnings=["w" * 300] * 50))
    assert len(text) <= LIMIT
    assert "are left out" in text
    assert text.count("This table is left out") < 3
    assert "The best probe for f2" in text
    assert "### Reproduce" in text
    assert text.count("<details>") == text.count("</details>")


def test_a_run_without_a_probe_and_a_partial_one_say_so(make, probe):
    assert "No probe was fitted." in MarkdownReport().render(make([]))
    failed = make([probe("a", 0.1)], warnings=["the fit failed: b", "the fit failed: c"])
    assert "**PARTIAL: 2 fits failed; see the warnings.**" in MarkdownReport().render(failed)


def test_a_probe_that_missed_its_tolerance_is_told(make, probe):
    text = MarkdownReport().render(make([probe("a", 0.1, status="missed"), probe("b", 0.2)]))
    assert "| `a` (missed its tolerance) | 10.0 % |" in text
    assert "**`b`** (best on valid)" in text


def test_every_checkpoint_has_its_verdict_and_its_table(make, probe):
    text = MarkdownReport().render(make([probe("a", 0.1, checkpoint="1_0"), probe("a", 0.2, checkpoint="2")]))
    assert text.count("The best probe for digit") == 2
    assert "`1_0`: The best" in text
    assert "#### `2`" in text


def test_the_same_result_gives_the_same_text(hostile):
    assert MarkdownReport().render(hostile) == MarkdownReport().render(hostile)


def test_entities_of_a_name_with_pipes_are_read_back():
    assert html.unescape(code("a\\|b|").removeprefix("<code>").removesuffix("</code>")) == "a\\|b|"


def test_of_uneven_classes_the_balanced_error_and_of_two_the_auroc_are_told(uneven):
    found = rows(MarkdownReport().render(uneven([90, 10])))
    assert found[0] == ["tap", "test error", "balanced", "AUROC"]
    assert found[1][1:] == ["8.0 %", "34.5 %", "0.789"]
    assert rows(MarkdownReport().render(uneven([50, 50])))[0] == ["tap", "test error", "AUROC"]
