"""The metric that knows the most curved rows, against the dense matrix that it is the inverse of."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from probekit.components import ArrayMatrix, FitContext, Target
from probekit.probes import axes as axes_module
from probekit.probes import curved_rows
from probekit.probes import refresh as refresh_module
from probekit.probes.axes import Axes
from probekit.probes.curved_rows import CurvedRows, known_bytes, known_rows, may_know_rows, most_curved
from probekit.probes.descent import Descent
from probekit.probes.design import Held
from probekit.probes.linear import LinearProbe
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES, Answers
from probekit.probes.stack import Heads, Start

ROWS, FEATURES, CLASSES = 64, 5, 3
PENALTIES = [1e-2, 1e-4]


@pytest.fixture(autouse=True)
def sketched(monkeypatch):
    """Sketch axes however few features there are."""
    monkeypatch.setattr(axes_module, "EXACT", 2)


def started(loss, size=3.0):
    """Return the axes of random rows, and heads at random parameters, their logits computed."""
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((ROWS, FEATURES)) * np.linspace(0.3, 3, FEATURES)).astype(np.float32)
    axes = Axes(Held(torch.from_numpy(X - X.mean(axis=0))), 0)
    if loss is SOFTMAX:
        answers = Answers(
            SOFTMAX, torch.from_numpy(np.r_[:CLASSES, rng.integers(CLASSES, size=ROWS - CLASSES)]), CLASSES
        )
    else:
        answers = Answers(loss, torch.from_numpy(np.r_[0, 1, rng.integers(2, size=ROWS - 2)].astype(np.float64)))
    shape = (len(PENALTIES), answers.columns)
    W, b = size * rng.standard_normal((*shape, FEATURES)), size * rng.standard_normal(shape)
    start = Start([0, 1], PENALTIES, [0, 0], [answers], torch.from_numpy(W), torch.from_numpy(b))
    heads = Heads(start, ROWS, torch.float64, torch.device("cpu"))
    Descent(axes, torch.float64, [heads]).restart()
    return axes, heads


def second_derivative(loss, logits):
    """Return that of a row's loss, by automatic differentiation, shape (columns, columns)."""
    y = torch.zeros(1, 1, 1, dtype=torch.int64 if loss is SOFTMAX else torch.float64)
    return torch.autograd.functional.hessian(lambda z: loss.values(z.view(1, -1, 1), y).sum(), logits.double()).numpy()


def matrix(axes, heads, metric, rows, number):
    """Return what the metric of one head is said to be the inverse of, in W, built row by row."""
    X, columns = axes.X.X.double().numpy(), heads.columns
    every = [second_derivative(heads.loss, heads.Z[number, :, row]) for row in range(ROWS)]
    pairs = []
    for row in rows.tolist():
        values, vectors = np.linalg.eigh(every[row])
        pairs += [(values[-k], vectors[:, -k], row) for k in range(1, min(2, columns) + 1)]
    pairs = sorted(pairs, key=lambda pair: -pair[0])[: len(rows)]
    rest = (sum(np.trace(one) for one in every) - sum(value for value, _, _ in pairs)) / ROWS / max(1, columns - 1)
    own = PENALTIES[number]
    level = float(metric.curvature[number].mean())
    shift = own + (float(metric.shift[number]) - own) * rest / level
    G = X.T @ X / ROWS
    dense = np.kron(np.eye(columns), rest * G + shift * np.eye(FEATURES))
    for value, vector, row in pairs:
        direction = np.kron(vector, X[row])
        dense += value / ROWS * np.outer(direction, direction)
    return dense


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
@pytest.mark.parametrize("count", [1, 10, ROWS])
def test_it_is_the_inverse_of_what_it_says(loss, count):
    axes, heads = started(loss)
    rows = heads.loss.traces(heads.Z).amax(dim=0).topk(count).indices.sort().values
    metric = CurvedRows(heads, axes, rows)
    gradient = torch.from_numpy(np.random.default_rng(3).standard_normal((2, heads.columns, FEATURES + 1)))
    found, norms = metric(gradient), metric.squared_norm(gradient)
    for number in range(2):
        told = matrix(axes, heads, metric, rows, number)
        expected = np.linalg.solve(told, gradient[number, :, :-1].flatten().numpy())
        off = found[number, :, :-1].flatten().numpy() - expected
        assert np.linalg.norm(off) <= 1e-3 * np.linalg.norm(expected)  # in float32
        assert float(norms[number]) == pytest.approx(float(gradient[number].flatten() @ found[number].flatten()))
    metric.keep(torch.tensor([False, True]))
    torch.testing.assert_close(metric(gradient[1:]), found[1:])


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
def test_traces_and_pairs_are_those_of_the_second_derivatives(loss):
    _, heads = started(loss, size=1.0)
    traces = heads.loss.traces(heads.Z)
    for number in range(2):
        values, vectors = heads.loss.pairs(heads.Z[number], 2)
        for row in range(ROWS):
            truth = second_derivative(heads.loss, heads.Z[number, :, row])
            assert float(traces[number, row]) == pytest.approx(np.trace(truth), rel=1e-6)
            largest = np.linalg.eigvalsh(truth)[-values.shape[1] :]
            np.testing.assert_allclose(np.sort(values[row].numpy()), largest, rtol=1e-6, atol=1e-9)
            for value, vector in zip(values[row].tolist(), vectors[row].T.numpy(), strict=True):
                np.testing.assert_allclose(truth @ vector, value * vector, atol=1e-9)


def test_rows_are_chosen_where_they_hold_most_of_the_curvature():
    heads = started(SOFTMAX)[1]
    heads.Z = torch.zeros(2, CLASSES, ROWS)
    heads.Z[:, 0] = 30.0  # certain
    assert most_curved(heads, 8) is None  # all alike
    heads.Z[0, :, [3, 8, 60]] = 0.0
    assert most_curved(heads, 8) is None  # of the other head nothing is known
    heads.Z[1, :, [3, 9]] = 0.0
    rows = most_curved(heads, 8).tolist()
    assert len(rows) == 8
    assert {3, 8, 9, 60} <= set(rows)
    assert rows == sorted(rows)


def test_it_is_for_few_narrow_heads_of_many_features(monkeypatch):
    axes, heads = started(SOFTMAX)
    assert may_know_rows(heads, axes)
    monkeypatch.setattr(curved_rows, "_MOST_HEADS", 1)
    assert not may_know_rows(heads, axes)
    heads.keep(torch.tensor([True, False]))
    assert may_know_rows(heads, axes)
    monkeypatch.setattr(curved_rows, "MOST_COLUMNS", CLASSES - 1)
    assert not may_know_rows(heads, axes)
    assert not may_know_rows(started(SQUARES)[1], axes)
    monkeypatch.setattr(axes_module, "EXACT", 512)
    axes, heads = started(LOGISTIC)
    assert not may_know_rows(heads, axes)


def test_a_fit_with_known_rows_ends_at_the_optimum_of_one_without(monkeypatch):
    """Digits, as random ReLU features of their pixels: separated but for a few."""
    digits, rng, made = load_digits(), np.random.default_rng(0), []
    X = np.maximum((digits.data / 8 - 1) @ rng.standard_normal((64, 700)) / 8 + rng.standard_normal(700) - 1, 0)
    every = np.arange(len(X))
    target = Target("digit", tuple("0123456789"), digits.target, every[:1500], every[1500:])

    class Noted(CurvedRows):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(refresh_module, "CurvedRows", Noted)
    points = []
    for known in (True, False):
        monkeypatch.setattr(refresh_module, "may_know_rows", may_know_rows if known else lambda heads, axes: False)
        (fitted,) = LinearProbe(penalty=[1e-4]).fit(ArrayMatrix(X.astype(np.float32)), [target], FitContext())
        assert bool(made) == known
        made.clear()
        points += fitted.facts.path
    one, other = points
    assert {one.status, other.status} == {"proven"}
    assert abs(one.objective - other.objective) <= max(one.gap, other.gap)


def test_rows_are_known_as_far_as_memory_goes():
    whole = known_rows(20_000, None, 5000)
    assert whole == 2500
    assert known_rows(10**6, None, 5000) == 6144
    assert known_rows(20_000, known_bytes(whole, 5000), 5000) == whole
    assert known_rows(20_000, known_bytes(whole, 5000) - 1, 5000) == whole // 2
    assert known_rows(20_000, 0, 5000) == 0
