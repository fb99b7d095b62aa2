"""Which test rows of one run are which of the other, and whether their labels agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probekit.errors import InputError, Problem, listed

if TYPE_CHECKING:
    from probekit.comparing.sides import Side
    from probekit.components import Array, IntArray, Task


@dataclass(frozen=True, eq=False)
class SharedRows:
    """The labelled test rows of a factor that two runs have in common.

    Args:
        factor: the label factor.
        task: what is asked of a row.
        first: shape (rows,), places among the first run's rows, in its order.
        second: shape (rows,), places of the same among the second run's.
        counts: labelled test rows of each run.
        first_codes: their labels in the first run: of yes/no labels (rows, labels), else (rows,).
        second_codes: their labels in the second run.
        units: shape (rows,), the independent unit of each row.
        over: what the units are: ``examples`` or ``groups``.
    """

    factor: str
    task: Task
    first: IntArray
    second: IntArray
    counts: tuple[int, int]
    first_codes: Array
    second_codes: Array
    units: IntArray
    over: str


def shared_rows(first: Side, second: Side, factor: str) -> SharedRows:
    """Pair the rows of both runs by example id, and by position where rows are positions.

    Args:
        first: one side.
        second: the other.
        factor: a factor of both.

    Raises:
        InputError: ``PK-X32`` the factor asks something else in each, ``PK-X33`` no row is in both, or rows cannot be
            told apart, ``PK-X34`` labels of one row differ.
    """
    here, there = first.run.predictions, second.run.predictions
    task = _same_task(first, second, factor)
    ones, others = here.rows(first.split, factor), there.rows(second.split, factor)
    counts = (len(ones), len(others))
    if first.run is not second.run or first.split != second.split:
        ones, others = _paired(first, second, ones, others)
    if not len(ones):
        what = f"no test row of {factor!r} is in both runs: {counts[0]:,} in the first, {counts[1]:,} in the second"
        raise InputError(Problem("PK-X33", what, "compare runs of the same data, with ids and splits that agree"))
    codes = here.codes(factor)[ones], there.codes(factor)[others]
    wrong = np.flatnonzero(~_same_labels(first, second, factor, task, *codes))
    if len(wrong):
        ids = here.ids[ones[wrong]].tolist()
        what = f"{len(wrong):,} of {len(ones):,} shared rows have another label of {factor!r} in each run"
        hint = f"the data are not the same; the first: {listed(dict.fromkeys(ids), 3)}"
        raise InputError(Problem("PK-X34", what, hint))
    if here.groups is None and there.groups is not None:
        units, over = there.units[others], there.over
    else:
        units, over = here.units[ones], here.over
    return SharedRows(factor, task, ones, others, counts, *codes, units, over)


def _same_task(first: Side, second: Side, factor: str) -> Task:
    tasks = [side.run.predictions.task(factor) for side in (first, second)]
    if tasks[0] != tasks[1]:
        what = f"the factor {factor!r} asks something else in each run: {tasks[0]} and {tasks[1]}"
        raise InputError(Problem("PK-X32", what, "name another factor with --factor"))
    only = sorted(set(first.run.classes(factor)) ^ set(second.run.classes(factor)))
    if tasks[0] == "multilabel" and only:
        what = f"the factor {factor!r} has other yes/no labels in each run: only one has {listed(only)}"
        raise InputError(Problem("PK-X32", what, "name another factor with --factor"))
    return tasks[0]


def _paired(first: Side, second: Side, ones: IntArray, others: IntArray) -> tuple[IntArray, IntArray]:
    """Return the rows that are in both, in the first's order."""
    here, there = first.run.predictions, second.run.predictions
    if (here.positions is None) != (there.positions is None):
        what = "rows are examples in one run and positions of them in the other"
        raise InputError(Problem("PK-X33", what, "compare runs whose rows: are the same"))
    keys = np.unique(np.concatenate([here.ids[ones], there.ids[others]]), return_inverse=True)[1].ravel()
    if here.positions is not None and there.positions is not None:
        places = np.concatenate([here.positions[ones], there.positions[others]]).astype(np.int64)
        keys = keys * (int(places.max(initial=0)) + 1) + places
    left, right = keys[: len(ones)], keys[len(ones) :]
    if np.array_equal(left, right):
        return ones, others
    for side, some, rows in ((first, left, ones), (second, right, others)):
        values, counts = np.unique(some, return_counts=True)
        if len(values) < len(some):
            twice = side.run.predictions.ids[rows[np.isin(some, values[counts > 1])]].tolist()
            what = f"split {side.split!r} of {side.run.directory!r} has several rows of one id: "
            what += listed(dict.fromkeys(twice), 3)
            raise InputError(Problem("PK-X33", what, "give every example an id of its own, and run both again"))
    _, at, beside = np.intersect1d(left, right, assume_unique=True, return_indices=True)
    order = np.argsort(at)
    return ones[at[order]], others[beside[order]]


def _same_labels(first: Side, second: Side, factor: str, task: Task, first_codes: Array, second_codes: Array) -> Array:
    """Return which rows have one label in both runs, by the names of classes, shape (rows,)."""
    if task == "number":
        return np.asarray(first_codes == second_codes)
    names, others = first.run.classes(factor), second.run.classes(factor)
    place = {name: number for number, name in enumerate(others)}
    if task == "multilabel":
        return np.asarray((first_codes == second_codes[:, [place[name] for name in names]]).all(axis=1))
    return np.asarray(np.array([place.get(name, -1) for name in names])[first_codes] == second_codes)
