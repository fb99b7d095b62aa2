"""Results made by hand, for the checks of reports and findings."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from probekit.results import (
    CertificateRecord,
    FindingRecord,
    GraphRecord,
    InformationRecord,
    IntervalRecord,
    LabelResult,
    ModelResult,
    PairedRecord,
    ProbeResult,
    RunResult,
    TapRecord,
)

SPLITS = ("train", "valid", "test")
_ROWS = {"train": 80, "valid": 10, "test": 10}
HOSTILE = "<b>&{{7*7}} [red]| `x`\x1b[31m\u202e\x00 工具"
"""A name that must not become markup, a formula, a colour or another direction of text."""


def example_result(name: str = "") -> RunResult:
    """Return the result of a run with four taps, factors of every task, a control, steps, a finding and a warning.

    Args:
        name: put before the names of taps, factors, classes, labels and models, and into sentences and warnings.
    """
    taps = [f"{name}{tap}" for tap in ("image", "conv", "relu", "logits")]
    probes: list[ProbeResult] = []
    for depth, tap in enumerate(taps):
        error = 0.8 - 0.2 * depth
        probes.append(_probe(name, tap, error))
        probes.append(_probe(name, tap, 0.9, control="shuffled_labels"))
        probes.append(_number(name, tap, 1 - error))
        probes.append(_tags(name, tap, error))
    same = {"model": f"{name}net", "checkpoint": None, "reduction": "pool", "factor": f"{name}digit", "probe": "linear"}
    own = dict.fromkeys(SPLITS, 0.15)
    edges = [[f"{name}net", *pair] for pair in pairwise(taps)]
    return RunResult(
        name="example",
        probes=probes,
        model=[
            ModelResult(
                model=f"{name}net", checkpoint=None, factor=f"{name}digit", output=taps[-1], scores={"error": own},
                error=own, rows={"test": 10},
            )
        ],
        graph=GraphRecord(taps=[_tap(name, tap, depth) for depth, tap in enumerate(taps)], edges=edges),
        comparisons=[
            PairedRecord(
                **same, control=None, seed=0, before=before, before_reduction="pool", after=after, metric="error",
                difference=-0.2,
                interval=_interval(-0.3, -0.1), test="mcnemar_exact", p=0.01, p_adjusted=0.03, only_before_wrong=3,
                only_after_wrong=1, n=10,
            )
            for before, after in pairwise(taps)
        ],
        information=[
            InformationRecord(
                **same, tap=tap, answer="yes", gain=0.4, of_chance=0.2, interval=_interval(0.3, 0.5), p=0.01,
                p_adjusted=0.04,
            )
            for tap in taps
        ],
        findings=[
            FindingRecord(
                kind="example", severity="notice", sentence=f"{name}Something is worth a look.", model=f"{name}net",
                taps=taps[:2], evidence={"error": 0.2},
            )
        ],
        provenance=_provenance(name, probes),
    )  # fmt: skip


def empty_result() -> RunResult:
    """Return the result of a run all of whose fits failed."""
    provenance = _provenance("", [])
    return RunResult(name="empty", probes=[], model=[], graph=GraphRecord(taps=[], edges=[]), provenance=provenance)


def _interval(low: float, high: float) -> IntervalRecord:
    return IntervalRecord(low=low, high=high, kind="percentile_bootstrap", over="examples", n=10)


def _tap(name: str, tap: str, depth: int) -> TapRecord:
    op = "Relu" if depth else "Input"
    return TapRecord(
        model=f"{name}net", tap=tap, name=tap, op=op, shape=[8, 4, 4], dtype="float32", layout="NCHW", depth=depth
    )


def _probe(name: str, tap: str, value: float, **changes: Any) -> ProbeResult:
    error = {"train": value / 2, "valid": value, "test": value}
    fields: dict[str, Any] = {
        "model": f"{name}net", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": f"{name}digit",
        "probe": "linear", "control": None, "seed": 0,
        "scores": {"error": error, "balanced_error": error, "cross_entropy": error},
        "primary": "error", "error": error, "intervals": {"error": {"test": _interval(value / 2, min(1, value + 0.1))}},
        "penalty": 0.01, "features_raw": 128, "features_used": 8, "rows": _ROWS,
        "certificate": CertificateRecord(status="proven", gap=1e-6, of_chance=1e-6, of_objective=1e-6), "seconds": 0.1,
    }  # fmt: skip
    return ProbeResult(**{**fields, **changes})


def _number(name: str, tap: str, value: float) -> ProbeResult:
    scores = {metric: dict.fromkeys(SPLITS, value) for metric in ("r2", "rmse", "mae")}
    intervals = {"r2": {"test": _interval(value - 0.1, value + 0.1)}}
    changes: dict[str, Any] = {"task": "number", "primary": "r2", "error": None, "scores": scores}
    return _probe(name, tap, 0.5, factor=f"{name}ink", intervals=intervals, **changes)


def _tags(name: str, tap: str, value: float) -> ProbeResult:
    by_label = {
        f"{name}{label}": LabelResult(penalty=0.01, scores={"error": dict.fromkeys(SPLITS, value)})
        for label in ("loop", "stroke")
    }
    return _probe(name, tap, value, factor=f"{name}tags", task="multilabel", by_label=by_label, penalty=None)


def _provenance(name: str, probes: list[ProbeResult]) -> dict[str, Any]:
    labels = {}
    for probe in probes:
        facts: dict[str, Any] = {
            "classes": [f"{name}cat", f"{name}dog"], "task": probe.task, "rows": _ROWS,
            "counts": {split: [count // 2, count // 2] for split, count in _ROWS.items()},
            "baseline": dict.fromkeys(SPLITS, -0.01 if probe.task == "number" else 0.5),
        }  # fmt: skip
        if probe.task == "multilabel":
            facts["label_baselines"] = {label: dict.fromkeys(SPLITS, 0.4) for label in probe.by_label}
        labels[probe.factor] = facts
    return {
        "probekit": "0.1.0", "python": "3.11", "platform": "any", "started": "2026-01-01T00:00:00+00:00",
        "packages": {"torch": "2"}, "plugins": [], "command": "probekit run example.yaml", "seeds": {"splits": 0},
        "spec": {"file": "example.yaml", "text": f"probekit: 1\n# {name}\n", "settings": [], "digest": "0"},
        "splits": _ROWS, "models": {f"{name}net": {"backend": {"kind": "example"}}}, "labels": labels,
        "seconds": {"extraction": 1.0, "fitting": 1.0, "total": 2.0}, "warnings": [f"{name}mind the gap"],
    }  # fmt: skip
