"""The conformance of executors."""

from __future__ import annotations

import os
import platform
import queue
import threading
import warnings
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from probekit.components import ArrayMatrix
from probekit.errors import InputError, ProbekitWarning, Problem
from probekit.testing import executor_tasks as tasks
from probekit.testing.checks import expect, no_crash
from probekit.testing.component import ComponentConformance
from probekit.testing.probe import Problems
from probekit.testing.started import (
    START,
    children,
    error_of,
    expect_ended,
    fits,
    meeting,
    result_of,
    started,
    stop,
    within,
)

if TYPE_CHECKING:
    from pathlib import Path

    from probekit.components import Executor
    from probekit.sections import Component

_KEPT = 3600.0
"""Seconds that a task waits which is to be ended before."""


class ExecutorConformance(ComponentConformance):
    """What an executor must hold to. Give ``executor``, with two workers or more.

    Example:
        ::

            class TestMyExecutor(ExecutorConformance):
                @pytest.fixture
                def executor(self):
                    return MyExecutor(address="tcp://localhost:8786")
    """

    @pytest.fixture
    def executor(self) -> Executor:
        """The executor, as a spec would configure it."""
        raise NotImplementedError("override the fixture 'executor'")

    @pytest.fixture
    def seconds(self) -> float:
        """How long anything is waited for, the start of workers among it; default: 120."""
        return 120.0

    @pytest.fixture
    def component(self, executor: Executor) -> Component:
        """The executor."""
        return executor

    def test_every_key_is_a_runtime_option(self, executor: Executor) -> None:
        """``identity()`` holds the kind and its version alone: where a fit is made never changes what it is."""
        found = sorted(set(executor.identity()) - {"kind", "version"})
        expect(not found, f"the keys {found} shape values", "declare them with probekit.runtime_option")

    def test_it_says_how_many_tasks_run_at_a_time(self, executor: Executor) -> None:
        """``workers()`` is a whole number from 1, and ``shares_memory()`` true or false.

        By them a run plans how many fits are made ahead, and whether they fit into memory together.
        """
        count, shares = executor.workers(), executor.shares_memory()
        fact = f"workers() gives {count!r}"
        expect(isinstance(count, int) and not isinstance(count, bool) and count >= 1, fact, "return an int from 1")
        expect(isinstance(shares, bool), f"shares_memory() gives {shares!r}", "return True or False")

    def test_tasks_run_at_the_same_time_in_other_processes(
        self, executor: Executor, tmp_path: Path, seconds: float
    ) -> None:
        """As many tasks as ``workers()`` says run at the same time, each alone in a process that is not this one.

        A fit sets the threads and the warnings of its process, and may end it. The tasks meet in a folder that has the
        same path there, as a run needs it of its store.
        """
        with started(executor, seconds) as pool:
            found = meeting(executor, pool, tmp_path, seconds)
        here = [one for one in found if one.is_here()]
        expect(not here, "a task ran in the process that waits for it", "start processes, no threads")
        processes = {(one.host, one.pid) for one in found}
        todo = "give each process one task at a time, and let workers() say how many there are"
        expect(all(one.met for one in found), f"{len(found)} tasks did not meet in the folder {str(tmp_path)!r}", todo)
        expect(len(processes) == len(found), f"{len(found)} tasks ran at a time in {len(processes)} processes", todo)

    def test_each_future_holds_its_own_result(self, executor: Executor, seconds: float) -> None:
        """A future gives what its own task returned, whichever ends first; ``map`` keeps the order."""
        todo = "tie each result to the future that submit() returned for its task"
        with started(executor, seconds) as pool:
            sent = [pool.submit(tasks.echo, number, 0.05 * (3 - number)) for number in range(4)]
            found = [result_of(one, seconds) for one in sent]
            mapped = list(pool.map(tasks.echo, ["a", "b", "c"], timeout=seconds))
        expect(found == [0, 1, 2, 3], f"the tasks 0, 1, 2, 3 returned {found}", todo)
        expect(mapped == ["a", "b", "c"], f"map over a, b, c gives {mapped}", todo)

    def test_exceptions_reach_the_caller(self, executor: Executor, seconds: float) -> None:
        """What a task raises is raised by its future, with its type and content; the next task runs."""
        todo = "let the future raise what the task raised; pickle keeps type and arguments"
        refused = InputError(Problem("PK-L01", "one class only", "take more rows", "labels.digit"))
        with started(executor, seconds) as pool:
            for error in (KeyError("tap"), refused):
                found = error_of(pool.submit(tasks.fail, error), seconds)
                fact = f"a task raised {error!r}, its future {found!r}"
                expect(type(found) is type(error) and str(found) == str(error), fact, todo)
                same = not isinstance(found, InputError) or found.problems == refused.problems
                expect(same, fact, todo)
            expect(result_of(pool.submit(tasks.echo, 1), seconds) == 1, "the next task does not run", todo)

    def test_every_worker_is_initialized(self, executor: Executor, tmp_path: Path, seconds: float) -> None:
        """``start``'s initializer was called with its arguments in every worker that runs a task.

        It brings what all fits share, and how many threads they may use.
        """
        todo = "call initializer(*initargs) in each worker before its first task"
        with started(executor, seconds, "targets", 7) as pool:
            found = meeting(executor, pool, tmp_path, seconds)
        for one in found:
            fact = f"in process {one.pid} the initializer was called with {list(one.begun)}"
            expect(one.begun[-1:] == (("targets", 7),), fact, todo)

    def test_messages_come_back(self, executor: Executor, seconds: float) -> None:
        """What a worker puts on the queue of ``messages`` comes here in order: so far is a fit."""
        sent = [1, ("tap", 0.5), {"done": 3}]
        messages = executor.messages()
        if messages is None:
            pytest.skip("messages() is None: progress is told when a fit ends")
        got: queue.Queue[Any] = queue.Queue()

        def hear() -> None:
            for _ in sent:
                got.put(messages.get())

        todo = "return a new queue that pickles into workers, such as a multiprocessing context's SimpleQueue"
        with (
            no_crash("messages() as an argument of the initializer", todo),
            started(executor, seconds, messages) as pool,
        ):
            threading.Thread(target=hear, daemon=True).start()
            result_of(pool.submit(tasks.tell, sent), seconds)
            found = []
            for _ in sent:
                try:
                    found.append(got.get(timeout=seconds))
                except queue.Empty:
                    break
        expect(found == sent, f"a worker sent {sent}, here came {found}", todo)

    def test_warnings_of_a_fit_are_given_here(self, executor: Executor, seconds: float) -> None:
        """What a fit warns of in a worker is given where it is waited for, and the executor itself warns of nothing."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fits(executor, tasks.WarningProbe(), [], seconds)
        texts = [f"{one.category.__name__}: {one.message}" for one in told]
        todo = "return what the task returned, whole; start no process by fork"
        expect(texts == [f"{ProbekitWarning.__name__}: {tasks.WARNING}"], f"the warnings are {texts}", todo)

    def test_a_fit_has_the_same_bits_as_here(self, executor: Executor, seconds: float) -> None:
        """A fit in a worker has the same weights, λ and certificate to the last bit as in this process."""
        from probekit.probes.linear import LinearProbe

        probe, problems = LinearProbe(penalty=[0.1, 0.01], device="cpu"), Problems()
        targets = [problems.targets[name] for name in ("classes", "number")]
        there = fits(executor, probe, targets, seconds)
        for one, other in zip(there, probe.fit(ArrayMatrix(problems.features), targets), strict=True):
            found, own = one.linear, other.linear
            same = (
                found is not None
                and own is not None
                and np.array_equal(found.weights, own.weights)
                and np.array_equal(found.bias, own.bias)
                and (one.penalty, one.certificate) == (other.penalty, other.certificate)
            )
            todo = "give workers the same versions of NumPy and PyTorch, and the same kind of processor"
            expect(same, "a fit in a worker is another than in this process", todo)

    def test_a_task_that_dies_is_reported(self, executor: Executor, seconds: float) -> None:
        """The future of a task whose process dies raises, and so do or end the others: nobody waits for ever.

        After a BrokenExecutor a run makes the rest of the fits itself; after another error the next task must run.
        """
        todo = "raise concurrent.futures.BrokenExecutor from every future that can get no result any more"
        with started(executor, seconds, now=True) as pool:
            sent = [pool.submit(tasks.echo, 1, 0.2), pool.submit(tasks.die, platform.node(), os.getpid())]
            _, error = [error_of(one, seconds) for one in sent]
            expect(error is not None, "the future of a task whose process died has a result", todo)
            fact = f"after {type(error).__name__}: {error}"
            if not isinstance(error, BrokenExecutor):
                with no_crash(f"{fact}, the next task", todo):
                    after = error_of(pool.submit(tasks.echo, 2), seconds)
                expect(after is None, f"{fact}, the next task raises {after!r}", todo)

    def test_stop_ends_the_processes_that_it_started(self, executor: Executor, tmp_path: Path, seconds: float) -> None:
        """After ``stop`` no process is left that this one started: a run leaves nothing behind."""
        before = children()
        with started(executor, seconds) as pool:
            found = meeting(executor, pool, tmp_path, seconds)
        expect_ended([one for one in found if one.is_child() and one.pid not in before], seconds)

    def test_stop_now_does_not_wait_for_tasks(self, executor: Executor, tmp_path: Path, seconds: float) -> None:
        """``stop(..., now=True)`` returns while a task is at work, and ends its process if this one started it: as
        Ctrl-C asks for.
        """
        begun, end, before = tmp_path / "begun", tmp_path / "end", children()
        pool = executor.start(tasks.begin)
        try:
            pool.submit(tasks.wait_for, str(end), str(begun), _KEPT)
            there = within(seconds, begun.exists)
            expect(there, f"the task did not begin in {seconds:g} seconds", START)
            host, pid, parent = begun.read_text(encoding="utf-8").split("\n")
            stop(executor, pool, seconds, now=True)
            one = tasks.Worker(host, int(pid), int(parent))
            expect_ended([one] if one.is_child() and one.pid not in before else [], seconds)
        finally:
            end.touch()

    def test_two_can_be_started(self, executor: Executor, seconds: float) -> None:
        """What ``start`` returns is its caller's own: a second one goes on when the first one is stopped."""
        with started(executor, seconds) as pool:
            with started(executor, seconds) as first:
                result_of(first.submit(tasks.echo, 1), seconds)
                result_of(pool.submit(tasks.echo, 2), seconds)
            todo = "open in start() what it returns, and keep nothing on the component or its class"
            with no_crash("a task of one executor after another was stopped", todo):
                expect(result_of(pool.submit(tasks.echo, 3), seconds) == 3, "no task runs", todo)
