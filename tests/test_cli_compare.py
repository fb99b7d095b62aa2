"""``probekit compare``: what it prints, what it writes, what it refuses."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from probekit import cli
from probekit.cli_compare import compare
from probekit.predictions import Predictions
from probekit.results import CertificateRecord, GraphRecord, ProbeResult, RunResult

CODES = np.array([0, 1] * 50)


@pytest.fixture
def compared(main, monkeypatch):
    """Run the command; return (exit code, stdout, stderr)."""
    monkeypatch.setitem(cli.cli.commands, "compare", compare)
    return lambda *arguments: main("compare", *map(str, arguments))


def write(folder, wrong, models=("default",)):
    """Write a run directory with one tap for each model, so many of whose predictions are wrong."""
    parts = {"train": [0], "valid": [1], "test": list(range(2, 102))}
    codes = np.concatenate([[0, 0], CODES])
    probes, predicted, losses, keys = [], {}, {}, {}
    for number, model in enumerate(models):
        identity = {
            "model": model, "checkpoint": None, "tap": "relu", "reduction": "pool", "factor": "parity",
            "probe": "default", "control": None, "seed": 0,
        }  # fmt: skip
        said = codes.copy()
        said[2 : 2 + wrong * (number + 1)] ^= 1
        error = dict.fromkeys(parts, 0.5)
        probes.append(
            ProbeResult(
                **identity, scores={"error": error}, primary="error", error=error, penalty=None, features_raw=1,
                features_used=1, rows=dict.fromkeys(parts, 1), seconds=0.0,
                certificate=CertificateRecord(status="proven", gap=None, of_chance=None, of_objective=None),
            )
        )  # fmt: skip
        predicted[str(number)], losses[str(number)], keys[str(number)] = said, np.zeros(102), identity
    baseline = dict.fromkeys(parts, 0.5)
    provenance = {
        "probekit": "0", "packages": {}, "plugins": [], "started": "2026-01-01", "command": "probekit run s.yaml",
        "seeds": {}, "spec": {"text": "probekit: 1\n", "settings": []}, "splits": {}, "seconds": {}, "warnings": [],
        "models": {}, "labels": {"parity": {"classes": ["0", "1"], "rows": baseline, "baseline": baseline}},
    }  # fmt: skip
    result = RunResult(
        name=folder.name, probes=probes, model=[], graph=GraphRecord(taps=[], edges=[]), provenance=provenance
    )
    folder.mkdir()
    (folder / "results.json").write_text(result.to_json())
    rows = {split: np.array(some) for split, some in parts.items()}
    ids = np.arange(102).astype(str)
    made = Predictions.of(ids, None, rows, {"parity": codes}, predicted, losses, keys)
    made.write(folder / "predictions.safetensors")
    return folder


@pytest.fixture
def two(tmp_path):
    """Two run directories: 5 and 30 of 100 test rows are wrong."""
    return write(tmp_path / "before", 5), write(tmp_path / "after", 30)


def test_two_runs_are_printed(compared, two):
    code, out, err = compared(*two)
    assert (code, err) == (0, "")
    shown = " ".join(out.split())
    assert shown.startswith("A: before (")
    assert "after is worse than before at 1 of 1 tap" in shown


def test_two_models_of_one_run(compared, tmp_path):
    run = write(tmp_path / "both", 10, ("float", "int8"))
    for arguments in ((run,), (run, "--models", "float", "int8"), (run, run, "--model", "float:int8")):
        code, out, _ = compared(*arguments)
        assert code == 0
        assert "parity: int8 is worse than float" in " ".join(out.split())
    code, out, _ = compared(run, "--models", "int8", "float")
    assert "float is better than int8" in " ".join(out.split())


@pytest.mark.parametrize(("condition", "expected"), [("worse>24.9", 1), ("worse>25", 0), ("significantly_worse>10", 1)])
def test_a_condition_that_holds_ends_with_1_and_the_views_are_there(compared, two, tmp_path, condition, expected):
    out = tmp_path / "views"
    files = [out / f"c{ending}" for ending in (".html", ".md", ".json", ".txt")]
    code, printed, err = compared(*two, "--fail-if", condition, *(word for file in files for word in ("-o", file)))
    assert (code, err) == (expected, "")
    assert f"fail if {condition}: {'holds' if expected else 'does not hold'}" in printed
    assert printed.splitlines()[-4:] == [str(file) for file in files]
    assert json.loads(files[2].read_text())["gates"][0]["held"] is bool(expected)
    assert files[0].read_text().startswith("<!doctype html>")
    assert files[1].read_text().startswith("## `after` against `before`")
    assert files[3].read_text().startswith("A: before")


@pytest.mark.parametrize(
    ("form", "begins"), [("md", "## `after`"), ("html", "<!doctype"), ("json", "{\n"), ("terminal", "A: ")]
)
def test_a_format_may_be_printed(compared, two, form, begins):
    code, out, _ = compared(*two, "--format", form)
    assert code == 0
    assert out.startswith(begins)


@pytest.mark.parametrize("form", ["md", "html", "json", "terminal"])
def test_a_redacted_view_names_no_absolute_path(compared, two, form):
    code, out, _ = compared(*two, "--format", form, "--redact")
    assert code == 0
    assert str(two[0].parent) not in out
    assert ("…/before" in out) is (form != "md")


def test_a_format_may_be_given_for_any_file(compared, two, tmp_path):
    assert compared(*two, "--format", "md", "-o", tmp_path / "summary")[0] == 0
    assert (tmp_path / "summary").read_text().startswith("## ")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--fail-if", "wrose>1"), 2, "error PK-X36 --fail-if 'wrose>1' is no condition; did you mean 'worse'?"),
        (("-o", "x.pdf"), 2, "error PK-X37 -o: no format is known by the ending of 'x.pdf'"),
        (("--map", "relu=rleu"), 2, "the second run has no probed tap 'rleu'; did you mean 'relu'?"),
        (("--factor", "partiy"), 2, "no factor 'partiy' is in both runs; did you mean 'parity'?"),
        (("--split", "tset"), 2, "has no test split 'tset'; did you mean 'test'?"),
        (("--model", "default", "--models", "a", "b"), 2, "--model and --models are both given"),
        (("--format", "pdf"), 2, "'pdf' is not one of"),
    ],
)  # fmt: skip
def test_what_is_refused(compared, two, arguments, code, text):
    got, out, err = compared(*two, *arguments)
    assert (got, out) == (code, "")
    assert text in err


def test_a_folder_that_is_no_run(compared, two, tmp_path):
    code, _, err = compared(two[0], tmp_path / "atfer")
    assert code == 3
    assert "did you mean 'after'" in err


def test_a_run_and_itself(compared, two):
    code, _, err = compared(two[0])
    assert code == 2
    assert "PK-X31" in err
    assert "would be compared with itself" in err


def test_a_file_that_cannot_be_written(compared, two, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = compared(*two, "-o", tmp_path / "file" / "c.md")
    assert code == 4
    assert "PK-R13" in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("form", ["terminal", "json", "files"])
def test_a_terminal_that_lacks_signs_is_written_to(tmp_path, form, encoding):
    runs = write(tmp_path / "früher", 5, ("工具",)), write(tmp_path / "später 工具", 30, ("工具",))
    options = ["-o", str(tmp_path / "工.md"), "--fail-if", "worse>1"] if form == "files" else ["--format", form]
    done = subprocess.run(
        [sys.executable, "-m", "probekit", "compare", *map(str, runs), *options],
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": encoding}, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1 if form == "files" else 0, b"")
    if form == "json":  # machines read it, and JSON is UTF-8
        assert json.loads(done.stdout.decode())["second"]["name"] == "später 工具"
    else:
        assert "ter ?? is worse than fr" in " ".join(done.stdout.decode(encoding).split())


def test_nothing_heavy_is_imported(two):
    script = (
        "import sys; from probekit.cli_compare import compare; "
        f"compare.main([{str(two[0])!r}, {str(two[1])!r}, '--format', 'html'], standalone_mode=False); "
        "assert not {'torch', 'onnxruntime', 'onnx', 'altair', 'vl_convert', 'sklearn'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=60)
