"""Columns from .csv and .parquet files."""

from __future__ import annotations

import csv
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.errors import InputError, MachineError, Problem, absent_file, listed, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from probekit.components import Array, Columns


def read_table(path: Path) -> dict[str, Array]:
    """Return the columns of a table; those of a .csv are text.

    Raises:
        InputError: ``PK-L16``: absent, empty, ragged, not UTF-8, a column twice.
        MachineError: ``PK-E01``: a .parquet file without pyarrow.
    """
    if not path.is_file():
        raise InputError(absent_file(path))
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)


def column(columns: Columns, name: str) -> Array:
    """Return a column by name.

    Raises:
        InputError: ``PK-L16``, there is none; the nearest is named.
    """
    if name not in columns:
        raise InputError(Problem("PK-L16", f"no column {name!r}", nearest(name, columns, "columns")))
    return columns[name]


def numbers(columns: Columns, name: str) -> Array:
    """Return a column as float64, shape (examples,); an empty text is NaN.

    Raises:
        InputError: ``PK-L16``, it is absent or holds text that is no number.
    """
    values = column(columns, name)
    if values.dtype.kind in "iufb":
        return values.astype(np.float64)
    try:
        return np.array([float(value) if value not in ("", None) else np.nan for value in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(Problem("PK-L16", f"column {name!r} is not a number everywhere: {error}")) from None


def is_missing(value: object) -> bool:
    """Return whether a value of a column is missing: empty text, None or NaN."""
    if isinstance(value, str | bytes):
        return not value
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124 - NaN


def example_at(ids: Array, row: int) -> str:
    """Return what a message calls the example of a row: its id."""
    return repr(str(ids[row]))


def _read_csv(path: Path) -> dict[str, Array]:
    file = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            if not header:
                raise InputError(Problem("PK-L16", "is empty", file=file, line=1))
            _refuse_twice(header, path)
            rows = []
            for row in reader:
                if len(row) != len(header):
                    what = f"{len(row)} values in a row, {len(header)} in the header {listed(header)}"
                    hint = _other_delimiter(header)
                    raise InputError(Problem("PK-L16", what, hint, file=file, line=reader.line_num))
                rows.append(row)
    except UnicodeDecodeError as error:
        raise InputError(Problem("PK-L16", f"is not UTF-8: {error}", file=file)) from None
    except csv.Error as error:
        raise InputError(Problem("PK-L16", f"is no CSV: {error}", file=file, line=reader.line_num)) from None
    if len(header) == 1 and _other_delimiter(header):
        raise InputError(Problem("PK-L16", f"one column {header[0]!r}", _other_delimiter(header), file=file, line=1))
    return {name: np.array([row[i] for row in rows], dtype=object) for i, name in enumerate(header)}


def _other_delimiter(header: list[str]) -> str:
    other = next((sign for sign in (";", "\t", "|") if sign in "".join(header)), None)
    return f"values are parted by {other!r}; a .csv has commas" if other else ""


def _read_parquet(path: Path) -> dict[str, Array]:
    try:
        import pyarrow.parquet
    except ImportError:
        hint = "type: pip install 'probekit-platform[parquet]'"
        raise MachineError(Problem("PK-E01", f"{str(path)!r} needs the package pyarrow", hint)) from None
    try:
        _refuse_twice(pyarrow.parquet.read_schema(path).names, path)
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(Problem("PK-L16", f"is no Parquet file: {error}", file=str(path))) from None
    return {name: _to_numpy(table[name]) for name in table.column_names}


def _to_numpy(values: Any) -> Array:
    """Return a column of pyarrow, None or NaN where it is null."""
    import pyarrow.types

    if pyarrow.types.is_dictionary(values.type):  # its own to_numpy gives nulls the last value of the dictionary
        values = values.cast(values.type.value_type)
    if values.null_count and (pyarrow.types.is_integer(values.type) or pyarrow.types.is_boolean(values.type)):
        return np.array(values.to_pylist(), dtype=object)  # as floats, large integers would change
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _refuse_twice(names: list[str], path: Path) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(Problem("PK-L16", f"column {twice[0]!r} stands twice in the header", file=str(path), line=1))
