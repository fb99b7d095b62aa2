"""Scores against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    hamming_loss,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
    top_k_accuracy_score,
)

from probekit.probes import metrics
from probekit.probes.metrics import (
    ClassRows,
    auroc,
    balanced_error,
    losses,
    score_labels,
    score_numbers,
    yes_no_losses,
)


def score_all(logits, codes):
    return ClassRows.of([logits], codes).scores(np.arange(len(codes)), codes)


@st.composite
def predictions(draw):
    classes = draw(st.integers(2, 9))
    rows = draw(st.integers(classes, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    logits = rng.standard_normal((rows, classes)).astype(np.float32) * 4
    codes = np.concatenate([np.arange(classes), rng.integers(classes, size=rows - classes)])
    return logits, codes


@settings(deadline=None)
@given(predictions())
def test_every_metric_is_scikit_learns(case):
    logits, codes = case
    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    P = np.exp(logits.astype(np.float64))
    P /= P.sum(axis=1, keepdims=True)
    scores = score_all(logits, codes)
    assert scores["error"] == pytest.approx(1 - accuracy_score(codes, predicted))
    assert scores["balanced_error"] == pytest.approx(1 - balanced_accuracy_score(codes, predicted))
    assert balanced_error(predicted, codes) == scores["balanced_error"]
    assert scores["cross_entropy"] == pytest.approx(log_loss(codes, P, labels=classes), rel=1e-9)
    if len(classes) > 5:
        expected = 1 - top_k_accuracy_score(codes, logits, k=5, labels=classes)
        assert scores["top5_error"] == pytest.approx(expected)


def test_a_class_that_was_never_trained_costs_nothing_finite():
    logits = np.array([[0.0, -np.inf], [1.0, -np.inf]], dtype=np.float32)
    np.testing.assert_allclose(losses(logits, np.array([0, 0])), 0)


def test_top_error_is_told_from_six_classes_on():
    codes = np.array([0, 1])
    assert "top5_error" not in score_all(np.zeros((2, 5), np.float32), codes)
    assert "top5_error" in score_all(np.zeros((2, 6), np.float32), codes)


def test_a_tie_counts_against_the_label():
    assert score_all(np.zeros((3, 6), np.float32), np.array([0, 1, 2]))["top5_error"] == 1


@settings(deadline=None)
@given(predictions(), st.integers(1, 70), st.integers(1, 300), st.integers(0, 9))
def test_blocks_of_any_size_and_rows_without_a_label_change_nothing(case, size, at_once, gap):
    logits, codes = case
    codes = np.where(np.arange(len(codes)) % (gap + 2) == gap + 1, -1, codes)
    known = np.flatnonzero(codes >= 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_VALUES_AT_ONCE", at_once)
        found = ClassRows.of((logits[start : start + size] for start in range(0, len(logits), size)), codes)
    assert found.scores(known, codes) == score_all(logits[known], codes[known])
    np.testing.assert_array_equal(np.isnan(found.losses), codes < 0)
    np.testing.assert_array_equal(found.predicted, logits.argmax(axis=1))


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 50))
def test_every_metric_of_yes_no_labels_is_scikit_learns(seed, labels, rows):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.zeros((1, labels), int), np.ones((1, labels), int), rng.integers(0, 2, (rows, labels))])
    logits = (rng.standard_normal(codes.shape) * 4).astype(np.float32)
    names = [f"n{index}" for index in range(labels)]
    scores, by_label = score_labels(logits, codes, names)
    yes = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for index, name in enumerate(names):
        answers = logits[:, index] > 0
        assert by_label[name] == pytest.approx(
            {
                "error": 1 - accuracy_score(codes[:, index], answers),
                "balanced_error": 1 - balanced_accuracy_score(codes[:, index], answers),
                "auroc": roc_auc_score(codes[:, index], logits[:, index]),
                "cross_entropy": log_loss(codes[:, index], yes[:, index]),
            }
        )
    assert scores["error"] == pytest.approx(hamming_loss(codes, logits > 0))
    assert scores["subset_error"] == pytest.approx(1 - accuracy_score(codes, logits > 0))
    for metric in ("balanced_error", "auroc", "cross_entropy"):
        assert scores[metric] == pytest.approx(np.mean([one[metric] for one in by_label.values()]))


def test_a_label_with_one_answer_only_has_no_auroc_and_is_left_out_of_the_mean():
    codes = np.array([[0, 1], [1, 1], [0, 1]])
    scores, by_label = score_labels(np.array([[0.5, 1], [2, 1], [1, 1]], np.float32), codes, ["a", "b"])
    assert by_label["a"]["auroc"] == scores["auroc"] == 1
    assert set(by_label["b"]) == {"error", "balanced_error", "cross_entropy"}
    scores, _ = score_labels(np.zeros((3, 1), np.float32), np.ones((3, 1), int), ["b"])
    assert set(scores) == {"error", "balanced_error", "cross_entropy", "subset_error"}


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 50), st.integers(0, 3))
def test_auroc_is_scikit_learns_with_any_ties(seed, rows, digits):
    rng = np.random.default_rng(seed)
    codes = np.append([0, 1], rng.integers(0, 2, rows))
    scores = np.round(rng.standard_normal(rows + 2) + codes, digits)
    assert auroc(scores, codes) == pytest.approx(roc_auc_score(codes, scores))
    assert auroc(-scores, 1 - codes) == pytest.approx(auroc(scores, codes))
    assert auroc(-scores, codes) == pytest.approx(1 - auroc(scores, codes))


def test_auroc_of_two_classes_is_that_of_the_second_ones_probability():
    rng = np.random.default_rng(0)
    logits, codes = rng.standard_normal((40, 2)).astype(np.float32) * 3, np.arange(40) % 2
    yes = 1 / (1 + np.exp(logits[:, 0].astype(np.float64) - logits[:, 1]))
    assert score_all(logits, codes)["auroc"] == pytest.approx(roc_auc_score(codes, yes))


def test_auroc_needs_two_classes_that_both_occur():
    assert auroc(np.arange(3), np.ones(3, int)) is None
    assert auroc(np.zeros(0), np.zeros(0, int)) is None
    assert "auroc" not in score_all(np.zeros((3, 2), np.float32), np.zeros(3, int))
    assert "auroc" not in score_all(np.zeros((3, 3), np.float32), np.arange(3))


def test_auroc_of_many_rows_does_not_overflow():
    rows = np.arange(400_000)
    assert auroc(rows, (rows >= 200_000).astype(int)) == 1


def test_a_sure_answer_costs_nothing_or_everything():
    logits = np.array([[200.0, -200.0, np.inf]], dtype=np.float32)
    np.testing.assert_allclose(yes_no_losses(logits, np.array([[1, 1, 1]])), [[0.0, 200.0, 0.0]], atol=1e-80)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 50), st.floats(-1e3, 1e3))
def test_every_metric_of_numbers_is_scikit_learns(seed, rows, shift):
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal(rows) + shift
    predicted = (numbers + rng.standard_normal(rows)).astype(np.float32)
    assert score_numbers(predicted, numbers) == pytest.approx(
        {
            "r2": r2_score(numbers, predicted.astype(np.float64)),
            "rmse": root_mean_squared_error(numbers, predicted.astype(np.float64)),
            "mae": mean_absolute_error(numbers, predicted.astype(np.float64)),
        }
    )
