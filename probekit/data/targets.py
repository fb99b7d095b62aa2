"""From label factors and splits to what the probes are asked, with the faults of labels refused or told."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.components import ColumnTable, IntArray, LabelControl, LabelFactor, Labels, Target, known_rows
from probekit.errors import InputError, ProbekitWarning, Problem, listed, nearest
from probekit.spec.splits import TRAIN, VALID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from probekit.components import Array, Columns, Control


def read_labels(factors: Mapping[str, LabelFactor], columns: Columns) -> dict[str, Labels]:
    """Return the labels of every factor.

    Raises:
        InputError: of all factors at once: ``PK-L04`` labels of another number than the examples, ``PK-L06`` missing
            labels where ``missing: error``, ``PK-L01`` one class, or not two different numbers.
    """
    labels: dict[str, Labels] = {}
    problems: list[Problem] = []
    for name, factor in factors.items():
        field = f"labels.{name}"
        try:
            found = factor.label(ColumnTable(columns))
        except InputError as error:
            problems += [p if p.field else replace(p, field=field) for p in error.problems]
            continue
        if len(found.codes) != len(columns["id"]):
            what = f"{len(found.codes)} labels for {len(columns['id'])} examples; nothing is aligned"
            problems.append(Problem("PK-L04", what, field=field))
            continue
        if found.codes.shape[1:] != ((len(found.classes),) if found.task == "multilabel" else ()):
            what = f"labels of shape {found.codes.shape} for the classes {listed(found.classes) or 'none'}"
            problems.append(Problem("PK-L04", what, field=field))
            continue
        missing = np.flatnonzero(~found.known())
        if len(missing) and factor.missing == "error":
            ids = listed(columns["id"][missing[:5]], 5)
            what = f"{len(missing)} of {len(found.codes)} examples have no label, the first: {ids}"
            problems.append(Problem("PK-L06", what, "mend them, or set missing: drop", field))
        if found.task == "classes" and len(found.classes) < 2:
            what = f"needs two classes or more, got {listed(found.classes) or 'none'}"
            problems.append(Problem("PK-L01", what, field=field))
        if found.task == "number" and len(known := np.unique(found.codes[found.known()])) < 2:
            what = f"needs two different numbers or more, got {listed(known) or 'none'}"
            problems.append(Problem("PK-L01", what, field=field))
        labels[name] = found
    if problems:
        raise InputError(*problems)
    return labels


def make_targets(
    labels: Mapping[str, Labels], parts: Mapping[str, IntArray], rows: IntArray, seed: int
) -> list[Target]:
    """Return what every probe is asked: the true labels of each factor.

    Args:
        labels: of every factor, over all examples.
        parts: rows of each split, over all examples.
        rows: the examples that features are made of; codes and rows of a target count within these.
        seed: recorded with each target.

    Raises:
        InputError: of all factors at once: ``PK-L01`` one class, one answer to a yes/no label or one number in train,
            or one number in another split; ``PK-L02`` a class is in valid or test but not in train; ``PK-L13`` a split
            without labelled examples; ``PK-L26`` numbers that differ too little for float32.
    """
    targets: list[Target] = []
    problems: list[Problem] = []
    for name, found in labels.items():
        field = f"labels.{name}"
        known = found.known()
        labelled = {split: part[known[part]] for split, part in parts.items()}
        empty = [split for split, part in labelled.items() if not len(part)]
        if empty:
            problems.append(Problem("PK-L13", f"no labelled example in {listed(empty)}", field=field))
            continue
        problems += _CHECKS[found.task](field, found, labelled)
        within = {split: np.searchsorted(rows, part) for split, part in labelled.items()}
        codes = found.codes[rows]
        targets.append(Target(name, found.classes, codes, within[TRAIN], within[VALID], seed=seed, task=found.task))
    if problems:
        raise InputError(*problems)
    return targets


def make_controls(
    controls: Sequence[Control], truths: Sequence[Target], places: Mapping[str, IntArray], columns: Columns
) -> tuple[list[Target], list[dict[str, Any]]]:
    """Return what every probe is asked beside the true labels.

    Args:
        controls: the spec's section; only those that give other labels are asked for any.
        truths: the true labels of each factor.
        places: the feature rows of each split.
        columns: ``id`` and those that the controls need, one value a feature row.

    Returns:
        a target for each control, factor and seed; what each control says of it, see ``Control.facts``.

    Raises:
        InputError: of all controls at once: ``PK-L16`` no such column, ``PK-L28`` a control that says nothing about a
            factor.
    """
    problems = missing_columns(controls, columns)
    if problems:
        raise InputError(*problems)
    targets: list[Target] = []
    told: list[dict[str, Any]] = []
    for number, control in _of_labels(controls):
        name, place = control.control_name(), f"controls[{number}]"
        for truth in truths:
            if not control.is_for(truth.factor):
                continue
            known = truth.known()
            parts = {split: rows[known[rows]] for split, rows in places.items()}
            try:
                for seed in control.all_seeds():
                    codes = control.draw(truth, parts, columns, control.generator(truth.factor, seed))
                    _refuse_unfit(codes, truth, parts, name)
                    targets.append(replace(truth, codes=codes, control=name, seed=seed))
                told += [control.facts(truth, parts, columns)] * control.seeds
            except InputError as error:
                problems += [replace(p, field=f"{place}.{p.field}".removesuffix(".")) for p in error.problems]
    if problems:
        raise InputError(*problems)
    return targets, told


def needed_columns(controls: Sequence[Control]) -> set[str]:
    """Return the dataset's columns that controls read."""
    return {name for _, control in _of_labels(controls) for name in control.needed_columns().values()}


def missing_columns(controls: Sequence[Control], known: Iterable[str]) -> list[Problem]:
    """Return a problem, ``PK-L16``, for every column that a control needs and that is not known."""
    names = list(known)
    return [
        Problem("PK-L16", f"no column {name!r}", nearest(name, names, "columns"), f"controls[{number}].{key}")
        for number, control in _of_labels(controls)
        for key, name in control.needed_columns().items()
        if name not in names
    ]


def _of_labels(controls: Sequence[Control]) -> list[tuple[int, LabelControl]]:
    """Return the controls that give other labels, with their numbers."""
    return [(number, control) for number, control in enumerate(controls) if isinstance(control, LabelControl)]


def _refuse_unfit(codes: Array, truth: Target, parts: Mapping[str, IntArray], control: str) -> None:
    """Refuse labels of a control that no probe can be fitted to or scored with."""
    wrong = ""
    if codes.shape != truth.codes.shape:
        wrong = f"labels of shape {codes.shape}, the factor has {truth.codes.shape}"
    elif not np.array_equal(known_rows(codes, truth.task), truth.known()):
        wrong = "labels to other rows than those that have one"
    elif truth.task == "classes" and not np.isin(codes[truth.known()], codes[parts[TRAIN]]).all():
        wrong = "a class that no training row has"
    if wrong:
        raise InputError(Problem("PK-L28", f"{control!r} gives {truth.factor!r} {wrong}", "leave it out"))


def _unseen_classes(field: str, labels: Labels, labelled: Mapping[str, IntArray]) -> list[Problem]:
    problems = []
    counts = {split: np.bincount(labels.codes[part], minlength=len(labels.classes)) for split, part in labelled.items()}
    if np.count_nonzero(counts[TRAIN]) < 2:
        return [Problem("PK-L01", "one class only in the training split", field=field)]
    for split, count in counts.items():
        unseen = [labels.classes[c] for c in np.flatnonzero((count > 0) & (counts[TRAIN] == 0))]
        if unseen:
            examples = int(sum(count[labels.classes.index(name)] for name in unseen))
            what = f"{len(unseen)} classes of {split!r} are not in train: {listed(unseen)} ({examples} examples)"
            problems.append(Problem("PK-L02", what, "use splits.stratify, or more training examples", field))
        absent = [labels.classes[c] for c in np.flatnonzero((count == 0) & (counts[TRAIN] > 0))]
        if absent and split not in {TRAIN, VALID}:
            text = f"{field}: {len(absent)} classes are not in {split!r}: {listed(absent)}"
            warnings.warn(text, ProbekitWarning, stacklevel=3)
    return problems


def _one_answer(field: str, labels: Labels, labelled: Mapping[str, IntArray]) -> list[Problem]:
    problems = []
    for split, part in labelled.items():
        share = labels.codes[part].mean(axis=0)
        same = [
            f"{name}: {'yes' if value else 'no'}"
            for name, value in zip(labels.classes, share, strict=True)
            if value in (0, 1)
        ]
        if same and split == TRAIN:
            what = f"{len(same)} labels have one answer only in the training split: {listed(same)}"
            problems.append(Problem("PK-L01", what, "leave their columns out, or take more training examples", field))
        elif same and split != VALID:
            text = f"{field}: {len(same)} labels have one answer only in {split!r}: {listed(same)}"
            warnings.warn(text, ProbekitWarning, stacklevel=3)
    return problems


def _one_number(field: str, labels: Labels, labelled: Mapping[str, IntArray]) -> list[Problem]:
    problems = []
    for split, part in labelled.items():
        numbers = labels.codes[part]
        if (numbers == numbers[0]).all():
            where = "the training split" if split == TRAIN else repr(split)
            what = f"one number only in {where}: {numbers[0]:g} ({len(part)} examples); R² has no meaning there"
            problems.append(Problem("PK-L01", what, "take more examples, or leave the factor out", field))
    train = labels.codes[labelled[TRAIN]]
    if not problems and too_fine(train):
        ends = f"reach {np.abs(train).max():g} and deviate by {train.std():.3g}"
        what = f"the training numbers {ends}, too little for float32"
        problems.append(Problem("PK-L26", what, "subtract a constant in the column", field))
    return problems


def too_fine(numbers: Array) -> bool:
    """Return whether numbers, shape (rows,), differ by less than what float32 tells apart."""
    return bool(np.abs(numbers).max() * np.finfo(np.float32).eps > _FINE * numbers.std())


_FINE = 1e-3
"""The largest rounding of a prediction, as a share of the numbers' deviation."""

_CHECKS = {"classes": _unseen_classes, "multilabel": _one_answer, "number": _one_number}
