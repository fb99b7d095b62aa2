"""The bound is never below the true gap, at whatever parameters, and meets it where a closed form tells the optimum.

The true gap is objective - optimum. The optimum comes from scikit-learn's Newton methods in float64 (of a number: from
the normal equations). What they find is never below it, so that objective - found ≤ bound follows from the theorem
whatever their own error; how sharp the comparison is, is that error, which half the squared Newton decrement measures.
"""

import itertools
import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, log_softmax, softmax
from scipy.stats import entropy
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from probekit.components import ArrayMatrix
from probekit.probes import biases, certificate
from probekit.probes.biases import best_bias, solve_bias
from probekit.probes.certificate import Claim, prove
from probekit.probes.design import Held, Streamed
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES, Answers
from probekit.probes.standardise import Standardiser

SHARP = 1e-10
"""By how much a reference may be off the optimum."""


@dataclass(frozen=True)
class Problem:
    """Standardised rows, float32, and what is asked of them."""

    X: np.ndarray
    answers: Answers
    penalty: float

    @property
    def wide(self):
        return self.X.astype(np.float64)

    @property
    def y(self):
        return self.answers.y.numpy()

    def objective(self, W, b):
        return self.losses(self.wide @ W.T + b).mean() + self.penalty / 2 * (W**2).sum()

    def losses(self, Z):
        if self.answers.loss is SOFTMAX:
            return -log_softmax(Z, axis=1)[np.arange(len(Z)), self.y]
        if self.answers.loss is LOGISTIC:
            return np.logaddexp(0, Z[:, 0]) - self.y * Z[:, 0]
        return (Z[:, 0] - self.y) ** 2 / 2

    def reference(self):
        """Return W, b of the optimum, in float64."""
        X, columns = self.wide, self.answers.columns
        if self.answers.loss is SQUARES:
            centred, y = X - X.mean(axis=0), self.y - self.y.mean()
            W = np.linalg.solve(
                centred.T @ centred / len(X) + self.penalty * np.eye(X.shape[1]), centred.T @ y / len(X)
            )
            return W[None], np.array([self.y.mean() - X.mean(axis=0) @ W])
        # One vector between two classes of a softmax is two rows of half of it each, which halves ‖W‖².
        C = (2 if self.answers.loss is SOFTMAX and columns == 2 else 1) / (len(X) * self.penalty)
        found = []
        for solver in ("newton-cholesky", "newton-cg"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the decrement tells how near it is
                model = LogisticRegression(C=C, tol=1e-14, max_iter=2000, solver=solver).fit(X, self.y)
            W, b = model.coef_, model.intercept_
            if self.answers.loss is SOFTMAX and columns == 2:
                W, b = np.concatenate([-W, W]) / 2, np.concatenate([-b, b]) / 2
            found.append((self.objective(W, b), W, b))
            if self.decrement(W, b) < SHARP:
                break
        _, W, b = min(found, key=lambda one: one[0])
        assert self.decrement(W, b) < SHARP
        return W, b

    def decrement(self, W, b):
        """Return half the squared Newton decrement, by how much the objective is above the optimum near it."""
        A, columns = np.pad(self.wide, ((0, 0), (0, 1)), constant_values=1.0), len(W)
        Z = self.wide @ W.T + b
        if self.answers.loss is SOFTMAX:
            P = softmax(Z, axis=1)
            residual = P - np.eye(columns)[self.y]
            second = np.einsum("nk,kl->nkl", P, np.eye(columns)) - np.einsum("nk,nl->nkl", P, P)
        else:
            P = expit(Z)
            residual, second = P - self.y[:, None], (P * (1 - P))[..., None]
        hessian = np.einsum("nkl,ni,nj->kilj", second, A, A, optimize=True) / len(A)
        gradient = residual.T @ A / len(A)
        gradient[:, :-1] += self.penalty * W
        ridge = np.full(gradient.shape, self.penalty)
        ridge[:, -1] = 1e-14 * np.abs(hessian).max()  # an equal shift of all biases of a softmax changes nothing
        hessian = hessian.reshape(gradient.size, gradient.size) + np.diag(ridge.ravel())
        return float(gradient.ravel() @ np.linalg.solve(hessian, gradient.ravel())) / 2

    def prove(self, W, b, dual=None, dual_bias=None, design=None, dtype=torch.float64):
        dual, dual_bias = (None if one is None else torch.from_numpy(one) for one in (dual, dual_bias))
        dual = None if dual is None else dual.to(dtype)
        claim = Claim(self.answers, self.penalty, torch.from_numpy(W), torch.from_numpy(b), dual, dual_bias)
        (proof,) = prove(design or Held(torch.from_numpy(self.X)), [claim])
        return proof


def standardised(X):
    X = X.astype(np.float32)
    return Standardiser(ArrayMatrix(X), np.arange(len(X)))(X)


def rotated(rng, rows, features, spectrum):
    """Return normal rows whose Gram matrix has a spectrum, its axes in general position."""
    turn = np.linalg.qr(rng.standard_normal((features, features)))[0]
    return rng.standard_normal((rows, features)) * np.sqrt(spectrum) @ turn.T


KINDS = {
    "random": lambda rng, n, f, _: rng.standard_normal((n, f)),
    "ill-conditioned": lambda rng, n, f, _: rotated(rng, n, f + 1, np.logspace(0, -9, f + 1)),
    "separable": lambda rng, n, f, y: rng.standard_normal((n, f)) + 30 * rng.standard_normal((n, f))[y],
    "collinear": lambda rng, n, f, _: rng.standard_normal((n, f)) @ np.hstack([np.eye(f), np.ones((f, f))]),
    "constant features": lambda rng, n, f, _: np.pad(
        rng.standard_normal((n, f)), ((0, 0), (0, 2)), constant_values=3.0
    ),
    "more features than rows": lambda rng, n, f, _: rng.standard_normal((n, n + f)),
    "imbalanced": lambda rng, n, f, _: rng.standard_normal((n, f)),
}


@st.composite
def problems(draw, kind):
    """Give a problem of a kind, of any loss, with λ from 1e-6 to 1."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(6, 16 if kind == "more features than rows" else 50))
    features, classes = draw(st.integers(1, 8)), draw(st.integers(2, 4))
    loss = draw(st.sampled_from([SOFTMAX, LOGISTIC, SQUARES]))
    if loss is LOGISTIC:
        classes = 2
    if kind == "imbalanced":
        y = np.zeros(rows, dtype=np.int64)
        y[rng.permutation(rows)[: classes - 1]] = np.arange(1, classes)
        y[rng.integers(rows)] = draw(st.integers(0, classes - 1))
        y = np.unique(y, return_inverse=True)[1]
        classes = int(y.max()) + 1
        if classes < 2:
            y[0], classes = 1, 2
    else:
        y = np.concatenate([np.arange(classes), rng.integers(classes, size=rows - classes)])
    X = standardised(KINDS[kind](rng, rows, features, y))
    penalty = 10.0 ** draw(st.floats(-6, 0))
    if loss is SOFTMAX:
        return Problem(X, Answers(SOFTMAX, torch.from_numpy(y), classes), penalty), rng
    numbers = y.astype(np.float64) if loss is LOGISTIC else y + rng.standard_normal(rows)
    return Problem(X, Answers(loss, torch.from_numpy(numbers)), penalty), rng


SIZES = st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 1.0, 10.0])


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(data=st.data(), near=st.booleans(), size=SIZES, far=st.sampled_from([0.0, 1.0, 50.0, 1e4]), step=SIZES)
def test_the_bound_is_never_below_the_true_gap(kind, data, near, size, far, step):
    problem, rng = data.draw(problems(kind))
    W, b = problem.reference()
    best = problem.objective(W, b)
    own = near * W + size * rng.standard_normal(W.shape)
    bias, dual = far * rng.standard_normal(b.shape), step * rng.standard_normal(W.shape)
    towards = W - own  # the best dual point is the optimum itself
    ways = itertools.product((None, dual, towards, 0.9 * towards + 0.1 * dual), (torch.float64, torch.float32))
    for way, dtype in ways:
        proof = problem.prove(own, bias, way, far * rng.standard_normal(b.shape), dtype=dtype)
        assert proof.objective == pytest.approx(problem.objective(own, proof.bias.numpy()), rel=1e-12, abs=1e-13)
        assert proof.objective - best <= proof.gap + 1e-12 * (1 + proof.objective)
        assert proof.gap < math.inf


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(data=st.data(), size=st.sampled_from([0.0, 1e-3, 0.1, 1.0]))
def test_with_the_optimum_as_dual_point_the_bound_is_the_true_gap(kind, data, size):
    problem, rng = data.draw(problems(kind))
    W, b = problem.reference()
    own = W + size * rng.standard_normal(W.shape)
    proof = problem.prove(own, b, W - own)
    true = proof.objective - problem.objective(W, b)
    assert proof.gap == pytest.approx(true, rel=1e-6, abs=10 * SHARP)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(data=st.data(), far=st.sampled_from([0.0, 1.0, 50.0]))
def test_at_the_optimum_the_bound_is_rounding(kind, data, far):
    problem, rng = data.draw(problems(kind))
    W, b = problem.reference()
    assert problem.prove(W, b + far * rng.standard_normal(b.shape)).gap <= 10 * SHARP


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC])
@settings(deadline=None, max_examples=40)
@given(data=st.data(), size=st.sampled_from([1e-9, 1e-4, 0.1, 3.0]), scale=st.sampled_from([1.0, 1e-3, 1e3]))
def test_with_a_wrong_bias_the_bound_holds_all_the_same(loss, data, size, scale):
    """Also where rows are no longer of unit mean square, as they are after standardising."""
    problem, rng = data.draw(problems("random").filter(lambda drawn: drawn[0].answers.loss is loss))
    problem = replace(problem, X=problem.X * np.float32(scale), penalty=problem.penalty * scale**2)
    W, b = problem.reference()
    wrong = size * rng.standard_normal(b.shape)
    usual = certificate.best_bias
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "best_bias", lambda *given: usual(*given) + torch.from_numpy(wrong))
        for dual in (None, 0.1 * rng.standard_normal(W.shape)):
            proof = problem.prove(W, b, dual)
            assert proof.objective == pytest.approx(problem.objective(W, proof.bias.numpy()), rel=1e-12)
            assert proof.objective - problem.objective(W, b) <= proof.gap + 1e-12 * (1 + proof.objective)
        small = problem.prove(W, b)
    assert size > 1e-9 or small.gap <= 1e-6


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6), penalty=st.sampled_from([1e-6, 1e-3, 1.0]))
def test_of_features_that_are_all_zero_gap_and_bound_are_the_penalty(seed, classes, penalty):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=30)])
    problem = Problem(np.zeros((len(y), 3), np.float32), Answers(SOFTMAX, torch.from_numpy(y), classes), penalty)
    W = rng.standard_normal((classes, 3))
    proof = problem.prove(W, rng.standard_normal(classes))
    chance = entropy(np.bincount(y))
    assert proof.objective == pytest.approx(chance + penalty / 2 * (W**2).sum(), rel=1e-12)
    assert proof.gap == pytest.approx(penalty / 2 * (W**2).sum(), rel=1e-9, abs=1e-10)
    assert problem.answers.chance() == pytest.approx(chance, rel=1e-12)


@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 0.3])
@pytest.mark.parametrize("w", [0.0, 0.5, 3.0, -2.0])
def test_of_two_points_bound_and_optimum_have_closed_forms(w, penalty):
    """At ±1 with one label each, f(w) = log(1 + e^-w) + λ/2 w², whose optimum has λ w (1 + e^w) = 1."""
    X = np.array([[-1.0], [1.0]], np.float32)
    problem = Problem(X, Answers(LOGISTIC, torch.tensor([0.0, 1.0], dtype=torch.float64)), penalty)
    best = brentq(lambda v: penalty * v * (1 + math.exp(v)) - 1, 0, 40, xtol=1e-14)
    proof = problem.prove(np.array([[w]]), np.array([7.0]))
    gap = proof.objective - math.log1p(math.exp(-best)) - penalty / 2 * best**2
    assert float(proof.bias) == pytest.approx(0, abs=1e-12)
    assert proof.objective == pytest.approx(math.log1p(math.exp(-w)) + penalty / 2 * w**2, rel=1e-12)
    bound = (expit(-w) - penalty * w) ** 2 / (2 * penalty)
    assert proof.gap == pytest.approx(min(bound, proof.objective), rel=1e-9)  # no loss is below 0
    assert gap <= proof.gap + 1e-12
    two = Problem(X, Answers(SOFTMAX, torch.tensor([0, 1]), 2), 2 * penalty)  # W = (-w/2, w/2) halves ‖W‖²
    other = two.prove(np.array([[-w / 2], [w / 2]]), np.array([-50.0, 3.0]))
    assert (other.objective, other.gap) == pytest.approx((proof.objective, proof.gap), rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(data=st.data(), size=st.sampled_from([0.0, 0.1, 5.0]))
def test_of_a_number_the_bound_is_that_of_the_ridge_regression(data, size):
    problem, rng = data.draw(problems("random").filter(lambda drawn: drawn[0].answers.loss is SQUARES))
    W, b = problem.reference()
    own = W + size * rng.standard_normal(W.shape)
    centred = problem.wide - problem.wide.mean(axis=0)
    hessian = centred.T @ centred / len(centred) + problem.penalty * np.eye(W.shape[1])
    gradient = (own - W) @ hessian
    proof = problem.prove(own, b)
    gap = proof.objective - problem.objective(W, b)
    assert gap == pytest.approx(float(((own - W) @ hessian * (own - W)).sum()) / 2, rel=1e-9, abs=1e-12)
    bound = float((gradient**2).sum()) / (2 * problem.penalty)
    assert proof.gap == pytest.approx(min(bound, proof.objective), rel=1e-9, abs=1e-12)


def test_claims_of_several_losses_are_proven_as_each_alone_and_read_block_by_block():
    rng = np.random.default_rng(3)
    X, y = standardised(rng.standard_normal((600, 7))), rng.integers(4, size=600)
    asked = [
        Answers(SOFTMAX, torch.from_numpy(y), 4),
        Answers(LOGISTIC, torch.from_numpy((y == 2).astype(np.float64))),
        Answers(SQUARES, torch.from_numpy(rng.standard_normal(600))),
    ]
    claims = [
        Claim(one, 1e-2, *(torch.from_numpy(rng.standard_normal(s)) for s in ((one.columns, 7), one.columns)), *dual)
        for one in asked
        for dual in [
            (None, None),
            *((torch.from_numpy(0.1 * rng.standard_normal((one.columns, 7))).to(dtype), None)
              for dtype in (torch.float64, torch.float32)),
        ]
    ]  # fmt: skip
    rows = np.arange(0, 1200, 2)
    apart = np.zeros((1200, 7), np.float32)
    apart[rows] = X

    class Same:
        is_mild = False

        def __call__(self, block):
            return block

    for design in (Held(torch.from_numpy(X)), Streamed(ArrayMatrix(apart), rows, Same())):
        for claim, proof in zip(claims, prove(design, claims), strict=True):
            (alone,) = prove(Held(torch.from_numpy(X)), [claim])
            assert proof.objective == pytest.approx(alone.objective, rel=1e-12)
            assert proof.gap == pytest.approx(alone.gap, rel=1e-9)
            torch.testing.assert_close(proof.bias, alone.bias, rtol=1e-9, atol=1e-12)


# --- the bias alone


def test_without_weights_the_best_bias_is_the_log_of_the_shares():
    y = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    b = solve_bias(torch.zeros(3, 10, dtype=torch.float64), y, torch.zeros(3, dtype=torch.float64))
    expected = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    torch.testing.assert_close(b, expected - expected.mean(), atol=1e-10, rtol=0)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6), classes=st.integers(2, 80), size=st.sampled_from([0.1, 3.0, 30.0]),
    far=st.sampled_from([0.0, 1.0, 100.0]),
)  # fmt: skip
@example(seed=39, classes=77, size=30.0, far=100.0)  # hardly any curvature on the way
def test_at_the_best_bias_each_class_is_predicted_as_often_as_it_is_there(seed, classes, size, far):
    predicted_as_often(seed, classes, size, far)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6), classes=st.integers(4, 40), size=st.sampled_from([0.1, 3.0, 30.0]),
    far=st.sampled_from([0.0, 1.0, 100.0]),
)  # fmt: skip
def test_so_it_is_by_the_diagonal_of_the_curvature_as_of_very_many_classes(seed, classes, size, far):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(biases, "DIAGONAL_ABOVE", 3)
        predicted_as_often(seed, classes, size, far)


def predicted_as_often(seed, classes, size, far):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=200)])
    Z = size * rng.standard_normal((classes, len(y)))
    b = solve_bias(*(torch.from_numpy(one) for one in (Z, y, far * rng.standard_normal(classes)))).numpy()
    share = np.bincount(y) / len(y)
    np.testing.assert_allclose(softmax(Z + b[:, None], axis=0).mean(axis=1), share, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6), yes=st.integers(1, 49), size=st.sampled_from([0.0, 1.0, 100.0, 1e6]),
    far=st.sampled_from([0.0, 10.0, 1e8]),
)  # fmt: skip
def test_at_the_best_log_odds_yes_is_predicted_as_often_as_it_is_there(seed, yes, size, far):
    rng = np.random.default_rng(seed)
    y, z = torch.zeros(50, dtype=torch.float64), size * rng.standard_normal(50)
    y[:yes] = 1
    start = torch.tensor([far * rng.standard_normal()])
    b = float(best_bias(Answers(LOGISTIC, y), torch.from_numpy(z)[None], start))
    assert expit(z + b).mean() == pytest.approx(yes / 50, rel=1e-12, abs=1e-16 * size)
