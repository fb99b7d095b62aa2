"""What a run would do, for ``probekit plan``: what the store holds, what is stale and why, what the rest will cost."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.data.question import ask
from probekit.errors import clean
from probekit.features.digests import RowDigests
from probekit.features.memory import memory_budget
from probekit.features.plan import Job
from probekit.prepared import COPIES
from probekit.reading import feature_rows, open_store, read_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from probekit.features.extraction import Extraction
    from probekit.reading import Reading
    from probekit.spec import Spec

_TIMED_ROWS = 8


@dataclass(frozen=True)
class PlannedTap:
    """One feature matrix that a run needs.

    Args:
        model: name and checkpoint.
        tap: label and reduction.
        features: its width.
        rows: examples that are needed.
        cached: examples that the store holds.
        state: ``cached``, ``partly``, ``new`` or ``stale``.
        changed: parts of the key that differ from the latest features of that name: ``model``, ``options``,
            ``reduction``, ``dtype``; ``data`` where other rows of the same key are there.
    """

    model: str
    tap: str
    features: int
    rows: int
    cached: int
    state: str
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Args:
        taps: every feature matrix, model by model.
        store: the store's folder.
        rows: examples to run through a model, over all models.
        bytes_on_disk: of the features to write.
        bytes_free: on that disk.
        seconds: of the passes over the models, as a few timed rows suggest; None where nothing is to be run.
        largest: bytes of the largest feature matrix.
        memory: bytes that a fit may take.
        streamed: taps that are larger than that with a fit's copies, and are read pass by pass.
    """

    taps: list[PlannedTap]
    store: str
    rows: int
    bytes_on_disk: int
    bytes_free: int
    seconds: float | None
    largest: int
    memory: int
    streamed: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def make_plan(spec: Spec) -> Plan:
    """Return what a run of the spec would do; a few rows are run to see shapes and speed.

    Raises:
        UserError: the spec, the model or the data cannot be used.
    """
    asked = ask(spec)
    store = open_store(spec)
    readings = read_models(spec, asked, RowDigests(asked.examples), store)
    counts, _ = feature_rows(spec, asked, readings)
    history = store.history()
    taps = [tap for one in readings for tap in _planned(one, history)]
    jobs = _jobs(readings)
    seconds = [_seconds(one.extraction, jobs[one.name]) for one in readings]
    known = [value for value in seconds if value is not None]
    memory = memory_budget(spec.memory)
    sizes = {
        f"{one.name} {each.title}": int(counts.sum()) * each.wanted.width * 4 for one in readings for each in one.sets
    }
    return Plan(
        taps,
        str(store.root),
        sum(len(job.rows) for some in jobs.values() for job in some),
        sum(one.extraction.bytes_on_disk(jobs[one.name]) for one in readings),
        shutil.disk_usage(store.root).free,
        sum(known) if known else None,
        max(sizes.values(), default=0),
        memory,
        [name for name, size in sizes.items() if COPIES * size > memory],
    )


def _planned(one: Reading, history: Sequence[Mapping[str, Any]]) -> Iterator[PlannedTap]:
    extraction = one.extraction
    missing = extraction.missing()
    for number, (key, label) in enumerate(zip(extraction.keys, extraction.labels, strict=True)):
        total, cached = len(extraction.rows), int((~missing[number]).sum())
        state = "cached" if cached == total else "partly" if cached else "new"
        changed: tuple[str, ...] = ()
        if cached < total:
            earlier = _earlier(history, one.name, label)
            if earlier is not None and key.digest not in earlier:
                changed = tuple(key.changed(next(iter(earlier.values()))))
            elif earlier is not None and not cached:
                changed = ("data",)
            state = "stale" if changed and not cached else state
        yield PlannedTap(one.name, label, extraction.wanted[number].width, total, cached, state, changed)


def _earlier(history: Sequence[Mapping[str, Any]], model: str, label: str) -> dict[str, dict[str, Any]] | None:
    """Return the keys that were last written for a tap of that name, with their parts; None where there are none."""
    for facts in history:
        found = {
            key: {name: value for name, value in parts.items() if name not in {"label", "name"}}
            for key, parts in facts.get("keys", {}).items()
            if (parts.get("name"), parts.get("label")) == (model, label)
        }
        if found:
            return found
    return None


def _jobs(readings: Sequence[Reading]) -> dict[str, list[Job]]:
    """Return the row ranges to extract by model; what several models share is the first one's."""
    jobs: dict[str, list[Job]] = {}
    done: set[str] = set()
    for one in readings:
        digests = [key.digest for key in one.extraction.keys]
        own = {number for number, digest in enumerate(digests) if digest not in done}
        found = [Job(tuple(each for each in job.sets if each in own), job.rows) for job in one.extraction.jobs()]
        jobs[one.name] = [job for job in found if job.sets]
        done |= set(digests)
    return jobs


def _seconds(extraction: Extraction, jobs: Sequence[Job]) -> float | None:
    """Return what the jobs will take, as a few rows suggest; None for no jobs."""
    if not jobs:
        return None
    rows = sum(len(job.rows) for job in jobs)
    count = min(_TIMED_ROWS, extraction.runner.batch_size, len(extraction.rows))
    sets = sorted({one for job in jobs for one in job.sets})
    with extraction.timed(sets, extraction.rows[:count]) as run:
        run()  # the first pass of a session prepares its memory
        begun = time.monotonic()
        run()
        return (time.monotonic() - begun) / count * rows


def plan_lines(plan: Plan) -> Iterator[str]:
    """Give the lines of a plan."""
    rows = [("tap", "features", "cached", "state")]
    several = len({tap.model for tap in plan.taps}) > 1
    for tap in plan.taps:
        name = f"{tap.model} {tap.tap}" if several else tap.tap
        state = tap.state + (f": {' and '.join(tap.changed)} changed" if tap.changed else "")
        rows.append((clean(name), f"{tap.features:,}", f"{tap.cached:,} of {tap.rows:,}", state))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, features, cached, state in rows:
        yield f"{name:<{widths[0]}}  {features:>{widths[1]}}  {cached:>{widths[2]}}  {state}"
    yield ""
    yield f"store: {plan.store}"
    if plan.rows:
        disk = f"{size(plan.bytes_on_disk)} on disk, {size(plan.bytes_free)} free"
        yield f"to extract: {plan.rows:,} rows; {disk}; {duration(plan.seconds or 0.0)}, as a few timed rows suggest"
    else:
        yield "to extract: nothing"
    largest = f"the largest tap takes {size(plan.largest)}, and {COPIES} times that while it is fitted"
    yield f"to fit: {largest}; memory: {size(plan.memory)}"
    if plan.streamed:
        yield f"read pass by pass, because they are larger: {', '.join(map(clean, plan.streamed))}"


def size(count: int) -> str:
    """Return a number of bytes in words.

    >>> size(512), size(3 << 20), size(5 << 30)
    ('512 B', '3.0 MiB', '5.0 GiB')
    """
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(0.2), duration(75), duration(7300)
    ('under a second', '1 min 15 s', '2 h 1 min')
    """
    whole = int(np.ceil(seconds))
    if seconds < 1:
        return "under a second"
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
