"""The sections of the benchmark of fits. Nothing here is run by itself."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import fitting_duel as duels
import fitting_job as jobs
import fitting_ours as ours
import fitting_problems as problems
import fitting_scale as scale
import numpy as np
from fitting_others import Cyanure, PypiProbekit, TorchLbfgs
from fitting_rivals import SklearnLbfgs, SklearnOther
from fitting_truth import Standard
from side_by_side import megabytes, print_table, verdict

SKLEARN = ("scikit-learn lbfgs", "scikit-learn newton-cg", "scikit-learn newton-cholesky", "scikit-learn saga")
PATH = (1e-2, 1e-3, 1e-4)
_TOLERANCES = {False: (ours.DEFAULT, 1e-5), True: (ours.DEFAULT,)}
"""Of (d), where rows are held and where they are read; the tightest one encloses the optimum."""
_MANY_CLASSES = 1000
_FOR_MANY_CLASSES = ("scikit-learn lbfgs", "scikit-learn newton-cg", "torch LBFGS")
"""The others take minutes for an iteration, or hours to the goal."""


@dataclass
class Bench:
    """What is asked, and what was found.

    Args:
        quick: small sizes, for a look.
        effort: repeats and limits.
        cache: the folder of extracted features.
        peer: the folder of the other project's package.
        rows: training rows of (c); None for all.
        memory: bytes that the fits of (d) and (size) may take beside their features.
        names: of the rivals; empty for all.
        match: what a problem's name must hold.
        json: all figures.
        verdicts: one line a target.
        absent: how to make what is not there.
    """

    quick: bool
    effort: duels.Effort
    cache: Path
    peer: Path | None
    rows: int | None
    memory: int
    names: tuple[str, ...] = ()
    match: str = ""
    json: dict[str, Any] = field(default_factory=dict)
    verdicts: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        if not problems.is_there(name):
            self.absent.append(f"{name}: {problems.HOW_TO_MAKE[name]}")
            return False
        return True

    def rivals(self, *more: Any) -> list[Any]:
        import torch

        every = [SklearnLbfgs(), *(SklearnOther(solver) for solver in ("newton-cg", "newton-cholesky", "saga"))]
        every += [TorchLbfgs(), Cyanure(torch.get_num_threads), *more]
        if self.quick and not self.names:
            return [one for one in every if one.name in {"scikit-learn lbfgs", "scikit-learn newton-cg"} or one in more]
        return [one for one in every if not self.names or one.name in self.names]

    def duel(self, section: str, problem: problems.Problem, penalties: Any, rivals: Any) -> list[duels.Duel]:
        found: list[duels.Duel] = []
        X = Standard(problem.features) if self.match in problem.name else None
        for penalty in penalties if X is not None else ():
            found.append(duels.duel(problem, X, penalty, rivals, self.effort))
            duels.show(found[-1])
        self.json.setdefault(section, []).extend(one.as_json() for one in found)
        return found

    def judge(self, what: str, found: float | None, least: float, goal: float | None = None, **how: bool) -> None:
        self.verdicts.append(verdict(what, found, least, goal, **how))


# --- sections --------------------------------------------------------------------------------------------------------


def one_head_of_ten(bench: Bench) -> None:
    if not bench.has("fashion"):
        return
    taps = ["conv1 pooled", "conv2, 1000 random", "fc1"][: 1 if bench.quick else 3]
    for tap in taps:
        rows = 1000 if bench.quick else 15_000 if tap.startswith("conv2") else 20_000
        problem = problems.fashion([tap], rows, bench.cache).problem(tap, "garment")
        for found in bench.duel("a", problem, PATH[1:2] if bench.quick else PATH, bench.rivals()):
            what = f"(a) {tap}, λ = {found.penalty:g}, times scikit-learn's lbfgs"
            bench.judge(what, found.ratio("scikit-learn lbfgs"), 3, 8)


def many_classes(bench: Bench) -> None:
    shapes = [(1000, 128, 20)] if bench.quick else [(12_000, 2048, 100), (20_000, 2048, 1000)]
    for shape in shapes:
        problem = problems.synthetic(*shape)
        few = bench.quick or problem.classes >= _MANY_CLASSES
        rivals = [rival for rival in bench.rivals() if not few or rival.name in _FOR_MANY_CLASSES]
        for found in bench.duel("b", problem, (1e-2,) if few else (1e-2, 1e-3), rivals):
            what = f"(b) D = {problem.classes}, λ = {found.penalty:g}, times scikit-learn's best"
            bench.judge(what, found.ratio(*SKLEARN), 3, 5)


def whole_job(bench: Bench) -> None:
    if bench.quick:
        if bench.has("fashion"):
            read = problems.fashion(["conv1 pooled"], 500, bench.cache)
            _job(bench, "quick", jobs.tasks_of(read, ["worn"], 1, bench.rows), jobs.PENALTIES[2:4])
        return
    pooled, random = {"kind": "pool"}, {"kind": "subset", "features": 1000}
    emoji = partial(problems.efficientnet, bench.cache)
    kinds = {"emoji": ("efficientnet", emoji, ["group", "luminance"], 1)}
    if bench.has("fashion"):
        # scikit-learn takes a minute for a tap of the last two: every fourth.
        for data, network, rows, reduction, every in (
            ("Fashion, EfficientNet-Lite0 pooled", "efficientnet", 8000, pooled, 1),
            ("Fashion, EfficientNet-Lite0 1000 random", "efficientnet", 4000, random, 4),
            ("Fashion, ResNet-50 pooled", "resnet50", 4000, pooled, 4),
        ):
            read = partial(problems.enlarged_fashion, bench.cache, network, rows, reduction)
            kinds[data] = (network, read, ["garment", "worn"], every)
    if not any(bench.match in data for data in kinds):
        bench.absent.append(f"(c): --match {bench.match!r} is in none of {', '.join(map(repr, kinds))}")
    for data, (network, read, factors, every) in kinds.items():
        if bench.match in data and (network == "resnet50" or bench.has(network)):
            _job(bench, data, jobs.tasks_of(read(), factors, None, bench.rows)[::every], jobs.PENALTIES)


def _job(bench: Bench, data: str, tasks: Sequence[jobs.Task], penalties: Sequence[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = jobs.measure(
            tasks, penalties, bench.effort.repeats, bench.effort.limit, Path(folder), duels.thread_counts()
        )
    print(f"\n(c) {data}")
    jobs.show(found)
    bench.json.setdefault("c", []).append({"data": data, **vars(found)})
    bench.judge(f"(c) {data}: whole job, times a loop in one process", found.ratios["one process"], 8, 15)
    bench.judge(f"(c) {data}: whole job, times loops in two processes", found.ratios["two processes"], 4, 8)


def raw_features(bench: Bench) -> None:
    if bench.quick:
        told = scale.in_child("fit", shape=(300, 3000, 10), memory=bench.memory).told
        print("\n(d) made features, λ = 0.001")
        print_table([_CHILD_HEADING, _child_cells(told, bench.memory)])
        bench.json["d"] = [told]
        return
    if not bench.has("fashion"):
        return
    tap, held, read = "relu1, raw", 10_000, 50_000
    given: dict[str, Any] = {"tap": tap, "store": str(bench.cache), "dtype": "float16", "memory": bench.memory}
    rows = [("tolerance", *_CHILD_HEADING)]
    lowest: dict[int, float] = {}
    for count, streamed in ((held, False), (read, True)):
        problems.fashion([tap], count, bench.cache, "float16")
        fits = [
            scale.in_child("fit", **given, rows=count, streamed=streamed, tolerance=tolerance).told
            for tolerance in _TOLERANCES[streamed]
        ]
        lowest[count] = max(one["objective"] - one["gap"] for one in fits)
        goal = lowest[count] * (1 + jobs.GOAL)
        # A bound of 1e-4 of the objective is a hair less than one of 1e-4 of the optimum.
        proven = [one["passes"] for one in fits if one["status"] == "proven"]
        passes = min([at for one in fits for at, objective in one["trace"] if objective <= goal] + proven, default=None)
        rows += [(f"{one['tolerance']:g}", *_child_cells(one, bench.memory)) for one in fits]
        bench.json.setdefault("d", []).extend(fits)
        where = "read from the store" if streamed else "in memory"
        bench.judge(f"(d) {count} rows {where}: passes to a true gap of 1e-4, at most", passes, 100, at_most=True)
        most = max(one["extra"] for one in fits)
        bench.judge(f"(d) {count} rows {where}: memory, of its bound", most / bench.memory, 1, at_most=True)
    print(f"\n(d) {tap}, λ = 0.001; memory: what the fit takes beside its features, in MB of the bound")
    print_table(rows)
    for count in duels.thread_counts():
        options = given | {"rows": held, "streamed": False, "lower": lowest[held], "threads": count}
        told = scale.in_child("sklearn", **options, limit=bench.effort.limit).told
        bench.json["d"].append(told | {"threads": count})
        print(
            f"  scikit-learn lbfgs, float32, {held} rows in memory, {count} threads: gap {told['gap']:.1e} at most "
            f"after {told['seconds']:.0f} s, {told['iterations']} iterations; memory {megabytes(told['extra'])} MB"
        )


def untuned_taps(bench: Bench) -> None:
    penalties = PATH[1:2] if bench.quick else PATH[:2]
    chosen: list[tuple[str, str, Callable[[Path], problems.Read], list[str]]] = [
        ("mnist", "digit", problems.mnist, ["input", "features.2", "features.5", "classifier.1"]),
        ("magika", "extension", problems.magika, ["embedding", "conv", "max", "norm_1"]),
        ("efficientnet", "group", problems.efficientnet, ["_blocks.2", "_blocks.8", "_blocks.15"]),
    ]
    for name, factor, read, taps in chosen[: 1 if bench.quick else None]:
        if not bench.has(name):
            continue
        there, rows = read(bench.cache), 1000 if bench.quick else None
        for tap in taps[-1:] if bench.quick else taps:
            for found in bench.duel("taps", there.problem(tap, factor, rows), penalties, [SklearnLbfgs()]):
                what = f"(taps) {name} {tap}, λ = {found.penalty:g}, times scikit-learn's lbfgs"
                bench.judge(what, found.ratio("scikit-learn lbfgs"), 3)


def two_classes(bench: Bench) -> None:
    import torch

    if not bench.has("fashion"):
        return
    for tap in ["conv1 pooled", "fc1"][: 1 if bench.quick else 2]:
        problem = problems.fashion([tap], 1000 if bench.quick else 20_000, bench.cache).problem(tap, "garment")
        # Footwear or not.
        problem = problems.Problem(
            f"{tap}, footwear", problem.features, np.isin(problem.codes, (5, 7, 9)).astype(np.int64)
        )
        rivals = bench.rivals(PypiProbekit(bench.peer, torch.get_num_threads))
        bench.duel(
            "binary",
            problem,
            PATH[1:2] if bench.quick else PATH[:2],
            rivals,
        )


def streamed_passes(bench: Bench) -> None:
    shape = (1000, 64, 10) if bench.quick else (20_000, 1000, 10)
    problem = problems.synthetic(*shape)
    rows = [("features in the store", "head columns", "ms a pass", "in memory", "ratio", "quartiles")]
    many = np.logspace(-2, -4, 16).tolist()
    warm = 0 if bench.quick else 1
    for dtype in ("float32",) if bench.quick else ("float32", "float16"):
        for penalties, most in ((many, 1.15), ([scale.PENALTY], 1.4)):
            with tempfile.TemporaryDirectory() as folder:
                pairs = scale.streamed_pass(problem, Path(folder), dtype, penalties, bench.effort.repeats, warm)
            columns = len(penalties) * problem.classes
            both = [f"{1e3 * float(np.median(part)):.2f}" for part in (pairs.bare, pairs.other)]
            low, high = pairs.quartiles
            rows.append((dtype, str(columns), *both, f"{pairs.ratio:.2f}", f"{low:.2f} - {high:.2f}"))
            bench.judge(
                f"(stream) {dtype}, {columns} head columns, of the pass in memory", pairs.ratio, most, at_most=True
            )
            bench.json.setdefault("stream", []).append({"dtype": dtype, "columns": columns, "ratio": pairs.ratio})
    with tempfile.TemporaryDirectory() as folder:
        apart = scale.same_fit(problem, Path(folder))
    print(
        f"\n(stream) N, F, D = {shape}, warm; logits of a streamed fit lie {apart:.1e} from those in memory, relatively"
    )
    print_table(rows)


def growth(bench: Bench) -> None:
    base = (500, 64, 10) if bench.quick else (40_000, 512, 50)  # beyond the processor's cache
    found = scale.growth(*base, bench.effort.repeats)
    rows = [("a pass, in what grows", "sizes", "ms", "exponent")]
    for what, (sizes, seconds) in found.items():
        slope = scale.exponent(sizes, seconds)
        rows.append(
            (what, ", ".join(map(str, sizes)), ", ".join(f"{1e3 * one:.2f}" for one in seconds), f"{slope:.2f}")
        )
        bench.judge(f"(growth) exponent of a pass's time in {what}", slope, 1.1, at_most=True)
    bench.json["growth"] = found
    print(f"\n(growth) from N, F, D = {base}, one head")
    print_table(rows)


def paths(bench: Bench) -> None:
    if not bench.has("fashion"):
        return
    rows = [("tap", "all together, from 0", "two halves", "one after the other, each from its neighbour")]
    for tap in ["conv1 pooled", "fc1"][: 1 if bench.quick else 2]:
        problem = problems.fashion([tap], 1000 if bench.quick else 20_000, bench.cache).problem(tap, "garment")
        found = scale.path_seconds(problem, jobs.PENALTIES, bench.effort.repeats)
        rows.append((tap, *(f"{statistics.median(seconds):.2f}" for seconds in found.values())))
        bench.json.setdefault("path", []).append({"tap": tap, "seconds": found})
    print(f"\n(path) seconds for {len(jobs.PENALTIES)} λ, at the default tolerance, proven")
    print_table(rows)


_CHILD_HEADING = ("N, F, D", "passes", "seconds", "certificate", "bound / objective", "axes", "memory", "of bound")


def _child_cells(told: dict[str, Any], memory: int) -> tuple[str, ...]:
    shape = ", ".join(map(str, told["shape"])) + (", streamed" if told["streamed"] else "")
    proof = (told["status"], f"{told['gap'] / told['objective']:.1e}", told["preconditioner"])
    room = (megabytes(told["extra"]), megabytes(memory))
    return (shape, str(told["passes"]), f"{told['seconds']:.1f}", *proof, *room)


def sizes(bench: Bench) -> None:
    # Logits of 12,000 rows and 10,000 classes are 1 GB in float64, and a fit holds some of them.
    shapes = [((200, 2000, 5), 1)] if bench.quick else [((2000, 100_000, 10), 1), ((12_000, 256, 10_000), 4)]
    rows: list[tuple[str, ...]] = [_CHILD_HEADING]
    for shape, times in shapes:
        memory = times * bench.memory
        one = scale.in_child("fit", shape=shape, memory=memory).told
        rows.append(_child_cells(one, memory))
        bench.json.setdefault("size", []).append(one)
        what = f"(size) N, F, D = {one['shape']}, {one['status']}: memory, of its bound"
        bench.judge(what, one["extra"] / memory, 1, at_most=True)
    print("\n(size) λ = 0.001; memory: what the fit takes beside its features, in MB of the bound")
    print_table(rows)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "a": one_head_of_ten,
    "b": many_classes,
    "c": whole_job,
    "d": raw_features,
    "taps": untuned_taps,
    "binary": two_classes,
    "stream": streamed_passes,
    "growth": growth,
    "path": paths,
    "size": sizes,
}
