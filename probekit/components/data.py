"""The base classes of datasets and label factors."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from probekit.errors import InputError, Problem, nearest
from probekit.sections import Component, runtime_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components.arrays import Array, BoolArray, Columns, IntArray


class ColumnTable(dict[str, "Array"]):
    """Columns by name; reading one that is absent refuses it and names the nearest.

    Raises:
        InputError: ``PK-L16``, from ``columns[name]``.
    """

    def __missing__(self, name: str) -> Array:
        raise InputError(Problem("PK-L16", f"no column {name!r}", nearest(name, self, "columns")))


class Examples:
    """An opened dataset: all columns, and the model's inputs of any rows.

    Args:
        columns: one value per example each; an ``id`` column is made from row numbers when there is none.
        inputs: {name: (examples, ...)}; left empty by a subclass that overrides :meth:`read`.
        input_names: the names that :meth:`read` gives; default: those of ``inputs``.
    """

    def __init__(
        self, columns: Columns, inputs: Mapping[str, Array] | None = None, input_names: Sequence[str] | None = None
    ) -> None:
        self._inputs = dict(inputs or {})
        self.input_names = tuple(input_names if input_names is not None else self._inputs)
        self.columns: dict[str, Array] = ColumnTable(columns)
        some = next(iter([*self.columns.values(), *self._inputs.values()]), np.zeros(0))
        self.columns.setdefault("id", np.arange(len(some)).astype(str))

    def __len__(self) -> int:
        return len(self.columns["id"])

    def read(self, rows: IntArray) -> dict[str, Array]:
        """Return ``{input name: (len(rows), ...)}``, the same for the same rows every time."""
        return {name: array[rows] for name, array in self._inputs.items()}

    def digests(self, rows: IntArray) -> list[bytes]:
        """Return 16 bytes per row that identify what :meth:`read` gives for it.

        This one reads the rows. Where decoding is dear, a subclass digests what is decoded, and how.
        """
        return row_digests(self.read(rows), len(rows))


def row_digests(arrays: Mapping[str, Array], count: int) -> list[bytes]:
    """Return 16 bytes per row that identify the content of arrays, each (count, ...), and their names and dtypes."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(count)]
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        head = f"{name}:{array.dtype.str}:{array.shape[1:]}".encode()
        for row, digest in enumerate(digests):
            digest.update(head)
            digest.update(repr(array[row]).encode() if array.dtype.hasobject else array[row].tobytes())
    return [digest.digest() for digest in digests]


class Dataset(Component):
    """Where the examples come from."""

    category: ClassVar[str] = "dataset"

    on_bad_input: Literal["fail", "skip"] = runtime_option(
        "fail", "an example that cannot be read: 'fail' names it, 'skip' leaves it out and the report counts it"
    )
    workers: int = runtime_option(2, "threads that read ahead of the model", ge=0, le=256)

    @abstractmethod
    def open(self) -> Examples:
        """Read the columns, decode no inputs, and return what reads them.

        Raises:
            InputError: files are missing, damaged or do not fit together.
        """


Task = Literal["classes", "multilabel", "number"]
"""What is asked of a row: one class out of several, several yes/no labels, or a number."""


def known_rows(codes: Array, task: Task) -> BoolArray:
    """Return which rows have a label, shape (rows,); see :class:`Labels` for the codes."""
    if task == "number":
        return np.isfinite(codes)
    return np.asarray(codes >= 0 if task == "classes" else (codes >= 0).all(axis=1))


@dataclass(frozen=True)
class Labels:
    """The classes of one label factor and each example's.

    Args:
        classes: names, in the order of their codes; of the yes/no labels of a ``multilabel`` factor; empty for a
            number.
        codes: of ``classes``: shape (examples,), the class's position in ``classes``, -1 where the label is missing.
            Of ``multilabel``: shape (examples, labels), 1 for yes, 0 for no, a row of -1 where any is missing. Of
            ``number``: shape (examples,), float64, NaN where it is missing.
        task: which of the three.
    """

    classes: tuple[str, ...]
    codes: Array
    task: Task = "classes"

    def known(self) -> BoolArray:
        """Return which examples have a label, shape (examples,)."""
        return known_rows(self.codes, self.task)

    @classmethod
    def of(cls, values: Sequence[str | None], classes: Sequence[str] | None = None) -> Labels:
        """Number the classes: as given, else integers by size, else by name.

        >>> Labels.of(["10", "9", None]).classes
        ('9', '10')
        """
        if classes is None:
            names = {value for value in values if value is not None}
            integers = all(re.fullmatch(r"-?\d{1,18}", name) for name in names)
            classes = sorted(names, key=(lambda name: (int(name), name)) if integers else None)
        code = {name: index for index, name in enumerate(classes)}
        codes = np.array([-1 if value is None else code[value] for value in values], dtype=np.int64)
        return cls(tuple(classes), codes)


class LabelFactor(Component):
    """A named way to label examples, made from the dataset's columns."""

    category: ClassVar[str] = "factor"

    missing: Literal["error", "drop"] = Field(
        "error", description="examples without a label: 'error' refuses them, 'drop' leaves them out of this factor"
    )

    @abstractmethod
    def label(self, columns: Columns) -> Labels:
        """Return the classes and each example's.

        Args:
            columns: of the dataset; ``columns[name]`` of one that is absent raises ``PK-L16`` and names the nearest.

        Raises:
            InputError: a column is absent or its values cannot be used.
        """
