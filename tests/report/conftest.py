"""A result made by hand, with names that try to break out."""

import pytest

from probekit.results import CertificateRecord, GraphRecord, ModelResult, ProbeResult, RunResult

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


@pytest.fixture
def probe():
    """Return a function from a tap's name and its test error to a probe's result."""
    return made_probe


@pytest.fixture
def make():
    """Return a function from probes to a result."""

    def result(probes, *, own=None, warnings=(), baseline=0.9):
        factors = {p.factor for p in probes} or {"digit"}
        label = {
            "classes": ["0", "1"],
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
            "splits": {"train": 80, "valid": 10, "test": 10}, "labels": dict.fromkeys(factors, label), "models": {},
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
