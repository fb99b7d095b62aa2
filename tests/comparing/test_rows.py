"""Which test rows are in both runs, and whether their labels agree."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probekit.comparing.rows import shared_rows
from probekit.comparing.sides import Side
from probekit.errors import InputError

ONE = ("default", None)


def rows_of(first, second, factor="f", splits=("test", "test")):
    return shared_rows(Side(first, ONE, splits[0]), Side(second, ONE, splits[1]), factor)


def simple(runs, codes, **changes):
    codes = np.asarray(codes)
    predicted = np.zeros_like(codes)
    return runs([runs.said("t", predicted)], {"f": codes}, **changes)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_rows_are_paired_by_id_in_any_order(runs, data):
    ids = st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=10)
    left, right = data.draw(ids), data.draw(ids)
    first = simple(runs, np.array(left) % 3, ids=left, classes={"f": list("012")})
    second = simple(runs, np.array(right) % 3, ids=right, classes={"f": list("012")})
    common = set(left) & set(right)
    if not common:
        with pytest.raises(InputError, match="no test row of 'f' is in both runs"):
            rows_of(first, second)
        return
    found = rows_of(first, second)
    ones = first.predictions.ids[found.first].tolist()
    assert ones == second.predictions.ids[found.second].tolist()
    assert ones == [str(name) for name in left if name in common]
    assert found.counts == (len(left), len(right))


def test_rows_without_a_label_in_one_run_are_left_out(runs):
    first, second = simple(runs, [0, 1, -1, 1]), simple(runs, [0, -1, 1, 1])
    found = rows_of(first, second)
    assert first.predictions.ids[found.first].tolist() == ["0", "3"]
    assert found.counts == (3, 3)


def test_positions_tell_rows_of_one_example_apart(runs):
    first = simple(runs, [0, 1, 1], ids=["a", "a", "b"], groups=["a", "a", "b"], positions=np.array([0, 1, 0]))
    second = simple(runs, [1, 1, 0], ids=["a", "b", "b"], groups=["a", "b", "b"], positions=np.array([1, 0, 5]))
    found = rows_of(first, second)
    assert first.predictions.positions[found.first].tolist() == [1, 0]
    assert second.predictions.ids[found.second].tolist() == ["a", "b"]
    assert found.over == "examples"


def test_positions_and_examples_are_no_pairs(runs):
    first = simple(runs, [0, 1], positions=np.array([0, 0]))
    with pytest.raises(InputError, match="rows are examples in one run and positions"):
        rows_of(first, simple(runs, [0, 1]))


def test_classes_are_compared_by_their_names(runs):
    first = simple(runs, [0, 1, 2], classes={"f": ["cat", "dog", "cow"]})
    second = simple(runs, [1, 0, 2], classes={"f": ["dog", "cat", "cow", "hen"]})
    assert len(rows_of(first, second).first) == 3
    third = simple(runs, [0, 1, 2], classes={"f": ["dog", "cat", "cow", "hen"]})
    with pytest.raises(InputError) as caught:
        rows_of(first, third)
    (problem,) = caught.value.problems
    assert (problem.code, problem.what) == ("PK-X34", "2 of 3 shared rows have another label of 'f' in each run")
    assert problem.hint == "the data are not the same; the first: '0', '1'"


def test_a_class_that_the_other_run_lacks_is_another_label(runs):
    first = simple(runs, [0, 1], classes={"f": ["cat", "dog"]})
    with pytest.raises(InputError, match="1 of 2 shared rows have another label"):
        rows_of(first, simple(runs, [0, 0], classes={"f": ["cat"]}))


def test_yes_no_labels_may_stand_in_another_order(runs):
    first = simple(runs, [[0, 1], [1, 1]], classes={"f": ["speech", "music"]})
    assert rows_of(first, simple(runs, [[1, 0], [1, 1]], classes={"f": ["music", "speech"]})).task == "multilabel"
    with pytest.raises(InputError, match="another label"):
        rows_of(first, simple(runs, [[0, 1], [1, 1]], classes={"f": ["music", "speech"]}))
    with pytest.raises(InputError, match=r"PK-X32|other yes/no labels in each run: only one has 'music', 'noise'"):
        rows_of(first, simple(runs, [[0, 1], [1, 1]], classes={"f": ["noise", "speech"]}))


def test_numbers_must_be_the_same(runs):
    first = simple(runs, [0.5, 1.5])
    assert len(rows_of(first, simple(runs, [0.5, 1.5])).first) == 2
    with pytest.raises(InputError, match="1 of 2 shared rows"):
        rows_of(first, simple(runs, [0.5, 1.25]))


def test_a_factor_must_ask_the_same(runs):
    with pytest.raises(InputError, match="asks something else in each run: classes and number"):
        rows_of(simple(runs, [0, 1]), simple(runs, [0.0, 1.0]))


def test_ids_that_stand_twice_are_refused_where_they_matter(runs):
    first = simple(runs, [0, 1, 1], ids=["a", "a", "b"])
    assert len(rows_of(first, simple(runs, [0, 1, 1], ids=["a", "a", "b"])).first) == 3
    with pytest.raises(InputError) as caught:
        rows_of(first, simple(runs, [0, 1], ids=["a", "b"]))
    assert caught.value.problems[0].code == "PK-X33"
    assert caught.value.problems[0].what.endswith("has several rows of one id: 'a'")


def test_groups_of_either_run_are_the_units(runs):
    grouped = {"groups": ["g", "g", "h"]}
    for first, second in ((grouped, {}), ({}, grouped), (grouped, grouped)):
        found = rows_of(simple(runs, [0, 1, 1], **first), simple(runs, [0, 1, 1], **second))
        assert found.over == "groups"
        assert len(np.unique(found.units)) == 2
    assert rows_of(simple(runs, [0, 1]), simple(runs, [0, 1])).over == "examples"


def test_rows_of_two_test_splits_are_paired_by_id(runs):
    run = simple(runs, [0, 1, 1, 0], tests={"near": [0, 1], "far": [2, 3]})
    with pytest.raises(InputError, match="no test row"):
        rows_of(run, run, splits=("near", "far"))
    assert rows_of(run, run, splits=("far", "far")).first.tolist() == [4, 5]
