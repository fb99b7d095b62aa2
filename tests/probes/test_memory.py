"""What a fit plans to hold, and what it holds."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import InputError
from probekit.probes.memory import Job, plan_memory

GIGABYTE = 1 << 30
SLACK = 48 << 20
"""What the allocator keeps beside what is in use, and code that is loaded by the first call."""


@st.composite
def jobs(draw):
    widest = draw(st.integers(1, 2000))
    return Job(draw(st.integers(2, 10**6)), draw(st.integers(1, 10**5)), widest * draw(st.integers(1, 50)), widest)


def planned(job, memory, *, may_hold=True):
    try:
        return plan_memory(job, memory, may_hold=may_hold)
    except InputError:
        return None


@given(job=jobs(), memory=st.integers(0, 64 * GIGABYTE), may_hold=st.booleans())
def test_a_plan_needs_no_more_than_there_is(job, memory, may_hold):
    plan = planned(job, memory, may_hold=may_hold)
    if plan is None:
        return
    assert plan.needed <= memory
    assert job.widest <= plan.columns <= job.columns
    assert plan.history >= 3
    assert plan.at_once >= 256
    assert may_hold or not plan.hold


@given(job=jobs(), less=st.integers(0, 16 * GIGABYTE), more=st.integers(0, 16 * GIGABYTE), may_hold=st.booleans())
def test_less_memory_never_holds_more(job, less, more, may_hold):
    small, large = (planned(job, size, may_hold=may_hold) for size in (less, less + more))
    if small is None:
        return
    assert large is not None
    assert small.hold <= large.hold
    if small.hold == large.hold:
        assert (small.history, small.at_once) <= (large.history, large.at_once)
        if (small.history, small.at_once) == (large.history, large.at_once):
            assert small.columns <= large.columns


@given(job=jobs(), may_hold=st.booleans())
def test_without_a_bound_all_is_held_and_iterated_together(job, may_hold):
    plan = plan_memory(job, None, may_hold=may_hold)
    assert (plan.hold, plan.columns) == (may_hold, job.columns)
    assert planned(job, plan.needed, may_hold=may_hold) == plan


@given(job=jobs())
def test_a_refusal_says_what_is_needed(job):
    with pytest.raises(InputError) as caught:
        plan_memory(job, 0)
    (problem,) = caught.value.problems
    assert problem.code == "PK-R03"
    needed = int(problem.what.split(" MiB")[0].rsplit(" ", 1)[1])
    assert plan_memory(job, needed << 20).columns >= job.widest
    assert planned(job, (needed - 1 << 20) - 1) is None


@given(job=jobs(), memory=st.integers(0, 16 * GIGABYTE))
def test_a_larger_fit_needs_more(job, memory):
    for larger in (replace(job, rows=2 * job.rows), replace(job, columns=2 * job.columns)):
        assert plan_memory(larger, None, may_hold=False).needed > plan_memory(job, None, may_hold=False).needed


_CHILD = """
import json, sys, threading, time
import numpy as np
from probekit.components import ArrayMatrix, FitContext, Target
from probekit.probes import joint
from probekit.probes.linear import LinearProbe

job = json.loads(sys.argv[1])

def anonymous():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def run(rows, features, classes, penalties, memory):
    rng = np.random.default_rng(0)
    X = np.empty((rows, features), np.float32)
    for start in range(0, rows, 1000):
        X[start : start + 1000] = rng.standard_normal(X[start : start + 1000].shape, dtype=np.float32)
    names, every = tuple(map(str, range(classes))), np.arange(rows)
    asked = Target("f", names, every % classes, every, every[::9])
    plans, real = [], joint.plan_memory
    joint.plan_memory = lambda *a, **k: plans.append(real(*a, **k)) or plans[-1]
    before = most = anonymous()
    done = threading.Event()
    def watch():
        nonlocal most
        while not done.wait(0.002):
            most = max(most, anonymous())
    watcher = threading.Thread(target=watch)
    watcher.start()
    probe = LinearProbe(penalty=penalties, arithmetic=job["arithmetic"], max_passes=4)
    probe.fit(ArrayMatrix(X), [asked], FitContext(memory=memory))
    done.set()
    watcher.join()
    joint.plan_memory = real
    return {"grown": most - before, "needed": plans[0].needed, "hold": plans[0].hold}

run(500, 40, job["classes"], [0.1], None)
print(json.dumps(run(job["rows"], job["features"], job["classes"], job["penalties"], job["memory"])))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's count of anonymous memory is Linux's")
@pytest.mark.parametrize(
    "job",
    [
        {"rows": 20_000, "features": 2000, "classes": 10, "memory": 300_000_000, "arithmetic": "auto"},
        {"rows": 20_000, "features": 400, "classes": 10, "memory": None, "arithmetic": "auto"},
        {"rows": 300, "features": 6000, "classes": 20, "memory": None, "arithmetic": "auto"},
        {"rows": 600, "features": 1200, "classes": 50, "memory": None, "arithmetic": "float64"},
    ],
    ids=["read anew", "few features", "few rows", "many columns in float64"],
)
def test_what_a_fit_takes_is_within_its_plan(job):
    job = job | {"penalties": [1.0, 0.1]}
    child = subprocess.run([sys.executable, "-c", _CHILD, json.dumps(job)], capture_output=True, text=True, check=True)
    told = json.loads(child.stdout)
    assert told["hold"] == (job["memory"] is None)
    assert told["grown"] <= told["needed"] + SLACK
    assert job["memory"] is None or told["grown"] <= job["memory"]
