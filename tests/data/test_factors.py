"""The built-in label factors."""

import bisect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from probekit.components import LabelFactor, Labels
from probekit.data.factors import BinsFactor, ColumnFactor, GroupFactor, TableFactor, class_names
from probekit.errors import ProbekitWarning
from probekit.sections import SpecContext

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]


def columns(**values: Any) -> dict[str, Any]:
    arrays = {name: np.asarray(value) for name, value in values.items()}
    count = len(next(iter(arrays.values())))
    return {"id": np.arange(count).astype(str), **arrays}


def names(labels: Labels) -> list[str | None]:
    """Return each example's class."""
    return [labels.classes[code] if code >= 0 else None for code in labels.codes]


def faults(make: Callable[[], object]) -> list[tuple[str, str]]:
    """Return (code, message) of each error of validation."""
    with pytest.raises(ValidationError) as caught:
        make()
    return [(error["type"], error["msg"]) for error in caught.value.errors()]


def warned(factor: LabelFactor, given: dict[str, Any]) -> tuple[Labels, list[str]]:
    with pytest.warns(ProbekitWarning) as caught:
        labels = factor.label(given)
    return labels, [str(warning.message) for warning in caught]


# --- L06, L07: the names of classes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([1, 2], dtype=np.uint8), ["1", "2"]),
        (np.array([1.0, -2.0, np.nan, np.inf, 1e18]), ["1", "-2", None, None, "1000000000000000000"]),
        (np.array([1.0, np.nan], dtype=np.float16), ["1", None]),
        (np.array([True, False]), ["true", "false"]),
        (np.array([True, None, False], dtype=object), ["true", None, "false"]),
        (np.array(["a", "", " "]), ["a", None, " "]),
        (np.array(["a", "", None, float("nan"), 3], dtype=object), ["a", None, None, None, "3"]),
        (np.array([1.5, None], dtype=object), ["1.5", None]),
        (np.array([b"a", b"", "é".encode(), b"\xff"]), ["a", None, "é", "\\xff"]),
        (np.array(["2020-01-02", "NaT"], dtype="datetime64[D]"), ["2020-01-02", None]),
    ],
)
def test_values_become_the_names_of_classes(values: Any, expected: list[str | None]) -> None:
    assert class_names(values, "label") == expected


def test_numbers_with_a_fraction_are_no_classes(refused: Refused) -> None:
    given = columns(label=[0.5, 1.0, 1.5, 2.5, np.nan])
    fact = "column 'label' holds numbers with a fraction ('0.5', '1.5', '2.5'), which are no classes"
    assert refused(lambda: ColumnFactor().label(given)) == [("PK-L07", f"{fact}; use kind: bins")]


@pytest.mark.parametrize(
    ("values", "first", "second"),
    [
        (["cat", "Cat", "dog"], "Cat", "cat"),
        (["cat ", "cat", "dog"], "cat", "cat "),
        (["caf\u00e9", "cafe\u0301"], "cafe\u0301", "caf\u00e9"),
        (["1", "1.0", "2"], "1", "1.0"),
        (["-1.00", "-1"], "-1", "-1.00"),
    ],
)
def test_classes_that_look_alike_are_told(values: list[str], first: str, second: str) -> None:
    labels, told = warned(ColumnFactor(), columns(label=values))
    difference = "differ only in case, spaces, Unicode form or a '.0'"
    assert told == [f"classes {first!r} and {second!r} of column 'label' {difference}"]
    assert names(labels) == values


@pytest.mark.parametrize("values", [["1", "10"], ["v1", "v1.0"], ["1.0", "1.05"], ["", "a", "b"]])
def test_other_classes_are_not_told_of(values: list[str]) -> None:
    assert len(ColumnFactor().label(columns(label=values)).classes) == 2


# --- columns, L08


def test_whole_numbers_are_ordered_by_size_and_text_by_name() -> None:
    assert ColumnFactor().label(columns(label=[10, 9, -1])).classes == ("-1", "9", "10")
    assert ColumnFactor().label(columns(label=["10", "9", "x"])).classes == ("10", "9", "x")


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_any_integers_are_numbered_without_gaps(values: list[int]) -> None:
    labels = ColumnFactor().label(columns(label=np.array(values, dtype=np.int64)))
    assert sorted(labels.classes, key=int) == [str(value) for value in sorted(set(values))]
    assert names(labels) == [str(value) for value in values]


def test_negative_and_huge_classes_take_no_room() -> None:
    labels = ColumnFactor().label(columns(label=[10**9, 0, -5, 10**9]))
    assert labels.classes == ("-5", "0", "1000000000")
    assert labels.codes.tolist() == [2, 1, 0, 2]


def test_missing_values_have_no_label() -> None:
    labels = ColumnFactor(column="kind").label(columns(kind=np.array(["b", "", "a", None], dtype=object)))
    assert labels.classes == ("a", "b")
    assert labels.codes.tolist() == [1, -1, 0, -1]
    assert labels.codes.dtype == np.int64


def test_an_absent_column_is_refused(refused: Refused) -> None:
    given = columns(labels=["a", "b"])
    assert refused(lambda: ColumnFactor().label(given)) == [("PK-L16", "no column 'label'; did you mean 'labels'?")]


# --- groups


def test_groups_are_the_classes_in_the_specs_order() -> None:
    factor = GroupFactor(groups={"odd": "1, 3", "even": [0, 2], "far": "-9--7,100-102"})
    labels = factor.label(columns(label=[0, 1, 2, 3, 4, -8, 102, 103]))
    assert labels.classes == ("odd", "even", "far")
    assert names(labels) == ["even", "odd", "even", "odd", None, "far", "far", None]


def test_text_values_may_hold_hyphens_and_lists_are_no_ranges() -> None:
    factor = GroupFactor(groups={"top": "t-shirt, coat", "range": ["1-3"]})
    assert names(factor.label(columns(label=["t-shirt", "coat", "1-3", "2"]))) == ["top", "top", "range", None]


def test_whole_floats_and_missing_values_are_grouped_as_integers_are() -> None:
    factor = GroupFactor(groups={"low": "0-1", "high": "2"})
    assert names(factor.label(columns(label=[0.0, 2.0, np.nan]))) == ["low", "high", None]


@pytest.mark.parametrize(
    ("groups", "code", "message"),
    [
        ({"a": "0-3", "b": "3"}, "PK-Y29", "value '3' is in group 'a' and in 'b'"),
        ({"a": ["x"], "b": ["y", "x"]}, "PK-Y29", "value 'x' is in group 'a' and in 'b'"),
        ({"a": "0-1000001", "b": "-1"}, "PK-Y30", "range '0-1000001' of group 'a' holds over 1,000,000 values"),
        ({"a": "1"}, "too_short", "Dictionary should have at least 2 items after validation, not 1"),
    ],
)
def test_groups_that_contradict_are_refused(groups: dict[str, Any], code: str, message: str) -> None:
    assert faults(lambda: GroupFactor(groups=groups)) == [(code, message)]


def test_a_value_twice_in_one_group_is_fine() -> None:
    labels = GroupFactor(groups={"a": "0-3, 2", "b": "4"}).label(columns(label=[2, 4]))
    assert names(labels) == ["a", "b"]


@pytest.mark.parametrize("empty", ["7-9", "9-7", [], ["x"]])
def test_a_group_without_examples_is_refused(refused: Refused, empty: Any) -> None:
    factor = GroupFactor(groups={"some": "0-1", "none": empty})
    message = "no value of column 'label' is in the groups 'none'; values: '0', '1', '2'"
    assert refused(lambda: factor.label(columns(label=[0, 1, 2]))) == [("PK-L01", message)]


# --- bins


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-100, 100) | st.just(float("nan")), min_size=1, max_size=30),
    edges=st.lists(st.integers(-100, 100), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_an_edge_belongs_to_the_upper_bin(values: list[float], edges: list[int]) -> None:
    if not np.isfinite(values).any():
        values = [*values, 0.0]
    labels = BinsFactor(column="x", edges=[float(edge) for edge in edges]).label(columns(x=values))
    every = [f"< {edges[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(edges)), f">= {edges[-1]}"]
    expected = [None if np.isnan(value) else every[bisect.bisect_right(edges, value)] for value in values]
    assert names(labels) == expected
    assert list(labels.classes) == [name for name in every if name in expected]


def test_quantiles_part_distinct_numbers_evenly() -> None:
    values = np.random.default_rng(0).permutation(90) / 7
    labels = BinsFactor(column="x", quantiles=3).label(columns(x=values))
    assert np.bincount(labels.codes).tolist() == [30, 30, 30]
    low, high = np.sort(values)[[29, 30]].mean(), np.sort(values)[[59, 60]].mean()
    assert labels.codes.tolist() == [int(value > low) + int(value > high) for value in values]


def test_many_equal_numbers_give_fewer_bins() -> None:
    labels = BinsFactor(column="x", quantiles=4).label(columns(x=[3] * 8 + [1, 5]))
    assert labels.classes == ("< 3", ">= 3")
    assert np.bincount(labels.codes).tolist() == [1, 9]


def test_bins_between_close_edges_have_names_of_their_own() -> None:
    start = 1.6e9
    factor = BinsFactor(column="x", edges=[start, start + 1, start + 2])
    labels = factor.label(columns(x=[start - 1, start + 0.5, start + 1.5, start + 9]))
    assert labels.classes == (
        "< 1600000000.0",
        "1600000000.0 to 1600000001.0",
        "1600000001.0 to 1600000002.0",
        ">= 1600000002.0",
    )
    assert labels.codes.tolist() == [0, 1, 2, 3]


def test_numbers_that_are_missing_or_infinite_have_no_label() -> None:
    values = np.array(["1", "", "inf", "nan", "3"], dtype=object)
    labels = BinsFactor(column="x", edges=[2.0]).label(columns(x=values))
    assert names(labels) == ["< 2", None, None, None, ">= 2"]


def test_a_column_without_finite_numbers_is_refused(refused: Refused) -> None:
    given = columns(x=[np.nan, np.inf])
    message = "column 'x' holds no finite number"
    assert refused(lambda: BinsFactor(column="x", edges=[1.0]).label(given)) == [("PK-L06", message)]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"edges": [1.0, 1.0]}, "PK-Y29", "edges must rise, got [1.0, 1.0]"),
        ({"edges": [2.0, 1.0]}, "PK-Y29", "edges must rise, got [2.0, 1.0]"),
        ({}, "PK-Y29", "needs either 'edges' or 'quantiles'"),
        ({"edges": [1.0], "quantiles": 2}, "PK-Y29", "needs either 'edges' or 'quantiles'"),
        ({"edges": []}, "too_short", "List should have at least 1 item after validation, not 0"),
        ({"quantiles": 101}, "less_than_equal", "Input should be less than or equal to 100"),
        ({"quantiles": 1}, "greater_than_equal", "Input should be greater than or equal to 2"),
    ],
)
def test_bins_that_contradict_are_refused(options: dict[str, Any], code: str, message: str) -> None:
    assert faults(lambda: BinsFactor(column="x", **options)) == [(code, message)]


# --- L05: a table joined by id


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


def test_labels_are_joined_by_id_and_not_by_row(table: Path) -> None:
    table.write_text("id,label\nc,dog\na,cat\nb,dog\n")
    labels = TableFactor(path=str(table)).label({"id": np.array(["a", "b", "c"])})
    assert names(labels) == ["cat", "dog", "dog"]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 20))
def test_the_tables_order_does_not_matter(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    truth = {f"x{n}": str(rng.integers(3)) for n in range(count)}
    path = tmp_path_factory.getbasetemp() / "shuffled.csv"
    rows = [f"{name},{truth[name]}\n" for name in rng.permutation(list(truth)).tolist()]
    path.write_text("".join(["id,label\n", *rows]))
    examples = rng.permutation(list(truth))
    assert names(TableFactor(path=str(path)).label({"id": examples})) == [truth[name] for name in examples.tolist()]


def test_integer_ids_with_a_null_beside_them_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"key": [2**60 + 1, None], "label": ["a", "b"]}), path)
    with pytest.warns(ProbekitWarning, match="1 ids of the table are no example's: 'None'"):
        labels = TableFactor(path=str(path), on="key").label({"id": np.array([str(2**60 + 1), "7"])})
    assert names(labels) == ["a", None]


def test_missing_categories_of_a_parquet_file_have_no_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    label = pa.array(["a", None, "b"]).dictionary_encode()
    pq.write_table(pa.table({"id": ["x", "y", "z"], "label": label}), path)
    assert names(TableFactor(path=str(path)).label({"id": np.array(["x", "y", "z"])})) == ["a", None, "b"]


def test_ids_that_the_table_lacks_have_no_label(table: Path) -> None:
    table.write_text("id,label\na,cat\nb,\n")
    assert names(TableFactor(path=str(table)).label({"id": np.array(["a", "b", "c"])})) == ["cat", None, None]


def test_extra_ids_are_counted_and_the_first_five_named(table: Path) -> None:
    extra = "".join(f"x{n},dog\n" for n in range(7))
    table.write_text(f"id,label\na,cat\n{extra}")
    labels, told = warned(TableFactor(path=str(table)), {"id": np.array(["a"])})
    assert names(labels) == ["cat"]
    ids = "'x0', 'x1', 'x2', 'x3', 'x4' and 2 more"
    assert told == [f"{table}: 7 ids of the table are no example's: {ids}"]


def test_duplicate_ids_are_counted_and_the_first_five_named(table: Path, refused: Refused) -> None:
    table.write_text("id,label\n" + "".join(f"x{n},dog\n" for n in [*range(7), *range(7), 9]))
    message = f"{table}: 7 ids stand more than once: 'x0', 'x1', 'x2', 'x3', 'x4' and 2 more"
    factor = TableFactor(path=str(table))
    assert refused(lambda: factor.label({"id": np.array(["x0"])})) == [("PK-L05", message)]


def test_a_table_of_other_ids_is_refused(table: Path, refused: Refused) -> None:
    table.write_text("id,label\n1,cat\n2,dog\n")
    message = f"{table}: no id of the table '1', '2' is one of the examples' 'train/0', 'train/1'"
    factor = TableFactor(path=str(table))
    assert refused(lambda: factor.label({"id": np.array(["train/0", "train/1"])})) == [("PK-L05", message)]


def test_an_absent_column_of_the_table_is_refused(table: Path, refused: Refused) -> None:
    table.write_text("name,label\na,cat\n")
    factor = TableFactor(path=str(table))
    message = "no column 'id'; columns: label, name"
    assert refused(lambda: factor.label({"id": np.array(["a"])})) == [("PK-L16", message)]


def test_the_tables_path_starts_from_the_specs_folder(table: Path) -> None:
    table.write_text("id,label\na,cat\nb,dog\n")
    context = SpecContext(plugins=None, folder=table.parent, environ={})  # type: ignore[arg-type]
    factor = TableFactor.model_validate({"kind": "table", "path": "labels.csv"}, context=context)
    assert names(factor.label({"id": np.array(["b", "a"])})) == ["dog", "cat"]
