"""From a target to the engine's problems and back, against scikit-learn and scores by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from probekit.components import ArrayMatrix, Target
from probekit.errors import InputError
from probekit.probes.axes import Axes
from probekit.probes.design import Held
from probekit.probes.head import Head
from probekit.probes.standardise import Standardiser
from probekit.probes.target_heads import TargetHeads, heads_asked


def heads_of(codes, task="classes", classes=None, train=None, valid=None):
    codes = np.asarray(codes)
    every = np.arange(len(codes))
    count = {"classes": lambda: int(codes.max()) + 1, "multilabel": lambda: codes.shape[1], "number": lambda: 0}[task]()
    names = tuple(f"c{k}" for k in range(classes or count))
    train, valid = (every if part is None else np.asarray(part) for part in (train, valid))
    return TargetHeads(Target("f", names, codes, train, valid, task=task))


def head(question, answer, rng, features, **facts):
    columns = question.answers[answer].columns
    weights = torch.from_numpy(rng.standard_normal((columns, features)))
    return Head(question.answers[answer], 0.1, 1e-4, weights, torch.from_numpy(rng.standard_normal(columns)), **facts)


@given(counts=st.lists(st.integers(0, 5), min_size=2, max_size=6).filter(lambda one: sum(c > 0 for c in one) > 1))
def test_chance_is_the_entropy_of_the_training_labels(counts):
    codes = np.repeat(np.arange(len(counts)), counts)
    question = heads_of(codes, classes=len(counts))
    shares = np.array([count for count in counts if count]) / len(codes)
    assert question.chance == pytest.approx([-(shares * np.log(shares)).sum()])
    assert question.answers[0].columns == (1 if len(shares) == 2 else len(shares))
    assert question.factor_of_penalty == (0.5 if len(shares) == 2 else 1.0)


@pytest.mark.parametrize(
    ("codes", "task"),
    [
        ([0, 1, 1], "classes"),
        ([0, 2, 2, 3], "classes"),
        ([0, 2, 2], "classes"),
        ([[1, 0], [0, 1]], "multilabel"),
        (np.array([1.0, 5.0]), "number"),
    ],
)
def test_what_is_asked_is_known_without_its_answers(codes, task):
    question = heads_of(codes, task)
    assert heads_asked(question.target) == [(one.loss.name, one.columns) for one in question.answers]


def test_penalties_that_were_left_out_are_named():
    rng = np.random.default_rng(0)
    question = heads_of([0, 1, 2, 1], "classes")
    question.heads[0] = [
        replace(head(question, 0, rng, 3), penalty=penalty, reason=reason)
        for penalty, reason in ((1.0, None), (0.01, "missed"), (0.1, "missed"))
    ]
    assert question.left_out() == ("not proven, and so not chosen among: λ = 0.1, 0.01",)
    question.heads[0] = question.heads[0][1:]
    assert question.left_out() == ()


def test_penalties_that_were_left_out_are_named_with_their_label():
    rng = np.random.default_rng(0)
    labels = heads_of([[1, 0], [0, 0], [0, 1]], "multilabel")
    for number, reason in enumerate((None, "missed")):
        labels.heads[number] = [head(labels, number, rng, 3), head(labels, number, rng, 3, reason=reason)]
    assert labels.left_out() == ("c1: not proven, and so not chosen among: λ = 0.2",)


def test_chance_of_yes_no_labels_and_of_a_number():
    labels = heads_of([[1, 0], [0, 0], [0, 1], [0, 1]], "multilabel")
    assert labels.chance == pytest.approx([log_loss([1, 0, 0, 0], [0.25] * 4), math.log(2)])
    assert heads_of(np.array([1.0, 5.0, 4.0]), "number").chance == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("codes", "task", "named"),
    [([1, 1, 1], "classes", ""), ([[1, 0], [1, 1]], "multilabel", "'c0'"), (np.array([2.0, 2.0]), "number", "")],
)
def test_one_answer_only_is_refused(codes, task, named):
    with pytest.raises(InputError, match=f"one answer only.*{named}") as caught:
        heads_of(codes, task)
    assert caught.value.problems[0].code == "PK-L01"
    assert caught.value.problems[0].field == "labels.f"


def test_valid_rows_of_classes_that_train_lacks_are_not_scored():
    question = heads_of([0, 1, 2, 2, 1, 0], train=[0, 1], valid=[2, 3, 4, 5])
    assert question.scorable().tolist() == [4, 5]
    with pytest.raises(InputError) as caught:
        heads_of([0, 1, 2, 2], train=[0, 1], valid=[2, 3])
    assert caught.value.problems[0].code == "PK-L13"


def test_what_heads_compute_is_given_in_the_features_own_units():
    rng = np.random.default_rng(0)
    X = (7 + 3 * rng.standard_normal((50, 4))).astype(np.float32)
    scale = Standardiser(ArrayMatrix(X), np.arange(50))
    axes = Axes(Held(torch.from_numpy(scale(X))), 0.0)
    S = scale(X).astype(np.float64)
    number = 100 + 9 * rng.standard_normal(50)
    for codes, task in (
        (rng.integers(3, size=50), "classes"), (rng.integers(2, size=50), "classes"),
        (2 * rng.integers(2, size=50), "classes"), (rng.integers(2, size=(50, 2)), "multilabel"), (number, "number"),
    ):  # fmt: skip
        question = heads_of(codes, task)
        chosen = [head(question, answer, rng, 4) for answer in range(len(question.answers))]
        logits = [S @ axes.back(one.weights).numpy().T + one.bias.numpy() for one in chosen]
        found = question.linear(chosen, axes, scale)
        values = X.astype(np.float64) @ found.weights.T + found.bias
        assert values.shape == (50, question.target.outputs)
        if task == "number":
            np.testing.assert_allclose(values, logits[0] * number.std() + number.mean(), rtol=1e-4)
        elif task == "multilabel":
            np.testing.assert_allclose(values, np.concatenate(logits, axis=1), atol=1e-4)
        elif len(question.present) == 2:
            low, high = question.present
            np.testing.assert_allclose(values[:, high] - values[:, low], logits[0][:, 0], atol=1e-4)
            np.testing.assert_allclose(found.weights[high], -found.weights[low])
            assert np.isneginf(np.delete(found.bias, question.present)).all()
        else:
            np.testing.assert_allclose(values, logits[0], atol=1e-4)


@given(seed=st.integers(0, 999), rows=st.integers(3, 30))
def test_losses_and_errors_are_those_of_the_probabilities(seed, rows):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(3), rng.integers(3, size=rows - 3)])
    question = heads_of(codes)
    logits = (3 * rng.standard_normal((2, 3, rows))).astype(np.float32)
    loss, error = question.score(logits, 0, np.arange(rows))
    wide = logits.astype(np.float64)
    np.testing.assert_allclose(loss, -log_softmax(wide, axis=1)[:, codes, np.arange(rows)], rtol=1e-9, atol=1e-12)
    assert (error == (wide.argmax(axis=1) != codes)).all()


def test_a_loss_of_large_logits_is_finite():
    question = heads_of([0, 1, 2])
    loss, _ = question.score(np.full((1, 3, 3), 1e30, np.float32) * np.eye(3, dtype=np.float32), 0, np.array([1, 2, 0]))
    assert np.isfinite(loss).all()


def test_certificates_of_yes_no_labels_are_of_the_mean_and_proven_where_all_are():
    rng = np.random.default_rng(0)
    question = heads_of([[1, 0], [0, 0], [0, 1], [0, 1]], "multilabel")
    good = [head(question, answer, rng, 2, objective=0.5, gap=1e-6) for answer in (0, 1)]
    found = question.certificate(good, 1e-4)
    assert found.status == "proven"
    assert (found.gap, found.of_objective) == (pytest.approx(1e-6), pytest.approx(2e-6))
    assert question.reason(good) is None
    good[1].gap, good[1].reason = 0.3, "rounding stopped the fit"
    found = question.certificate(good, 1e-4)
    assert found.status == "missed"
    assert found.of_chance == pytest.approx(np.mean([1e-6 / question.chance[0], 0.3 / question.chance[1]]))
    assert question.reason(good) == "c1: rounding stopped the fit"
