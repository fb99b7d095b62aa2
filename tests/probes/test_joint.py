"""Fits of several targets together: each gets what it would get alone, and what scikit-learn and closed forms give."""

import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge

from probekit.components import ArrayMatrix, FitContext, Target
from probekit.errors import InputError
from probekit.probes import arithmetic as arithmetic_module
from probekit.probes import axes, closed_form, engine, standardise
from probekit.probes.linear import LinearProbe
from probekit.probes.memory import Job, plan_memory
from probekit.probes.path import GROWTH, PENALTY_PATH

ROUNDING = 1e-6
"""Share of an objective by which rounding the standardised features to float32 may move it."""


class Stored:
    """Features that are read from elsewhere; every read is noted with its number of rows."""

    def __init__(self, array):
        self.array, self.shape, self.reads = array, array.shape, []

    def read(self, rows):
        found = self.array[rows]
        self.reads.append(len(found))
        return found

    def blocks(self, rows_at_once=8192, rows=None):
        for start in range(0, len(self.array) if rows is None else len(rows), rows_at_once):
            here = slice(start, start + rows_at_once)
            yield self.read(here if rows is None else rows[here])

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("all of it at once does not fit")


def target(codes, train, valid, task="classes", classes=None, factor="f"):
    codes = np.asarray(codes, dtype=np.float64 if task == "number" else np.int64)
    count = {"classes": lambda: int(codes.max()) + 1, "multilabel": lambda: codes.shape[1], "number": lambda: 0}[task]()
    return Target(
        factor, tuple(map(str, range(classes or count))), codes, np.asarray(train), np.asarray(valid), task=task
    )


def fit(X, *targets, context=None, **options):
    matrix = X if isinstance(X, Stored) else ArrayMatrix(X)
    return LinearProbe(**options).fit(matrix, targets, context)


def standardised(X, train):
    rows = X[train].astype(np.float64)
    deviation = rows.std(axis=0)
    return (X.astype(np.float64) - rows.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)


def objective(found, X, asked, penalty):
    """The objective of a fitted probe of classes or of a number, from its values alone."""
    deviation = X[asked.train].astype(np.float64).std(axis=0)
    Z = X[asked.train].astype(np.float64) @ found.linear.weights.T + found.linear.bias
    y, W = asked.codes[asked.train], found.linear.weights * deviation
    if asked.task == "number":
        return ((Z[:, 0] - y) ** 2).mean() / y.var() / 2 + penalty / 2 * (W**2).sum() / y.var()
    top = Z.max(axis=1, keepdims=True)
    loss = np.log(np.exp(Z - top).sum(axis=1)) + top[:, 0] - Z[np.arange(len(y)), y]
    return loss.mean() + penalty / 2 * (W[np.isfinite(found.linear.bias)] ** 2).sum()


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))
    return X.astype(np.float32), target(y, np.sort(rows[:1000]), np.sort(rows[1000:1400]))


@pytest.fixture(scope="module")
def several(digits):
    """Targets of every task on the same rows: ten classes, two, a control, yes/no labels, a number."""
    X, ten = digits
    y, rng = ten.codes, np.random.default_rng(1)
    shuffled = y.copy()
    shuffled[ten.train] = rng.permutation(y[ten.train])
    labels = np.stack([y % 2 == 0, y > 6, np.isin(y, [0, 6, 8])], axis=1)
    return X, [
        ten,
        target(y % 2, ten.train, ten.valid, factor="parity"),
        replace(ten, codes=shuffled, control="shuffled_labels"),
        target(np.minimum(y, 2), ten.train, ten.valid, factor="three"),
        target(labels, ten.train, ten.valid, "multilabel", factor="labels"),
        target(y + rng.standard_normal(len(y)), ten.train, ten.valid, "number", factor="size"),
    ]


# --- together and alone


def test_targets_of_every_task_get_together_what_they_get_alone(several):
    X, targets = several
    together = fit(X, *targets, tolerance=1e-6)
    for asked, found in zip(targets, together, strict=True):
        (alone,) = fit(X, asked, tolerance=1e-6)
        assert found.penalty == alone.penalty
        assert found.facts.label_penalties == alone.facts.label_penalties
        assert found.certificate.status == alone.certificate.status == "proven"
        assert abs(found.objective - alone.objective) <= max(found.certificate.gap, alone.certificate.gap)
        assert [one.penalty for one in found.facts.path] == [one.penalty for one in alone.facts.path]
        for one, other in zip(found.facts.path, alone.facts.path, strict=True):
            assert abs(one.objective - other.objective) <= max(one.gap, other.gap)
            assert one.valid_loss == pytest.approx(other.valid_loss, rel=0.01)
        assert found.facts.heads == sum(
            len(one.facts.path) * max(1, len(one.facts.label_penalties)) for one in together
        )


def test_a_number_is_ridge_regression_in_standardised_units(several):
    X, targets = several
    asked = targets[-1]
    penalties = [1.0, 0.1, 1e-2, 1e-3, 1e-4]
    S, y = standardised(X, asked.train), asked.codes
    z = (y - y[asked.train].mean()) / y[asked.train].std()
    (found,) = fit(X, asked, penalty=penalties)
    for point in found.facts.path:
        model = Ridge(alpha=len(asked.train) * point.penalty).fit(S[asked.train], z[asked.train])
        residual = model.predict(S) - z
        best = (residual[asked.train] ** 2).mean() / 2 + point.penalty / 2 * (model.coef_**2).sum()
        assert point.objective == pytest.approx(best, rel=1e-7, abs=point.gap)
        assert point.valid_loss == pytest.approx((residual[asked.valid] ** 2).mean(), rel=1e-3)
        assert point.valid_error is None
    assert found.penalty == min(found.facts.path, key=lambda one: one.valid_loss).penalty
    assert objective(found, X, asked, found.penalty) == pytest.approx(found.objective, rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "features", "most", "kind"),
    [
        (200, 30, 4096, "exact"),
        (60, 200, 4096, "exact"),
        (400, 700, 4096, "gram"),
        (700, 400, 4096, "gram"),
        (400, 700, 300, "sketch"),
    ],
)
def test_a_number_is_its_closed_form_solved_or_iterated(monkeypatch, rows, features, most, kind):
    monkeypatch.setattr(axes, "EXACT", 64)
    monkeypatch.setattr(axes, "SKETCH_RANK", 32)
    monkeypatch.setattr(closed_form, "MOST", most)
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((rows + 40, features)) * np.geomspace(1, 1e-3, features) + 3).astype(np.float32)
    asked = target(X @ rng.standard_normal(features) * 40 - 500, np.arange(rows), np.arange(rows, rows + 40), "number")
    (found,) = fit(X, asked, penalty=[1.0, 1e-2, 1e-4], tolerance=1e-6)
    assert found.facts.preconditioner == kind
    assert found.facts.passes <= 8 or kind != "gram"
    S, y = standardised(X, asked.train)[asked.train], asked.codes[asked.train]
    z = (y - y.mean()) / y.std()
    for point in found.facts.path:
        w = np.linalg.solve(S.T @ S / rows + point.penalty * np.eye(features), S.T @ z / rows)
        best = ((S @ w - z) ** 2).mean() / 2 + point.penalty / 2 * w @ w
        assert point.status == "proven"
        assert best - ROUNDING * best <= point.objective <= best + point.gap + ROUNDING * best
    w = np.linalg.solve(S.T @ S / rows + found.penalty * np.eye(features), S.T @ z / rows)
    predicted = standardised(X, asked.train) @ w * y.std() + y.mean()
    np.testing.assert_allclose(found.logits(X)[:, 0], predicted, atol=5e-3 * y.std())


def test_a_yes_no_label_is_a_factor_of_two_classes(several):
    X, targets = several
    asked = targets[4]
    (found,) = fit(X, asked, tolerance=1e-6)
    assert found.linear.weights.shape == (3, X.shape[1])
    values = found.logits(X).astype(np.float64)
    alone = [fit(X, target(column, asked.train, asked.valid), tolerance=1e-6)[0] for column in asked.codes.T]
    assert found.facts.label_penalties == tuple(one.penalty for one in alone)
    for column, one in zip(values.T, alone, strict=True):
        two = one.logits(X).astype(np.float64)
        np.testing.assert_allclose(column, two[:, 1] - two[:, 0], atol=0.02 * np.abs(column).max())
    gap = max(one.certificate.gap for one in (found, *alone))
    assert found.objective == pytest.approx(np.mean([one.objective for one in alone]), abs=gap)
    same = len(set(found.facts.label_penalties)) == 1
    assert found.penalty == (found.facts.label_penalties[0] if same else None)


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_two_classes_have_scikit_learns_objective(digits, penalty):
    X, ten = digits
    asked = target(ten.codes % 2, ten.train, ten.valid)
    (found,) = fit(X, asked, penalty=penalty)
    S, y = standardised(X, asked.train)[asked.train], asked.codes[asked.train]
    # Both rows of W count: (λ/2)‖W‖² = (λ/4)‖w‖².
    model = LogisticRegression(C=2 / (len(y) * penalty), tol=1e-12, solver="newton-cholesky").fit(S, y)
    z = np.where(y == 1, -1, 1) * model.decision_function(S)
    best = np.logaddexp(0, z).mean() + penalty / 4 * (model.coef_**2).sum()
    assert best - 1e-9 <= found.objective <= best + found.certificate.gap
    assert objective(found, X, asked, penalty) == pytest.approx(found.objective, rel=1e-6)


def test_missing_labels_leave_a_fit_on_the_rows_that_have_one(several):
    X, targets = several
    rng = np.random.default_rng(2)
    known = rng.random(len(X)) < 0.7
    codes = np.where(known, targets[0].codes, -1)
    part = target(
        codes, targets[0].train[known[targets[0].train]], targets[0].valid[known[targets[0].valid]], classes=10
    )
    both = fit(X, targets[0], part)
    some = np.flatnonzero(known)
    place = np.full(len(X), -1)
    place[some] = np.arange(len(some))
    (alone,) = fit(X[some], target(codes[some], place[part.train], place[part.valid]))
    assert both[1].penalty == alone.penalty
    assert abs(both[1].objective - alone.objective) <= max(both[1].certificate.gap, alone.certificate.gap)
    np.testing.assert_allclose(both[1].logits(X), alone.logits(X), atol=0.02 * np.abs(alone.logits(X)).max())


@pytest.mark.parametrize(("same", "passes"), [(True, 1), (False, 2)])
def test_factors_that_miss_the_same_labels_share_their_passes(several, same, passes):
    """The rows that are read for two factors, as a multiple of those for one."""
    X, targets = several
    rows, count = targets[0].train, len(targets[0].train) // 2
    first = replace(targets[0], train=rows[:count])
    second = replace(targets[0], factor="other", train=rows[:count] if same else rows[-count:])
    read = []
    for asked in ((first,), (first, second)):
        stored = Stored(X)
        LinearProbe(penalty=1e-1, max_passes=8, tolerance=1e-12).fit(stored, list(asked))
        read.append(sum(stored.reads))
    assert read[1] == pytest.approx(passes * read[0], rel=0.1)


# --- the path


def informative(rng, rows, features, noise, informed):
    X = rng.standard_normal((rows, features)).astype(np.float32)
    y = (X[:, :informed].sum(axis=1) + noise * rng.standard_normal(rows) > 0).astype(np.int64)
    return X, target(y, np.arange(rows // 2), np.arange(rows // 2, rows))


def test_a_path_grows_upwards_where_features_say_little():
    X, asked = informative(np.random.default_rng(0), 400, 4, 1.0, 2)
    codes = asked.codes.copy()
    codes[asked.valid] = 1 - codes[asked.valid]  # what is learned is wrong
    (found,) = fit(X, replace(asked, codes=codes))
    tried = [one.penalty for one in found.facts.path]
    assert tried == [10.0 ** (found.facts.grown - k) for k in range(len(tried))]
    assert found.facts.grown == GROWTH
    assert (found.facts.end, found.penalty) == ("largest", 100.0)


def test_a_path_grows_downwards_where_the_labels_are_separable():
    X, asked = informative(np.random.default_rng(0), 4000, 4, 0.0, 2)
    (found,) = fit(X, asked)
    assert [one.penalty for one in found.facts.path] == [*PENALTY_PATH, 1e-6, 1e-7]
    assert (found.facts.grown, found.facts.end, found.penalty) == (2, "smallest", 1e-7)
    assert found.certificate.status == "proven"
    assert {one.status for one in found.facts.path} == {"proven"}


def test_a_path_that_is_given_does_not_grow_but_tells_its_end():
    X, asked = informative(np.random.default_rng(0), 4000, 4, 0.0, 2)
    (found,) = fit(X, asked, penalty=[1.0, 0.1])
    assert [one.penalty for one in found.facts.path] == [1.0, 0.1]
    assert (found.facts.grown, found.facts.end, found.penalty) == (0, "smallest", 0.1)
    (single,) = fit(X, asked, penalty=0.1)
    assert (single.facts.grown, single.facts.end) == (0, None)


def test_only_the_labels_whose_paths_are_too_short_grow():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 60)).astype(np.float32)
    X[:, 0] += 9 * np.sign(X[:, 0])
    noisy = X[:, 1:7].sum(axis=1) + rng.standard_normal(600) > 0
    codes = np.stack([X[:, 0] > 0, noisy], axis=1)
    (found,) = fit(X, target(codes, np.arange(300), np.arange(300, 600), "multilabel"))
    assert found.facts.label_penalties[0] == 1e-7
    assert 1e-5 < found.facts.label_penalties[1] < 1
    assert found.penalty is None
    assert found.facts.end == "smallest"


def test_what_grows_begins_at_the_end_of_its_path(monkeypatch):
    from probekit.probes import joint

    begun = []

    def minimise(X, axes, heads, *rest):
        begun.extend((head.penalty, float(head.weights.abs().max())) for head in heads)
        engine.minimise(X, axes, heads, *rest)

    monkeypatch.setattr(joint, "minimise", minimise)
    X, asked = informative(np.random.default_rng(0), 4000, 4, 0.0, 2)
    fit(X, asked)
    assert [largest > 0 for _, largest in begun] == [False] * len(PENALTY_PATH) + [True] * GROWTH


@pytest.mark.parametrize("valid", [60, 400])
def test_the_one_standard_error_rule_is_that_of_a_computation_by_hand(digits, valid):
    X, asked = digits
    asked = replace(asked, valid=asked.valid[:valid])
    (best,), (rule,) = fit(X, asked), fit(X, asked, one_standard_error=True, tolerance=1e-6)
    assert rule.penalty >= best.penalty
    losses = {}
    for point in rule.facts.path:
        (one,) = fit(X, asked, penalty=point.penalty, tolerance=1e-6)
        Z = one.logits(X[asked.valid]).astype(np.float64)
        top = Z.max(axis=1, keepdims=True)
        losses[point.penalty] = (
            np.log(np.exp(Z - top).sum(axis=1)) + top[:, 0] - Z[np.arange(len(Z)), asked.codes[asked.valid]]
        )
    least = min(losses, key=lambda penalty: losses[penalty].mean())
    limit = losses[least].mean() + losses[least].std() / np.sqrt(len(asked.valid) - 1)
    assert rule.penalty == max(penalty for penalty, loss in losses.items() if loss.mean() <= limit)


# --- classes that are absent, features that say nothing


def test_absent_classes_are_left_out(digits):
    X, asked = digits
    codes = asked.codes
    train = asked.train[~np.isin(codes[asked.train], [3, 7])]
    valid = asked.valid[codes[asked.valid] != 5]
    (found,) = fit(X, target(codes, train, valid))
    fewer = valid[~np.isin(codes[valid], [3, 7])]
    (without,) = fit(X, target(codes, train, fewer))
    assert found.penalty == without.penalty
    np.testing.assert_array_equal(found.linear.weights, without.linear.weights)
    assert np.flatnonzero(np.isneginf(found.linear.bias)).tolist() == [3, 7]
    assert found.facts.path == without.facts.path


def test_two_classes_present_out_of_three_are_a_fit_of_two(digits):
    X, ten = digits
    codes = np.array([0, 2])[ten.codes % 2]
    (found,) = fit(X, target(codes, ten.train, ten.valid, classes=3))
    (two,) = fit(X, target(ten.codes % 2, ten.train, ten.valid))
    np.testing.assert_array_equal(found.linear.weights[[0, 2]], two.linear.weights)
    assert np.isneginf(found.linear.bias[1])


def test_a_class_of_one_row_is_fitted(digits):
    X, ten = digits
    codes = np.zeros(len(X), dtype=np.int64)
    codes[ten.train[0]], codes[ten.train[1]] = 1, 2
    (found,) = fit(X, target(codes, ten.train, ten.valid), penalty=[0.1, 1e-3])
    assert found.certificate.status == "proven"
    assert np.isfinite(found.linear.bias).all()


@pytest.mark.parametrize("task", ["classes", "multilabel", "number"])
@pytest.mark.parametrize("features", [1, 3])
def test_features_that_are_constant_give_the_share_or_the_mean(task, features):
    X = np.full((40, features), 7.7, dtype=np.float32)
    codes = np.array([0] * 25 + [1] * 15)
    asked = target(codes[:, None] if task == "multilabel" else codes, np.arange(40), np.arange(40), task)
    (found,) = fit(X, asked)
    Z = found.logits(X).astype(np.float64)
    share = 15 / 40
    values = {
        "classes": lambda: 1 / (1 + np.exp(Z[:, 0] - Z[:, 1])),
        "multilabel": lambda: 1 / (1 + np.exp(-Z[:, 0])),
        "number": lambda: Z[:, 0],
    }
    np.testing.assert_allclose(values[task](), share, rtol=1e-6)
    assert found.certificate.status == "proven"
    assert (found.facts.grown, found.facts.end) == (0, None)


@pytest.mark.parametrize(
    ("codes", "task"), [([0] * 20, "classes"), ([[1, 0]] * 10 + [[0, 0]] * 10, "multilabel"), ([2.5] * 20, "number")]
)
def test_one_answer_only_is_refused(codes, task):
    X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    with pytest.raises(InputError, match="one answer only") as caught:
        fit(X, target(codes, np.arange(20), np.arange(20), task, classes=2))
    assert caught.value.problems[0].code == "PK-L01"


def test_valid_rows_without_a_class_of_train_are_refused():
    X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    codes = np.array([0, 1] * 8 + [2] * 4)
    with pytest.raises(InputError) as caught:
        fit(X, target(codes, np.arange(16), np.arange(16, 20)))
    assert caught.value.problems[0].code == "PK-L13"


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_no_fit_is_below_the_optimum_or_beyond_its_bound(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows, features, classes = (data.draw(st.integers(low, high)) for low, high in ((8, 60), (1, 30), (2, 5)))
    X = (rng.standard_normal((rows, features)) @ np.diag(np.geomspace(1, 1e-2, features))).astype(np.float32)
    codes = np.concatenate([np.arange(classes), rng.integers(classes, size=rows - classes)])
    asked = target(codes, np.arange(rows), np.arange(rows))
    penalty = data.draw(st.sampled_from([1.0, 1e-2, 1e-4]))
    (found,) = fit(X, asked, penalty=penalty)
    S = standardised(X, asked.train)
    half = 2 if classes == 2 else 1
    model = LogisticRegression(C=half / (rows * penalty), tol=1e-9, solver="newton-cholesky", max_iter=1000)
    with warnings.catch_warnings():  # rounding may stop its line search
        warnings.simplefilter("ignore")
        model.fit(S, codes)
    W, b = model.coef_, model.intercept_
    if classes == 2:
        W, b = np.concatenate([-W, W]) / 2, np.concatenate([-b, b]) / 2
    Z = S @ W.T + b
    top = Z.max(axis=1, keepdims=True)
    best = (np.log(np.exp(Z - top).sum(axis=1)) + top[:, 0] - Z[np.arange(rows), codes]).mean() + penalty / 2 * (
        W**2
    ).sum()
    assert found.certificate.status == "proven"
    assert best - ROUNDING * best <= found.objective <= best + found.certificate.gap + ROUNDING * best
    assert objective(found, X, asked, penalty) == pytest.approx(found.objective, rel=1e-5)


# --- held and read


@pytest.fixture
def small_blocks(monkeypatch):
    """Let 256 rows be read at a time, so that the training rows of the digits are four blocks."""
    monkeypatch.setattr(standardise, "ROWS_AT_ONCE", 256)


@pytest.mark.parametrize("exact", [True, False])
def test_what_is_read_in_blocks_is_fitted_as_what_is_held(several, small_blocks, monkeypatch, exact):
    if not exact:
        monkeypatch.setattr(axes, "EXACT", 32)
        monkeypatch.setattr(axes, "SKETCH_RANK", 16)
    X, targets = several
    stored = Stored(X)
    for asked, one, other in zip(
        targets, fit(X, *targets, tolerance=1e-6), fit(stored, *targets, tolerance=1e-6), strict=True
    ):
        assert (one.facts.streamed, other.facts.streamed) == (False, True)
        kind = "exact" if exact else "gram" if asked.task == "number" else "sketch"
        assert one.facts.preconditioner == other.facts.preconditioner == kind
        assert other.objective == pytest.approx(one.objective, abs=1e-6)
        assert (one.penalty, one.facts.label_penalties) == (other.penalty, other.facts.label_penalties)
        assert {one.certificate.status, other.certificate.status} == {"proven"}
        scale = np.abs(one.logits(X)).max()
        np.testing.assert_allclose(other.logits(X), one.logits(X), atol=0.02 * scale, err_msg=asked.factor)
    assert max(stored.reads) <= 256


def test_what_is_read_in_blocks_is_fitted_to_the_same_logits(several, small_blocks):
    """Both are at the optimum to float32's rounding; nothing but how rows are standardised differs."""
    X, targets = several
    fits = (fit(data, *targets, tolerance=1e-10, penalty=1e-1) for data in (X, Stored(X)))
    for asked, one, other in zip(targets, *fits, strict=True):
        held, read = (each.logits(X[asked.train]).astype(np.float64) for each in (one, other))
        if asked.task == "classes":  # what is the same for all classes changes no probability
            held, read = (each - each.mean(axis=1, keepdims=True) for each in (held, read))
        np.testing.assert_allclose(read, held, atol=1e-4 * np.abs(held).max(), err_msg=asked.factor)


def test_what_memory_cannot_hold_is_read_anew_in_every_pass():
    rng = np.random.default_rng(0)
    X, asked = informative(rng, 8000, 400, 1.0, 20)
    job = Job(4000, 400, len(PENALTY_PATH) + GROWTH, 1)
    most = next(size for size in range(100 << 20, 0, -1 << 20) if not plan_memory(job, size).hold)
    (held,), (read,) = fit(X, asked), fit(X, asked, context=FitContext(memory=most))
    assert (held.facts.streamed, read.facts.streamed) == (False, True)
    assert read.penalty == held.penalty
    assert abs(read.objective - held.objective) <= max(read.certificate.gap, held.certificate.gap)


def test_fewer_heads_together_give_the_same(several):
    X, targets = several
    wide = fit(X, *targets)
    least = plan_memory(Job(1000, 64, 10, 10), None).needed
    narrow = fit(X, *targets, context=FitContext(memory=least))
    for one, other in zip(wide, narrow, strict=True):
        assert (one.penalty, one.facts.label_penalties) == (other.penalty, other.facts.label_penalties)
        assert abs(one.objective - other.objective) <= max(one.certificate.gap, other.certificate.gap)


def test_only_training_and_valid_rows_are_read(digits, small_blocks):
    X, asked = digits
    hidden = X.copy()
    hidden[np.setdiff1d(np.arange(len(X)), np.concatenate([asked.train, asked.valid]))] = np.nan
    (found,) = fit(Stored(hidden), asked, penalty=0.1)
    assert np.isfinite(found.linear.weights).all()


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("after", [1, 3])
def test_what_a_listener_raises_ends_the_fit_and_its_threads(several, small_blocks, monkeypatch, stored, after):
    from probekit.probes import joint

    monkeypatch.setattr(joint, "_SECONDS_BETWEEN", 0)
    X, targets = several
    heard = []

    def tell(progress):
        heard.append(progress)
        if len(heard) == after:
            raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        fit(Stored(X) if stored else X, *targets, context=FitContext(tell=tell))
    assert len(heard) == after
    assert set(threading.enumerate()) <= before


def test_progress_is_told_to_its_end(several, monkeypatch):
    from probekit.probes import joint

    monkeypatch.setattr(joint, "_SECONDS_BETWEEN", 0)
    X, targets = several
    heard = []
    found = fit(X, *targets, context=FitContext(tell=heard.append))
    assert heard[0].done == 0
    assert heard[-1].done == heard[-1].heads == found[0].facts.heads
    assert [one.done for one in heard] == sorted(one.done for one in heard)
    assert all(one.worst_gap is None or one.worst_gap >= 0 for one in heard)


def test_a_read_that_fails_ends_the_fit_and_its_threads(digits, small_blocks):
    X, asked = digits

    class Failing(Stored):
        def read(self, rows):
            if len(self.reads) > 30:
                raise OSError("the disk is gone")
            return super().read(rows)

    before = set(threading.enumerate())
    with pytest.raises(OSError, match="the disk is gone"):
        fit(Failing(X), asked)
    assert set(threading.enumerate()) <= before


# --- more features than rows, and many


def test_twenty_thousand_features_and_three_hundred_classes(monkeypatch):
    def refuse(X):
        raise AssertionError("a Gram matrix of all features")

    monkeypatch.setattr(axes, "_gram", refuse)
    rng = np.random.default_rng(0)
    rows, features, classes = 360, 20_000, 300
    centres = rng.standard_normal((classes, 40)).astype(np.float32)
    codes = np.arange(rows) % classes
    X = (centres[codes] @ rng.standard_normal((40, features)).astype(np.float32)).astype(np.float32)
    X += rng.standard_normal(X.shape).astype(np.float32)
    (found,) = fit(X, target(codes, np.arange(300), np.arange(300, 360), classes=classes), penalty=[1.0])
    assert found.certificate.status == "proven"
    assert found.facts.preconditioner == "exact"
    assert found.linear.weights.shape == (classes, features)


def test_no_gram_matrix_is_made_of_many_features(monkeypatch):
    def refuse(X):
        raise AssertionError("a Gram matrix of all features")

    monkeypatch.setattr(axes, "_gram", refuse)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((700, 600)).astype(np.float32)
    asked = target((X[:, 0] > 0).astype(int), np.arange(600), np.arange(600, 700))
    for features in (X, Stored(X)):
        (found,) = fit(features, asked, penalty=0.1)
        assert found.facts.preconditioner == "sketch"


# --- arithmetic


def test_bfloat16_first_reaches_the_same_optima(several, monkeypatch):
    X, targets = several
    usual = fit(X, *targets, penalty=[1e-1, 1e-3])
    monkeypatch.setattr(arithmetic_module, "has_fast_bfloat16", lambda device: True)
    monkeypatch.setattr(arithmetic_module, "_HALF_WIDTH_FLOPS", 0)
    monkeypatch.setattr(arithmetic_module, "_HALF_WIDTH_FLOPS_CACHED", 0)
    half = fit(X, *targets, penalty=[1e-1, 1e-3])
    for one, other in zip(usual, half, strict=True):
        assert one.facts.arithmetic[0] == "float32"
        assert other.facts.arithmetic[0] == "bfloat16"
        assert one.certificate.status == other.certificate.status == "proven"
        assert one.penalty == other.penalty
        assert abs(one.objective - other.objective) <= max(one.certificate.gap, other.certificate.gap)


@pytest.mark.parametrize("arithmetic", ["float32", "float64"])
def test_the_arithmetic_that_is_asked_for_is_used(digits, arithmetic, monkeypatch):
    monkeypatch.setattr(arithmetic_module, "has_fast_bfloat16", lambda device: True)
    monkeypatch.setattr(arithmetic_module, "_HALF_WIDTH_FLOPS", 0)
    monkeypatch.setattr(arithmetic_module, "_HALF_WIDTH_FLOPS_CACHED", 0)
    X, asked = digits
    (found,) = fit(X, asked, penalty=1e-2, arithmetic=arithmetic)
    assert found.facts.arithmetic == (arithmetic,)
    assert found.certificate.status == "proven"


def test_the_thread_count_is_as_it_was(digits):
    before = torch.get_num_threads()
    X, asked = digits
    fit(X, asked, penalty=0.1)
    assert torch.get_num_threads() == before
