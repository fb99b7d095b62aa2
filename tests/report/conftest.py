"""A result made by hand, with names that try to break out."""

import pytest

from probekit.results import (
    CertificateRecord,
    FitRecord,
    GraphRecord,
    IntervalRecord,
    LabelResult,
    ModelResult,
    PathPointRecord,
    ProbeResult,
    RunResult,
)

HOSTILE = [
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "javascript:alert(1)",
    "{{7*7}}",
    "]]><img src=x onerror=alert(1)>",
    "[red]red[/red]",
    "=1+1",
    "a\u202eb\x1b[31mc\x00",
    "工具 🧪 שלום",
    "x" * 500,
]


def made_probe(tap, test, valid=None, *, factor="digit", status="proven", **changes):
    error = {"train": 0.0, "valid": test if valid is None else valid, "test": test}
    fields = {
        "model": "default", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": factor, "probe": "default",
        "control": None, "seed": 0, "scores": {"error": error, "cross_entropy": dict.fromkeys(error, 0.5)},
        "primary": "error", "error": error, "penalty": 0.01, "features_raw": 640, "features_used": 64,
        "rows": {"train": 80, "valid": 10, "test": 10}, "seconds": 0.1,
        "certificate": CertificateRecord(status=status, gap=1e-5, of_chance=5e-6, of_objective=1e-5),
    }  # fmt: skip
    return ProbeResult(**{**fields, **changes})


def made_number(tap, test, valid=None, **changes):
    r2 = {"train": 0.99, "valid": test if valid is None else valid, "test": test}
    interval = IntervalRecord(low=test - 0.1, high=test + 0.1, kind="percentile_bootstrap", over="examples", n=10)
    fields = {
        "factor": "snr", "task": "number", "primary": "r2", "error": None, "intervals": {"r2": {"test": interval}},
        "scores": {"r2": r2, "rmse": dict.fromkeys(r2, 2.0), "mae": dict.fromkeys(r2, 1.0)},
    }  # fmt: skip
    return made_probe(tap, 0.5, **{**fields, **changes})


def made_tags(tap, errors, **changes):
    """Return the result of a probe of yes/no labels from the test error of each."""
    error = dict.fromkeys(("train", "valid", "test"), sum(errors.values()) / len(errors))
    by_label = {
        name: LabelResult(penalty=0.001 * (index + 1), scores={"error": dict.fromkeys(error, value)})
        for index, (name, value) in enumerate(errors.items())
    }
    fields = {"factor": "tags", "task": "multilabel", "by_label": by_label, "penalty": None}
    return made_probe(tap, error["test"], **{**fields, **changes})


def made_fit(*losses, end=None, reason=None, notes=()):
    path = [
        PathPointRecord(
            penalty=10.0**-power, objective=1.0, gap=0.0, status="proven", valid_loss=loss, valid_error=0.5
        )
        for power, loss in enumerate(losses)
    ]  # fmt: skip
    return FitRecord(
        path=path, grown=0, end=end, label_penalties=[], heads=8, passes=31, preconditioner="exact",
        arithmetic=["float32"], device="cpu", streamed=False, reason=reason, notes=list(notes),
    )  # fmt: skip


@pytest.fixture
def probe():
    """Return a function from a tap's name and its test error to a probe's result."""
    return made_probe


@pytest.fixture
def number():
    """Return a function from a tap's name and its R² on test to a probe's result."""
    return made_number


@pytest.fixture
def tags():
    """Return a function from a tap's name and the test error of each yes/no label to a probe's result."""
    return made_tags


@pytest.fixture
def fit():
    """Return a function from the losses on valid along a path of λ, from 1 down, to how a probe was fitted."""
    return made_fit


def facts_of(probe, label):
    """Return the facts of a probe's factor: those of classes, with the baselines of its task."""
    if probe.task == "number":
        label = {**label, "task": "number", "baseline": dict.fromkeys(label["baseline"], -0.01)}
    if probe.task == "multilabel":
        chance = {name: {"test": 0.4} for name in probe.by_label}
        label = {**label, "task": "multilabel", "label_baselines": chance}
    return label


@pytest.fixture
def make():
    """Return a function from probes to a result."""

    def result(probes, *, own=None, warnings=(), baseline=0.9):
        label = {
            "classes": ["0", "1"],
            "task": "classes",
            "rows": {"train": 80, "valid": 10, "test": 10},
            "counts": {"train": [40, 40], "valid": [5, 5], "test": [5, 5]},
            "baseline": {"train": baseline, "valid": baseline, "test": baseline},
        }
        provenance = {
            "probekit": "0.1.0", "python": "3.11", "platform": "any", "started": "2026-01-01T00:00:00+00:00",
            "packages": {"torch": "2"}, "plugins": [], "command": "probekit run <b>.yaml", "seeds": {"splits": 0},
            "spec": {
                "file": "s.yaml", "text": "probekit: 1\n# </pre><script>alert(1)</script>\n", "settings": [],
                "digest": "0",
            },
            "splits": {"train": 80, "valid": 10, "test": 10}, "models": {},
            "labels": {p.factor: facts_of(p, label) for p in probes} or {"digit": label},
            "seconds": {"extraction": 1.0, "fitting": 1.0, "total": 2.0}, "warnings": list(warnings),
        }  # fmt: skip
        error = {"train": own, "valid": own, "test": own}
        model = [] if own is None else [
            ModelResult(
                model="default", checkpoint=None, factor="digit", output="o", scores={"error": error}, error=error,
                rows={"test": 10},
            )
        ]  # fmt: skip
        return RunResult(
            name="made", probes=probes, model=model, graph=GraphRecord(taps=[], edges=[]), provenance=provenance
        )

    return result


@pytest.fixture
def hostile(make):
    """A result whose names are hostile."""
    return make([made_probe(name, 0.1 * i, factor=name[:80]) for i, name in enumerate(HOSTILE)], warnings=HOSTILE)
