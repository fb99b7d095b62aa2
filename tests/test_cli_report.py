"""``probekit report``: what it prints and writes from a run directory alone, and what it refuses."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from probekit import Plugins, load_result, load_spec, run_spec

ROOT = Path(__file__).parents[1]
SPEC = """\
probekit: 1
model: {{kind: onnx, path: "{model}"}}
data: {{kind: digits}}
taps: [relu_1, linear]
reduction: {{kind: pool}}
labels:
  digit: {{kind: column, column: label}}
  parity: {{kind: group, column: label, groups: {{even: "0,2,4,6,8", odd: "1,3,5,7,9"}}}}
splits:
  {{column: half, train: even, valid: {{of: odd, share: 0.3}}, test: odd, limit: {{train: 60, valid: 30, test: 30}}}}
probe: {{kind: linear, penalty: 0.1}}
reports: [json]
"""
HEAVY = "torch torchvision onnxruntime onnx sklearn scipy pandas pyarrow PIL pygraphviz"
IMPORTS = """\
import sys
sys.argv = ["probekit", *sys.argv[1:]]
from probekit.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("IMPORTED", *sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, specs):
    """A run directory, as a run leaves it."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "s.yaml").write_text(SPEC.format(model=specs / "models" / "digits_convnet.onnx"))
    run_spec(load_spec(folder / "s.yaml", Plugins()), Plugins(), folder / "digits")
    return folder / "digits"


@pytest.fixture
def run(made, tmp_path):
    """A copy of it that a test may change; neither the spec nor the model's place is near it."""
    return Path(shutil.copytree(made, tmp_path / "runs" / "digits"))


def environment(**more):
    own = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    return {**own, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])), **more}


def typed(*arguments, **more):
    """Run the command in a process of its own, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "probekit", "report", *map(str, arguments)],
        cwd=ROOT, env=environment(**more), capture_output=True, check=False,
    )  # fmt: skip


def left(folder):
    return sorted(path.name for path in folder.iterdir())


# --- what it writes and prints ----------------------------------------------------------------------------------------


def test_without_a_format_the_terminal_report_is_printed(main, run):
    before = left(run)
    code, out, err = main("report", str(run))
    assert (code, err) == (0, "")
    assert "The best probe for digit" in out
    assert "\x1b" not in out
    assert left(run) == before


@pytest.mark.parametrize(
    ("formats", "names"),
    [
        (["--format", "md"], ["report.md"]),
        (["--format", "csv"], ["results.csv"]),
        (["--format", "csv,md", "--format", "md"], ["results.csv", "report.md"]),
    ],
    ids=" ".join,
)
def test_views_are_written_beside_the_results_and_named(main, run, formats, names):
    code, out, err = main("report", str(run), *formats)
    assert (code, err) == (0, "")
    assert out.splitlines() == [str(run / name) for name in names]
    for name in names:
        assert (run / name).stat().st_size > 200


def test_the_results_themselves_are_only_named(main, run):
    before = (run / "results.json").read_bytes()
    assert main("report", str(run), "--format", "json") == (0, f"{run / 'results.json'}\n", "")
    assert (run / "results.json").read_bytes() == before


def test_a_folder_is_made_for_views(main, run, tmp_path):
    out = tmp_path / "new" / "views"
    assert main("report", str(run), "--format", "md,json", "-o", str(out))[0] == 0
    assert left(out) == ["report.md", "results.json"]
    assert load_result(out) == load_result(run)


def test_the_ending_of_a_file_tells_its_format(main, run, tmp_path):
    assert main("report", str(run), "-o", str(tmp_path / "x.csv")) == (0, f"{tmp_path / 'x.csv'}\n", "")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text(encoding="utf-8"))))
    assert {row["tap"] for row in rows} == {"relu_1", "linear"}


def test_a_text_file_may_hold_the_terminal_report(main, run, tmp_path):
    assert main("report", str(run), "--format", "terminal", "-o", str(tmp_path / "x.txt"))[0] == 0
    assert "The best probe for digit" in (tmp_path / "x.txt").read_text(encoding="utf-8")


def test_texts_can_be_printed(main, run):
    assert json.loads(main("report", str(run), "--format", "json", "-o", "-")[1])["name"] == load_result(run).name
    assert main("report", str(run), "--format", "md", "-o", "-")[1].startswith("## Probe report:")


def test_the_results_file_may_be_named_itself(main, run):
    assert "The best probe" in main("report", str(run / "results.json"))[1]


def test_a_part_of_a_run_is_shown(main, run):
    out = main("report", str(run), "--format", "csv", "-o", "-", "--tap", "lin*", "--factor", "digit")[1]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["tap"], row["factor"]) for row in rows] == [("linear", "digit")]
    shown = main("report", str(run), "--tap", "linear")[1]
    assert "warning: this view shows 2 of 4 probes: tap linear" in shown


def test_a_redacted_copy_is_a_run_without_paths(main, run, made, tmp_path):
    assert str(made.parent) in (run / "results.json").read_text(encoding="utf-8")
    assert main("report", str(run), "--format", "json,md,csv,html", "--redact", "-o", str(tmp_path / "public"))[0] == 0
    for name in ("results.json", "report.md", "results.csv", "report.html"):
        text = (tmp_path / "public" / name).read_text(encoding="utf-8")
        assert str(made.parent) not in text
        assert not re.search(r'[ "=]/(?:home|tmp|root|work|Users)/', text)
    assert load_result(tmp_path / "public").probes == load_result(run).probes
    assert "The best probe" in main("report", str(tmp_path / "public"))[1]


def test_figures_are_drawn_with_their_captions(main, run, tmp_path):
    folder = tmp_path / "figures"
    code, out, err = main("report", str(run), "--format", "svg", "-o", str(folder), "--width", "double")
    assert code == 0
    assert left(folder) == ["figure_digit.svg", "figure_parity.svg"]
    assert out.splitlines() == [str(folder / name) for name in left(folder)]
    assert "Test error of probes for digit" in err
    assert b'width="175.00mm"' in (folder / "figure_digit.svg").read_bytes()


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--format", "md,csv", "-o", "x.md"], "PK-X44 2 formats cannot be in one file, 'x.md'; name a folder: -o x/"),
        (["--format", "md,csv", "-o", "-"], "PK-X44 -o - cannot print md and csv"),
        (["--format", "png", "-o", "-"], "PK-X44 -o - cannot print png"),
        (["--format", "md", "-o", "x.svg"], "PK-X44 'x.svg' has the ending of another format than md"),
        (["-o", "views/"], "PK-X44 the terminal report is printed, not written to 'views'"),
        (["--format", "svg", "-o", "x.svg"], "PK-X44 there are 2 figures (digit, parity), and one file is named"),
        (["--tap", "liner"], "PK-X43 --tap: no probe of this run has the tap 'liner'; did you mean 'linear'?"),
        (["--format", "md", "-o", "/dev/null"], "PK-X44"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_refused(main, run, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    before = left(tmp_path)
    code, out, err = main("report", str(run), *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error {text}")
    assert left(tmp_path) == before


def test_an_unknown_format_or_width_is_answered_with_the_nearest(main, run):
    code, _, err = main("report", str(run), "--format", "mdd")
    assert code == 2
    assert "no format 'mdd'; did you mean 'md'?" in err
    for width in ("wide", "3", "nan"):
        code, _, err = main("report", str(run), "--format", "svg", "--width", width)
        assert code == 2
        assert "width" in err


@pytest.mark.parametrize("name", ["results.json", "predictions.safetensors", "probes.safetensors"])
def test_what_the_run_wrote_is_never_replaced(main, run, name):
    before = (run / name).read_bytes()
    arguments = ["--format", "json", "--redact"] if name == "results.json" else ["--format", "md"]
    code, _, err = main("report", str(run), *arguments, "-o", str(run / name))
    assert code == 2
    assert "is the run's own and is not replaced" in err
    assert (run / name).read_bytes() == before


def test_a_view_that_is_less_does_not_replace_the_results(main, run):
    code, _, err = main("report", str(run), "--format", "json", "--tap", "linear")
    assert code == 2
    assert "is the run's own" in err


@pytest.mark.parametrize("place", ["file/x.md", "x" * 300 + ".md"])
def test_a_place_that_cannot_be_written_leaves_the_results(main, run, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, out, err = main("report", str(run), "--format", "md", "-o", place)
    assert (code, out) == (4, "")
    assert err.startswith("error PK-R13 cannot write")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (lambda run: shutil.rmtree(run), "PK-X40", "no run directory"),
        (lambda run: (run / "results.json").unlink(), "PK-X40", "is no run directory"),
        (lambda run: (run / "results.json").write_text('{"schema_version": 1,'), "PK-X41", "results.json:1:22"),
        (lambda run: (run / "results.json").write_text('{"schema_version": 7}'), "PK-X42", "schema version 7"),
    ],
    ids=["gone", "no results", "cut", "later"],
)
def test_what_is_no_run_is_told_with_its_place(main, run, change, code, text):
    change(run)
    for formats in ([], ["--format", "html,md,csv,json,svg"]):
        exit_code, out, err = main("report", str(run), *formats)
        assert (exit_code, out) == (3, "")
        assert err.startswith(f"error {code} ")
        assert text in err
        assert "; " in err
    assert not run.exists() or "report.html" not in left(run)


# --- as a process -----------------------------------------------------------------------------------------------------


def test_neither_the_model_nor_what_ran_it_is_needed(made, tmp_path):
    path, out = tmp_path / "results.json", tmp_path / "views"
    data = json.loads((made / "results.json").read_text(encoding="utf-8"))
    data["provenance"]["models"]["default"]["backend"]["path"] = "/gone/model.onnx"
    path.write_text(json.dumps(data), encoding="utf-8")
    arguments = ["report", path, "--format", "terminal,html,md,csv,json", "--factor", "digit", "-o", out]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *map(str, arguments)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert left(out) == ["report.html", "report.md", "results.csv", "results.json"]
    imported = set(done.stderr.splitlines()[-1].split()[1:])
    assert "probekit" in imported
    assert imported & set(HEAVY.split()) == set()
    assert imported & {"altair", "vl_convert"} == set()  # those draw in a process of their own


def test_a_pipe_gets_colours_only_where_they_are_wished_for(made):
    plain, wished = typed(made), typed(made, FORCE_COLOR="1")
    assert b"\x1b" not in plain.stdout
    assert re.sub(rb"\x1b\[[\d;]*m", b"", wished.stdout) == plain.stdout != wished.stdout


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_terminal_of_any_width_is_kept(main, run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = main("report", str(run))[1].splitlines()
    assert max(map(len, lines)) <= columns


def test_a_terminal_that_lacks_signs_is_written_to(made):
    done = typed(made, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "The best probe for digit" in done.stdout.decode("ascii")


def test_a_reader_that_goes_away_is_no_fault(made):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "probekit", "report", str(made)],
        cwd=ROOT, env=environment(), stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
