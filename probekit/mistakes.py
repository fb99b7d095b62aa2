"""Which classes and which yes/no labels each probe gets wrong on test: the worst in the result, all in a file."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from probekit.durable import write_file
from probekit.errors import clean
from probekit.predictions import identity_of
from probekit.results import ClassErrorRecord, ConfusionRecord, IntervalRecord, MistakesRecord, ProbeIdentity
from probekit.spec.splits import VALID
from probekit.statistics.intervals import share_interval

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from probekit.components import Array, IntArray
    from probekit.predictions import Predictions
    from probekit.results import LabelResult, ProbeResult, RunResult

FILE = "confusions.csv"
MOST = 5
"""Classes and pairs of a probe that the result holds."""

_FORMULA = ("=", "+", "-", "@", "\t", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a formula begins, in full width too."""
_IDENTITY = tuple(name for name in ProbeIdentity.model_fields if name not in {"control", "seed"})


def with_mistakes(result: RunResult, predictions: Predictions) -> RunResult:
    """Return a result in which each probe of true labels says what it gets wrong on test.

    Of classes: the worst ones and the most frequent confusions. Of yes/no labels: the interval of each one's error.

    Args:
        result: what a run found.
        predictions: of the same run.

    Raises:
        KeyError: a probe of the result has no predictions.
    """
    return result.model_copy(update={"probes": [_told(probe, result, predictions) for probe in result.probes]})


def write_confusions(path: Path, result: RunResult, predictions: Predictions) -> None:
    """Write every probe's confusion matrix as CSV, whole or not at all; see :func:`confusion_lines`.

    Raises:
        OSError: nothing was written.
    """
    write_file(path, (line.encode() for line in confusion_lines(result, predictions)))


def confusion_lines(result: RunResult, predictions: Predictions) -> Iterator[str]:
    """Give the confusion matrices of the probes of classes for true labels, as CSV in pieces.

    One line per true and predicted class: the probe, the split, ``true``, ``predicted``, ``count``, ``n`` (rows of the
    true class) and ``share`` (``count / n``). Lines with a count of 0 are left out, but for those where both are the
    same class, so that 1 - ``share`` there is each class's error. A cell that a spreadsheet would run as a formula
    begins with an apostrophe.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_IDENTITY, "split", "true", "predicted", "count", "n", "share"])
    for probe in result.probes:
        if probe.task == "classes" and probe.control is None:
            split, rows = _tested(probe, predictions)
            names, counts = _classes(result, probe), _Counts.of(probe, predictions, rows)
            identity = [inert(getattr(probe, name)) for name in _IDENTITY]
            for true, predicted, count in counts.with_diagonal():
                n = int(counts.rows[true])
                pair = [inert(names[true]), inert(names[predicted])]
                writer.writerow([*identity, split, *pair, count, n, f"{count / n:.6g}"])
        yield stream.getvalue()
        stream.seek(0)
        stream.truncate()


class _Counts:
    """How often each class was predicted as each.

    Args:
        true: shape (rows,), the true classes.
        predicted: shape (rows,).
        classes: how many there are.
    """

    def __init__(self, true: Array, predicted: Array, classes: int) -> None:
        self.true, self.classes = true.astype(np.int64), classes
        self.wrong = predicted != true
        self.rows: IntArray = np.bincount(self.true, minlength=classes)
        # Of many classes most pairs never occur, so that no matrix is made.
        self._cells, self._counts = np.unique(self.true * classes + predicted, return_counts=True)

    @classmethod
    def of(cls, probe: ProbeResult, predictions: Predictions, rows: IntArray) -> _Counts:
        true, predicted = predictions.codes(probe.factor)[rows], predictions.predicted[identity_of(probe)][rows]
        return cls(true, predicted, 1 + int(max(true.max(initial=0), predicted.max(initial=0))))

    def with_diagonal(self) -> Iterator[tuple[int, int, int]]:
        """Give (true, predicted, count) in order of the classes."""
        cells = np.union1d(self._cells, np.flatnonzero(self.rows) * (self.classes + 1))
        counts = np.zeros(len(cells), dtype=np.int64)
        counts[np.searchsorted(cells, self._cells)] = self._counts
        for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
            yield (*divmod(cell, self.classes), count)

    def worst(self) -> list[tuple[int, float]]:
        """Return the classes with the largest errors; among equals those of most rows, then the first."""
        wrong = np.bincount(self.true[self.wrong], minlength=self.classes)
        found = np.flatnonzero(wrong)
        errors = wrong[found] / self.rows[found]
        order = np.lexsort([found, -self.rows[found], -errors])[:MOST]
        return [(int(found[place]), float(errors[place])) for place in order]

    def confused(self) -> list[tuple[int, int, int]]:
        """Return the most frequent (true, predicted, count); among equals the largest shares, then the first."""
        off = self._cells % (self.classes + 1) != 0
        cells, counts = self._cells[off], self._counts[off]
        order = np.lexsort([cells, -counts / self.rows[cells // self.classes], -counts])[:MOST]
        return [(*divmod(int(cells[place]), self.classes), int(counts[place])) for place in order]


def _told(probe: ProbeResult, result: RunResult, predictions: Predictions) -> ProbeResult:
    if probe.control is not None or probe.task == "number":
        return probe
    split, rows = _tested(probe, predictions)
    if probe.task == "multilabel":
        return probe.model_copy(update={"by_label": _by_label(probe, predictions, split, rows)})
    names, counts = _classes(result, probe), _Counts.of(probe, predictions, rows)
    units = predictions.units[rows]
    worst = []
    for place, error in counts.worst():
        own = counts.true == place
        found = _interval(counts.wrong[own], units[own], probe.seed, predictions.over)
        worst.append(ClassErrorRecord(name=names[place], error=error, interval=found, n=int(own.sum())))
    confused = [
        ConfusionRecord(true=names[true], predicted=names[taken], count=count, share=count / int(counts.rows[true]))
        for true, taken, count in counts.confused()
    ]
    return probe.model_copy(update={"mistakes": MistakesRecord(split=split, worst=worst, confused=confused)})


def _by_label(probe: ProbeResult, predictions: Predictions, split: str, rows: IntArray) -> dict[str, LabelResult]:
    """Return the yes/no labels with the interval of each one's error."""
    wrong = predictions.predicted[identity_of(probe)][rows] != predictions.codes(probe.factor)[rows]
    units, found = predictions.units[rows], {}
    for (name, label), column in zip(probe.by_label.items(), wrong.T, strict=True):
        interval = _interval(column, units, probe.seed, predictions.over)
        intervals = {} if interval is None else {"error": {split: interval}}
        found[name] = label.model_copy(update={"intervals": intervals})
    return found


def _tested(probe: ProbeResult, predictions: Predictions) -> tuple[str, IntArray]:
    """Return the split that a probe is reported on, and its labelled rows."""
    for split in (predictions.first_test, VALID):
        rows = predictions.rows(split, probe.factor)
        if len(rows):
            break
    return split, rows


def _classes(result: RunResult, probe: ProbeResult) -> list[str]:
    return [str(name) for name in result.provenance["labels"][probe.factor]["classes"]]


def _interval(wrong: Array, units: IntArray, seed: int, over: str) -> IntervalRecord | None:
    return IntervalRecord.of(share_interval(wrong, units, seed), over)


def inert(cell: object) -> object:
    """Return a cell of a table that no spreadsheet runs as a formula: such a text gets an apostrophe before it.

    Control characters and direction overrides are shown as ``\\u000a``, so that a record is one line and no terminal
    obeys them; ``results.json`` has the exact names.

    >>> inert("=1+1"), inert("relu_1"), inert("a\\nb"), inert(-2.5)
    ("'=1+1", 'relu_1', 'a\\\\u000ab', -2.5)
    """
    if not isinstance(cell, str):
        return cell
    text = clean(cell)
    return f"'{text}" if cell.startswith(_FORMULA) else text
