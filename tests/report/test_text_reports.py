"""The terminal, CSV and JSON reports."""

import csv
import io
import json

import pytest

from probekit.report.files import CsvReport, JsonReport
from probekit.report.terminal import TerminalReport


def test_the_terminal_shows_names_and_obeys_none(hostile):
    text = TerminalReport().render(hostile, width=100)
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "[red]red[/red]" in text.replace("\n", "")
    assert "<script>alert(1)</script>" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(hostile, width):
    from rich.cells import cell_len

    assert max(cell_len(line) for line in TerminalReport().render(hostile, width=width).splitlines()) <= width


def test_a_narrow_terminal_keeps_names_and_errors_whole(make, probe):
    text = TerminalReport().render(make([probe("layer1", 0.123), probe("layer2", 0.456)]), width=40)
    assert "layer1" in text
    assert "12.3 %" in text
    assert "█" not in text


def test_colours_only_when_asked(hostile):
    assert "\x1b[" in TerminalReport().render(hostile, width=80, colour=True)


def test_every_probe_and_warning_is_there(hostile):
    text = TerminalReport().render(hostile, width=200)
    assert text.count("warning: ") == len(hostile.provenance["warnings"])
    for probe in hostile.probes:
        assert f"{100 * probe.error['test']:.1f} %" in text


def test_the_terminal_names_the_checkpoint_over_its_table(make, probe):
    result = make([probe("a", 0.1, checkpoint="step-1000"), probe("a", 0.2, checkpoint="step-2000")])
    lines = TerminalReport().render(result, width=80).splitlines()
    places = [lines.index(next(line for line in lines if line.startswith(name))) for name in ("step-1000", "step-2000")]
    assert [lines[place + 2].split()[0] for place in places] == ["a", "a"]


def test_the_csv_names_the_checkpoint_of_every_row(make, probe):
    result = make([probe("a", 0.1, checkpoint="1"), probe("a", 0.2, checkpoint="2"), probe("a", 0.3)])
    rows = list(csv.DictReader(io.StringIO(CsvReport().render(result))))
    assert [row["checkpoint"] for row in rows] == ["1", "2", ""]


def test_no_cell_of_the_csv_is_a_formula(hostile):
    rows = list(csv.reader(io.StringIO(CsvReport().render(hostile))))
    assert len(rows) == 1 + len(hostile.probes)
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "'=1+1" in {row[rows[0].index("tap")] for row in rows[1:]}


def test_the_json_is_the_result(hostile):
    assert json.loads(JsonReport().render(hostile)) == hostile.model_dump(mode="json")
