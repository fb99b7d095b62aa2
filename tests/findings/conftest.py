"""Results made by hand: probes with intervals, steps between taps, answers about information, graphs."""

import importlib
from math import sqrt

import pytest

from probekit.results import (
    CertificateRecord,
    ContrastRecord,
    FitRecord,
    GraphRecord,
    InformationRecord,
    IntervalRecord,
    ModelResult,
    PairedRecord,
    ProbeResult,
    RunResult,
    TapRecord,
)

ROWS = {"train": 900, "valid": 300, "test": 600}
HOSTILE = [
    "<script>alert(1)</script>",
    "{{7*7}} %s {0}",
    "[red]red[/red]",
    "a\u202eb\x1b[31mc\x00\nd",
    "工具 🧪 שלום",
    "x" * 500,
    "",
    " and, or → ",
]


def wilson(share, n):
    z = 1.959963984540054
    centre, half = (share + z**2 / (2 * n)), z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return IntervalRecord(low=max(low, 0.0), high=min(high, 1.0), kind="wilson", over="examples", n=n)


def made_probe(tap, test, valid=None, train=0.0, *, factor="digit", status="proven", rows=None, sure=True, **changes):
    """Return a probe of classes, with Wilson's intervals on every split unless it is not sure."""
    rows = rows or ROWS
    error = {"train": train, "valid": test if valid is None else valid, "test": test}
    intervals = {"error": {split: wilson(value, rows[split]) for split, value in error.items()}} if sure else {}
    fields = {
        "model": "default", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": factor, "probe": "default",
        "control": None, "seed": 0, "scores": {"error": error}, "primary": "error", "error": error,
        "intervals": intervals, "penalty": 0.01, "features_raw": 640, "features_used": 64, "rows": rows,
        "seconds": 0.1, "certificate": CertificateRecord(status=status, gap=1e-5, of_chance=5e-6, of_objective=1e-5),
    }  # fmt: skip
    return ProbeResult(**{**fields, **changes})


def made_number(tap, test, valid=None, train=None, *, half=0.05, **changes):
    """Return a probe of a number, with an interval on test that reaches ``half`` to both sides."""
    r2 = {"train": test if train is None else train, "valid": test if valid is None else valid, "test": test}
    interval = IntervalRecord(low=test - half, high=test + half, kind="percentile_bootstrap", over="examples", n=600)
    fields = {
        "factor": "snr", "task": "number", "primary": "r2", "error": None, "intervals": {"r2": {"test": interval}},
        "scores": {"r2": r2, "rmse": dict.fromkeys(r2, 1.0)},
    }  # fmt: skip
    return made_probe(tap, 0.5, **{**fields, **changes})


def made_tags(tap, test, **changes):
    """Return a probe of yes/no labels, with an interval over groups."""
    interval = IntervalRecord(low=test - 0.02, high=test + 0.02, kind="percentile_bootstrap", over="groups", n=40)
    return made_probe(
        tap, test, **{"factor": "tags", "task": "multilabel", "intervals": {"error": {"test": interval}}, **changes}
    )


def made_fit(*, end=None, reason=None, grown=0, label_penalties=()):
    return FitRecord(
        path=[], grown=grown, end=end, label_penalties=list(label_penalties), heads=8, passes=31,
        preconditioner="exact", arithmetic=["float32"], device="cpu", streamed=False, reason=reason,
    )  # fmt: skip


def made_step(before, after, difference, p=1e-4, *, half=0.005, **changes):
    """Return a paired difference; negative is an improvement."""
    interval = IntervalRecord(low=difference - half, high=difference + half, kind="newcombe", over="examples", n=600)
    fields = {
        "model": "default", "checkpoint": None, "reduction": "pool", "factor": "digit", "probe": "default",
        "control": None, "seed": 0, "before": before, "before_reduction": changes.get("reduction", "pool"),
        "after": after, "metric": "error", "difference": difference, "interval": interval, "test": "mcnemar_exact",
        "p": p, "p_adjusted": p, "only_before_wrong": 1, "only_after_wrong": 2, "n": 600,
    }  # fmt: skip
    return PairedRecord(**{**fields, **changes})


def made_contrast(tap, other, difference, *, half=0.005, **changes):
    """Return a difference between a probe and another one, or the model's own output where that is None."""
    interval = IntervalRecord(low=difference - half, high=difference + half, kind="newcombe", over="examples", n=600)
    fields = {
        "model": "default", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": "digit", "probe": "default",
        "other_tap": other, "other_reduction": None if other is None else "pool", "metric": "error",
        "difference": difference, "interval": interval, "test": "mcnemar_exact", "p": 0.004, "n": 600,
    }  # fmt: skip
    return ContrastRecord(**{**fields, **changes})


def made_told(tap, answer, *, gain=1.0, of_chance=0.5, half=0.1, p=1e-4, **changes):
    interval = IntervalRecord(low=gain - half, high=gain + half, kind="percentile_bootstrap", over="examples", n=600)
    fields = {
        "model": "default", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": "digit", "probe": "default",
        "answer": answer, "gain": gain, "of_chance": of_chance, "interval": interval, "p": p, "p_adjusted": p,
    }  # fmt: skip
    return InformationRecord(**{**fields, **changes})


def made_own(test, **changes):
    error = dict.fromkeys(ROWS, test)
    fields = {
        "model": "default", "checkpoint": None, "factor": "digit", "output": "logits", "scores": {"error": error},
        "error": error, "rows": ROWS,
        "intervals": {"error": {split: wilson(value, ROWS[split]) for split, value in error.items()}},
    }  # fmt: skip
    return ModelResult(**{**fields, **changes})


def facts_of(probe, baseline):
    facts = {"task": probe.task, "classes": ["0", "1"], "rows": dict(ROWS), "baseline": dict.fromkeys(ROWS, baseline)}
    if probe.task == "number":
        facts |= {"baseline": dict.fromkeys(ROWS, -0.01), "numbers": {"test": {"mean": 0.0, "deviation": 2.0}}}
    return facts


def made_result(
    probes,
    *,
    own=(),
    steps=(),
    contrasts=(),
    information=(),
    edges=(),
    taps=None,
    inputs=(),
    warnings=(),
    baseline=0.9,
    per="example",
):
    """Return a result.

    Args:
        edges: pairs of taps, of every model.
        taps: in depth order; default: those of the probes.
        inputs: which of them are the model's inputs.
    """
    order = list(dict.fromkeys(probe.tap for probe in probes)) if taps is None else taps
    models = dict.fromkeys([one.model for one in (*probes, *own)])
    records = [
        TapRecord(
            model=model, tap=tap, name=f"tensor of {tap}", op="Input" if tap in inputs else "Relu", shape=[64],
            dtype="float32", layout="NC", depth=depth,
        )
        for model in models
        for depth, tap in enumerate(order)
    ]  # fmt: skip
    factors = {one.factor: facts_of(one, baseline) for one in (*own, *probes)}
    return RunResult(
        name="made", probes=list(probes), model=list(own), comparisons=list(steps), contrasts=list(contrasts),
        information=list(information),
        graph=GraphRecord(taps=records, edges=[[model, a, b] for model in models for a, b in edges]),
        provenance={"labels": factors, "warnings": list(warnings), "rows": {"per": per}},
    )  # fmt: skip


@pytest.fixture(scope="session")
def probe():
    """Return a function from a tap and its test error to a probe of classes."""
    return made_probe


@pytest.fixture(scope="session")
def number():
    """Return a function from a tap and its R² on test to a probe of a number."""
    return made_number


@pytest.fixture(scope="session")
def tags():
    """Return a function from a tap and its test error to a probe of yes/no labels."""
    return made_tags


@pytest.fixture(scope="session")
def fit():
    """Return a function to how a probe was fitted."""
    return made_fit


@pytest.fixture(scope="session")
def step():
    """Return a function from two taps and a difference of errors to a paired record."""
    return made_step


@pytest.fixture(scope="session")
def contrast():
    """Return a function from a tap, another one or None for the model's output, and a difference to a record."""
    return made_contrast


@pytest.fixture(scope="session")
def told():
    """Return a function from a tap and an answer to a record about information."""
    return made_told


@pytest.fixture(scope="session")
def own():
    """Return a function from a test error to the model's own result."""
    return made_own


@pytest.fixture(scope="session")
def make():
    """Return a function from probes to a result."""
    return made_result


@pytest.fixture(scope="module")
def finding(request):
    """Return what the finding that the test's module is named after says of a result."""
    name = request.path.stem.removeprefix("test_")
    module = importlib.import_module(f"probekit.findings.{name}")

    def found(result):
        records = module.find(result)
        assert all(one.kind == name for one in records)
        return records

    return found


@pytest.fixture(scope="module")
def only(finding):
    """Return the one thing that the finding says of a result."""

    def found(result):
        (one,) = finding(result)
        return one

    return found


@pytest.fixture(params=HOSTILE, ids=range(len(HOSTILE)))
def odd(request):
    """A name that tries to break out, or that is no name."""
    return request.param
