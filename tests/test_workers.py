"""Fits in processes of their own: the same to the last bit, and what becomes of those that fail, warn or die."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

import cloudpickle
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from probekit.components import ArrayMatrix, FitContext, FitProgress, FittedProbe, Probe, Target
from probekit.errors import ProbekitWarning
from probekit.fits import FitJournal, contents_digest
from probekit.probes.arithmetic import SMALL_FIT_FLOPS
from probekit.probes.early import EarlyStopping
from probekit.probes.linear import LinearProbe
from probekit.progress import FittingProgress
from probekit.workers import WORTH_SECONDS, FitsAhead, FitTask, FitWorkers

cloudpickle.register_pickle_by_value(sys.modules[__name__])

X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)
PARTS = np.split(np.random.default_rng(0).permutation(len(Y)), [1000])
CLASSES = tuple(map(str, range(10)))
TARGETS = [
    Target("digit", CLASSES, Y.astype(np.int64), np.sort(PARTS[0]), np.sort(PARTS[1])),
    Target("odd", ("no", "yes"), (Y % 2).astype(np.int64), np.sort(PARTS[0]), np.sort(PARTS[1])),
]
PENALTIES = [0.1, 0.01]


class Unruly(Probe):
    """Does what its name says instead of fitting."""

    kind: Literal["unruly"] = "unruly"
    does: str = "raise"

    def fit(self, features: Any, targets: Sequence[Target], context: FitContext | None = None) -> list[FittedProbe]:
        if self.does == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.does == "warn":
            warnings.warn("take care", ProbekitWarning, stacklevel=2)
            return LinearProbe(penalty=1.0).fit(features, targets, context)
        if self.does == "fit too few":
            return []
        raise ValueError("no luck")


def task(probe: Probe, place: int = 0, columns: slice = slice(None), asked: Sequence[int] = (0, 1)) -> FitTask:
    matrix = ArrayMatrix(np.ascontiguousarray(X[:, columns]))
    return FitTask((place,), ["m", None, str(place), "pool", "p"], probe, matrix, asked, None)


@pytest.fixture(scope="module")
def workers() -> Iterator[FitWorkers]:
    with FitWorkers(TARGETS, count=2) as found:
        yield found


def made(workers: FitWorkers, one: FitTask, hear: Any = lambda progress: None) -> list[FittedProbe] | None:
    return workers.wait(workers.submit(one), one, hear)


@pytest.mark.parametrize(
    "probe",
    [
        LinearProbe(penalty=PENALTIES),
        LinearProbe(stopping="early", early=EarlyStopping(max_epochs=3)),
    ],
    ids=["optimum", "early"],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_fit_is_the_same_wherever_it_is_made(workers, probe, threads):
    one = task(probe)
    there = made(workers, one)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        here = probe.fit(one.matrix, TARGETS)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for a, b in zip(there, here, strict=True):
        assert np.array_equal(a.linear.weights, b.linear.weights)
        assert np.array_equal(a.linear.bias, b.linear.bias)
        assert (a.penalty, a.certificate, a.facts) == (b.penalty, b.certificate, b.facts)


def test_several_fits_go_on_at_once_and_each_is_its_own(workers):
    tasks = [task(LinearProbe(penalty=PENALTIES), place, slice(0, width), [place % 2])
             for place, width in enumerate((8, 16, 24, 32))]  # fmt: skip
    futures = [workers.submit(one) for one in tasks]
    for one, future in zip(tasks, futures, strict=True):
        (there,) = workers.wait(future, one, lambda progress: None)
        (here,) = one.probe.fit(one.matrix, [TARGETS[one.asked[0]]])
        assert np.array_equal(there.linear.weights, here.linear.weights)


def test_it_is_heard_how_far_a_fit_is(workers):
    heard: list[FitProgress] = []
    assert made(workers, task(LinearProbe(), 7), heard.append) is not None
    # The last word may come after the fit itself.
    assert all(isinstance(one, FitProgress) and one.heads >= 12 for one in heard)


@pytest.mark.parametrize("does", ["raise", "fit too few"])
def test_what_fails_is_to_be_made_again_where_its_reason_can_be_told(workers, does):
    assert made(workers, task(Unruly(does=does))) is None
    assert workers.count == 2


def test_warnings_are_given_where_the_fit_is_waited_for(workers):
    with pytest.warns(ProbekitWarning, match="take care"):
        assert made(workers, task(Unruly(does="warn"))) is not None


def test_what_the_journal_has_is_not_fitted(tmp_path: Path):
    journal = FitJournal(tmp_path / "fits", TARGETS)
    one = task(LinearProbe(penalty=1.0))
    key = journal.key(one.names, contents_digest(one.matrix), one.probe)
    with FitWorkers(TARGETS, journal, 2) as own:
        assert made(own, one) is not None
        journal.write(key, dict(enumerate(one.probe.fit(one.matrix, TARGETS))))
        assert made(own, one) is None


def test_a_lost_process_costs_a_warning_and_the_rest_is_fitted_here():
    with FitWorkers(TARGETS, count=2) as own:
        waiting = [task(Unruly(does="die")), task(LinearProbe(penalty=1.0), 1)]
        futures = [own.submit(one) for one in waiting]
        with pytest.warns(ProbekitWarning, match="a process that fitted probes was lost") as told:
            found = [own.wait(future, one, lambda progress: None) for future, one in zip(futures, waiting, strict=True)]
        assert len(told) == 1
        assert found[0] is None
        assert own.count == 0
        assert made(own, waiting[1]) is None


def test_processes_are_as_many_as_threads_and_none_where_there_is_one():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert FitWorkers(TARGETS).count == 0
    finally:
        torch.set_num_threads(before)
    assert FitWorkers(TARGETS, count=3).count == 3
    assert FitWorkers(TARGETS, count=1).count == 0


def test_as_many_fits_as_processes_must_fit_into_memory():
    two = FitWorkers(TARGETS, count=2)
    assert two.afford(1 << 30, None)
    assert two.afford(1 << 30, 4 << 30)
    assert not two.afford(1 << 30, 3 << 30)


def test_small_fits_are_made_side_by_side_and_large_ones_alone():
    probe = LinearProbe(penalty=PENALTIES)
    columns = (10 + 2) * len(PENALTIES)
    most = int(SMALL_FIT_FLOPS / (4 * 64 * columns))
    assert probe.side_by_side(most, 64, TARGETS) > 4 * most * 64
    assert probe.side_by_side(most + 1, 64, TARGETS) is None
    assert LinearProbe(device="cpu").side_by_side(10, 10, TARGETS) is not None
    assert Unruly().side_by_side(10, 10, TARGETS) is None


class Counted(FitWorkers):
    """Notes what is submitted, and fits it here."""

    def __init__(self, count: int, running: bool) -> None:
        super().__init__(TARGETS, count=count)
        self.submitted: list[int] = []
        self.running = running

    @property
    def started(self) -> bool:
        return self.running

    def submit(self, task: FitTask) -> Any:
        self.submitted.append(task.place[0])
        future: Future[int] = Future()
        future.set_result(task.place[0])
        return future

    def wait(self, future: Any, task: FitTask, hear: Any) -> Any:
        assert future.result() == task.place[0]
        return [f"fit {future.result()}"]


def slow_progress(seconds: float) -> FittingProgress:
    """Return the progress of a run that is expected to last so long."""
    progress = FittingProgress(fits=2, work=2)
    progress.left = lambda: seconds  # type: ignore[method-assign]
    return progress


def test_a_few_fits_are_made_ahead_and_those_that_are_passed_over_are_forgotten():
    own = Counted(2, running=True)
    ahead = FitsAhead(own, {(number,): lambda number=number: task(Unruly(), number) for number in range(8)})
    progress = slow_progress(0.0)
    assert ahead.take((0,), progress) == ["fit 0"]
    assert own.submitted == [0, 1, 2]
    assert ahead.take((1,), progress) == ["fit 1"]
    assert own.submitted == [0, 1, 2, 3]
    assert ahead.take(("unknown",), progress) is None
    assert ahead.take((5,), progress) == ["fit 5"]  # the journal had those between
    assert own.submitted == [0, 1, 2, 3, 5, 6, 7]
    assert [ahead.take((number,), progress) for number in (6, 7)] == [["fit 6"], ["fit 7"]]
    assert own.submitted == [0, 1, 2, 3, 5, 6, 7]


def test_processes_are_not_started_for_what_is_soon_done():
    for seconds, submitted in ((WORTH_SECONDS - 1, []), (WORTH_SECONDS, [0, 1])):
        own = Counted(2, running=False)
        ahead = FitsAhead(own, {(number,): lambda number=number: task(Unruly(), number) for number in range(2)})
        found = ahead.take((0,), slow_progress(seconds))
        assert own.submitted == submitted
        assert found == (["fit 0"] if submitted else None)
    assert FitsAhead(None, {}).take((0,), slow_progress(99)) is None
