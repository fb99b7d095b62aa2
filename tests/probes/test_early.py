"""Probes that stop early: what they reach, when they stop, and that nothing but the seed decides."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import expit, log_softmax
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from probekit.components import ArrayMatrix, Certificate, FitContext, Target
from probekit.errors import InputError
from probekit.probes import sgd
from probekit.probes.early import HALVINGS, EarlyStopping, fit_early
from probekit.probes.standardise import Standardiser


class Stored:
    """A matrix that is no ArrayMatrix, so that it is read in blocks; it counts the rows of each read."""

    def __init__(self, array):
        self.array, self.shape, self.reads = array, array.shape, []

    def read(self, rows):
        part = np.array(self.array[rows])
        self.reads.append(len(part))
        return part

    def blocks(self, rows_at_once=8192):
        for start in range(0, len(self.array), rows_at_once):
            yield self.array[start : start + rows_at_once]

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype)


def asked(codes, train, valid, task="classes", outputs=None, seed=0):
    count = {"classes": lambda: int(codes.max()) + 1, "multilabel": lambda: codes.shape[1], "number": lambda: 0}[task]()
    names = tuple(map(str, range(outputs or count)))
    return Target("f", names, codes, np.asarray(train), np.asarray(valid), seed=seed, task=task)


def fit(X, target, context=None, **options):
    matrix = X if isinstance(X, Stored) else ArrayMatrix(X)
    return fit_early(matrix, target, EarlyStopping(**options), context or FitContext())


def best_epoch(found):
    return int(found.facts.notes[0].removeprefix("best epoch "))


def valid_loss(found, X, target):
    """The valid loss of a fit, from its logits alone."""
    Z, y = found.logits(X[target.valid]).astype(np.float64), target.codes[target.valid]
    if target.task == "classes":
        return -log_softmax(Z, axis=1)[np.arange(len(y)), y].mean()
    if target.task == "multilabel":
        return (np.logaddexp(0, Z) - y * Z).mean()
    return ((Z[:, 0] - y) ** 2).mean() / target.codes[target.train].var()


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))
    return X.astype(np.float32), asked(y.astype(np.int64), np.sort(rows[:1000]), np.sort(rows[1000:1400]))


@pytest.fixture(scope="module")
def noisy():
    """More features than rows: past its best epoch a probe learns the noise."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((400, 300)).astype(np.float32)
    return X, asked((X[:, 0] + 2 * rng.standard_normal(400) > 0).astype(np.int64), np.arange(100), np.arange(100, 400))


def test_the_valid_loss_is_that_of_the_best_penalty(digits):
    X, target = digits
    S = StandardScaler().fit(X[target.train]).transform(X)
    losses = []
    for C in (0.1, 0.3, 1, 3, 10):
        model = LogisticRegression(C=C, max_iter=500).fit(S[target.train], target.codes[target.train])
        losses.append(log_loss(target.codes[target.valid], model.predict_proba(S[target.valid])))
    found = fit(X, target)
    assert valid_loss(found, X, target) < 1.03 * min(losses)
    assert found.certificate == Certificate("not_applicable")
    assert found.facts.reason is None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_a_replay_in_torchs_optimiser_stops_at_the_same_epoch(noisy, momentum, penalty):
    X, target = noisy
    options = EarlyStopping(learning_rate=0.003, momentum=momentum, penalty=penalty, batch_size=16, patience=7, seed=3)
    found = fit_early(ArrayMatrix(X), target, options, FitContext())
    S = torch.from_numpy(Standardiser(ArrayMatrix(X), target.train)(X))
    y, train, valid = torch.from_numpy(target.codes), target.train, target.valid
    W, b = torch.zeros(2, 300, requires_grad=True), (torch.bincount(y[train]) / 100).log().requires_grad_()
    groups = [{"params": [W], "weight_decay": penalty}, {"params": [b]}]
    optimiser = torch.optim.SGD(groups, lr=options.learning_rate, momentum=momentum)
    generator = torch.Generator().manual_seed(3)
    history, kept = [], []
    for _ in range(found.facts.passes):
        torch.randperm(1, generator=generator)  # all rows are one run, and one block
        order = torch.from_numpy(train)[torch.randperm(100, generator=generator)]
        for batch in order.split(16):
            optimiser.zero_grad()
            functional.cross_entropy(S[batch] @ W.T + b, y[batch]).backward()
            optimiser.step()
        with torch.no_grad():
            history.append(float(functional.cross_entropy(S[valid] @ W.T + b, y[valid])))
            kept.append((S @ W.T + b).numpy())
    best = int(np.argmin(history))
    assert best_epoch(found) == best + 1
    assert found.facts.passes == best + 1 + 7
    assert found.facts.path[0].valid_loss == pytest.approx(history[best], rel=1e-5)
    assert history[-1] > history[best]
    np.testing.assert_allclose(found.logits(X), kept[best], atol=1e-4)


def test_it_stops_where_the_valid_loss_turns_up(noisy):
    X, target = noisy
    early = fit(X, target)
    late = fit(X, target, patience=100, max_epochs=100)
    assert early.facts.passes == best_epoch(early) + 10 < 100
    assert best_epoch(late) == best_epoch(early)
    np.testing.assert_array_equal(early.linear.weights, late.linear.weights)
    unpenalised = LogisticRegression(C=np.inf).fit(X[target.train], target.codes[target.train])
    optimum = log_loss(target.codes[target.valid], unpenalised.predict_proba(X[target.valid]))
    assert valid_loss(early, X, target) < np.log(2) < optimum


def test_many_epochs_of_all_rows_at_once_reach_the_optimum_of_the_penalty(digits):
    X, target = digits
    S = StandardScaler().fit(X[target.train]).transform(X)
    model = LogisticRegression(C=1 / (1000 * 0.1), tol=1e-8, max_iter=1000)
    model.fit(S[target.train], target.codes[target.train])
    loss = log_loss(target.codes[target.train], model.predict_proba(S[target.train]))
    itself = asked(target.codes, target.train, target.train)
    found = fit(X, itself, learning_rate=0.3, momentum=0.0, penalty=0.1, batch_size=1000, max_epochs=300)
    assert found.objective == pytest.approx(loss + 0.05 * (model.coef_**2).sum(), rel=2e-4)
    assert found.penalty == found.facts.path[0].penalty == 0.1


def test_a_yes_no_label_is_penalised_as_two_classes_are(digits):
    X, target = digits
    odd = (target.codes % 2)[:, None]
    options = {"learning_rate": 0.3, "momentum": 0.0, "penalty": 0.1, "batch_size": 1000, "max_epochs": 300}
    label = fit(X, asked(odd, target.train, target.train, "multilabel", 1), **options)
    classes = fit(X, asked(odd[:, 0], target.train, target.train), **options)
    assert label.objective == pytest.approx(classes.objective, rel=1e-3)
    weights = classes.linear.weights
    np.testing.assert_allclose(label.linear.weights[0], weights[1] - weights[0], atol=0.02 * np.abs(weights).max())


def test_the_seed_alone_decides(digits):
    X, target = digits
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - that it stays as it is
    first, again, other = (fit(X, target, max_epochs=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.linear.weights, again.linear.weights)
    np.testing.assert_array_equal(first.linear.bias, again.linear.bias)
    assert not np.array_equal(first.linear.weights, other.linear.weights)
    own = fit(X, asked(target.codes, target.train, target.valid, seed=2), max_epochs=3)
    np.testing.assert_array_equal(own.linear.weights, other.linear.weights)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002 - as above


def test_a_streamed_fit_is_the_same_and_reads_block_by_block(digits, monkeypatch):
    X, target = digits
    monkeypatch.setattr(sgd, "rows_at_once", lambda features: 100)
    held, stored = fit(X, target, max_epochs=5), Stored(X)
    streamed = fit(stored, target, max_epochs=5)
    scarce = fit(X, target, context=FitContext(memory=1000), max_epochs=5)
    for one in (streamed, scarce):
        np.testing.assert_array_equal(held.linear.weights, one.linear.weights)
        np.testing.assert_array_equal(held.linear.bias, one.linear.bias)
        assert one.facts.streamed
    assert not held.facts.streamed
    epochs = stored.reads[stored.reads.index(64) :]  # what comes before is for the mean and the deviation
    assert set(epochs) == {64, 1000 % 64, 400 % 64}


def test_blocks_of_sorted_rows_train_as_well_as_shuffled_ones(digits, monkeypatch):
    X, target = digits
    order = np.argsort(target.codes, kind="stable")
    place = np.argsort(order)
    ordered = asked(target.codes[order], np.sort(place[target.train]), np.sort(place[target.valid]))
    whole = fit(X, target)
    monkeypatch.setattr(sgd, "rows_at_once", lambda features: 256)
    blocks = fit(Stored(X[order]), ordered)
    assert valid_loss(blocks, X[order], ordered) < 1.1 * valid_loss(whole, X, target)


@given(count=st.integers(1, 400), at_once=st.integers(1, 300), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_an_epoch_gives_every_row_once(count, at_once, seed):
    X = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    lines = np.random.default_rng(seed).permutation(count)
    rows = sgd.Rows(Stored(X), lambda part: part, lines, torch.device("cpu"), at_once)
    generator = torch.Generator().manual_seed(seed)
    blocks = list(rows.shuffled(generator))
    assert all(len(block) <= at_once for block, _, _ in blocks)
    for block, places, order in blocks:
        np.testing.assert_array_equal(block.numpy(), X[lines[places]])
        np.testing.assert_array_equal(order.sort().values.numpy(), np.arange(len(places)))
    np.testing.assert_array_equal(np.sort(np.concatenate([places for _, places, _ in blocks])), np.arange(count))


def test_yes_no_labels_are_probes_of_their_own(digits):
    X, target = digits
    bits = np.stack([target.codes % 2, target.codes > 4, target.codes == 0], axis=1).astype(np.int64)
    together = fit(X, asked(bits, target.train, target.valid, "multilabel"), patience=5)
    assert together.facts.heads == len(together.facts.label_penalties) == 3
    S = StandardScaler().fit(X[target.train]).transform(X)
    for label in range(3):
        alone = fit(X, asked(bits[:, [label]], target.train, target.valid, "multilabel"), patience=5)
        np.testing.assert_allclose(together.logits(X)[:, label], alone.logits(X)[:, 0], atol=2e-3)
        y = bits[:, label]
        losses = []
        for C in (0.1, 1, 10, 100):
            model = LogisticRegression(C=C, max_iter=1000).fit(S[target.train], y[target.train])
            losses.append(log_loss(y[target.valid], model.predict_proba(S[target.valid])))
        told = log_loss(y[target.valid], expit(together.logits(X[target.valid])[:, label].astype(np.float64)))
        assert told < 1.05 * min(losses) + 0.005


def test_a_number_is_predicted_in_its_own_units():
    X, y = load_diabetes(return_X_y=True)
    train, valid = np.arange(0, 442, 2), np.arange(1, 442, 2)
    target = asked(1000 + 50 * y, train, valid, "number")
    found = fit(X.astype(np.float32), target)
    least = LinearRegression().fit(X[train], target.codes[train])
    squares = np.mean((least.predict(X[valid]) - target.codes[valid]) ** 2)
    assert np.mean((found.logits(X[valid].astype(np.float32))[:, 0] - target.codes[valid]) ** 2) < 1.02 * squares
    assert found.facts.path[0].valid_loss == pytest.approx(valid_loss(found, X.astype(np.float32), target), rel=1e-4)
    assert found.facts.path[0].valid_error is None
    assert found.linear.weights.shape == (1, 10)


@given(
    task=st.sampled_from(["classes", "multilabel", "number"]),
    rows=st.integers(12, 60),
    width=st.integers(1, 40),
    outputs=st.integers(2, 4),
    rate=st.sampled_from(["auto", 1e-3, 1.0, 100.0]),
    penalty=st.sampled_from([0.0, 0.1, 10.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_what_is_told_is_true_and_no_worse_than_no_weights(task, rows, width, outputs, rate, penalty, seed):
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((rows, width)) * 10 ** rng.uniform(-2, 2, width) + 3).astype(np.float32)
    classes = rng.permutation(np.arange(rows) % outputs)
    codes = {"classes": classes, "multilabel": rng.integers(0, 2, (rows, outputs)), "number": rng.normal(5, 9, rows)}
    train, valid = np.arange(0, rows, 2), np.arange(1, rows, 2)
    target = asked(codes[task], train, valid, task, outputs if task != "number" else None)
    found = fit(X, target, learning_rate=rate, penalty=penalty, batch_size=8, max_epochs=20, patience=3)
    (point,) = found.facts.path
    known = np.isin(codes[task][valid], codes[task][train]) if task == "classes" else np.ones(len(valid), np.bool_)
    judged = asked(codes[task], train, valid[known], task, outputs if task != "number" else None)
    assert point.valid_loss == pytest.approx(valid_loss(found, X, judged), rel=1e-3, abs=1e-4)
    untrained = fit(X, target, learning_rate=1e-12, max_epochs=1, patience=1)
    assert point.valid_loss <= untrained.facts.path[0].valid_loss + 1e-6
    assert np.isfinite(found.linear.weights).all()
    assert np.isfinite(found.objective)
    Z = found.logits(X[valid[known]])
    if task == "classes":
        assert point.valid_error == pytest.approx(np.mean(Z.argmax(axis=1) != codes[task][valid[known]]))
    elif task == "multilabel":
        assert point.valid_error == pytest.approx(np.mean((Z > 0) != codes[task][valid]))


def test_a_class_without_training_rows_is_never_predicted(digits):
    X, target = digits
    train = target.train[target.codes[target.train] != 4]
    found = fit(X, asked(target.codes, train, target.valid), max_epochs=5)
    assert found.linear.bias[4] == -np.inf
    assert not found.linear.weights[4].any()
    assert 4 not in found.logits(X).argmax(axis=1)
    judged = target.valid[target.codes[target.valid] != 4]
    same = fit(X, asked(target.codes, train, judged), max_epochs=5)
    np.testing.assert_array_equal(found.linear.weights, same.linear.weights)


def test_a_label_with_one_answer_stays_finite(digits):
    X, target = digits
    bits = np.stack([target.codes % 2, np.ones_like(target.codes)], axis=1)
    found = fit(X, asked(bits, target.train, target.valid, "multilabel"), max_epochs=5)
    assert np.isfinite(found.linear.bias).all()
    assert (found.logits(X)[:, 1] > 0).all()


def test_valid_rows_of_unknown_classes_only_are_refused(digits):
    X, target = digits
    train = target.train[target.codes[target.train] != 4]
    valid = target.valid[target.codes[target.valid] == 4]
    with pytest.raises(InputError, match="no valid row has a label of 'f'") as caught:
        fit(X, asked(target.codes, train, valid))
    assert caught.value.problems[0].code == "PK-L13"


def test_a_rate_that_diverges_is_halved_and_told(digits):
    X, target = digits
    ink = asked(X.sum(axis=1).astype(np.float64), target.train, target.valid, "number")
    found = fit(X, ink, learning_rate=1.0, patience=3)
    note = next(note for note in found.facts.notes if note.startswith("learning rate 1, halved"))
    halvings = int(note.split()[4])
    assert 1 <= halvings <= HALVINGS
    assert note.endswith(f"to {2.0**-halvings:.3g}")
    assert found.facts.passes >= halvings + best_epoch(found)
    assert found.facts.path[0].valid_loss < 0.5
    same = fit(X, ink, learning_rate=2.0**-halvings, patience=3)
    np.testing.assert_array_equal(found.linear.weights, same.linear.weights)


def test_after_the_last_halving_the_start_is_kept(digits):
    X, target = digits
    found = fit(X, target, learning_rate=1000.0, patience=1)
    assert "no epoch better than no weights" in found.facts.notes
    assert not found.linear.weights.any()
    shares = np.bincount(target.codes[target.train]) / 1000
    np.testing.assert_allclose(found.linear.bias, np.log(shares), rtol=1e-6)
    assert found.objective == pytest.approx(-shares @ np.log(shares), rel=1e-6)


def test_a_constant_feature_has_no_weight(digits):
    X, target = digits
    wider = np.concatenate([X, np.full((len(X), 1), 7, np.float32)], axis=1)
    found, without = fit(wider, target, max_epochs=5), fit(X, target, max_epochs=5)
    assert not found.linear.weights[:, 64].any()
    np.testing.assert_allclose(found.logits(wider), without.logits(X), atol=1e-3)


def test_constant_features_leave_the_commonest_class(digits):
    X, target = digits
    codes = np.where(target.codes < 6, 1, 0)
    found = fit(np.ones_like(X), asked(codes, target.train, target.valid), patience=2)
    assert not found.linear.weights.any()
    assert (found.logits(np.ones_like(X)).argmax(axis=1) == 1).all()


def test_weights_are_in_the_features_own_units(digits):
    X, target = digits
    moved = X * np.float32(64) + np.float32(8)
    found, other = fit(X, target, max_epochs=5), fit(moved, target, max_epochs=5)
    np.testing.assert_allclose(found.logits(X), other.logits(moved), atol=2e-3)


def test_progress_is_told_and_what_it_raises_ends_the_fit(digits):
    X, target = digits
    heard = []
    found = fit(X, target, context=FitContext(tell=heard.append), max_epochs=5)
    assert (heard[0].done, heard[0].passes) == (0, 0)
    assert heard[-1].done == heard[-1].heads == 1
    assert heard[-1].passes == found.facts.passes == 5
    assert {one.worst_gap for one in heard} == {None}

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(X, target, context=FitContext(tell=interrupt))


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": "fast"},
        {"momentum": 1.0},
        {"patience": 0},
        {"penalty": -1.0},
        {"x": 1},
    ],
)
def test_options_without_a_meaning_are_refused(wrong):
    with pytest.raises(ValidationError):
        EarlyStopping(**wrong)


def test_the_options_load_without_torch():
    code = "import sys, probekit.probes.early; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_probe(digits):
    X, target = digits
    options = EarlyStopping(max_epochs=5)
    here, there = (fit_early(ArrayMatrix(X), target, options, FitContext(), name) for name in ("cpu", "cuda"))
    np.testing.assert_allclose(here.logits(X), there.logits(X), atol=1e-3)
