"""An executor that is started for a check, and what is looked at while it is."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probekit.components import ArrayMatrix
from probekit.fit_tasks import FitTask
from probekit.testing import executor_tasks as tasks
from probekit.testing.checks import expect, no_crash
from probekit.testing.probe import Problems
from probekit.workers import FitWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent import futures

    from probekit.components import Executor, FittedProbe, Probe, Target
    from probekit.testing.executor_tasks import Worker

START = "start() must return a concurrent.futures.Executor that takes functions of a module's top level"
_MOST = 8
"""So many workers are looked at."""


@contextmanager
def started(executor: Executor, seconds: float, *initargs: Any, now: bool = False) -> Iterator[futures.Executor]:
    """Give what ``start`` returns, and stop it."""
    with no_crash("start()", START):
        pool = executor.start(tasks.begin, initargs)
    try:
        yield pool
    except BaseException:
        threading.Thread(target=executor.stop, args=[pool], kwargs={"now": True}, daemon=True).start()
        raise
    stop(executor, pool, seconds, now=now)


def stop(executor: Executor, pool: futures.Executor, seconds: float, *, now: bool) -> None:
    """Call ``stop``, in a thread, so that one that hangs fails the check."""
    raised: list[Exception] = []

    def call_it() -> None:
        try:
            executor.stop(pool, now=now)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=call_it, daemon=True)
    thread.start()
    thread.join(seconds)
    call, todo = (
        f"stop(executor, now={now})",
        "override stop(); with now=True, end the processes in the middle of their tasks",
    )
    expect(not thread.is_alive(), f"{call} does not return in {seconds:g} seconds", todo)
    expect(not raised, f"{call} raises {', '.join(map(repr, raised))}", todo)


def meeting(executor: Executor, pool: futures.Executor, folder: Path, seconds: float) -> list[Worker]:
    """Return where as many tasks ran as there are workers, all at the same time."""
    count = min(executor.workers(), _MOST)
    place = folder / "meeting"
    place.mkdir()
    sent = [pool.submit(tasks.meet, str(place), count, seconds) for _ in range(count)]
    return [result_of(one, (count + 1) * seconds) for one in sent]


def result_of(future: futures.Future[Any], seconds: float) -> Any:
    """Return a task's result; fail the check where there is none."""
    error = error_of(future, seconds)
    if error is not None:
        raise AssertionError(f"a task raises {type(error).__name__}: {error}; {START}") from error
    return future.result()


def error_of(future: futures.Future[Any], seconds: float) -> BaseException | None:
    """Return what a task raised; fail the check where it does not end."""
    try:
        return future.exception(seconds)
    except CancelledError as error:
        return error
    except TimeoutError as error:
        todo = "every future must end, also where its worker has died"
        raise AssertionError(f"a future has no result after {seconds:g} seconds; {todo}") from error


def fits(executor: Executor, probe: Probe, targets: Sequence[Target], seconds: float) -> list[FittedProbe]:
    """Return what a worker fits, as a run asks for it."""
    matrix = ArrayMatrix(Problems().features)
    task = FitTask(("kit",), ["kit"], probe, matrix, range(len(targets)), None)
    with FitWorkers(targets, executor=executor) as workers:
        future = workers.submit(task)
        error_of(future, seconds)
        fitted = workers.wait(future, task, lambda _: None)
        reason = workers.failed_there()
    expect(fitted is not None, f"a fit cannot be made in a worker: {reason}", "workers need all that this process has")
    return fitted or []


def children() -> set[int]:
    """Return the processes of this one's that are there already, such as those of a cluster that a fixture started."""
    return {one.pid for one in multiprocessing.active_children() if one.pid is not None}


def expect_ended(found: Sequence[Worker], seconds: float) -> None:
    """Fail the check unless those processes of this machine end."""
    left = [one.pid for one in found if not within(seconds, functools.partial(_ended, one.pid))]
    todo = "end in stop() every process that start() started"
    expect(not left, f"the processes {left} go on after stop()", todo)


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Wait until something holds; return whether it does."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _ended(pid: int) -> bool:
    """Return whether a process is gone; always on Windows, where asking would end it."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except OSError:
        return True
    try:  # one that nobody has waited for is still listed
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return Path("/proc/self/stat").exists()
