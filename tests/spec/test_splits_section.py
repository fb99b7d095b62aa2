"""The section ``splits``: what it accepts, what it means, and what it refuses at which key."""

import pytest
from pydantic import ValidationError

from probekit.spec.splits import ShareOf, Splits


def wrong(**fields):
    """Return the faults as (keys, code, what, hint)."""
    with pytest.raises(ValidationError) as refused:
        Splits(**fields)
    return [
        (error["loc"], error["type"], error["ctx"]["what"], error["ctx"]["hint"]) for error in refused.value.errors()
    ]


def test_the_default_is_a_random_draw():
    splits = Splits()
    assert splits.shares() == (0.7, 0.15, 0.15)
    assert splits.test_names() == ["test"]
    assert splits.seed == 0
    assert not splits.allow_leakage


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        ({"train": 0.8, "valid": 0.1, "test": 0.1}, (0.8, 0.1, 0.1)),
        ({"train": 0.5}, (0.5, 0.15, 0.15)),
        ({"train": 0.1, "valid": 0.1, "test": 0.1}, (0.1, 0.1, 0.1)),
        # 0.6 + 0.3 + 0.1 is a little more than 1 in binary
        ({"train": 0.6, "valid": 0.3, "test": 0.1}, (0.6, 0.3, 0.1)),
    ],
)
def test_shares_that_are_not_given_keep_their_default(given, shares):
    assert Splits(**given).shares() == shares


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"train": "even", "valid": {"of": "odd", "share": 0.3}, "test": "odd"},
        {"train": ["a", "b"], "valid": ["c"], "test": ["d"]},
        {"valid": 0.2},
        {"test": ["in_domain", "out_of_domain"], "limit": {"in_domain": 10, "train": 5, "valid": 1}},
        {"valid": {"of": ["a", "b"], "share": 0.5}, "group": "speaker"},
        {"valid": 0.2, "stratify": "digit"},
    ],
)
def test_values_of_a_column_and_shares_of_them_are_accepted(given):
    splits = Splits(column="split", **given)
    assert splits.column == "split"
    assert Splits.model_validate(splits.model_dump()) == splits


def test_several_test_splits_have_their_own_names():
    assert Splits(column="c", test=["a", "b"]).test_names() == ["a", "b"]
    assert Splits(column="c", test=["a"]).test_names() == ["test"]
    assert Splits(column="c", test="a").test_names() == ["test"]


def test_a_share_lies_between_0_and_1():
    assert wrong(train=-0.5, valid=0.0, test=1.5) == [
        (("train",), "PK-Y30", "must lie between 0 and 1, got -0.5", ""),
        (("valid",), "PK-Y30", "must lie between 0 and 1, got 0", ""),
        (("test",), "PK-Y30", "must lie between 0 and 1, got 1.5", ""),
    ]
    assert wrong(train=70, valid=15, test=15)[0] == (("train",), "PK-Y30", "must lie between 0 and 1, got 70", "")
    assert wrong(column="c", valid=1.0) == [(("valid",), "PK-Y30", "must lie between 0 and 1, got 1", "")]


def test_shares_add_up_to_at_most_1():
    what = "the shares add up to 1.2, more than 1: train 0.9, valid 0.15, test 0.15"
    assert wrong(train=0.9) == [((), "PK-Y30", what, "")]


def test_values_need_a_column():
    hint = "add column: NAME for values of a column"
    what = "must be a number without 'column:'"
    assert wrong(train="even", valid=ShareOf(of="odd", share=0.3), test=["a"]) == [
        (("train",), "PK-Y29", what, hint),
        (("valid",), "PK-Y29", what, hint),
        (("test",), "PK-Y29", what, hint),
    ]


def test_with_a_column_numbers_are_no_values():
    assert wrong(column="fold", train=1, test=0.5) == [
        (("train",), "PK-Y29", "must be a value of column 'fold' as text, got the number 1", "quote it: '1'"),
        (("test",), "PK-Y29", "must be a value of column 'fold' as text, got the number 0.5", "quote it: '0.5'"),
    ]


@pytest.mark.parametrize("names", [["a", "a"], ["train", "b"], ["b", "valid"]])
def test_the_names_of_test_splits_differ(names):
    [(keys, code, what, _)] = wrong(column="c", test=names)
    assert (keys, code) == (("test",), "PK-Y27")
    assert what.startswith("the names of test splits must differ, also from train and valid: ")


def test_stratify_and_group_exclude_each_other():
    what = "either stratify or group: whole groups cannot also have the classes alike"
    assert wrong(stratify="digit", group="writer") == [(("group",), "PK-Y29", what, "keep one")]


def test_every_wrong_limit_is_told_at_its_own_key():
    assert wrong(limit={"trian": 5, "valid": 0, "test": 3, "b": 1}) == [
        (("limit", "trian"), "PK-Y26", "no split 'trian'", "did you mean 'train'?"),
        (("limit", "valid"), "PK-Y30", "must be at least 1, got 0", ""),
        (("limit", "b"), "PK-Y26", "no split 'b'", "splits: test, train, valid"),
    ]
    assert wrong(column="c", test=["a", "b"], limit={"test": 3})[0][:3] == (
        ("limit", "test"),
        "PK-Y26",
        "no split 'test'",
    )


def test_all_that_is_wrong_is_told_at_once():
    faults = wrong(train=2.0, stratify="d", group="g", limit={"x": 1})
    assert [(keys, code) for keys, code, _, _ in faults] == [
        (("train",), "PK-Y30"),
        (("group",), "PK-Y29"),
        (("limit", "x"), "PK-Y26"),
    ]


@pytest.mark.parametrize(
    "fields",
    [{"train": []}, {"test": []}, {"seed": -1}, {"seed": 2**32}, {"sed": 1}, {"test": ["a/b"]}, {"limit": {"a/b": 1}}],
)
def test_other_values_are_refused_by_their_types(fields):
    with pytest.raises(ValidationError):
        Splits(column="c", **fields)


@pytest.mark.parametrize("share", [0, 1, -1, 1.5])
def test_a_share_of_some_values_lies_between_0_and_1(share):
    with pytest.raises(ValidationError):
        ShareOf(of="odd", share=share)
