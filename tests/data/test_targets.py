"""From label factors and splits to what the probes are asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from probekit.components import LabelFactor, Labels, Target
from probekit.data.factors import BinsFactor, ColumnFactor, TableFactor
from probekit.data.targets import make_targets, read_labels
from probekit.errors import ProbekitWarning

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]


def columns(**values: Any) -> dict[str, Any]:
    arrays = {name: np.array(value, dtype=object) for name, value in values.items()}
    count = len(next(iter(arrays.values())))
    return {"id": np.array([f"x{n}" for n in range(count)]), **arrays}


class Short(LabelFactor):
    """A factor that labels too few examples."""

    kind: str = "short"

    def label(self, columns: Any) -> Labels:
        """Label three examples."""
        return Labels(("a", "b"), np.array([0, 1, 0]))


# --- labels of all examples


def test_every_factor_is_read() -> None:
    factors = {"class": ColumnFactor(), "size": BinsFactor(column="bytes", edges=[5.0])}
    labels = read_labels(factors, columns(label=["a", "b", "a"], bytes=["1", "9", "5"]))
    assert list(labels) == ["class", "size"]
    assert labels["class"].codes.tolist() == [0, 1, 0]
    assert labels["size"].codes.tolist() == [0, 1, 1]


def test_one_class_only_is_refused(refused: Refused) -> None:
    message = "labels.class: needs two classes or more, got 'cat'"
    factors = {"class": ColumnFactor()}
    assert refused(lambda: read_labels(factors, columns(label=["cat", "cat"]))) == [("PK-L01", message)]


def test_no_class_at_all_is_refused(refused: Refused) -> None:
    message = "labels.class: needs two classes or more, got none"
    factors = {"class": ColumnFactor(missing="drop")}
    assert refused(lambda: read_labels(factors, columns(label=["", None]))) == [("PK-L01", message)]


def test_another_number_of_labels_is_refused(refused: Refused) -> None:
    message = "labels.class: 3 labels for 4 examples; nothing is aligned"
    given = columns(label=["a", "b", "a", "b"])
    assert refused(lambda: read_labels({"class": Short()}, given)) == [("PK-L04", message)]


@pytest.mark.parametrize("empty", ["", None, float("nan")])
def test_missing_labels_are_counted_and_the_first_five_named(refused: Refused, empty: Any) -> None:
    given = columns(label=["a", *[empty] * 7, "b", "a"])
    message = (
        "labels.class: 7 of 10 examples have no label, the first: 'x1', 'x2', 'x3', 'x4', 'x5'; "
        "mend them, or set missing: drop"
    )
    assert refused(lambda: read_labels({"class": ColumnFactor()}, given)) == [("PK-L06", message)]


def test_ids_that_a_table_lacks_are_counted_and_the_first_five_named(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,label\nx0,a\nx1,b\n")
    message = (
        "labels.class: 6 of 8 examples have no label, the first: 'x2', 'x3', 'x4', 'x5', 'x6'; "
        "mend them, or set missing: drop"
    )
    factors = {"class": TableFactor(path=str(path))}
    assert refused(lambda: read_labels(factors, columns(label=["a"] * 8))) == [("PK-L06", message)]


def test_missing_labels_may_be_dropped() -> None:
    labels = read_labels({"class": ColumnFactor(missing="drop")}, columns(label=["a", "", "b"]))
    assert labels["class"].codes.tolist() == [0, -1, 1]


def test_the_faults_of_all_factors_are_told_at_once(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,label\nx0,a\nx0,b\n")
    factors = {
        "one": ColumnFactor(column="same"),
        "two": ColumnFactor(column="lbel"),
        "three": TableFactor(path=str(path)),
        "four": ColumnFactor(column="holes"),
        "fine": ColumnFactor(),
    }
    given = columns(label=["a", "b"], same=["a", "a"], holes=["", "a"])
    assert refused(lambda: read_labels(factors, given)) == [
        ("PK-L01", "labels.one: needs two classes or more, got 'a'"),
        ("PK-L16", "labels.two: no column 'lbel'; did you mean 'label'?"),
        ("PK-L05", f"{path}: labels.three: 1 ids stand more than once: 'x0'"),
        (
            "PK-L06",
            "labels.four: 1 of 2 examples have no label, the first: 'x0'; mend them, or set missing: drop",
        ),
        ("PK-L01", "labels.four: needs two classes or more, got 'a'"),
    ]


# --- targets


def labels_of(codes: list[int], classes: str = "abcdefg") -> Labels:
    return Labels(tuple(classes[: max(codes) + 1]), np.array(codes))


def targets(codes: list[int], **parts: list[int]) -> list[Target]:
    arrays = {name: np.array(part) for name, part in parts.items()}
    rows = np.unique(np.concatenate(list(arrays.values())))
    return make_targets({"class": labels_of(codes)}, arrays, rows, seed=5)


def test_rows_of_a_target_count_within_the_rows_that_have_features() -> None:
    codes = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    (target,) = targets(codes, train=[1, 4, 8], valid=[2, 9], test=[0, 3])
    # Features are made of the rows 0, 1, 2, 3, 4, 8, 9.
    assert target.codes.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert (target.train.tolist(), target.valid.tolist()) == ([1, 4, 5], [2, 6])
    assert (target.factor, target.classes, target.control, target.seed) == ("class", ("a", "b"), None, 5)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(30, 80))
def test_a_target_has_the_labels_of_its_rows(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    codes = [*([0, 1] * 15), *rng.integers(-1, 2, count).tolist()]
    order = rng.permutation(len(codes))
    used = np.sort(order[: len(codes) - 10])
    cut = len(used) // 3
    drawn = rng.permutation(used)
    parts = {"train": drawn[:cut], "valid": drawn[cut : 2 * cut], "test": drawn[2 * cut :]}
    for part in parts.values():
        part[:] = np.sort(part)
    assume(all(len(set(np.array(codes)[part]) - {-1}) == 2 for part in parts.values()))
    (target,) = make_targets({"class": labels_of(codes)}, parts, used, seed=0)
    for name, rows in (("train", target.train), ("valid", target.valid)):
        whole = [codes[row] for row in parts[name]]
        assert [codes[used[row]] for row in rows] == [code for code in whole if code >= 0]
        assert target.codes[rows].tolist() == [code for code in whole if code >= 0]


def test_a_class_that_train_lacks_is_counted_and_named(refused: Refused) -> None:
    codes = [0, 1, 0, 1, 2, 2, 3, 0, 1, 2]
    action = lambda: targets(codes, train=[0, 1, 2], valid=[3, 4], test=[5, 6, 7, 8, 9])  # noqa: E731
    hint = "use splits.stratify, or more training examples"
    assert refused(action) == [
        ("PK-L02", f"labels.class: 1 classes of 'valid' are not in train: 'c' (1 examples); {hint}"),
        ("PK-L02", f"labels.class: 2 classes of 'test' are not in train: 'c', 'd' (3 examples); {hint}"),
    ]


def test_a_class_that_a_test_split_lacks_is_told() -> None:
    codes = [0, 1, 2, 0, 1, 2, 0, 1, 2]
    with pytest.warns(ProbekitWarning) as caught:
        (target,) = targets(codes, train=[0, 1, 2], valid=[3], easy=[4, 5], hard=[6, 7, 8])
    assert [str(warning.message) for warning in caught] == ["labels.class: 1 classes are not in 'easy': 'a'"]
    assert target.classes == ("a", "b", "c")


def test_a_class_that_neither_train_nor_a_test_split_has_is_not_told() -> None:
    codes = [0, 1, 0, 0, 1, 2]
    (target,) = targets(codes, train=[0, 1], valid=[2], test=[3, 4])
    assert target.classes == ("a", "b", "c")


def test_one_class_in_the_training_split_is_refused(refused: Refused) -> None:
    message = "labels.class: one class only in the training split"
    codes = [0, 0, 1, 0, 1]
    assert refused(lambda: targets(codes, train=[0, 1], valid=[2], test=[3, 4])) == [("PK-L01", message)]


def test_splits_without_labelled_examples_are_refused(refused: Refused) -> None:
    message = "labels.class: no labelled example in 'valid', 'test'"
    codes = [0, 1, -1, -1, -1]
    assert refused(lambda: targets(codes, train=[0, 1, 2], valid=[3], test=[4])) == [("PK-L13", message)]


def test_the_faults_of_all_targets_are_told_at_once(refused: Refused) -> None:
    parts = {"train": np.array([0, 1]), "valid": np.array([2]), "test": np.array([3])}
    labels = {"one": labels_of([0, 0, 1, 0]), "two": labels_of([0, 1, -1, 0]), "three": labels_of([0, 1, 1, 2])}
    hint = "use splits.stratify, or more training examples"
    with pytest.warns(ProbekitWarning, match="labels.three: 2 classes are not in 'test': 'a', 'b'"):
        problems = refused(lambda: make_targets(labels, parts, np.arange(4), seed=0))
    assert problems == [
        ("PK-L01", "labels.one: one class only in the training split"),
        ("PK-L13", "labels.two: no labelled example in 'valid'"),
        ("PK-L02", f"labels.three: 1 classes of 'test' are not in train: 'c' (1 examples); {hint}"),
    ]
