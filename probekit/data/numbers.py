"""The label factor ``number``: a number is predicted, not a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from probekit.components import LabelFactor, Labels
from probekit.data.tables import column, example_at, is_missing
from probekit.errors import InputError, Problem
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.components import Array, Columns

LARGEST = 1e18
"""The square of a larger number is no float32."""


class NumberFactor(LabelFactor):
    """The numbers of a column are what is predicted."""

    kind: Literal["number"] = "number"
    column: str = Field(description="the dataset's column of numbers; empty text and NaN are missing")

    def label(self, columns: Columns) -> Labels:
        """Read the column.

        Raises:
            InputError: ``PK-L16`` no such column, ``PK-L26`` a value that is no number, or none of use.
        """
        values = finite_numbers(column(columns, self.column), self.column, columns["id"])
        return Labels((), values, "number")


def finite_numbers(values: Array, name: str, ids: Array) -> Array:
    """Return numbers as float64, shape (examples,), NaN where one is missing.

    Args:
        values: shape (examples,): numbers, or text; empty text and NaN are missing.
        name: of the column, for messages.
        ids: of the examples, for messages.

    Raises:
        InputError: ``PK-L26``, a value is no number, infinite, or above 1e18 in size.
    """
    numbers = np.full(len(values), np.nan)
    if values.dtype.kind in "iufb":
        numbers[:] = values
    else:
        for row, value in enumerate(values.tolist()):
            if not is_missing(value):
                numbers[row] = _number(value, row, name, ids)
    wrong = np.flatnonzero(np.abs(numbers) > LARGEST)
    if len(wrong):
        row = int(wrong[0])
        what = f"column {name!r} holds {numbers[row]:g} at example {example_at(ids, row)}"
        if np.isinf(numbers[row]):
            raise InputError(Problem("PK-L26", f"{what}, which is not finite", "leave it empty, and set missing: drop"))
        raise InputError(Problem("PK-L26", f"{what}, beyond 1e18", "give the column in a larger unit"))
    return numbers


def _number(value: object, row: int, name: str, ids: Array) -> float:
    try:
        if isinstance(value, str | bytes | int | float) and "_" not in str(value):
            return float(value)
    except ValueError:
        pass
    shown = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    what = f"column {name!r} holds {shown!r} at example {example_at(ids, row)}, which is no number"
    raise InputError(Problem("PK-L26", what, "mend it or leave it empty; or use kind: column"))


@hookimpl
def register_label_factors() -> list[type[LabelFactor]]:
    """The label factor of this module."""
    return [NumberFactor]
