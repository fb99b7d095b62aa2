"""On taps of real networks the bound is not vacuous: at the default tolerance, within 20 times of the true gap.

The optimum is enclosed by the objective, in NumPy, of a fit to a far smaller tolerance, and on narrow taps and of two
classes by scikit-learn's: either is at or above the optimum, so that the true gap is at least the difference to it.
"""

import gzip
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from probekit.components import ArrayMatrix, Target
from probekit.probes.linear import LinearProbe
from probekit.probes.standardise import Standardiser

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
ROWS = 3000
MOST = 20
"""Times that a bound may be above the true gap."""


def tapped(path, inputs, names):
    """Return the activations of some tensors of a model."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: inputs}
    return dict(zip(names, session.run(None, feed), strict=True))


@pytest.fixture(scope="module")
def digits(specs):
    """Features of the convnet for 8 x 8 digits, and the classes."""
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    found = tapped(specs / "models" / "digits_convnet.onnx", images, ["conv2d", "relu", "conv2d_1", "relu_1", "relu_2"])
    features = {f"{name} pooled": found[name].mean(axis=(2, 3)) for name in list(found)[:4]}
    features |= {"relu_1 flat": found["relu_1"].reshape(len(images), -1), "relu_2": found["relu_2"]}
    return features, data.target.astype(np.int64)


@pytest.fixture(scope="module")
def fashion(specs, need):
    """Features of the paper's convnet for Fashion-MNIST, and the classes."""
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")
    with (
        gzip.open(FASHION / "train-images-idx3-ubyte.gz") as images,
        gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as y,
    ):
        pixels = np.frombuffer(images.read(16 + ROWS * 784), np.uint8, offset=16).reshape(-1, 1, 28, 28)
        codes = np.frombuffer(y.read(8 + ROWS), np.uint8, offset=8).astype(np.int64)
    names = ["conv2d", "conv2d_1", "linear"]
    found = tapped(specs / "models" / "fashion_convnet.onnx", (pixels / 255).astype(np.float32), names)
    second = found["conv2d_1"].reshape(ROWS, -1)
    chosen = np.sort(np.random.default_rng(0).permutation(second.shape[1])[:1000])
    features = {"conv1 pooled": found["conv2d"].mean(axis=(2, 3)), "conv2 1000 random": second[:, chosen]}
    return features | {"fc1": found["linear"]}, codes


def fitted(X, y, penalty, tolerance):
    """Return the fit and its objective in NumPy, on the standardised rows."""
    rows = np.arange(len(X))
    asked = Target("class", tuple(str(code) for code in range(y.max() + 1)), y, rows, rows)
    (fit,) = LinearProbe(penalty=penalty, tolerance=tolerance, max_passes=4000).fit(ArrayMatrix(X), [asked])
    scale = Standardiser(ArrayMatrix(X), rows)
    S = scale(X).astype(np.float64)
    own = fit.linear.weights * np.where(np.isfinite(scale.scale), scale.scale, 0)
    return fit, objective(S, y, own, fit.linear.bias + fit.linear.weights @ scale.mean, penalty), S


def objective(S, y, W, b, penalty):
    return -log_softmax(S @ W.T + b, axis=1)[np.arange(len(y)), y].mean() + penalty / 2 * (W**2).sum()


def peers(S, y, penalty):
    """Return scikit-learn's W and b; two classes as two rows of half of their one vector each."""
    if y.max() > 1:
        model = LogisticRegression(C=1 / (len(y) * penalty), tol=1e-9, max_iter=500, solver="newton-cg").fit(S, y)
        return model.coef_, model.intercept_
    model = LogisticRegression(C=2 / (len(y) * penalty), tol=1e-12, solver="newton-cholesky").fit(S, y)
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2


def check(X, y, penalty, *, peer):
    X = np.ascontiguousarray(X, dtype=np.float32)
    fit, reached, S = fitted(X, y, penalty, 1e-4)
    near, lowest, _ = fitted(X, y, penalty, 1e-7)
    assert fit.certificate.status == near.certificate.status == "proven"
    assert fit.certificate.of_chance <= 1e-4
    assert fit.objective == pytest.approx(reached, rel=1e-7)
    if peer:
        other = objective(S, y, *peers(S, y, penalty), penalty)
        assert -1e-12 <= lowest - other <= near.certificate.gap + 1e-12
        lowest = other
    gap = reached - lowest
    assert gap <= fit.certificate.gap
    assert fit.certificate.gap <= MOST * gap


DIGITS = ["conv2d pooled", "relu pooled", "conv2d_1 pooled", "relu_1 pooled", "relu_1 flat", "relu_2"]


@pytest.mark.parametrize("penalty", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("tap", DIGITS)
def test_on_taps_of_digits_the_bound_is_near_the_true_gap(digits, tap, penalty):
    check(digits[0][tap], digits[1], penalty, peer=tap.endswith("pooled"))


@pytest.mark.parametrize("penalty", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("tap", ["conv1 pooled", "conv2 1000 random", "fc1"])
def test_on_taps_of_fashion_mnist_the_bound_is_near_the_true_gap(fashion, tap, penalty):
    check(fashion[0][tap], fashion[1], penalty, peer=tap.endswith("pooled"))


OTHERS = {
    "two classes": lambda y: np.isin(y, [5, 7, 9]).astype(np.int64),
    "shuffled": lambda y: np.random.default_rng(0).permutation(y),
}


@pytest.mark.parametrize("penalty", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("tap", ["conv2d_1 pooled", "relu_2"])
def test_so_it_is_of_two_classes_and_of_a_control(digits, tap, other, penalty):
    check(digits[0][tap], OTHERS[other](digits[1]), penalty, peer=True)


@pytest.mark.parametrize("penalty", [1e-2, 1e-3])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("tap", ["conv1 pooled", "fc1"])
def test_so_it_is_of_two_classes_and_of_a_control_of_fashion_mnist(fashion, tap, other, penalty):
    check(fashion[0][tap], OTHERS[other](fashion[1]), penalty, peer=other == "two classes" or tap.endswith("pooled"))


@pytest.mark.parametrize("penalty", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize(("exact", "gram", "kind"), [(512, 2048, "exact"), (8, 2048, "gram"), (8, 4, "sketch")])
def test_of_a_number_the_bound_is_near_the_true_gap_or_rounding(digits, penalty, exact, gram, kind, monkeypatch):
    monkeypatch.setattr("probekit.probes.axes.EXACT", exact)
    monkeypatch.setattr("probekit.probes.closed_form.MOST", gram)
    X, numbers = np.ascontiguousarray(digits[0]["relu_2"], dtype=np.float32), digits[1].astype(np.float64)
    rows = np.arange(len(X))
    asked = Target("sum", (), numbers, rows, rows, task="number")
    (fit,) = LinearProbe(penalty=penalty, max_passes=4000).fit(ArrayMatrix(X), [asked])
    S = Standardiser(ArrayMatrix(X), rows)(X).astype(np.float64)
    S, y = S - S.mean(axis=0), (numbers - numbers.mean()) / numbers.std()

    def value(w):
        return ((S @ w - y) ** 2).mean() / 2 + penalty / 2 * (w**2).sum()

    best = value(np.linalg.solve(S.T @ S / len(S) + penalty * np.eye(S.shape[1]), S.T @ y / len(S)))
    gap = fit.objective - best
    assert (fit.certificate.status, fit.facts.preconditioner) == ("proven", kind)
    assert -1e-12 <= gap <= fit.certificate.gap + 1e-12
    assert fit.certificate.gap <= MOST * gap + 1e-10
