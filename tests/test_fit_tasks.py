"""Fits in a worker: whose they are where runs share workers, and when none is made."""

import numpy as np
import pytest
import torch

from probekit import fit_tasks
from probekit.components import ArrayMatrix, FitProgress
from probekit.fit_tasks import FitTask, Shared, begin, make_fit
from probekit.probes.linear import LinearProbe
from probekit.testing.probe import Problems

PROBLEMS = Problems()
PROBE = LinearProbe(penalty=0.1, device="cpu")


class Box:
    """A queue that keeps all."""

    def __init__(self):
        self.messages = []

    def put(self, message):
        self.messages.append(message)


@pytest.fixture(autouse=True)
def worker(monkeypatch):
    """This process as a worker, for a while."""
    monkeypatch.setattr(fit_tasks, "_SHARED", {})
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def shared(name, messages=None):
    return Shared([PROBLEMS.targets[name]], None, messages, process=-1)


def task(place=0):
    return FitTask((place,), ["m"], PROBE, ArrayMatrix(PROBLEMS.features), [0], None)


def test_a_worker_of_two_runs_makes_each_runs_own_fits():
    runs = [shared("classes"), shared("number"), shared("multilabel")]
    for one in runs:
        begin(one)
    assert torch.get_num_threads() == 1
    for one in runs:
        (there,) = make_fit(one.run, task()).probes
        (here,) = PROBE.fit(task().matrix, one.targets)
        assert np.array_equal(there.linear.weights, here.linear.weights)


def test_a_worker_that_does_not_know_a_run_makes_none_of_its_fits():
    runs = [shared("number") for _ in range(fit_tasks._KEPT + 1)]
    for one in runs:
        begin(one)
    reasons = [make_fit(one.run, task()).reason for one in runs]
    assert reasons == ["the worker was not initialized for this run"] + [None] * fit_tasks._KEPT


def test_a_worker_with_other_versions_says_which():
    one = shared("number")
    begin(Shared(one.targets, None, None, one.run, -1, {**one.versions, "torch": "1.0", "new": "2"}))
    made = make_fit(one.run, task())
    assert made.probes is None
    assert made.reason == f"the worker has torch {one.versions['torch']}, not 1.0; new is absent, not 2"


@pytest.mark.parametrize("box", [None, Box()])
def test_progress_is_told_where_there_is_a_queue(box):
    one = shared("classes", box)
    begin(one)
    assert make_fit(one.run, task(3)).reason is None
    for place, progress in [] if box is None else box.messages:
        assert place == (3,)
        assert isinstance(progress, FitProgress)
    assert box is None or box.messages
