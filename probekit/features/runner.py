"""Feeds a model with a dataset's rows: inputs, masks and digests, batch by batch, read ahead of the model."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from probekit.data.feed import input_sources, make_feed
from probekit.errors import InputError, Problem, listed, nearest
from probekit.features.digests import RowDigests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from probekit.components import Array, Backend, Examples, Feed, IntArray, ModelInput
    from probekit.steps import Masks

T = TypeVar("T")
R = TypeVar("R")

READ_AHEAD = 3
"""Batches that wait, read, for the model."""


@dataclass(frozen=True)
class Batch:
    """What a model is fed at a time.

    Args:
        rows: of the dataset, those that could be read.
        feed: the model's inputs; more rows than ``rows`` where the model's batch is fixed, which repeat the last one.
        masks: by name, as long as the feed.
        bad: rows of the dataset that could not be read, with the reason.
    """

    rows: IntArray
    feed: Feed
    masks: Masks
    bad: Mapping[int, str] = field(default_factory=dict)


class Runner:
    """Reads what a backend is fed out of a dataset.

    Args:
        backend: the model.
        examples: the opened dataset.
        digests: what is known of its rows already, shared by all models that read it.
        skip_bad: leave out rows that cannot be read, instead of raising.
    """

    def __init__(
        self, backend: Backend, examples: Examples, digests: RowDigests | None = None, *, skip_bad: bool = False
    ) -> None:
        signature = backend.signature()
        self.backend, self.examples, self.skip_bad = backend, examples, skip_bad
        self.known = digests or RowDigests(examples)
        self.sources = input_sources(signature, backend.inputs, examples)
        self.feed = make_feed(signature, backend.inputs, examples)
        self.fixed_batch = _fixed_batch(signature, backend)

    @property
    def batch_size(self) -> int:
        """The number of examples of one pass."""
        return self.fixed_batch or self.backend.batch_size

    def example(self, rows: IntArray) -> Feed:
        """Return the feed of the first rows that can be read, two or the number that the model fixes."""
        size = self.fixed_batch or 2
        for start in range(0, len(rows), size):
            batch = self.read(rows[start : start + size])
            if len(batch.rows):
                return batch.feed
        raise InputError(Problem("PK-L18", f"no example of {len(rows)} can be read"))

    def read(self, rows: IntArray, masks: Sequence[str] = ()) -> Batch:
        """Return one batch; it is filled up with its last row where the model's batch is fixed.

        Raises:
            InputError: a row cannot be read, unless bad ones are skipped.
        """
        bad: dict[int, str] = {}
        try:
            inputs = self.examples.read(rows)
        except InputError:
            if not self.skip_bad:
                raise
            inputs, rows, bad = self._read_one_by_one(rows)
        if not len(rows):
            return Batch(rows, {}, {}, bad)
        lacking = (self.fixed_batch or 0) - len(rows)
        padded = rows
        if lacking > 0:
            again = np.concatenate([np.arange(len(rows)), np.full(lacking, len(rows) - 1)])
            inputs, padded = {name: array[again] for name, array in inputs.items()}, rows[again]
        return Batch(rows, self.feed(padded, inputs), self._masks(masks, padded, inputs), bad)

    def batches(self, parts: Iterable[IntArray], masks: Sequence[str] = (), workers: int = 1) -> Iterator[Batch]:
        """Give one batch per part, in order; threads read a few batches ahead of who takes them."""
        return ahead(lambda part: self.read(part, masks), parts, workers)

    def digests(self, rows: IntArray, masks: Sequence[str] = ()) -> npt.NDArray[np.uint8]:
        """Return what identifies the inputs of each row, and those masks that are no inputs; shape (rows, 16)."""
        return self.known.of(rows, {*self.sources.values(), *masks})

    def masks(self, rows: IntArray, names: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
        """Return masks of any rows; inputs are read only where a mask is one of them."""
        if not names:
            return {}
        inputs = self.examples.read(rows) if set(names) & set(self.examples.input_names) else {}
        return self._masks(names, rows, inputs)

    def _masks(self, names: Sequence[str], rows: IntArray, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = {}
        for name in names:
            if name not in inputs and name not in self.examples.columns:
                known = [*self.examples.input_names, *self.examples.columns]
                raise InputError(Problem("PK-L16", f"no mask {name!r} in the data", nearest(name, known, "columns")))
            value = np.asarray(inputs[name] if name in inputs else self.examples.columns[name][rows])
            if value.dtype.kind not in "biuf" or value.ndim < 2:
                what = f"the mask {name!r} has shape {value.shape} and {value.dtype} values"
                raise InputError(Problem("PK-M54", what, "a mask has one number per example and position"))
            found[name] = value != 0
        return found

    def _read_one_by_one(self, rows: IntArray) -> tuple[dict[str, Array], IntArray, dict[int, str]]:
        good: list[dict[str, Array]] = []
        kept, bad = [], {}
        for row in rows.tolist():
            try:
                good.append(self.examples.read(np.array([row])))
                kept.append(row)
            except InputError as error:
                bad[row] = "; ".join(problem.what for problem in error.problems)
        names = good[0] if good else {}
        sizes = {tuple(array.shape[1:] for array in one.values()) for one in good}
        if len(sizes) > 1:
            what = f"examples of different sizes in one batch: {listed(sorted(map(str, sizes)))}"
            raise InputError(Problem("PK-M20", what, "give the dataset inputs of one size"))
        return {name: np.concatenate([one[name] for one in good]) for name in names}, np.array(kept, np.int64), bad


def ahead(read: Callable[[T], R], tasks: Iterable[T], workers: int) -> Iterator[R]:
    """Give the results of ``read`` in the order of the tasks, computed by threads a few tasks ahead.

    Args:
        read: called in a thread; what it raises is raised here, in its place in the order.
        tasks: taken only as results are taken.
        workers: threads; 0 reads here, when a result is asked for.
    """
    if workers < 1:
        yield from map(read, tasks)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="probekit-read") as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(read, task))
                if len(waiting) >= max(READ_AHEAD, workers + 1):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _fixed_batch(signature: Sequence[ModelInput], backend: Backend) -> int | None:
    for declared in signature:
        binding = backend.inputs.get(declared.name)
        if declared.shape and declared.shape[0] is not None and (binding is None or binding.column is not None):
            return declared.shape[0]
    return None
