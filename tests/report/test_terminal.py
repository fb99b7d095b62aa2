"""The terminal report: widths, bars, findings, colours."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from probekit.report.page import tables
from probekit.report.tap_table import uneven as unlike
from probekit.report.terminal import TerminalReport
from probekit.results import FindingRecord, IntervalRecord

WIDTHS = [40, 60, 80, 120]


def finding(severity, sentence, kind="made"):
    return FindingRecord(kind=kind, severity=severity, sentence=sentence)


def wilson(low, high):
    return {"error": {"test": IntervalRecord(low=low, high=high, kind="wilson", over="examples", n=10)}}


def shown(result, width, *, colour=False):
    return TerminalReport().render(result, width=width, colour=colour)


@pytest.fixture
def judged(make, probe):
    """A result with intervals and findings."""
    probes = [probe(f"layer{i}.relu", 0.9 - 0.1 * i, intervals=wilson(0.8 - 0.1 * i, 1 - 0.1 * i)) for i in range(6)]
    severities = ["problem", "warning", "warning", "notice", *["info"] * 7]
    findings = [finding(severity, f"Sentence {number}.") for number, severity in enumerate(severities)]
    return make(probes).model_copy(update={"findings": findings})


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(judged, hostile, width):
    names = [one.tap for one in hostile.probes]
    result = hostile.model_copy(
        update={"findings": [*judged.findings[:2], *(finding("warning", name) for name in names)]}
    )
    for one in (judged, result):
        assert max(cell_len(line) for line in shown(one, width).splitlines()) <= width


def test_no_line_ends_in_spaces(judged):
    assert not re.search(r" $", shown(judged, 80), re.MULTILINE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # they hold no state
@given(name=st.text(max_size=60), sentence=st.text(max_size=200), width=st.integers(40, 200), colour=st.booleans())
def test_any_name_fits_any_width_and_obeys_nothing(make, probe, name, sentence, width, colour):
    result = make([probe(name, 0.25), probe(f"{name}2", 0.5)], warnings=[sentence])
    text = shown(result.model_copy(update={"findings": [finding("notice", sentence)]}), width, colour=colour)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text) if colour else text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", plain)
    assert max(cell_len(line) for line in plain.split("\n")) <= width


def test_bars_and_intervals_are_there_at_80_columns(judged):
    text = shown(judged, 80)
    assert "95 % interval" in text
    assert "40.0 % to 60.0 %" in text
    lines = [line for line in text.splitlines() if re.search("[█·]", line)]
    bars = [line.count("█") for line in lines]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > bars[-1]
    assert len({len(re.search("[█·]+", line)[0]) for line in lines}) == 1


@pytest.mark.parametrize(("width", "cells"), [(40, 0), (60, 8), (80, 8), (120, 16)])
def test_bars_are_as_long_as_there_is_room(judged, width, cells):
    line = next(line for line in shown(judged, width).splitlines() if "layer0" in line)
    assert len("".join(re.findall("[█·]", line))) == cells


@pytest.mark.parametrize("width", WIDTHS)
def test_names_and_test_errors_are_never_left_out(judged, width):
    text = shown(judged, width)
    for probe in judged.probes:
        assert probe.tap in text
        assert f"{100 * probe.error['test']:.1f} %" in text


def test_the_most_severe_findings_are_printed_and_the_others_counted(judged):
    lines = shown(judged, 80).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("problem"))
    assert lines[start].split() == ["problem", "Sentence", "0."]
    assert [line.split()[0] for line in lines[start : start + 8]] == [
        "problem", "warning", "warning", "notice", "info", "info", "info", "info",
    ]  # fmt: skip
    assert lines[start + 8] == "… and 3 more: probekit report RUN --format html has all"
    assert "Sentence 8." not in lines


def test_few_findings_are_all_printed(make, probe):
    result = make([probe("a", 0.1)]).model_copy(update={"findings": [finding("info", f"S{i}.") for i in range(8)]})
    text = shown(result, 80)
    assert "S7." in text
    assert "more: see" not in text


def test_a_long_finding_wraps_beside_its_severity(make, probe):
    result = make([probe("a", 0.1)]).model_copy(update={"findings": [finding("notice", "word " * 40)]})
    lines = shown(result, 40).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("notice"))
    assert lines[start + 1].startswith("        word")


def test_what_the_verdict_says_is_no_finding(make, probe):
    result = make([probe("a", 0.1)]).model_copy(update={"findings": [finding("info", "Best is a.", "best_tap")]})
    assert "Best is a." not in shown(result, 80)


def test_findings_stand_after_tables_and_warnings(judged):
    text = shown(judged.model_copy(update={"provenance": {**judged.provenance, "warnings": ["mind the gap"]}}), 80)
    places = [text.index(part) for part in ("layer0", "The best probe", "warning: mind the gap", "Sentence 0.")]
    assert places == sorted(places)


def test_a_partial_run_is_marked_on_top(make, probe):
    text = shown(make([probe("a", 0.1)], warnings=["the fit failed: tap b"]), 80)
    assert text.startswith("PARTIAL: 1 fit failed; see the warnings.")


def test_severity_is_a_word_and_colour_an_addition(judged):
    plain, coloured = shown(judged, 80), shown(judged, 80, colour=True)
    assert "\x1b" not in plain
    assert re.search(r"\x1b\[[\d;]+mproblem", coloured)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_codes_of_emoji_and_markup_stay_as_they_are(make, probe):
    result = make([probe(":bug:[red]x[/]", 0.1)], warnings=[":tada: [bold]w[/bold]"])
    text = shown(result.model_copy(update={"findings": [finding("info", ":+1: [i]f[/i]")]}), 120)
    for part in (":bug:[red]x[/]", ":tada: [bold]w[/bold]", ":+1: [i]f[/i]"):
        assert part in text


def test_of_very_many_rows_some_are_shown_with_the_best(make, probe):
    text = shown(make([probe(f"t{i}", 0.5 if i != 333 else 0.1) for i in range(1000)]), 80)
    taps = [int(found) for found in re.findall(r"^t(\d+) ", text, re.MULTILINE)]
    assert len(taps) == 200
    assert taps == sorted(set(taps))
    assert {0, 333, 999} <= set(taps)
    assert "… and 800 more rows in between: probekit report RUN --format html has all" in text


@pytest.mark.parametrize("probes", [0, 1])
def test_none_and_one_probe_are_shown(make, probe, probes):
    text = shown(make([probe("a", 0.1)] * probes), 40)
    assert ("10.0 %" in text) == bool(probes)
    assert ("No probe was fitted." in text) == (not probes)


@pytest.mark.parametrize(("width", "there"), [(80, True), (200, True), (40, False)])
def test_of_uneven_classes_the_balanced_error_and_of_two_the_auroc_are_told(uneven, width, there):
    lines = shown(uneven([90, 10]), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    head = next(line for line in lines if line.startswith("tap"))
    (first,) = (line for line in lines if line.startswith("a "))
    assert ("balanced" in head, "AUROC" in head) == (there, there)
    assert ("34.5 %" in first, "0.789" in first) == (there, there)
    assert "balanced" not in shown(uneven([50, 50]), width)


def test_a_label_is_uneven_where_its_answers_are(make, tags):
    result = make([tags("a", {"speech": 0.1, "music": 0.2})])
    (table,) = tables(result)
    for counts, found in (([5, 5], False), ([5, 1], True), ([6, 4], False), ([0, 5], True)):
        labels = {"tags": {**result.provenance["labels"]["tags"], "counts": {"test": counts}}}
        judged = result.model_copy(update={"provenance": {**result.provenance, "labels": labels}})
        assert unlike(judged, table) is found
