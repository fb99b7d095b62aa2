"""The executor ``local``, ``--processes``, and what a run does with executors of plugins, bad ones too."""

import os
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from probekit import Console, Executor, InputError, MachineError, ProbekitWarning, Problem, SpecError, hookimpl
from probekit.components import ArrayMatrix
from probekit.executors import LocalExecutor, with_processes
from probekit.fit_tasks import FitTask, Fitted
from probekit.plugins import Plugins, Provider
from probekit.probes.linear import LinearProbe
from probekit.run import run_spec
from probekit.sections import runtime_option
from probekit.spec import load_spec
from probekit.testing.probe import Problems
from probekit.testing.started import within
from probekit.workers import FitWorkers, count_workers

PROBLEMS = Problems()
TARGETS = [PROBLEMS.targets["classes"], PROBLEMS.targets["number"]]


def task() -> FitTask:
    return FitTask((0,), ["m"], LinearProbe(penalty=0.1), ArrayMatrix(PROBLEMS.features), [0, 1], None)


class Fake(Executor):
    """An executor whose tasks end at once, as ``ends`` says."""

    kind: Literal["fake"] = "fake"
    ends: str = runtime_option("well", "what becomes of each task")
    count: int = runtime_option(2, "how many workers it says it has")
    shares: bool = runtime_option(True, "whether they take this machine's memory")

    def workers(self) -> int:
        if self.ends == "unreachable":
            raise MachineError(Problem("FAKE-1", "no scheduler answers", "start it", "ends"))
        return self.count

    def start(self, initializer: Any, initargs: Any = ()) -> Any:
        if self.ends == "no start":
            raise InputError(Problem("FAKE-2", "no worker can be started"))
        return FakePool(self.ends)

    def shares_memory(self) -> bool:
        return self.shares


class FakePool:
    def __init__(self, ends: str) -> None:
        self.ends, self.stopped, self.futures = ends, None, []

    def submit(self, task: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        if self.ends == "lost connection":
            future.set_exception(OSError("connection lost"))
        if self.ends == "well":
            future.set_result(Fitted([]))
        if self.ends == "not there":
            future.set_result(Fitted(None, reason="FileNotFoundError: no store"))
        return future

    def shutdown(self, wait: bool) -> None:
        if self.ends == "cannot stop":
            raise OSError("the scheduler is gone")
        self.stopped = wait


@hookimpl
def register_executors() -> list[type[Executor]]:
    return [Fake]


# --- local ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 64), st.integers(1, 64))
def test_processes_override_the_spec_and_nothing_else(first, second):
    made = with_processes(LocalExecutor(processes=first), second)
    assert made == LocalExecutor(processes=second)
    assert made.workers() == second
    assert made.identity() == LocalExecutor().identity() == {"kind": "local", "version": 1}


def test_there_are_as_many_processes_as_torch_has_threads_by_default():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert LocalExecutor().workers() == 3
    finally:
        torch.set_num_threads(before)


RUN = """
import os, signal, time
from probekit.executors import LocalExecutor
from probekit.fit_tasks import Shared, begin
if __name__ == "__main__":
    pool = LocalExecutor(processes=2).start(begin, (Shared([], None, None),))
    heeds = pool.submit(signal.getsignal, signal.SIGINT).result() is not signal.SIG_IGN
    print(pool.submit(os.getpid).result(), heeds, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_processes_leave_ctrl_c_to_the_run_and_end_with_it_when_it_is_killed(tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.Popen([sys.executable, tmp_path / "run.py"], stdout=subprocess.PIPE, text=True, env=environ)
    try:
        pid, heeds = run.stdout.readline().split()
        assert heeds == "False"
        assert Path(f"/proc/{pid}").exists()
    finally:
        run.kill()
        run.wait()
        run.stdout.close()  # a process that was just starting may hold its other end for longer
    assert within(120, lambda: not Path(f"/proc/{pid}").exists())


LATE = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from probekit.executors import LocalExecutor
from probekit.fit_tasks import Shared, begin
def late(shared, folder):
    (folder / "pid").write_text(str(os.getpid()))
    while Path(f"/proc/{shared.process}").exists():
        time.sleep(0.01)
    begin(shared)
    (folder / "began").touch()
if __name__ == "__main__":
    given = dict(initializer=late, initargs=(Shared([], None, None), Path(__file__).parent))
    if sys.argv[1] == "local":
        pool = LocalExecutor(processes=1).start(**given)
    else:
        pool = ProcessPoolExecutor(1, get_context(sys.argv[1]), **given)
    pool.submit(os.getpid)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["local", "spawn", "forkserver"])
def test_a_process_that_begins_after_its_run_was_killed_ends(how, tmp_path):
    (tmp_path / "run.py").write_text(LATE)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.Popen([sys.executable, tmp_path / "run.py", how], env=environ)
    written = tmp_path / "pid"
    try:
        assert within(120, lambda: written.exists() and written.read_text())
    finally:
        run.kill()
        run.wait()
    assert within(120, lambda: not Path(f"/proc/{written.read_text()}").exists())
    assert not (tmp_path / "began").exists()


class Few(Executor):
    kind: Literal["few"] = "few"
    processes: int = Field(2, le=4, description="at most four")

    def workers(self) -> int:
        return self.processes

    def start(self, initializer: Any, initargs: Any = ()) -> Any:
        raise NotImplementedError


def test_a_number_that_an_executor_does_not_take_is_refused():
    assert with_processes(Few(), 4).workers() == 4
    with pytest.raises(SpecError) as refused:
        with_processes(Few(), 5)
    (problem,) = refused.value.problems
    what = "--processes 5: the executor 'few' refuses it: input should be less than or equal to 4; give another number"
    assert (problem.code, str(problem)) == ("PK-Y43", what)


# --- executors of plugins ---------------------------------------------------------------------------------------------


class Spawning(Executor):
    """Python's own pool; nothing of it is probekit's."""

    kind: Literal["spawning"] = "spawning"

    def workers(self) -> int:
        return 2

    def start(self, initializer: Any, initargs: Any = ()) -> Any:
        return ProcessPoolExecutor(2, get_context("spawn"), initializer, initargs)


def test_a_pool_of_another_library_without_a_queue_makes_the_same_fit():
    with FitWorkers(TARGETS, executor=Spawning()) as workers:
        there = workers.wait(workers.submit(task()), task(), lambda progress: pytest.fail("there is no queue"))
        assert workers.facts() == {"kind": "spawning", "workers": None, "fits": 1}
    for one, other in zip(there, task().probe.fit(task().matrix, TARGETS), strict=True):
        assert one.linear.weights.tobytes() == other.linear.weights.tobytes()
        assert one.linear.bias.tobytes() == other.linear.bias.tobytes()


@pytest.mark.parametrize(
    ("ends", "reason"),
    [("lost connection", "OSError: connection lost"), ("not there", "FileNotFoundError: no store")],
)
def test_a_fit_that_an_executor_loses_is_to_be_made_here_and_it_goes_on(ends, reason):
    with FitWorkers(TARGETS, executor=Fake(ends=ends)) as workers:
        for _ in range(2):
            assert workers.wait(workers.submit(task()), task(), lambda progress: None) is None
            assert workers.failed_there() == reason
            assert workers.failed_there() is None
        assert (workers.count, workers.facts()["fits"]) == (2, 0)


@pytest.mark.parametrize("stopped", [False, True])
def test_what_was_not_waited_for_is_cancelled_and_the_pool_is_stopped(stopped):
    workers = FitWorkers(TARGETS, executor=Fake(ends="never"))
    try:
        with workers:
            future = workers.submit(task())
            pool = workers._pool
            if stopped:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert future.cancelled()
    assert pool.stopped is not stopped


def test_an_executor_that_cannot_stop_costs_a_warning():
    told = pytest.warns(ProbekitWarning, match="executor 'fake' did not stop: OSError: the scheduler is gone")
    with told, FitWorkers(TARGETS, executor=Fake(ends="cannot stop")) as workers:
        workers.submit(task())


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ("unreachable", "FAKE-1 executor.ends: no scheduler answers; start it"),
        ("no start", "FAKE-2 executor: no worker can be started"),
    ],
)
def test_what_cannot_be_reached_is_told_at_the_executors_section(ends, text):
    executor = Fake(ends=ends)
    with pytest.raises((MachineError, InputError)) as refused:
        FitWorkers(TARGETS, count=count_workers(executor), executor=executor).submit(task())
    (problem,) = refused.value.problems
    assert f"{problem.code} {problem}" == text


def test_memory_of_other_machines_bounds_each_fit_and_not_all_of_them():
    fit, memory = 1 << 30, 2 << 30
    assert not FitWorkers(TARGETS, executor=Fake(count=8)).afford(fit, memory)
    assert FitWorkers(TARGETS, executor=Fake(count=8, shares=False)).afford(fit, memory)
    assert not FitWorkers(TARGETS, executor=Fake(count=8, shares=False)).afford(2 * fit, memory)
    assert FitWorkers(TARGETS, executor=Fake(count=1)).count == 0


# --- in a run ---------------------------------------------------------------------------------------------------------

QUICK = ("taps=[linear, logits]", "reports=[json]", "labels.parity=null")


@pytest.fixture
def go(specs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the digits spec with settings; return its result."""
    monkeypatch.setattr("probekit.workers.WORTH_SECONDS", 0.0)
    monkeypatch.setitem(sys.modules, "fake_plugin", sys.modules[__name__])
    own = [one for one in Plugins().providers if one.built_in]
    plugins = Plugins([*own, Provider("executor", "fake", "fake_plugin", "pk-fake", "2.0")])

    def run(*settings: str, processes: int | None = None, isolate: bool = True) -> Any:
        loaded = load_spec(specs / "digits.yaml", plugins, [*QUICK, *settings])
        return run_spec(loaded, plugins, tmp_path / "run", Console(isolate=isolate, processes=processes)).result

    return run


def probes_of(result: Any) -> list[dict[str, Any]]:
    return [one.model_dump(exclude={"seconds"}) for one in result.probes]


def test_no_executor_changes_a_number_and_the_result_says_which_it_was(go):
    alone = go(isolate=False)
    assert alone.provenance["executor"] is None
    local = go("executor.processes=2")
    made = local.provenance["executor"].pop("fits")
    assert local.provenance["executor"] == {"kind": "local", "processes": 2, "workers": 2}
    assert made > 0
    kinds = [one["kind"] for one in local.provenance["plugins"]]
    assert "executor.local" in kinds
    assert probes_of(local) == probes_of(alone)
    one = go("executor.processes=4", processes=1)
    assert one.provenance["executor"] == {"kind": "local", "processes": 1, "workers": 1, "fits": 0}
    fake = go("executor={kind: fake, ends: not there}")
    assert {"kind": "executor.fake", "distribution": "pk-fake", "version": "2.0"}.items() <= next(
        one for one in fake.provenance["plugins"] if one["kind"] == "executor.fake"
    ).items()
    told = [text for text in fake.provenance["warnings"] if "worker" in text]
    assert len(told) == 1
    assert "tap linear" in told[0]
    assert told[0].endswith("because a worker of executor 'fake' could not: FileNotFoundError: no store")
    assert probes_of(fake) == probes_of(alone)


def test_an_executor_that_cannot_be_reached_ends_a_run_before_its_first_pass(go, passes):
    with pytest.raises(MachineError) as refused:
        go("executor={kind: fake, ends: unreachable}")
    (problem,) = refused.value.problems
    assert (
        str(problem) == "--set executor={kind: fake, ends: unreachable}: executor.ends: no scheduler answers; start it"
    )
    assert passes == []


def test_processes_are_refused_where_the_executor_has_none(go, tmp_path):
    with pytest.raises(SpecError) as refused:
        go("executor={kind: fake}", processes=3)
    (problem,) = refused.value.problems
    what = (
        "--processes 3: the executor 'fake' has no key 'processes'; leave it out; its keys: 'ends', 'count', 'shares'"
    )
    assert (problem.code, str(problem)) == ("PK-Y43", what)
    assert not (tmp_path / "run").exists()
