"""Ridge regression in closed form, against NumPy's solution in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.components import ArrayMatrix, FitContext, Target
from probekit.probes import axes
from probekit.probes.closed_form import MOST, ClosedForm, gram_bytes
from probekit.probes.curved_rows import known_bytes
from probekit.probes.design import Held, Streamed
from probekit.probes.head import Head
from probekit.probes.linear import LinearProbe
from probekit.probes.losses import SQUARES, Answers
from probekit.probes.memory import Job, plan_memory
from probekit.probes.standardise import Standardiser


def problem(rows, features, seed, decay=1e-3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, features)) * np.geomspace(1, decay, features)
    X = ((X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)).astype(np.float32)
    return X, X @ rng.standard_normal(features) + rng.standard_normal(rows) + 3


def heads(y, penalties, features):
    answers = Answers(SQUARES, torch.from_numpy(y))
    return [
        Head(answers, one, 1e-9, torch.zeros(1, features, dtype=torch.float64), answers.start()) for one in penalties
    ]


def solution(X, y, penalty):
    S = X.astype(np.float64)
    return np.linalg.solve(S.T @ S / len(S) + penalty * np.eye(S.shape[1]), S.T @ (y - y.mean()) / len(S))


def objective(X, y, w, penalty):
    residual = X.astype(np.float64) @ w - (y - y.mean())
    return (residual**2).mean() / 2 + penalty / 2 * w @ w


@settings(deadline=None)
@given(
    rows=st.integers(2, 120),
    features=st.integers(1, 120),
    seed=st.integers(0, 99),
    penalties=st.lists(st.sampled_from([10, 1, 0.1, 1e-3, 1e-5, 1e-7]), min_size=1, max_size=3),
)
def test_weights_are_numpys(rows, features, seed, penalties):
    X, y = problem(rows, features, seed)
    some = heads(y, penalties, features)
    ClosedForm(Held(torch.from_numpy(X)), [some[0].answers]).put_at_optimum(some)
    for head in some:
        w, best = head.weights[0].numpy(), solution(X, y, head.penalty)
        assert objective(X, y, w, head.penalty) <= objective(X, y, best, head.penalty) * (1 + 1e-7)
        assert (head.solved, head.passes, head.arithmetic) == (True, 1, ["float64"])


def test_several_numbers_share_a_matrix():
    X, y = problem(80, 30, 0)
    other = np.cos(5 * y)
    some = [*heads(y, [0.1, 1e-3], 30), *heads(other, [1e-3], 30)]
    ClosedForm(Held(torch.from_numpy(X)), [some[0].answers, some[2].answers]).put_at_optimum(some)
    for head, asked in zip(some, (y, y, other), strict=True):
        np.testing.assert_allclose(head.weights[0].numpy(), solution(X, asked, head.penalty), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("rows", "features"), [(3000, 90), (60, 90)])
def test_rows_that_are_read_give_what_held_ones_give(rows, features):
    raw, y = problem(rows, features, 1)
    matrix, train = ArrayMatrix(raw * 5 + 2), np.arange(rows)
    read = Streamed(matrix, train, Standardiser(matrix, train), torch.device("cpu"), 256)
    (there,), (here,) = heads(y, [1e-3], features), heads(y, [1e-3], features)
    ClosedForm(read, [there.answers]).put_at_optimum([there])
    ClosedForm(Held(torch.cat(list(read.blocks(torch.float32, 999)))), [here.answers]).put_at_optimum([here])
    np.testing.assert_allclose(there.weights.numpy(), here.weights.numpy(), rtol=1e-9, atol=1e-12)


def test_a_matrix_that_is_not_definite_leaves_the_weights_alone():
    X = np.repeat(np.random.default_rng(0).standard_normal((50, 1)).astype(np.float32), 40, axis=1)
    some = heads(X[:, 0].astype(np.float64), [1e-20, 0.1], 40)
    ClosedForm(Held(torch.from_numpy(X)), [some[0].answers]).put_at_optimum(some)
    assert [head.solved for head in some] == [False, True]
    assert not some[0].weights.any()


def test_the_matrix_is_planned_and_left_out_where_it_does_not_fit():
    job = Job(20_000, 2000, 8, 1, numbers=4)
    free = plan_memory(job, None)
    assert free.gram is True
    without = plan_memory(Job(20_000, 2000, 8, 1), None)
    assert (without.gram, without.needed) == (False, free.needed - gram_bytes(2000))
    least = without.needed - known_bytes(without.known_rows, 2000) + gram_bytes(2000)
    assert plan_memory(job, least).gram
    assert not plan_memory(job, least - 1).gram
    assert not plan_memory(replace(job, features=MOST + 1), None).gram


def test_without_room_for_the_matrix_a_number_is_iterated(monkeypatch):
    monkeypatch.setattr(axes, "EXACT", 64)
    X, y = problem(600, 300, 2, decay=0.1)
    asked = Target("size", (), y, np.arange(500), np.arange(500, 600), task="number")
    probe = LinearProbe(penalty=[0.1, 1e-2])
    free = plan_memory(Job(500, 300, 2, 1), None)
    least = free.needed - known_bytes(free.known_rows, 300) + gram_bytes(300)
    solved, iterated = (probe.fit(ArrayMatrix(X), [asked], FitContext(most))[0] for most in (least, least - 1))
    assert (solved.facts.preconditioner, iterated.facts.preconditioner) == ("gram", "sketch")
    assert solved.facts.passes < iterated.facts.passes
    for one, other in zip(solved.facts.path, iterated.facts.path, strict=True):
        assert one.status == other.status == "proven"
        assert abs(one.objective - other.objective) <= one.gap + other.gap + 1e-6 * one.objective
