"""What L-BFGS is preconditioned with, against Hessians by automatic differentiation."""

import numpy as np
import pytest
import torch

from probekit.probes import metric as metric_module
from probekit.probes.axes import Axes
from probekit.probes.descent import Descent
from probekit.probes.design import Held
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES, Answers
from probekit.probes.metric import Metric, SampledHessian, curvature_matrix, is_worth_sampling, sampled_rows
from probekit.probes.stack import Heads, Start

ROWS, FEATURES, CLASSES = 300, 4, 3
PENALTIES = [1.0, 1e-2, 1e-4]


def asked(loss, rows=ROWS):
    rng = np.random.default_rng(1)
    if loss is SOFTMAX:
        return Answers(SOFTMAX, torch.from_numpy(np.r_[:CLASSES, rng.integers(CLASSES, size=rows - CLASSES)]), CLASSES)
    if loss is LOGISTIC:
        return Answers(LOGISTIC, torch.from_numpy(np.r_[0, 1, rng.integers(2, size=rows - 2)].astype(np.float64)))
    return Answers(SQUARES, torch.from_numpy(rng.standard_normal(rows)))


def started(loss, size=1.0, rows=ROWS, features=FEATURES, dtype=torch.float64):
    """Return the axes of random rows, and heads at random parameters, their logits computed."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, features)) * np.linspace(0.3, 3, features)
    axes, answers = Axes(Held(torch.from_numpy((X - X.mean(axis=0)).astype(np.float32))), 0), asked(loss, rows)
    shape = (len(PENALTIES), answers.columns)
    W, b = size * rng.standard_normal((*shape, features)), size * rng.standard_normal(shape)
    start = Start([0, 1, 2], PENALTIES, [0, 0, 0], [answers], torch.from_numpy(W), torch.from_numpy(b))
    heads = Heads(start, rows, dtype, torch.device("cpu"))
    descent = Descent(axes, dtype, [heads])
    descent.restart()
    return axes, answers, heads, descent


def whole_hessian(axes, answers, heads, number):
    """Return the Hessian of a head's objective in W and b, column by column, by automatic differentiation."""
    X = torch.nn.functional.pad(axes.X.X.double(), (0, 1), value=1.0)
    at = torch.cat([heads.W[number], heads.b[number].unsqueeze(1)], dim=1).double()

    def objective(flat):
        both = flat.view(at.shape)
        losses = answers.loss.values((both @ X.T).unsqueeze(0), answers.loss.shaped(answers.y))
        return losses.mean() + PENALTIES[number] / 2 * both[:, :-1].pow(2).sum()

    return torch.autograd.functional.hessian(objective, at.flatten())


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC, SQUARES], ids=lambda loss: loss.name)
def test_the_curvature_of_all_rows_is_the_second_derivative(loss):
    axes, answers, heads, _ = started(loss)
    ones = torch.nn.functional.pad(axes.X.X.double(), (0, 1), value=1.0)
    for number, penalty in enumerate(PENALTIES):
        found = curvature_matrix(heads, number, torch.arange(ROWS), ones)
        ridge = torch.full((answers.columns, FEATURES + 1), penalty, dtype=torch.float64)
        ridge[:, -1] = 0
        expected = whole_hessian(axes, answers, heads, number) - torch.diag(ridge.flatten())
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
def test_where_all_rows_are_sampled_it_is_the_inverse_hessian(loss):
    axes, answers, heads, _ = started(loss)
    metric = SampledHessian(heads, axes)
    gradient = torch.from_numpy(np.random.default_rng(3).standard_normal((3, answers.columns, FEATURES + 1)))
    if loss is SOFTMAX:  # an equal shift of all biases changes nothing
        gradient[..., -1] -= gradient[..., -1].mean(dim=1, keepdim=True)
    found, norms = metric(gradient), metric.squared_norm(gradient)
    for number in range(3):
        product = whole_hessian(axes, answers, heads, number) @ found[number].flatten()
        torch.testing.assert_close(product, gradient[number].flatten(), rtol=1e-3, atol=1e-4)
        assert float(norms[number]) == pytest.approx(float(gradient[number].flatten() @ found[number].flatten()))
    metric.keep(torch.tensor([True, False, True]))
    torch.testing.assert_close(metric(gradient[[0, 2]]), found[[0, 2]])


def test_a_certain_head_without_curvature_is_still_solved():
    axes, _, heads, _ = started(SOFTMAX, size=100.0, dtype=torch.float32)
    metric = SampledHessian(heads, axes)
    found = metric(torch.ones(3, CLASSES, FEATURES + 1))
    assert bool(found.isfinite().all())
    assert bool((metric.squared_norm(torch.ones(3, CLASSES, FEATURES + 1)) > 0).all())


def test_a_newton_step_with_it_comes_as_near_as_newtons_method_does():
    """Near the optimum its step lowers the gradient to a small share, where the model's step does not."""
    left = {}
    for way in (Metric, SampledHessian):
        axes, _, heads, descent = started(SOFTMAX, size=0.0)
        for _ in range(25):
            descent.step()
        heads.W += 1e-3 * torch.from_numpy(np.random.default_rng(5).standard_normal(heads.W.shape))
        heads.order.clear()
        descent.restart()
        before = heads.gradient.flatten(1).norm(dim=1)
        heads.metric = way(heads, axes)
        step = -heads.metric(heads.gradient)
        heads.W, heads.b = heads.W + step[..., :-1], heads.b + step[..., -1]
        descent.restart()
        left[way] = heads.gradient.flatten(1).norm(dim=1) / before
    assert float(left[SampledHessian].max()) < 0.02
    assert bool((left[SampledHessian] < left[Metric] / 3).all())


def test_the_sample_is_spread_over_the_rows_and_large_enough():
    axes, _, heads, _ = started(SOFTMAX, rows=10_000)
    rows = sampled_rows(heads, axes)
    assert len(rows) >= 2048
    assert rows[0] == 0
    assert int(rows[-1]) >= 10_000 - 10_000 // len(rows) - 1
    torch.testing.assert_close(axes.sample(rows), axes.X.gather(rows))
    assert axes.sample(rows) is axes.sample(rows.clone())


@pytest.mark.parametrize(
    ("loss", "rows", "features", "worth"),
    [
        (SOFTMAX, 20_000, 32, True),
        (SOFTMAX, 300, 100, False),
        (SOFTMAX, 20_000, 400, False),
        (SQUARES, 20_000, 8, False),
        (LOGISTIC, 20_000, 32, True),
    ],
)
def test_it_is_used_where_it_costs_little_beside_a_pass(loss, rows, features, worth):
    axes, _, heads, _ = started(loss, rows=rows, features=features, dtype=torch.float32)
    assert is_worth_sampling(heads, axes) == worth


def test_many_heads_at_once_would_hold_too_much(monkeypatch):
    axes, _, heads, _ = started(SOFTMAX, rows=20_000, features=32, dtype=torch.float32)
    assert is_worth_sampling(heads, axes)
    monkeypatch.setattr(metric_module, "_MOST_BYTES", 3 * (CLASSES * 33) ** 2 * 4 - 1)
    assert not is_worth_sampling(heads, axes)
