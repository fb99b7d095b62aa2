"""Processes that fit probes side by side, where one fit is too small to keep several cores busy.

A small fit is made on one thread wherever it is made, so that its last bits do not tell whether processes were there.
"""

from __future__ import annotations

import signal
import threading
import warnings
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from probekit.components import ArrayMatrix, FitContext
from probekit.errors import ProbekitWarning, kept_warnings
from probekit.fits import contents_digest
from probekit.isolation import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from probekit.components import FeatureMatrix, FitProgress, FittedProbe, Probe, Target
    from probekit.fits import FitJournal
    from probekit.progress import FittingProgress

    Place = tuple[Any, ...]
    """What tells a task from the others of a run."""

WORTH_SECONDS = 15.0
"""Processes are started where fits are expected to take longer than this: to start them takes some seconds."""
_PROCESS_BYTES = 700 << 20
"""What a process holds beside its fit, most of it PyTorch."""


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
    """

    probes: list[FittedProbe] | None
    warnings: list[str] = field(default_factory=list)


class FitWorkers:
    """Processes for fits, started when the first task is submitted. A context: they end with it.

    Args:
        targets: all that is asked of every feature matrix.
        journal: what is in it is not fitted again; default: there is none.
        count: of processes; default: as many as PyTorch would use threads. With fewer than two nothing is submitted.
    """

    def __init__(self, targets: Sequence[Target], journal: FitJournal | None = None, count: int | None = None) -> None:
        self._targets, self._journal, self._count = targets, journal, count
        self._executor: Any = None
        self._messages: Any = None
        self._heard: tuple[Place | None, Callable[[FitProgress], None] | None] = (None, None)
        self._lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=kind is not None or self._lost)
            self._messages.put(None)

    @property
    def count(self) -> int:
        """How many processes there are or would be; 0 where they are of no use."""
        if self._count is None:
            import torch

            self._count = torch.get_num_threads()
        return 0 if self._lost or self._count < 2 else self._count

    @property
    def started(self) -> bool:
        """Whether they are there."""
        return self._executor is not None

    def afford(self, needed: int, memory: int | None) -> bool:
        """Return whether so many fits at a time, each of so many bytes, fit into memory (None: no bound)."""
        return memory is None or self.count * (needed + _PROCESS_BYTES) <= memory

    def submit(self, task: FitTask) -> Future[Fitted]:
        """Let a process make a fit."""
        from loky.process_executor import BrokenProcessPool

        if self._executor is None:
            self._start()
        try:
            future: Future[Fitted] = self._executor.submit(_fit, task)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        return future

    def wait(
        self, future: Future[Fitted], task: FitTask, hear: Callable[[FitProgress], None]
    ) -> list[FittedProbe] | None:
        """Return the fitted probes of a task, once they are there.

        Args:
            future: of the task.
            task: which was submitted.
            hear: told how far the fit is.

        Returns:
            None where they must be fitted here: they failed there, the journal has them, or the process was lost, of
            which a warning tells.
        """
        from loky.process_executor import BrokenProcessPool

        self._heard = (task.place, hear)
        try:
            found = future.result()
        except BrokenProcessPool:
            if not self._lost:
                self._lost = True
                text = "a process that fitted probes was lost, most often because memory ran out; one goes on alone"
                warnings.warn(text, ProbekitWarning, stacklevel=2)
            return None
        finally:
            self._heard = (None, None)
        for text in found.warnings:
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        return found.probes

    def _start(self) -> None:
        from loky import ProcessPoolExecutor
        from loky.backend import get_context

        context = get_context("loky")
        self._messages = context.SimpleQueue()
        self._executor = ProcessPoolExecutor(
            self.count, context=context, initializer=_begin, initargs=(self._targets, self._journal, self._messages)
        )
        threading.Thread(target=self._listen, name="probekit-fits", daemon=True).start()

    def _listen(self) -> None:
        while (message := self._messages.get()) is not None:
            place, progress = message
            awaited, hear = self._heard
            if hear is not None and place == awaited:
                hear(progress)


class FitsAhead:
    """Fits that processes make while those before them are scored.

    Args:
        workers: the processes; None: there are none.
        tasks: by place, in the order in which they are taken.
    """

    def __init__(self, workers: FitWorkers | None, tasks: Mapping[Place, Callable[[], FitTask]]) -> None:
        self._workers, self._tasks = workers, tasks
        self._order = {place: number for number, place in enumerate(tasks)}
        self._next = 0
        self._submitted: dict[Place, tuple[FitTask, Future[Fitted]]] = {}

    def finish(self) -> None:
        """Wait for what processes are at, so that a fit that takes all cores can be made here."""
        wait([future for _, future in self._submitted.values()])

    def take(self, place: Place, progress: FittingProgress) -> list[FittedProbe] | None:
        """Return the fitted probes of a task; None where they must be fitted here.

        Args:
            place: of the task.
            progress: told how far the fit is; from it is known whether processes are worth their start.
        """
        workers = self._workers
        if workers is None or not workers.count or place not in self._order:
            self.finish()
            return None
        if not workers.started and (progress.left() or 0.0) < WORTH_SECONDS:
            return None
        now = self._order[place]
        self._submitted = {one: what for one, what in self._submitted.items() if self._order[one] >= now}
        self._next = max(self._next, now)
        tasks = list(self._tasks.items())
        while self._next < len(tasks) and len(self._submitted) <= workers.count:
            one, make = tasks[self._next]
            task = make()
            self._submitted[one] = (task, workers.submit(task))
            self._next += 1
        task, future = self._submitted.pop(place)
        return workers.wait(future, task, progress.hear)


# --- in the process ---------------------------------------------------------------------------------------------------

_HERE: dict[str, Any] = {}
"""What a process was begun with."""


def _begin(targets: Sequence[Target], journal: FitJournal | None, messages: Any) -> None:
    import torch

    die_with_parent()
    torch.set_num_threads(1)  # more threads than cores wait for each other
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _HERE.update(targets=targets, journal=journal, messages=messages)


def _fit(task: FitTask) -> Fitted:
    """Make a fit; what raises is raised again where it is made once more."""
    with kept_warnings() as told:
        try:
            return Fitted(_fitted(task), told)
        except Exception:
            return Fitted(None)


def _fitted(task: FitTask) -> list[FittedProbe] | None:
    matrix = ArrayMatrix(np.asarray(task.matrix))
    journal: FitJournal | None = _HERE["journal"]
    if journal is not None and journal.has(journal.key(task.names, contents_digest(matrix), task.probe)):
        return None

    def tell(progress: FitProgress) -> None:
        _HERE["messages"].put((task.place, progress))

    targets = [_HERE["targets"][number] for number in task.asked]
    fitted = task.probe.fit(matrix, targets, FitContext(task.memory, tell))
    return fitted if len(fitted) == len(targets) else None
