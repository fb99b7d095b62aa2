"""Which examples are fitted on, chosen on and reported on."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from probekit.components import Labels
from probekit.data.splits import refuse_shared, split_examples
from probekit.errors import ProbekitWarning
from probekit.spec.splits import ShareOf, Splits

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]
Parts = dict[str, Any]

SHARES = st.tuples(st.floats(0.2, 0.8), st.floats(0.05, 0.4), st.floats(0.05, 0.4)).filter(lambda s: sum(s) <= 1)
SEEDS = st.integers(0, 2**32 - 1)


def columns(count: int, **values: Any) -> dict[str, Any]:
    return {"id": np.arange(count).astype(str), **{name: np.asarray(value) for name, value in values.items()}}


def split(splits: Splits, given: dict[str, Any], **labels: Labels) -> Parts:
    return split_examples(splits, given, labels)


def rows(parts: Parts) -> dict[str, list[int]]:
    return {name: part.tolist() for name, part in parts.items()}


def assert_disjoint_and_sorted(parts: Parts) -> None:
    for part in parts.values():
        assert part.tolist() == sorted(set(part.tolist()))
    for one, other in combinations(parts.values(), 2):
        assert not set(one.tolist()) & set(other.tolist())


# --- drawn splits


@settings(deadline=None, max_examples=100)
@given(count=st.integers(10, 200), shares=SHARES, seed=SEEDS)
def test_drawn_splits_are_disjoint_and_have_their_shares(
    count: int, shares: tuple[float, float, float], seed: int
) -> None:
    train, valid, test = shares
    parts = split(Splits(train=train, valid=valid, test=test, seed=seed), columns(count))
    assert list(parts) == ["train", "valid", "test"]
    assert_disjoint_and_sorted(parts)
    for part, share in zip(parts.values(), shares, strict=True):
        assert abs(len(part) - share * count) <= 1 + 1e-9
        assert set(part.tolist()) <= set(range(count))


@settings(deadline=None, max_examples=60)
@given(count=st.integers(10, 300), seed=SEEDS)
def test_the_default_splits_take_every_example(count: int, seed: int) -> None:
    parts = split(Splits(seed=seed), columns(count))
    assert_disjoint_and_sorted(parts)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(count))
    for part, share in zip(parts.values(), (0.7, 0.15, 0.15), strict=True):
        assert abs(len(part) - share * count) <= 1 + 1e-9


def test_a_hundred_examples_are_parted_exactly() -> None:
    assert [len(part) for part in split(Splits(), columns(100)).values()] == [70, 15, 15]
    parts = split(Splits(train=0.5, valid=0.2, test=0.1), columns(100))
    assert [len(part) for part in parts.values()] == [50, 20, 10]


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_the_same_seed_draws_the_same_and_another_draws_another(seed: int) -> None:
    first, again = (rows(split(Splits(seed=seed), columns(100))) for _ in range(2))
    assert first == again
    assert first != rows(split(Splits(seed=(seed + 1) % 2**32), columns(100)))


def test_the_test_split_is_scikit_learns_draw() -> None:
    expected = train_test_split(np.arange(200), test_size=30, random_state=7)[1]
    assert split(Splits(seed=7), columns(200))["test"].tolist() == sorted(expected.tolist())


def test_sorted_data_are_shuffled() -> None:
    label = np.repeat([0, 1, 2, 3], 50)
    parts = split(Splits(), columns(200))
    for part in parts.values():
        assert set(label[part].tolist()) == {0, 1, 2, 3}


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(20, 60), min_size=2, max_size=4), seed=SEEDS)
def test_stratified_splits_have_the_classes_alike(sizes: list[int], seed: int) -> None:
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = Labels(tuple(map(str, range(len(sizes)))), codes)
    options = Splits(train=0.6, valid=0.2, test=0.2, stratify="class", seed=seed)
    parts = split(options, columns(len(codes)), **{"class": labels})
    assert_disjoint_and_sorted(parts)
    assert sum(map(len, parts.values())) == len(codes)
    for name, share in {"train": 0.6, "valid": 0.2, "test": 0.2}.items():
        counts = np.bincount(codes[parts[name]], minlength=len(sizes))
        np.testing.assert_allclose(counts, share * np.array(sizes), atol=1.01 if name == "test" else 2.01)


@pytest.mark.parametrize("missing", [1, 2, 40])
def test_examples_without_a_label_are_drawn_too(missing: int) -> None:
    codes = np.array([0] * 50 + [1] * 50 + [-1] * missing)
    options = Splits(train=0.6, valid=0.2, test=0.2, stratify="class")
    parts = split(options, columns(len(codes)), **{"class": Labels(("a", "b"), codes)})
    assert_disjoint_and_sorted(parts)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(codes)))
    for name, share in {"train": 0.6, "valid": 0.2, "test": 0.2}.items():
        counts = np.bincount(codes[parts[name]] + 1, minlength=3)
        np.testing.assert_allclose(counts, share * np.array([missing, 50, 50]), atol=1.01)


# --- L11: groups


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(1, 6), min_size=10, max_size=40), seed=SEEDS)
def test_groups_are_whole_in_one_split(sizes: list[int], seed: int) -> None:
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = split(Splits(group="person", seed=seed), columns(len(groups), person=groups))
    assert_disjoint_and_sorted(parts)
    assert sum(map(len, parts.values())) == len(groups)
    held = {name: set(groups[part].tolist()) for name, part in parts.items()}
    assert sum(map(len, held.values())) == len(sizes)
    for name, share in {"train": 0.7, "valid": 0.15, "test": 0.15}.items():
        assert abs(len(held[name]) - share * len(sizes)) <= 1 + 1e-9


def test_the_test_groups_are_scikit_learns_draw() -> None:
    groups = (np.arange(300) % 40).astype(str)
    shuffle = GroupShuffleSplit(1, test_size=6, random_state=3)
    expected = next(shuffle.split(groups, groups=groups))[1]
    parts = split(Splits(group="person", seed=3), columns(300, person=groups))
    assert parts["test"].tolist() == expected.tolist()


def test_a_group_in_two_splits_of_a_column_is_refused(refused: Refused) -> None:
    given = columns(6, split=["train", "train", "valid", "test", "test", "test"], person=list("abacbd"))
    message = (
        "splits: 1 times the same group of column 'person' in 'train' and 'valid': 'a'; "
        "mend the data, or set splits.allow_leakage: true"
    )
    assert refused(lambda: split(Splits(column="split", group="person"), given)) == [("PK-L11", message)]


def test_a_group_in_two_splits_is_told_of_where_leakage_is_allowed() -> None:
    given = columns(6, split=["train", "train", "valid", "test", "test", "test"], person=list("abacbd"))
    with pytest.warns(ProbekitWarning) as caught:
        parts = split(Splits(column="split", group="person", allow_leakage=True), given)
    assert [str(warning.message) for warning in caught] == [
        "leakage allowed: 1 times the same group of column 'person' in 'train' and 'valid'",
        "leakage allowed: 1 times the same group of column 'person' in 'train' and 'test'",
    ]
    assert rows(parts) == {"train": [0, 1], "valid": [2], "test": [3, 4, 5]}


# --- splits of a column


NAMED = ["train", "test", "valid", "train", "test", "valid", "other", "train"]


def test_a_column_names_the_splits() -> None:
    parts = split(Splits(column="split"), columns(8, split=NAMED))
    assert rows(parts) == {"train": [0, 3, 7], "valid": [2, 5], "test": [1, 4]}


def test_the_spec_may_name_other_values_and_several() -> None:
    splits = Splits(column="split", train=["train", "other"], valid="test", test=["valid"])
    parts = split(splits, columns(8, split=NAMED))
    assert rows(parts) == {"train": [0, 3, 6, 7], "valid": [1, 4], "test": [2, 5]}


def test_values_of_a_column_of_numbers_are_named_as_text() -> None:
    splits = Splits(column="fold", train=["1", "2"], valid="3", test="4")
    assert rows(split(splits, columns(5, fold=[4, 3, 2, 1, 1]))) == {"train": [2, 3, 4], "valid": [1], "test": [0]}


def test_several_test_splits_have_names_of_their_own() -> None:
    parts = split(Splits(column="split", test=["other", "test"]), columns(8, split=NAMED))
    assert rows(parts) == {"train": [0, 3, 7], "valid": [2, 5], "other": [6], "test": [1, 4]}


@settings(deadline=None, max_examples=40)
@given(train=st.integers(5, 60), test=st.integers(5, 60), share=st.floats(0.1, 0.8), seed=SEEDS)
def test_valid_may_be_a_share_of_train(train: int, test: int, share: float, seed: int) -> None:
    given = columns(train + test, split=["train"] * train + ["test"] * test)
    parts = split(Splits(column="split", valid=share, seed=seed), given)
    assert_disjoint_and_sorted(parts)
    assert sorted([*parts["train"].tolist(), *parts["valid"].tolist()]) == list(range(train))
    assert abs(len(parts["valid"]) - share * train) <= 0.5 + 1e-9
    assert parts["test"].tolist() == list(range(train, train + test))


@settings(deadline=None, max_examples=40)
@given(train=st.integers(5, 60), test=st.integers(5, 60), share=st.floats(0.1, 0.8), seed=SEEDS)
def test_valid_may_be_a_share_of_another_split(train: int, test: int, share: float, seed: int) -> None:
    given = columns(train + test, half=["even"] * train + ["odd"] * test)
    splits = Splits(column="half", train="even", valid=ShareOf(of="odd", share=share), test="odd", seed=seed)
    parts = split(splits, given)
    assert_disjoint_and_sorted(parts)
    assert parts["train"].tolist() == list(range(train))
    assert sorted([*parts["valid"].tolist(), *parts["test"].tolist()]) == list(range(train, train + test))
    assert abs(len(parts["valid"]) - share * test) <= 0.5 + 1e-9


def test_a_share_of_train_is_stratified_too() -> None:
    codes = np.array([0] * 40 + [1] * 20 + [0, 1])
    given = columns(62, split=["train"] * 60 + ["test"] * 2)
    parts = split(Splits(column="split", valid=0.3, stratify="y"), given, y=Labels(("a", "b"), codes))
    assert np.bincount(codes[parts["valid"]]).tolist() == [12, 6]


# --- limits


@settings(deadline=None, max_examples=60)
@given(count=st.integers(20, 120), train=st.integers(1, 90), test=st.integers(1, 30), seed=SEEDS)
def test_limits_thin_the_splits_they_name(count: int, train: int, test: int, seed: int) -> None:
    whole = split(Splits(seed=seed), columns(count))
    splits = Splits(seed=seed, limit={"train": train, "test": test})
    parts = split(splits, columns(count))
    assert_disjoint_and_sorted(parts)
    assert parts["valid"].tolist() == whole["valid"].tolist()
    for name, most in {"train": train, "test": test}.items():
        assert len(parts[name]) == min(most, len(whole[name]))
        assert set(parts[name].tolist()) <= set(whole[name].tolist())
    assert rows(split(splits, columns(count))) == rows(parts)


# --- L10, L13, L16: what is refused


def test_one_id_in_two_splits_is_refused(refused: Refused) -> None:
    given = {"id": np.array(list("abcdabce")), "split": np.array(["train"] * 4 + ["test"] * 3 + ["valid"])}
    message = (
        "splits: 3 times the same id in 'train' and 'test': 'a', 'b', 'c'; "
        "mend the data, or set splits.allow_leakage: true"
    )
    assert refused(lambda: split(Splits(column="split"), given)) == [("PK-L10", message)]


def test_one_value_for_two_splits_is_refused(refused: Refused) -> None:
    splits = Splits(column="split", train=["train", "other"], test=["test", "other"])
    message = (
        "splits: 1 times the same id in 'train' and 'other': '6'; mend the data, or set splits.allow_leakage: true"
    )
    assert refused(lambda: split(splits, columns(8, split=NAMED))) == [("PK-L10", message)]


def test_many_shared_values_are_counted_and_three_named(refused: Refused) -> None:
    parts = {"train": np.arange(10), "test": np.arange(5, 20)}
    message = (
        "splits: 5 times the same thing in 'train' and 'test': 'k5', 'k6', 'k7' and 2 more; "
        "mend the data, or set splits.allow_leakage: true"
    )
    keys = np.array([f"k{n}" for n in range(20)])
    assert refused(lambda: refuse_shared(parts, keys, "thing", "PK-L10", allow=False)) == [("PK-L10", message)]


def test_a_dataset_without_examples_is_refused(refused: Refused) -> None:
    assert refused(lambda: split(Splits(), columns(0))) == [("PK-L13", "the dataset has no example")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "tran"}, "split 'valid' has no example; values of column 'split': 'test', 'tran'"),
        ({"valid": "test", "test": "tests"}, "split 'train' has no example; values of column 'split': 'test', 'tran'"),
    ],
)
def test_an_empty_split_of_a_column_is_refused(refused: Refused, options: dict[str, Any], message: str) -> None:
    given = columns(4, split=["tran", "tran", "test", "test"])
    splits = Splits(column="split", **options)
    assert refused(lambda: split(splits, given)) == [("PK-L13", f"splits: {message}")]


def test_too_few_examples_are_refused_with_scikit_learns_reason(refused: Refused) -> None:
    with pytest.raises(ValueError, match="test_size=1") as reason:
        train_test_split(np.arange(1), test_size=1)
    message = f"splits: 1 examples cannot be split: {reason.value}"
    assert refused(lambda: split(Splits(), columns(2))) == [("PK-L13", message)]


def test_fewer_rows_than_classes_are_refused(refused: Refused) -> None:
    codes = np.arange(40) % 20
    with pytest.raises(ValueError, match="number of classes") as reason:
        train_test_split(np.arange(40), test_size=6, stratify=codes)
    message = f"splits: 40 examples cannot be split: {reason.value}"
    labels = Labels(tuple(map(str, range(20))), codes)
    assert refused(lambda: split(Splits(stratify="y"), columns(40), y=labels)) == [("PK-L13", message)]


def test_one_group_only_is_refused(refused: Refused) -> None:
    with pytest.raises(ValueError, match="test_size=1") as reason:
        next(GroupShuffleSplit(1, test_size=1).split(np.arange(9), groups=np.zeros(9)))
    message = f"splits: 9 examples cannot be split: {reason.value}"
    assert refused(lambda: split(Splits(group="g"), columns(9, g=np.zeros(9)))) == [("PK-L13", message)]


@pytest.mark.parametrize("options", [{"column": "splt"}, {"group": "splt"}])
def test_an_absent_column_is_refused_with_the_nearest_name(refused: Refused, options: dict[str, Any]) -> None:
    given = columns(8, split=NAMED)
    message = "no column 'splt'; did you mean 'split'?"
    assert refused(lambda: split(Splits(**options), given)) == [("PK-L16", message)]
