"""Components of the other categories with one fault each, by the check that must find it and what it must say."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad_executors
import bad_fits
import bad_views
import numpy as np

from probekit.components import Examples, LabelFactor, Labels
from probekit.data.arrays import ArraysDataset
from probekit.data.factors import ColumnFactor
from probekit.testing import (
    ControlConformance,
    DatasetConformance,
    ExecutorConformance,
    FindingConformance,
    LabelFactorConformance,
    ListenerConformance,
    ProbeConformance,
    ReductionConformance,
    ReportConformance,
)

Given = Callable[[Path], dict[str, Any]]
"""From a folder to what a kit's fixtures give."""


@dataclass(frozen=True)
class Bad:
    kit: type
    right: list[Given]
    """What passes."""
    wrong: Mapping[str, Mapping[Given, str]]
    """By check, what it must fail, with what it says."""


# --- datasets


def dataset_of(made: type[ArraysDataset]) -> Given:
    def given(folder: Path) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        np.savez(folder / "data.npz", x=rng.random((12, 5), dtype=np.float32), label=np.arange(12) % 3)
        dataset = made(arrays=str(folder / "data.npz"))
        return {"dataset": dataset}

    given.__name__ = made.__name__
    return given


class _Wrapped(ArraysDataset):
    """Opens what it reads in another class of examples."""

    def wrap(self, columns: Any, x: Any) -> Examples:
        raise NotImplementedError

    def open(self) -> Examples:
        plain = super().open()
        return self.wrap(plain.columns, np.asarray(plain.read(np.arange(len(plain)))["x"]))


class OneId(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return Examples({**columns, "id": np.full(len(x), "a")}, {"x": x})


class ShortColumn(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return Examples({"id": columns["id"], "label": columns["label"][:-1]}, {"x": x})


class _SortedExamples(Examples):
    def read(self, rows: Any) -> Any:
        return super().read(np.sort(rows))


class SortsRows(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return _SortedExamples(columns, {"x": x})


class NamesAnother(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return Examples(columns, {"x": x}, ["y"])


class _Augmented(Examples):
    def read(self, rows: Any) -> Any:
        return {
            name: array + np.float32(np.random.default_rng().random()) for name, array in super().read(rows).items()
        }


class Augments(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return _Augmented(columns, {"x": x})


class _Views(Examples):
    def read(self, rows: Any) -> Any:
        ordered = np.array_equal(rows, np.arange(len(rows)))
        return {"x": self._inputs["x"][: len(rows)]} if ordered else super().read(rows)


class GivesViews(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return _Views(columns, {"x": x})


class _OneCursor(Examples):
    """Reads row by row through one place that all threads share."""

    def read(self, rows: Any) -> Any:
        found = []
        for row in np.arange(len(self))[rows].tolist():
            self.cursor = row
            time.sleep(0.001)
            found.append(self._inputs["x"][self.cursor])
        return {"x": np.stack(found)}


class OneFileForAll(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return _OneCursor(columns, {"x": x})


class _OneDigest(Examples):
    def digests(self, rows: Any) -> list[bytes]:
        return [bytes(16) for _ in rows]


class DigestsNothing(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return _OneDigest(columns, {"x": x})


class _OfTheBatch(Examples):
    def digests(self, rows: Any) -> list[bytes]:
        return [bytes([len(rows)]) + one[1:] for one in super().digests(rows)]


class DigestsTheBatch(_Wrapped):
    def wrap(self, columns: Any, x: Any) -> Examples:
        return _OfTheBatch(columns, {"x": x})


class PlainFileNotFound(ArraysDataset):
    def open(self) -> Examples:
        assert isinstance(self.arrays, str)
        with np.load(self.arrays) as file:
            return Examples({}, dict(file))


# --- label factors


def factor_of(made: type[LabelFactor]) -> Given:
    def given(folder: Path) -> dict[str, Any]:
        values = np.array(["b", "a", "c", "b", ""], dtype=object)
        return {"factor": made.model_validate({"kind": "column", "column": "word"}), "columns": {"word": values}}

    given.__name__ = made.__name__
    return given


class BeyondTheClasses(ColumnFactor):
    def label(self, columns: Any) -> Labels:
        found = super().label(columns)
        return Labels(found.classes[:-1], found.codes)


class FloatCodes(ColumnFactor):
    def label(self, columns: Any) -> Labels:
        found = super().label(columns)
        return Labels(found.classes, found.codes.astype(np.float64))


class DropsRows(ColumnFactor):
    def label(self, columns: Any) -> Labels:
        found = super().label(columns)
        return Labels(found.classes, found.codes[found.known()])


class ByFirstSight(ColumnFactor):
    def label(self, columns: Any) -> Labels:
        values = [str(value) or None for value in columns[self.column]]
        return Labels.of(values, list(dict.fromkeys(value for value in values if value is not None)))


class WritesColumns(ColumnFactor):
    def label(self, columns: Any) -> Labels:
        columns[self.column][:] = [str(value) or "missing" for value in columns[self.column]]
        return super().label(columns)


class PlainKeyError(ColumnFactor):
    def label(self, columns: Any) -> Labels:
        if self.column not in columns:
            raise KeyError(self.column)
        return Labels.of([str(value) or None for value in columns[self.column]])


BAD = [
    Bad(
        DatasetConformance,
        [dataset_of(ArraysDataset)],
        {
            "test_columns_have_one_value_an_example": {
                dataset_of(OneId): "more than once", dataset_of(ShortColumn): "lengths are"},
            "test_read_gives_the_rows_that_are_asked": {
                dataset_of(SortsRows): "alone and in a batch", dataset_of(NamesAnother): "input_names says"},
            "test_read_gives_the_same_every_time": {
                dataset_of(Augments): "differs in", dataset_of(GivesViews): "differs in"},
            "test_read_serves_several_threads": {dataset_of(OneFileForAll): "several threads"},
            "test_digests_identify_what_is_read": {
                dataset_of(DigestsNothing): "1 digests", dataset_of(DigestsTheBatch): "alone and in a batch"},
            "test_a_file_that_is_missing_is_refused": {dataset_of(PlainFileNotFound): "FileNotFoundError"},
        },
    ),
    Bad(
        LabelFactorConformance,
        [factor_of(ColumnFactor)],
        {
            "test_labels_fit_their_task": {
                factor_of(BeyondTheClasses): "codes lie in", factor_of(FloatCodes): "float64",
                factor_of(DropsRows): "4 labels for 5"},
            "test_labels_follow_the_examples": {factor_of(ByFirstSight): "in another order"},
            "test_columns_stay_as_they_are": {factor_of(WritesColumns): "changes the columns 'word'"},
            "test_a_column_that_is_missing_is_refused": {factor_of(PlainKeyError): "KeyError"},
        },
    ),
    Bad(ReductionConformance, bad_fits.REDUCTIONS, bad_fits.BAD_REDUCTIONS),
    Bad(ProbeConformance, bad_fits.PROBES, bad_fits.BAD_PROBES),
    Bad(ControlConformance, bad_views.CONTROLS, bad_views.BAD_CONTROLS),
    Bad(ReportConformance, bad_views.REPORTS, bad_views.BAD_REPORTS),
    Bad(ExecutorConformance, bad_executors.EXECUTORS, bad_executors.BAD_EXECUTORS),
    Bad(FindingConformance, bad_views.FINDINGS, bad_views.BAD_FINDINGS),
    Bad(ListenerConformance, bad_views.LISTENERS, bad_views.BAD_LISTENERS),
]  # fmt: skip
