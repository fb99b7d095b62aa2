"""The built-in controls: ``shuffled_labels``, ``control_task`` and ``random_weights``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from probekit.components import CONTROL_TASK, Control, LabelControl, ModelControl
from probekit.data.tables import example_at, is_missing
from probekit.data.targets import too_fine
from probekit.errors import InputError, ProbekitWarning, Problem
from probekit.hookspecs import hookimpl
from probekit.spec.splits import TRAIN, VALID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Array, Backend, Columns, IntArray, Target

_TRIES = 100
"""Draws that may ask nothing, or the task itself, before the column is refused."""
_FEW_SEEN = 0.5
"""Share of test rows with a value out of train below which a control task is told to be too hard."""


class ShuffledLabels(LabelControl):
    """The labels of a factor, permuted among the labelled rows of each split.

    No features tell them. So their test error is chance by construction, and their training error shows how many
    labels a probe learns by heart: its capacity (Zhang et al. 2017, section 2.1).
    """

    kind: Literal["shuffled_labels"] = "shuffled_labels"

    def draw(
        self,
        target: Target,
        parts: Mapping[str, IntArray],
        columns: Columns,  # noqa: ARG002 - no column is needed
        generator: np.random.Generator,
    ) -> Array:
        """Permute the rows' labels, those of a ``multilabel`` factor together. A split keeps its counts."""
        codes = target.codes.copy()
        moved = np.zeros(len(codes), dtype=np.bool_)
        for part in parts.values():
            rows = part[~moved[part]]  # where leakage is allowed, a row may be in two splits
            codes[rows] = target.codes[generator.permutation(rows)]
            moved[rows] = True
        return codes


class ControlTask(LabelControl):
    """One random label for each value of a column, the same wherever the value stands.

    A probe can learn it only value by value. The accuracy on the task less that on the control is the probe's
    selectivity (Hewitt & Liang 2019, section 2).
    """

    kind: Literal["control_task"] = "control_task"
    by: str = Field(description="the column whose values get a label each, such as the word at a position")

    def control_name(self) -> str:
        """Return ``control_task by COLUMN``."""
        return f"{CONTROL_TASK} by {self.by}"

    def needed_columns(self) -> dict[str, str]:
        """Return the column of the values."""
        return {"by": self.by}

    def draw(
        self, target: Target, parts: Mapping[str, IntArray], columns: Columns, generator: np.random.Generator
    ) -> Array:
        """Give each value the label of a training row that is drawn at random, and so with the labels' own shares.

        A value that no training row has gets that of a training row's control label instead: it cannot be learned,
        and no class is asked for that train lacks. Where all training rows got one label, or their own by other names,
        all is drawn anew.

        Raises:
            InputError: ``PK-L28``: a labelled row has no value, all have one, each label has one, no test row has a
                value of train, or there are too few values for two labels.
        """
        rows, values = self._values(parts, columns)
        train = np.searchsorted(rows, parts[TRAIN])
        truth = target.codes[rows]
        self._refuse_useless(target, truth, values, train)
        self._look_at_tests(target, parts, columns)
        for _ in range(_TRIES):
            codes = target.codes.copy()
            codes[rows] = _labels_of_values(truth, values, train, generator)[values]
            if _asks_something(codes, target, parts):
                return codes
        what = f"the values of column {self.by!r} are too few, or one label of {target.factor!r} is too common: "
        what += f"in {_TRIES} draws the training rows got one label, or their own by other names"
        raise self._problem(what, "name a column with more values")

    def facts(self, target: Target, parts: Mapping[str, IntArray], columns: Columns) -> dict[str, Any]:  # noqa: ARG002
        """Return ``values``, how many there are, and ``seen``: by split, the share of rows whose value is in train."""
        rows, values = self._values(parts, columns)
        known = np.zeros(int(values.max()) + 1, dtype=np.bool_)
        known[values[np.searchsorted(rows, parts[TRAIN])]] = True
        seen = {split: float(known[values[np.searchsorted(rows, part)]].mean()) for split, part in parts.items()}
        return {"values": len(known), "seen": seen}

    def _values(self, parts: Mapping[str, IntArray], columns: Columns) -> tuple[IntArray, IntArray]:
        """Return the labelled rows, sorted, and the number of the value of each."""
        rows = np.unique(np.concatenate(list(parts.values())))
        given = columns[self.by][rows].tolist()
        missing = [row for row, value in zip(rows.tolist(), given, strict=True) if is_missing(value)]
        if missing:
            first = example_at(columns["id"], missing[0])
            what = f"column {self.by!r} has no value at {len(missing)} of {len(rows)} labelled rows, the first: {first}"
            raise self._problem(what, "mend the column, or name the factors that it is for: factors: [...]")
        names = [str(value) for value in given]
        numbers = {name: number for number, name in enumerate(sorted(set(names)))}
        return rows, np.array([numbers[name] for name in names], dtype=np.int64)

    def _refuse_useless(self, target: Target, truth: Array, values: IntArray, train: IntArray) -> None:
        if (values[train] == values[train[0]]).all():
            what = f"column {self.by!r} has one value only in the training rows of {target.factor!r}"
            raise self._problem(what, "name a column with more values")
        pairs, labels, count = _counts(truth, values)
        # Numbers may all differ without telling the value.
        if pairs == labels and (target.task != "number" or pairs == count):
            what = f"each label of {target.factor!r} has one value of column {self.by!r}: the control would be the task"
            raise self._problem(what, "name another column, or the factors that it is for: factors: [...]")

    def _look_at_tests(self, target: Target, parts: Mapping[str, IntArray], columns: Columns) -> None:
        """Refuse a column of which no test row's value can be learned; warn where few can."""
        seen = self.facts(target, parts, columns)["seen"]
        tests = {split: share for split, share in seen.items() if split not in {TRAIN, VALID}}
        if not any(tests.values()):
            what = f"no test row has a value of column {self.by!r} that is in train, so that no label can be learned"
            raise self._problem(what, "name a column whose values come again, or use shuffled_labels")
        for split, share in tests.items():
            if share < _FEW_SEEN:
                text = (
                    f"{self.control_name()} for {target.factor}: train has the value of {100 * share:.0f} % of the "
                    f"{split!r} rows; the others' control labels cannot be known, which makes the selectivity larger"
                )
                warnings.warn(text, ProbekitWarning, stacklevel=2)

    @staticmethod
    def _problem(what: str, hint: str) -> InputError:
        return InputError(Problem("PK-L28", what, hint, "by"))


class RandomWeights(ModelControl):
    """The same architecture with random weights, probed at the same taps.

    What a probe reads there, the architecture and the probe give it; only the difference from the trained model comes
    from training (Zhang & Bowman 2018, "Language modeling teaches you more than translation does").
    """

    kind: Literal["random_weights"] = "random_weights"

    def twin(self, backend: Backend, seed: int) -> Backend:
        """Return the model with weights drawn under the seed, where its backend can."""
        return backend.with_random_weights(seed)


def _labels_of_values(truth: Array, values: IntArray, train: IntArray, generator: np.random.Generator) -> Array:
    """Return a label for each value; of one that no training row has, a control label of a training row."""
    labels = np.empty((int(values.max()) + 1, *truth.shape[1:]), truth.dtype)
    seen = np.unique(values[train])
    labels[seen] = truth[generator.choice(train, len(seen))]
    others = np.setdiff1d(np.arange(len(labels)), seen, assume_unique=True)
    labels[others] = labels[values[generator.choice(train, len(others))]]
    return labels


def _asks_something(codes: Array, target: Target, parts: Mapping[str, IntArray]) -> bool:
    """Return whether the training rows have two labels, not their own, and each yes/no label both answers.

    Of numbers every split has two, and they differ by more than float32's rounding.
    """
    train = parts[TRAIN]
    wanted = parts if target.task == "number" else {TRAIN: train}
    if not all(np.any(codes[part] != codes[part[:1]], axis=0).all() for part in wanted.values()):
        return False
    if target.task == "number":
        return not too_fine(codes[train])
    pairs, labels, own = _counts(codes[train], target.codes[train])
    return not pairs == labels == own


def _counts(labels: Array, others: Array) -> tuple[int, int, int]:
    """Return how many different pairs, labels and other labels rows have."""
    one, other = (np.unique(codes, axis=0, return_inverse=True)[1].ravel() for codes in (labels, others))
    counts = int(one.max()) + 1, int(other.max()) + 1
    return len(np.unique(one * counts[1] + other)), *counts


@hookimpl
def register_controls() -> list[type[Control]]:
    """The controls of this module."""
    return [ControlTask, RandomWeights, ShuffledLabels]
