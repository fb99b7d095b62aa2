"""All that is asked of a model's features: the opened data, its labels, its splits, the targets of the probes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from probekit.data.splits import refuse_shared, split_examples
from probekit.data.targets import make_controls, make_targets, missing_columns, needed_columns, read_labels
from probekit.errors import InputError, ProbekitWarning, Problem, listed, nearest
from probekit.spec.splits import TEST, TRAIN, VALID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components import Array, Examples, IntArray, Labels, Target
    from probekit.spec import Spec

T = TypeVar("T")

_ROWS_AT_ONCE = 4096


def _r2_of_constant(numbers: Array, constant: float) -> float:
    """Return the R² of saying one number everywhere."""
    return float(-len(numbers) * (numbers.mean() - constant) ** 2 / ((numbers - numbers.mean()) ** 2).sum())


def _summary(numbers: Array) -> dict[str, float]:
    found = {"mean": numbers.mean(), "deviation": numbers.std(), "smallest": numbers.min(), "largest": numbers.max()}
    return {name: float(value) for name, value in found.items()}


@dataclass
class Question:
    """All that is asked of the features, whichever model they come from.

    One row of features is an example, or one position of it.

    Args:
        examples: the opened dataset.
        labels: of every factor, one entry of the codes a feature row.
        parts: the dataset's rows of each split.
        rows: the dataset's rows of any split, sorted; what features are made of.
        targets: the true labels of each factor, then the controls; counted in feature rows.
        owners: shape (feature rows,), the place of each row's example within ``rows``.
        positions: shape (feature rows,), each row's position in its example; None where rows are examples.
        places: the feature rows of each split.
        group: the column whose values are no independent evidence of each other; None: each example is by itself.
        told: what each control says of itself, in the order of :attr:`controls`.
    """

    examples: Examples
    labels: dict[str, Labels]
    parts: dict[str, IntArray]
    rows: IntArray
    targets: list[Target]
    owners: IntArray
    positions: IntArray | None
    places: dict[str, IntArray]
    group: str | None = None
    told: list[dict[str, Any]] = field(default_factory=list)

    @property
    def truths(self) -> list[Target]:
        """The true labels of each factor."""
        return [target for target in self.targets if target.control is None]

    @property
    def controls(self) -> list[Target]:
        """The other labels of each factor, control by control and seed by seed."""
        return [target for target in self.targets if target.control is not None]

    def column(self, name: str) -> Array:
        """Return a column of the dataset, one value a feature row."""
        values: Array = self.examples.columns[name][self.rows[self.owners]]
        return values

    def within(self, split: str, target: Target) -> IntArray:
        """Return the labelled feature rows of a split."""
        rows = self.places[split]
        labelled: IntArray = rows[target.known()[rows]]
        return labelled

    @cached_property
    def units(self) -> IntArray:
        """Each feature row's independent unit, shape (feature rows,): its group, else its example."""
        if self.group is None:
            return self.owners
        return np.unique(self.column(self.group).astype(str), return_inverse=True)[1].ravel()

    def first_test(self) -> str:
        """Return the name of the first test split, whose error is the headline."""
        return next(split for split in self.parts if split not in {TRAIN, VALID})

    def headline(self, by_split: Mapping[str, float]) -> dict[str, float]:
        """Return the values of train, valid and test, the first test split where there are several."""
        return {TRAIN: by_split[TRAIN], VALID: by_split[VALID], TEST: by_split[self.first_test()]}

    def baseline(self, target: Target) -> dict[str, float]:
        """Return, by split, what knowing the training labels alone reaches.

        The error of always saying the commonest class; of yes/no labels the mean over them of always giving the
        commoner answer; of a number the R² of always saying the mean.
        """
        if target.task == "multilabel":
            by_label = self.label_baselines(target)
            return {split: float(np.mean([one[split] for one in by_label.values()])) for split in self.parts}
        rows = {split: target.codes[self.within(split, target)] for split in self.parts}
        if target.task == "number":
            mean = target.codes[target.train].mean()
            return {split: _r2_of_constant(numbers, mean) for split, numbers in rows.items()}
        commonest = np.bincount(target.codes[target.train]).argmax()
        return {split: float(np.mean(codes != commonest)) for split, codes in rows.items()}

    def label_baselines(self, target: Target) -> dict[str, dict[str, float]]:
        """Return the error of each yes/no label, by split, of always giving its commoner answer in train."""
        commoner = target.codes[target.train].mean(axis=0) > 0.5
        wrong = {
            split: (target.codes[self.within(split, target)] != commoner).mean(axis=0).tolist() for split in self.parts
        }
        return {name: {split: one[index] for split, one in wrong.items()} for index, name in enumerate(target.classes)}

    def label_facts(self, target: Target) -> dict[str, Any]:
        """Return what a factor asks, its labelled rows and their labels by split, and the baseline, for the provenance.

        ``counts`` are those of the classes; of the answer yes, by label. Of numbers there is ``numbers`` instead: mean,
        standard deviation and both ends.
        """
        rows = {split: target.codes[self.within(split, target)] for split in self.parts}
        facts: dict[str, Any] = {
            "task": target.task,
            "classes": list(target.classes),
            "rows": self._with_test({split: len(codes) for split, codes in rows.items()}),
        }
        if target.task == "number":
            facts["numbers"] = self._with_test({split: _summary(numbers) for split, numbers in rows.items()})
        elif target.task == "multilabel":
            facts["counts"] = self._with_test({split: codes.sum(axis=0).tolist() for split, codes in rows.items()})
            facts["label_baselines"] = {
                name: self._with_test(one) for name, one in self.label_baselines(target).items()
            }
        else:
            size = len(target.classes)
            counts = {split: np.bincount(codes, minlength=size).tolist() for split, codes in rows.items()}
            facts["counts"] = self._with_test(counts)
        return facts | {"baseline": self._with_test(self.baseline(target))}

    def control_facts(self) -> list[dict[str, Any]]:
        """Return what each control asks, for the provenance.

        ``factor``, ``control`` and ``seed`` tell which it is, ``baseline`` is that of its labels. Of a control task
        ``values`` counts those of the column, and ``seen`` is the share of a split's rows with a value out of train.
        """
        return [
            {
                "factor": target.factor, "control": target.control, "seed": target.seed, **told,
                "baseline": self._with_test(self.baseline(target)),
            }
            for target, told in zip(self.controls, self.told, strict=True)
        ]  # fmt: skip

    def _with_test(self, by_split: Mapping[str, T]) -> dict[str, T]:
        """Return the values of all splits, and under ``test`` that of the first test split if none has that name."""
        return {**by_split, **({} if TEST in by_split else {TEST: by_split[self.first_test()]})}

    def refuse_duplicates(self, digests: Sequence[bytes], *, allow: bool) -> None:
        """Refuse one content in two splits, and one content with two labels.

        Args:
            digests: of the inputs of ``rows``.
            allow: warn instead.

        Raises:
            InputError: ``PK-L10`` or ``PK-L12``.
        """
        keys = np.array([*digests, None], dtype=object)[:-1]
        ids = self.examples.columns["id"][self.rows].astype(str)
        within = {split: np.searchsorted(self.rows, rows) for split, rows in self.parts.items()}
        refuse_shared(within, keys, "content", "PK-L10", allow=allow, names=ids)
        for target in self.truths if self.positions is None else []:
            first: dict[bytes, int] = {}
            clashes = []
            for row in np.flatnonzero(target.known()).tolist():
                owner = int(self.owners[row])
                other = first.setdefault(digests[owner], row)
                if np.any(target.codes[other] != target.codes[row]):
                    clashes.append(f"{ids[self.owners[other]]} and {ids[owner]}")
            if clashes:
                what = f"{len(clashes)} examples have the content of another with another label: {listed(clashes, 3)}"
                if not allow:
                    hint = "mend the data, or set splits.allow_leakage: true"
                    raise InputError(Problem("PK-L12", what, hint, f"labels.{target.factor}"))
                warnings.warn(f"labels.{target.factor}: {what}", ProbekitWarning, stacklevel=2)


@dataclass
class Asked:
    """What a spec asks of its data, before it is known how many feature rows each example has.

    Args:
        spec: the spec.
        examples: the opened dataset.
        labels: of every factor whose columns have one value an example; the others are read per position.
        parts: the dataset's rows of each split.
        rows: the dataset's rows of any split, sorted.
    """

    spec: Spec
    examples: Examples
    labels: dict[str, Labels]
    parts: dict[str, IntArray]
    rows: IntArray

    def question(self, counts: IntArray | None = None, positions: IntArray | None = None) -> Question:
        """Return all that is asked, once the feature rows of each example are known.

        Args:
            counts: shape (rows,), feature rows of each example, 0 for one that could not be read; default: one each.
            positions: shape (feature rows,), where rows are positions.

        Raises:
            InputError: the labels or splits cannot be used.
        """
        count = len(self.rows)
        counts = np.ones(count, dtype=np.int64) if counts is None else counts
        owners = np.repeat(np.arange(count), counts)
        gone = self.rows[counts == 0]
        parts = {split: np.setdiff1d(part, gone, assume_unique=True) for split, part in self.parts.items()}
        empty = [split for split, part in parts.items() if not len(part)]
        if empty:
            what = f"no example of {listed(empty)} has a row of features: none can be read, or none has a position"
            raise InputError(Problem("PK-L13", what, field="splits"))
        places = {
            split: np.flatnonzero(np.isin(owners, np.searchsorted(self.rows, part))) for split, part in parts.items()
        }
        whole = self.rows[owners]
        labels = {name: replace(found, codes=found.codes[whole]) for name, found in self.labels.items()}
        late = {name: factor for name, factor in self.spec.labels.items() if name not in labels}
        needed = {"id", *needed_columns(self.spec.controls)}
        if late or not needed <= set(self.examples.columns):
            assert positions is not None  # noqa: S101 - only then are columns read late
            columns = self._columns_of_positions(whole, owners, positions)
        else:
            columns = {name: self.examples.columns[name][whole] for name in needed}
        if late:
            labels |= read_labels(late, columns)
        labels = {name: labels[name] for name in self.spec.labels}
        every = np.arange(len(owners))
        truths = make_targets(labels, places, every, self.spec.splits.seed)
        controls, told = make_controls(self.spec.controls, truths, places, columns)
        group = self.spec.rows.group or self.spec.splits.group
        return Question(
            self.examples, labels, parts, self.rows, truths + controls, owners, positions, places, group, told
        )

    def _columns_of_positions(self, whole: IntArray, owners: IntArray, positions: IntArray) -> dict[str, Array]:
        """Return the columns of feature rows: the dataset's repeated, its (examples, positions) arrays read there."""
        columns = {name: values[whole] for name, values in self.examples.columns.items()}
        columns["position"] = positions
        parts: dict[str, list[Array]] = {}
        readable = np.unique(owners)
        blocks = [readable[start : start + _ROWS_AT_ONCE] for start in range(0, len(readable), _ROWS_AT_ONCE)]
        for block in blocks:
            inputs = self.examples.read(self.rows[block])
            here = (owners >= block[0]) & (owners <= block[-1])
            for name, array in inputs.items():
                if array.ndim == 2 and array.shape[1] > positions[here].max():
                    parts.setdefault(name, []).append(array[np.searchsorted(block, owners[here]), positions[here]])
        return columns | {name: np.concatenate(some) for name, some in parts.items() if len(some) == len(blocks)}


def ask(spec: Spec) -> Asked:
    """Open the data, label and split it: what will be asked of every tap."""
    examples = spec.data.open()
    group = spec.rows.group
    if group is not None and group not in examples.columns:
        hint = nearest(group, examples.columns, "columns")
        raise InputError(Problem("PK-L16", f"no column {group!r}", hint, "rows.group"))
    late = [] if spec.rows.per == "example" else ["position", *examples.input_names]
    absent = missing_columns(spec.controls, [*examples.columns, *late])
    if absent:
        raise InputError(*absent)
    if spec.rows.per == "example":
        labels = read_labels(spec.labels, examples.columns)
    else:
        labels = _labels_of_examples(spec, examples)
    parts = split_examples(spec.splits, examples.columns, labels)
    rows = np.unique(np.concatenate(list(parts.values())))
    return Asked(spec, examples, labels, parts, rows)


def _labels_of_examples(spec: Spec, examples: Examples) -> dict[str, Labels]:
    """Return the labels of the factors that need no column with a value per position."""
    labels: dict[str, Labels] = {}
    for name, factor in spec.labels.items():
        try:
            labels |= read_labels({name: factor}, examples.columns)
        except InputError as error:
            if {problem.code for problem in error.problems} != {"PK-L16"}:
                raise
    stratify = spec.splits.stratify
    if stratify is not None and stratify not in labels:
        what = f"the factor {stratify!r} has a label per position; examples cannot be split by it"
        raise InputError(Problem("PK-L16", what, "stratify by a factor of whole examples", "splits.stratify"))
    return labels
