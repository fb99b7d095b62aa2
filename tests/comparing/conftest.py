"""Run directories made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probekit.comparing.compare import compare
from probekit.comparing.gate import read_condition
from probekit.comparing.records import ComparisonResult
from probekit.comparing.sides import load_run
from probekit.predictions import Predictions
from probekit.results import CertificateRecord, GraphRecord, ModelResult, ProbeResult, RunResult, TapRecord

SPEC = "probekit: 1\nmodel: {kind: onnx, path: m.onnx}\ndata: {kind: digits}\nlabels: {f: {kind: column}}\n"
HOSTILE = [
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "]]><img src=x onerror=alert(1)>",
    "{{7*7}}",
    "[red]red[/red] :smile:",
    "a\u202eb\x1b[31mc",
    "a|b`c**d**",
    "@somebody #1 https://example.org",
    "工具 🧪 שלום",
    "x" * 300,
]
PRIMARY = {"classes": "error", "multilabel": "error", "number": "r2"}


def said(tap: str, predicted: Any, losses: Any = None, **changes: Any) -> dict[str, Any]:
    """Return what one probe says for each test row.

    Args:
        tap: its name in the results.
        predicted: shape (test rows,) or (test rows, labels).
        losses: of the same shape; default: 0.
        changes: of the probe's identity; ``status`` of its certificate; ``tensor``, the tap's own name.
    """
    predicted = np.asarray(predicted)
    fields = {
        "model": "default", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": "f", "probe": "default",
        "control": None, "seed": 0, "status": "proven", "tensor": tap,
    }  # fmt: skip
    losses = np.zeros(predicted.shape) if losses is None else np.asarray(losses, dtype=np.float64)
    return {**fields, **changes, "predicted": predicted, "losses": losses}


def own(predicted: Any, **changes: Any) -> dict[str, Any]:
    """Return what a model itself says for each test row."""
    fields = {"model": "default", "checkpoint": None, "output": "logits", "factor": "f"}
    return {**fields, **changes, "predicted": np.asarray(predicted)}


def _padded(values: Any, first: Any) -> Any:
    """Put one row of train and one of valid before the test rows."""
    return np.concatenate([np.repeat(np.asarray(first)[None], 2, axis=0), values]).astype(np.asarray(values).dtype)


def write(
    folder: Path,
    probes: list[dict[str, Any]],
    labels: dict[str, Any],
    *,
    ids: Any = None,
    classes: dict[str, list[str]] | None = None,
    owns: tuple[dict[str, Any], ...] = (),
    groups: Any = None,
    positions: Any = None,
    tests: dict[str, Any] | None = None,
    name: str = "made",
    text: str = SPEC,
    settings: tuple[str, ...] = (),
    **provenance: Any,
) -> Path:
    """Write a run directory of one training row, one valid row, and the test rows that are given.

    Args:
        folder: where.
        probes: of :func:`said`.
        labels: by factor, of the test rows.
        ids: of the test rows; default: their numbers.
        classes: by factor; default: numbers as text.
        owns: of :func:`own`.
        groups: of the test rows.
        positions: of the test rows.
        tests: rows by the name of the test split; default: all of them are ``test``.
        name: of the run.
        text: of the spec.
        settings: of the spec.
        provenance: more of it.
    """
    labels = {factor: np.asarray(codes) for factor, codes in labels.items()}
    count = len(next(iter(labels.values())))
    ids = np.arange(count).astype(str) if ids is None else np.asarray(ids).astype(str)
    classes = {
        factor: ["0", "1"] if codes.ndim == 2 else [str(n) for n in range(int(max(codes.max(), 0)) + 1)]
        if codes.dtype.kind != "f" else []
        for factor, codes in labels.items()
    } | (classes or {})  # fmt: skip
    tests = {"test": np.arange(count)} if tests is None else tests
    parts = {"train": np.array([0]), "valid": np.array([1])}
    parts |= {split: np.asarray(rows) + 2 for split, rows in tests.items()}
    splits = dict.fromkeys(parts, 0.5)
    tasks = {
        factor: "number" if codes.dtype.kind == "f" else "multilabel" if codes.ndim == 2 else "classes"
        for factor, codes in labels.items()
    }
    results, keys, predicted, losses, taps = [], {}, {}, {}, {}
    for number, probe in enumerate(probes):
        task = tasks[probe["factor"]]
        identity = {part: probe[part] for part in ("model", "checkpoint", "tap", "reduction", "factor", "probe")}
        identity |= {"control": probe["control"], "seed": probe["seed"]}
        error = {"train": 0.5, "valid": 0.5, "test": 0.5} if task != "number" else None
        results.append(
            ProbeResult(
                **identity, task=task, scores={PRIMARY[task]: splits}, primary=PRIMARY[task], error=error, penalty=0.1,
                features_raw=4, features_used=2, rows=dict.fromkeys(parts, 1), seconds=0.0,
                certificate=CertificateRecord(status=probe["status"], gap=None, of_chance=None, of_objective=None),
            )
        )  # fmt: skip
        keys[str(number)] = identity
        predicted[str(number)] = _padded(probe["predicted"], probe["predicted"][0])
        losses[str(number)] = _padded(probe["losses"], np.zeros(probe["losses"].shape[1:]))
        taps[probe["model"], probe["tap"]] = TapRecord(
            model=probe["model"], tap=probe["tap"], name=probe["tensor"], op="Relu", shape=[4], dtype="float32",
            layout="NC", depth=len(taps),
        )  # fmt: skip
    models = []
    for number, one in enumerate(owns, start=len(probes)):
        keys[str(number)] = {part: one[part] for part in ("model", "checkpoint", "output", "factor")}
        predicted[str(number)] = _padded(one["predicted"], one["predicted"][0])
        models.append(
            ModelResult(
                **keys[str(number)], scores={"error": splits}, error={"test": 0.5}, rows=dict.fromkeys(parts, 1)
            )
        )
    facts = {
        factor: {
            "task": tasks[factor], "classes": classes[factor],
            "rows": {split: len(rows) for split, rows in parts.items()},
            "baseline": {split: 0.5 + 0.1 * place for place, split in enumerate(parts, start=-1)},
        }
        for factor in labels
    }  # fmt: skip
    backend = {"kind": "onnx", "path": "m.onnx"}
    whole = {
        "probekit": "0.5.0", "python": "3.11.0", "platform": "any", "packages": {"numpy": "2.0"}, "plugins": [],
        "started": "2026-01-01T00:00:00+00:00", "command": "probekit run s.yaml", "seeds": {"splits": 0},
        "spec": {"file": "s.yaml", "text": text, "settings": list(settings), "digest": "0"},
        "rows": {"per": "example" if positions is None else "position", "count": count + 2}, "labels": facts,
        "splits": {split: len(rows) for split, rows in parts.items()}, "seconds": {"total": 1.0}, "warnings": [],
        "models": {
            probe["model"] + (f"@{probe['checkpoint']}" if probe["checkpoint"] else ""): {
                "backend": backend, "fingerprint": "abc", "runtime": {"onnxruntime": "1.28"}, "data": "d0",
            }
            for probe in probes
        },
    }  # fmt: skip
    result = RunResult(
        name=name, probes=results, model=models, graph=GraphRecord(taps=list(taps.values()), edges=[]),
        provenance={**whole, **provenance},
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(result.to_json(), encoding="utf-8")
    made = Predictions.of(
        np.concatenate([["train-row", "valid-row"], ids]),
        None if groups is None else np.concatenate([["train-row", "valid-row"], np.asarray(groups).astype(str)]),
        parts,
        {factor: _padded(codes, codes[0]) for factor, codes in labels.items()},
        predicted,
        losses,
        keys,
        None if positions is None else np.concatenate([[0, 0], positions]),
    )
    made.write(folder / "predictions.safetensors")
    return folder


class Maker:
    """Makes runs in folders of their own."""

    said = staticmethod(said)
    own = staticmethod(own)

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def write(self, *arguments: Any, **more: Any) -> Path:
        """Write a run directory; return it."""
        self.count += 1
        return write(self.folder / f"run{self.count}", *arguments, **more)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Write a run directory; return what is loaded from it."""
        return load_run(self.write(*arguments, **more))


@pytest.fixture
def runs(tmp_path: Path) -> Maker:
    """Return what makes runs."""
    return Maker(tmp_path)


def _wrong(codes: Any, count: int) -> Any:
    """Return predictions of which the first ones are wrong."""
    return np.where(np.arange(len(codes)) < count, (codes + 1) % 4, codes)


@pytest.fixture
def plain(runs: Maker) -> ComparisonResult:
    """A comparison of three taps, the last one much worse, with something in every part."""
    codes = np.arange(100) % 4
    settings = {"name": "before"}, {"name": "after", "packages": {"numpy": "2.1"}}
    made = []
    for counts, more in zip(((5, 10, 10), (5, 9, 40)), settings, strict=True):
        probes = [runs.said(tap, _wrong(codes, count)) for tap, count in zip("abc", counts, strict=True)]
        probes.append(runs.said(f"only_{more['name']}", codes))
        made.append(runs(probes, {"f": codes}, owns=(runs.own(_wrong(codes, counts[2])),), **more))
    return compare(*made, fail_if=[read_condition("worse>1"), read_condition("worse>99")])


@pytest.fixture
def hostile(runs: Maker) -> ComparisonResult:
    """A comparison whose names are hostile."""
    codes = np.arange(100) % 4
    made = []
    for shift in (0, 40):
        probes = [
            runs.said(name, _wrong(codes, n + shift), factor="<b>f</b>", probe=name) for n, name in enumerate(HOSTILE)
        ]
        probes.append(runs.said(f"{shift}<i>", codes, factor="<b>f</b>", probe="p"))
        made.append(
            runs(
                probes, {"<b>f</b>": codes}, name=f"made{shift}", text=f"# <script>\nname: '<u>{shift}'\n",
                warnings=["the fit failed: <script>alert(2)</script>"],
            )
        )  # fmt: skip
    return compare(*made, fail_if=[read_condition("worse>1")])
