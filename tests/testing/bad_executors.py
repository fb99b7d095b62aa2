"""Executors with one fault each, by the check that must find it and what it must say."""

import multiprocessing
import warnings
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from probekit.components import Executor, LinearMap
from probekit.errors import UserError
from probekit.executors import LocalExecutor
from probekit.fit_tasks import Fitted

Given = Callable[[Any], dict[str, Any]]
SPAWN = multiprocessing.get_context("spawn")
SLOW = 20.0
"""Seconds in which a process has started on a busy machine."""


def executor_of(made: type[Executor], seconds: float | None = None, **fields: Any) -> Given:
    def given(_: Any) -> dict[str, Any]:
        return {"executor": made(**fields), **({} if seconds is None else {"seconds": seconds})}

    given.__name__ = made.__name__
    return given


class _Inline(futures.Executor):
    """Runs each task at once, in this process."""

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(task(*arguments, **more))
        except Exception as error:
            future.set_exception(error)
        return future


class _Here(Executor):
    """Two workers, it says; what it starts is given by ``pool``."""

    kind: Literal["here"] = "here"

    def workers(self) -> int:
        return 2

    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        initializer(*initargs)
        return self.pool()

    def pool(self) -> futures.Executor:
        return _Inline()


class Pool(Executor):
    """Processes of Python's own pool: right."""

    kind: Literal["pool"] = "pool"

    def workers(self) -> int:
        return 2

    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        return ProcessPoolExecutor(2, SPAWN, initializer, initargs)

    def stop(self, executor: Any, *, now: bool = False) -> None:
        for process in list((executor._processes or {}).values()) if now else []:
            process.kill()
        executor.shutdown()

    def messages(self) -> Any:
        return SPAWN.SimpleQueue()


# --- what it says


class ShapesValues(Pool):
    speed: int = Field(1, description="how fast")


class NoCount(Pool):
    def workers(self) -> Any:
        return None


class NoAnswer(Pool):
    def shares_memory(self) -> Any:
        return "yes"


# --- where tasks run


class Threads(_Here):
    def pool(self) -> futures.Executor:
        return ThreadPoolExecutor(2)


class OneProcess(Pool):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        return ProcessPoolExecutor(1, SPAWN, initializer, initargs)


class _TwoThreads(futures.Executor):
    """One process with two threads: each task meets its double there."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1, SPAWN)

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Any:
        return self.pool.submit(_pair, task, *arguments, **more)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait)


def _pair(task: Any, *arguments: Any) -> Any:
    with ThreadPoolExecutor(2) as threads:
        first, _ = [threads.submit(task, *arguments) for _ in range(2)]
        return first.result()


class TwoInOneProcess(_Here):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        return _TwoThreads()


# --- what comes back


class _Shifted(_Inline):
    """Each future has the result of the task before it."""

    last: Any = None

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        self.last, before = super().submit(task, *arguments, **more), self.last
        return before or self.last


class MixesResults(_Here):
    def pool(self) -> futures.Executor:
        return _Shifted()


class _Unordered(_Inline):
    def map(self, *arguments: Any, **more: Any) -> Any:
        return reversed([*super().map(*arguments, **more)])


class MapsBackwards(_Here):
    def pool(self) -> futures.Executor:
        return _Unordered()


class _Wrapped(_Inline):
    """Makes every error one of its own."""

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        future = super().submit(task, *arguments, **more)
        if future.exception() is not None:
            other: Future[Any] = Future()
            other.set_exception(RuntimeError(f"task failed: {future.exception()}"))
            return other
        return future


class WrapsErrors(_Here):
    def pool(self) -> futures.Executor:
        return _Wrapped()


class _Textual(_Inline):
    """Keeps of a user's error its text."""

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        future = super().submit(task, *arguments, **more)
        error = future.exception()
        if isinstance(error, UserError):
            bare = type(error)()
            bare.args = (str(error),)
            other: Future[Any] = Future()
            other.set_exception(bare)
            return other
        return future


class KeepsTheText(_Here):
    def pool(self) -> futures.Executor:
        return _Textual()


class InitializesNothing(Pool):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        return ProcessPoolExecutor(2, SPAWN)


class OtherArguments(Pool):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        return ProcessPoolExecutor(2, SPAWN, initializer, initargs[:1])


class _Deaf:
    """Hears nothing."""

    def put(self, message: Any) -> None:
        pass

    def get(self) -> Any:
        return [SPAWN.Event().wait(30)]


class LosesMessages(_Here):
    def messages(self) -> Any:
        return _Deaf()


class QueueOfThreads(Pool):
    def messages(self) -> Any:
        import queue

        return queue.Queue()


# --- fits


class _After(futures.Executor):
    """Changes the result of each task."""

    def __init__(self, pool: futures.Executor, change: Callable[[Fitted], Fitted]) -> None:
        self._pool, self._change = pool, change

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Any:
        return self._pool.submit(_changed, self._change, task, *arguments)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait)


def _changed(change: Any, task: Any, *arguments: Any) -> Any:
    return change(task(*arguments))


class _Changes(Pool):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        return _After(super().start(initializer, initargs), type(self).change)

    def stop(self, executor: Any, *, now: bool = False) -> None:
        executor.shutdown()

    @staticmethod
    def change(fitted: Fitted) -> Fitted:
        raise NotImplementedError


class DropsWarnings(_Changes):
    @staticmethod
    def change(fitted: Fitted) -> Fitted:
        return Fitted(fitted.probes)


class WarnsItself(Pool):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        warnings.warn("many threads, and a fork", DeprecationWarning, stacklevel=2)
        return super().start(initializer, initargs)


class RoundsNumbers(_Changes):
    @staticmethod
    def change(fitted: Fitted) -> Fitted:
        for one in fitted.probes or []:
            linear = one.linear
            assert linear is not None
            one.linear = LinearMap(linear.weights.astype(np.float32).astype(np.float64), linear.bias)  # type: ignore[misc]
        return fitted


class OtherVersions(Pool):
    """Its workers say that they have other packages."""

    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        (shared,) = initargs
        return super().start(initializer, [replace(shared, versions={**shared.versions, "numpy": "0.1"})])


# --- when it ends


class _PoolOfPython(futures.Executor):
    """multiprocessing.Pool, which replaces a worker that died and forgets what it was at."""

    def __init__(self, initializer: Any, initargs: Any) -> None:
        self.pool = SPAWN.Pool(2, initializer, initargs)

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Any:
        future: Future[Any] = Future()
        self.pool.apply_async(task, arguments, more, future.set_result, future.set_exception)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.terminate()
        self.pool.join()


class WaitsForTheDead(_Here):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        return _PoolOfPython(initializer, initargs)


class _Swallowing(_Inline):
    """Gives None for a task that cannot be run."""

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        future = super().submit(task, *arguments, **more)
        if future.exception() is not None:
            other: Future[Any] = Future()
            other.set_result(None)
            return other
        return future


class ForgivesDeath(_Here):
    def pool(self) -> futures.Executor:
        return _Swallowing()


class _Disguised(futures.Executor):
    """Breaks, and says that it is something else."""

    def __init__(self, pool: futures.Executor) -> None:
        self.pool = pool

    def submit(self, task: Any, /, *arguments: Any, **more: Any) -> Any:
        other: Future[Any] = Future()
        try:
            made = self.pool.submit(task, *arguments, **more)
        except Exception as error:
            other.set_exception(OSError(str(error)))
            return other

        def pass_on(future: Future[Any]) -> None:
            error = future.exception()
            if error is None:
                other.set_result(future.result())
            else:
                other.set_exception(OSError(str(error)))

        made.add_done_callback(pass_on)
        return other

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait)


class HidesThatItBroke(Pool):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        return _Disguised(super().start(initializer, initargs))

    def stop(self, executor: Any, *, now: bool = False) -> None:
        executor.shutdown()


class NeverStops(Pool):
    def stop(self, executor: Any, *, now: bool = False) -> None:
        pass


class CannotStop(Pool):
    def stop(self, executor: Any, *, now: bool = False) -> None:
        executor.shutdown(wait=True)
        raise OSError("the scheduler is gone")


class WaitsForAll(Pool):
    def stop(self, executor: Any, *, now: bool = False) -> None:
        executor.shutdown(wait=True)


class LeavesTasks(Pool):
    def stop(self, executor: Any, *, now: bool = False) -> None:
        executor.shutdown(wait=False)


_SHARED: list[futures.Executor] = []


class OneForAll(Pool):
    def start(self, initializer: Any, initargs: Any = ()) -> futures.Executor:
        if not _SHARED:
            _SHARED.append(super().start(initializer, initargs))
        return _SHARED[0]

    def stop(self, executor: Any, *, now: bool = False) -> None:
        _SHARED.clear()
        super().stop(executor, now=now)


EXECUTORS = [executor_of(Pool), executor_of(LocalExecutor, processes=2)]
BAD_EXECUTORS: dict[str, dict[Given, str]] = {
    "test_every_key_is_a_runtime_option": {executor_of(ShapesValues): "the keys \\['speed'\\]"},
    "test_it_says_how_many_tasks_run_at_a_time": {
        executor_of(NoCount): "workers\\(\\) gives None", executor_of(NoAnswer): "gives 'yes'"},
    "test_tasks_run_at_the_same_time_in_other_processes": {
        executor_of(Threads): "in the process that waits", executor_of(OneProcess, SLOW): "did not meet",
        executor_of(TwoInOneProcess): "2 tasks ran at a time in 1 processes"},
    "test_each_future_holds_its_own_result": {
        executor_of(MixesResults): "returned \\[0, 0, 1, 2\\]", executor_of(MapsBackwards): "gives \\['c'"},
    "test_exceptions_reach_the_caller": {
        executor_of(WrapsErrors): "its future RuntimeError", executor_of(KeepsTheText): "InputError"},
    "test_every_worker_is_initialized": {
        executor_of(InitializesNothing): "called with \\[\\]",
        executor_of(OtherArguments): "called with \\[\\('targets',\\)\\]"},
    "test_messages_come_back": {
        executor_of(LosesMessages, 1): "here came \\[\\]", executor_of(QueueOfThreads): "cannot pickle"},
    "test_warnings_of_a_fit_are_given_here": {
        executor_of(DropsWarnings): "the warnings are \\[\\]", executor_of(WarnsItself): "a fork"},
    "test_a_fit_has_the_same_bits_as_here": {
        executor_of(RoundsNumbers): "is another than in this", executor_of(OtherVersions): "the worker has numpy"},
    "test_a_task_that_dies_is_reported": {
        executor_of(WaitsForTheDead, 3): "no result after 3 seconds", executor_of(ForgivesDeath): "has a result",
        executor_of(HidesThatItBroke): "after OSError"},
    "test_stop_ends_the_processes_that_it_started": {
        executor_of(NeverStops, SLOW): "go on after stop", executor_of(CannotStop): "now=False\\) raises OSError"},
    "test_stop_now_does_not_wait_for_tasks": {
        executor_of(WaitsForAll, SLOW): "does not return in 20 seconds",
        executor_of(LeavesTasks, SLOW): "go on after stop"},
    "test_two_can_be_started": {executor_of(OneForAll): "after another was stopped"},
}  # fmt: skip
