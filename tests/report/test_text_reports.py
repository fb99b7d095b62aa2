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
    assert sum(line.startswith("warning:") for line in text.splitlines()) == len(hostile.provenance["warnings"])
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


def test_the_terminal_shows_numbers_with_their_interval(make, number, tags):
    result = make([number("conv", 0.612), tags("conv", {"speech": 0.1, "music": 0.3})])
    text = TerminalReport().render(result, width=100)
    assert "0.512 to 0.712" in text
    assert "R² valid" in text
    assert "20.0 %" in text
    narrow = TerminalReport().render(result, width=40)
    assert "0.612" in narrow
    assert "0.512" not in narrow.split("The best probe")[0]


def test_the_csv_has_intervals_labels_and_paths(make, probe, number, tags, fit):
    probes = [
        number("conv", 0.5, fit=fit(0.9, 0.8, notes=["best epoch 3", "learning rate 0.1"])),
        tags("conv", {"speech": 0.1, "=cmd": 0.3}),
        probe("conv", 0.2),
    ]
    first, second, third = csv.DictReader(io.StringIO(CsvReport().render(make(probes))))
    assert (float(first["r2.test.low"]), float(first["r2.test.high"])) == (0.4, 0.6)
    assert (first["task"], first["primary"], first["error.test"]) == ("number", "r2", "")
    assert (first["fit.path"], first["fit.passes"], first["fit.preconditioner"]) == ("1: 0.9 · 0.1: 0.8", "31", "exact")
    assert first["fit.notes"] == "best epoch 3; learning rate 0.1"
    assert (second["error.test.speech"], second["error.test.=cmd"], second["penalty.=cmd"]) == ("0.1", "0.3", "0.002")
    assert (third["r2.test"], third["error.test.speech"], third["fit.path"]) == ("", "", "")
