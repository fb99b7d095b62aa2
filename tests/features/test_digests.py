"""What identifies rows: their content, whatever their number or company, each digested once."""

from typing import Any

import numpy as np

from probekit.components import Examples, IntArray
from probekit.features.digests import RowDigests

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


class Counting(Examples):
    """Counts how often each row is digested."""

    def __init__(self, x: Any, **columns: Any) -> None:
        super().__init__(columns, {"x": x})
        self.digested: list[int] = []

    def digests(self, rows: IntArray) -> list[bytes]:
        self.digested += rows.tolist()
        return super().digests(rows)


def test_equal_rows_have_equal_digests_and_others_have_not() -> None:
    x = X.copy()
    x[7] = x[3]
    found = RowDigests(Examples({}, {"x": x})).of(np.arange(40))
    assert found.shape == (40, 16)
    assert len({row.tobytes() for row in found}) == 39
    np.testing.assert_array_equal(found[3], found[7])


def test_a_digest_is_that_of_the_row_in_any_order_and_any_dataset() -> None:
    order = np.random.default_rng(1).permutation(40)
    whole = RowDigests(Examples({}, {"x": X})).of(np.arange(40))
    np.testing.assert_array_equal(RowDigests(Examples({}, {"x": X})).of(order), whole[order])
    np.testing.assert_array_equal(RowDigests(Examples({}, {"x": X[order]})).of(np.arange(40)), whole[order])


def test_a_rows_label_and_id_do_not_change_its_digest() -> None:
    plain = RowDigests(Examples({}, {"x": X})).of(np.arange(40))
    labelled = RowDigests(Examples({"label": np.arange(40), "id": np.arange(40)}, {"x": X})).of(np.arange(40))
    np.testing.assert_array_equal(plain, labelled)


def test_a_column_that_a_model_is_fed_changes_the_digests_of_its_rows_alone() -> None:
    column, changed = np.arange(40.0), np.arange(40.0)
    changed[5] = -1
    plain, first, second, unnamed = (
        RowDigests(Examples({"age": values}, {"x": X})).of(np.arange(40), names)
        for values, names in ((column, []), (column, ["age", "x"]), (changed, ["age", "x"]), (changed, ["x"]))
    )
    assert not (plain == first).all(axis=1).any()
    assert np.flatnonzero((first != second).any(axis=1)).tolist() == [5]
    np.testing.assert_array_equal(unnamed, plain)


def test_each_row_is_digested_once_whoever_asks() -> None:
    examples = Counting(X, age=np.arange(40.0))
    digests = RowDigests(examples)
    first = digests.of(np.array([5, 2, 2, 9]))
    digests.of(np.arange(10), ["age"])
    digests.of(np.arange(10), ["age"])
    np.testing.assert_array_equal(digests.of(np.array([5, 2, 2, 9])), first)
    assert sorted(examples.digested) == list(range(10))


def test_no_rows_have_no_digests() -> None:
    assert RowDigests(Examples({}, {"x": X})).of(np.zeros(0, np.int64)).shape == (0, 16)
