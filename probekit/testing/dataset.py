"""The conformance of datasets."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from probekit.components import Examples
from probekit.errors import listed
from probekit.testing.checks import (
    absent_beside,
    equal_arrays,
    expect,
    expect_named,
    path_fields,
    refusal,
)
from probekit.testing.component import ComponentConformance

if TYPE_CHECKING:
    from probekit.components import Array, Dataset
    from probekit.sections import Component


class DatasetConformance(ComponentConformance):
    """What a dataset must hold to. Give ``dataset``: one of at least four examples, not all alike.

    Example:
        ::

            class TestMyDataset(DatasetConformance):
                @pytest.fixture
                def dataset(self, tmp_path):
                    return MyDataset(path=str(write_some(tmp_path)))
    """

    @pytest.fixture
    def dataset(self) -> Dataset:
        """The dataset, as a spec would configure it."""
        raise NotImplementedError("override the fixture 'dataset'")

    @pytest.fixture
    def component(self, dataset: Dataset) -> Component:
        """The dataset."""
        return dataset

    @pytest.fixture
    def examples(self, dataset: Dataset) -> Examples:
        """The opened dataset."""
        return dataset.open()

    def test_columns_have_one_value_an_example(self, examples: Examples) -> None:
        """Columns are arrays of one length, and ``id`` names each example.

        Labels, splits and groups come from the columns; a shorter one would give examples each other's labels.
        """
        expect(isinstance(examples, Examples), f"open() gives {type(examples).__name__}", "return probekit.Examples")
        expect(len(examples) >= 4, f"the dataset has {len(examples)} examples", "give one of four or more")
        lengths = {name: len(column) for name, column in examples.columns.items()}
        expect(set(lengths.values()) == {len(examples)}, f"the columns' lengths are {lengths}", "one value an example")
        ids = np.asarray(examples.columns["id"]).astype(str)
        twice = len(ids) - len(set(ids.tolist()))
        expect(not twice, f"{twice} ids stand more than once", "give each example an id of its own")

    def test_read_gives_the_rows_that_are_asked(self, examples: Examples) -> None:
        """``read`` gives arrays by ``input_names`` whose first axis is the rows asked for, in their order, any of them,
        also twice.

        A run reads what the store lacks, in batches, not in the dataset's order.
        """
        rows = np.array([2, 0, len(examples) - 1, 2])
        found = examples.read(rows)
        names = set(examples.input_names)
        expect(names <= set(found), f"read gives {listed(found)}, input_names says {listed(names)}", "give all of them")
        expect(names, "input_names is empty", "pass inputs, or input_names, to Examples")
        for name, array in found.items():
            expect(isinstance(array, np.ndarray), f"{name!r} is {type(array).__name__}", "give NumPy arrays")
            expect(len(array) == 4, f"{name!r} has {len(array)} rows for 4", "index the first axis by the rows")
            for place, row in enumerate(rows):
                alone = examples.read(np.array([row]))[name][0]
                fact = f"row {row} of {name!r} differs alone and in a batch"
                expect(equal_arrays(np.asarray(alone), array[place]), fact, "let a row depend on its number alone")
        some = {name: array for name, array in found.items() if name in names}
        alike = all(equal_arrays(array[0], array[1]) and equal_arrays(array[0], array[2]) for array in some.values())
        expect(not alike, "three rows are all alike", "read the rows that are asked, or give a dataset that varies")

    def test_read_gives_the_same_every_time(self, dataset: Dataset, examples: Examples) -> None:
        """Rows are the same in a second reading, a second opening, and after a reader wrote into what it got.

        Features are kept under what ``digests`` says of a row: augmentation that draws anew would never fit them.
        """
        rows = np.arange(4)
        first = {name: np.array(array) for name, array in examples.read(rows).items()}
        todo = "draw nothing at random without a seed of its own, and return copies"
        for array in examples.read(rows).values():
            if array.flags.writeable and array.dtype.kind in "biuf":
                array[...] = 0
        for how, again in (("a second reading", examples.read(rows)), ("a second opening", dataset.open().read(rows))):
            for name, array in first.items():
                expect(equal_arrays(np.asarray(again[name]), array), f"{name!r} differs in {how}", todo)
        columns = dataset.open().columns
        other = [name for name, column in examples.columns.items() if _texts(columns[name]) != _texts(column)]
        expect(not other, f"a second opening gives the columns {listed(other)} other values", todo)

    def test_read_serves_several_threads(self, examples: Examples) -> None:
        """Threads that read at once get what one alone gets.

        Batches are read ahead of the model by as many threads as ``workers`` says.
        """
        parts = [np.arange(start, start + 2) % len(examples) for start in range(8)]
        alone = [{name: np.array(array) for name, array in examples.read(part).items()} for part in parts]
        found: list[dict[str, Array] | BaseException] = [{} for _ in parts]
        gate = threading.Barrier(len(parts))

        def read(place: int) -> None:
            gate.wait()
            try:
                for _ in range(5):
                    found[place] = examples.read(parts[place])
            except BaseException as error:
                found[place] = error

        threads = [threading.Thread(target=read, args=(place,)) for place in range(len(parts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        todo = "open a file for each call, or guard it with a lock"
        raised = [one for one in found if isinstance(one, BaseException)]
        expect(not raised, f"reading threads raise {raised[:1]}", todo)
        for one, other in zip(alone, found, strict=True):
            same = isinstance(other, dict) and all(
                equal_arrays(np.asarray(other[n]), array) for n, array in one.items()
            )
            expect(same, "a row differs when several threads read", todo)

    def test_digests_identify_what_is_read(self, dataset: Dataset, examples: Examples) -> None:
        """``digests`` gives 16 bytes a row: equal for rows that read alike, in any batch and opening, else different.

        The store knows a row again by them; two examples with one digest would share features.
        """
        count = min(len(examples), 64)
        rows = np.arange(count)
        digests = examples.digests(rows)
        sizes = {len(one) for one in digests}
        expect(
            len(digests) == count and sizes == {16}, f"{len(digests)} digests of {sizes} bytes", "give 16 bytes a row"
        )
        alone = [examples.digests(np.array([row]))[0] for row in rows[:4]]
        expect(alone == digests[:4], "a row's digest differs alone and in a batch", "digest each row by itself")
        again = dataset.open().digests(rows[::-1])[::-1]
        expect(again == digests, "digests differ in a second opening", "digest what is read, and how; no object's id")
        inputs = {name: array for name, array in examples.read(rows).items() if name in examples.input_names}
        content = [b"".join(np.ascontiguousarray(array[row]).tobytes() for array in inputs.values()) for row in rows]
        kinds, different = len(set(content)), len(set(digests))
        expect(kinds > 1, f"the first {count} examples are all alike", "give a dataset that varies")
        shared = len(set(zip(content, digests, strict=True))) > different
        expect(not shared, f"{kinds} different rows have {different} digests", "digest all of a row's inputs")

    def test_a_file_that_is_missing_is_refused(self, dataset: Dataset) -> None:
        """A file or folder that is not there raises a UserError with a code and its name."""
        files = path_fields(dataset)
        if not files:
            pytest.skip("no field of the dataset names a file")
        for field, path in files.items():
            absent = absent_beside(path)
            request = f"the absent {field} {str(absent)!r}"
            todo = "raise InputError(absent_file(path)): it names the nearest file"
            error = refusal(dataset.model_copy(update={field: str(absent)}).open, request, todo)
            expect_named(error, absent.name, request, todo)


def _texts(column: Array) -> list[str]:
    return [repr(value) for value in column]
