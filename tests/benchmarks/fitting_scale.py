"""Fits of matrices that are wide, long, or larger than memory: passes, memory beside its bound, and how a pass grows.

Nothing here is run by itself, but for the processes that fit one matrix each:

    python fitting_scale.py KIND '{"OPTION": VALUE, ...}'
"""

import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fitting_ours as ours
import numpy as np
from fitting_problems import Problem, Read, fashion, synthetic
from fitting_rivals import MOST_ITERATIONS, Contest, Trace, silent, sklearn_model, sklearn_weights, standardised
from fitting_truth import Objective, Standard
from side_by_side import Child, OwnTime, Pairs, interleave, run_child, tell_parent

from probekit.components import FeatureMatrix, Target
from probekit.probes import joint
from probekit.probes.descent import Descent
from probekit.probes.memory import plan_memory
from probekit.store.feature_store import Entry, FeatureStore

_KEY = "0" * 32
_RANGE_BYTES = 64 << 20
SLOPE = (5, 15)
"""Passes of the two fits whose difference is the time of a pass."""
PENALTY = 1e-3
"""λ of all fits here that have one."""
_TIGHT = 1e-8
NEVER = 1e-9
"""A tolerance that no fit reaches in so few passes, so that no head is dropped."""


# --- one pass --------------------------------------------------------------------------------------------------------


def seconds_per_pass(matrix: Any, targets: Sequence[Target], penalties: Sequence[float]) -> OwnTime:
    """Return the seconds of one pass in float32: of two short fits, the difference, so that preparing drops out.

    So early no head is proven or goes on in float64. Where both take as many passes, preparing is counted.
    """
    passes, seconds = [0], [0.0]
    for most in SLOPE:
        begun = time.perf_counter()
        fits = ours.fit(matrix, targets, penalties, NEVER, max_passes=most, arithmetic="float32")
        seconds.append(time.perf_counter() - begun)
        passes.append(max(one.facts.passes for one in fits if one.facts is not None))
    first = 1 if passes[2] > passes[1] else 0
    return OwnTime(fits, max(seconds[2] - seconds[first], 1e-9) / max(1, passes[2] - passes[first]))


@contextmanager
def together(columns: int | None) -> Iterator[None]:
    """Let heads of so many columns be iterated together; those of smaller λ then begin at a neighbour's optimum."""
    if columns is None:
        yield
        return
    with patch.object(
        joint, "plan_memory", lambda *given, **more: replace(plan_memory(*given, **more), columns=columns)
    ):
        yield


def path_seconds(problem: Problem, penalties: Sequence[float], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of a path of λ: all together from 0, in two halves, and one after the other, in turns."""
    halves = problem.classes * (len(penalties) // 2)
    ways = {"together": None, "two halves": halves, "one after the other": problem.classes}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, columns in ways.items():
            with together(columns):
                begun = time.perf_counter()
                ours.fit(problem.features, [problem.target()], penalties)
                found[way].append(time.perf_counter() - begun)
    return found


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of log seconds against log size.

    >>> round(exponent([1, 2, 4], [3.0, 6.0, 12.0]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def growth(rows: int, width: int, classes: int, repeats: int) -> dict[str, tuple[list[int], list[float]]]:
    """Return, by what grows, its sizes and the median seconds of a pass."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for what in ("N", "F", "D", "F·D"):
        sizes, seconds = [], []
        for factor in (1, 2, 4):
            shape = {"N": rows, "F": width, "D": classes}
            for name in what.split("·"):
                shape[name] *= factor
            _tell(f"a pass at {shape}")
            problem = synthetic(shape["N"], shape["F"], shape["D"])
            times = [seconds_per_pass(problem.features, [problem.target()], [PENALTY]).seconds for _ in range(repeats)]
            sizes.append(math.prod(shape[name] for name in what.split("·")))
            seconds.append(statistics.median(times))
        found[what] = (sizes, seconds)
    return found


# --- read from the store in every pass -------------------------------------------------------------------------------


def stored(features: np.ndarray, folder: Path, dtype: str) -> FeatureMatrix:
    """Write features to a store, in row ranges as an extraction does, and return them as a run would get them."""
    store = FeatureStore(folder, durability="fast")
    store.prepare()
    digests = np.random.default_rng(0).integers(0, 256, (len(features), 16), dtype=np.uint8)
    at_once = max(1, _RANGE_BYTES // (4 * features.shape[1]))
    for start in range(0, len(features), at_once):
        part = features[start : start + at_once]
        store.write_range({"": digests[start : start + at_once]}, [Entry(_KEY, "tap", part, dtype)], {})
    return FeatureStore(folder).index([_KEY]).matrix(_KEY, digests)


def streamed_pass(
    problem: Problem, folder: Path, dtype: str, penalties: Sequence[float], repeats: int, warm: int
) -> Pairs:
    """Time a pass over features in the store in turns with one over the same features in memory."""
    matrix, held = stored(problem.features, folder, dtype), problem.features
    if dtype != "float32":
        held = np.asarray(matrix)
    target = [problem.target()]
    return interleave(
        lambda: seconds_per_pass(matrix, target, penalties),
        lambda: seconds_per_pass(held, target, penalties),
        repeats,
        warm,
    )


def same_fit(problem: Problem, folder: Path) -> float:
    """Return how far the logits of a tight streamed fit and one in memory are apart, as a share of the largest."""
    target = [problem.target()]
    both = [ours.fit(matrix, target, [PENALTY], _TIGHT)[0] for matrix in (stored(problem.features, folder, "float32"),
            problem.features)]  # fmt: skip
    streamed, held = (one.logits(problem.features[:1000]).astype(np.float64) for one in both)
    # What is the same for all classes changes no probability.
    streamed, held = (each - each.mean(axis=1, keepdims=True) for each in (streamed, held))
    return float(np.abs(streamed - held).max() / np.abs(held).max())


# --- processes of their own ------------------------------------------------------------------------------------------


@contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Sample the memory of this process that no file stands behind; afterwards ``extra`` is the growth at the most."""
    begun = _anonymous()
    found, done = {"before": begun, "extra": 0}, threading.Event()

    def sample() -> None:
        while not done.wait(0.01):
            found["extra"] = max(found["extra"], _anonymous() - begun)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell RssAnon: memory is measured on Linux only")


@contextmanager
def followed() -> Iterator[list[tuple[float, float]]]:
    """Note the passes so far and the objective after each step of a fit of one head, as SciPy's callback does it.

    Steps whose products are of bfloat16 count as passes; their objectives are not those of X.
    """
    found: list[tuple[float, float]] = []
    descents: list[Descent] = []
    step = Descent.step

    def noted(descent: Descent) -> Any:
        if descent not in descents:
            descents.append(descent)
        stuck = step(descent)
        if descent.dtype.itemsize >= 4:
            found.append((sum(one.passes for one in descents), float(descent.groups[0].objective[0])))
        return stuck

    with patch.object(Descent, "step", noted):
        yield found


def child_fit(options: dict[str, Any]) -> None:
    """Fit one matrix within a bound, tell passes, memory and what is proven."""
    matrix, target = _matrix(options)
    # What is imported on first use is no memory of a fit.
    ours.fit(synthetic(200, 8, 3).features, [synthetic(200, 8, 3).target()], [1.0])
    with watched() as memory, followed() as trace:
        begun = time.perf_counter()
        tolerance = options.get("tolerance", ours.DEFAULT)
        (fitted,) = ours.fit(matrix, [target], [PENALTY], tolerance, options["memory"])
        seconds = time.perf_counter() - begun
    facts, point = fitted.facts, ours.point(fitted, PENALTY)
    assert facts is not None
    assert point.gap is not None
    tell_parent(
        tolerance=tolerance, shape=[len(target.train), matrix.shape[1], len(target.classes)],
        extra=memory["extra"], before=memory["before"], seconds=seconds,
        passes=facts.passes, preconditioner=facts.preconditioner, arithmetic=facts.arithmetic, streamed=facts.streamed,
        status=point.status, objective=point.objective, gap=point.gap, reason=facts.reason, trace=trace,
    )  # fmt: skip


def child_sklearn(options: dict[str, Any]) -> None:
    """Fit the same with scikit-learn's lbfgs until the gap or the limit, tell the gap it got."""
    features, target = _matrix(options)
    codes = target.codes
    objective = Objective(Standard(features), codes, PENALTY)

    def gap_of(found: Any) -> float:
        return float((objective(found) - options["lower"]) / options["lower"])

    contest = Contest(features, codes, PENALTY, gap_of, options["lower"], 1e-4, options["limit"])
    with ours.threads(options["threads"]), watched() as memory, silent():
        X, trace = standardised(features), Trace(contest)
        with trace.attached():
            model = sklearn_model(contest, "lbfgs", MOST_ITERATIONS).fit(X, codes)
        seconds = trace.seconds
    tell_parent(gap=gap_of(sklearn_weights(model)), seconds=seconds, iterations=trace.iterations, extra=memory["extra"])


def _matrix(options: dict[str, Any]) -> tuple[Any, Target]:
    """Return features, held or in the store, and what is asked."""
    if "tap" in options:
        read: Read = fashion([options["tap"]], options["rows"], Path(options["store"]), options["dtype"])
        if options["streamed"]:
            target = read.targets["garment"]
            return read.matrices[options["tap"]], replace(target, valid=target.train[:100])
        problem = read.problem(options["tap"], "garment")
    else:
        problem = synthetic(*options["shape"])
    return problem.features, problem.target()


def in_child(kind: str, **options: Any) -> Child:
    """Run one of the kinds in a process of its own."""
    _tell(f"{kind} {options}")
    return run_child([__file__, kind, json.dumps(options)])


def _tell(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    {"fit": child_fit, "sklearn": child_sklearn}[sys.argv[1]](json.loads(sys.argv[2]))
