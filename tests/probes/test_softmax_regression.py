"""The solver against scikit-learn, closed forms and finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from probekit.probes import axes as axes_module
from probekit.probes import softmax_regression
from probekit.probes.axes import Axes
from probekit.probes.design import InMemory, Streamed
from probekit.probes.newton import solve_bias
from probekit.probes.softmax_regression import minimise


def solve(X, y, classes, penalties, tolerance=1e-6, max_passes=3000):
    data = InMemory(torch.from_numpy(X.astype(np.float32)))
    axes = Axes(data, 0.05 * tolerance * min(penalties))
    return minimise(data, torch.from_numpy(y), classes, penalties, tolerance, max_passes, axes)


def objective(X, y, W, b, penalty):
    Z = X.astype(np.float32).astype(np.float64) @ W.T + b
    top = Z.max(axis=1, keepdims=True)
    loss = np.log(np.exp(Z - top).sum(axis=1)) + top[:, 0] - Z[np.arange(len(y)), y]
    return loss.mean() + penalty / 2 * (W**2).sum()


def reference(X, y, penalty):
    """scikit-learn at its tightest, in float64, as W, b and the objective; two classes as two symmetric rows."""
    model = LogisticRegression(C=1 / (len(X) * penalty), tol=1e-12, max_iter=100_000)
    # One vector w between two classes is two rows of half of it each, which halves ‖W‖²: C is halved to match.
    if len(np.unique(y)) == 2:
        model.set_params(C=2 / (len(X) * penalty))
    model.fit(X.astype(np.float32).astype(np.float64), y)
    W, b = model.coef_, model.intercept_
    if len(W) == 1:
        W, b = np.vstack([-W, W]) / 2, np.array([-b[0], b[0]]) / 2
    return W, b, objective(X, y, W, b, penalty)


def blobs(rows, features, classes, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=rows - classes)])
    X = spread * rng.standard_normal((classes, features))[y] + rng.standard_normal((rows, features))
    return (X - X.mean(axis=0)) / X.std(axis=0), y


@pytest.mark.parametrize("penalty", [1.0, 1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize(("features", "classes"), [(5, 2), (20, 3), (40, 10)])
def test_objective_weights_and_bias_are_those_of_scikit_learn(features, classes, penalty):
    X, y = blobs(600, features, classes)
    fit = solve(X, y, classes, [penalty], tolerance=1e-8)
    W, b, best = reference(X, y, penalty)
    assert float(fit.objective[0]) == pytest.approx(best, rel=1e-7)
    np.testing.assert_allclose(fit.weights[0], W, atol=2e-3 * np.abs(W).max())
    np.testing.assert_allclose(fit.bias[0] - fit.bias[0].mean(), b - b.mean(), atol=2e-3)


def test_heads_that_share_their_passes_reach_what_each_reaches_alone():
    X, y = blobs(400, 12, 4)
    penalties = [1.0, 1e-2, 1e-4]
    together = solve(X, y, 4, penalties)
    for head, penalty in enumerate(penalties):
        alone = solve(X, y, 4, [penalty])
        assert float(together.objective[head]) == pytest.approx(float(alone.objective[0]), rel=1e-5)


PROBLEMS = {
    "random": lambda rng: (rng.standard_normal((200, 10)), rng.integers(3, size=200)),
    "separable": lambda rng: blobs(150, 8, 3, seed=int(rng.integers(99)), spread=6.0),
    "more features than rows": lambda rng: (rng.standard_normal((60, 150)), rng.integers(3, size=60)),
    "collinear": lambda rng: (np.repeat(rng.standard_normal((200, 5)), 3, axis=1), rng.integers(3, size=200)),
    "constant features": lambda rng: (
        np.pad(rng.standard_normal((200, 4)), ((0, 0), (0, 3))),
        rng.integers(3, size=200),
    ),
    "ill-conditioned": lambda rng: (rng.standard_normal((300, 12)) * np.logspace(0, -3, 12), rng.integers(3, size=300)),
    "imbalanced": lambda rng: (
        rng.standard_normal((400, 6)),
        (rng.random(400) < 0.02).astype(int) + 2 * (np.arange(400) == 7),
    ),
    "all features constant": lambda rng: (np.zeros((50, 3)), rng.integers(2, size=50)),
}


@pytest.mark.parametrize("kind", PROBLEMS)
@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([1.0, 1e-2, 1e-4]), tolerance=st.sampled_from([1e-2, 1e-5]))
def test_the_bound_is_never_below_the_true_gap(kind, seed, penalty, tolerance):
    X, y = PROBLEMS[kind](np.random.default_rng(seed))
    X = X - X.mean(axis=0)
    classes, y = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        return
    fit = solve(X, y, len(classes), [penalty], tolerance)
    best = best_objective(X, y, len(classes), penalty)
    assert float(fit.objective[0]) - best <= float(fit.gap[0]) + 1e-9
    assert float(fit.objective[0]) == pytest.approx(
        objective(X, y, fit.weights[0].numpy(), fit.bias[0].numpy(), penalty), rel=1e-9
    )


def best_objective(X, y, classes, penalty):
    """The optimum by another method: SciPy's trust region Newton on the float64 problem."""
    X = X.astype(np.float32).astype(np.float64)
    rows, features = X.shape
    one_hot = np.eye(classes)[y]

    def value_and_gradient(flat):
        W, b = flat[: classes * features].reshape(classes, features), flat[classes * features :]
        Z = X @ W.T + b
        top = Z.max(axis=1, keepdims=True)
        P = np.exp(Z - top)
        total = P.sum(axis=1, keepdims=True)
        value = (np.log(total) + top - Z[np.arange(rows), y][:, None]).mean() + penalty / 2 * (W**2).sum()
        R = (P / total - one_hot) / rows
        return value, np.concatenate([(R.T @ X + penalty * W).ravel(), R.sum(axis=0)])

    start = np.zeros(classes * (features + 1))
    found = minimize(
        value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 0, "gtol": 1e-9}
    )
    return found.fun


def test_a_head_out_of_passes_keeps_an_honest_bound():
    X, y = blobs(500, 30, 5, spread=0.3)
    fit = solve(X, y, 5, [1e-4], tolerance=1e-8, max_passes=3)
    best = best_objective(X, y, 5, 1e-4)
    assert float(fit.gap[0]) > 1e-8
    assert 0 <= float(fit.objective[0]) - best <= float(fit.gap[0])


def test_a_class_of_one_feature_has_the_closed_form_bias():
    Z = torch.zeros(3, 10, dtype=torch.float64)
    y = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    b, left = solve_bias(Z, y, torch.zeros(3, dtype=torch.float64))
    expected = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    torch.testing.assert_close(b, expected - expected.mean(), atol=1e-9, rtol=0)
    assert left < 1e-14


def test_without_features_that_vary_the_optimum_is_the_entropy():
    y = np.array([0] * 30 + [1] * 10)
    fit = solve(np.zeros((40, 4)), y, 2, [0.1])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(fit.objective[0]) == pytest.approx(entropy, rel=1e-12)
    assert float(fit.weights.abs().max()) == 0


def test_newton_finishes_what_descent_leaves(monkeypatch):
    monkeypatch.setattr(softmax_regression, "_PASSES_BEFORE_NEWTON", 5)
    X, y = blobs(300, 8, 3)
    fit = solve(X, y, 3, [1e-3], tolerance=1e-8)
    assert float(fit.objective[0]) == pytest.approx(reference(X, y, 1e-3)[2], rel=1e-8)
    assert fit.passes < 40


def test_more_features_than_the_exact_axes_are_sketched(monkeypatch):
    monkeypatch.setattr(axes_module, "EXACT", 64)
    monkeypatch.setattr(axes_module, "SKETCH_RANK", 16)
    X, y = blobs(300, 100, 3)
    fit = solve(X, y, 3, [1e-2], tolerance=1e-5)
    assert float(fit.objective[0]) == pytest.approx(reference(X, y, 1e-2)[2], rel=2e-5)


def test_the_axes_span_what_they_claim():
    rng = np.random.default_rng(0)
    X = torch.from_numpy((rng.standard_normal((50, 4)) @ rng.standard_normal((4, 20))).astype(np.float32))
    X -= X.mean(dim=0)
    axes = Axes(InMemory(X), negligible=1e-8)
    assert axes.X.shape == (50, 4)
    torch.testing.assert_close(axes.back(axes.X.X.double()).float(), X, atol=1e-4, rtol=1e-4)
    values = torch.linalg.eigvalsh(X.double().T @ X.double() / 50)[-4:]
    torch.testing.assert_close(axes.values, values, rtol=1e-9, atol=0)


def test_the_same_problem_gives_the_same_bits():
    X, y = blobs(300, 20, 4)
    first, second = solve(X, y, 4, [1e-2, 1e-3]), solve(X, y, 4, [1e-2, 1e-3])
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.bias, second.bias)


# --- rows that are read block by block


def streamed(X, rows_at_once):
    return Streamed(lambda start, stop: X[start:stop].copy(), X.shape, rows_at_once=rows_at_once)


@pytest.mark.parametrize("kind", ["random", "more features than rows", "collinear", "ill-conditioned"])
@pytest.mark.parametrize("rows_at_once", [7, 64, 1000])
def test_rows_that_are_read_block_by_block_reach_the_same_optimum(kind, rows_at_once):
    X, y = PROBLEMS[kind](np.random.default_rng(1))
    X = (X - X.mean(axis=0)).astype(np.float32)
    classes, y = np.unique(y, return_inverse=True)
    data = streamed(X, rows_at_once)
    axes = Axes(data, 1e-10)
    fit = minimise(data, torch.from_numpy(y), len(classes), [1e-2], 1e-6, 3000, axes)
    best = best_objective(X, y, len(classes), 1e-2)
    assert -1e-9 <= float(fit.objective[0]) - best <= float(fit.gap[0]) + 1e-9
    assert float(fit.objective[0]) == pytest.approx(best, rel=2e-6)


def test_the_axes_of_rows_that_are_read_are_those_of_rows_that_are_held():
    X = blobs(90, 12, 3)[0].astype(np.float32)
    held, read = Axes(InMemory(torch.from_numpy(X)), 1e-9), Axes(streamed(X, 40), 1e-9)
    torch.testing.assert_close(read.values, held.values, rtol=1e-9, atol=0)
    assert read.X.shape == held.X.shape
    weights = torch.ones(2, len(held.values), dtype=torch.float64)
    # An axis may point either way: what it spans counts.
    for one in (held, read):
        projector = one.turn @ one.turn.T
        torch.testing.assert_close(projector, held.turn @ held.turn.T, rtol=1e-6, atol=1e-6)
        assert one.back(weights).shape == (2, 12)
