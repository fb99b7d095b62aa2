"""Columns from .csv and .parquet files."""

import csv
import datetime as dt
import decimal
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.data.tables import column, numbers, read_table

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


# --- CSV


@settings(deadline=None, max_examples=60)
@given(
    header=st.lists(st.text("ab ,\"'é\n", min_size=1, max_size=4), min_size=2, max_size=4, unique=True),
    data=st.data(),
)
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, header: list[str], data: st.DataObject
) -> None:
    values = st.text("ab1.,;\"' é\r\n\t", max_size=5)
    rows = data.draw(st.lists(st.lists(values, min_size=len(header), max_size=len(header)), max_size=5))
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([header, *rows])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(stream.getvalue().encode())
    columns = read_table(path)
    assert list(columns) == header
    assert [list(row) for row in zip(*columns.values(), strict=True)] == rows


def test_a_byte_order_mark_is_no_part_of_the_first_name(table: Path) -> None:
    table.write_bytes(b"\xef\xbb\xbfid,label\r\na,1\r\n")
    assert {name: values.tolist() for name, values in read_table(table).items()} == {"id": ["a"], "label": ["1"]}


def test_a_quoted_line_break_belongs_to_its_value(table: Path) -> None:
    table.write_bytes(b'id,label\na,"one\ntwo"\nb,three\n')
    assert read_table(table)["label"].tolist() == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "1: is empty"),
        (b"\n", "1: is empty"),
        (b"a,b\n1,2\n1,2,3\n", "3: 3 values in a row, 2 in the header 'a', 'b'"),
        (b"a,b\n1,2\n\n3,4\n", "3: 0 values in a row, 2 in the header 'a', 'b'"),
        (b'a,b\n"x\ny",2\n1\n', "4: 1 values in a row, 2 in the header 'a', 'b'"),
        (b"a,b,a\n1,2,3\n", "1: column 'a' stands twice in the header"),
        (b"a;b\n1;2\n", "1: one column 'a;b'; values are parted by ';'; a .csv has commas"),
        (b"a\tb\n1\t2\n", "1: one column 'a\\tb'; values are parted by '\\t'; a .csv has commas"),
        (
            b"a;b\n1;2,5\n",
            "2: 2 values in a row, 1 in the header 'a;b'; values are parted by ';'; a .csv has commas",
        ),
        (b'a,b\n1,"x\n', "2: is no CSV: unexpected end of data"),
        (b'a,b\n1,"x"y\n', "2: is no CSV: ',' expected after '\"'"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", "2: is no CSV: field larger than field limit (131072)"),
    ],
)
def test_a_csv_is_refused_with_its_line(table: Path, refused: Refused, raw: bytes, message: str) -> None:
    table.write_bytes(raw)
    assert refused(lambda: read_table(table)) == [("PK-L16", f"{table}:{message}")]


def test_a_csv_in_another_encoding_is_refused(table: Path, refused: Refused) -> None:
    table.write_bytes("id,label\na,é\n".encode("latin-1"))
    fact = "is not UTF-8: 'utf-8' codec can't decode byte 0xe9 in position 11: invalid continuation byte"
    assert refused(lambda: read_table(table)) == [("PK-L16", f"{table}: {fact}")]


def test_an_absent_table_is_refused_with_the_nearest_name(table: Path, refused: Refused) -> None:
    table.with_name("labels.csv").write_text("a\n1\n")
    path = str(table.with_name("label.csv"))
    message = f"no file {path!r}; did you mean 'labels.csv'?"
    assert refused(lambda: read_table(Path(path))) == [("PK-M01", message)]


# --- Parquet

STAMP = dt.datetime(2020, 1, 2, 3, 4, 5)
PARQUET = {
    "text": pa.array(["a", "", None]),
    "categories": pa.array(["a", "b", None]).dictionary_encode(),
    "categories without nulls": pa.array(["b", "a", "b"]).dictionary_encode(),
    "integers": pa.array([1, 2, 3]),
    "large integers": pa.array([2**53 + 1, -(2**63), None]),
    "floats": pa.array([0.5, None, 2.0]),
    "booleans": pa.array([True, False, True]),
    "booleans and null": pa.array([True, None, False]),
    "bytes": pa.array([b"a", b"b", None]),
    "decimals": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.00")]),
    "nulls": pa.array([None, None, None]),
}


@pytest.mark.parametrize("name", PARQUET)
@pytest.mark.parametrize("suffix", [".parquet", ".PARQUET"])
def test_parquet_values_and_nulls_are_those_of_pyarrow(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    pq.write_table(pa.table({"x": PARQUET[name]}), path)
    found = [None if isinstance(v, float) and math.isnan(v) else v for v in read_table(path)["x"].tolist()]
    assert found == PARQUET[name].to_pylist()


def test_parquet_values_of_several_row_groups_are_joined(tmp_path: Path) -> None:
    values = ["a", "b", None, "c", "a", None, "d"]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": pa.array(values).dictionary_encode()}), path, row_group_size=2)
    assert read_table(path)["x"].tolist() == values


def test_parquet_times_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": pa.array([STAMP, None], pa.timestamp("s"))}), path)
    assert read_table(path)["x"].tolist() == [STAMP, None]


def test_a_parquet_column_twice_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    assert refused(lambda: read_table(path)) == [("PK-L16", f"{path}:1: column 'a' stands twice in the header")]


def test_a_damaged_parquet_file_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and no more")
    ((code, message),) = refused(lambda: read_table(path))
    assert code == "PK-L16"
    assert message.startswith(f"{path}: is no Parquet file: ")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    message = f"{str(path)!r} needs the package pyarrow; type: pip install 'probekit-platform[parquet]'"
    assert refused(lambda: read_table(path)) == [("PK-E01", message)]


# --- one column


def test_an_absent_column_is_refused_with_the_nearest_name(refused: Refused) -> None:
    columns = {"label": np.zeros(2), "id": np.zeros(2)}
    assert refused(lambda: column(columns, "labels")) == [("PK-L16", "no column 'labels'; did you mean 'label'?")]
    assert refused(lambda: column(columns, "zzz")) == [("PK-L16", "no column 'zzz'; columns: id, label")]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([1, 2], dtype=np.uint8), [1.0, 2.0]),
        (np.array([True, False]), [1.0, 0.0]),
        (np.array(["1.5", "", "-2e3"], dtype=object), [1.5, None, -2000.0]),
        (np.array(["7", ""]), [7.0, None]),
        (np.array([3, None], dtype=object), [3.0, None]),
        (np.array([np.nan, 2.5], dtype=np.float32), [None, 2.5]),
    ],
)
def test_numbers_are_read_and_empty_text_is_missing(values: Any, expected: list[float | None]) -> None:
    found = numbers({"x": values}, "x")
    assert found.dtype == np.float64
    assert [None if math.isnan(value) else value for value in found] == expected


def test_text_that_is_no_number_is_refused(refused: Refused) -> None:
    columns = {"x": np.array(["1", "two"], dtype=object)}
    message = "column 'x' is not a number everywhere: could not convert string to float: 'two'"
    assert refused(lambda: numbers(columns, "x")) == [("PK-L16", message)]


def test_times_are_no_numbers(refused: Refused) -> None:
    columns = {"x": np.array([STAMP], dtype="datetime64[s]")}
    ((code, message),) = refused(lambda: numbers(columns, "x"))
    assert code == "PK-L16"
    assert message.startswith("column 'x' is not a number everywhere: ")
