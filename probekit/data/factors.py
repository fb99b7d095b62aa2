"""The built-in label factors: ``column``, ``group``, ``bins`` and ``table``."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from probekit.components import Columns, LabelFactor, Labels
from probekit.data.tables import column, is_missing, numbers, read_table
from probekit.errors import InputError, ProbekitWarning, Problem, listed
from probekit.hookspecs import hookimpl
from probekit.sections import SpecPath, fault


def class_names(values: Any, name: str) -> list[str | None]:
    """Return each value as the name of a class, None where it is missing.

    Whole numbers lose their ``.0``; empty text and NaN are missing.

    Raises:
        InputError: ``PK-L07``, numbers with a fraction.

    >>> class_names(np.array([1.0, 2.0, np.nan]), "label")
    ['1', '2', None]
    """
    array = np.asarray(values)
    if array.dtype.kind == "f":
        fractions = array[np.isfinite(array) & (array != np.round(array))]
        if len(fractions):
            what = (
                f"column {name!r} holds numbers with a fraction ({listed(fractions.tolist(), 3)}), which are no classes"
            )
            raise InputError(Problem("PK-L07", what, "use kind: bins"))
        return [str(int(value)) if np.isfinite(value) else None for value in array]
    if array.dtype.kind == "b":
        return ["true" if value else "false" for value in array]
    return [None if is_missing(value) else _class_name(value) for value in array.tolist()]


def _class_name(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


_POINT_ZERO = re.compile(r"^(-?\d+)\.0*$")


def _warn_lookalikes(labels: Labels, name: str) -> None:
    alike: dict[str, str] = {}
    for label in labels.classes:
        plain = _POINT_ZERO.sub(r"\1", unicodedata.normalize("NFC", label).strip().casefold())
        if plain in alike:
            text = (
                f"classes {alike[plain]!r} and {label!r} of column {name!r} differ only in case, spaces, Unicode form "
                "or a '.0'"
            )
            warnings.warn(text, ProbekitWarning, stacklevel=3)
        alike[plain] = label


class ColumnFactor(LabelFactor):
    """The values of a column are the classes."""

    kind: Literal["column"] = "column"
    column: str = Field("label", description="the dataset's column")

    def label(self, columns: Columns) -> Labels:
        """Number the column's values: whole numbers by size, else by name."""
        labels = Labels.of(class_names(column(columns, self.column), self.column))
        _warn_lookalikes(labels, self.column)
        return labels


_RANGE = re.compile(r"(-?\d+)\s*-\s*(-?\d+)")


class GroupFactor(LabelFactor):
    """Groups of a column's values are the classes; a value in no group has no label."""

    kind: Literal["group"] = "group"
    column: str = Field("label", description="the dataset's column")
    groups: dict[str, str | list[str | int]] = Field(
        min_length=2,
        description="from a class to its values: a list, or text such as '0-397, 400' (ranges include both ends)",
    )

    @model_validator(mode="after")
    def _no_value_twice(self) -> GroupFactor:
        self._names()
        return self

    def _names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for group, values in self.groups.items():
            parts = values.split(",") if isinstance(values, str) else [str(value) for value in values]
            for part in (part.strip() for part in parts):
                ends = _RANGE.fullmatch(part) if isinstance(values, str) else None
                if ends and int(ends[2]) - int(ends[1]) > 1_000_000:
                    raise fault("PK-Y30", f"range {part!r} of group {group!r} holds over 1,000,000 values")
                members = range(int(ends[1]), int(ends[2]) + 1) if ends else [part]
                for member in map(str, members):
                    if names.setdefault(member, group) != group:
                        raise fault("PK-Y29", f"value {member!r} is in group {names[member]!r} and in {group!r}")
        return names

    def label(self, columns: Columns) -> Labels:
        """Name each value's group; the classes keep the order of the spec."""
        names = self._names()
        values = class_names(column(columns, self.column), self.column)
        unused = set(self.groups) - {names[value] for value in values if value in names}
        if unused:
            what = f"no value of column {self.column!r} is in the groups {listed(sorted(unused))}"
            raise InputError(Problem("PK-L01", what, f"values: {listed(sorted({v for v in values if v is not None}))}"))
        return Labels.of([names.get(value) if value is not None else None for value in values], list(self.groups))


class BinsFactor(LabelFactor):
    """Ranges of a number are the classes."""

    kind: Literal["bins"] = "bins"
    column: str = Field(description="the dataset's column of numbers")
    edges: list[float] | None = Field(
        None, min_length=1, description="where a bin ends and the next begins; an edge belongs to the upper bin"
    )
    quantiles: int | None = Field(
        None, ge=2, le=100, description="instead of edges: so many bins of about equal size over all examples"
    )

    @field_validator("edges")
    @classmethod
    def _rising(cls, edges: list[float] | None) -> list[float] | None:
        if edges is not None and any(low >= high for low, high in pairwise(edges)):
            raise fault("PK-Y29", f"edges must rise, got {edges}")
        return edges

    @model_validator(mode="after")
    def _one_way(self) -> BinsFactor:
        if (self.edges is None) == (self.quantiles is None):
            raise fault("PK-Y29", "needs either 'edges' or 'quantiles'")
        return self

    def label(self, columns: Columns) -> Labels:
        """Put each number in its bin; NaN has no label."""
        values = numbers(columns, self.column)
        known = values[np.isfinite(values)]
        if not len(known):
            raise InputError(Problem("PK-L06", f"column {self.column!r} holds no finite number"))
        edges = self.edges
        if edges is None:
            inner = np.linspace(0, 1, (self.quantiles or 2) + 1)[1:-1]
            edges = sorted({float(edge) for edge in np.quantile(known, inner)})
        texts = [f"{edge:g}" for edge in edges]
        if len(set(texts)) < len(texts):
            texts = [repr(float(edge)) for edge in edges]
        names = [f"< {texts[0]}", *(f"{a} to {b}" for a, b in pairwise(texts)), f">= {texts[-1]}"]
        index = np.digitize(values, edges)
        used = sorted(set(index[np.isfinite(values)].tolist()))
        labels = [names[i] if ok else None for i, ok in zip(index, np.isfinite(values), strict=True)]
        return Labels.of(labels, [names[i] for i in used])


class TableFactor(LabelFactor):
    """Labels from another file, joined by the examples' ids."""

    kind: Literal["table"] = "table"
    path: SpecPath = Field(description="a .csv or .parquet file")
    on: str = Field("id", description="the table's column of ids")
    column: str = Field("label", description="the table's column of classes")

    def label(self, columns: Columns) -> Labels:
        """Join by id; an id that the table lacks has no label, one that it has twice is refused."""
        table = read_table(Path(self.path))
        ids = [str(value) for value in column(table, self.on)]
        values = class_names(column(table, self.column), self.column)
        twice = [name for name, count in Counter(ids).items() if count > 1]
        if twice:
            what = f"{len(twice)} ids stand more than once: {listed(twice)}"
            raise InputError(Problem("PK-L05", what, file=self.path))
        by_id = dict(zip(ids, values, strict=True))
        examples = [str(value) for value in columns["id"]]
        extra = set(by_id) - set(examples)
        if len(extra) == len(by_id):
            what = f"no id of the table {listed(ids)} is one of the examples' {listed(examples)}"
            raise InputError(Problem("PK-L05", what, file=self.path))
        if extra:
            text = f"{self.path}: {len(extra)} ids of the table are no example's: {listed(sorted(extra))}"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        labels = Labels.of([by_id.get(name) for name in examples])
        _warn_lookalikes(labels, self.column)
        return labels


@hookimpl
def register_label_factors() -> list[type[LabelFactor]]:
    """The label factors of this module."""
    return [BinsFactor, ColumnFactor, GroupFactor, TableFactor]
