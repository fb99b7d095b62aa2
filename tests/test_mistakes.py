"""What probes get wrong, against scikit-learn's confusion matrix and statsmodels' intervals."""

import csv
import doctest
import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from statsmodels.stats.proportion import proportion_confint

from probekit import mistakes
from probekit.mistakes import MOST, confusion_lines, with_mistakes, write_confusions
from probekit.predictions import Predictions, label_name
from probekit.results import CertificateRecord, GraphRecord, LabelResult, ProbeIdentity, ProbeResult, RunResult


def made_probe(tap="a", *, task="classes", **changes):
    metric = "r2" if task == "number" else "error"
    fields = {
        "model": "m", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": "f", "probe": "p",
        "control": None, "seed": 0, "task": task, "scores": {metric: dict.fromkeys(("train", "valid", "test"), 0.5)},
        "primary": metric, "error": None, "penalty": 0.1, "features_raw": 1, "features_used": 1, "rows": {},
        "certificate": CertificateRecord(status="proven", gap=0.0, of_chance=0.0, of_objective=0.0), "seconds": 0.0,
    }  # fmt: skip
    return ProbeResult(**{**fields, **changes})


def made(codes, probes, *, classes=None, groups=None, splits=None):
    """Return a result and its predictions from pairs of a probe and what it predicts; all rows are test rows."""
    rows = np.arange(len(codes))
    parts = splits or {"train": rows[:0], "valid": rows[:0], "test": rows}
    keys = {
        str(i): {name: getattr(one, name) for name in ProbeIdentity.model_fields} for i, (one, _) in enumerate(probes)
    }
    predicted = {str(i): np.asarray(values) for i, (_, values) in enumerate(probes)}
    losses = {key: np.zeros(values.shape) for key, values in predicted.items()}
    labels = {label_name(one.factor, one.control, one.seed): np.asarray(codes) for one, _ in probes}
    names = classes or [f"c{i}" for i in range(int(np.max(codes, initial=0)) + 1)]
    result = RunResult(
        name="made", probes=[one for one, _ in probes], model=[], graph=GraphRecord(taps=[], edges=[]),
        provenance={"labels": {"f": {"classes": names}}},
    )  # fmt: skip
    return result, Predictions.of(rows, groups, parts, labels, predicted, losses, keys)


def of_one(codes, predicted, **more):
    result, predictions = made(codes, [(made_probe(), predicted)], **more)
    return with_mistakes(result, predictions).probes[0].mistakes


def read(result, predictions):
    return list(csv.DictReader(io.StringIO("".join(confusion_lines(result, predictions)))))


pairs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=120)


def test_examples():
    assert doctest.testmod(mistakes).failed == 0


@given(pairs)
def test_the_file_is_the_confusion_matrix(rows):
    true, predicted = np.array(rows).T
    classes = [f"c{i}" for i in range(8)]
    matrix = confusion_matrix(true, predicted, labels=range(8))
    lines = read(*made(true, [(made_probe(), predicted)], classes=classes))
    found = np.zeros_like(matrix)
    for line in lines:
        place = classes.index(line["true"]), classes.index(line["predicted"])
        found[place] = int(line["count"])
        assert int(line["n"]) == matrix[place[0]].sum()
        assert float(line["share"]) == pytest.approx(matrix[place] / matrix[place[0]].sum(), rel=1e-5)
    assert np.array_equal(found, matrix)
    assert {line["true"] for line in lines if line["true"] == line["predicted"]} == {classes[i] for i in set(true)}
    assert len({(line["true"], line["predicted"]) for line in lines}) == len(lines)


@given(pairs)
def test_the_worst_are_those_of_the_confusion_matrix(rows):
    true, predicted = np.array(rows).T
    told = of_one(true, predicted, classes=[f"c{i}" for i in range(8)])
    matrix = confusion_matrix(true, predicted, labels=range(8))
    sizes, right = matrix.sum(axis=1), np.diag(matrix)
    errors = {f"c{i}": 1 - right[i] / sizes[i] for i in range(8) if sizes[i]}
    wrong = sorted((error for error in errors.values() if error), reverse=True)
    assert [one.error for one in told.worst] == pytest.approx(wrong[:MOST])
    for one in told.worst:
        n = sizes[int(one.name[1:])]
        assert (one.error, one.n) == (pytest.approx(errors[one.name]), n)
        ends = proportion_confint(round(one.error * n), n, method="wilson")
        assert (one.interval.low, one.interval.high) == pytest.approx(ends, abs=1e-12)
        assert (one.interval.kind, one.interval.over, one.interval.n) == ("wilson", "examples", n)
    off = matrix - np.diag(right)
    assert [one.count for one in told.confused] == sorted(off[off > 0].tolist(), reverse=True)[:MOST]
    for one in told.confused:
        place = int(one.true[1:]), int(one.predicted[1:])
        assert place[0] != place[1]
        assert (one.count, one.share) == (matrix[place], pytest.approx(matrix[place] / sizes[place[0]]))
    assert all((a.count, a.share) >= (b.count, b.share) for a, b in pairwise(told.confused))


def test_among_equals_the_class_of_more_rows_comes_first():
    told = of_one([0, 1, 1, 2], [1, 0, 0, 2])
    assert [(one.name, one.error, one.n) for one in told.worst] == [("c1", 1.0, 2), ("c0", 1.0, 1)]
    assert [(one.true, one.predicted, one.count) for one in told.confused] == [("c1", "c0", 2), ("c0", "c1", 1)]


def test_a_probe_without_a_mistake_names_none():
    told = of_one([0, 1, 1], [0, 1, 1])
    assert (told.split, told.worst, told.confused) == ("test", [], [])


def test_ten_thousand_classes_are_no_matrix_of_a_hundred_million():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 10_000, 20_000)
    predicted = np.where(rng.random(20_000) < 0.9, codes, rng.integers(0, 10_000, 20_000))
    result, predictions = made(codes, [(made_probe(), predicted)], classes=[f"c{i}" for i in range(10_000)])
    assert len(with_mistakes(result, predictions).probes[0].model_dump_json()) < 3_000
    lines = read(result, predictions)
    assert len(lines) < 15_000
    assert sum(int(line["count"]) for line in lines) == 20_000


def test_rows_of_a_group_are_drawn_together():
    codes, groups = np.repeat([0, 1], 40), np.repeat(np.arange(20), 4)
    predicted = np.where(groups % 4 == 0, 1 - codes, codes)
    told = of_one(codes, predicted, groups=groups)
    for one in told.worst:
        assert (one.interval.kind, one.interval.over, one.interval.n) == ("percentile_bootstrap", "groups", 10)
        assert one.interval.low < one.error < one.interval.high


@pytest.mark.parametrize(
    ("splits", "split", "errors"),
    [
        ({"train": [0], "valid": [1], "test": [2, 3], "far": [4]}, "test", {"c0": 1, "c1": 0.0}),
        ({"train": [0], "valid": [1, 2], "test": [], "far": [3, 4]}, "valid", {"c1": 1, "c0": 1}),
    ],
)
def test_the_first_test_split_counts_else_valid(splits, split, errors):
    splits = {name: np.array(rows, dtype=int) for name, rows in splits.items()}
    told = of_one([0, 1, 0, 1, 1], [0, 0, 1, 1, 0], splits=splits)
    assert told.split == split
    assert {one.name: one.error for one in told.worst} == {name: value for name, value in errors.items() if value}


def test_rows_without_a_label_do_not_count():
    told = of_one([0, -1, 1, -1], [1, 0, 1, 1])
    assert [(one.name, one.n) for one in told.worst] == [("c0", 1)]
    assert [one.count for one in told.confused] == [1]


def test_only_probes_of_true_labels_are_told():
    codes = [0, 1, 1]
    probes = [(made_probe(), [1, 1, 1]), (made_probe(control="shuffled_labels"), [1, 1, 1])]
    result, predictions = made(codes, probes)
    assert [one.mistakes is None for one in with_mistakes(result, predictions).probes] == [False, True]
    assert len(read(result, predictions)) == 3
    number = made(np.array([0.5, 1.5]), [(made_probe(task="number"), np.array([0.5, 1.0]))], classes=["x"])
    assert with_mistakes(*number) == number[0]
    assert read(*number) == []


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=60))
def test_every_label_has_the_interval_of_its_error(rows):
    codes = np.zeros((len(rows), 3), dtype=int)
    by_label = {name: LabelResult(penalty=1.0, scores={"error": {"test": 0.5}}) for name in "xyz"}
    probe = made_probe(task="multilabel", by_label=by_label)
    result, predictions = made(codes, [(probe, np.array(rows, dtype=int))], classes=list("xyz"))
    (told,) = with_mistakes(result, predictions).probes
    assert told.mistakes is None
    for label, column in zip(told.by_label.values(), np.array(rows).T, strict=True):
        ends = proportion_confint(column.sum(), len(column), method="wilson")
        assert (label.interval().low, label.interval().high) == pytest.approx(ends, abs=1e-12)
        assert (label.penalty, label.scores) == (1.0, {"error": {"test": 0.5}})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), ("\uff1dx", "'\uff1dx"), ("\tx", "'\\u0009x"),
        ('a"b,c\nd', 'a"b,c\\u000ad'), ("\u202ea\x1b", "\\u202ea\\u001b"), ("<script>alert(1)</script>",) * 2,
    ],
)  # fmt: skip
def test_names_are_text_for_spreadsheets_and_terminals(name, shown, tmp_path):
    result, predictions = made([0, 1], [(made_probe(tap=name), [1, 1])], classes=[name, "plain"])
    write_confusions(tmp_path / "confusions.csv", result, predictions)
    with (tmp_path / "confusions.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["tap"], line["true"], line["predicted"]) for line in lines] == [
        (shown, shown, shown), (shown, shown, "plain"), (shown, "plain", "plain"),
    ]  # fmt: skip
    assert [line["count"] for line in lines] == ["0", "1", "1"]
