"""All that is asked of a model's features: the opened data, its labels, its splits, the targets of the probes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.data.splits import refuse_shared, split_examples
from probekit.data.targets import make_targets, read_labels
from probekit.errors import InputError, ProbekitWarning, Problem, listed
from probekit.spec.splits import TEST, TRAIN, VALID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components import Examples, IntArray, Labels, Target
    from probekit.spec import Spec


@dataclass
class Question:
    """All that is asked of the features, whichever model they come from.

    Args:
        examples: the opened dataset.
        labels: of every factor, over all examples.
        parts: rows of each split.
        rows: all rows of any split, sorted; what features are made of.
        targets: one per factor, counted within ``rows``.
    """

    examples: Examples
    labels: dict[str, Labels]
    parts: dict[str, IntArray]
    rows: IntArray
    targets: list[Target]

    def within(self, split: str, target: Target) -> IntArray:
        """Return the labelled rows of a split, counted within ``rows``."""
        rows = np.searchsorted(self.rows, self.parts[split])
        labelled: IntArray = rows[target.codes[rows] >= 0]
        return labelled

    def first_test(self) -> str:
        """Return the name of the first test split, whose error is the headline."""
        return next(split for split in self.parts if split not in {TRAIN, VALID})

    def headline(self, by_split: Mapping[str, float]) -> dict[str, float]:
        """Return the values of train, valid and test, the first test split where there are several."""
        return {TRAIN: by_split[TRAIN], VALID: by_split[VALID], TEST: by_split[self.first_test()]}

    def baseline(self, target: Target) -> dict[str, float]:
        """Return the error, by split, of always saying the commonest class of the training split."""
        commonest = np.bincount(target.codes[target.train]).argmax()
        rows = {split: self.within(split, target) for split in self.parts}
        return {split: float(np.mean(target.codes[part] != commonest)) for split, part in rows.items()}

    def label_facts(self, target: Target) -> dict[str, Any]:
        """Return the classes of a factor, their counts by split, and the baseline, for the provenance."""
        rows = {split: self.within(split, target) for split in self.parts}
        size = len(target.classes)
        counts = {split: np.bincount(target.codes[part], minlength=size).tolist() for split, part in rows.items()}
        baseline = self.baseline(target)
        first = self.first_test()
        return {
            "classes": list(target.classes),
            "counts": {**counts, TEST: counts[first]},
            "baseline": {**baseline, TEST: baseline[first]},
        }

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
        for target in self.targets:
            first: dict[bytes, int] = {}
            clashes = []
            for row in np.flatnonzero(target.codes >= 0).tolist():
                other = first.setdefault(digests[row], row)
                if target.codes[other] != target.codes[row]:
                    clashes.append(f"{ids[other]} and {ids[row]}")
            if clashes:
                what = f"{len(clashes)} examples have the content of another with another label: {listed(clashes, 3)}"
                if not allow:
                    hint = "mend the data, or set splits.allow_leakage: true"
                    raise InputError(Problem("PK-L12", what, hint, f"labels.{target.factor}"))
                warnings.warn(f"labels.{target.factor}: {what}", ProbekitWarning, stacklevel=2)


def ask(spec: Spec) -> Question:
    """Open the data, label and split it: what will be asked of every tap."""
    examples = spec.data.open()
    labels = read_labels(spec.labels, examples.columns)
    parts = split_examples(spec.splits, examples.columns, labels)
    rows = np.unique(np.concatenate(list(parts.values())))
    targets = make_targets(labels, parts, rows, spec.splits.seed)
    return Question(examples, labels, parts, rows, targets)
