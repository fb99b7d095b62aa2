"""Loops of warm-started scikit-learn fits over a path of λ, in one process and in two; nothing is run by itself."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from fitting_rivals import MOST_ITERATIONS, Contest, Trace, silent, sklearn_model, sklearn_weights, standardised
from fitting_truth import Objective, Standard

GOAL = 1e-4
"""The true gap of every fit that is timed, as a share of the objective."""


@dataclass(frozen=True)
class Task:
    """One tap, and all labels that are asked of it.

    Args:
        tap: its name.
        features: of the training rows.
        labels: codes by name, true and shuffled.
    """

    tap: str
    features: np.ndarray
    labels: dict[str, np.ndarray]


@dataclass
class Optima:
    """The optimum of every head from below, by (tap, label, number of λ), and what is known of it.

    Args:
        lower: proven.
        width: of the widest, as a share of the objective.
        checked: how far the engine's own proof lies from one in NumPy, on a sample, as a share of the objective.
    """

    lower: dict[tuple[str, str, int], float] = field(default_factory=dict)
    width: float = 0.0
    checked: float = 0.0


@dataclass(frozen=True)
class Loop:
    """The cheapest warm-started loop of scikit-learn fits that gets every head of a tap within the gap.

    Args:
        counts: by label: the dtype, and the iterations at each λ, the largest first.
        gap: the largest of its heads.
        seconds: that its fits took while the counts were searched.
    """

    counts: dict[str, tuple[str, tuple[int, ...]]]
    gap: float
    seconds: float


def search_loop(task: Task, penalties: Sequence[float], lower: Optima, limit: float) -> Loop:
    """Follow SciPy from outside through the whole path, stopping each fit where its true gap is small enough."""
    X64 = Standard(task.features)
    rows = {dtype: standardised(task.features, dtype) for dtype in ("float32", "float64")}
    counts, most, seconds = {}, -np.inf, 0.0
    for label, codes in task.labels.items():
        for dtype, X in rows.items():
            made, gaps, model = [], [], None
            for place, penalty in enumerate(penalties):
                objective, least = Objective(X64, codes, penalty), lower.lower[task.tap, label, place]

                def gap_of(found: Any, objective: Any = objective, least: float = least) -> float:
                    return float((objective(found) - least) / least)

                contest = Contest(task.features, codes, penalty, gap_of, least, GOAL, limit)
                model = _next(model, contest, MOST_ITERATIONS)
                trace = Trace(contest)
                with trace.attached(), silent():
                    model.fit(X, codes)
                made.append(max(trace.iterations, 1))
                gaps.append(gap_of(sklearn_weights(model)))
                seconds += trace.seconds
            counts[label] = (dtype, tuple(made))
            if max(gaps) <= GOAL:
                break
        most = max(most, *gaps)
    return Loop(counts, most, seconds)


def _next(model: Any, contest: Contest, count: int) -> Any:
    if model is None:
        return sklearn_model(contest, "lbfgs", count, warm_start=True)
    return model.set_params(C=contest.inverse_penalty, max_iter=count)


def run_loop(features: np.ndarray, labels: dict[str, np.ndarray], penalties: Sequence[float], loop: Loop) -> float:
    """Standardise and fit all heads of a tap; return the seconds."""
    begun = time.perf_counter()
    rows: dict[str, np.ndarray] = {}
    with silent():
        for label, (dtype, counts) in loop.counts.items():
            if dtype not in rows:
                rows[dtype] = standardised(features, dtype)
            model = None
            for penalty, count in zip(penalties, counts, strict=True):
                contest = Contest(features, labels[label], penalty, lambda _: 0.0, 0.0)
                model = _next(model, contest, count)
                model.fit(rows[dtype], labels[label])
    return time.perf_counter() - begun


_GIVEN: dict[str, Any] = {}


def _prepare(folder: str, loops: dict[str, Loop], penalties: Sequence[float]) -> None:
    """Read, in a process of the pool, what it may be asked, and fit once so that all is imported."""
    import sklearn.linear_model  # noqa: F401 - what a process imports is not timed
    from threadpoolctl import threadpool_limits

    _GIVEN["limits"] = threadpool_limits(1)
    _GIVEN["loops"], _GIVEN["penalties"] = loops, penalties
    for number, tap in enumerate(loops):
        with np.load(Path(folder, f"{number}.npz")) as given:
            labels = {name.removeprefix("label "): given[name] for name in given if name != "features"}
            _GIVEN[f"tap {tap}"] = (given["features"], labels)


def _fit_tap(tap: str) -> float:
    features, labels = _GIVEN[f"tap {tap}"]
    return run_loop(features, labels, _GIVEN["penalties"], _GIVEN["loops"][tap])


def _whoami(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


class TwoProcesses:
    """The same loops in two processes of one thread each, the longest taps first; they have read all beforehand."""

    def __init__(self, tasks: Sequence[Task], loops: dict[str, Loop], penalties: Sequence[float], folder: Path) -> None:
        for number, task in enumerate(tasks):
            labels = {f"label {name}": codes for name, codes in task.labels.items()}
            np.savez(folder / f"{number}.npz", features=task.features, **labels)
        self.order = sorted(loops, key=lambda tap: -loops[tap].seconds)
        self.pool = ProcessPoolExecutor(
            2, get_context("spawn"), initializer=_prepare, initargs=(str(folder), loops, tuple(penalties))
        )
        while len(set(self.pool.map(_whoami, [0.2] * 4))) < 2:
            pass

    def __call__(self) -> None:
        list(self.pool.map(_fit_tap, self.order))

    def close(self) -> None:
        self.pool.shutdown()
