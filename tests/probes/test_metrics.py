"""Scores against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

from probekit.probes.metrics import balanced_error, cross_entropy, error_rate, losses, score_all, top_error


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
    assert error_rate(logits, codes) == pytest.approx(1 - accuracy_score(codes, predicted))
    assert balanced_error(predicted, codes) == pytest.approx(1 - balanced_accuracy_score(codes, predicted))
    assert cross_entropy(logits, codes) == pytest.approx(log_loss(codes, P, labels=classes), rel=1e-9)
    if len(classes) > 5:
        expected = 1 - top_k_accuracy_score(codes, logits, k=5, labels=classes)
        assert top_error(logits, codes) == pytest.approx(expected)


def test_a_class_that_was_never_trained_costs_nothing_finite():
    logits = np.array([[0.0, -np.inf], [1.0, -np.inf]], dtype=np.float32)
    np.testing.assert_allclose(losses(logits, np.array([0, 0])), 0)


def test_top_error_is_told_from_six_classes_on():
    codes = np.array([0, 1])
    assert "top5_error" not in score_all(np.zeros((2, 5), np.float32), codes)
    assert "top5_error" in score_all(np.zeros((2, 6), np.float32), codes)


def test_a_tie_counts_against_the_label():
    assert top_error(np.zeros((3, 6), np.float32), np.array([0, 1, 2])) == 1
