"""The losses against scikit-learn, SciPy and automatic differentiation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, rel_entr, softmax
from scipy.stats import entropy
from sklearn.metrics import log_loss, mean_squared_error

from probekit.probes import losses
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES, Answers

LOSSES = [SOFTMAX, LOGISTIC, SQUARES]


def drawn(loss, seed, heads=2, columns=4, rows=30, size=3.0):
    """Return logits (heads, columns, rows), float64, and answers of shape (heads, 1, rows)."""
    rng = np.random.default_rng(seed)
    columns = columns if loss is SOFTMAX else 1
    Z = torch.from_numpy(size * rng.standard_normal((heads, columns, rows)))
    if loss is SOFTMAX:
        y = torch.from_numpy(rng.integers(columns, size=(heads, 1, rows)))
    elif loss is LOGISTIC:
        y = torch.from_numpy(rng.integers(2, size=(heads, 1, rows)).astype(np.float64))
    else:
        y = torch.from_numpy(rng.standard_normal((heads, 1, rows)))
    return Z, y


def other_mean_loss(loss, Z, y):
    """Return scikit-learn's mean loss of one head."""
    Z, y = Z.numpy(), y[0].numpy()
    if loss is SOFTMAX:
        return log_loss(y, softmax(Z, axis=0).T, labels=range(len(Z)))
    return log_loss(y, expit(Z[0]), labels=[0, 1]) if loss is LOGISTIC else mean_squared_error(y, Z[0]) / 2


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.0, 1.0, 4.0]))
def test_values_are_scikit_learns_and_residuals_their_derivative(loss, seed, size):
    Z, y = drawn(loss, seed, size=size)
    Z.requires_grad_()
    values = loss.values(Z, y)
    assert values.shape == (2, 30)
    for head in range(2):
        assert float(values[head].mean().detach()) == pytest.approx(
            other_mean_loss(loss, Z[head].detach(), y[head]), rel=1e-9
        )
    (derivative,) = torch.autograd.grad(values.sum(), Z)
    for dtype, off in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        residual = Z.detach().to(dtype, copy=True)
        same = loss.residual(residual, y if y.dtype == torch.int64 else y.to(dtype))
        torch.testing.assert_close(residual.double(), derivative, atol=off, rtol=off)
        torch.testing.assert_close(same.double(), values.detach(), atol=10 * off, rtol=10 * off)


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_logits_are_huge_losses_and_residuals_are_finite_and_right(loss, dtype):
    z = torch.tensor([-3e4, -300.0, -25.0, 25.0, 300.0, 3e4], dtype=dtype)
    Z = torch.stack([torch.zeros_like(z), z]).unsqueeze(0) if loss is SOFTMAX else z.view(1, 1, -1)
    y = torch.ones(1, 1, 6, dtype=torch.int64 if loss is SOFTMAX else dtype)
    expected = np.logaddexp(0, -z.double().numpy())
    for values in (loss.values(Z, y), loss.residual(Z.clone(), y)):
        np.testing.assert_allclose(values[0].double(), expected, atol=2e-6 if dtype is torch.float32 else 1e-13)


@settings(deadline=None, max_examples=50)
@given(z=st.floats(-60, 60))
def test_the_loss_of_yes_is_exact_to_float64(z):
    """torch's softplus, by itself, is off by 2e-9 from 20 on, which would be in every proof."""
    found = float(
        LOGISTIC.values(torch.tensor([[[z]]], dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64))
    )
    assert found == pytest.approx(np.logaddexp(0, z), rel=1e-15, abs=0)


def second_derivative(loss, row, y):
    """Return that of one row's loss by automatic differentiation, shape (columns, columns)."""
    return torch.autograd.functional.hessian(lambda z: loss.values(z.view(1, -1, 1), y.view(1, 1, 1)).sum(), row)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_curvature_is_the_mean_second_derivative(loss):
    Z, y = drawn(loss, 5)
    found = loss.curvature(Z)
    values, vectors = found.values, found.basis
    for head in range(2):
        hessians = [second_derivative(loss, row, y[head, :, n]) for n, row in enumerate(Z[head].T)]
        mean = torch.stack(hessians).mean(dim=0)
        basis = torch.eye(len(mean), dtype=mean.dtype) if vectors is None else vectors[head]
        torch.testing.assert_close(basis * values[head] @ basis.T, mean, atol=1e-10, rtol=0)
        if loss is not SOFTMAX:
            every = torch.stack([one.diagonal() for one in hessians], dim=1)
            torch.testing.assert_close(loss.second(Z)[head], every, atol=1e-12, rtol=0)


def test_of_very_many_classes_the_curvature_is_its_diagonal(monkeypatch):
    Z, _ = drawn(SOFTMAX, 1)
    found = SOFTMAX.curvature(Z)
    values, vectors = found.values, found.basis
    monkeypatch.setattr(losses, "DIAGONAL_ABOVE", 3)
    diagonal = SOFTMAX.curvature(Z)
    assert diagonal.basis is None
    torch.testing.assert_close(diagonal.values, (vectors * values.unsqueeze(1) @ vectors.mT).diagonal(dim1=1, dim2=2))


def test_the_curvature_of_many_rows_is_that_of_a_sample():
    Z, _ = drawn(SOFTMAX, 2, rows=40_000)
    found = SOFTMAX.curvature(Z)
    values, vectors = found.values, found.basis
    P = torch.softmax(Z, dim=1)
    mean = torch.diag_embed(P.mean(dim=2)) - P @ P.mT / P.shape[2]
    torch.testing.assert_close(vectors * values.unsqueeze(1) @ vectors.mT, mean, atol=0.01, rtol=0)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 40), columns=st.integers(2, 6))
def test_no_bias_is_better_than_the_start(loss, seed, rows, columns):
    rng = np.random.default_rng(seed)
    columns = columns if loss is SOFTMAX else 1
    if loss is SQUARES:
        y = torch.from_numpy(rng.standard_normal(rows))
    else:
        classes = max(columns, 2)
        codes = torch.from_numpy(np.concatenate([np.arange(classes), rng.integers(classes, size=rows)]))
        y = codes if loss is SOFTMAX else codes.double()
    answers = Answers(loss, y, columns)

    def mean_loss(b):
        Z = torch.from_numpy(b).view(1, -1, 1).expand(1, columns, len(y))
        return float(loss.values(Z, y.view(1, 1, -1)).mean())

    found = minimize(mean_loss, np.zeros(columns), tol=1e-10)
    assert answers.chance() == pytest.approx(mean_loss(answers.start().numpy()), rel=1e-12)
    assert answers.chance() == pytest.approx(found.fun, rel=1e-6, abs=1e-9)
    if loss is SQUARES:
        assert answers.chance() == pytest.approx(y.numpy().var() / 2)
    else:
        assert answers.chance() == pytest.approx(entropy(np.bincount(y.long())))
        np.testing.assert_allclose(loss.shares(answers), np.bincount(y.long()) / len(y))


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.0, 1.0, 20.0]))
def test_the_divergence_is_the_relative_entropy(loss, seed, size):
    (Zq, Zp), _ = drawn(loss, seed, size=size)

    def distributions(Z):
        return softmax(np.concatenate([np.zeros_like(Z), Z]) if loss is LOGISTIC else Z, axis=0)

    q, p = distributions(Zq.numpy()), distributions(Zp.numpy())
    assert loss.divergence(Zq, Zp) == pytest.approx(rel_entr(q, p).sum(), rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(loss.log_predictions(Zp, loss.normaliser(Zp)), np.log(p).sum(axis=1), rtol=1e-9)


def test_the_divergence_of_numbers_is_half_the_square_of_their_difference():
    (a, b), _ = drawn(SQUARES, 0)
    assert SQUARES.divergence(a, b) == pytest.approx(mean_squared_error(a.numpy(), b.numpy()) / 2 * a.numel())


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
def test_a_constant_is_mixed_into_predictions(loss):
    Z, y = drawn(loss, 4, heads=1)
    classes = Z.shape[1] if loss is SOFTMAX else 2
    constant = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(classes)))
    residual = Z.clone()
    loss.residual(residual, y)
    loss.mix(residual[0], y[0, 0], constant, 0.3)
    if loss is SOFTMAX:
        Q, Y, own = torch.softmax(Z[0], dim=0), torch.eye(classes).double()[:, y[0, 0]], constant
    else:
        Q, Y, own = torch.sigmoid(Z[0]), y[0], constant[1:]
    torch.testing.assert_close(residual[0], 0.7 * Q + 0.3 * own.unsqueeze(1) - Y)
