"""The command line: exit codes, what is said where, what is imported, and every way to be stopped."""

import html
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from probekit import __version__, cli
from probekit.errors import EXIT_CODES

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "specs" / "models" / "digits_convnet.onnx"
COMMANDS = [
    "cache", "compare", "export", "new-plugin", "parity", "plan", "plugins", "report", "run", "schema", "taps",
    "validate",
]  # fmt: skip
FAILED = "the fit failed: model default, tap image, reduction default, probe default, factor digit"
GO_ON = "what was extracted is kept. To go on, type"

# A fast run: one tap, one feature, few examples.
SPEC = f"""\
probekit: 1
model: {{kind: onnx, path: "{DIGITS}"}}
data: {{kind: digits}}
taps: [image]
labels: {{digit: {{kind: column, column: label}}}}
splits:
  {{column: half, train: even, valid: {{of: odd, share: 0.3}}, test: odd, limit: {{train: 60, valid: 30, test: 30}}}}
reports: [terminal, json]
"""

PLUGIN = """\
import pathlib
import time
from typing import Literal

from probekit import InputError, Probe, Problem, hookimpl


class Odd(Probe):
    "Does what its field says."
    kind: Literal["odd"] = "odd"
    what: str

    def fit(self, features, targets, context=None):
        if self.what == "wait":
            import torch

            pathlib.Path("waiting").touch()
            ones = torch.ones(300, 300)
            while True:
                ones = (ones @ ones) / 300
        if self.what == "memory":
            raise MemoryError("no room for 9 GiB")
        if self.what == "mendable":
            raise InputError(Problem("PK-L01", "too few"))
        raise RuntimeError("it fell over")


@hookimpl
def register_probes():
    return [Odd]


@hookimpl
def on_run_start(spec):
    raise ValueError("too loud")


@hookimpl
def on_run_end(result):
    raise KeyError("still too loud")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    info = folder / "pk_odd-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pk-odd\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[probekit]\nprobe.odd = pk_odd\nlistener.odd = pk_odd\n")
    (folder / "pk_odd.py").write_text(PLUGIN)
    return folder


def environment(**changes: str | None) -> dict[str, str]:
    environ = {**os.environ, "PYTHONUNBUFFERED": "", "COLUMNS": "100"}
    for name in ("FORCE_COLOR", "NO_COLOR", "PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", "PYTHONPATH"):
        environ.pop(name, None)
    return environ | {name: value for name, value in changes.items() if value is not None}


def probekit(*arguments: str, cwd: Path = ROOT, **environ: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "probekit", *arguments],
        cwd=cwd, env=environment(**environ), capture_output=True, text=True, check=False,
    )  # fmt: skip


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_shows_commands_examples_and_exit_codes(option):
    done = CliRunner().invoke(cli.cli, [option])
    assert done.exit_code == 0
    assert "  probekit run specs/digits.yaml\n" in done.output
    assert re.findall(r"^  ([\w-]+)  ", done.output.split("Commands:\n")[1], flags=re.MULTILINE) == COMMANDS
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>5}  {meaning}\n" in done.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_fits_its_terminal(command):
    for width in (40, 80):
        done = CliRunner().invoke(cli.cli, [command, "--help"], terminal_width=width)
        assert done.exit_code == 0
        assert done.output.startswith(f"Usage: cli {command} ")
        rows = done.output.split("Examples:")[0].splitlines()
        assert max(len(row) for row in rows if "  " in row) <= max(width, 45)


def test_the_short_help_of_40_columns_keeps_every_command():
    done = CliRunner().invoke(cli.cli, ["--help"], terminal_width=40)
    listed = done.output.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert [row.split()[0] for row in listed] == COMMANDS
    assert max(map(len, listed)) <= 40


def test_the_module_is_the_command():
    done = probekit("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"probekit, version {__version__}\n", "")


# --- exit codes -------------------------------------------------------------------------------------------------------


def test_a_valid_spec_ends_with_0(main, tmp_path):
    (tmp_path / "s.yaml").write_text(SPEC)
    assert main("validate", str(tmp_path / "s.yaml")) == (0, "1 spec is valid\n", "")


def test_a_wrong_spec_ends_with_2_for_every_command(main, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(SPEC + "tapz: [a]\n")
    message = f"error PK-Y03 {path}:9:1: tapz: unknown key 'tapz'; did you mean 'taps'?\n"
    for command in ("validate", "run", "taps"):
        assert main(command, str(path)) == (2, "", message)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "no command 'rnu'; did you mean 'run'?"),
        (["xyz"], f"no command 'xyz'; commands: {', '.join(COMMANDS)}"),
        (["run"], "Missing argument 'SPEC'"),
        (["validate"], "Missing argument 'SPECS...'"),
        (["run", "a.yaml", "--quit"], "No such option '--quit'"),
        (["validate", "a.yaml", "--output-format", "xml"], "'xml' is not one of"),
        (["schema", "extra"], "Got unexpected extra argument"),
    ],
)
def test_a_wrong_command_line_ends_with_2(main, arguments, said):
    code, out, err = main(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_no_command_shows_the_help_and_ends_with_2(main):
    code, _, err = main()
    assert code == 2
    assert "Commands:" in err


def test_a_missing_model_ends_with_3(main, tmp_path):
    path = tmp_path / "absent.onnx"
    code, out, err = main("taps", str(path))
    assert (code, out) == (3, "")
    assert err.startswith(f"error PK-M01 model.path: no file '{path}'")


def test_a_file_that_cannot_be_written_ends_with_4(main, tmp_path):
    path = tmp_path / "absent" / "schema.json"
    hint = "No such file or directory; name another file with --out"
    assert main("schema", "--out", str(path)) == (4, "", f"error PK-R13 cannot write to '{path}': {hint}\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("9 GiB"), "error PK-R03 memory is too small: 9 GiB; use fewer taps, or {kind: pool}\n"),
        (MemoryError(), "error PK-R03 memory is too small: no more is free; use fewer taps, or {kind: pool}\n"),
        (
            OSError(28, "No space left on device", "/runs/a"),
            "error PK-R01 cannot write /runs/a: No space left on device; free some space\n",
        ),
    ],
    ids=["memory", "memory without words", "disk"],
)
def test_a_machine_that_gives_out_ends_with_4(main, monkeypatch, error, message):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("probekit.spec.reference.json_schema", fail)
    assert main("schema") == (4, "", message)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(5, "odd"), KeyError("k"), AssertionError()])
def test_a_fault_of_probekit_ends_with_70_and_names_the_crash_file(main, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("probekit.spec.reference.json_schema", fail)
    code, out, err = main("schema")
    assert (code, out) == (70, "")
    [path] = re.findall(r"^this is a fault of probekit; the details are in (.*)\n$", err)
    text = Path(path).read_text(encoding="utf-8")
    assert text.startswith(f"probekit {__version__}\nprobekit schema\n\nTraceback")
    assert type(error).__name__ in text


def test_debug_shows_the_traceback_and_keeps_the_exit_code(main, monkeypatch, tmp_path):
    code, out, err = main("taps", str(tmp_path / "absent.onnx"), "--debug")
    assert (code, out) == (3, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert "\nerror PK-M01 " in err

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("probekit.spec.reference.json_schema", fail)
    code, out, err = main("--debug", "schema")
    assert (code, out) == (70, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert "this is a fault of probekit; the details are in " in err


def test_a_file_name_that_is_no_text_is_shown(main, tmp_path):
    code, _, err = main("validate", str(tmp_path / "\udcff.yaml"))
    assert code == 2
    assert err.startswith(f"error PK-Y25 {tmp_path}/\\udcff.yaml: no such file")


# --- validate ---------------------------------------------------------------------------------------------------------


def test_what_is_only_warned_of_is_refused_by_a_run(main, tmp_path):
    (tmp_path / "s.yaml").write_text(SPEC.replace(str(DIGITS), "${PK_TEST_UNSET}/a.onnx"))
    assert main("validate", str(tmp_path / "s.yaml"))[0] == 0
    code, _, err = main("run", str(tmp_path / "s.yaml"))
    assert code == 2
    assert err.startswith("error PK-Y33 ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.yaml"]


def test_validate_tells_the_problems_of_all_files(main, tmp_path):
    (tmp_path / "a.yaml").write_text(SPEC + "tapz: 1\n")
    (tmp_path / "b.yaml").write_text("a: [1\n")
    code, out, err = main("validate", *(str(tmp_path / f"{name}.yaml") for name in "abc"))
    assert (code, out) == (2, "")
    assert [line.split()[1] for line in err.splitlines()] == ["PK-Y03", "PK-Y11", "PK-Y25"]


def test_validate_in_json_says_the_same(main, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(SPEC.replace(str(DIGITS), "${PK_TEST_UNSET}/a.onnx") + "max_taps: 0\n")
    code, out, err = main("validate", str(path), "--output-format", "json", "--set", "splits.seed=x")
    assert (code, err) == (2, "")
    assert json.loads(out) == [
        {
            "code": "PK-Y04", "severity": "error", "path": "--set splits.seed=x", "line": 0, "col": 0,
            "field": "splits.seed", "message": "expected a whole number, got text 'x'", "hint": "",
        },
        {
            "code": "PK-Y33", "severity": "warning", "path": str(path), "line": 2, "col": 27, "field": "model.path",
            "message": "the variable ${PK_TEST_UNSET} in '${PK_TEST_UNSET}/a.onnx' is not set",
            "hint": "type: export PK_TEST_UNSET=...",
        },
        {
            "code": "PK-Y30", "severity": "error", "path": str(path), "line": 9, "col": 11, "field": "max_taps",
            "message": "must be at least 1, got 0", "hint": "",
        },
    ]  # fmt: skip
    path.write_text(SPEC)
    assert main("validate", str(path), "--output-format", "json") == (0, "[]\n", "")


# --- taps -------------------------------------------------------------------------------------------------------------

NAMES = ["image", "conv2d", "relu", "conv2d_1", "relu_1", "max_pool2d", "view", "linear", "relu_2", "logits"]


def test_taps_of_a_model(main):
    code, out, err = main("taps", str(DIGITS))
    assert (code, err) == (0, "")
    assert out.startswith("depth  name        op       shape       dtype    layout  features per row\n")
    assert "\n2      relu        Relu     (16, 8, 8)  float32  NCHW    1,024\n" in out
    assert "\n9 tensors cannot be tapped:\n  an initializer: a weight, the same for every input: " in out


def test_taps_of_a_spec(main, tmp_path):
    (tmp_path / "s.yaml").write_text(SPEC)
    assert main("taps", str(tmp_path / "s.yaml"))[1] == main("taps", str(DIGITS))[1]
    model = f'{{kind: onnx, path: "{DIGITS}"}}'
    (tmp_path / "s.yaml").write_text(re.sub("model: .*", f"models: {{a: {model}, b: {model}}}", SPEC))
    _, out, _ = main("taps", str(tmp_path / "s.yaml"), "--match", "logits")
    table = [
        "depth  name    op    shape  dtype    layout  features per row",
        "9      logits  Gemm  (10)   float32  NC      10",
    ]
    assert out.splitlines() == ["a", *table, "b", *table]


def test_taps_as_json(main):
    code, out, err = main("taps", str(DIGITS), "--json")
    assert (code, err) == (0, "")
    [(model, taps)] = json.loads(out).items()
    assert model == str(DIGITS)
    assert [tap["name"] for tap in taps if not tap["untappable"]] == NAMES
    assert taps[[tap["name"] for tap in taps].index("relu")] == {
        "name": "relu", "op": "Relu", "shape": [16, 8, 8], "dtype": "float32", "layout": "NCHW", "depth": 2,
        "untappable": "", "batch_axis": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*relu*", ["relu", "relu_1", "relu_2"]), ("relu", ["relu"]), ("relu_?", ["relu_1", "relu_2"]), ("*", NAMES)],
)
def test_taps_by_pattern(main, pattern, names):
    _, out, _ = main("taps", str(DIGITS), "--match", pattern, "--json")
    [taps] = json.loads(out).values()
    assert [tap["name"] for tap in taps if not tap["untappable"]] == names


def test_a_pattern_that_matches_nothing_is_told(main):
    message = "error PK-Y36 no tensor's name matches '*rleu*'; did you mean 'relu'?\n"
    assert main("taps", str(DIGITS), "--match", "*rleu*") == (2, "", message)


def test_taps_at_40_columns_gives_names_lines_of_their_own(main, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = main("taps", str(DIGITS), "--match", "*relu*")
    assert out.splitlines()[2:4] == ["relu", "    2      Relu  (16, 8, 8)  float32  NCHW    1,024"]


# --- schema and plugins -----------------------------------------------------------------------------------------------


def test_the_schema_is_printed_or_written(main, tmp_path):
    code, out, err = main("schema")
    assert (code, err) == (0, "")
    assert json.loads(out)["title"] == "Spec"
    assert main("schema", "--out", str(tmp_path / "s.json")) == (0, "", "")
    assert (tmp_path / "s.json").read_text(encoding="utf-8") == out
    assert main("schema", "--table")[1].startswith("# Spec reference\n")


def test_plugins_as_json(main):
    code, out, err = main("plugins", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert rows[0] == {
        "category": "backend", "kind": "onnx", "module": "probekit.backends.onnx", "distribution": "probekit-platform",
        "release": __version__, "status": "",
    }  # fmt: skip
    assert len({(row["category"], row["kind"]) for row in rows}) == len(rows)


# --- what is imported -------------------------------------------------------------------------------------------------

HEAVY = "torch torchvision onnxruntime onnx sklearn scipy pandas pyarrow PIL jinja2 rich safetensors"
IMPORTS = """\
import sys
sys.argv = ["probekit", *sys.argv[1:]]
from probekit.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("IMPORTED", *sorted({name.split(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plugins"], ["validate", "specs/digits.yaml"], ["validate", "specs/resnet50.yaml"], ["schema"]],
    ids=" ".join,
)
def test_what_needs_no_model_imports_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(done.stdout.splitlines()[-1].split()[1:])
    assert "probekit" in imported
    assert imported & set(HEAVY.split()) == set()


# --- output that is closed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["schema"], ["schema", "--table"], ["--help"], ["plugins"], ["taps", str(DIGITS)]]
)
def test_a_reader_that_goes_away_is_no_fault(arguments):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "probekit", *arguments],
        cwd=ROOT, env=environment(), stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# --- run --------------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_0_and_leaves_its_files(site, tmp_path):
    (tmp_path / "small.yaml").write_text(SPEC + "plugins: [pk-odd]\n")
    path = f"{site}{os.pathsep}{ROOT}"
    done = probekit("run", "small.yaml", cwd=tmp_path, PYTHONPATH=path, COLUMNS="40", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "runs" / "small").iterdir()) == [
        "confusions.csv",
        "predictions.safetensors",
        "probes.safetensors",
        "results.json",
    ]
    assert (
        done.stdout.splitlines()[-1]
        == "runs/small: confusions.csv, predictions.safetensors, probes.safetensors, results.json"
    )
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 40
    # What was told before the end stands in the report; what came after it can only be printed.
    start = "on_run_start of plugin pk-odd 0.3: pk_odd raised ValueError: too loud"
    assert f"warning: {start}" in " ".join(done.stdout.split())
    assert done.stderr.splitlines()[-1] == (
        "warning: on_run_end of plugin pk-odd 0.3: pk_odd raised KeyError: 'still too loud'"
    )
    result = json.loads((tmp_path / "runs" / "small" / "results.json").read_text(encoding="utf-8"))
    assert start in result["provenance"]["warnings"]
    assert "listener.odd" in {plugin["kind"] for plugin in result["provenance"]["plugins"]}


def test_a_run_ends_with_1_when_one_of_its_probes_fails(main, site, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(site)
    (tmp_path / "s.yaml").write_text(SPEC + "probes: {good: {kind: linear}, bad: {kind: odd, what: fail}}\n")
    code, out, err = main("run", str(tmp_path / "s.yaml"), "-o", str(tmp_path / "out"), "-q")
    assert code == 1
    assert (tmp_path / "out" / "results.json").is_file()
    result = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert {probe["probe"] for probe in result["probes"]} == {"good"}
    failure = f"{FAILED.replace('probe default', 'probe bad')}: plugin pk-odd 0.3 (pk_odd)"
    assert f"{failure} raised RuntimeError: it fell over" in result["provenance"]["warnings"]
    assert "Traceback" not in out + err
    sys.modules.pop("pk_odd")


@pytest.mark.parametrize(
    ("what", "code", "message", "written"),
    [
        ("fail", 3, f"error PK-X01 {FAILED}: plugin pk-odd 0.3 (pk_odd) raised RuntimeError: it fell over\n", True),
        ("mendable", 3, f"error PK-X01 {FAILED}: too few\n", True),
        ("memory", 4, "error PK-R03 memory is too small: no room for 9 GiB; use fewer taps, or {kind: pool}\n", False),
    ],
)
def test_a_run_without_any_probe_says_why(main, site, tmp_path, monkeypatch, what, code, message, written):
    monkeypatch.syspath_prepend(site)
    spec = SPEC.replace("[terminal, json]", "[terminal, html, markdown, csv, json]")
    (tmp_path / "s.yaml").write_text(f"{spec}probe: {{kind: odd, what: {what}}}\n")
    found, out, err = main("run", str(tmp_path / "s.yaml"), "-o", str(tmp_path / "out"), "-q")
    assert found == code
    assert err.endswith(message)
    assert ("No probe was fitted." in out, "report.md" in out) == (written, written)
    for name in ("report.html", "report.md") if written else ():
        page = html.unescape((tmp_path / "out" / name).read_text(encoding="utf-8"))
        assert "No probe was fitted" in page
        assert "PARTIAL: 1 fit failed" in page
        assert "No probe was fitted." in main("report", str(tmp_path / "out"))[1]
    assert (tmp_path / "out" / "results.json").is_file() == written
    assert bool(list((tmp_path / "out").iterdir())) == written
    sys.modules.pop("pk_odd")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, f"\ninterrupted; {GO_ON}: probekit run s.yaml -q\n"), (signal.SIGTERM, 143, "")],
    ids=["INT", "TERM"],
)
def test_a_signal_while_torch_computes_ends_a_run(site, tmp_path, number, code, said):
    (tmp_path / "s.yaml").write_text(SPEC + "probe: {kind: odd, what: wait}\n")
    arguments = [sys.executable, "-m", "probekit", "run", "s.yaml", "-q"]
    environ = environment(PYTHONPATH=str(site), OMP_NUM_THREADS="1")
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not (tmp_path / "waiting").exists():
                assert process.poll() is None, process.communicate()
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (code, "", said)
    assert list((tmp_path / "runs" / "s").iterdir()) == []
