"""Yes/no labels and numbers from the data to what is asked: targets, splits, baselines, positions."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import r2_score

from probekit.components import Dataset, Examples, LabelFactor, Labels, Target
from probekit.data.factors import ColumnFactor
from probekit.data.numbers import NumberFactor
from probekit.data.question import Question, ask
from probekit.data.targets import make_targets, read_labels
from probekit.data.yes_no import MultilabelFactor
from probekit.errors import ProbekitWarning
from probekit.spec import Spec
from probekit.spec.rows import Rows
from probekit.spec.splits import Splits

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]

PARTS = Splits(column="part", valid="valid")
TAGS = MultilabelFactor(columns=["speech", "music"], missing="drop")
SNR = NumberFactor(column="snr", missing="drop")


def question(
    columns: dict[str, Any], factors: dict[str, LabelFactor], inputs: dict[str, Any] | None = None,
    splits: Splits = PARTS, rows: Rows | None = None, mask: Any = None,
) -> Question:  # fmt: skip
    """Return what is asked of examples that are held."""
    arrays = {name: np.array(values) for name, values in columns.items()}
    count = len(next(iter(arrays.values())))
    held = Examples(arrays, inputs if inputs is not None else {"x": np.arange(count)})

    class Held(Dataset):
        kind: Literal["held"] = "held"

        def open(self) -> Examples:
            return held

    spec = Spec(probekit=1, name="x", data=Held(), labels=factors, splits=splits, rows=rows or Rows(), reports=[])
    asked = ask(spec)
    if mask is None:
        return asked.question()
    return asked.question(mask.sum(axis=1), np.concatenate([np.flatnonzero(row) for row in mask]))


def drawn(seed: int, count: int = 40) -> dict[str, Any]:
    """Return columns in which every split has both answers and several numbers."""
    rng = np.random.default_rng(seed)
    answers = np.concatenate([[[0, 1], [1, 0]] * 6, rng.integers(0, 2, (count - 12, 2))])
    parts = ["train"] * 4 + ["valid"] * 4 + ["test"] * 4 + rng.choice(["train", "valid", "test"], count - 12).tolist()
    snr = rng.standard_normal(count) * 5
    snr[rng.integers(12, count, 5)] = np.nan
    return {"speech": answers[:, 0], "music": answers[:, 1], "snr": snr, "part": parts}


# --- targets


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_targets_hold_the_labels_of_their_rows(seed: int) -> None:
    columns = drawn(seed)
    asked = question(columns, {"tags": TAGS, "snr": SNR})
    tags, snr = asked.targets
    assert (tags.task, tags.classes, tags.outputs) == ("multilabel", ("speech", "music"), 2)
    assert (snr.task, snr.classes, snr.outputs) == ("number", (), 1)
    assert tags.codes.tolist() == np.stack([columns["speech"], columns["music"]], axis=1).tolist()
    parts = np.array(columns["part"])
    labelled = np.isfinite(columns["snr"])
    assert asked.within("test", snr).tolist() == np.flatnonzero(labelled & (parts == "test")).tolist()
    assert snr.train.tolist() == np.flatnonzero(labelled & (parts == "train")).tolist()
    assert tags.valid.tolist() == np.flatnonzero(parts == "valid").tolist()


def targets(labels: Labels, **parts: list[int]) -> list[Target]:
    arrays = {name: np.array(part) for name, part in parts.items()}
    return make_targets({"f": labels}, arrays, np.arange(len(labels.codes)), seed=0)


def test_a_label_with_one_answer_in_train_is_refused_and_in_a_test_split_told(refused: Refused) -> None:
    codes = np.array([[0, 1], [0, 0], [1, 1], [0, 0], [1, 1], [1, 1]])
    labels = Labels(("a", "b"), codes, "multilabel")
    message = (
        "labels.f: 1 labels have one answer only in the training split: 'a: no'; leave their columns out, or take more "
        "training examples"
    )
    assert refused(lambda: targets(labels, train=[0, 1], valid=[2, 3], test=[2, 3])) == [("PK-L01", message)]
    with pytest.warns(ProbekitWarning) as caught:
        targets(labels, train=[1, 2], valid=[2], test=[4, 5])
    assert [str(one.message) for one in caught] == [
        "labels.f: 2 labels have one answer only in 'test': 'a: yes', 'b: yes'"
    ]


@pytest.mark.parametrize(
    ("split", "where"), [("train", "the training split"), ("valid", "'valid'"), ("hard", "'hard'")]
)
def test_one_number_in_a_split_is_refused(split: str, where: str, refused: Refused) -> None:
    labels = Labels((), np.array([1.0, 2.0, 3.0, 3.0]), "number")
    parts = {"train": [0, 1], "valid": [0, 1], "hard": [0, 1]} | {split: [2, 3]}
    message = f"labels.f: one number only in {where}: 3 (2 examples); R² has no meaning there"
    hint = "take more examples, or leave the factor out"
    assert refused(lambda: targets(labels, **parts)) == [("PK-L01", f"{message}; {hint}")]


def test_numbers_that_float32_cannot_tell_apart_are_refused(refused: Refused) -> None:
    labels = Labels((), 1.7e9 + np.arange(8.0), "number")
    parts = {split: [0, 1, 2, 3] for split in ("train", "valid", "test")}
    message = "labels.f: the training numbers reach 1.7e+09 and deviate by 1.12, too little for float32"
    assert refused(lambda: targets(labels, **parts)) == [("PK-L26", f"{message}; subtract a constant in the column")]
    targets(Labels((), 1.7e9 + 1e6 * np.arange(8.0), "number"), **parts)


def test_a_split_without_a_label_is_refused(refused: Refused) -> None:
    labels = Labels((), np.array([1.0, 2.0, np.nan, 3.0]), "number")
    message = "labels.f: no labelled example in 'valid'"
    assert refused(lambda: targets(labels, train=[0, 1], valid=[2], test=[1, 3])) == [("PK-L13", message)]


class Crooked(LabelFactor):
    """A factor whose codes have another shape than its task says."""

    kind: str = "crooked"

    def label(self, columns: Any) -> Labels:
        """Give one column for two labels."""
        return Labels(("a", "b"), np.zeros((len(columns["id"]), 1), dtype=np.int64), "multilabel")


def test_codes_of_another_shape_are_refused(refused: Refused) -> None:
    message = "labels.f: labels of shape (3, 1) for the classes 'a', 'b'"
    assert refused(lambda: read_labels({"f": Crooked()}, {"id": np.arange(3)})) == [("PK-L04", message)]


# --- splits


@pytest.mark.parametrize(("name", "task"), [("tags", "multilabel"), ("snr", "number")])
def test_examples_cannot_be_stratified_by_what_has_no_classes(name: str, task: str, refused: Refused) -> None:
    splits = Splits(train=0.6, valid=0.2, test=0.2, stratify=name)
    message = f"splits.stratify: the factor {name!r} is a {task}: it has no classes; "
    hint = "name a factor of kind column, group or bins, or leave the key out"
    action = lambda: question(drawn(0), {"tags": TAGS, "snr": SNR}, splits=splits)  # noqa: E731
    assert refused(action) == [("PK-L27", message + hint)]


# --- baselines and facts


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_baselines_are_scikit_learns_dummies(seed: int) -> None:
    asked = question(drawn(seed), {"tags": TAGS, "snr": SNR})
    tags, snr = asked.targets
    numbers = DummyRegressor().fit(snr.train[:, None], snr.codes[snr.train])
    for split in asked.parts:
        rows = asked.within(split, snr)
        expected = r2_score(snr.codes[rows], numbers.predict(rows[:, None]))
        assert asked.baseline(snr)[split] == pytest.approx(expected, abs=1e-9)
        rows = asked.within(split, tags)
        errors = []
        for index in range(2):
            dummy = DummyClassifier(strategy="most_frequent").fit(tags.train[:, None], tags.codes[tags.train, index])
            errors.append(1 - dummy.score(rows[:, None], tags.codes[rows, index]))
        assert asked.baseline(tags)[split] == pytest.approx(np.mean(errors))
        assert [one[split] for one in asked.label_baselines(tags).values()] == pytest.approx(errors)


def test_facts_tell_rows_answers_and_numbers() -> None:
    columns = drawn(3)
    asked = question(columns, {"tags": TAGS, "snr": SNR})
    tags, snr = (asked.label_facts(target) for target in asked.targets)
    parts = np.array(columns["part"])
    train = parts == "train"
    assert tags["counts"]["train"] == [int(columns[name][train].sum()) for name in ("speech", "music")]
    assert tags["rows"]["train"] == int(train.sum())
    numbers = columns["snr"][train & np.isfinite(columns["snr"])]
    expected = {"mean": numbers.mean(), "deviation": numbers.std(), "smallest": numbers.min(), "largest": numbers.max()}
    assert snr["numbers"]["train"] == pytest.approx(expected)
    assert (snr["task"], snr["classes"], "counts" in snr) == ("number", [], False)


# --- contents


@pytest.mark.parametrize("factor", ["tags", "snr"])
def test_one_content_with_two_labels_is_refused(factor: str, refused: Refused) -> None:
    columns = drawn(1)
    parts = np.array(columns["part"])
    first, second = np.flatnonzero((parts == "train") & np.isfinite(columns["snr"]))[:2]
    content = np.arange(len(parts))
    content[second] = content[first]
    asked = question(columns, {factor: {"tags": TAGS, "snr": SNR}[factor]}, {"x": content})
    digests = asked.examples.digests(asked.rows)
    ((code, message),) = refused(lambda: asked.refuse_duplicates(digests, allow=False))
    assert (code, f"'{first} and {second}'" in message) == ("PK-L12", True)


# --- positions and groups


def test_positions_have_answers_and_numbers_of_their_own() -> None:
    rng = np.random.default_rng(5)
    mask = np.ones((12, 6), dtype=int)
    mask[:, -1] = [0, 1] * 6
    speech, snr = rng.integers(0, 2, (12, 6)), rng.standard_normal((12, 6))
    columns = {"music": [0, 1] * 6, "part": ["train", "train", "valid", "valid", "test", "test"] * 2}
    found = question(
        columns, {"tags": TAGS, "snr": SNR, "place": NumberFactor(column="position")},
        {"speech": speech, "snr": snr}, rows=Rows(per="position", mask="kept"), mask=mask,
    )  # fmt: skip
    tags, numbers, place = found.targets
    owners, positions = np.nonzero(mask)
    assert tags.codes[:, 0].tolist() == speech[owners, positions].tolist()
    assert tags.codes[:, 1].tolist() == (owners % 2).tolist()
    assert numbers.codes.tolist() == snr[owners, positions].tolist()
    assert place.codes.tolist() == positions.tolist()
    assert found.units.tolist() == owners.tolist()


def test_units_are_groups_where_there_are_any() -> None:
    columns = drawn(2) | {"who": np.arange(40) // 4}
    columns["part"] = [["train", "valid", "test", "train", "test"][n // 4 % 5] for n in range(40)]
    asked = question(columns, {"class": ColumnFactor(column="speech")}, rows=Rows(group="who"))
    assert len(set(asked.units.tolist())) == 10
    assert all(len(set(asked.units[n : n + 4].tolist())) == 1 for n in range(0, 40, 4))
    assert question(columns, {"class": ColumnFactor(column="speech")}).units.tolist() == list(range(40))
