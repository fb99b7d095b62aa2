"""Results at the edge of what a run can give, in every view."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from probekit.report import html
from probekit.report.files import CsvReport, JsonReport
from probekit.report.html import HtmlReport
from probekit.report.markdown import MarkdownReport
from probekit.report.terminal import TerminalReport
from probekit.results import ClassErrorRecord, ConfusionRecord, MistakesRecord

VIEWS = [HtmlReport, MarkdownReport, TerminalReport, CsvReport, JsonReport]
SCRIPTS = ["工具箱", "🧪👩‍💻", "שלום", "عربى", "e\u0301", "zero\u200bwidth", "zerowidth"]
# Renders every view of a saved result; charts and drawings have tests of their own.
RENDER = """\
import sys
from probekit.report import html
from probekit.report.files import CsvReport, JsonReport
from probekit.report.html import HtmlReport
from probekit.report.markdown import MarkdownReport
from probekit.report.saved_run import open_run
from probekit.report.terminal import TerminalReport
html.render, html.draw = lambda wanted: [b'<svg viewBox="0 0 9 9"/>' for _ in wanted], lambda *_: None
result = open_run(sys.argv[1])
for view in (HtmlReport, MarkdownReport, TerminalReport, CsvReport, JsonReport):
    sys.stdout.buffer.write(view().render(result, width=100).encode())
"""


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    """No charts and no drawings: they have tests of their own."""
    monkeypatch.setattr(html, "render", lambda wanted: [b'<svg viewBox="0 0 9 9"/>' for _ in wanted])
    monkeypatch.setattr(html, "draw", lambda *_: None)


@pytest.mark.parametrize("view", VIEWS)
def test_names_in_any_script_are_shown_as_they_are(make, probe, view):
    text = view().render(make([probe(name, 0.1, factor=name) for name in SCRIPTS]), width=200)
    lines = text.splitlines()
    for name in SCRIPTS:
        assert any(name in line for line in lines)
    if view is TerminalReport:
        assert max(map(cell_len, lines)) <= 200


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("none", "No probe was fitted"),
        ("one", "The best probe"),
        ("missed", "No probe reached its optimum"),
        ("one class", "does better than chance"),
    ],
)
def test_there_is_a_view_of_every_result_and_its_verdict_says_what_it_is(make, probe, view, which, said):
    result = {
        "none": make([]),
        "one": make([probe("a", 0.1)]),
        "missed": make([probe("a", 0.1, status="missed"), probe("b", 0.2, status="missed")]),
        "one class": make([probe("a", 0.0)], baseline=0.0),
    }[which]
    text = view().render(result, width=200)
    if view is CsvReport:
        assert len(list(csv.reader(io.StringIO(text)))) == 1 + len(result.probes)
    elif view is JsonReport:
        assert len(json.loads(text)["probes"]) == len(result.probes)
    else:
        assert said in text


@pytest.mark.parametrize("view", [HtmlReport, MarkdownReport, TerminalReport])
def test_a_partial_run_is_marked_before_its_verdict(make, probe, view):
    text = view().render(make([probe("a", 0.1)], warnings=["the fit failed: tap b"]), width=200)
    assert 0 < 1 + text.index("PARTIAL: 1 fit failed") < text.index("The best probe")


@pytest.mark.parametrize("view", VIEWS)
def test_ten_thousand_classes_are_never_listed(make, probe, view):
    names = [f"class{number}" for number in range(10_000)]
    worst = [ClassErrorRecord(name=name, error=0.9, interval=None, n=10) for name in names[:5]]
    pairs = [ConfusionRecord(true=name, predicted=names[7], count=9, share=0.9) for name in names[:5]]
    mistakes = MistakesRecord(split="test", worst=worst, confused=pairs)
    result = make([probe(f"tap{number}", 0.5, mistakes=mistakes) for number in range(60)])
    counts = {split: [1] * 10_000 for split in ("train", "valid", "test")}
    labels = {"digit": {**result.provenance["labels"]["digit"], "classes": names, "counts": counts}}
    text = view().render(result.model_copy(update={"provenance": {**result.provenance, "labels": labels}}), width=100)
    if view is JsonReport:  # which has their names once
        assert text.count("class9999") == 1
        assert len(text) < 1_200_000
    else:
        assert "class9999" not in text
        assert len(text.encode()) < 150 * 1024


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_not_finite_stops_no_view(make, probe, fit, view):
    path = fit(0.5, float("inf"), float("nan"))
    result = make([probe("a", 0.1, penalty=float("inf"), seconds=float("nan"), fit=path), probe("b", 0.2)])
    text = view().render(result, width=200)
    if view is HtmlReport:
        (text,) = re.findall(r'id="results">(.*?)</script>', text, re.DOTALL)
    if view in (HtmlReport, JsonReport):
        saved = json.loads(text, parse_constant=lambda word: pytest.fail(word))
        (column,) = [saved["columns"].index("penalty")] if view is HtmlReport else ["penalty"]
        assert (saved["rows"] if view is HtmlReport else saved["probes"])[0][column] is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # they hold no state
@given(
    st.lists(
        st.tuples(st.sampled_from("=+-@\t\r\uff1d\uff20"), st.text("=+-@\t\r\n\x1b\x9b\u202e\",'é", max_size=9)).map(
            "".join
        ),
        min_size=3,
        max_size=3,
    ),
    st.sampled_from(["probe", "model", "checkpoint"]),
)
def test_no_cell_of_the_csv_is_a_formula_or_breaks_its_row(make, probe, tags, names, part):
    def shown(name):
        text = "".join(f"\\u{ord(sign):04x}" if sign in "\t\r\n\x1b\x9b\u202e" else sign for sign in name)
        return f"'{text}" if name[0] in "=+-@\t\uff1d\uff20" else text

    tap, factor, label = names
    result = make([tags(tap, {label: 0.1, "b": 0.2}, factor=factor, **{part: tap})])
    text = CsvReport().render(result)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == len(text.splitlines()) == 2
    assert not [
        cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff20"))
    ]
    cells = dict(zip(*rows, strict=True))
    assert [cells[name] for name in ("tap", "factor", part)] == [shown(tap), shown(factor), shown(tap)]


def test_another_process_at_another_time_in_another_place_gives_the_same_bytes(whole, tmp_path):
    (tmp_path / "results.json").write_text(whole().to_json(), encoding="utf-8")
    found = []
    for seed, zone, language in (("1", "Asia/Tokyo", "C"), ("2", "America/Lima", "C.UTF-8")):
        environ = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": language, "USER": f"user{seed}"}
        done = subprocess.run(
            [sys.executable, "-c", RENDER, str(tmp_path)], capture_output=True, check=True, env=environ, timeout=120
        )
        found.append(done.stdout)
    assert found[0] == found[1]
    assert b"Probe report: made" in found[0]
