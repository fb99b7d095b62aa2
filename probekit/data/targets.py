"""From label factors and splits to what the probes are asked, with the faults of labels refused or told."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from probekit.components import IntArray, LabelFactor, Labels, Target
from probekit.errors import InputError, ProbekitWarning, Problem, listed
from probekit.spec.splits import TRAIN, VALID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Columns


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
            found = factor.label(columns)
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
    spread, size = float(train.std()), float(np.abs(train).max())
    if not problems and size * np.finfo(np.float32).eps > _FINE * spread:
        what = f"the training numbers reach {size:g} and deviate by {spread:.3g}, too little for float32"
        problems.append(Problem("PK-L26", what, "subtract a constant in the column", field))
    return problems


_FINE = 1e-3
"""The largest rounding of a prediction, as a share of the numbers' deviation."""

_CHECKS = {"classes": _unseen_classes, "multilabel": _one_answer, "number": _one_number}
