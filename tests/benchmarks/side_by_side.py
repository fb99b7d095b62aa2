"""What the benchmarks of this folder share: interleaved pairs of calls, and the peak memory of child processes.

Two calls are timed in turns, so that what else the machine does falls on both. Nothing here is run by itself.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
RESNET50 = ROOT / "specs" / "data" / "resnet50.onnx"
NO_MODEL = 3
"""The exit code where the model file is absent."""
_POLL_SECONDS = 0.02


class OwnTime(NamedTuple):
    """What a call returns that knows better how long its work took."""

    result: Any
    seconds: float


@dataclass(frozen=True)
class Pairs:
    """The seconds of two calls, pair by pair.

    Args:
        bare: of what the other one is compared with.
        other: as many.
    """

    bare: Sequence[float]
    other: Sequence[float]

    @property
    def ratio(self) -> float:
        """The other's speed as a share of the bare one's: the ratio of the medians."""
        return statistics.median(self.bare) / statistics.median(self.other)

    @property
    def ratio_of_sums(self) -> float:
        """The same of all seconds together, where what happens once must count."""
        return sum(self.bare) / sum(self.other)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and upper quartile of the ratio over the pairs."""
        each = [bare / other for bare, other in zip(self.bare, self.other, strict=True)]
        if len(each) == 1:
            return each[0], each[0]
        low, _, high = statistics.quantiles(each, n=4, method="inclusive")
        return low, high


def timed(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of a call, its own where it returns an :class:`OwnTime`."""
    begun = clock()
    result = call()
    elapsed = clock() - begun
    return result.seconds if isinstance(result, OwnTime) else elapsed


def interleave(
    bare: Callable[[], Any],
    other: Callable[[], Any],
    pairs: int,
    warm: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Pairs:
    """Time two calls in turns; who goes first alternates.

    Args:
        bare: what the other one is compared with.
        other: the contender.
        pairs: of timed calls.
        warm: calls of each beforehand: the first passes of a session prepare its memory.
        clock: gives seconds.
    """
    for _ in range(warm):
        bare()
        other()
    seconds: tuple[list[float], list[float]] = [], []
    for number in range(pairs):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            seconds[which].append(timed((bare, other)[which], clock))
    return Pairs(*seconds)


# --- memory ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Child:
    """What a child process took and said.

    Args:
        peak: bytes of its largest resident memory.
        anonymous: bytes of its largest resident memory that no file stands behind, as samples saw it; pages of mapped
            files are the page cache's, and the kernel takes them back when it needs them. None where nobody tells.
        told: the JSON object of the last line that it printed.
    """

    peak: int
    anonymous: int | None
    told: dict[str, Any]


def tell_parent(**facts: Any) -> None:
    """Print, at the end of a child, its peak memory and more, for :func:`run_child`."""
    print(json.dumps({"peak": peak_memory(), **facts}), flush=True)


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes.

    Linux counts ``ru_maxrss`` from before ``exec``: a child of a large parent begins with the parent's. VmHWM does not.
    """
    found = _status(os.getpid()).get("VmHWM")
    if found is not None:
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def run_child(arguments: Sequence[str | Path]) -> Child:
    """Run Python with some arguments in a fresh process, which ends with :func:`tell_parent`.

    Raises:
        RuntimeError: it failed; the text is what it wrote.
    """
    command = [sys.executable, *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    anonymous: int | None = None
    while True:
        try:
            out, err = child.communicate(timeout=_POLL_SECONDS)
            break
        except subprocess.TimeoutExpired:
            now = _status(child.pid).get("RssAnon")
            anonymous = now if anonymous is None else max(anonymous, now or 0)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with {child.returncode}:\n{err}")
    told = json.loads(out.splitlines()[-1])
    return Child(told.pop("peak"), anonymous, told)


def _status(process: int) -> dict[str, int]:
    """Return the kernel's figures of a process in bytes; empty where there are none."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines]
    return {part[0].rstrip(":"): int(part[1]) * 1024 for part in parts if len(part) == 3 and part[2] == "kB"}


# --- what is printed -------------------------------------------------------------------------------------------------


def print_machine(packages: Iterable[str]) -> None:
    """Print what a figure depends on: cores, threads, load, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    threads = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ]
    print(f"{_processor()}, {cores} cores, threads: {', '.join(threads) or 'the default of each runtime'}")
    print(f"load average {load} at the start; other work on the machine makes every figure doubtful")
    print(f"Python {platform.python_version()}, {', '.join(f'{name} {_version(name)}' for name in packages)}\n")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print columns, the first one flush left, the others flush right; the first row is the heading."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def verdict(what: str, found: float | None, least: float, goal: float | None = None, *, at_most: bool = False) -> str:
    """Return one line on a target: what was found, and whether it is met.

    >>> verdict("pooled", 0.96, 0.95, 0.97)
    'pooled: 0.960, target >= 0.95: met; goal 0.97: not reached'
    """
    if found is None:
        return f"{what}: not measured"
    sign = "<=" if at_most else ">="

    def holds(bound: float) -> bool:
        return found <= bound if at_most else found >= bound

    text = f"{what}: {found:.3f}, target {sign} {least:g}: {'met' if holds(least) else 'MISSED'}"
    return text if goal is None else f"{text}; goal {goal:g}: {'reached' if holds(goal) else 'not reached'}"


def megabytes(count: float) -> str:
    """Return bytes as a number of MB.

    >>> megabytes(1_500_000)
    '2'
    """
    return f"{count / 1e6:.0f}"


def how_to_make_resnet50() -> str:
    """Return what to type where the model file is absent."""
    return f"there is no {RESNET50}; type: python specs/models/resnet50_onnx.py (25 s, random weights will do)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    for name in (package, f"{package}-gpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "absent"
