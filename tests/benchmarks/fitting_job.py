"""The whole job of a run, every λ of every factor at every tap, true and shuffled, against loops of scikit-learn fits.

Nothing here is run by itself.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fitting_ours as ours
import numpy as np
from fitting_loops import GOAL, Loop, Optima, Task, TwoProcesses, run_loop, search_loop
from fitting_problems import Problem, Read, make_target
from fitting_truth import Objective, Standard
from side_by_side import OwnTime, interleave, print_table, timed

from probekit.components import ArrayMatrix
from probekit.workers import FitTask, FitWorkers

PENALTIES = tuple(np.logspace(0, -4, 8).tolist())
"""The path of λ, the largest first."""
_ROUNDING = 1e-7
PROCESSES = "1 in each of 2 processes"
"""How many threads a job takes that a run would do side by side; they are there before the time begins."""


def tasks_of(read: Read, factors: Sequence[str], taps: int | None, rows: int | None) -> list[Task]:
    """Return the tasks of what was read: its first taps and rows."""
    made = []
    for tap in list(read.matrices)[:taps]:
        labels, features = {}, np.zeros((0, 0), np.float32)
        for factor in factors:
            problem: Problem = read.problem(tap, factor, rows)
            features = problem.features
            labels[factor] = problem.codes
            labels[f"{factor}, shuffled"] = np.random.default_rng(0).permutation(problem.codes)
        made.append(Task(tap, features, labels))
    return made


def optima(tasks: Sequence[Task], penalties: Sequence[float]) -> Optima:
    """Return the references: our fits at a tight tolerance; one head a tap is proven again in NumPy."""
    found = Optima()
    for number, task in enumerate(tasks):
        for tolerance in ours.TIGHT:
            fits = ours.fit(task.features, _targets(task), penalties, tolerance)
            points = {
                (label, place): ours.point(fitted, penalty)
                for label, fitted in zip(task.labels, fits, strict=True)
                for place, penalty in enumerate(penalties)
            }
            width = max((one.gap or 0.0) / one.objective for one in points.values())
            if width <= ours.WIDE:
                break
        found.width = max(found.width, width)
        for (label, place), point in points.items():
            assert point.gap is not None
            found.lower[task.tap, label, place] = point.objective - point.gap
        place, label = number % len(penalties), list(task.labels)[number % len(task.labels)]
        X = Standard(task.features)
        (again,) = ours.fit(task.features, [make_target(task.labels[label])], [penalties[place]], tolerance)
        proof = Objective(X, task.labels[label], penalties[place]).prove(ours.weights(again, X))
        lower = found.lower[task.tap, label, place]
        # Each objective is above the other's lower bound, but for the engine's features, standardised in float32.
        if proof.objective < lower * (1 - _ROUNDING):
            raise RuntimeError(f"{task.tap}, {label}: an objective of {proof.objective!r} below the bound {lower!r}")
        found.checked = max(found.checked, abs(proof.objective - lower) / proof.objective)
    return found


# --- ours ------------------------------------------------------------------------------------------------------------


def _targets(task: Task) -> list[Any]:
    return [make_target(codes, None if "shuffled" not in label else "shuffled_labels", label) for label, codes in
            task.labels.items()]  # fmt: skip


def our_job(
    tasks: Sequence[Task], penalties: Sequence[float], tolerance: float, workers: FitWorkers | None = None
) -> list[Any]:
    """Fit all heads of all taps, one tap after the other, or in processes as a run does."""
    if workers is None:
        return [ours.fit(task.features, _targets(task), penalties, tolerance) for task in tasks]
    probe, places = ours.probe(penalties, tolerance), range(len(tasks))
    asked = list(range(len(tasks[0].labels)))
    waiting = [FitTask((n,), (), probe, ArrayMatrix(tasks[n].features), asked, None) for n in places]
    futures = [workers.submit(one) for one in waiting]
    found = [workers.wait(future, one, lambda _: None) for future, one in zip(futures, waiting, strict=True)]
    if any(one is None for one in found):
        raise RuntimeError("a fit failed in its process")
    return found


def largest_gap(tasks: Sequence[Task], penalties: Sequence[float], fits: Sequence[Any], lower: Optima) -> float:
    """Return the largest true gap of all heads of our job."""
    most = -np.inf
    for task, fitted in zip(tasks, fits, strict=True):
        for label, one in zip(task.labels, fitted, strict=True):
            for place, penalty in enumerate(penalties):
                least = lower.lower[task.tap, label, place]
                most = max(most, (ours.point(one, penalty).objective - least) / least)
    return most


# --- all of it -------------------------------------------------------------------------------------------------------


@dataclass
class Job:
    """What was found; seconds are medians."""

    what: str
    ratios: dict[str, float]
    rows: list[tuple[str, ...]]
    facts: dict[str, Any]


def measure(
    tasks: Sequence[Task],
    penalties: Sequence[float],
    repeats: int,
    limit: float,
    folder: Path,
    counts: Sequence[int],
) -> Job:
    """Find references and settings, time all in turns, return the table.

    Args:
        tasks: the taps.
        penalties: the path, the largest first.
        repeats: timed pairs of each loop and our job.
        limit: seconds that a fit of scikit-learn may take in the search.
        folder: for what the processes read.
        counts: of threads, to try.
    """
    _tell("the job: references")
    lower = optima(tasks, penalties)
    for tolerance in ours.TOLERANCES:
        _tell(f"the job: ours at tolerance {tolerance:g}")
        fits = our_job(tasks, penalties, tolerance)
        gap = largest_gap(tasks, penalties, fits, lower)
        if gap <= GOAL:
            break
    loops: dict[str, Loop] = {}
    with ours.threads(1):
        for task in tasks:
            _tell(f"the job: scikit-learn at {task.tap}")
            loops[task.tap] = search_loop(task, penalties, lower, limit)

    def one_process(some: Sequence[Task] = tasks) -> OwnTime:
        return OwnTime(None, sum(run_loop(task.features, task.labels, penalties, loops[task.tap]) for task in some))

    def at(count: int, call: Callable[[], Any]) -> OwnTime:
        with ours.threads(count):
            begun = time.perf_counter()
            returned = call()
            return returned if isinstance(returned, OwnTime) else OwnTime(returned, time.perf_counter() - begun)

    def ours_at(how: int | str, tolerance: float = tolerance) -> OwnTime:
        if how == PROCESSES:
            return at(1, lambda: our_job(tasks, penalties, tolerance, workers))
        return at(int(how), lambda: our_job(tasks, penalties, tolerance))

    _tell("the job: thread counts")
    side_by_side = all(
        ours.probe(penalties, tolerance).side_by_side(*task.features.shape, _targets(task)) for task in tasks
    )
    workers = FitWorkers(_targets(tasks[0]), count=2)
    hows: list[int | str] = [*counts, *([PROCESSES] if side_by_side else [])]
    our_count = min(hows, key=lambda how: timed(lambda: ours_at(how)))
    middle = sorted(tasks, key=lambda task: loops[task.tap].seconds)[len(tasks) // 2]
    their_count = min(counts, key=lambda count: timed(lambda: at(count, lambda: one_process([middle]))))
    _tell("the job: timed pairs")
    single = interleave(lambda: at(their_count, one_process), lambda: ours_at(our_count), repeats, warm=0)
    pool = TwoProcesses(tasks, loops, penalties, folder)
    try:
        double = interleave(pool, lambda: ours_at(our_count), repeats, warm=0)
        default = [ours_at(our_count, ours.DEFAULT) for _ in range(repeats)]
    finally:
        pool.close()
        workers.__exit__(None)
    statuses = [one.status for fitted in default[0].result for head in fitted for one in head.facts.path]
    default_gap = largest_gap(tasks, penalties, default[0].result, lower)
    heads = len(penalties) * sum(len(task.labels) for task in tasks)
    sizes = [task.features.shape for task in tasks]
    worst = max(loop.gap for loop in loops.values())
    iterations = sum(sum(counts) for loop in loops.values() for _, counts in loop.counts.values())
    mine = statistics.median([*single.other, *double.other])
    default_seconds = statistics.median(one.seconds for one in default)
    proven = f"{statuses.count('proven')} of {len(statuses)} proven"
    rows = [
        ("", "setting", "threads", "seconds", "largest gap", "times ours", "quartiles"),
        ("probekit", f"tolerance={tolerance:g}", str(our_count), f"{mine:.4g}", f"{gap:.1e}", "1.00", ""),
        (
            "probekit, default", f"tolerance={ours.DEFAULT:g}, {proven}", str(our_count), f"{default_seconds:.4g}",
            f"{default_gap:.1e}", f"{default_seconds / mine:.2f}", "",
        ),
    ]  # fmt: skip
    for who, pairs, threads in (
        ("scikit-learn lbfgs, one process", single, str(their_count)),
        ("scikit-learn lbfgs, two processes", double, "1 each"),
    ):
        low, high = pairs.quartiles
        setting = f"{iterations} iterations, warm starts"
        cells = (
            f"{statistics.median(pairs.bare):.4g}",
            f"{worst:.1e}",
            f"{pairs.ratio:.2f}",
            f"{low:.2f} - {high:.2f}",
        )
        rows.append((who, setting, threads, *cells))
    grown = sum(head.facts.grown for fitted in fits for head in fitted)
    return Job(
        f"{len(tasks)} taps, {heads} heads: N = {sizes[0][0]}, F = {min(f for _, f in sizes)} to "
        f"{max(f for _, f in sizes)}, D = {sorted({int(c.max()) + 1 for c in tasks[0].labels.values()})}",
        {"one process": single.ratio, "two processes": double.ratio},
        rows,
        {
            "reference_width": lower.width,
            "checked_in_numpy": lower.checked,
            "grown": grown,
            "passes": sum(max(head.facts.passes for head in fitted) for fitted in fits),
            "float64_targets": sum(dtype == "float64" for loop in loops.values() for dtype, _ in loop.counts.values()),
        },
    )


def show(job: Job) -> None:
    """Print the table."""
    facts = job.facts
    print(job.what)
    print(
        f"  optima proven to {facts['reference_width']:.1e} of the objective by the engine; in NumPy, one head a tap, "
        f"the objective lies {facts['checked_in_numpy']:.1e} above them at most"
    )
    print_table(job.rows)
    print(
        f"  passes over X, all taps: {facts['passes']}; λ added by growing paths, which scikit-learn does not fit: "
        f"{facts['grown']}; label sets for which float32 was not enough for scikit-learn: {facts['float64_targets']}",
        flush=True,
    )


def _tell(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)
