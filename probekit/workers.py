"""Fits that an executor's workers make side by side, where one fit is too small to keep several cores busy.

A small fit is made on one thread wherever it is made, so that its last bits do not tell whether workers were there.
"""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import BrokenExecutor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from probekit.errors import ProbekitWarning, UserError
from probekit.executors import LocalExecutor
from probekit.fit_tasks import FitTask, Shared, begin, make_fit
from probekit.plugins.sources import blamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent import futures

    from probekit.components import Executor, FitProgress, FittedProbe, MessageQueue, Target
    from probekit.fit_tasks import Fitted, Place
    from probekit.fits import FitJournal
    from probekit.progress import FittingProgress

__all__ = ["WORTH_SECONDS", "FitTask", "FitWorkers", "FitsAhead", "count_workers"]

WORTH_SECONDS = 15.0
"""Workers are started where fits are expected to take longer than this: to start them takes some seconds."""
_PROCESS_BYTES = 700 << 20
"""What a process holds beside its fit, most of it PyTorch."""


class FitWorkers:
    """An executor's workers, started when the first task is submitted. A context: they end with it.

    Args:
        targets: all that is asked of every feature matrix.
        journal: what is in it is not fitted again; default: there is none.
        count: of workers; default: as many as the executor has. With fewer than two nothing is submitted.
        executor: default: processes of this machine, ``count`` of them.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        journal: FitJournal | None = None,
        count: int | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._targets, self._journal, self._count = targets, journal, count
        self.executor: Executor = executor if executor is not None else LocalExecutor(processes=count)
        self._made = 0
        self._pool: futures.Executor | None = None
        self._run = ""
        self._messages: MessageQueue | None = None
        self._open: set[Future[Fitted]] = set()
        self._heard: tuple[Place | None, Callable[[FitProgress], None] | None] = (None, None)
        self._lost = False
        self._reason: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if self._pool is None:
            return
        for future in self._open:  # what was passed over, or is of no use any more
            future.cancel()
        try:
            self.executor.stop(self._pool, now=kind is not None or self._lost)
            if self._messages is not None:
                self._messages.put(None)
        except Exception as failure:  # all fits are made: no reason to lose them
            plugin = blamed(failure)
            whose = "" if plugin is None else f" of plugin {plugin}"
            text = f"executor {self.executor.kind!r}{whose} did not stop: {type(failure).__name__}: {failure}"
            warnings.warn(text, ProbekitWarning, stacklevel=2)

    @property
    def count(self) -> int:
        """How many workers there are or would be; 0 where they are of no use."""
        if self._count is None:
            self._count = count_workers(self.executor)
        return 0 if self._lost or self._count < 2 else self._count

    @property
    def started(self) -> bool:
        """Whether they are there."""
        return self._pool is not None

    def afford(self, needed: int, memory: int | None) -> bool:
        """Return whether fits of so many bytes each, made at the same time, fit into memory (None: no bound).

        Of workers that do not share this machine's memory each may take all of it.
        """
        at_once = self.count if self.executor.shares_memory() else 1
        return memory is None or at_once * (needed + _PROCESS_BYTES) <= memory

    def submit(self, task: FitTask) -> Future[Fitted]:
        """Let a worker make a fit.

        Raises:
            UserError: the workers cannot be started; its problems stand at the spec's ``executor``.
        """
        pool = self._started()
        try:
            future: Future[Fitted] = pool.submit(make_fit, self._run, task)
        except BrokenExecutor as error:
            future = Future()
            future.set_exception(error)
        self._open.add(future)
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
            None where they must be fitted here: they failed there, of which :meth:`failed_there` tells, the journal has
            them, or the worker was lost, of which a warning tells.
        """
        self._heard = (task.place, hear)
        try:
            found = future.result()
        except BrokenExecutor:
            if not self._lost:
                self._lost = True
                text = "a process that fitted probes was lost, most often because memory ran out; one goes on alone"
                warnings.warn(text, ProbekitWarning, stacklevel=2)
            return None
        except Exception as error:  # of the executor: a fit that raises gives its reason
            self._reason = f"{type(error).__name__}: {error}"
            return None
        finally:
            self._heard = (None, None)
            self._open.discard(future)
        for text in found.warnings:
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        self._reason = found.reason
        self._made += found.probes is not None
        return found.probes

    def failed_there(self) -> str | None:
        """Return why the fit that was last waited for could not be made there; None where nothing failed."""
        reason, self._reason = self._reason, None
        return reason

    def facts(self) -> dict[str, Any]:
        """Return the executor's section, how many workers there are or would be, and how many fits they made."""
        return {**self.executor.model_dump(mode="json"), "workers": self._count, "fits": self._made}

    def _started(self) -> futures.Executor:
        if self._pool is None:
            with _at_executor():
                self._messages = self.executor.messages()
                shared = Shared(self._targets, self._journal, self._messages)
                self._pool, self._run = self.executor.start(begin, (shared,)), shared.run
            if self._messages is not None:
                threading.Thread(target=self._listen, args=[self._messages], name="probekit-fits", daemon=True).start()
        return self._pool

    def _listen(self, messages: MessageQueue) -> None:
        with suppress(EOFError, OSError):  # its other end is gone
            while (message := messages.get()) is not None:
                place, progress = message
                awaited, hear = self._heard
                if hear is not None and place == awaited:
                    hear(progress)


def count_workers(executor: Executor) -> int:
    """Return how many tasks an executor runs at a time.

    Raises:
        UserError: of the executor; its problems stand at the spec's ``executor``.
    """
    with _at_executor():
        return executor.workers()


@contextmanager
def _at_executor() -> Iterator[None]:
    """Put the section before the fields of problems."""
    try:
        yield
    except UserError as error:
        problems = [replace(one, field=".".join(filter(None, ["executor", one.field]))) for one in error.problems]
        raise type(error)(*problems) from error


class FitsAhead:
    """Fits that workers make while those before them are scored.

    Args:
        workers: None: there are none.
        tasks: by place, in the order in which they are taken.
    """

    def __init__(self, workers: FitWorkers | None, tasks: Mapping[Place, Callable[[], FitTask]]) -> None:
        self._workers, self._tasks = workers, tasks
        self._order = {place: number for number, place in enumerate(tasks)}
        self._next = 0
        self._submitted: dict[Place, tuple[FitTask, Future[Fitted]]] = {}

    def finish(self) -> None:
        """Wait for what workers are at, so that a fit that takes all cores can be made here."""
        wait([future for _, future in self._submitted.values()])

    def take(self, place: Place, progress: FittingProgress) -> list[FittedProbe] | None:
        """Return the fitted probes of a task; None where they must be fitted here.

        Args:
            place: of the task.
            progress: told how far the fit is; from it is known whether workers are worth their start.
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
