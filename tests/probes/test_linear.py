"""The linear probe: its objective, its choice of λ, its units, its certificate."""

import math
import pickle

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from probekit.components import ArrayMatrix, Certificate, Target
from probekit.probes import axes, linear
from probekit.probes.linear import PENALTY_PATH, FittedLinear, LinearProbe, Standardiser


def target(codes, train, valid, classes=None, factor="f"):
    names = tuple(str(c) for c in range(classes or int(codes.max()) + 1))
    return Target(factor, names, np.asarray(codes, dtype=np.int64), np.asarray(train), np.asarray(valid))


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))
    return X.astype(np.float32), target(y, np.sort(rows[:1000]), np.sort(rows[1000:1400]))


def standardised(X, train):
    rows = X[train].astype(np.float64)
    deviation = rows.std(axis=0)
    return (X.astype(np.float64) - rows.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)


def objective(Z, y, W, penalty):
    loss = np.log(np.exp(Z - Z.max(axis=1, keepdims=True)).sum(axis=1)) + Z.max(axis=1) - Z[np.arange(len(y)), y]
    return loss.mean() + penalty / 2 * (W**2).sum()


@pytest.mark.parametrize("penalty", [1e-1, 1e-2, 1e-3, 1e-4])
def test_objective_agrees_with_scikit_learn_at_the_same_penalty(digits, penalty):
    X, asked = digits
    (fit,) = LinearProbe(penalty=penalty).fit(ArrayMatrix(X), [asked])
    S, y = standardised(X, asked.train)[asked.train], asked.codes[asked.train]
    model = LogisticRegression(C=1 / (len(y) * penalty), tol=1e-10, max_iter=50_000).fit(S, y)
    best = objective(model.decision_function(S), y, model.coef_, penalty)
    assert fit.objective == pytest.approx(best, rel=1e-4)
    assert best <= fit.objective + 1e-9
    assert fit.objective - best <= fit.certificate.gap
    assert fit.certificate.status == "proven"


def test_on_tapped_digits_too_the_objective_is_scikit_learns():
    digits = load_digits()
    session = _tapped("specs/models/digits_convnet.onnx", ["relu", "relu_1"])
    for activation in session.run(None, {"image": (digits.images[:, None] / 16).astype(np.float32)}):
        X = activation.mean(axis=(2, 3))
        asked = target(digits.target, np.arange(0, 1797, 2), np.arange(1, 1797, 2))
        for penalty in (1e-2, 1e-3, 1e-4):
            (fit,) = LinearProbe(penalty=penalty).fit(ArrayMatrix(X), [asked])
            S, y = standardised(X, asked.train)[asked.train], asked.codes[asked.train]
            model = LogisticRegression(C=1 / (len(y) * penalty), tol=1e-10, max_iter=50_000).fit(S, y)
            assert fit.objective == pytest.approx(
                objective(model.decision_function(S), y, model.coef_, penalty), rel=1e-4
            )


def _tapped(path, names):
    import onnx

    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_weights_are_in_the_features_own_units(digits):
    X, asked = digits
    (fit,) = LinearProbe(penalty=1e-2).fit(ArrayMatrix(X), [asked])
    (scaled,) = LinearProbe(penalty=1e-2).fit(ArrayMatrix(X * np.float32(64) + np.float32(8)), [asked])
    np.testing.assert_allclose(fit.logits(X), scaled.logits(X * np.float32(64) + np.float32(8)), atol=2e-3)
    Z = X.astype(np.float64) @ fit.weights.T + fit.bias
    own = objective(Z[asked.train], asked.codes[asked.train], fit.weights * _deviation(X, asked.train), 1e-2)
    assert own == pytest.approx(fit.objective, rel=1e-6)


def _deviation(X, train):
    return X[train].astype(np.float64).std(axis=0)


def test_the_penalty_is_the_one_that_valid_prefers(digits):
    X, asked = digits
    (chosen,) = LinearProbe().fit(ArrayMatrix(X), [asked])
    y = asked.codes[asked.valid]
    by_penalty = {}
    for penalty in PENALTY_PATH:
        (fit,) = LinearProbe(penalty=penalty).fit(ArrayMatrix(X), [asked])
        Z = fit.logits(X[asked.valid]).astype(np.float64)
        P = np.exp(Z - Z.max(axis=1, keepdims=True))
        by_penalty[penalty] = log_loss(y, P / P.sum(axis=1, keepdims=True))
    assert chosen.penalty == min(by_penalty, key=by_penalty.get)


def test_test_rows_change_nothing(digits):
    X, asked = digits
    other = X.copy()
    rest = np.setdiff1d(np.arange(len(X)), np.concatenate([asked.train, asked.valid]))
    other[rest] = 1e6
    (first,), (second,) = LinearProbe().fit(ArrayMatrix(X), [asked]), LinearProbe().fit(ArrayMatrix(other), [asked])
    assert np.array_equal(first.weights, second.weights)
    assert first.penalty == second.penalty


def test_choosing_by_error_takes_the_smallest_error(digits):
    X, asked = digits
    (chosen,) = LinearProbe(choose_by="error").fit(ArrayMatrix(X), [asked])
    y = asked.codes[asked.valid]
    errors = []
    for penalty in PENALTY_PATH:
        (fit,) = LinearProbe(penalty=penalty).fit(ArrayMatrix(X), [asked])
        errors.append(np.mean(fit.logits(X[asked.valid]).argmax(axis=1) != y))
    assert np.mean(chosen.logits(X[asked.valid]).argmax(axis=1) != y) == pytest.approx(min(errors))


def test_targets_on_other_rows_are_fitted_on_their_own(digits):
    X, asked = digits
    parity = target(asked.codes % 2, asked.train[::2], asked.valid, factor="parity")
    both = LinearProbe(penalty=1e-2).fit(ArrayMatrix(X), [asked, parity])
    (alone,) = LinearProbe(penalty=1e-2).fit(ArrayMatrix(X), [parity])
    assert both[1].weights.shape == (2, 64)
    np.testing.assert_allclose(both[1].weights, alone.weights, rtol=1e-9)


def test_a_class_without_training_rows_is_never_predicted():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4)).astype(np.float32)
    codes = np.array([0, 2] * 30)
    (fit,) = LinearProbe(penalty=0.1).fit(ArrayMatrix(X), [target(codes, np.arange(40), np.arange(40, 60), classes=3)])
    logits = fit.logits(X)
    assert np.isneginf(logits[:, 1]).all()
    assert np.isfinite(logits[:, [0, 2]]).all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_features_of_any_scale_stay_finite(scale):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 5)).astype(np.float32)
    asked = target((X[:, 0] > 0).astype(int), np.arange(70), np.arange(70, 100))
    (plain,), (scaled,) = (LinearProbe(penalty=1e-2).fit(ArrayMatrix(Y), [asked]) for Y in (X, X * np.float32(scale)))
    assert np.isfinite(scaled.logits(X * np.float32(scale))).all()
    assert scaled.objective == pytest.approx(plain.objective, rel=1e-4)


def test_constant_features_give_the_commonest_class():
    X = np.full((40, 3), 7.7, dtype=np.float32)
    codes = np.array([0] * 25 + [1] * 15)
    (fit,) = LinearProbe().fit(ArrayMatrix(X), [target(codes, np.arange(40), np.arange(40))])
    assert (fit.logits(X).argmax(axis=1) == 0).all()
    entropy = -(25 / 40 * math.log(25 / 40) + 15 / 40 * math.log(15 / 40))
    assert fit.objective == pytest.approx(entropy, rel=1e-9)
    assert fit.certificate.status == "proven"


def test_an_offset_far_beyond_the_spread_counts_as_constant_only_below_rounding():
    train = np.arange(1000)
    rng = np.random.default_rng(0)
    X = (1e4 + rng.standard_normal((1000, 1))).astype(np.float32)
    assert np.isfinite(Standardiser(ArrayMatrix(X), train).scale).all()
    assert np.isinf(Standardiser(ArrayMatrix(np.full((1000, 1), 1e4, np.float32)), train).scale).all()


def test_a_fit_without_passes_says_that_it_missed(digits):
    X, asked = digits
    (fit,) = LinearProbe(penalty=1e-4, max_passes=2).fit(ArrayMatrix(X), [asked])
    assert fit.certificate.status == "missed"
    assert fit.certificate.of_chance > 1e-4


def test_the_probe_pickles(digits):
    X, asked = digits
    probe = pickle.loads(pickle.dumps(LinearProbe(penalty=0.1)))
    assert np.array_equal(
        probe.fit(ArrayMatrix(X), [asked])[0].weights, LinearProbe(penalty=0.1).fit(ArrayMatrix(X), [asked])[0].weights
    )


# --- features that are read as they are needed


class Kept:
    """Features that are read from elsewhere; every read is noted with its number of rows."""

    def __init__(self, array):
        self.array, self.shape, self.reads = array, array.shape, []

    def read(self, rows):
        found = self.array[rows]
        self.reads.append(len(found))
        return found

    def blocks(self, rows_at_once=8192):
        for start in range(0, len(self.array), rows_at_once):
            yield self.read(slice(start, start + rows_at_once))

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("all of it at once does not fit")


@pytest.fixture
def small_blocks(monkeypatch):
    """Let 256 rows be read at a time, so that the training rows of the digits are four blocks."""
    monkeypatch.setattr(linear, "ROWS_AT_ONCE", 256)


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
def test_what_is_read_in_blocks_is_fitted_as_what_is_held(digits, small_blocks, penalty):
    X, asked = digits
    kept = Kept(X)
    (held,) = LinearProbe(penalty=penalty).fit(ArrayMatrix(X), [asked])
    (read,) = LinearProbe(penalty=penalty).fit(kept, [asked])
    assert read.objective == pytest.approx(held.objective, abs=1e-6)
    assert (read.certificate.status, held.certificate.status) == ("proven", "proven")
    assert max(kept.reads) <= 256
    np.testing.assert_allclose(read.logits(X), held.logits(X), atol=0.02 * np.abs(held.logits(X)).max())


def test_what_is_read_in_blocks_chooses_the_same_penalty(digits, small_blocks):
    X, asked = digits
    assert LinearProbe().fit(Kept(X), [asked])[0].penalty == LinearProbe().fit(ArrayMatrix(X), [asked])[0].penalty


def test_more_features_than_rows_may_be_read_in_blocks_too(small_blocks):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 500)).astype(np.float32)
    asked = target((X[:, 0] + X[:, 1] > 0).astype(int), np.arange(300), np.arange(300, 400))
    fits = [LinearProbe(penalty=1e-2).fit(features, [asked])[0] for features in (ArrayMatrix(X), Kept(X))]
    assert fits[0].objective == pytest.approx(fits[1].objective, abs=1e-6)
    assert {fit.certificate.status for fit in fits} == {"proven"}


def test_more_features_than_the_exact_axes_may_be_read_in_blocks_too(digits, small_blocks, monkeypatch):
    monkeypatch.setattr(axes, "EXACT", 32)
    monkeypatch.setattr(axes, "SKETCH_RANK", 16)
    X, asked = digits
    fits = [LinearProbe(penalty=1e-2).fit(features, [asked])[0] for features in (ArrayMatrix(X), Kept(X))]
    assert {fit.certificate.status for fit in fits} == {"proven"}
    gaps = sum(fit.certificate.gap for fit in fits)
    assert abs(fits[0].objective - fits[1].objective) <= gaps


def test_only_training_and_valid_rows_are_read(digits, small_blocks):
    X, asked = digits
    hidden = X.copy()
    hidden[np.setdiff1d(np.arange(len(X)), np.concatenate([asked.train, asked.valid]))] = np.nan
    (fit,) = LinearProbe(penalty=0.1).fit(Kept(hidden), [asked])
    assert np.isfinite(fit.weights).all()


def test_wide_rows_are_read_fewer_at_a_time(monkeypatch):
    monkeypatch.setattr(linear, "_BLOCK_BYTES", 300 * 4 * 50)
    rng = np.random.default_rng(0)
    kept = Kept(rng.standard_normal((1000, 50)).astype(np.float32))
    LinearProbe(penalty=1.0).fit(kept, [target(rng.integers(2, size=1000), np.arange(600), np.arange(600, 1000))])
    assert max(kept.reads) == 300


def test_mean_and_deviation_are_those_of_all_blocks(monkeypatch):
    monkeypatch.setattr(linear, "ROWS_AT_ONCE", 256)
    X = (3e3 + np.random.default_rng(0).standard_normal((1000, 3))).astype(np.float32)
    train = np.arange(0, 1000, 1)[::-1]
    scale = Standardiser(Kept(X), train)
    np.testing.assert_allclose(scale.mean, X.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scale.scale, X.astype(np.float64).std(axis=0), rtol=1e-9)


# --- the choice among fits


def fitted(weight, penalty, status="proven"):
    """Return a fit of two classes by one feature: class 1 where weight times it is positive."""
    return FittedLinear(np.array([[0.0], [weight]]), np.zeros(2), penalty, 0.5, Certificate(status), 0.0)


VALID = np.array([[-1.0], [1.0], [2.0], [-3.0]], dtype=np.float32)
ASKED = target(np.array([0, 1, 1, 0]), [0, 1], [0, 1, 2, 3])


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("choose_by", ["error", "cross_entropy"])
def test_the_fit_with_the_smallest_loss_on_valid_is_chosen(monkeypatch, choose_by, at_once):
    monkeypatch.setattr(linear, "_rows_at_once", lambda _: at_once)
    good, bad = fitted(2.0, 0.1), fitted(-2.0, 1.0)
    kept = Kept(VALID)
    assert LinearProbe(choose_by=choose_by)._choose([bad, good], kept, ASKED) is good
    assert kept.reads == [min(at_once, 4 - start) for start in range(0, 4, at_once)]


def test_the_larger_penalty_is_chosen_where_the_loss_is_the_same():
    large, small = fitted(2.0, 1.0), fitted(3.0, 0.1)
    assert LinearProbe(choose_by="error")._choose([large, small], ArrayMatrix(VALID), ASKED) is large
    assert LinearProbe(choose_by="cross_entropy")._choose([large, small], ArrayMatrix(VALID), ASKED) is small


def test_a_fit_that_missed_its_optimum_is_chosen_only_where_all_did():
    missed, proven = fitted(2.0, 1.0, "missed"), fitted(-2.0, 0.1)
    assert LinearProbe()._choose([missed, proven], ArrayMatrix(VALID), ASKED) is proven
    worse = fitted(-2.0, 0.1, "missed")
    assert LinearProbe()._choose([worse, missed], ArrayMatrix(VALID), ASKED) is missed


@pytest.mark.parametrize("penalty", [0.0, -1.0, [], [1.0, 0.0], 1e13])
def test_a_penalty_out_of_range_is_refused(penalty):
    with pytest.raises(ValueError, match="λ must lie between"):
        LinearProbe(penalty=penalty)
