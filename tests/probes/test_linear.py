"""The linear probe: its objective, its choice of λ, its units, its certificate."""

import pickle
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from probekit.components import ArrayMatrix, FitContext, Target
from probekit.errors import MachineError
from probekit.probes.early import EarlyStopping, fit_early
from probekit.probes.linear import LinearProbe
from probekit.probes.path import PENALTY_PATH
from probekit.probes.stack import Heads


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
    (fit,) = LinearProbe(penalty=penalty, tolerance=1e-6).fit(ArrayMatrix(X), [asked])
    S, y = standardised(X, asked.train)[asked.train], asked.codes[asked.train]
    model = LogisticRegression(C=1 / (len(y) * penalty), tol=1e-10, solver="newton-cholesky").fit(S, y)
    best = objective(model.decision_function(S), y, model.coef_, penalty)
    assert fit.objective == pytest.approx(best, rel=1e-4)
    assert best <= fit.objective + 1e-9
    # The proof is of features that are standardised in float32, the reference's are in float64.
    assert fit.objective - best <= fit.certificate.gap + 1e-6 * best
    assert fit.certificate.status == "proven"


def test_on_tapped_digits_too_the_objective_is_scikit_learns():
    digits = load_digits()
    session = _tapped("specs/models/digits_convnet.onnx", ["relu", "relu_1"])
    for activation in session.run(None, {"image": (digits.images[:, None] / 16).astype(np.float32)}):
        X = activation.mean(axis=(2, 3))
        asked = target(digits.target, np.arange(0, 1797, 2), np.arange(1, 1797, 2))
        for penalty in (1e-2, 1e-3, 1e-4):
            (fit,) = LinearProbe(penalty=penalty, tolerance=1e-6).fit(ArrayMatrix(X), [asked])
            S, y = standardised(X, asked.train)[asked.train], asked.codes[asked.train]
            model = LogisticRegression(C=1 / (len(y) * penalty), tol=1e-10, solver="newton-cholesky").fit(S, y)
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
    Z = X.astype(np.float64) @ fit.linear.weights.T + fit.linear.bias
    own = objective(Z[asked.train], asked.codes[asked.train], fit.linear.weights * _deviation(X, asked.train), 1e-2)
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
    assert np.array_equal(first.linear.weights, second.linear.weights)
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
    assert both[1].linear.weights.shape == (2, 64)
    np.testing.assert_allclose(both[1].linear.weights, alone.linear.weights, rtol=1e-9)


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


def test_a_fit_without_passes_says_that_it_missed(digits):
    X, asked = digits
    (fit,) = LinearProbe(penalty=1e-4, max_passes=2).fit(ArrayMatrix(X), [asked])
    assert fit.certificate.status == "missed"
    assert fit.certificate.of_chance > 1e-4
    assert fit.facts.reason.startswith("the budget of 2 passes was spent (λ = 0.0001, condition number about")
    assert fit.facts.passes <= 3


def test_the_probe_pickles(digits):
    X, asked = digits
    probe = pickle.loads(pickle.dumps(LinearProbe(penalty=0.1)))
    assert np.array_equal(
        probe.fit(ArrayMatrix(X), [asked])[0].linear.weights,
        LinearProbe(penalty=0.1).fit(ArrayMatrix(X), [asked])[0].linear.weights,
    )


@pytest.mark.parametrize("penalty", [0.0, -1.0, [], [1.0, 0.0], 1e13])
def test_a_penalty_out_of_range_is_refused(penalty):
    with pytest.raises(ValueError, match="λ must lie between"):
        LinearProbe(penalty=penalty)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"penalty": 0.1}, "'penalty' has no meaning with stopping: early"),
        ({"tolerance": 1e-3}, "'tolerance' has no meaning with stopping: early"),
        ({"one_standard_error": True}, "'one_standard_error' has no meaning"),
        ({"choose_by": "error"}, "'choose_by' has no meaning"),
        ({"max_passes": 9}, "'max_passes' has no meaning"),
        ({"arithmetic": "float32"}, "'arithmetic' has no meaning"),
    ],
)
def test_what_early_stopping_does_not_use_is_refused(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LinearProbe(stopping="early", **given)


def test_settings_of_early_stopping_need_it():
    with pytest.raises(ValueError, match="'early' needs stopping: early"):
        LinearProbe(early=EarlyStopping())


def test_early_stopping_is_what_fit_early_gives(digits):
    X, asked = digits
    options = EarlyStopping(max_epochs=3)
    (found,) = LinearProbe(stopping="early", early=options, device="cpu").fit(ArrayMatrix(X), [asked])
    alone = fit_early(ArrayMatrix(X), asked, options, FitContext())
    assert np.array_equal(found.linear.weights, alone.linear.weights)
    assert found.certificate.status == "not_applicable"


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(digits, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    X, asked = digits
    for stopping in ("optimum", "early"):
        with pytest.raises(MachineError) as caught:
            LinearProbe(device=device, stopping=stopping).fit(ArrayMatrix(X), [asked])
        assert str(caught.value) == f"probe.device: the device {device!r} is not available here; available: cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_fit_on_a_gpu_is_the_one_on_the_processor(digits, device):
    if not (torch.cuda if device == "cuda" else torch.backends.mps).is_available():
        pytest.skip(f"no {device}")
    X, asked = digits
    (here,), (there,) = (LinearProbe(device=name).fit(ArrayMatrix(X), [asked]) for name in ("cpu", device))
    assert there.facts.device == device
    assert there.penalty == here.penalty
    assert abs(there.objective - here.objective) <= max(there.certificate.gap, here.certificate.gap)


_DIGEST = """
import hashlib, sys
import numpy as np, torch
from sklearn.datasets import load_digits
from probekit.components import ArrayMatrix, Target
from probekit.probes import arithmetic, axes
from probekit.probes.linear import LinearProbe

threads, rough = int(sys.argv[1]), sys.argv[2] == "rough"
torch.set_num_threads(threads)
axes.SKETCH_RANK = 16
arithmetic.SMALL_FIT_FLOPS = arithmetic._ONE_THREAD_FLOPS = 0  # which would be kept on one thread else
if rough:
    arithmetic._HALF_WIDTH_FLOPS = arithmetic._HALF_WIDTH_FLOPS_CACHED = 0
    arithmetic.has_fast_bfloat16 = lambda device: True
X, y = load_digits(return_X_y=True)
asked = Target("f", tuple("0123456789"), y.astype(np.int64), np.arange(0, 1200), np.arange(1200, 1797))

class Read:  # not in memory, so that each pass reads it
    shape = X.shape

    def blocks(self, at_once, rows=None):
        rows = np.arange(len(X)) if rows is None else rows
        for start in range(0, len(rows), min(at_once, 500)):
            yield self.read(rows[start : start + min(at_once, 500)])

    def read(self, rows):
        assert torch.get_num_threads() == threads
        return np.ascontiguousarray(X[rows], dtype=np.float32)


for features in (ArrayMatrix(X.astype(np.float32)), Read()):
    for exact in (512, 512, 32, 32):
        axes.EXACT = exact
        (fit,) = LinearProbe(device="cpu").fit(features, [asked])
        assert fit.facts.arithmetic[0] == ("bfloat16" if rough and not fit.facts.streamed else "float32")
        print(hashlib.sha256(fit.linear.weights.tobytes() + fit.linear.bias.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("start", ["rough", "plain"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_and_threads_give_the_same_bits(threads, start):
    command = [sys.executable, "-c", _DIGEST, str(threads), start]
    one, other = (subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(2))
    assert one == other
    assert one[0::2] == one[1::2]


@pytest.mark.parametrize("value", [1e30, 3e38, np.float32(1e-38)])
def test_features_near_the_ends_of_float32_are_fitted(value):
    rng = np.random.default_rng(0)
    X = (rng.uniform(-1, 1, (100, 5)) * value).astype(np.float32)
    X[:, 1] = np.where(rng.random(100) < 0.01, value, 0)
    asked = target((X[:, 0] > 0).astype(int), np.arange(70), np.arange(70, 100))
    (found,) = LinearProbe(max_passes=50).fit(ArrayMatrix(X), [asked])
    assert np.isfinite(found.logits(X)).all()


def test_a_bound_that_is_not_finite_ends_the_fit(digits, monkeypatch):
    X, asked = digits
    bound = Heads.bound

    def unknown(self):
        return bound(self) * np.nan

    monkeypatch.setattr(Heads, "bound", unknown)
    (found,) = LinearProbe(penalty=1e-5, max_passes=12, arithmetic="float64").fit(ArrayMatrix(X), [asked])
    assert found.facts.passes <= 13
    assert np.isfinite(found.linear.weights).all()
    assert np.isfinite(found.certificate.gap)
    assert found.certificate.status == "missed"
    S = (X - X[asked.train].mean(axis=0))[asked.train].astype(np.float64)
    S = S[:, S.std(axis=0) > 0] / S.std(axis=0)[S.std(axis=0) > 0]
    values = np.linalg.eigvalsh(S.T @ S / len(S))
    condition = f"{(values[-1] + 1e-5) / (values[0] + 1e-5):.0e}"
    assert found.facts.reason == f"the budget of 12 passes was spent (λ = 1e-05, condition number about {condition})"
