"""Objective and bound of the benchmark of fits, against scikit-learn run to its end and against closed forms."""

import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler


@pytest.fixture(scope="module")
def truth():
    spec = importlib.util.spec_from_file_location("fitting_truth", Path(__file__).with_name("fitting_truth.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["fitting_truth"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fitting_truth"]


def problem(seed, rows, features, classes):
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((rows, features)) * rng.uniform(0.1, 10, features) + 3).astype(np.float32)
    return X, np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])


def reference(truth, X, codes, penalty):
    """Return W and b of scikit-learn's best, on its own standardised rows."""
    classes = int(codes.max()) + 1
    model = LogisticRegression(C=truth.inverse_penalty(penalty, len(X), classes), tol=1e-10, max_iter=1_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(StandardScaler().fit_transform(X.astype(np.float64)), codes)
    return truth.two_rows(model.coef_[0], model.intercept_[0]) if classes == 2 else (model.coef_, model.intercept_)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_scikit_learns_optimum_is_ours_and_is_proven(truth, classes):
    X, codes = problem(classes, 200, 6, classes)
    objective = truth.Objective(truth.Standard(X), codes, 0.01)
    best = reference(truth, X, codes, 0.01)
    proof = objective.prove(best)
    assert proof.objective == pytest.approx(objective(best), rel=1e-9)
    assert 0 <= proof.bound <= 1e-7 * proof.objective


@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(2, 5),
    penalty=st.sampled_from([1e-3, 0.1, 1.0]),
    away=st.floats(0, 3),
)
def test_the_bound_is_at_least_the_true_gap(truth, seed, classes, penalty, away):
    X, codes = problem(seed, 60, 4, classes)
    objective = truth.Objective(truth.Standard(X), codes, penalty)
    W, b = reference(truth, X, codes, penalty)
    optimum = objective((W, b))
    rng = np.random.default_rng(seed)
    proof = objective.prove((W + away * rng.standard_normal(W.shape), b + away * rng.standard_normal(b.shape)))
    assert proof.objective >= optimum * (1 - 1e-7)
    assert proof.objective - optimum <= proof.bound + 1e-7 * optimum


def test_the_objective_is_that_of_scikit_learns_loss(truth):
    X, codes = problem(0, 50, 3, 4)
    standard = truth.Standard(X)
    W, b = np.random.default_rng(1).standard_normal((4, 3)), np.arange(4.0)
    Z = StandardScaler().fit_transform(X.astype(np.float64)) @ W.T + b
    wanted = log_loss(codes, truth.softmax(Z)) + 0.05 * (W**2).sum()
    assert truth.Objective(standard, codes, 0.1)((W, b)) == pytest.approx(wanted)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 6), spread=st.floats(0, 8))
def test_at_the_best_bias_the_mean_probabilities_are_the_shares(truth, seed, classes, spread):
    rng = np.random.default_rng(seed)
    Z, codes = spread * rng.standard_normal((40, classes)), np.arange(40) % classes
    shares = np.bincount(codes) / 40
    bias = truth.best_bias(Z, shares, rng.standard_normal(classes))
    np.testing.assert_allclose(truth.softmax(Z + bias).mean(axis=0), shares, atol=1e-9)


def test_without_features_the_best_bias_is_the_log_of_the_shares(truth):
    shares = np.array([0.5, 0.3, 0.2])
    bias = truth.best_bias(np.zeros((10, 3)), shares, np.zeros(3))
    np.testing.assert_allclose(bias - bias[0], np.log(shares) - np.log(shares[0]), atol=1e-12)


def test_features_that_are_not_held_give_the_same(truth, monkeypatch):
    X, codes = problem(5, 100, 5, 3)
    X[:, 2] = 7
    W, b = np.random.default_rng(2).standard_normal((3, 5)), np.zeros(3)
    held = truth.Objective(truth.Standard(X), codes, 0.1)
    monkeypatch.setattr(truth, "HELD", 0)
    monkeypatch.setattr(truth, "_ROWS", 7)
    read = truth.Objective(truth.Standard(X), codes, 0.1)
    assert read((W, b)) == pytest.approx(held((W, b)), rel=1e-12)
    assert read.prove((W, b)).bound == pytest.approx(held.prove((W, b)).bound, rel=1e-9)
    assert not read.X.times(np.eye(5))[:, 2].any()


def test_weights_for_raw_features_give_the_same_logits(truth):
    X, _ = problem(6, 30, 4, 2)
    standard, rng = truth.Standard(X), np.random.default_rng(3)
    weights, bias = rng.standard_normal((3, 4)), rng.standard_normal(3)
    W, b = standard.of_raw(weights, bias)
    np.testing.assert_allclose(standard.times(W) + b, X.astype(np.float64) @ weights.T + bias, rtol=1e-9)


@pytest.mark.parametrize(("classes", "wanted"), [(2, 2.0), (3, 1.0), (10, 1.0)])
def test_two_classes_have_twice_the_c(truth, classes, wanted):
    assert truth.inverse_penalty(0.01, 100, classes) == pytest.approx(wanted)
