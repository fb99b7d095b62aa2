"""Newton's method for one head against closed forms, automatic differentiation and scikit-learn."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from probekit.probes.design import Held
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES, Answers
from probekit.probes.newton import newton_step


def made(loss, seed=0, rows=80, features=5, classes=3):
    """Return a design of normal rows and answers."""
    rng = np.random.default_rng(seed)
    X = torch.from_numpy(rng.standard_normal((rows, features)).astype(np.float32))
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=rows - classes)])
    if loss is SOFTMAX:
        return Held(X), Answers(SOFTMAX, torch.from_numpy(y), classes)
    return Held(X), Answers(loss, torch.from_numpy((y == 1) + (loss is SQUARES) * rng.standard_normal(rows)))


def objective(X, answers, W, b, penalty):
    Z = W @ X.X.double().T + b.unsqueeze(1)
    return answers.loss.values(Z.unsqueeze(0), answers.loss.shaped(answers.y)).mean() + penalty / 2 * W.pow(2).sum()


def zeros(X, answers):
    return torch.zeros(answers.columns, X.shape[1], dtype=torch.float64), torch.zeros(answers.columns).double()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), penalty=st.floats(1e-6, 10))
def test_of_a_number_one_step_is_the_ridge_regression(seed, penalty):
    X, answers = made(SQUARES, seed)
    W, b, gained = newton_step(X, answers, *zeros(X, answers), penalty)
    other = Ridge(alpha=penalty * len(X), solver="cholesky").fit(X.X.double().numpy(), answers.y.numpy())
    assert gained
    np.testing.assert_allclose(W[0], other.coef_, rtol=1e-7, atol=1e-10)
    assert float(b) == pytest.approx(other.intercept_, abs=1e-10)


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), penalty=st.sampled_from([1e-5, 1e-3, 0.1]))
def test_a_few_steps_reach_what_scikit_learn_reaches(loss, seed, penalty):
    X, answers = made(loss, seed)
    W, b = zeros(X, answers)
    values = [objective(X, answers, W, b, penalty)]
    for _ in range(30):
        W, b, gained = newton_step(X, answers, W, b, penalty)
        values.append(objective(X, answers, W, b, penalty))
        if not gained or values[-2] - values[-1] < 1e-14:
            break
    assert all(after <= before + 1e-14 for before, after in itertools.pairwise(values))
    C = 1 / (len(X) * penalty)
    other = LogisticRegression(C=C, tol=1e-13, solver="newton-cholesky", max_iter=1000).fit(
        X.X.double().numpy(), answers.y
    )
    np.testing.assert_allclose(W, other.coef_, atol=1e-5 * np.abs(other.coef_).max())
    np.testing.assert_allclose(b - b.mean() * (loss is SOFTMAX), other.intercept_, atol=1e-4)


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
def test_a_full_step_is_that_of_the_whole_hessian(loss):
    X, answers = made(loss, 1, rows=40, features=3)
    W, b = zeros(X, answers)
    params = torch.cat([W, b.unsqueeze(1)], dim=1)

    def value(flat):
        both = flat.view(params.shape)
        return objective(X, answers, both[:, :-1], both[:, -1], 0.1)

    gradient = torch.autograd.functional.jacobian(value, params.flatten())
    hessian = torch.autograd.functional.hessian(value, params.flatten())
    expected = (params.flatten() - torch.linalg.pinv(hessian, hermitian=True) @ gradient).view(params.shape)
    moved, bias, _ = newton_step(X, answers, W, b, 0.1)
    torch.testing.assert_close(moved, expected[:, :-1], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(bias, expected[:, -1], rtol=1e-6, atol=1e-8)


def test_at_the_optimum_there_is_nothing_to_gain_and_parameters_stay_finite():
    X, answers = made(SOFTMAX, 2)
    W, b = zeros(X, answers)
    for _ in range(60):
        W, b, gained = newton_step(X, answers, W, b, 1e-2)
    assert bool(W.isfinite().all() and b.isfinite().all())
    torch.testing.assert_close(newton_step(X, answers, W, b, 1e-2)[0], W, rtol=1e-9, atol=1e-12)
    assert not gained or objective(X, answers, W, b, 1e-2) > 0


def test_from_far_off_a_step_is_shortened_until_it_gets_lower():
    X, answers = made(LOGISTIC, 3)
    W, b = torch.full((1, 5), 3.0).double(), torch.zeros(1).double()
    before = objective(X, answers, W, b, 1e-3)
    W, b, gained = newton_step(X, answers, W, b, 1e-3)
    assert gained
    assert objective(X, answers, W, b, 1e-3) < before


def test_what_the_classes_weigh_in_common_is_dropped():
    X, answers = made(SOFTMAX, 4)
    W, b = zeros(X, answers)
    for way in (torch.zeros(5), torch.linspace(-9, 9, 5)):
        moved, bias, _ = newton_step(X, answers, W + way, b + 4, 1e-2)
        torch.testing.assert_close(moved.sum(dim=0), torch.zeros(5).double(), atol=1e-9, rtol=0)
        assert float(bias.sum()) == pytest.approx(0, abs=1e-9)


def test_several_blocks_of_rows_are_one_problem(monkeypatch):
    X, answers = made(SOFTMAX, 5)
    whole = newton_step(X, answers, *zeros(X, answers), 1e-2)
    monkeypatch.setattr("probekit.probes.newton._ROWS_AT_ONCE", 7)
    parts = newton_step(X, answers, *zeros(X, answers), 1e-2)
    torch.testing.assert_close(parts[:2], whole[:2], rtol=1e-9, atol=1e-11)
