"""The pipeline: spec → graph → taps → features → labels → probes → result → reports, one function per arrow."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from probekit.data.question import ask
from probekit.durable import write_file
from probekit.errors import MachineError, ProbekitWarning, Problem, UserError, kept_warnings
from probekit.executors import LocalExecutor, with_processes
from probekit.features.digests import RowDigests
from probekit.features.extraction import StopRequest
from probekit.features.isolated import extract_in_child
from probekit.features.memory import memory_budget
from probekit.fits import FitJournal
from probekit.judging import judge
from probekit.measure import Measurement
from probekit.mistakes import FILE as CONFUSIONS
from probekit.mistakes import with_mistakes, write_confusions
from probekit.plugins import RunHooks
from probekit.plugins.sources import blamed
from probekit.predictions import FILE as PREDICTIONS
from probekit.predictions import Predictions, label_name
from probekit.progress import FittingProgress, Tell, silent, work_of
from probekit.provenance import environment, model_facts, question_facts, reproduce_command, spec_facts
from probekit.reading import feature_rows, open_store, read_models
from probekit.results import FAILED, GraphRecord, RunResult, TapRecord
from probekit.saved.files import FILE as PROBES
from probekit.workers import FitWorkers, count_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from probekit.components import Executor, IntArray
    from probekit.data.question import Asked, Question
    from probekit.plugins import Plugins
    from probekit.reading import Reading
    from probekit.scorer import Scorer
    from probekit.spec import LoadedSpec, Spec


def _unsaid(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Console:
    """How a run speaks, and how it is asked to stop.

    Args:
        tell: called with (stage, done, total) as the run goes on, while probes are fitted also with ``detail`` and
            ``left``; see :class:`probekit.progress.Tell`.
        width: columns for printed reports.
        colour: whether printed reports may hold ANSI colours.
        stop: looked at after each row range that is extracted.
        say: told what the user should know while the run waits.
        isolate: extract in a process of its own, so that a crash of a model's runtime is told and costs one row range;
            fit small probes by the workers of the spec's executor, where that is faster.
        processes: of that executor; None: as the spec says.
    """

    tell: Tell = silent
    width: int = 80
    colour: bool = False
    stop: StopRequest = field(default_factory=StopRequest)
    say: Callable[[str], None] = _unsaid
    isolate: bool = False
    processes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind.

    Args:
        result: the result.
        directory: where it was written.
        printed: the text of the reports that are printed, by kind.
        failures: probes that could not be fitted, each as one line; where there is no other, the result and the
            reports say so.
        unwritten: reports of plugins that raised; the others are there.
    """

    result: RunResult
    directory: Path
    printed: dict[str, str]
    failures: list[str]
    unwritten: list[Problem] = field(default_factory=list)


def run_spec(
    loaded: LoadedSpec,
    plugins: Plugins,
    directory: Path,
    console: Console | None = None,
    lock_timeout: float | None = None,
) -> Outcome:
    """Run a spec from end to end and write its result and reports.

    Args:
        loaded: the validated spec.
        plugins: with the findings and listeners of those that the spec requires.
        directory: where the result goes; made when absent.
        console: how the run speaks; default: not at all.
        lock_timeout: seconds to wait for another run that extracts from the same model; default: as long as it takes.

    Raises:
        SpecError, InputError, MachineError: what the user can mend, at its place in the spec where it has one; no
            result was written then. What was extracted is in the store.
        Interrupted: the user asked to stop; what was extracted is in the store.
    """
    try:
        return _run(loaded, plugins, directory, console or Console(), lock_timeout)
    except UserError as error:
        raise type(error)(*map(loaded.placed, error.problems)) from error


def _run(
    loaded: LoadedSpec, plugins: Plugins, directory: Path, console: Console, lock_timeout: float | None
) -> Outcome:
    spec = loaded.spec
    started, clock = datetime.now(UTC), time.monotonic()
    executor = _executor(spec, console)
    _refuse_unwritable(directory)
    with kept_warnings() as told:
        hooks = RunHooks(plugins, [*spec.required_plugins(), *plugins.named])
        hooks.load()
        workers = count_workers(executor) if console.isolate else 1
        origin = environment(started, plugins, spec)
        hooks.emit("on_run_start", spec=spec)
        asked = ask(spec)
        store, digests = open_store(spec), RowDigests(asked.examples)
        readings = read_models(spec, asked, digests, store)
        counts, positions = feature_rows(spec, asked, readings)
        question = asked.question(counts, positions)
        contents, allow = [row.tobytes() for row in digests.of(asked.rows)], spec.splits.allow_leakage
        if spec.data.on_bad_input == "fail":
            question.refuse_duplicates(contents, allow=allow)
        extracted = sum(_extract(spec, one, console, lock_timeout) for one in readings)
        for one in readings:
            one.extraction.refuse_non_finite(asked.examples.columns["id"][asked.rows])
        bad = {place: reason for one in readings for place, reason in one.extraction.bad().items()}
        question = _without(asked, question, counts, positions, bad)
        if spec.data.on_bad_input == "skip":  # files that cannot be read are often alike: empty
            question.refuse_duplicates(contents, allow=allow)
        journal = FitJournal(directory / "fits", question.targets)
        side_by_side = FitWorkers(question.targets, journal, workers, executor)
        measured = Measurement(question, journal, side_by_side)
        with _kept_fits_told(journal, console), side_by_side:
            progress = _fitting_progress(spec, readings, console)
            for one in readings:
                probe_model(spec, one, measured, hooks, progress)
    result = RunResult(
        name=spec.name,
        probes=measured.scorer.probes,
        model=measured.scorer.models,
        graph=_graph_of(readings),
        provenance={
            **origin,
            "command": reproduce_command(loaded, plugins.without, plugins.named),
            **spec_facts(loaded),
            **question_facts(asked, question, bad),
            "models": {one.name: model_facts(one) for one in readings},
            "store": {"path": str(store.root), "dtype": spec.store.dtype},
            "fits": {"resumed": len(journal.found)},
            "executor": side_by_side.facts() if console.isolate else None,
            "seconds": {"extraction": extracted, "fitting": measured.seconds, "total": time.monotonic() - clock},
            "warnings": list(dict.fromkeys([*told, *(f"{FAILED}{text}" for text in measured.failures)])),
        },
    )
    predictions = _predictions(spec, measured.scorer)
    result = _judged(result, predictions, hooks)
    printed, unwritten = _save(spec, result, predictions, measured.scorer, directory, console)
    journal.remove()
    hooks.emit("on_run_end", result=result)
    return Outcome(result, directory, printed, measured.failures, unwritten)


def _executor(spec: Spec, console: Console) -> Executor:
    """Return the executor of the spec, with the processes that the console asks for."""
    executor = spec.executor or LocalExecutor()
    return executor if console.processes is None else with_processes(executor, console.processes)


def _extract(spec: Spec, one: Reading, console: Console, lock_timeout: float | None) -> float:
    if console.isolate:
        return extract_in_child(one.extraction, spec.data, console.tell, console.stop, console.say, lock_timeout)
    return one.extraction.run(console.tell, console.stop, console.say, lock_timeout)


def _fitting_progress(spec: Spec, readings: Sequence[Reading], console: Console) -> FittingProgress:
    """Return the progress of all fits."""
    probes = len(spec.named_probes())
    work = [work_of(one.wanted.width) for reading in readings for one in reading.sets]
    return FittingProgress(console.tell, probes * len(work), probes * sum(work))


@contextmanager
def _kept_fits_told(journal: FitJournal, console: Console) -> Iterator[None]:
    """Say how many fits are kept when they are stopped, whatever stops them."""
    try:
        yield
    except BaseException:
        if journal.kept:
            count = f"{len(journal.kept)} fit{'s are' if len(journal.kept) > 1 else ' is'}"
            console.say(f"{count} kept in {str(journal.folder)!r}; the same command goes on from there")
        raise


def probe_model(
    spec: Spec, one: Reading, measured: Measurement, hooks: RunHooks, progress: FittingProgress | None = None
) -> None:
    """Score a model's own output and fit every probe to every tap, from what the store holds."""
    extraction, question = one.extraction, measured.question
    if one.control is None:
        measured.scorer.saved.add_model(one.name, one.runner.sources, one.runner.example(extraction.rows))
    if one.output is not None and one.backend.output is not None:
        matrix = extraction.matrix(len(one.sets))
        values = np.asarray(matrix)
        if question.positions is not None and len(values) != len(question.owners):
            # One output an example: it is the prediction at each of its positions.
            values = values[(np.cumsum(matrix.counts) - 1)[question.owners]]
        measured.scorer.score_model(one.model, one.checkpoint, one.output.tap.name, one.backend.output, values)
    results = measured.fit(
        one.model, one.checkpoint, one.sets, extraction.matrix, spec.named_probes(), progress,
        memory_budget(spec.memory),
    )  # fmt: skip
    for probe in results:
        hooks.emit("on_probe_fitted", probe=probe)


def _without(
    asked: Asked, question: Question, counts: IntArray, positions: IntArray | None, bad: Mapping[int, str]
) -> Question:
    """Return the question without the examples that could not be read."""
    if not bad:
        return question
    if positions is not None:
        owners = np.repeat(np.arange(len(counts)), counts)
        positions = positions[~np.isin(owners, list(bad))]
    left = counts.copy()
    left[list(bad)] = 0
    some = next(iter(bad.values()))
    text = f"{len(bad)} of {len(counts)} examples could not be read and are left out; the first: {some}"
    warnings.warn(text, ProbekitWarning, stacklevel=2)
    return asked.question(left, positions)


def _graph_of(readings: Sequence[Reading]) -> GraphRecord:
    """Return the tapped tensors of every model, as its first checkpoint has them."""
    taps: list[TapRecord] = []
    edges: list[list[str]] = []
    for one in {one.model: one for one in reversed(readings)}.values():
        chosen = {each.tap.name: each for each in one.sets}
        for name, each in chosen.items():
            tap = each.tap
            shape = None if tap.shape is None else list(tap.shape)
            taps.append(
                TapRecord(
                    model=one.model, tap=each.label, name=name, op=tap.op, shape=shape, dtype=tap.dtype,
                    layout=tap.layout, depth=tap.depth,
                )
            )  # fmt: skip
        edges += [[one.model, chosen[a].label, chosen[b].label] for a, b in one.graph.contract(list(chosen))]
    order = list(dict.fromkeys(one.model for one in readings))
    return GraphRecord(
        taps=sorted(taps, key=lambda tap: order.index(tap.model)), edges=sorted(edges, key=lambda e: order.index(e[0]))
    )


def _predictions(spec: Spec, scorer: Scorer) -> Predictions:
    """Return every feature row's labels, predictions and losses."""
    question = scorer.question
    group = spec.rows.group or spec.splits.group
    ids = question.column("id")
    return Predictions.of(
        ids,
        question.column(group) if group is not None else ids if question.positions is not None else None,
        question.places,
        {label_name(target.factor, target.control, target.seed): target.codes for target in question.targets},
        scorer.predicted,
        scorer.losses,
        scorer.keys,
        question.positions,
    )


def _judged(result: RunResult, predictions: Predictions, hooks: RunHooks) -> RunResult:
    """Return the result with what is compared and found in it, and what plugins' findings warned of."""
    with kept_warnings() as told:
        result = with_mistakes(judge(result, predictions), predictions)
        result = result.model_copy(update={"findings": hooks.findings(result)})
    if told:
        warned = list(dict.fromkeys([*result.provenance["warnings"], *told]))
        result = result.model_copy(update={"provenance": {**result.provenance, "warnings": warned}})
    return result


def _save(
    spec: Spec,
    result: RunResult,
    predictions: Predictions,
    scorer: Scorer,
    directory: Path,
    console: Console,
) -> tuple[dict[str, str], list[Problem]]:
    """Write the result, the predictions and the reports.

    Returns:
        the text of the reports that are printed, by kind, and the problems of those whose plugin raised.
    """
    printed: dict[str, str] = {}
    unwritten: list[Problem] = []
    try:
        write_file(directory / "results.json", result.to_json())
        predictions.write(directory / PREDICTIONS)
        write_confusions(directory / CONFUSIONS, result, predictions)
        rows = {"per": spec.rows.per, "mask": spec.rows.mask}
        models = {name: facts for name, facts in result.provenance["models"].items() if "control" not in facts}
        scorer.saved.write(directory / PROBES, models, rows)
        for report in spec.reports:
            try:
                text = report.render(result, console.width, console.colour)
            except Exception as error:
                plugin = blamed(error)
                if plugin is None:
                    raise
                what = f"report {report.kind!r} of plugin {plugin} raised {type(error).__name__}: {error}"
                unwritten.append(Problem("PK-G02", what, "all else is written; tell its author"))
                continue
            if report.filename is None:
                printed[report.kind] = text
            else:
                write_file(directory / report.filename, text)
    except OSError as error:
        hint = "free some space or name another folder with -o, then run the same command"
        raise MachineError(Problem("PK-R01", f"cannot write to {str(directory)!r}: {error.strerror}", hint)) from error
    return printed, unwritten


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
