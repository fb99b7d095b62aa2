"""Kills ``probekit run`` at random moments, runs it again until it is done, and compares with an undisturbed run.

The model is slow on purpose and logs every batch, and its row ranges are short, so that there is much to lose.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS, BATCH, RANGE = 2048, 32, 64

PLUGIN = f'''\
"""A net that sleeps in every batch and logs it; of a process that imports this, row ranges are short.

And a probe that needs no torch, whose import takes longer than all else.
"""

import os
import time
from contextlib import contextmanager
from typing import Literal

import numpy as np

from probekit import Backend, Certificate, FittedProbe, Graph, ModelInput, Probe, Tap, hookimpl
from probekit.components import FitFacts, LinearMap, PathPoint
from probekit.features import plan
from probekit.sections import runtime_option

plan.MOST_ROWS = {RANGE}
W = np.random.default_rng(0).standard_normal((7, 24)).astype(np.float32)


class SlowBackend(Backend):
    """Its inputs are a row's number and seven values."""

    kind: Literal["slow"] = "slow"
    log: str = runtime_option("", "a file that gets a line per batch: process, first row, rows")
    seconds: float = runtime_option(0.0, "how long a whole batch takes")

    def signature(self):
        return (ModelInput("x", (None, 8), "float32"),)

    def graph(self, example=None):
        taps = [Tap("x", "Input", (8,), "float32", "NC"), Tap("wide", "Tanh", (24,), "float32", "NC", 1)]
        return Graph((*taps, Tap("out", "Sum", (2,), "float32", "NC", 2)), (("x", "wide"), ("wide", "out")), ("out",))

    @contextmanager
    def open(self, taps):
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def run(feed):
            x = feed["x"]
            os.write(log, f"{{os.getpid()}} {{int(x[0, 0])}} {{len(x)}}\\n".encode())
            time.sleep(self.seconds if len(x) == self.batch_size else 0)
            wide = np.tanh(x[:, 1:] @ W)
            found = {{"x": x, "wide": wide, "out": wide.reshape(len(x), 2, 12).sum(axis=2)}}
            return {{name: found[name] for name in taps}}

        try:
            yield run
        finally:
            os.close(log)

    def fingerprint(self):
        return "slow"


class Nearest(FittedProbe):
    penalty = None
    certificate = Certificate("not_applicable")
    seconds = 0.0

    def __init__(self, means):
        self.means = means

    def logits(self, features):
        return features @ self.means.T - (self.means**2).sum(axis=1) / 2


class NearestProbe(Probe):
    """The class whose mean is nearest."""

    kind: Literal["nearest"] = "nearest"

    def fit(self, features, targets, context=None):
        x = np.asarray(features)
        return [
            Nearest(np.stack([x[t.train][t.codes[t.train] == c].mean(axis=0) for c in range(len(t.classes))]))
            for t in targets
        ]


class Ridge(FittedProbe):
    penalty = 1.0
    certificate = Certificate("proven", 0.0, 0.0, 0.0)
    seconds = 0.25
    facts = FitFacts((PathPoint(1.0, 0.5, 0.0, "proven", 0.25, 0.125),), passes=1)

    def __init__(self, linear):
        self.linear = linear

    def logits(self, features):
        return self.linear(features)


class SlowRidgeProbe(Probe):
    """Ridge regression to the classes, in closed form; it logs each fit, and waits while a file called stuck is there.

    Only fits on two features wait.
    """

    kind: Literal["slow_ridge"] = "slow_ridge"

    def fit(self, features, targets, context=None):
        x = np.asarray(features).astype(np.float64)
        with open("fits.log", "a") as log:
            log.write(f"{{os.getpid()}} {{x.shape[1]}}\\n")
        while x.shape[1] == 2 and os.path.exists("stuck"):
            time.sleep(0.01)
        fitted = []
        for t in targets:
            rows = np.concatenate([x[t.train], np.ones((len(t.train), 1))], axis=1)
            y = np.eye(len(t.classes))[t.codes[t.train]]
            w = np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ y).T
            fitted.append(Ridge(LinearMap(w[:, :-1], w[:, -1])))
        return fitted


@hookimpl
def register_backends():
    return [SlowBackend]


@hookimpl
def register_probes():
    return [NearestProbe, SlowRidgeProbe]
'''

SPEC = """\
probekit: 1
name: s
model: {{kind: slow, log: "{folder}/log", seconds: {seconds}, batch_size: {batch}, output: {{factor: label}}}}
data: {{kind: arrays, arrays: {{x: x.npy}}, columns: columns.csv}}
taps: [wide, out]
reduction: {{kind: flatten}}
labels: {{label: {{kind: column, column: label}}}}
splits: {{column: part, train: train, valid: valid, test: test}}
probe: {probe}
reports: [json, csv]
store: store
"""


class SlowSite:
    """A folder with a spec whose extraction takes a while.

    Args:
        folder: is filled.
        seconds: of each whole batch.
        probe: the spec's.
    """

    def __init__(self, folder: Path, seconds: float = 0.01, probe: str = "{kind: nearest}") -> None:
        self.folder, self.out, self.store, self.log = folder, folder / "out", folder / "store", folder / "log"
        self.fits_log = folder / "fits.log"
        info = folder / "site" / "pk_slow-0.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pk-slow\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(
            "[probekit]\nbackend.slow = pk_slow\nprobe.nearest = pk_slow\nprobe.slow_ridge = pk_slow\n"
        )
        (folder / "site" / "pk_slow.py").write_text(PLUGIN)
        x = np.random.default_rng(0).standard_normal((ROWS, 8)).astype(np.float32)
        labels = (x[:, 1:].sum(axis=1) > 0).astype(int)
        x[:, 0] = np.arange(ROWS)
        np.save(folder / "x.npy", x)
        parts = np.resize(["train", "train", "valid", "test"], ROWS)
        lines = [f"{label},{part}" for label, part in zip(labels, parts, strict=True)]
        (folder / "columns.csv").write_text("\n".join(["label,part", *lines]) + "\n")
        (folder / "s.yaml").write_text(SPEC.format(folder=folder, seconds=seconds, batch=BATCH, probe=probe))
        self.forget()

    def start(self, *arguments: str, out: str = "out") -> subprocess.Popen[str]:
        """Start a run, in a process group of its own."""
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.folder / "site")}
        command = [sys.executable, "-m", "probekit", "run", "s.yaml", "-o", out, *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=environ, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def forget(self) -> None:
        """Go back to before the first run."""
        for folder in (self.store, self.out):
            shutil.rmtree(folder, ignore_errors=True)
        self.log.write_text("")
        self.fits_log.write_text("")

    def fits(self) -> list[tuple[int, int]]:
        """Return the process and the number of features of every fit that was begun by ``slow_ridge``."""
        return [(int(process), int(width)) for process, width in map(str.split, self.fits_log.read_text().splitlines())]

    def batches(self) -> Iterator[tuple[int, int]]:
        """Give the process and the first row of every whole batch that was run.

        The trial and the check of the first batch are smaller, and no part of the extraction.
        """
        for line in self.log.read_text().splitlines():
            process, first, rows = map(int, line.split())
            if rows == BATCH:
                yield process, first

    def ranges(self) -> dict[int, set[int]]:
        """Return the row ranges that each process began, processes in their order."""
        found: dict[int, set[int]] = {}
        for process, first in self.batches():
            found.setdefault(process, set()).add(first // RANGE)
        return found

    def results(self) -> tuple[bytes, bytes] | None:
        """Return what must be equal of two runs, None without any.

        These are the results, without times and where fits were made, and the predictions.
        """
        path = self.out / "results.json"
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_bytes())
        for name in ("started", "seconds", "store", "fits", "executor"):
            found["provenance"].pop(name)
        for probe in found["probes"]:
            probe.pop("seconds")
        return json.dumps(found).encode(), (self.out / "predictions.safetensors").read_bytes()


@dataclass
class Tally:
    """What came of some kills.

    Args:
        kills: processes that were killed.
        finished: runs that came to their end.
        again: row ranges that a run after a kill computed although an earlier one had begun them, one entry a kill.
        wrong: what should not be; empty.
    """

    kills: int = 0
    finished: int = 0
    again: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def kill_and_resume(site: SlowSite, kills: int, seed: int) -> Tally:
    """Kill runs at random moments and run again, until so many were killed and the last run came to its end.

    Args:
        site: what is run.
        kills: how many.
        seed: of the moments: a third of them anywhere in a run, the others after some batch; and of which runs
            extract in a process of their own.
    """
    rng, tally = random.Random(seed), Tally()
    begun = time.monotonic()
    _finish(site.start("-q"), tally)
    whole = time.monotonic() - begun
    expected = site.results()
    if expected is None:
        return tally
    site.forget()
    while not tally.wrong:
        process = site.start("-q", *(["--in-process"] if rng.random() < 0.5 else []))
        last = tally.kills >= kills
        if last or not _killed(site, process, rng, whole):
            _finish(process, tally)
            _compare(site, expected, tally)
            if last:
                return tally
            site.forget()
            continue
        tally.kills += 1
        found = site.results()
        if found is not None and found != expected:
            tally.wrong.append(f"kill {tally.kills}: a result was left that is not the undisturbed run's")
    return tally


def _killed(site: SlowSite, process: subprocess.Popen[str], rng: random.Random, whole: float) -> bool:
    """Kill a run with all its processes; False when it ended before."""
    moment = time.monotonic() + rng.uniform(0, whole)
    if rng.random() < 2 / 3:
        size = site.log.stat().st_size + rng.randrange(1, 24) * len("12345 0 32\n")
        while site.log.stat().st_size < size and process.poll() is None:
            time.sleep(0.002)
        moment = time.monotonic() + rng.uniform(0, 0.03)
    while time.monotonic() < moment and process.poll() is None:
        time.sleep(0.002)
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return True


def _finish(process: subprocess.Popen[str], tally: Tally) -> None:
    out, err = process.communicate(timeout=300)
    tally.finished += 1
    if process.returncode:
        tally.wrong.append(f"a run ended with {process.returncode}: {out}{err}")


def _compare(site: SlowSite, expected: tuple[bytes, bytes], tally: Tally) -> None:
    """Look at a finished cycle: is the result the same, and how often was a row range computed again?"""
    if site.results() != expected:
        tally.wrong.append(f"after {tally.kills} kills the result is not the undisturbed run's")
    seen: set[int] = set()
    for number, ranges in enumerate(site.ranges().values()):
        if number:
            tally.again.append(len(ranges & seen))
        seen |= ranges
    if seen != set(range(ROWS // RANGE)):
        tally.wrong.append(f"only the ranges {sorted(seen)} were computed")
    if any(count > 1 for count in tally.again):
        tally.wrong.append(f"row ranges computed again, per kill: {tally.again}")
