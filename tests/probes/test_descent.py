"""Many heads at once: gradients by automatic differentiation, steps in closed form, heads as each alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from probekit.probes import descent as descent_module
from probekit.probes.axes import Axes
from probekit.probes.certificate import Claim, prove
from probekit.probes.descent import Descent
from probekit.probes.design import Held
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES, Answers
from probekit.probes.metric import Metric
from probekit.probes.stack import LONGEST_HISTORY, SHORTEST_HISTORY, Heads, Start, history_for

ROWS, FEATURES, CLASSES = 90, 6, 3


def design(seed=0, rows=ROWS, features=FEATURES):
    X = np.random.default_rng(seed).standard_normal((rows, features)) * np.linspace(0.3, 3, features)
    return Held(torch.from_numpy((X - X.mean(axis=0)).astype(np.float32)))


def asked(loss, seed=1, rows=ROWS):
    rng = np.random.default_rng(seed)
    if loss is SOFTMAX:
        return Answers(SOFTMAX, torch.from_numpy(np.r_[:CLASSES, rng.integers(CLASSES, size=rows - CLASSES)]), CLASSES)
    if loss is LOGISTIC:
        return Answers(LOGISTIC, torch.from_numpy(np.r_[0, 1, rng.integers(2, size=rows - 2)].astype(np.float64)))
    return Answers(SQUARES, torch.from_numpy(rng.standard_normal(rows)))


def group(axes, answers, penalties, numbers=None, size=0.0, dtype=torch.float64, which=None):
    """Return the heads of some answers, one for each λ, at random parameters of a size."""
    count, columns = len(penalties), answers[0].columns
    rng = np.random.default_rng(7)
    W = torch.from_numpy(size * rng.standard_normal((count, columns, axes.X.shape[1])))
    b = torch.from_numpy(size * rng.standard_normal((count, columns)))
    which = which or [0] * count
    start = Start(list(numbers or range(count)), penalties, which, answers, W, b)
    return Heads(start, len(axes.X), dtype, torch.device("cpu"))


def value(axes, answers, W, b, penalty):
    Z = W @ axes.X.X.double().T + b.unsqueeze(1)
    return answers.loss.values(Z.unsqueeze(0), answers.loss.shaped(answers.y)).mean() + penalty / 2 * W.pow(2).sum()


def gradient(axes, answers, W, b, penalty):
    """Return the derivative with respect to W and b by automatic differentiation."""
    W, b = W.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
    parts = torch.autograd.grad(value(axes, answers, W, b, penalty), (W, b))
    return torch.cat([parts[0], parts[1].unsqueeze(1)], dim=1)


LOSSES = [SOFTMAX, LOGISTIC, SQUARES]
PENALTIES = [1.0, 1e-2, 1e-4]


def check(axes, heads, answers, rtol=1e-9):
    """Objective and gradient of each head are those of its parameters."""
    for place in range(len(heads)):
        own, penalty = answers[int(heads.which[place])], float(heads.penalties[place])
        W, b = heads.W[place].double(), heads.b[place].double()
        assert float(heads.objective[place]) == pytest.approx(float(value(axes, own, W, b, penalty)), rel=rtol)
        expected = gradient(axes, own, W, b, penalty)
        torch.testing.assert_close(heads.gradient[place].double(), expected, rtol=rtol, atol=rtol)
        bound = float(expected[:, :-1].pow(2).sum()) / (2 * penalty)
        assert float(heads.bound()[place]) == pytest.approx(bound, rel=1e-4 + 10 * rtol, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("cached", [100, 1 << 20])
def test_objectives_and_gradients_are_those_of_the_parameters_before_and_after_steps(loss, cached, monkeypatch):
    monkeypatch.setattr(descent_module, "_CACHED_VALUES", cached)
    axes = Axes(design(rows=700), 0)
    answers = [asked(loss, 1, rows=700), asked(loss, 2, rows=700)]
    heads = group(axes, answers, PENALTIES, size=1.0, which=[0, 1, 0])
    descent = Descent(axes, torch.float64, [heads])
    descent.restart()
    check(axes, heads, answers)
    before = heads.objective.clone()
    for _ in range(4):
        descent.step()
        check(axes, heads, answers)
        assert bool((heads.objective <= before + 1e-12).all())
        before = heads.objective.clone()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), penalty=st.sampled_from([1e-6, 1e-2, 10.0]))
def test_of_a_number_one_step_is_the_ridge_regression(seed, penalty):
    axes, answers = Axes(design(seed), 0), asked(SQUARES, seed)
    heads = group(axes, [answers], [penalty], size=3.0)
    descent = Descent(axes, torch.float64, [heads])
    descent.restart()
    descent.step()
    other = Ridge(alpha=penalty * ROWS, solver="cholesky").fit(axes.X.X.double().numpy(), answers.y.numpy())
    np.testing.assert_allclose(heads.W[0, 0], other.coef_, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
def test_a_step_that_is_too_long_is_shortened_and_ends_with_the_right_gradient(loss, monkeypatch):
    """A metric a thousand times too large overshoots: the second product is made again, for the heads that did."""
    axes, answers = Axes(design(), 0), asked(loss)
    usual = Metric.__call__

    def overshooting(self, given):
        product = usual(self, given)
        product[0] *= 1000
        return product

    monkeypatch.setattr(Metric, "__call__", overshooting)
    heads = group(axes, [answers], [1e-2, 1e-2])
    descent = Descent(axes, torch.float64, [heads])
    descent.restart()
    before = heads.objective.clone()
    stuck = descent.step()
    assert descent.passes == 2.5
    assert bool((heads.objective < before).all())
    assert not bool(stuck[0].any())
    check(axes, heads, [answers])


def test_heads_of_several_losses_move_as_each_alone():
    axes = Axes(design(), 0)
    losses = [asked(loss) for loss in LOSSES]
    together = [group(axes, [one], PENALTIES) for one in losses]
    shared = Descent(axes, torch.float64, together)
    shared.restart()
    for _ in range(6):
        shared.step()
    for heads, one in zip(together, losses, strict=True):
        for place, penalty in enumerate(PENALTIES):
            alone = group(axes, [one], [penalty])
            single = Descent(axes, torch.float64, [alone])
            single.restart()
            for _ in range(6):
                single.step()
            torch.testing.assert_close(alone.W[0], heads.W[place], rtol=1e-6, atol=1e-8)
            assert float(alone.objective) == pytest.approx(float(heads.objective[place]), rel=1e-10)


def test_heads_that_are_dropped_leave_the_others_as_they_were():
    axes, answers = Axes(design(), 0), asked(SOFTMAX)
    full, cut = group(axes, [answers], PENALTIES), group(axes, [answers], PENALTIES)
    first, second = Descent(axes, torch.float64, [full]), Descent(axes, torch.float64, [cut])
    for one in (first, second):
        one.restart()
        for _ in range(3):
            one.step()
    mask = torch.tensor([True, False, True])
    taken = cut.taken(mask)
    cut.keep(mask)
    for heads in (taken, cut):
        assert heads.number.tolist() == [0, 2]
        torch.testing.assert_close(heads.W, full.W[mask])
        assert len(heads.order) == len(full.order)
        torch.testing.assert_close(heads.S, full.S[mask])
    for _ in range(3):
        first.step()
        second.step()
    torch.testing.assert_close(cut.W, full.W[mask], rtol=1e-8, atol=1e-10)
    check(axes, cut, [answers])


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC], ids=lambda loss: loss.name)
def test_the_refined_bound_is_smaller_and_the_dual_point_that_it_names_proves_it(loss):
    X, answers = design(rows=1000, features=200), asked(loss, rows=1000)
    axes = Axes(X, 0)
    heads = group(axes, [answers], [1e-4], size=0.3)
    descent = Descent(axes, torch.float64, [heads])
    descent.restart()
    while float(heads.bound()) > 1e-3:
        descent.step()
    refined, steps = heads.refined_bound(torch.tensor([True]))
    step, bias = heads.dual_step(0, steps[0])
    assert float(refined) <= float(heads.bound())
    own = axes.back(heads.W[0]), heads.b[0]
    plain, better = prove(X, [Claim(answers, 1e-4, *own), Claim(answers, 1e-4, *own, axes.back(step), bias)])
    assert better.gap < plain.gap / 2
    assert better.gap <= 10 * float(refined)


def test_refined_bounds_of_some_heads_are_those_of_all_of_them():
    axes, answers = Axes(design(rows=400, features=50), 0), asked(SOFTMAX, rows=400)
    heads = group(axes, [answers] * 3, [1e-4, 1e-2, 1e-3], size=0.3)
    descent = Descent(axes, torch.float64, [heads])
    descent.restart()
    for _ in range(12):
        descent.step()
    chosen = torch.tensor([True, False, True])
    bounds, steps = heads.refined_bound(torch.tensor([True, True, True]))
    few, few_steps = heads.refined_bound(chosen)
    torch.testing.assert_close(few, bounds[chosen], rtol=1e-9, atol=0)
    torch.testing.assert_close(few_steps, steps[chosen], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_products_move_heads_nearly_as_wide_ones(dtype):
    axes, answers = Axes(design(rows=500), 0), asked(SOFTMAX, rows=500)
    narrow, wide = group(axes, [answers], [1e-2], dtype=torch.float32), group(axes, [answers], [1e-2])
    for heads, products in ((narrow, dtype), (wide, torch.float64)):
        descent = Descent(axes, products, [heads])
        descent.restart()
        for _ in range(3):
            descent.step()
    assert float(narrow.objective) == pytest.approx(float(wide.objective), rel=1e-4 if dtype is torch.float32 else 2e-2)


def test_heads_that_can_get_no_lower_are_told():
    axes, answers = Axes(design(), 0), asked(LOGISTIC)
    heads = group(axes, [answers], [0.1])
    descent = Descent(axes, torch.float64, [heads])
    descent.restart()
    for _ in range(400):
        if bool(descent.step()[0].all()):
            break
    else:
        pytest.fail("it went on for ever")
    assert float(heads.bound()) <= 1e-12
    check(axes, heads, [answers], rtol=1e-8)


def test_the_history_grows_with_the_rows_and_no_further_than_memory_allows():
    assert [history_for(n) for n in (10, 14_000, 10**6)] == [SHORTEST_HISTORY, 20, LONGEST_HISTORY]
    assert history_for(10**6, most=3) == 3
    assert history_for(10, most=3) == 3
