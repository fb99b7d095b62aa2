"""Runs beside plugins: an unrelated one changes no byte, a required one is in the provenance, a broken one is named."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]

DATA = "{kind: arrays, arrays: {image: images.npy}, columns: columns.csv}"

# A fast run: one tap, few examples, and no package that takes long to import but torch.
SPEC = f"""\
probekit: 1
model: {{kind: onnx, path: "{ROOT / "specs" / "models" / "digits_convnet.onnx"}"}}
data: {DATA}
taps: [image]
labels: {{digit: {{kind: column, column: label}}}}
splits:
  {{column: half, train: even, valid: {{of: odd, share: 0.3}}, test: odd, limit: {{train: 60, valid: 30, test: 30}}}}
reports: [terminal, json, csv]
"""

MEDDLER = """\
from pathlib import Path
from probekit import FindingRecord, hookimpl

(Path(__file__).parent / "imported").touch()

@hookimpl
def find(result):
    return [FindingRecord(kind="meddler", severity="problem", sentence="The meddler was here.")]

@hookimpl
def on_run_start(spec):
    Path("heard").touch()
"""

FAULTY = """\
from typing import Literal
import numpy as np
from probekit import Dataset, Examples, LabelFactor, Labels, Probe, Reduction, Report, hookimpl

class Rows(Examples):
    def read(self, rows):
        return {"image": 1 / 0}

class FaultyDataset(Dataset):
    "Cannot read."
    kind: Literal["faulty"] = "faulty"

    def open(self):
        columns = {"label": np.arange(120) % 2, "half": np.array(["even", "odd"] * 60)}
        return Rows(columns, input_names=["image"])

class FaultyFactor(LabelFactor):
    "Cannot label."
    kind: Literal["faulty"] = "faulty"

    def label(self, columns):
        raise TypeError("no labels")

class FaultyProbe(Probe):
    "Cannot fit."
    kind: Literal["faulty"] = "faulty"

    def fit(self, features, targets, context=None):
        raise RuntimeError("no fit")

class FaultyReport(Report):
    "Cannot render."
    kind: Literal["faulty"] = "faulty"
    filename = "faulty.txt"

    def render(self, result, width=80, colour=False):
        return result.probes[0].no_such_field

@hookimpl
def register_datasets():
    return [FaultyDataset]

@hookimpl
def register_label_factors():
    return [FaultyFactor]

@hookimpl
def register_probes():
    return [FaultyProbe]

@hookimpl
def register_reports():
    return [FaultyReport]
"""


@pytest.fixture
def folder(tmp_path, distributions):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.random((120, 1, 8, 8), np.float32))
    rows = [f"{rng.integers(3)},{('even', 'odd')[row % 2]}" for row in range(120)]
    (tmp_path / "columns.csv").write_text("\n".join(["label,half", *rows]) + "\n")
    site = distributions.Site(tmp_path / "site")
    site.add(
        "pk-meddler",
        {"listener.meddler": "pk_meddler", "finding.meddler": "pk_meddler", "reduction.pool": "pk_meddler"},
        {"pk_meddler": MEDDLER}, record=True,
    )  # fmt: skip
    site.add("pk-broken", {"listener.broken": "pk_broken"}, {"pk_broken": "raise OSError('broken')\n"})
    kinds = {f"{category}.faulty": "pk_faulty" for category in ("dataset", "factor", "probe", "report")}
    site.add("pk-faulty", kinds, {"pk_faulty": FAULTY}, "0.7")
    return tmp_path


def run(
    folder: Path, text: str, *arguments: str, plugins: bool = True, disable: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a spec in one process and a feature store of its own."""
    (folder / "s.yaml").write_text(text)
    shutil.rmtree(folder / "store", ignore_errors=True)
    path = [*([str(folder / "site")] if plugins else []), str(ROOT)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PROBEKIT_STORE": str(folder / "store")}
    environ.pop("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", None)
    environ |= {"PROBEKIT_DISABLE_PLUGIN_AUTOLOAD": "1"} if disable else {}
    command = [sys.executable, "-m", "probekit", "run", "s.yaml", "-q", "--in-process", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def without_times(value):
    """Return a result without the moments and durations that no two runs share."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in ("started", "seconds")}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def results(folder: Path, name: str) -> dict:
    return json.loads((folder / name / "results.json").read_text(encoding="utf-8"))


def test_an_unrelated_plugin_changes_no_byte_of_a_run(folder):
    alone, beside = run(folder, SPEC, "-o", "alone", plugins=False), run(folder, SPEC, "-o", "beside")
    assert (alone.returncode, beside.returncode) == (0, 0), beside.stderr
    assert alone.stderr == beside.stderr
    assert alone.stdout.replace("alone", "beside") == beside.stdout
    names = sorted(path.name for path in (folder / "alone").iterdir())
    assert names == sorted(path.name for path in (folder / "beside").iterdir())
    assert without_times(results(folder, "alone")) == without_times(results(folder, "beside"))
    files = [name for name in names if name != "results.json" and "report" not in name]
    assert {"predictions.safetensors", "probes.safetensors", "confusions.csv"} <= set(files)
    for name in files:
        if name != "results.csv":  # it holds the seconds of each fit
            assert (folder / "alone" / name).read_bytes() == (folder / "beside" / name).read_bytes(), name
    assert not (folder / "site" / "imported").exists()
    assert not (folder / "heard").exists()


def test_a_required_plugin_finds_and_hears_and_is_in_the_provenance(folder):
    done = run(folder, SPEC + "plugins: {pk-meddler: '>=1'}\n", "-o", "out", "--no-plugin", "PK-Faulty")
    assert done.returncode == 0, done.stderr
    assert (folder / "heard").exists()
    found = results(folder, "out")
    assert found["findings"][0]["sentence"] == "The meddler was here."
    told = {one["kind"]: one for one in found["provenance"]["plugins"]}
    meddler = told["finding.meddler"]
    assert (meddler["distribution"], meddler["version"]) == ("pk-meddler", "1.0")
    assert meddler["digest"] == told["listener.meddler"]["digest"]
    assert len(meddler["digest"]) == 32
    assert told["backend.onnx"]["digest"] not in (None, meddler["digest"])
    assert {one["distribution"] for one in told.values()} == {"pk-meddler", "probekit-platform"}
    assert found["provenance"]["command"] == "probekit run s.yaml --no-plugin pk-faulty"


def test_a_plugin_that_the_command_line_names_takes_part_as_a_required_one(folder):
    done = run(folder, SPEC, "-o", "out", "-p", "PK_Meddler", disable=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "heard").exists()
    found = results(folder, "out")
    assert found["findings"][0]["sentence"] == "The meddler was here."
    assert {one["distribution"] for one in found["provenance"]["plugins"]} == {"pk-meddler", "probekit-platform"}
    assert found["provenance"]["command"] == "probekit run s.yaml -p pk-meddler"


def test_a_required_listener_that_is_broken_costs_a_warning(folder):
    done = run(folder, SPEC + "plugins: [pk-broken]\n", "-o", "out")
    assert done.returncode == 0, done.stderr
    (warning,) = [one for one in results(folder, "out")["provenance"]["warnings"] if "pk-broken" in one]
    assert warning.startswith("listener 'broken' is left out: plugin pk-broken 1.0 (pk_broken) cannot be imported")


def test_a_report_of_a_plugin_that_raises_costs_only_itself(folder):
    done = run(folder, SPEC.replace("[terminal, json, csv]", "[faulty, csv]"), "-o", "out")
    assert done.returncode == 4
    what = "report 'faulty' of plugin pk-faulty 0.7 (pk_faulty) raised AttributeError: 'ProbeResult' object has no "
    assert f"error PK-G02 {what}attribute 'no_such_field'; all else is written; tell its author\n" in done.stderr
    assert {"results.csv", "results.json"} <= {path.name for path in (folder / "out").iterdir()}
    assert not (folder / "out" / "faulty.txt").exists()
    assert "Traceback" not in done.stderr


def test_a_probe_of_a_plugin_that_raises_costs_only_itself(folder):
    done = run(folder, SPEC + "probes: {good: {kind: linear}, bad: {kind: faulty}}\n", "-o", "out")
    assert done.returncode == 1
    found = results(folder, "out")
    assert {one["probe"] for one in found["probes"]} == {"good"}
    assert any(
        "plugin pk-faulty 0.7 (pk_faulty) raised RuntimeError: no fit" in w for w in found["provenance"]["warnings"]
    )


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("{kind: column, column: label}", "{kind: faulty}", "TypeError: no labels"),
        (DATA, "{kind: faulty}", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_component_of_a_plugin_that_raises_is_no_fault_of_probekits(folder, old, new, error):
    done = run(folder, SPEC.replace(old, new), "-o", "out")
    assert done.returncode == 4, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    start = f"error PK-G02 plugin pk-faulty 0.7 (pk_faulty) raised {error}; the details are in "
    assert line.startswith(start)
    crash = Path(line.removeprefix(start).split(";")[0])
    assert "Traceback" in crash.read_text(encoding="utf-8")
    crash.unlink()
