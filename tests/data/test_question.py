"""The opened data, their labels, splits and targets together."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from probekit.components import Dataset, Examples, LabelFactor, Labels
from probekit.data import question as question_module
from probekit.data.arrays import ArraysDataset, DigitsDataset
from probekit.data.factors import BinsFactor, ColumnFactor, GroupFactor
from probekit.data.question import Asked, Question, ask
from probekit.errors import InputError, ProbekitWarning, Problem
from probekit.results import GraphRecord, RunResult
from probekit.spec import Spec
from probekit.spec.rows import Rows
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
    asked = Asked(spec(DigitsDataset(), {"class": ColumnFactor()}, Splits()), examples, found, arrays, rows)
    return asked.question()


def digests(asked: Question) -> list[bytes]:
    return asked.examples.digests(asked.rows)


def spec(data: Any, labels: dict[str, Any], splits: Splits, rows: Rows | None = None) -> Spec:
    return Spec(probekit=1, name="x", data=data, labels=labels, splits=splits, rows=rows or Rows(), reports=[])


def holding(examples: Examples) -> Dataset:
    """Return a dataset that opens as these examples."""

    class Held(Dataset):
        kind: Literal["held"] = "held"

        def open(self) -> Examples:
            return examples

    return Held()


# --- what is asked


def test_digits_are_asked_as_scikit_learn_holds_them() -> None:
    truth = sklearn.datasets.load_digits().target
    groups = {"even": "0, 2, 4, 6, 8", "odd": "1, 3, 5, 7, 9"}
    splits = Splits(column="half", train="even", valid=ShareOf(of="odd", share=0.3), test="odd")
    factors: dict[str, LabelFactor] = {"digit": ColumnFactor(), "parity": GroupFactor(groups=groups)}
    asked = ask(spec(DigitsDataset(), factors, splits)).question()
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
    asked = ask(spec(DigitsDataset(), {"digit": ColumnFactor()}, splits)).question()
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
    assert asked.within("test", target).tolist() == [0, 6]


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
        "task": "classes",
        "classes": ["a", "b"],
        "rows": {name: sum(count) for name, count in [*expected.items(), ("test", expected["one"])]},
        "counts": {**expected, "test": expected["one"]},
        "baseline": pytest.approx({**errors, "test": errors["one"]}),
    }


def test_a_later_test_split_of_the_name_test_keeps_its_own_facts() -> None:
    asked = question("x" * 10, "ababbbaaab", train=[0, 1], valid=[2, 3], easy=[4, 5, 6], test=[7, 8, 9])
    facts = asked.label_facts(asked.targets[0])
    assert facts["rows"] == {"train": 2, "valid": 2, "easy": 3, "test": 3}
    assert facts["counts"] == {"train": [1, 1], "valid": [1, 1], "easy": [1, 2], "test": [2, 1]}
    assert facts["baseline"] == pytest.approx({"train": 1 / 2, "valid": 1 / 2, "easy": 2 / 3, "test": 1 / 3})
    made = RunResult(
        name="n", probes=[], model=[], graph=GraphRecord(taps=[], edges=[]), provenance={"labels": {"class": facts}}
    )
    assert made.baseline("class") == facts["baseline"]["easy"]
    assert made.baseline("class", "test") == pytest.approx(1 / 3)
    assert made.test_rows("class") == 3


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
    asked = question("abcdefa", "abababb", train=[0, 1], valid=[2, 3], test=[4, 5])
    assert asked.rows.tolist() == [0, 1, 2, 3, 4, 5]
    asked.refuse_duplicates(digests(asked), allow=False)


def test_contents_are_compared_by_value_and_dtype() -> None:
    one = Examples({"id": np.arange(3)}, {"image": np.array([1, 1, 2])})
    two = Examples({"id": np.arange(3)}, {"image": np.array([1.0, 1.0, 2.0])})
    rows = np.arange(3)
    first, second, third = one.digests(rows)
    assert first == second != third
    assert first not in two.digests(rows)


def test_contents_are_told_apart_by_the_input_that_they_stand_in() -> None:
    values = np.array([[1, 2]])
    names = [{"a": values}, {"b": values}, {"a": values, "b": values}, {"a": values[:, :1], "b": values[:, 1:]}]
    assert len({Examples({"id": np.arange(1)}, inputs).digests(np.arange(1))[0] for inputs in names}) == 4


def test_a_digest_is_of_the_row_whichever_rows_it_is_read_with() -> None:
    examples = Examples({"id": np.arange(4)}, {"text": np.array(["a", "b", "a", None], dtype=object)})
    a, b, again, nothing = examples.digests(np.arange(4))
    assert a == again
    assert examples.digests(np.array([3, 1, 1])) == [nothing, b, b]
    assert {len(one) for one in (a, b, nothing)} == {16}


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


# --- examples that could not be read


def asked_of(content: str, labels: str, **parts: list[int]) -> Asked:
    """Return what is asked of examples with a letter of content and one of label each."""
    examples = Examples(
        {"id": np.arange(len(content)), "label": np.array(list(labels))}, {"x": np.array(list(content))}
    )
    found = {"class": Labels.of(list(labels))}
    arrays = {name: np.array(rows) for name, rows in parts.items()}
    rows = np.unique(np.concatenate(list(arrays.values())))
    return Asked(spec(holding(examples), {"class": ColumnFactor()}, Splits()), examples, found, arrays, rows)


def test_an_example_without_a_feature_row_is_in_no_split() -> None:
    asked = asked_of("abcdefghi", "ababababa", train=[0, 1, 2, 7], valid=[3, 4], test=[5, 6, 8])
    found = asked.question(np.array([1, 1, 0, 1, 1, 1, 0, 1, 1]))
    assert {name: part.tolist() for name, part in found.parts.items()} == {
        "train": [0, 1, 7],
        "valid": [3, 4],
        "test": [5, 8],
    }
    # Feature rows close up: those of the examples 0, 1, 3, 4, 5, 7 and 8.
    assert found.owners.tolist() == [0, 1, 3, 4, 5, 7, 8]
    assert {name: part.tolist() for name, part in found.places.items()} == {
        "train": [0, 1, 5],
        "valid": [2, 3],
        "test": [4, 6],
    }
    (target,) = found.targets
    assert [target.classes[code] for code in target.codes] == ["a", "b", "b", "a", "b", "b", "a"]
    assert (target.train.tolist(), target.valid.tolist()) == ([0, 1, 5], [2, 3])
    assert found.column("id").tolist() == [0, 1, 3, 4, 5, 7, 8]


def test_a_split_of_which_no_example_can_be_read_is_refused(refused: Refused) -> None:
    asked = asked_of("abcdef", "ababab", train=[0, 1], valid=[2, 3], test=[4, 5])
    counts = np.array([1, 1, 0, 0, 1, 1])
    what = "splits: no example of 'valid' has a row of features: none can be read, or none has a position"
    assert refused(lambda: asked.question(counts)) == [("PK-L13", what)]


def test_a_class_whose_training_examples_cannot_be_read_is_refused(refused: Refused) -> None:
    asked = asked_of("abcdefgh", "abcababc", train=[0, 1, 2], valid=[3, 4], test=[5, 6, 7])
    message = "labels.class: 1 classes of 'test' are not in train: 'c' (1 examples); use splits.stratify, or more"
    (problem,) = refused(lambda: asked.question(np.array([1, 1, 0, 1, 1, 1, 1, 1])))
    assert problem == ("PK-L02", f"{message} training examples")


def test_an_example_that_cannot_be_read_leaks_nothing() -> None:
    asked = asked_of("abcdefa", "abababb", train=[0, 1], valid=[2, 3], test=[4, 5, 6])
    found = asked.question(np.array([1, 1, 1, 1, 1, 1, 0]))
    found.refuse_duplicates(found.examples.digests(found.rows), allow=False)


# --- one feature row per position


TOKENS = np.array([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8], [9, 7, 9, 3], [2, 3, 8, 4], [6, 2, 6, 4]])
KEPT = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]])
COLUMNS = {
    "id": np.array(list("abcdef")),
    "label": np.array(["x", "y", "x", "y", "x", "y"]),
    "part": np.array(["train", "train", "valid", "valid", "test", "test"]),
}
BY_PART = Splits(column="part", valid="valid")


def per_position(
    *, factors: dict[str, LabelFactor] | None = None, splits: Splits = BY_PART, inputs: dict[str, Any] | None = None
) -> Asked:
    examples = Examples(COLUMNS, inputs if inputs is not None else {"tokens": TOKENS, "large": TOKENS > 4})
    rows = Rows(per="position", mask="kept")
    return ask(spec(holding(examples), factors or {"large": ColumnFactor(column="large")}, splits, rows))


def counted(kept: npt.NDArray[np.int64] = KEPT) -> tuple[Any, Any]:
    """Return the feature rows of each example and the position of each."""
    return kept.sum(axis=1), np.concatenate([np.flatnonzero(row) for row in kept])


def places_of(kept: npt.NDArray[np.int64] = KEPT) -> list[tuple[int, int]]:
    """Return (example, position) of each feature row."""
    return [(n, t) for n in range(len(kept)) for t in range(kept.shape[1]) if kept[n, t]]


def named(found: Question, factor: str) -> list[str]:
    target = next(one for one in found.targets if one.factor == factor)
    return [target.classes[code] for code in target.codes]


def test_labels_come_per_position_from_an_input_of_examples_by_positions() -> None:
    asked = per_position()
    assert asked.labels == {}
    found = asked.question(*counted())
    assert named(found, "large") == ["true" if TOKENS[place] > 4 else "false" for place in places_of()]


@settings(deadline=None, max_examples=30)
@given(data=st.data(), at_once=st.integers(1, 4))
def test_the_label_of_a_position_is_the_value_at_its_example_and_position(data: st.DataObject, at_once: int) -> None:
    values, kept = (
        np.array(data.draw(st.lists(st.integers(0, 1), min_size=24, max_size=24))).reshape(6, 4) for _ in range(2)
    )
    # Both classes are in train and test, and every split has a row.
    values[[0, 1, 5, 5], [0, 0, 0, 1]], kept[:, 0], kept[5, 1] = [0, 1, 0, 1], 1, 1
    asked = per_position(factors={"v": ColumnFactor(column="v")}, inputs={"v": values})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(question_module, "_ROWS_AT_ONCE", at_once)
        found = asked.question(*counted(kept))
    assert named(found, "v") == [str(values[place]) for place in places_of(kept)]


def test_the_splits_of_positions_are_those_of_their_examples() -> None:
    found = per_position().question(*counted())
    split = [COLUMNS["part"][example] for example, _ in places_of()]
    for name, places in found.places.items():
        assert places.tolist() == [row for row, part in enumerate(split) if part == name]
    assert found.positions is not None
    assert found.positions.tolist() == [position for _, position in places_of()]
    assert found.owners.tolist() == [example for example, _ in places_of()]


def test_a_factor_of_whole_examples_is_repeated_at_their_positions() -> None:
    asked = per_position(factors={"large": ColumnFactor(column="large"), "label": ColumnFactor()})
    found = asked.question(*counted())
    assert list(found.labels) == ["large", "label"]
    assert named(found, "label") == [COLUMNS["label"][example] for example, _ in places_of()]
    assert found.column("id").tolist() == [COLUMNS["id"][example] for example, _ in places_of()]


def test_the_position_is_a_column_itself() -> None:
    factors: dict[str, LabelFactor] = {"early": BinsFactor(column="position", edges=[1.0])}
    found = per_position(factors=factors).question(*counted())
    codes = found.labels["early"].codes
    assert [int(code) for code in codes] == [int(position >= 1) for _, position in places_of()]


def test_examples_that_could_not_be_read_are_not_read_for_labels() -> None:
    class Damaged(Examples):
        def read(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
            if 3 in rows:
                raise InputError(Problem("PK-L18", "1 of 1 images cannot be decoded"))
            return super().read(rows)

    examples = Damaged(COLUMNS, {"large": TOKENS > 4})
    rows = Rows(per="position", mask="kept")
    asked = ask(spec(holding(examples), {"large": ColumnFactor(column="large")}, BY_PART, rows))
    kept = KEPT.copy()
    kept[3] = 0
    found = asked.question(*counted(kept))
    assert named(found, "large") == ["true" if TOKENS[place] > 4 else "false" for place in places_of(kept)]


def test_an_input_with_fewer_positions_than_the_mask_is_no_column(refused: Refused) -> None:
    asked = per_position(factors={"v": ColumnFactor(column="short")}, inputs={"tokens": TOKENS, "short": TOKENS[:, :3]})
    known = "columns: id, label, part, position, tokens"
    assert refused(lambda: asked.question(*counted())) == [("PK-L16", f"labels.v: no column 'short'; {known}")]


def test_a_column_that_nobody_has_is_refused_once_positions_are_known(refused: Refused) -> None:
    asked = per_position(factors={"v": ColumnFactor(column="largee")})
    message = "labels.v: no column 'largee'; did you mean 'large'?"
    assert refused(lambda: asked.question(*counted())) == [("PK-L16", message)]


def test_examples_cannot_be_split_by_a_label_per_position(refused: Refused) -> None:
    message = "splits.stratify: the factor 'large' has a label per position; examples cannot be split by it; "
    assert refused(lambda: per_position(splits=Splits(stratify="large"))) == [
        ("PK-L16", f"{message}stratify by a factor of whole examples")
    ]


def test_the_same_content_with_other_labels_at_its_positions_is_fine() -> None:
    inputs = {"tokens": np.array([[1, 1, 1, 1]] * 2 + [[2, 3, 2, 3]] * 2 + [[4, 4, 4, 4]] * 2)}
    factors: dict[str, LabelFactor] = {"early": BinsFactor(column="position", edges=[1.0])}
    found = per_position(factors=factors, inputs=inputs).question(*counted())
    found.refuse_duplicates(digests(found), allow=False)


def test_the_same_content_in_two_splits_is_refused_where_rows_are_positions_too(refused: Refused) -> None:
    inputs = {"tokens": np.array([[1, 1, 1, 1]] * 3 + [[2, 3, 2, 3]] + [[4, 4, 4, 4]] * 2)}
    factors: dict[str, LabelFactor] = {"early": BinsFactor(column="position", edges=[1.0])}
    found = per_position(factors=factors, inputs=inputs).question(*counted())
    message = f"splits: 1 times the same content in 'train' and 'valid': 'c'; {MEND}"
    assert refused(lambda: found.refuse_duplicates(digests(found), allow=False)) == [("PK-L10", message)]


def test_a_group_of_rows_that_is_no_column_is_refused_before_anything_is_extracted(refused: Refused) -> None:
    examples = Examples(COLUMNS, {"tokens": TOKENS})
    asked = spec(holding(examples), {"label": ColumnFactor()}, BY_PART, Rows(group="idd"))
    message = "rows.group: no column 'idd'; did you mean 'id'?"
    assert refused(lambda: ask(asked)) == [("PK-L16", message)]
