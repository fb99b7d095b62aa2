"""What a fit plans to hold, and what it holds."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import InputError
from probekit.probes.closed_form import MOST
from probekit.probes.curved_rows import known_bytes
from probekit.probes.memory import Job, job_of, plan_memory, room

GIGABYTE = 1 << 30
SLACK = 48 << 20
"""What the allocator keeps beside what is in use, and code that is loaded by the first call."""


@st.composite
def jobs(draw):
    widest, heads = draw(st.integers(1, 2000)), draw(st.integers(1, 50))
    rows, features = draw(st.integers(2, 10**6)), draw(st.one_of(st.integers(1, 10**5), st.integers(513, MOST)))
    return Job(rows, features, widest * heads, widest, draw(st.integers(0, heads)), draw(st.integers(1, 3)))


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
    job = replace(job, numbers=0)  # a Gram matrix takes the place of columns where it begins to fit
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
    codes = every % classes if classes else rng.standard_normal(rows)
    asked = Target("f", names, codes, every, every[::9], task="classes" if classes else "number")
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
    return {"grown": most - before, "needed": plans[0].needed, "hold": plans[0].hold, "gram": plans[0].gram}

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
        {"rows": 6000, "features": 2000, "classes": 0, "memory": None, "arithmetic": "auto"},
        {"rows": 9000, "features": 1500, "classes": 0, "memory": 420_000_000, "arithmetic": "auto"},
    ],
    ids=["read anew", "few features", "few rows", "many columns in float64", "a number", "a number in little memory"],
)
def test_what_a_fit_takes_is_within_its_plan(job):
    job = job | {"penalties": [1.0, 0.1]}
    child = subprocess.run([sys.executable, "-c", _CHILD, json.dumps(job)], capture_output=True, text=True, check=True)
    told = json.loads(child.stdout)
    assert told["hold"] == (job["memory"] is None or not job["classes"])
    assert told["gram"] == (not job["classes"])
    assert told["grown"] <= told["needed"] + SLACK
    assert job["memory"] is None or told["grown"] <= job["memory"]


def test_a_job_knows_its_kinds_of_heads():
    asked = [("softmax", 10), ("softmax", 10), ("softmax", 4), ("logistic", 1), ("squares", 1), ("squares", 1)]
    assert job_of(1000, 64, asked, 8) == Job(1000, 64, 27 * 8, 10, 16, 3)
    assert job_of(1000, 64, [("squares", 1)], 1) == Job(1000, 64, 1, 1, 1, 0)


@given(job=jobs(), kinds=st.integers(1, 4), memory=st.integers(0, 64 * GIGABYTE))
def test_known_rows_are_counted_for_each_kind_of_head(job, kinds, memory):
    job = replace(job, widest=min(job.widest, 16), kinds=kinds)
    plan = planned(job, memory)
    if plan is not None and plan.known_rows:
        bare = plan.needed - kinds * known_bytes(plan.known_rows, job.features)
        assert 0 < bare <= memory - kinds * known_bytes(plan.known_rows, job.features)
    numbers = planned(replace(job, numbers=job.columns, kinds=0), memory)
    assert numbers is None or numbers.known_rows == 0


@pytest.mark.parametrize(
    ("device", "memory", "found"),
    [
        ("cpu", None, None),
        ("cpu", 70, 70),
        ("cuda", None, 900),
        ("cuda", 70, 70),
        ("cuda", 5000, 900),
        ("mps", None, 450),
        ("mps", 70, 70),
        ("mps", 5000, 450),
    ],
)
def test_a_fit_takes_no_more_than_its_device_has_left(monkeypatch, device, memory, found):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 9999))
    emptied = []
    for backend in (torch.cuda, torch.mps):
        monkeypatch.setattr(backend, "empty_cache", lambda backend=backend: emptied.append(backend.__name__))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 800)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 300)
    assert room(torch.device(device), memory) == found
    assert emptied == ([] if device == "cpu" else [f"torch.{device}"])
