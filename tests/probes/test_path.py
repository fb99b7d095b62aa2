"""The choice of λ on the valid rows, against computations by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax
from sklearn.metrics import log_loss, mean_squared_error

from probekit.components import ArrayMatrix, Target
from probekit.probes import path
from probekit.probes.axes import Axes
from probekit.probes.design import Held
from probekit.probes.head import Head
from probekit.probes.losses import SQUARES, Answers
from probekit.probes.path import choose, further, path_points, score_on_valid, too_short
from probekit.probes.standardise import Standardiser
from probekit.probes.target_heads import TargetHeads, ValidScores

ANSWERS = Answers(SQUARES, torch.zeros(1, dtype=torch.float64))


def head(penalty, reason=None):
    return Head(ANSWERS, penalty, 1e-4, torch.zeros(1, 1), torch.zeros(1), reason=reason)


def scores(loss, spread=None, error=None):
    loss = np.array(loss, dtype=float)
    spread = np.zeros_like(loss) if spread is None else np.array(spread, dtype=float)
    return ValidScores(loss, loss if error is None else np.array(error, dtype=float), spread, spread)


def chosen(penalties, loss, spread=None, *, error=None, missed=(), by="cross_entropy", rule=False):
    heads = [head(penalty, "missed" if penalty in missed else None) for penalty in penalties]
    choice = choose(heads, scores(loss, spread, error), by, one_standard_error=rule)
    return penalties[choice.place], choice.end, choice.grow


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ([3, 1, 2], (0.1, None, None)),
        ([1, 2, 3], (1.0, "largest", "largest")),
        ([3, 2, 1], (0.01, "smallest", "smallest")),
        ([1, 1, 2], (1.0, "largest", "largest")),
        ([2, 2, 2], (1.0, None, None)),
    ],
    ids=["inside", "largest", "smallest", "a tie goes to the larger", "nothing depends on it"],
)
def test_the_smallest_loss_is_chosen_and_its_end_told(loss, expected):
    assert chosen([1.0, 0.1, 0.01], loss) == expected
    order = [2, 0, 1]  # heads that were added later stand last
    assert chosen([[1.0, 0.1, 0.01][k] for k in order], [loss[k] for k in order]) == expected


def test_one_penalty_has_no_end():
    assert chosen([0.1], [1.0]) == (0.1, None, None)


def test_what_is_chosen_by_may_be_the_error():
    assert chosen([1.0, 0.1, 0.01], [3, 1, 2], error=[0.1, 0.3, 0.2], by="error") == (1.0, "largest", "largest")


def test_a_head_that_missed_its_optimum_is_chosen_only_where_all_did():
    assert chosen([1.0, 0.1, 0.01], [3, 2, 1], missed=[0.01]) == (0.1, None, None)
    assert chosen([1.0, 0.1, 0.01], [3, 2, 1], missed=[1.0, 0.1, 0.01])[0] == 0.01


@pytest.mark.parametrize(
    ("loss", "spread", "expected"),
    [
        ([5, 3.5, 3.0, 4], 0.6, (0.1, None, None)),
        ([5, 3.5, 3.0, 4], 0.4, (0.01, None, None)),
        ([3.2, 3.5, 3.0, 4], 0.6, (1.0, "largest", "largest")),
        ([5, 3.5, 3.4, 3], 0.45, (0.01, None, "smallest")),
        ([3.1, 3.5, 3.4, 3], 0.2, (1.0, "largest", "smallest")),
    ],
    ids=["one larger", "none larger", "the largest", "the best lies at the end", "both do"],
)
def test_the_one_standard_error_rule(loss, spread, expected):
    assert chosen([1.0, 0.1, 0.01, 0.001], loss, [spread] * 4, rule=True) == expected


@pytest.mark.parametrize(
    ("loss", "spread", "told"),
    [
        ([5, 3.5, 3.4, 3], 0.45, True),
        ([3.4, 3.5, 3.4, 3], 0.45, True),
        ([5, 3.5, 3.0, 4], 0.6, False),
        ([5, 4.5, 3.4, 3], 0.1, False),
        ([3, 3.5, 3.4, 4], 0.1, False),
    ],
    ids=["one inside is chosen", "the largest is chosen", "the best is inside", "the smallest is chosen", "largest"],
)
def test_a_best_penalty_at_the_end_is_told_where_a_larger_one_was_chosen(loss, spread, told):
    heads = [head(penalty) for penalty in (1.0, 0.1, 0.01, 0.001)]
    choice = choose(heads, scores(loss, [spread] * 4), "cross_entropy", one_standard_error=True)
    text = "the best λ on valid is the smallest of its path"
    assert [one.startswith(text) for one in too_short((), [choice])] == [True] * told
    assert [one.startswith(f"b: {text}") for one in too_short(("a", "b"), [choice, choice])] == [False, True] * told


@given(data=st.data(), count=st.integers(1, 8))
def test_the_one_standard_error_rule_is_the_largest_within_the_limit(data, count):
    penalties = [10.0**-k for k in range(count)]
    loss = data.draw(st.lists(st.floats(0, 3), min_size=count, max_size=count))
    spread = data.draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    best = max(p for p, value in zip(penalties, loss, strict=True) if value == min(loss))
    limit = min(loss) + spread[penalties.index(best)]
    expected = max(p for p, value in zip(penalties, loss, strict=True) if value <= limit)
    assert chosen(penalties, loss, spread, rule=True)[0] == expected
    assert chosen(penalties, loss, spread)[0] == best


@given(power=st.integers(-11, 11))
def test_a_path_goes_on_by_powers_of_ten(power):
    assert further([10.0**power, 10.0 ** (power + 3)], "smallest") == float(f"1e{power - 1}")
    assert further([10.0**power, 10.0 ** (power - 3)], "largest") == float(f"1e{power + 1}")


# --- scores on the valid rows


def question(task, codes, valid, classes=2):
    asked = Target("f", tuple(map(str, range(classes))), codes, np.arange(40), np.array(valid), task=task)
    return TargetHeads(asked)


def with_heads(question, rng, count, features):
    """Give every answer of a question some heads with random parameters."""
    for place, answers in enumerate(question.answers):
        question.heads[place] = [
            Head(
                answers, 10.0**-k, 1e-4, torch.from_numpy(rng.standard_normal((answers.columns, features))),
                torch.from_numpy(rng.standard_normal(answers.columns)),
            )
            for k in range(count)
        ]  # fmt: skip
    return question


@pytest.mark.parametrize("logits_at_once", [1 << 21, 1])
@pytest.mark.parametrize("at_once", [7, 10_000])
def test_scores_are_those_of_scikit_learn(monkeypatch, logits_at_once, at_once):
    monkeypatch.setattr(path, "_LOGITS_AT_ONCE", logits_at_once)
    rng = np.random.default_rng(0)
    X = (3 + 2 * rng.standard_normal((400, 3))).astype(np.float32)
    three, two = rng.integers(3, size=400), rng.integers(2, size=400)
    labels, number = rng.integers(2, size=(400, 2)), 50 + 9 * rng.standard_normal(400)
    train, valid = np.arange(40), np.arange(40, 400)
    scale = Standardiser(ArrayMatrix(X), train)
    axes = Axes(Held(torch.from_numpy(scale(X[train]))), 0.0)
    questions = [
        question("classes", three, valid, 3), question("classes", two, valid[::2]),
        question("multilabel", labels, valid), question("number", number, valid, 0),
    ]  # fmt: skip
    for one in questions:
        with_heads(one, rng, 3, 3)
    found = score_on_valid(questions, ArrayMatrix(X), axes, scale, at_once)
    for one, answers in zip(questions, found, strict=True):
        rows = one.target.valid
        for place, (heads, got) in enumerate(zip(one.heads, answers, strict=True)):
            for k, head in enumerate(heads):
                W, b = axes.back(head.weights).numpy(), head.bias.numpy()
                Z = scale(X[rows]).astype(np.float64) @ W.T + b
                codes = one.target.codes[rows]
                if one.target.task == "number":
                    mean, deviation = number[train].mean(), number[train].std()
                    loss = error = mean_squared_error((codes - mean) / deviation, Z[:, 0])
                    spread = np.std(((codes - mean) / deviation - Z[:, 0]) ** 2) / np.sqrt(len(rows) - 1)
                else:
                    y = codes[:, place] if one.target.task == "multilabel" else codes
                    P = (
                        np.exp(log_softmax(Z, axis=1))
                        if Z.shape[1] > 1
                        else np.stack([expit(-Z[:, 0]), expit(Z[:, 0])], 1)
                    )
                    loss, error = log_loss(y, P), (P.argmax(axis=1) != y).mean()
                    spread = np.std(-np.log(P[np.arange(len(y)), y])) / np.sqrt(len(rows) - 1)
                assert got.loss[k] == pytest.approx(loss, rel=1e-4)
                assert got.error[k] == pytest.approx(error)
                assert got.loss_spread[k] == pytest.approx(spread, rel=1e-3)
                if one.target.task != "number":
                    assert got.error_spread[k] == pytest.approx(
                        np.sqrt(error * (1 - error) / (len(rows) - 1)), rel=1e-6
                    )


def test_the_points_of_yes_no_labels_are_means_over_those_that_tried_them():
    rng = np.random.default_rng(0)
    one = with_heads(question("multilabel", rng.integers(2, size=(60, 2)), np.arange(40, 60)), rng, 2, 3)
    extra = Head(
        one.answers[1], 0.01 / 2, 1e-4, torch.zeros(1, 3), torch.zeros(1), objective=0.3, gap=0.5, reason="far"
    )
    for heads in one.heads:
        for k, head in enumerate(heads):
            head.penalty, head.objective, head.gap = 10.0**-k / 2, 0.5 + k, 1e-6
    one.heads[1].append(extra)
    choices = [
        choose(one.heads[0], scores([1, 2]), "cross_entropy", one_standard_error=False),
        choose(one.heads[1], scores([3, 5, 4]), "cross_entropy", one_standard_error=False),
    ]
    points = path_points(one, choices)
    assert [point.penalty for point in points] == [1.0, 0.1, 0.01]
    assert [point.valid_loss for point in points] == [2.0, 3.5, 4.0]
    assert [point.status for point in points] == ["proven", "proven", "missed"]
    assert points[2].gap == 0.5
    assert points[0].objective == 0.5
