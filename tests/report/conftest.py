"""A result made by hand, with names that try to break out."""

import functools
import importlib.util
import itertools
import re
from pathlib import Path

import pytest

from probekit.results import (
    CertificateRecord,
    ClassErrorRecord,
    ConfusionRecord,
    FindingRecord,
    FitRecord,
    GraphRecord,
    InformationRecord,
    IntervalRecord,
    LabelResult,
    MistakesRecord,
    ModelResult,
    PairedRecord,
    PathPointRecord,
    ProbeResult,
    RunResult,
    TapRecord,
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


def _beside(name):
    """Return a module beside this one, which is no test."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = _beside("pages")
READ = _beside("reader").read


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


@pytest.fixture
def of_run(make, probe, fit):
    """Return a function from the names of taps to a result as large as that of a run."""
    return functools.partial(PAGES.of_run, make, probe, fit)


@pytest.fixture
def with_everything(probe):
    """Return a function from such a result to one with controls and many findings."""
    return functools.partial(PAGES.with_everything, probe=probe)


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
def uneven(make, probe):
    """Two classes of 90 and 10 test rows."""

    def scores(error, balanced, area):
        splits = ("train", "valid", "test")
        return {"error": dict.fromkeys(splits, error), "balanced_error": dict.fromkeys(splits, balanced),
                "auroc": dict.fromkeys(splits, area)}  # fmt: skip

    def made(counts):
        result = make(
            [probe("a", 0.08, scores=scores(0.08, 0.345, 0.789)), probe("b", 0.05, scores=scores(0.05, 0.2, 0.9))]
        )
        labels = {name: {**one, "counts": {"test": counts}} for name, one in result.provenance["labels"].items()}
        return result.model_copy(update={"provenance": {**result.provenance, "labels": labels}})

    return made


@pytest.fixture
def hostile(make):
    """A result whose names are hostile."""
    return make([made_probe(name, 0.1 * i, factor=name[:80]) for i, name in enumerate(HOSTILE)], warnings=HOSTILE)


@pytest.fixture
def whole(make):
    """Return a function to a result with every part of a page.

    It has two models, two checkpoints, factors of every task, controls, steps, a graph with a skip, findings.

    Args:
        named: from a kind of name, ``tap``, and a name to what stands in its place.
        names: of the taps, in the order of the network.
    """

    def result(named=lambda kind, name: name, names=("image", "conv1", "relu1", "conv2", "add", "fc")):
        taps, model = [named("tap", name) for name in names], named("model", "default")
        errors = [0.9 * (1 - i / len(taps)) for i in range(len(taps))]
        labels = [named("label", name) for name in ("speech", "music", "noise")]
        classes = [named("class", name) for name in ("cat", "dog")]
        mistakes = MistakesRecord(
            split="test", worst=[ClassErrorRecord(name=classes[0], error=0.5, interval=None, n=10)],
            confused=[ConfusionRecord(true=classes[0], predicted=classes[1], count=5, share=0.5)],
        )  # fmt: skip
        probes, steps, told = [], [], []
        for name, error, before in zip(taps, errors, [None, *taps], strict=False):
            same = {"model": model, "reduction": named("reduction", "pool"), "probe": named("probe", "default")}
            ranged = IntervalRecord(low=error / 2, high=error, kind="wilson", over="examples", n=10)
            for step in ("step-100", "step-200"):
                asked = {**same, "checkpoint": named("checkpoint", step), "factor": named("factor", "digit")}
                probes.append(made_probe(name, error, **asked, fit=made_fit(0.9, 0.8, 0.85, notes=["best epoch 3"]),
                                         mistakes=mistakes, intervals={"error": {"test": ranged}}))  # fmt: skip
                told.append(InformationRecord(**asked, tap=name, answer="cannot_tell", gain=0.1, of_chance=0.1,
                                              interval=ranged, p=0.1, p_adjusted=0.2))  # fmt: skip
                if before is not None:
                    steps.append(PairedRecord(
                        **asked, control=None, seed=0, before=before, before_reduction=asked["reduction"], after=name,
                        metric="error", difference=-0.1,
                        interval=ranged, test="mcnemar_exact", p=0.01, p_adjusted=0.02, only_before_wrong=2,
                        only_after_wrong=1, n=10,
                    ))  # fmt: skip
            last = {**same, "checkpoint": named("checkpoint", "step-200")}
            probes.append(made_probe(name, 0.8, **last, factor=named("factor", "digit"),
                                     control=f"control_task by {named('control', 'word')}"))  # fmt: skip
            probes.append(made_number(name, 1 - error, **last | {"factor": named("factor", "snr")}))
            probes.append(made_tags(name, dict.fromkeys(labels, error), **last | {"factor": named("factor", "tags")}))
            probes.append(made_probe(name, error, model=named("model", "other"), factor=named("factor", "digit"),
                                     status="missed" if before is None else "proven"))  # fmt: skip
        made = make(probes, warnings=[named("warning", f"tap {taps[1]} (pool): mind the gap")])
        facts = made.provenance["labels"]
        sentence = named("sentence", "Train is far below valid.")
        findings = [
            FindingRecord(kind=named("kind", "made"), severity=severity, sentence=sentence, model=model, taps=taps[-2:])
            for severity in ("problem", "warning", "notice", "info")
        ]
        shares = dict.fromkeys(("train", "valid", "test"), 0.12)
        own = ModelResult(
            model=model, checkpoint=named("checkpoint", "step-200"), factor=named("factor", "digit"),
            output=named("output", "logits"), scores={"error": shares}, error=shares, rows={"test": 10},
        )  # fmt: skip
        tapped = {"op": named("op", "Relu"), "shape": [8, 4], "dtype": "float32", "layout": "NC"}
        graph = GraphRecord(
            taps=[TapRecord(model=model, tap=tap, name=named("tensor", f"/net/{name}"), depth=depth,
                            **tapped | ({} if depth else {"op": "Input"}))
                  for depth, (tap, name) in enumerate(zip(taps, names, strict=True))],
            edges=[[model, *pair] for pair in [*itertools.pairwise(taps), (taps[1], taps[-2])]],
        )  # fmt: skip
        plugin = {"kind": f"report.{named('plugin', 'toy')}", "distribution": named("plugin", "toy"), "version": "1"}
        spec = {**made.provenance["spec"], "file": named("file", "s.yaml"), "text": named("spec", "a: 1\n")}
        provenance = {
            **made.provenance, "command": named("command", "probekit run s.yaml"), "spec": spec, "plugins": [plugin],
            "labels": {name: {**one, "classes": classes} for name, one in facts.items()},
            "models": {model: {"backend": {"kind": "onnx", "path": named("path", "model.onnx")}}},
        }  # fmt: skip
        return made.model_copy(update={
            "name": named("run", "made"), "model": [own], "graph": graph, "comparisons": steps, "information": told,
            "findings": findings, "provenance": provenance,
        })  # fmt: skip

    return result


@pytest.fixture
def read():
    """Read a page as HTML."""
    return READ


@pytest.fixture
def text_of():
    """Return the text of a page, each run of white space as one space."""
    return lambda page: re.sub(r"\s+", " ", "".join(READ(page).text))
