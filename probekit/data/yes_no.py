"""The label factor ``multilabel``: several yes/no labels, each independent of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, field_validator

from probekit.components import LabelFactor, Labels
from probekit.data.tables import column, example_at, is_missing
from probekit.errors import InputError, Problem, listed
from probekit.hookspecs import hookimpl
from probekit.sections import fault

if TYPE_CHECKING:
    from probekit.components import Array, Columns, IntArray

_ANSWERS = {"yes": 1, "true": 1, "1": 1, "no": 0, "false": 0, "0": 0}


class MultilabelFactor(LabelFactor):
    """Columns of yes/no are the labels; an example without one of them has none."""

    kind: Literal["multilabel"] = "multilabel"
    columns: list[str] = Field(
        min_length=1,
        description="the dataset's columns, one a label: booleans, 1 and 0, or the texts yes and no, true and false",
    )

    @field_validator("columns")
    @classmethod
    def _no_column_twice(cls, columns: list[str]) -> list[str]:
        twice = [name for index, name in enumerate(columns) if name in columns[:index]]
        if twice:
            raise fault("PK-Y27", f"columns stand twice: {listed(twice)}", "keep one of each")
        return columns

    def label(self, columns: Columns) -> Labels:
        """Read each column's answers; the labels keep the order of the spec.

        Raises:
            InputError: of all columns at once: ``PK-L16`` there is none, ``PK-L25`` a value is neither yes nor no.
        """
        answers: list[IntArray] = []
        problems: list[Problem] = []
        for name in self.columns:
            try:
                answers.append(yes_no(column(columns, name), name, columns["id"]))
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(*problems)
        codes = np.stack(answers, axis=1)
        codes[(codes < 0).any(axis=1)] = -1
        return Labels(tuple(self.columns), codes, "multilabel")


def yes_no(values: Array, name: str, ids: Array) -> IntArray:
    """Return 1 for yes, 0 for no and -1 for a missing answer, shape (examples,).

    Args:
        values: shape (examples,): booleans, the numbers 1 and 0, or the texts yes, no, true, false, 1 and 0 in any
            case; empty text and NaN are missing.
        name: of the column, for messages.
        ids: of the examples, for messages.

    Raises:
        InputError: ``PK-L25``, another value.
    """
    codes = np.empty(len(values), dtype=np.int64)
    others: dict[str, int] = {}
    known: dict[tuple[type, str], int | None] = {}
    for row, value in enumerate(values.tolist()):
        key = (type(value), str(value))
        if key not in known:
            known[key] = _answer(value)
        code = known[key]
        if code is None:
            others.setdefault(_text(value), row)
        codes[row] = -1 if code is None else code
    if others:
        first, row = next(iter(others.items()))
        more = f" and {len(others) - 1} other values" if len(others) > 1 else ""
        what = f"column {name!r} holds {first!r} at example {example_at(ids, row)}{more}, which is neither yes nor no"
        raise InputError(Problem("PK-L25", what, "write yes or no, true or false, 1 or 0; or use kind: column"))
    return codes


def _answer(value: object) -> int | None:
    """Return 1, 0, -1 where it is missing, or None for what is no answer."""
    if is_missing(value):
        return -1
    if isinstance(value, str | bytes):
        return _ANSWERS.get(_text(value).strip().casefold())
    return int(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


@hookimpl
def register_label_factors() -> list[type[LabelFactor]]:
    """The label factor of this module."""
    return [MultilabelFactor]
