"""The label factor of numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.data.numbers import NumberFactor
from probekit.data.targets import read_labels

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]


def columns(values: Any) -> dict[str, Any]:
    array = np.asarray(values)
    return {"id": np.array([f"x{n}" for n in range(len(array))]), "snr": array}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, -2], [1, -2]),
        (np.array([0.5, np.nan], dtype=np.float16), [0.5, None]),
        ([True, False], [1, 0]),
        (np.array(["1.5", " -2e3 ", "", "nan"], dtype=object), [1.5, -2000, None, None]),
        (np.array([b"7", b""]), [7, None]),
        (np.array([1, None, 2.5], dtype=object), [1, None, 2.5]),
    ],
)
def test_numbers_are_read(values: Any, expected: list[float | None]) -> None:
    labels = NumberFactor(column="snr").label(columns(values))
    assert (labels.task, labels.classes, labels.codes.dtype) == ("number", (), np.float64)
    np.testing.assert_array_equal(labels.codes, np.array([np.nan if v is None else v for v in expected]))
    assert labels.known().tolist() == [value is not None for value in expected]


NO_NUMBER = "which is no number; mend it or leave it empty; or use kind: column"
NOT_FINITE = "which is not finite; leave it empty, and set missing: drop"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "loud", "quiet"], f"column 'snr' holds 'loud' at example 'x1', {NO_NUMBER}"),
        (["1_000"], f"column 'snr' holds '1_000' at example 'x0', {NO_NUMBER}"),
        (np.array(["2020-01-02"], dtype="M8[D]"), f"column 'snr' holds '2020-01-02' at example 'x0', {NO_NUMBER}"),
        (np.array([1j]), f"column 'snr' holds '1j' at example 'x0', {NO_NUMBER}"),
        ([0.0, -np.inf], f"column 'snr' holds -inf at example 'x1', {NOT_FINITE}"),
        (["1", "inf"], f"column 'snr' holds inf at example 'x1', {NOT_FINITE}"),
        ([1.0, 2e18], "column 'snr' holds 2e+18 at example 'x1', beyond 1e18; give the column in a larger unit"),
    ],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused_with_its_example(values: Any, message: str, refused: Refused) -> None:
    assert refused(lambda: NumberFactor(column="snr").label(columns(values))) == [("PK-L26", message)]


def test_a_column_that_is_not_there_is_told_with_the_nearest(refused: Refused) -> None:
    message = "labels.f: no column 'sbr'; did you mean 'snr'?"
    assert refused(lambda: read_labels({"f": NumberFactor(column="sbr")}, columns([1, 2]))) == [("PK-L16", message)]


def test_one_number_only_is_refused(refused: Refused) -> None:
    factors = {"f": NumberFactor(column="snr", missing="drop")}
    message = "labels.f: needs two different numbers or more, got "
    assert refused(lambda: read_labels(factors, columns([3.0, 3.0, np.nan]))) == [("PK-L01", f"{message}'3.0'")]
    assert refused(lambda: read_labels(factors, columns([np.nan]))) == [("PK-L01", f"{message}none")]


def test_missing_numbers_are_refused_or_dropped(refused: Refused) -> None:
    values = columns([1.0, np.nan, 2.0])
    message = "labels.f: 1 of 3 examples have no label, the first: 'x1'; mend them, or set missing: drop"
    assert refused(lambda: read_labels({"f": NumberFactor(column="snr")}, values)) == [("PK-L06", message)]
    assert read_labels({"f": NumberFactor(column="snr", missing="drop")}, values)["f"].known().sum() == 2


@settings(deadline=None)
@given(st.lists(st.floats(-1e18, 1e18), min_size=1, max_size=20))
def test_any_number_comes_back_from_its_text(values: list[float]) -> None:
    text = np.array([repr(value) for value in values], dtype=object)
    assert NumberFactor(column="snr").label(columns(text)).codes.tolist() == values
