"""Fits against scikit-learn at its tightest tolerance in float64, on the same standardised rows.

What a certificate promises is what is asked: with f(W) - f* ≤ gap, and f λ-strongly convex in W, ‖W - W*‖² ≤ 2 gap/λ.
The reference f' is no optimum either; f* ≥ f - gap makes it one within f' - f + gap.
"""

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from probekit.components import ArrayMatrix, Target
from probekit.probes import arithmetic as arithmetic_module
from probekit.probes import axes as axes_module
from probekit.probes import engine
from probekit.probes.axes import Axes
from probekit.probes.design import Held, Streamed
from probekit.probes.engine import minimise
from probekit.probes.head import start_head
from probekit.probes.linear import LinearProbe
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES, Answers
from probekit.probes.standardise import Standardiser


def blobs(rows, features, classes, seed=0, spread=1.0):
    """Return normal rows about a point for each class, and the classes."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=rows - classes)])
    X = spread * rng.standard_normal((classes, features))[y] + rng.standard_normal((rows, features))
    return X.astype(np.float32), y


def target(y, task="classes", classes=None):
    names = [] if task == "number" else range(classes or (y.shape[1] if task == "multilabel" else int(y.max()) + 1))
    rows = np.arange(len(y))
    return Target("f", tuple(map(str, names)), y, rows, rows, task=task)


def standardised(X):
    """Return the rows that a fit is proven on, in float64, and the deviations that they were divided by."""
    scale = Standardiser(ArrayMatrix(X), np.arange(len(X)))
    return scale(X).astype(np.float64), scale.scale


def softmax_objective(X, y, W, b, penalty):
    return -log_softmax(X @ W.T + b, axis=1)[np.arange(len(y)), y].mean() + penalty / 2 * (W**2).sum()


def reference(X, y, penalty):
    """Return scikit-learn's W and b in float64; two classes as two rows of half of their one vector each."""
    two = len(np.unique(y)) == 2
    model = LogisticRegression(C=(2 if two else 1) / (len(X) * penalty), tol=1e-11, max_iter=1000, solver="newton-cg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1e-11 is below what its line search can tell
        model.fit(X, y)
    W, b = model.coef_, model.intercept_
    return (np.concatenate([-W, W]) / 2, np.concatenate([-b, b]) / 2) if two else (W, b)


SHAPES = {2: (12, 400), 3: (12, 400), 10: (20, 600), 100: (8, 1200), 1000: (20, 3000)}
CASES = [(*one, "auto") for one in itertools.product([2, 3, 10, 100], [1e-1, 1e-2, 1e-3, 1e-4])]
CASES += [(classes, penalty, "float64") for classes in (2, 10) for penalty in (1e-1, 1e-4)]


@pytest.mark.parametrize(("classes", "penalty", "arithmetic"), [*CASES, (1000, 1e-2, "auto"), (1000, 1e-3, "auto")])
def test_objective_weights_bias_and_predictions_are_scikit_learns(classes, penalty, arithmetic):
    features, rows = SHAPES[classes]
    X, y = blobs(rows, features, classes)
    (fit,) = LinearProbe(penalty=penalty, tolerance=1e-8, arithmetic=arithmetic).fit(ArrayMatrix(X), [target(y)])
    S, deviation = standardised(X)
    W, b = reference(S, y, penalty)
    own = fit.linear.weights * deviation
    centre = fit.linear.bias + fit.linear.weights @ X.mean(axis=0, dtype=np.float64)
    best, gap = softmax_objective(S, y, W, b, penalty), fit.certificate.gap
    assert fit.certificate.status == "proven"
    assert gap <= 1e-8 * np.log(classes)
    assert fit.objective == pytest.approx(softmax_objective(S, y, own, centre, penalty), rel=1e-7)
    assert -1e-12 - gap <= best - fit.objective <= 1e-9
    assert fit.objective - best <= gap + 1e-12
    radius = np.sqrt(2 * gap / penalty) + np.sqrt(2 * max(best - fit.objective + gap, 0) / penalty)
    assert radius <= 0.02 * np.linalg.norm(W)
    assert np.linalg.norm(own - W) <= radius
    longest = np.linalg.norm(S, axis=1).max()
    assert np.abs(centre - centre.mean() - (b - b.mean())).max() <= radius * longest
    logits, expected = fit.logits(X).astype(np.float64), S @ W.T + b
    off = softmax(logits, axis=1) - softmax(expected, axis=1)
    assert np.abs(off).max() <= radius * longest
    top = np.sort(expected, axis=1)
    sure = top[:, -1] - top[:, -2] > 1e-2
    assert sure.mean() > (0.9 if classes < 1000 else 0.7)
    np.testing.assert_array_equal(logits.argmax(axis=1)[sure], expected.argmax(axis=1)[sure])


DTYPES = {
    "float16": lambda X: X.astype(np.float16),
    "float64": lambda X: X.astype(np.float64) + 1e-9,
    "bfloat16": lambda X: torch.from_numpy(X).bfloat16().double().numpy(),
    "int8": lambda X: np.clip(20 * X, -127, 127).astype(np.int8),
    "uint8": lambda X: np.clip(20 * X + 100, 0, 255).astype(np.uint8),
    "int32, large": lambda X: (1e4 * X).astype(np.int32) + 10**6,
}


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_features_of_every_dtype_give_what_scikit_learn_gives_of_them(name, classes):
    """Standardised by NumPy in float64 from the values as they are: what float32 loses is all that may differ."""
    X, y = blobs(1200 if classes == 100 else 500, 10, classes)
    X = DTYPES[name](X)
    wide = X.astype(np.float64)
    S = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    (fit,) = LinearProbe(penalty=1e-3, tolerance=1e-8).fit(ArrayMatrix(X.astype(np.float32)), [target(y)])
    W, b = reference(S, y, 1e-3)
    assert fit.objective == pytest.approx(softmax_objective(S, y, W, b, 1e-3), rel=3e-6)
    np.testing.assert_allclose(fit.linear.weights * wide.std(axis=0), W, atol=5e-3 * np.abs(W).max())
    centre = fit.linear.bias + fit.linear.weights @ wide.mean(axis=0)
    np.testing.assert_allclose(centre - centre.mean(), b - b.mean(), atol=5e-3 * np.abs(S @ W.T).max())
    np.testing.assert_allclose(
        softmax(fit.logits(X.astype(np.float32)), axis=1), softmax(S @ W.T + b, axis=1), atol=5e-3
    )


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_yes_no_labels_are_one_logistic_regression_each(penalty):
    X, y = blobs(400, 8, 5)
    labels = np.stack([y == 0, y > 2, (y % 2 == 0) ^ (X[:, 0] > 0)], axis=1).astype(np.int64)
    (fit,) = LinearProbe(penalty=penalty, tolerance=1e-8).fit(ArrayMatrix(X), [target(labels, "multilabel")])
    S, deviation = standardised(X)
    own = fit.linear.weights * deviation
    assert fit.certificate.status == "proven"
    best = []
    for place, label in enumerate(labels.T):
        # λ is that of two classes, whose one vector counts half.
        C = 2 / (len(S) * penalty)
        model = LogisticRegression(C=C, tol=1e-12, solver="newton-cholesky").fit(S, label)
        z, w = model.decision_function(S), model.coef_[0]
        best.append((np.logaddexp(0, z) - label * z).mean() + penalty / 4 * (w**2).sum())
        # The mean of the gaps is proven: one label's is at most so many times that.
        radius = np.sqrt(2 * 3 * fit.certificate.gap / (penalty / 2))
        assert np.linalg.norm(own[place] - w) <= radius
        assert radius <= 0.02 * np.linalg.norm(w)
        np.testing.assert_allclose(
            expit(fit.logits(X)[:, place]), expit(z), atol=radius * np.linalg.norm(S, axis=1).max()
        )
    assert -1e-12 <= fit.objective - np.mean(best) <= fit.certificate.gap + 1e-12


@pytest.mark.parametrize("penalty", [10.0, 1e-1, 1e-4])
def test_a_number_is_the_ridge_regression_of_alpha_rows_times_penalty(penalty):
    X, y = blobs(300, 9, 4)
    numbers = 1e3 + 50 * (X[:, 0] - X[:, 3] + y)
    (fit,) = LinearProbe(penalty=penalty, tolerance=1e-10).fit(
        ArrayMatrix(X), [target(numbers.astype(float), "number")]
    )
    S, deviation = standardised(X)
    other = Ridge(alpha=penalty * len(S), solver="cholesky").fit(S, numbers)
    residual = (numbers - other.predict(S)) / numbers.std()
    best = (residual**2).mean() / 2 + penalty / 2 * ((other.coef_ / numbers.std()) ** 2).sum()
    assert fit.certificate.status == "proven"
    assert fit.certificate.gap <= 0.5e-10
    assert -1e-12 <= fit.objective - best <= fit.certificate.gap + 1e-12
    off = np.linalg.norm(fit.linear.weights[0] * deviation - other.coef_) / numbers.std()
    assert off <= np.sqrt(2 * fit.certificate.gap / penalty) + 1e-9
    np.testing.assert_allclose(fit.logits(X)[:, 0], other.predict(S), rtol=1e-4)


# --- many heads, and how they get there


def solve(X, asked, penalties, tolerance=1e-6, max_passes=3000, design=None, **more):
    """Return the heads of answers and λ, with the axes that they are in."""
    data = design or Held(torch.from_numpy(X))
    axes = Axes(data, 0.05 * tolerance * min(penalties))
    heads = [start_head(one, penalty, tolerance * one.chance(), axes) for one in asked for penalty in penalties]
    minimise(data, axes, heads, max_passes, **more)
    return heads, axes


def centred(kind, rows=200, seed=0):
    rng = np.random.default_rng(seed)
    separable = blobs(rows, 8, 3, spread=8.0)
    X = {
        "random": lambda: rng.standard_normal((rows, 10)),
        "more features than rows": lambda: rng.standard_normal((60, 150)),
        "collinear": lambda: np.repeat(rng.standard_normal((rows, 5)), 3, axis=1),
        "ill-conditioned": lambda: rng.standard_normal((rows, 12)) * np.logspace(0, -4, 12),
        "separable": lambda: separable[0],
        "constant features": lambda: np.pad(rng.standard_normal((rows, 4)), ((0, 0), (0, 3))),
        "imbalanced": lambda: rng.standard_normal((3 * rows, 6)),
    }[kind]()
    y = rng.integers(3, size=len(X))
    if kind == "separable":
        y = separable[1]
    elif kind == "imbalanced":  # two classes of one row each
        y = np.zeros(len(X), np.int64)
        y[:2] = 1, 2
    return (X - X.mean(axis=0)).astype(np.float32), y


KINDS = [
    "random", "more features than rows", "collinear", "ill-conditioned", "separable", "constant features", "imbalanced",
]  # fmt: skip


class AsTheyAre:
    """Rows that are standard already."""

    is_mild = False

    def __call__(self, rows):
        return rows.copy()


def answers_to(loss, y):
    """Return what is asked of three classes: which it is, whether it is the second, or its number."""
    if loss is SOFTMAX:
        return Answers(SOFTMAX, torch.from_numpy(y), 3)
    numbers = (y == 1).astype(np.float64) if loss is LOGISTIC else y - y.mean()
    return Answers(loss, torch.from_numpy(numbers))


def objective_of(answers, X, W, b, penalty):
    y = answers.y.numpy()
    if answers.loss is SOFTMAX:
        return softmax_objective(X, y, W, b, penalty)
    Z = X @ W[0] + b[0]
    losses = np.logaddexp(0, Z) - y * Z if answers.loss is LOGISTIC else (Z - y) ** 2 / 2
    return losses.mean() + penalty / 2 * (W**2).sum()


def optimum_of(answers, X, penalty):
    """Return scikit-learn's W and b in float64, of a number those of the normal equations."""
    y = answers.y.numpy()
    if answers.loss is SOFTMAX:
        return reference(X, y, penalty)
    if answers.loss is SQUARES:
        ridge = Ridge(alpha=penalty * len(X), solver="svd").fit(X, y)
        return ridge.coef_[None], np.array([ridge.intercept_])
    model = LogisticRegression(C=1 / (len(X) * penalty), tol=1e-12, solver="newton-cholesky").fit(X, y)
    return model.coef_, model.intercept_


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC, SQUARES], ids=lambda loss: loss.name)
@pytest.mark.parametrize("read", [None, 7, 1000])
def test_hard_problems_end_within_their_bound_of_the_optimum(kind, loss, read, monkeypatch):
    X, y = centred(kind)
    design, wide = None, X.astype(np.float64)
    if read:
        monkeypatch.setattr("probekit.probes.design.rows_at_once", lambda _: read)
        design = Streamed(ArrayMatrix(X), np.arange(len(X)), AsTheyAre())
    asked = answers_to(loss, y)
    heads, axes = solve(X, [asked], [1.0, 1e-2, 1e-4], design=design)
    for head in heads:
        best = objective_of(asked, wide, *optimum_of(asked, wide, head.penalty), head.penalty)
        W, b = axes.back(head.weights).numpy(), head.bias.numpy()
        assert head.done
        assert head.reason is None
        assert head.objective == pytest.approx(objective_of(asked, wide, W, b, head.penalty), rel=1e-12)
        assert -1e-10 <= head.objective - best <= head.gap + 1e-12


def test_heads_of_all_losses_reach_together_what_each_reaches_alone():
    X, y = centred("random")
    asked = [
        Answers(SOFTMAX, torch.from_numpy(y), 3),
        Answers(LOGISTIC, torch.from_numpy((y == 1).astype(np.float64))),
        Answers(SQUARES, torch.from_numpy(y - y.mean())),
    ]
    together, _ = solve(X, asked, [1.0, 1e-2, 1e-4])
    for place, head in enumerate(together):
        (alone,), _ = solve(X, [asked[place // 3]], [head.penalty])
        assert head.done
        assert head.objective == pytest.approx(alone.objective, abs=2e-6)
        assert abs(head.objective - alone.objective) <= max(head.gap, alone.gap) + 1e-12


def test_without_features_that_vary_the_optimum_is_the_entropy():
    asked = [Answers(SOFTMAX, torch.tensor([0] * 30 + [1] * 6 + [2] * 4), 3)]
    (head,), _ = solve(np.zeros((40, 4), np.float32), asked, [0.1])
    assert head.done
    assert head.objective == pytest.approx(asked[0].chance(), rel=1e-12)
    assert float(head.weights.abs().max()) == 0


def test_newton_finishes_what_descent_leaves(monkeypatch):
    monkeypatch.setattr(engine, "_PASSES_BEFORE_NEWTON", 5)
    X, y = centred("random")
    (head,), axes = solve(X, [Answers(SOFTMAX, torch.from_numpy(y), 3)], [1e-3], tolerance=1e-13)
    W, _ = reference(X.astype(np.float64), y, 1e-3)
    assert head.done
    assert head.passes < 20
    assert head.arithmetic == ["float32", "float64"]
    np.testing.assert_allclose(axes.back(head.weights), W, atol=1e-3)


def test_bfloat16_leads_to_the_same_optimum(monkeypatch):
    monkeypatch.setattr(arithmetic_module, "_HALF_WIDTH_FLOPS", 0)
    monkeypatch.setattr(arithmetic_module, "_HALF_WIDTH_FLOPS_CACHED", 0)
    monkeypatch.setattr(arithmetic_module, "has_fast_bfloat16", lambda _: True)
    X, y = centred("random", rows=2000)
    asked = [Answers(SOFTMAX, torch.from_numpy(y), 3)]
    (head,), _ = solve(X, asked, [1e-2])
    (plain,), _ = solve(X, asked, [1e-2], arithmetic="float32")
    assert (head.arithmetic, plain.arithmetic) == (["bfloat16", "float32"], ["float32"])
    assert head.done
    assert abs(head.objective - plain.objective) <= max(head.gap, plain.gap) + 1e-12


def test_more_features_than_the_exact_axes_are_sketched(monkeypatch):
    monkeypatch.setattr(axes_module, "EXACT", 64)
    monkeypatch.setattr(axes_module, "SKETCH_RANK", 16)
    X, y = blobs(300, 100, 3)
    X -= X.mean(axis=0)
    (head,), axes = solve(X, [Answers(SOFTMAX, torch.from_numpy(y), 3)], [1e-2], tolerance=1e-5)
    wide = X.astype(np.float64)
    best = softmax_objective(wide, y, *reference(wide, y, 1e-2), 1e-2)
    assert axes.kind == "sketch"
    assert -1e-12 <= head.objective - best <= head.gap + 1e-12
    assert head.done


def test_the_same_problem_gives_the_same_bits():
    X, y = centred("random")
    (first, _), (second, _) = (solve(X, [Answers(SOFTMAX, torch.from_numpy(y), 3)], [1e-2, 1e-3]) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.weights, other.weights)
        assert torch.equal(one.bias, other.bias)
        assert one.gap == other.gap


# --- what is not proven


def hard(rows=400):
    """Return labels that hardly depend on features of a wide spectrum."""
    rng = np.random.default_rng(5)
    base = rng.standard_normal((rows, 30))
    mixed = base * np.logspace(0, -3, 30) @ np.linalg.qr(rng.standard_normal((30, 30)))[0]
    return mixed.astype(np.float32), rng.integers(3, size=rows)


def test_a_fit_out_of_passes_is_missed_names_its_budget_and_keeps_an_honest_bound():
    X, y = hard()
    (fit,) = LinearProbe(penalty=1e-6, tolerance=1e-8, max_passes=3).fit(ArrayMatrix(X), [target(y)])
    S, _ = standardised(X)
    best = softmax_objective(S, y, *reference(S, y, 1e-6), 1e-6)
    assert fit.certificate.status == "missed"
    assert fit.facts.path[0].status == "missed"
    assert fit.facts.passes <= 4
    for words in ("budget of 3 passes", "λ = 1e-06", "condition number about "):
        assert words in fit.facts.reason
    assert 1e-6 < fit.objective - best <= fit.certificate.gap


def test_a_penalty_below_what_rounding_allows_is_missed_and_says_so():
    X, y = blobs(60, 5, 3)
    (fit,) = LinearProbe(penalty=1e-12, tolerance=1e-9).fit(ArrayMatrix(X), [target(y)])
    assert fit.certificate.status == "missed"
    assert fit.facts.reason.startswith("rounding stopped the fit (λ = 1e-12, condition number about ")
    assert fit.certificate.gap > 0


def test_a_missed_penalty_is_not_chosen_where_another_is_proven():
    """Separable rows: on valid the smallest λ is best, but its budget ends before it is proven."""
    X, y = blobs(300, 6, 3, spread=8.0)
    asked = target(y)
    path = [1e-1, 1e-5]
    (easy,) = LinearProbe(penalty=1e-1, tolerance=1e-7).fit(ArrayMatrix(X), [asked])
    (free,) = LinearProbe(penalty=path, tolerance=1e-7).fit(ArrayMatrix(X), [asked])
    budget = easy.facts.passes + 1
    (fit,) = LinearProbe(penalty=path, tolerance=1e-7, max_passes=budget).fit(ArrayMatrix(X), [asked])
    assert free.penalty == 1e-5
    assert [point.status for point in free.facts.path] == ["proven", "proven"]
    assert [point.status for point in fit.facts.path] == ["proven", "missed"]
    assert fit.facts.path[1].valid_loss < fit.facts.path[0].valid_loss
    assert fit.penalty == 1e-1
    assert fit.certificate.status == "proven"
    assert fit.facts.reason is None
