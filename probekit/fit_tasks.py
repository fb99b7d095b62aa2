"""A fit as a task for another process: plain data, and a function that makes it there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.components import ArrayMatrix, FitContext
from probekit.errors import kept_warnings
from probekit.fits import contents_digest, fit_versions
from probekit.isolation import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components import FeatureMatrix, FitProgress, FittedProbe, MessageQueue, Probe, Target
    from probekit.fits import FitJournal

    Place = tuple[Any, ...]
    """What tells a task from the others of a run."""


@dataclass(frozen=True)
class FitTask:
    """One fit: of one probe to one feature matrix, for all that is asked of it.

    Args:
        place: what tells it from other tasks of the run.
        names: of model, checkpoint, tap, reduction and probe, and of what else the journal knows it by.
        probe: its options.
        matrix: the stored features.
        asked: numbers of the targets.
        memory: bytes that the fit may take; None: no bound.
    """

    place: Place
    names: Sequence[str | None]
    probe: Probe
    matrix: FeatureMatrix
    asked: Sequence[int]
    memory: int | None


@dataclass
class Fitted:
    """What became of a task.

    Args:
        probes: one a target; None where the journal has them, or where they could not be fitted.
        warnings: that were given.
        reason: why they could not be fitted; None where they were not needed.
    """

    probes: list[FittedProbe] | None
    warnings: list[str] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True)
class Shared:
    """What all fits of a run share; a worker is given it once.

    Args:
        targets: all that is asked of every feature matrix.
        journal: what is in it is not fitted again; None: there is none.
        messages: where progress is told; None: nowhere.
        run: tells it from other runs with the same workers.
        process: of the run, on its machine.
        versions: there, of what may change the last bits of a fit.
    """

    targets: Sequence[Target]
    journal: FitJournal | None
    messages: MessageQueue | None
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: int = field(default_factory=os.getpid)
    versions: Mapping[str, str] = field(default_factory=fit_versions)


_SHARED: dict[str, Shared] = {}
"""By run: what this worker was begun with."""
_KEPT = 8
"""A worker that outlives its runs remembers so many of them."""


def begin(shared: Shared) -> None:
    """Begin a worker. One that the run's process started ends with it; one of a cluster outlives it."""
    parent = multiprocessing.parent_process()
    if shared.process in {os.getppid(), None if parent is None else parent.pid}:
        die_with_parent()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    import torch

    torch.set_num_threads(1)  # more threads than cores wait for each other
    _SHARED[shared.run] = shared
    for run in list(_SHARED)[:-_KEPT]:
        del _SHARED[run]


def make_fit(run: str, task: FitTask) -> Fitted:
    """Make a fit; what raises is raised again where it is made once more.

    Args:
        run: whose fit it is.
        task: the fit.
    """
    shared = _SHARED.get(run)
    if shared is None:
        return Fitted(None, reason="the worker was not initialized for this run")
    own = fit_versions()
    other = [
        f"{name} {own.get(name, 'is absent')}, not {there}"
        for name, there in shared.versions.items()
        if own.get(name) != there
    ]
    if other:
        return Fitted(None, reason=f"the worker has {'; '.join(other)}")
    with kept_warnings() as told:
        try:
            return Fitted(_fitted(shared, task), told)
        except Exception as error:
            return Fitted(None, reason=f"{type(error).__name__}: {error}")


def _fitted(shared: Shared, task: FitTask) -> list[FittedProbe] | None:
    matrix, journal = ArrayMatrix(np.asarray(task.matrix)), shared.journal
    if journal is not None and journal.has(journal.key(task.names, contents_digest(matrix), task.probe)):
        return None

    def tell(progress: FitProgress) -> None:
        if shared.messages is not None:
            shared.messages.put((task.place, progress))

    targets = [shared.targets[number] for number in task.asked]
    fitted = task.probe.fit(matrix, targets, FitContext(task.memory, tell))
    return fitted if len(fitted) == len(targets) else None
