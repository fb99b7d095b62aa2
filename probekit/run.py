"""The pipeline: spec → graph → taps → features → labels → probes → result → reports, one function per arrow."""

from __future__ import annotations

import platform
import time
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.data.splits import refuse_shared, split_examples
from probekit.data.targets import make_targets, read_labels
from probekit.errors import InputError, MachineError, ProbekitWarning, Problem, SpecError, listed, nearest
from probekit.features import Extracted, Runner, extract, try_taps
from probekit.probes.metrics import losses, score_all
from probekit.probes.model_scores import classes_of_output, predict, score_model
from probekit.reductions.assign import FeatureSet, assign_reductions
from probekit.results import (
    CertificateRecord,
    GraphRecord,
    ModelResult,
    ProbeResult,
    RunResult,
    TapRecord,
    write_file,
    write_predictions,
)
from probekit.spec.splits import TEST, TRAIN, VALID
from probekit.taps import choose_taps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from probekit.components import (
        Backend,
        Examples,
        FittedProbe,
        FloatArray,
        Graph,
        IntArray,
        Labels,
        Probe,
        Tap,
        Target,
    )
    from probekit.plugins import Plugins
    from probekit.spec import LoadedSpec, Spec


@dataclass
class Outcome:
    """What a run leaves behind.

    Args:
        result: the result.
        directory: where it was written.
        printed: the text of the reports that are printed, by kind.
        failures: probes that could not be fitted, each as one line.
    """

    result: RunResult
    directory: Path
    printed: dict[str, str]
    failures: list[str]


@dataclass
class Question:
    """All that is asked of the features, whichever model they come from.

    Args:
        examples: the opened dataset.
        labels: of every factor, over all examples.
        parts: rows of each split.
        rows: all rows of any split, sorted; what features are made of.
        targets: one per factor, counted within ``rows``.
    """

    examples: Examples
    labels: dict[str, Labels]
    parts: dict[str, IntArray]
    rows: IntArray
    targets: list[Target]

    def within(self, split: str, target: Target) -> IntArray:
        """Return the labelled rows of a split, counted within ``rows``."""
        rows: IntArray = np.searchsorted(self.rows, self.parts[split])
        return rows[target.codes[rows] >= 0]


@dataclass
class _Findings:
    """What the loop over models collects."""

    probes: list[ProbeResult] = field(default_factory=list)
    models: list[ModelResult] = field(default_factory=list)
    taps: list[TapRecord] = field(default_factory=list)
    edges: list[list[str]] = field(default_factory=list)
    predicted: dict[str, IntArray] = field(default_factory=dict)
    losses: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"extraction": 0.0, "fitting": 0.0})


def run_spec(
    loaded: LoadedSpec,
    plugins: Plugins,
    directory: Path,
    tell: Callable[[str, int, int], None] = lambda stage, done, total: None,
    width: int = 80,
    colour: bool = False,
) -> Outcome:
    """Run a spec from end to end and write its result and reports.

    Args:
        loaded: the validated spec.
        plugins: whose listeners hear of the run.
        directory: where the result goes; made when absent.
        tell: called with (stage, done, total) as the run goes on.
        width: columns for printed reports.
        colour: whether printed reports may hold ANSI colours.

    Raises:
        SpecError, InputError, MachineError: what the user can mend; nothing was written then.
    """
    _make_directory(directory)
    started, clock = datetime.now(UTC), time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ProbekitWarning)
        plugins.load_listeners()
        plugins.emit("on_run_start", spec=loaded.spec)
        question = ask(loaded.spec)
        found = _Findings()
        for name, backend in loaded.spec.named_models().items():
            probe_model(loaded.spec, name, backend, question, found, plugins, tell)
    told = [str(w.message) for w in caught if issubclass(w.category, ProbekitWarning)]
    _pass_on([w for w in caught if not issubclass(w.category, ProbekitWarning)])
    if not found.probes:
        raise InputError(*(Problem("PK-X01", text) for text in found.failures))
    found.seconds["total"] = time.monotonic() - clock
    provenance = {
        **_environment(started),
        "spec": {"file": loaded.file, "text": loaded.text, "settings": list(loaded.settings), "digest": loaded.digest},
        "seeds": {"splits": loaded.spec.splits.seed},
        "splits": {split: len(rows) for split, rows in question.parts.items()},
        "labels": {target.factor: _label_facts(target, question) for target in question.targets},
        "models": found.provenance,
        "plugins": [
            {"kind": f"{p.category}.{p.kind}", "distribution": p.distribution, "version": p.release, "module": p.module}
            for p in plugins.loaded()
        ],
        "seconds": found.seconds,
        "warnings": list(dict.fromkeys([*told, *found.failures])),
    }
    result = RunResult(
        name=loaded.spec.name,
        probes=found.probes,
        model=found.models,
        graph=GraphRecord(taps=found.taps, edges=found.edges),
        provenance=provenance,
    )
    printed = save(loaded.spec, result, question, found, directory, width, colour)
    plugins.emit("on_run_end", result=result)
    return Outcome(result, directory, printed, found.failures)


def ask(spec: Spec) -> Question:
    """Open the data, label and split it: what will be asked of every tap."""
    examples = spec.data.open()
    labels = read_labels(spec.labels, examples.columns)
    parts = split_examples(spec.splits, examples.columns, labels)
    rows = np.unique(np.concatenate(list(parts.values())))
    targets = make_targets(labels, parts, rows, spec.splits.seed)
    return Question(examples, labels, parts, rows, targets)


def probe_model(
    spec: Spec,
    name: str,
    backend: Backend,
    question: Question,
    found: _Findings,
    plugins: Plugins,
    tell: Callable[[str, int, int], None],
) -> None:
    """Tap one model, extract its features in one pass, and fit every probe to every tap."""
    runner = Runner(backend, question.examples)
    graph = backend.graph(runner.example(question.rows))
    trial = try_taps(runner, choose_taps(spec.taps, graph, spec.max_taps), question.rows)
    sets = assign_reductions(trial.taps, spec.named_reductions(), spec.max_features)
    output = _output_name(backend, graph)
    extracted = extract(runner, sets, question.rows, output, lambda done, total: tell(f"{name}: forward", done, total))
    found.seconds["extraction"] += extracted.seconds
    _refuse_duplicates(spec, question, extracted)
    if output is not None:
        _score_model(name, backend, output, extracted.output, question, found)
    _fit_all(spec, name, sets, extracted, question, found, plugins, tell)
    chosen = {one.tap.name: one for one in sets}
    found.taps += [_tap_record(name, one.label, one.tap) for one in chosen.values()]
    found.edges += [[name, chosen[a].label, chosen[b].label] for a, b in contract(graph, list(chosen))]
    skipped = trial.skipped
    found.provenance[name] = {
        "backend": backend.identity(),
        "batch_size": runner.fixed_batch or backend.batch_size,
        "fingerprint": backend.fingerprint(),
        "runtime": backend.runtime(),
        "data": _digest(extracted.digests),
        "passed_over": skipped,
    }


def _output_name(backend: Backend, graph: Graph) -> str | None:
    if backend.output is None:
        return None
    name = backend.output.name or (graph.outputs[0] if graph.outputs else None)
    tap = graph.tap(name) if name is not None else None
    if tap is None or tap.untappable:
        known = [one.name for one in graph.taps if not one.untappable]
        what = f"the model has no tensor {name!r}" if tap is None else f"{name!r} cannot be read: {tap.untappable}"
        raise SpecError(Problem("PK-M26", what, nearest(str(name), known, "tensors"), "model.output.name"))
    return name


def _refuse_duplicates(spec: Spec, question: Question, extracted: Extracted) -> None:
    """Refuse one content in two splits, and one content with two labels."""
    digests = np.array(extracted.digests, dtype=object)
    ids = question.examples.columns["id"][question.rows].astype(str)
    within = {split: np.searchsorted(question.rows, rows) for split, rows in question.parts.items()}
    allow = spec.splits.allow_leakage
    refuse_shared(within, digests, "content", "PK-L10", allow=allow, names=ids)
    for target in question.targets:
        first: dict[bytes, int] = {}
        clashes = []
        for row in np.flatnonzero(target.codes >= 0).tolist():
            other = first.setdefault(digests[row], row)
            if target.codes[other] != target.codes[row]:
                clashes.append(f"{ids[other]} and {ids[row]}")
        if clashes:
            what = f"{len(clashes)} examples have the content of another with another label: {listed(clashes, 3)}"
            if not allow:
                hint = "mend the data, or set splits.allow_leakage: true"
                raise InputError(Problem("PK-L12", what, hint, f"labels.{target.factor}"))
            warnings.warn(f"labels.{target.factor}: {what}", ProbekitWarning, stacklevel=2)


def _score_model(
    name: str, backend: Backend, output: str, values: FloatArray | None, question: Question, found: _Findings
) -> None:
    assert backend.output is not None  # noqa: S101 - the caller looked
    assert values is not None  # noqa: S101 - extract gives it when asked
    target = next(one for one in question.targets if one.factor == backend.output.factor)
    mapped = classes_of_output(backend.output, question.labels[target.factor], values.shape[1])
    rows = {split: question.within(split, target) for split in question.parts}
    scores = {split: score_model(values[part], mapped, target.codes[part]) for split, part in rows.items()}
    by_metric = _by_metric(scores)
    found.models.append(
        ModelResult(
            model=name,
            checkpoint=None,
            factor=target.factor,
            output=output,
            scores=by_metric,
            error=_headline(by_metric["error"], question),
            rows={split: len(part) for split, part in rows.items()},
        )
    )
    key = str(len(found.keys))
    found.keys[key] = {"model": name, "checkpoint": None, "output": output, "factor": target.factor}
    found.predicted[key] = predict(values, mapped)


def _fit_all(
    spec: Spec, name: str, sets: Sequence[FeatureSet], extracted: Extracted, question: Question, found: _Findings,
    plugins: Plugins, tell: Callable[[str, int, int], None],
) -> None:  # fmt: skip
    probes = spec.named_probes()
    start, done, total = time.monotonic(), 0, len(sets) * len(probes)
    for one, raw in zip(sets, extracted.features, strict=True):
        features = _learned(one, raw, np.searchsorted(question.rows, question.parts[TRAIN]))
        _warn_of(one, features, question)
        for probe_name, probe in probes.items():
            where = f"{name} {one.label} {one.reduction} {probe_name}"
            try:
                fitted = probe.fit(features, question.targets)
            except (MemoryError, MachineError):
                raise
            except Exception as error:  # noqa: BLE001 - a probe that fails loses only itself
                found.failures.append(f"{where}: the fit failed: {type(error).__name__}: {error}")
                continue
            finally:
                done += 1
                tell(f"{name}: probes", done, total)
            for target, probe_fitted in zip(question.targets, fitted, strict=True):
                result = _score_probe(name, one, features, probe_name, probe, probe_fitted, target, question, found)
                plugins.emit("on_probe_fitted", probe=result)
    found.seconds["fitting"] += time.monotonic() - start


def _learned(one: FeatureSet, features: FloatArray, train: IntArray) -> FloatArray:
    return one.learned.fit(features[train])(features) if one.learned is not None else features


def _warn_of(one: FeatureSet, features: FloatArray, question: Question) -> None:
    varies = np.ptp(features, axis=0) > 0
    if not varies.any():
        text = f"tap {one.label} ({one.reduction}): every feature is constant; its probe says the commonest class"
        warnings.warn(text, ProbekitWarning, stacklevel=2)
    train = len(question.parts[TRAIN])
    if train < features.shape[1]:
        text = f"tap {one.label} ({one.reduction}): {train} training rows for {features.shape[1]} features"
        warnings.warn(text, ProbekitWarning, stacklevel=2)


def _score_probe(
    name: str, one: FeatureSet, features: FloatArray, probe_name: str, probe: Probe, fitted: FittedProbe, target: Target,
    question: Question, found: _Findings,
) -> ProbeResult:  # fmt: skip
    logits = fitted.logits(features)
    rows = {split: question.within(split, target) for split in question.parts}
    scores = _by_metric({split: score_all(logits[part], target.codes[part]) for split, part in rows.items()})
    result = ProbeResult(
        model=name,
        checkpoint=None,
        tap=one.label,
        reduction=one.reduction,
        factor=target.factor,
        probe=probe_name,
        control=target.control,
        seed=target.seed,
        scores=scores,
        primary="error",
        error=_headline(scores["error"], question),
        penalty=fitted.penalty,
        features_raw=one.raw,
        features_used=features.shape[1],
        rows={split: len(part) for split, part in rows.items()},
        certificate=CertificateRecord(**vars(fitted.certificate)),
        seconds=fitted.seconds,
    )
    baseline = _baseline(target, question)
    if result.error[TEST] >= baseline[next(s for s in question.parts if s not in {TRAIN, VALID})]:
        text = f"tap {one.label} ({one.reduction}): the probe for {target.factor} is no better than the commonest class"
        warnings.warn(text, ProbekitWarning, stacklevel=2)
    key = str(len(found.keys))
    identity = ("model", "checkpoint", "tap", "reduction", "factor", "probe", "control", "seed")
    found.keys[key] = {part: getattr(result, part) for part in identity}
    found.predicted[key] = logits.argmax(axis=1)
    labelled = np.flatnonzero(target.codes >= 0)
    each = np.full(len(logits), np.nan)
    each[labelled] = losses(logits[labelled], target.codes[labelled])
    found.losses[key] = each
    found.probes.append(result)
    return result


def _by_metric(by_split: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    metrics = next(iter(by_split.values()))
    return {metric: {split: scores[metric] for split, scores in by_split.items()} for metric in metrics}


def _headline(error: Mapping[str, float], question: Question) -> dict[str, float]:
    """Return train, valid and test, the first test split where there are several."""
    first = next(split for split in question.parts if split not in {TRAIN, VALID})
    return {TRAIN: error[TRAIN], VALID: error[VALID], TEST: error[first]}


def _baseline(target: Target, question: Question) -> dict[str, float]:
    commonest = np.bincount(target.codes[target.train]).argmax()
    rows = {split: question.within(split, target) for split in question.parts}
    return {split: float(np.mean(target.codes[part] != commonest)) for split, part in rows.items()}


def _label_facts(target: Target, question: Question) -> dict[str, Any]:
    rows = {split: question.within(split, target) for split in question.parts}
    counts = {
        split: np.bincount(target.codes[part], minlength=len(target.classes)).tolist() for split, part in rows.items()
    }
    baseline = _baseline(target, question)
    first = next(split for split in question.parts if split not in {TRAIN, VALID})
    return {
        "classes": list(target.classes),
        "counts": {**counts, TEST: counts[first]},
        "baseline": {**baseline, TEST: baseline[first]},
    }


def contract(graph: Graph, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs (a, b) out of ``names`` with a path from a to b that passes no other of them."""
    wanted = set(names)
    sources: dict[str, list[str]] = {}
    for a, b in graph.edges:
        sources.setdefault(b, []).append(a)
    reach: dict[str, frozenset[str]] = {}
    edges = []
    for tap in graph.taps:
        before = frozenset().union(
            *({a} if a in wanted else reach.get(a, frozenset()) for a in sources.get(tap.name, ()))
        )
        reach[tap.name] = before
        if tap.name in wanted:
            edges += [(a, tap.name) for a in sorted(before)]
    return edges


def _tap_record(model: str, label: str, tap: Tap) -> TapRecord:
    shape = None if tap.shape is None else list(tap.shape)
    return TapRecord(
        model=model,
        tap=label,
        name=tap.name,
        op=tap.op,
        shape=shape,
        dtype=tap.dtype,
        layout=tap.layout,
        depth=tap.depth,
    )


def save(
    spec: Spec, result: RunResult, question: Question, found: _Findings, directory: Path, width: int, colour: bool
) -> dict[str, str]:
    """Write the result, the predictions and the reports; return the text of the reports that are printed."""
    try:
        write_file(directory / "results.json", result.to_json())
        groups = question.examples.columns[spec.splits.group] if spec.splits.group is not None else None
        write_predictions(
            directory / "predictions.safetensors",
            question.examples.columns["id"][question.rows],
            None if groups is None else groups[question.rows],
            {split: np.searchsorted(question.rows, rows) for split, rows in question.parts.items()},
            {target.factor: target.codes for target in question.targets},
            found.predicted,
            found.losses,
            found.keys,
        )
        printed = {}
        for report in spec.reports:
            text = report.render(result, width, colour)
            if report.filename is None:
                printed[report.kind] = text
            else:
                write_file(directory / report.filename, text)
    except OSError as error:
        hint = "free some space or name another folder with -o, then run the same command"
        raise MachineError(Problem("PK-R01", f"cannot write to {str(directory)!r}: {error.strerror}", hint)) from error
    return printed


def _make_directory(directory: Path) -> None:
    """See that results can be written before anything is computed."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_file(directory / ".writable", b"")
        (directory / ".writable").unlink()
    except OSError as error:
        what = f"cannot write to {str(directory)!r}: {error.strerror}"
        raise MachineError(Problem("PK-R13", what, "name another folder with -o")) from error


def _pass_on(caught: Sequence[warnings.WarningMessage]) -> None:
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _environment(started: datetime) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    from probekit import __version__

    packages = {}
    for name in ("numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "scikit-learn", "torch", "torchvision"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "probekit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "started": started.isoformat(timespec="seconds"),
    }


def _digest(digests: Sequence[bytes]) -> str:
    import hashlib

    return hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()
