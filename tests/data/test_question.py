"""The opened data, their labels, splits and targets together."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from sklearn.dummy import DummyClassifier

from probekit.components import Examples, Labels
from probekit.data.arrays import ArraysDataset, DigitsDataset
from probekit.data.factors import ColumnFactor, GroupFactor
from probekit.data.question import Question, ask
from probekit.data.targets import make_targets
from probekit.errors import ProbekitWarning
from probekit.spec import Spec
from probekit.spec.splits import ShareOf, Splits

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]
MEND = "mend the data, or set splits.allow_leakage: true"


def question(content: str, labels: str, **parts: list[int]) -> Question:
    """Return a question about examples with a letter of content and one of label each, ``-`` for no label."""
    values = np.array(list(content))
    examples = Examples({"id": np.array([f"x{n}" for n in range(len(content))])}, {"image": values})
    names = sorted(set(labels) - {"-"})
    found = {"class": Labels(tuple(names), np.array([names.index(c) if c != "-" else -1 for c in labels]))}
    arrays = {name: np.array(rows) for name, rows in parts.items()}
    rows = np.unique(np.concatenate(list(arrays.values())))
    return Question(examples, found, arrays, rows, make_targets(found, arrays, rows, seed=0))


def digests(asked: Question) -> list[bytes]:
    return asked.examples.row_digests(asked.examples.read(asked.rows))


def spec(data: Any, labels: dict[str, Any], splits: Splits) -> Spec:
    return Spec(probekit=1, name="x", data=data, labels=labels, splits=splits, reports=[])


# --- what is asked


def test_digits_are_asked_as_scikit_learn_holds_them() -> None:
    truth = sklearn.datasets.load_digits().target
    groups = {"even": "0, 2, 4, 6, 8", "odd": "1, 3, 5, 7, 9"}
    splits = Splits(column="half", train="even", valid=ShareOf(of="odd", share=0.3), test="odd")
    asked = ask(spec(DigitsDataset(), {"digit": ColumnFactor(), "parity": GroupFactor(groups=groups)}, splits))
    assert asked.rows.tolist() == list(range(1797))
    assert asked.parts["train"].tolist() == list(range(0, 1797, 2))
    assert sorted([*asked.parts["valid"].tolist(), *asked.parts["test"].tolist()]) == list(range(1, 1797, 2))
    assert len(asked.parts["valid"]) == round(0.3 * 898)
    digit, parity = asked.targets
    assert digit.classes == tuple(map(str, range(10)))
    assert digit.codes.tolist() == truth.tolist()
    assert parity.classes == ("even", "odd")
    assert parity.codes.tolist() == (truth % 2).tolist()


def test_only_rows_of_a_split_are_asked_about() -> None:
    splits = Splits(train=0.3, valid=0.1, test=0.1, stratify="digit", seed=4)
    asked = ask(spec(DigitsDataset(), {"digit": ColumnFactor()}, splits))
    assert len(asked.rows) == sum(len(part) for part in asked.parts.values()) == 539 + 180 + 180
    truth = sklearn.datasets.load_digits().target
    (target,) = asked.targets
    assert target.codes.tolist() == truth[asked.rows].tolist()
    assert asked.rows[target.train].tolist() == asked.parts["train"].tolist()
    assert asked.rows[target.valid].tolist() == asked.parts["valid"].tolist()
    assert asked.rows[asked.within("test", target)].tolist() == asked.parts["test"].tolist()


def test_labels_of_another_number_than_the_examples_are_refused(tmp_path: Path, refused: Refused) -> None:
    np.save(tmp_path / "x.npy", np.zeros((50, 2)))
    (tmp_path / "x.csv").write_text("label\n" + "a\nb\n" * 24 + "a\n")
    data = ArraysDataset(arrays=str(tmp_path / "x.npy"), columns=str(tmp_path / "x.csv"))
    message = "array 'input' has 50 examples, column 'label' has 49; nothing is aligned"
    assert refused(lambda: ask(spec(data, {"class": ColumnFactor()}, Splits()))) == [("PK-L04", message)]


# --- what a split holds


def test_rows_of_a_split_without_a_label_are_left_out() -> None:
    asked = question("abcdefgh", "ab-abab-", train=[1, 3, 4], valid=[2, 5], test=[6, 7, 0])
    (target,) = asked.targets
    # All eight rows have features.
    assert asked.within("valid", target).tolist() == [5]
    assert asked.within("test", target).tolist() == [6, 0]


def test_the_baseline_is_scikit_learns_most_frequent_class() -> None:
    labels = "aabbbbccab" * 3
    train, valid, easy, hard = list(range(10)), list(range(10, 16)), list(range(16, 26)), [26, 27, 28]
    with pytest.warns(ProbekitWarning, match="labels.class: 1 classes are not in 'hard': 'b'"):
        asked = question("x" * 30, labels, train=train, valid=valid, easy=easy, hard=hard)
    (target,) = asked.targets
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((10, 1)), list(labels[:10]))
    expected = {
        name: 1 - dummy.score(np.zeros((len(rows), 1)), [labels[row] for row in rows])
        for name, rows in {"train": train, "valid": valid, "easy": easy, "hard": hard}.items()
    }
    assert asked.baseline(target) == pytest.approx(expected)
    assert asked.first_test() == "easy"
    assert asked.headline(expected) == {
        "train": expected["train"],
        "valid": expected["valid"],
        "test": expected["easy"],
    }


def test_the_facts_of_labels_are_counts_by_split() -> None:
    labels = "aab" * 4 + "-b"
    parts = {"train": [0, 1, 2, 3, 4], "valid": [5, 6], "one": [7, 8, 12], "two": [9, 11, 13]}
    asked = question("x" * 14, labels, **parts)
    counts = {name: Counter(labels[row] for row in rows) for name, rows in parts.items()}
    expected = {name: [count["a"], count["b"]] for name, count in counts.items()}
    errors = {name: b / (a + b) for name, (a, b) in expected.items()}
    assert asked.label_facts(asked.targets[0]) == {
        "classes": ["a", "b"],
        "counts": {**expected, "test": expected["one"]},
        "baseline": pytest.approx({**errors, "test": errors["one"]}),
    }


# --- L10: one content in two splits


def test_one_content_in_two_splits_is_refused(refused: Refused) -> None:
    asked = question("abcdeafb", "ababbaab", train=[0, 1, 2], valid=[3, 4], test=[5, 6, 7])
    message = f"splits: 2 times the same content in 'train' and 'test': 'x5', 'x7'; {MEND}"
    assert refused(lambda: asked.refuse_duplicates(digests(asked), allow=False)) == [("PK-L10", message)]


def test_one_content_in_two_splits_is_told_of_where_leakage_is_allowed() -> None:
    asked = question("abcdeafb", "ababbaab", train=[0, 1, 2], valid=[3, 4], test=[5, 6, 7])
    with pytest.warns(ProbekitWarning) as caught:
        asked.refuse_duplicates(digests(asked), allow=True)
    assert [str(warning.message) for warning in caught] == [
        "leakage allowed: 2 times the same content in 'train' and 'test'"
    ]


def test_one_content_twice_in_one_split_is_fine() -> None:
    asked = question("aabbcdee", "aabbabaa", train=[0, 1, 2, 3], valid=[4], test=[5, 6, 7])
    asked.refuse_duplicates(digests(asked), allow=False)


def test_rows_in_no_split_are_not_compared() -> None:
    asked = question("abcdea", "ababab", train=[0, 1], valid=[2, 3], test=[4, 1])
    parts = {name: rows for name, rows in asked.parts.items() if name != "test"} | {"test": np.array([4])}
    without = Question(asked.examples, asked.labels, parts, np.arange(5), asked.targets)
    without.refuse_duplicates(digests(without), allow=False)


def test_contents_are_compared_by_value_and_dtype() -> None:
    one = Examples({"id": np.arange(3)}, {"image": np.array([1, 1, 2])})
    two = Examples({"id": np.arange(3)}, {"image": np.array([1.0, 1.0, 2.0])})
    rows = np.arange(3)
    first, second, third = one.row_digests(one.read(rows))
    assert first == second != third
    assert first not in two.row_digests(two.read(rows))


# --- L12: one content with two labels


def test_one_content_with_two_labels_is_refused(refused: Refused) -> None:
    asked = question("aabbccddef", "ababaabbab", train=[0, 1, 2, 3], valid=[4, 5], test=[6, 7, 8, 9])
    message = (
        f"labels.class: 2 examples have the content of another with another label: 'x0 and x1', 'x2 and x3'; {MEND}"
    )
    assert refused(lambda: asked.refuse_duplicates(digests(asked), allow=False)) == [("PK-L12", message)]


def test_one_content_with_two_labels_is_told_of_where_leakage_is_allowed() -> None:
    asked = question("aabbccddef", "ababaabbab", train=[0, 1, 2, 3], valid=[4, 5], test=[6, 7, 8, 9])
    with pytest.warns(ProbekitWarning) as caught:
        asked.refuse_duplicates(digests(asked), allow=True)
    assert [str(warning.message) for warning in caught] == [
        "labels.class: 2 examples have the content of another with another label: 'x0 and x1', 'x2 and x3'"
    ]


def test_one_content_with_a_label_and_without_one_is_fine() -> None:
    asked = question("aabcdef", "a-babab", train=[0, 1, 2], valid=[3, 4], test=[5, 6])
    asked.refuse_duplicates(digests(asked), allow=False)
