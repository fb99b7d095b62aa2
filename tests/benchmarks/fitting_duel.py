"""One head, fitted by us and by rivals to the same true gap, timed in turns. Nothing here is run by itself."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import fitting_ours as ours
from fitting_loops import GOAL
from fitting_problems import Problem
from fitting_rivals import Contest, Found, Rival, result
from fitting_truth import Standard
from side_by_side import OwnTime, interleave, print_table, timed

_SHORT = 2.0
"""Seconds below which thread counts are compared by the best of three."""


def thread_counts() -> list[int]:
    """Return the thread counts to try: one, and one a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({1, min(2, cores), cores})


@dataclass(frozen=True)
class Effort:
    """How much is done for a figure.

    Args:
        repeats: timed pairs of each rival and us.
        limit: seconds that a rival's search, and a fit of it, may take.
        budget: seconds that the timed pairs of one rival may take, a fifth of that where another one is twice as fast;
            one pair is timed at least.
        cross_check: flops of a pass up to which a reference is compared with scikit-learn's optimum.
    """

    repeats: int = 5
    limit: float = 300.0
    budget: float = 300.0
    cross_check: float = 6e8

    def pairs(self, seconds: float, fastest: float = float("inf")) -> int:
        """Return how many pairs to time of a rival that takes so many seconds, the fastest so far."""
        budget = self.budget / (5 if seconds > 2 * fastest else 1)
        return max(1, min(self.repeats, int(budget / max(seconds, 1e-9))))

    def limit_after(self, fastest: float) -> float:
        """Return the limit of a rival's search: it is given up where it takes four times as long as another one."""
        return min(self.limit, 4 * fastest + 5)


@dataclass
class Line:
    """One row of the table.

    Args:
        who: and with what setting.
        threads: its best count.
        seconds: the median.
        gap: that its timed fits reached, the largest.
        ratio: its seconds ÷ ours, over the pairs.
        reached: whether it got to the gap; where not, the ratio is at least that.
        quartiles: of the ratio.
        note: where there is nothing else to say.
    """

    who: str
    setting: str = ""
    threads: int = 0
    seconds: float = float("nan")
    gap: float = float("nan")
    ratio: float | None = None
    reached: bool = True
    quartiles: tuple[float, float] | None = None
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        if self.note:
            return (self.who, self.note, "", "", "", "", "")
        ratio = "" if self.ratio is None else f"{'' if self.reached else '> '}{self.ratio:.2f}"
        quartiles = "" if self.quartiles is None else f"{self.quartiles[0]:.2f} - {self.quartiles[1]:.2f}"
        seconds = f"{self.seconds:.4g}"
        return (self.who, self.setting, str(self.threads), seconds, f"{self.gap:.1e}", ratio, quartiles)


@dataclass
class Duel:
    """What was found of one problem at one λ."""

    problem: str
    penalty: float
    reference_width: float
    reference: str
    cross_check: float | None = None
    lines: list[Line] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def ratio(self, *names: str) -> float | None:
        """Return how many times as long as we the fastest of some rivals takes; None where none was measured.

        Where none got to the gap, it is what they took at least.
        """
        there = [line for line in self.lines if line.who in names and line.ratio is not None]
        reached = [line for line in there if line.reached] or there
        return min((line.ratio for line in reached if line.ratio is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def at_best_threads(call: Callable[[], Any]) -> tuple[int, float]:
    """Return the thread count at which a call is fastest, and the seconds there."""
    seconds = {}
    for count in thread_counts():
        with ours.threads(count):
            seconds[count] = timed(call)
            if seconds[count] < _SHORT:
                seconds[count] = min(seconds[count], *(timed(call) for _ in range(2)))
    best = min(seconds, key=lambda count: seconds[count])
    return best, seconds[best]


def duel(problem: Problem, X: Standard, penalty: float, rivals: Sequence[Rival], effort: Effort) -> Duel:
    """Find everyone's cheapest setting, time all in turns with us, and return the table."""
    _tell(f"{problem}, λ = {penalty:g}: reference")
    # Fewer classes than that are slower on several threads, for everyone.
    many = max(thread_counts()) if problem.classes >= 64 else 1
    with ours.threads(many):
        reference = ours.reference(problem, X, penalty)
        found = Duel(str(problem), penalty, reference.width, reference.how)
        if 4 * problem.features.size * problem.classes <= effort.cross_check:
            exact = ours.exact_sklearn(X, problem, penalty)
            found.cross_check = reference.gap(exact)
        _tell("ours")
        tolerance, gap, loose = ours.loosest(problem, X, penalty, reference.gap, GOAL)
    target = [problem.target()]

    def our_fit(tolerance: float = tolerance) -> Any:
        return ours.fit(problem.features, target, [penalty], tolerance)[0]

    our_threads, our_seconds = at_best_threads(our_fit)
    default_threads, _ = at_best_threads(lambda: our_fit(ours.DEFAULT))
    mine: list[float] = []
    fastest = float("inf")
    for rival in rivals:
        _tell(rival.name)
        limit = effort.limit_after(fastest)
        contest = Contest(problem.features, problem.codes, penalty, reference.gap, reference.lower, GOAL, limit)
        with ours.threads(many):
            best = rival.search(contest)
        if isinstance(best, str):
            found.lines.append(Line(rival.name, note=best))
        elif best.gap > GOAL:
            at_least = best.seconds / our_seconds
            found.lines.append(Line(rival.name, best.setting, many, best.seconds, best.gap, at_least, reached=False))
        else:
            line = _timed(rival.name, best, contest, our_fit, our_threads, (our_seconds, fastest), effort, mine)
            found.lines.append(line)
            fastest = min(fastest, line.seconds)
    if not mine:
        with ours.threads(our_threads):
            mine += [timed(our_fit) for _ in range(effort.repeats)]
    with ours.threads(default_threads):
        seconds = [timed(lambda: our_fit(ours.DEFAULT)) for _ in range(effort.pairs(our_seconds))]
        default = our_fit(ours.DEFAULT)
    with ours.threads(our_threads):
        peak, rate = ours.peak_pass(*problem.features.shape, problem.classes)
    first = Line("probekit", f"tolerance={tolerance:g}", our_threads, statistics.median(mine), gap, 1.0)
    second = Line(
        "probekit, default",
        f"tolerance={ours.DEFAULT:g}, {default.certificate.status}, bound "
        f"{default.certificate.of_objective or float('nan'):.1e} of the objective",
        default_threads,
        statistics.median(seconds),
        reference.gap(ours.weights(default, X)),
        statistics.median(seconds) / first.seconds,
    )
    found.lines[:0] = [first, second]
    assert loose.facts is not None
    found.facts = {
        "passes": loose.facts.passes,
        "passes_default": default.facts.passes,
        "preconditioner": loose.facts.preconditioner,
        "arithmetic": loose.facts.arithmetic,
        "peak_pass_seconds": peak,
        "peak_gflops": rate,
        "of_peak_passes": first.seconds / peak,
        "status_default": default.certificate.status,
    }
    return found


def _timed(
    name: str,
    best: Found,
    contest: Contest,
    our_fit: Callable[[], Any],
    our_threads: int,
    seconds_so_far: tuple[float, float],
    effort: Effort,
    mine: list[float],
) -> Line:
    """Time a rival in turns with us, both at their best thread counts; ``seconds_so_far``: ours, and the fastest's."""
    count, seconds = at_best_threads(best.fit)
    gaps: list[float] = []

    def rival_fit() -> OwnTime:
        with ours.threads(count):
            begun = time.perf_counter()
            returned = best.fit()
            elapsed = time.perf_counter() - begun
        gaps.append(contest.gap(result(returned)))
        return returned if isinstance(returned, OwnTime) else OwnTime(returned, elapsed)

    def ours_fit() -> OwnTime:
        with ours.threads(our_threads):
            begun = time.perf_counter()
            returned = our_fit()
            return OwnTime(returned, time.perf_counter() - begun)

    pairs = interleave(rival_fit, ours_fit, effort.pairs(seconds + seconds_so_far[0], seconds_so_far[1]), warm=0)
    mine += pairs.other
    # Other threads sum in another order: at the same count of iterations the gap may be a hair larger.
    return Line(name, best.setting, count, statistics.median(pairs.bare), max(gaps), pairs.ratio, pairs.quartiles)


def show(found: Duel) -> None:
    """Print the table of one duel."""
    checked = ""
    if found.cross_check is not None:
        checked = f"; scikit-learn's, tol=1e-10 in float64, lies {found.cross_check:+.1e} from it"
    print(f"\n{found.problem}, λ = {found.penalty:g}")
    print(f"  optimum: {found.reference}, proven to {found.reference_width:.1e} of the objective{checked}")
    heading = ("", "setting", "threads", "seconds", "true gap", "times ours", "quartiles")
    print_table([heading, *(line.cells() for line in found.lines)])
    facts = found.facts
    print(
        f"  passes {facts['passes']} (default {facts['passes_default']}), {facts['preconditioner']}, "
        f"{' then '.join(facts['arithmetic'])}; the fit takes as long as {facts['of_peak_passes']:.1f} passes of bare "
        f"float32 products ({1e3 * facts['peak_pass_seconds']:.2f} ms each, {facts['peak_gflops']:.0f} GFLOP/s)",
        flush=True,
    )


def _tell(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)
