"""The tables of random weights and of seeds, in every view."""

import doctest
import re

import pytest

from probekit.report import control_tables, controls
from probekit.report.control_tables import control_tables as tables_of
from probekit.report.html import HtmlReport
from probekit.report.markdown import MarkdownReport
from probekit.report.page import tables
from probekit.report.selection import select
from probekit.report.terminal import TerminalReport
from probekit.results import FindingRecord, IntervalRecord, SpreadRecord, TwinRecord

PLACE = {"model": "default", "checkpoint": None, "reduction": "pool", "factor": "digit", "probe": "default"}


def made_twin(tap, trained, twin, p, **changes):
    difference = trained - twin
    interval = IntervalRecord(low=difference - 0.02, high=difference + 0.02, kind="newcombe", over="examples", n=10)
    fields = {
        **PLACE, "tap": tap, "control": "random_weights", "seeds": [0], "metric": "error", "trained": trained,
        "twin": twin, "low": twin - 0.01, "high": twin + 0.01, "difference": difference, "interval": interval,
        "test": "mcnemar_exact", "p": p / 2, "p_adjusted": p, "n": 10, "missed": False,
    }  # fmt: skip
    return TwinRecord(**{**fields, **changes})


def made_spread(tap, *values, **changes):
    ordered = sorted(values)
    fields = {
        **PLACE, "tap": tap, "metric": "error", "seeds": list(range(len(values))), "values": list(values),
        "low": ordered[0], "median": ordered[len(values) // 2], "high": ordered[-1], "missed": False,
    }  # fmt: skip
    return SpreadRecord(**{**fields, **changes})


@pytest.fixture
def controlled(make, probe):
    result = make([probe("early", 0.3), probe("late", 0.1), probe("end", 0.2)])
    twins = [
        made_twin("early", 0.3, 0.31, 0.8), made_twin("late", 0.1, 0.4, 0.00001), made_twin("end", 0.2, 0.1, 0.03),
    ]  # fmt: skip
    return result.model_copy(update={"twins": twins, "spreads": [made_spread("early", 0.3, 0.25, 0.34)]})


@pytest.mark.parametrize("module", [controls, control_tables])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


def test_each_tap_has_both_errors_and_their_difference(controlled):
    random, seeds = tables_of(controlled, tables(controlled)[0])
    assert (random.title, seeds.title) == ("Random weights", "Seeds of the reduction pool")
    assert random.heads == ["tap", "trained", "random weights", "difference", "95 % interval", "p"]
    assert random.lines == [
        ["early", "30.0 %", "31.0 %", "-1.0 pp", "-3.0 to +1.0", "0.800"],
        ["late", "10.0 %", "40.0 %", "-30.0 pp", "-32.0 to -28.0", "< 0.001"],
        ["end", "20.0 %", "10.0 %", "+10.0 pp", "+8.0 to +12.0", "0.030"],
    ]
    assert random.notes[0] == (
        "The trained model does better at 1 of 3 places, and worse at 'end'; at the other place no difference is shown "
        "(p < 0.05)."
    )
    assert random.notes[1] == (
        "Difference: the error of the trained model less that of random weights, on the same 10 test examples."
    )
    assert seeds.heads == ["tap", "seed 0", "smallest", "median", "largest"]
    assert seeds.lines == [["early", "30.0 %", "25.0 %", "30.0 %", "34.0 %"]]
    assert seeds.notes[0] == "The test error moves with the draw of the features by up to 9.0 pp, at early."


def test_of_r2_more_is_better(make, number):
    result = make([number("a", 0.8), number("b", 0.3)])
    changes = {"metric": "r2", "factor": "snr", "test": "paired_bootstrap"}
    twins = [made_twin("a", 0.8, 0.2, 0.001, **changes), made_twin("b", 0.3, 0.5, 0.001, **changes)]
    result = result.model_copy(update={"twins": twins})
    (table,) = tables_of(result, tables(result)[0])
    assert table.notes[0] == "The trained model does better at 1 of 2 places, and worse at 'b' (p < 0.05)."
    assert table.lines[0] == ["a", "0.800", "0.200", "+0.600", "+0.580 to +0.620", "0.001"]


def test_several_draws_have_a_range_and_missed_optima_are_marked_and_not_counted(make, probe):
    result = make([probe("a", 0.1), probe("b", 0.1, reduction="flatten")])
    twins = [
        made_twin("a", 0.1, 0.4, 0.001, seeds=[3, 4], missed=True, p_adjusted=None),
        made_twin("b", 0.1, 0.4, 0.2, seeds=[3, 4], reduction="flatten"),
    ]
    result = result.model_copy(update={"twins": twins})
    (table,) = tables_of(result, tables(result)[0])
    assert table.heads[:5] == ["tap", "reduction", "trained", "random weights", "range"]
    assert table.lines[0][:5] == ["a (missed)", "pool", "10.0 %", "40.0 %", "39.0 to 41.0 %"]
    assert table.notes[0] == (
        "The trained model does better at 0 of 1 place; at all of them no difference is shown (p < 0.05). 1 place is "
        "not judged, as a probe there is not proven to be at its optimum."
    )
    assert table.lines[0][-1] == ""
    assert "2 draws of random weights, with the seeds 3, 4" in table.notes[1]


def test_it_is_said_that_nothing_is_judged(make, probe):
    result = make([probe("a", 0.1)])
    result = result.model_copy(update={"twins": [made_twin("a", 0.1, 0.4, 0.001, missed=True, p_adjusted=None)]})
    (table,) = tables_of(result, tables(result)[0])
    assert table.notes[0] == "No place is judged, as a probe there is not proven to be at its optimum."
    assert not any(note.startswith("p:") for note in table.notes)
    for text in (TerminalReport().render(result), MarkdownReport().render(result), HtmlReport().render(result)):
        assert table.notes[0] in " ".join(text.split())


def test_a_question_has_its_own_tables_only(make, probe):
    result = make([probe("a", 0.1), probe("a", 0.1, factor="parity")])
    twins = [made_twin("a", 0.1, 0.4, 0.001, factor="parity")]
    result = result.model_copy(update={"twins": twins})
    assert [len(tables_of(result, table)) for table in tables(result)] == [0, 1]


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_has_both_tables_in_its_width(controlled, width):
    lines = TerminalReport().render(controlled, width=width).splitlines()
    assert max(map(len, lines)) <= width
    start = next(number for number, line in enumerate(lines) if line.startswith("Random weights"))
    assert lines[start + 1].split() == "tap trained random weights difference 95 % interval p".split()
    assert lines[start + 3].split() == "late 10.0 % 40.0 % -30.0 pp -32.0 to -28.0 < 0.001".split()
    assert any(line.startswith("Seeds of the reduction pool") for line in lines)
    assert any(line.split() == "early 30.0 % 25.0 % 30.0 % 34.0 %".split() for line in lines)


def test_no_line_of_the_terminal_ends_between_a_number_and_its_percent(controlled):
    sentence = "The error is 10.0 % at one tap and 12.5 % at another, where chance has 90.0 % (95 % interval)."
    findings = [FindingRecord(kind="any", severity="info", sentence=sentence)]
    result = controlled.model_copy(update={"findings": findings})
    for width in range(40, 121):
        text = TerminalReport().render(result, width=width)
        said = text[text.index("The best probe") : text.index("Random weights")] + text[text.index("info  ") :]
        assert not [line for line in said.splitlines() if line.lstrip().startswith("%")]
        assert sentence in " ".join(text.split())


def test_the_page_has_them_in_a_part_of_its_own(controlled, make, probe):
    page = HtmlReport().render(controlled)
    part = page[page.index('<h2 id="controls">') : page.index('<h2 id="details">')]
    text = " ".join(re.sub("<[^>]+>", " ", part).split())
    assert "Random weights The trained model does better at 1 of 3 places" in text
    assert "late 10.0 % 40.0 % -30.0 pp -32.0 to -28.0 &lt; 0.001" in text
    assert "early 30.0 % 25.0 % 30.0 % 34.0 %" in text
    assert '<a href="#controls">' in page
    assert "#controls" not in HtmlReport().render(make([probe("early", 0.3)]))


def test_markdown_has_them(controlled):
    text = MarkdownReport().render(controlled)
    assert "#### Random weights" in text
    assert "| `late` | 10.0 % | 40.0 % | -30.0 pp | -32.0 to -28.0 | &lt; 0.001 |" in text
    assert "| `early` | 30.0 % | 25.0 % | 30.0 % | 34.0 % |" in text


def test_names_stay_text_in_every_view(make, probe, hostile):
    names = list(dict.fromkeys(row.probe.tap for table in tables(hostile) for row in table.rows))
    result = make([probe(name, 0.1) for name in names])
    twins = [made_twin(name, 0.1, 0.4, 0.001) for name in names]
    result = result.model_copy(update={"twins": twins, "spreads": [made_spread(name, 0.1, 0.2) for name in names]})
    page, terminal = HtmlReport().render(result), TerminalReport().render(result, width=120)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in terminal + page
    assert "\u202e" not in terminal + page
    assert "[red]red[/red]" in terminal


def test_a_selection_keeps_what_belongs_to_its_probes(controlled):
    part = select(controlled, {"tap": ["late"]})
    assert [one.tap for one in part.twins] == ["late"]
    assert part.spreads == []


def test_a_random_model_stands_beside_every_checkpoint(make, probe):
    result = make([
        probe("a", 0.1, checkpoint="1"), probe("a", 0.2, checkpoint="2"), probe("a", 0.7, control="random_weights"),
    ])  # fmt: skip
    cells = [cell for table in tables(result) for row in table.rows for cell in row.controls]
    assert [(cell.name, cell.split, cell.value, cell.selectivity) for cell in cells] == [
        ("random_weights", "test", 0.7, None)
    ] * 2
