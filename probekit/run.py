"""The pipeline: spec → graph → taps → features → labels → probes → result → reports, one function per arrow."""

from __future__ import annotations

import hashlib
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.data.question import ask
from probekit.errors import InputError, MachineError, ProbekitWarning, Problem, SpecError, UserError, nearest
from probekit.features.extraction import Runner, extract, try_taps
from probekit.measure import Measurement
from probekit.provenance import environment, reproduce_command
from probekit.reductions.assign import assign_reductions
from probekit.results import GraphRecord, RunResult, TapRecord, write_file, write_predictions
from probekit.taps import choose_taps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from probekit.components import Backend, Graph
    from probekit.plugins import Plugins
    from probekit.reductions.assign import FeatureSet
    from probekit.spec import LoadedSpec, Spec


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nothing."""


@dataclass(frozen=True)
class Console:
    """How a run speaks.

    Args:
        tell: called with (stage, done, total) as the run goes on.
        width: columns for printed reports.
        colour: whether printed reports may hold ANSI colours.
    """

    tell: Callable[[str, int, int], None] = _silent
    width: int = 80
    colour: bool = False


@dataclass(frozen=True)
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
class _ModelFacts:
    """What is known of the models that were probed, by name."""

    taps: list[TapRecord] = field(default_factory=list)
    edges: list[list[str]] = field(default_factory=list)
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0


def run_spec(loaded: LoadedSpec, plugins: Plugins, directory: Path, console: Console | None = None) -> Outcome:
    """Run a spec from end to end and write its result and reports.

    Args:
        loaded: the validated spec.
        plugins: whose listeners hear of the run.
        directory: where the result goes; made when absent.
        console: how the run speaks; default: not at all.

    Raises:
        SpecError, InputError, MachineError: what the user can mend, at its place in the spec where it has one; no
            result was written then.
    """
    try:
        return _run(loaded, plugins, directory, console or Console())
    except UserError as error:
        raise type(error)(*map(loaded.placed, error.problems)) from error


def _run(loaded: LoadedSpec, plugins: Plugins, directory: Path, console: Console) -> Outcome:
    spec = loaded.spec
    started, clock = datetime.now(UTC), time.monotonic()
    _refuse_unwritable(directory)
    with _kept_warnings() as told:
        plugins.load_listeners()
        plugins.emit("on_run_start", spec=spec)
        question = ask(spec)
        measured, facts = Measurement(question), _ModelFacts()
        for name, backend in spec.named_models().items():
            probe_model(spec, name, backend, measured, facts, plugins, console)
    if not measured.probes:
        raise InputError(*(Problem("PK-X01", f"the fit failed: {text}") for text in measured.failures))
    result = RunResult(
        name=spec.name,
        probes=measured.probes,
        model=measured.models,
        graph=GraphRecord(taps=facts.taps, edges=facts.edges),
        provenance={
            **environment(started, plugins),
            "command": reproduce_command(loaded),
            "spec": {
                "file": loaded.file, "text": loaded.text, "settings": list(loaded.settings), "digest": loaded.digest,
            },
            "seeds": {"splits": spec.splits.seed},
            "splits": {split: len(rows) for split, rows in question.parts.items()},
            "labels": {target.factor: question.label_facts(target) for target in question.targets},
            "models": facts.provenance,
            "seconds": {
                "extraction": facts.seconds, "fitting": measured.seconds, "total": time.monotonic() - clock,
            },
            "warnings": list(dict.fromkeys([*told, *(f"the fit failed: {text}" for text in measured.failures)])),
        },
    )  # fmt: skip
    printed = _save(spec, result, measured, directory, console)
    plugins.emit("on_run_end", result=result)
    return Outcome(result, directory, printed, measured.failures)


def probe_model(
    spec: Spec,
    name: str,
    backend: Backend,
    measured: Measurement,
    facts: _ModelFacts,
    plugins: Plugins,
    console: Console,
) -> None:
    """Tap one model, extract its features in one pass, and fit every probe to every tap."""
    question = measured.question
    runner = Runner(backend, question.examples)
    graph = backend.graph(runner.example(question.rows))
    trial = try_taps(runner, choose_taps(spec.taps, graph, spec.max_taps), question.rows)
    sets = assign_reductions(trial.taps, spec.named_reductions(), spec.max_features)
    output = _output_name(backend, graph)
    extracted = extract(
        runner, sets, question.rows, output, lambda n, total: console.tell(f"{name}: forward", n, total)
    )
    question.refuse_duplicates(extracted.digests, allow=spec.splits.allow_leakage)
    if output is not None and backend.output is not None and extracted.output is not None:
        measured.score_model(name, output, backend.output, extracted.output)
    for probe in measured.fit(name, sets, extracted.features, spec.named_probes(), console.tell):
        plugins.emit("on_probe_fitted", probe=probe)
    _note_graph(name, graph, sets, facts)
    facts.seconds += extracted.seconds
    facts.provenance[name] = {
        "backend": backend.identity(),
        "fingerprint": backend.fingerprint(),
        "runtime": backend.runtime(),
        "batch_size": runner.fixed_batch or backend.batch_size,
        "data": hashlib.blake2b(b"".join(extracted.digests), digest_size=16).hexdigest(),
        "passed_over": trial.skipped,
    }


def _output_name(backend: Backend, graph: Graph) -> str | None:
    if backend.output is None:
        return None
    name = backend.output.name or (graph.outputs[0] if graph.outputs else "")
    tap = graph.tap(name)
    if tap is None or tap.untappable:
        known = [one.name for one in graph.taps if not one.untappable]
        what = f"the model has no tensor {name!r}" if tap is None else f"{name!r} cannot be read: {tap.untappable}"
        raise SpecError(Problem("PK-M26", what, nearest(name, known, "tensors"), "model.output.name"))
    return name


def _note_graph(model: str, graph: Graph, sets: Sequence[FeatureSet], facts: _ModelFacts) -> None:
    chosen = {one.tap.name: one for one in sets}
    for name, one in chosen.items():
        tap = one.tap
        shape = None if tap.shape is None else list(tap.shape)
        facts.taps.append(
            TapRecord(
                model=model, tap=one.label, name=name, op=tap.op, shape=shape, dtype=tap.dtype, layout=tap.layout,
                depth=tap.depth,
            )
        )  # fmt: skip
    facts.edges += [[model, chosen[a].label, chosen[b].label] for a, b in graph.contract(list(chosen))]


def _save(spec: Spec, result: RunResult, measured: Measurement, directory: Path, console: Console) -> dict[str, str]:
    """Write the result, the predictions and the reports; return the text of the reports that are printed."""
    question = measured.question
    groups = question.examples.columns[spec.splits.group] if spec.splits.group is not None else None
    printed = {}
    try:
        write_file(directory / "results.json", result.to_json())
        write_predictions(
            directory / "predictions.safetensors",
            question.examples.columns["id"][question.rows],
            None if groups is None else groups[question.rows],
            {split: np.searchsorted(question.rows, rows) for split, rows in question.parts.items()},
            {target.factor: target.codes for target in question.targets},
            measured.predicted,
            measured.losses,
            measured.keys,
        )
        for report in spec.reports:
            text = report.render(result, console.width, console.colour)
            if report.filename is None:
                printed[report.kind] = text
            else:
                write_file(directory / report.filename, text)
    except OSError as error:
        hint = "free some space or name another folder with -o, then run the same command"
        raise MachineError(Problem("PK-R01", f"cannot write to {str(directory)!r}: {error.strerror}", hint)) from error
    return printed


def _refuse_unwritable(directory: Path) -> None:
    """See that results can be written before anything is computed."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        write_file(probe, b"")
        probe.unlink()
    except OSError as error:
        what = f"cannot write to {str(directory)!r}: {error.strerror}"
        raise MachineError(Problem("PK-R13", what, "name another folder with -o")) from error


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """Give a list that holds, at the end, what probekit warned of; other warnings go their usual way."""
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ProbekitWarning)
        usual = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, ProbekitWarning):
                told.append(str(message))
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = keep
        yield told
