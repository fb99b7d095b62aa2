"""One pass over the model for what the store does not hold yet: from rows to features on disk, range by range."""

from __future__ import annotations

import shutil
import time
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from probekit.backends.differences import merge_largest, relative_difference, storable
from probekit.errors import InputError, MachineError, ProbekitWarning, Problem, listed
from probekit.features.keys import FeatureKey, feature_keys, is_input
from probekit.features.pieces import RangePieces
from probekit.features.plan import Job, plan_jobs
from probekit.steps import program_masks, run_program
from probekit.store.feature_store import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from probekit.components import FloatArray, IntArray, ReducedFunction, Wanted
    from probekit.features.runner import Batch, Runner
    from probekit.store.feature_store import FeatureStore
    from probekit.store.index import StoreIndex
    from probekit.store.matrix import StoredMatrix

SAME = 1e-4
"""Two passes over one batch may differ by this share of a tap's largest value; a GPU's sums have no fixed order."""
CHECKED_ROWS = 4
"""Examples of the first batch on which a pass is compared with itself and with the untapped model."""
_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; the row range that was being extracted is kept."""


@dataclass
class StopRequest:
    """Whether the user asked to stop.

    Args:
        asked: the user did.
        heeded: somebody looks at it soon: after the row range that is being extracted.
    """

    asked: bool = False
    heeded: bool = False


@dataclass
class Extraction:
    """What is asked of one model, and what of it the store holds.

    Args:
        name: of the model, with its checkpoint, for messages.
        runner: the fed model.
        wanted: the feature matrices; of equal ones, the first is kept.
        labels: what messages call each.
        rows: of the dataset.
        store: where features are kept.
        dtype: of the features on disk.
        positions: feature rows of an example, the most there are.
        workers: threads that read ahead of the model.
    """

    name: str
    runner: Runner
    wanted: Sequence[Wanted]
    labels: Sequence[str]
    rows: IntArray
    store: FeatureStore
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    positions: int = 1
    workers: int = 1
    keys: list[FeatureKey] = field(init=False)
    index: StoreIndex = field(init=False)

    def __post_init__(self) -> None:
        # What is wanted twice, such as an output that is also a tap, is extracted once.
        every = feature_keys(self.runner, self.wanted, self.dtype)
        keys = {key.digest: key for key in every}
        self._place = [list(keys).index(key.digest) for key in every]
        first = [self._place.index(place) for place in range(len(keys))]
        self.wanted, self.labels = [self.wanted[one] for one in first], [self.labels[one] for one in first]
        self.keys = list(keys.values())
        self._variants = [
            ",".join(mask for mask in program_masks(one.program) if mask not in self.runner.sources.values())
            for one in self.wanted
        ]
        self._digests = {
            variant: self.runner.digests(self.rows, [name for name in variant.split(",") if name])
            for variant in dict.fromkeys(self._variants)
        }
        self.refresh()

    def refresh(self) -> None:
        """Look again at what the store holds."""
        self.index = self.store.index([key.digest for key in self.keys])

    def missing(self) -> npt.NDArray[np.bool_]:
        """Return what the store does not hold, shape (matrices, rows)."""
        return np.array([self.index.missing(key.digest, self._of(one)) for one, key in enumerate(self.keys)])

    def jobs(self) -> list[Job]:
        """Return the row ranges that are to be extracted."""
        number = {key.digest: one for one, key in enumerate(self.keys)}
        repeats: list[tuple[tuple[int, ...], IntArray]] = []
        for one, key in enumerate(self.keys):
            for together, digests in self.index.together(key.digest, self._of(one)):
                sets = tuple(sorted(number[name] for name in together if name in number))
                rows = _places(self._of(one), digests)
                if rows is not None and len(sets) == len(together):
                    repeats.append((sets, rows))
        return plan_jobs(self.missing(), repeats, self.wanted, self.runner.batch_size, self.positions)

    def bytes_on_disk(self, jobs: Sequence[Job]) -> int:
        """Return the bytes that the jobs will write, at most."""
        values = sum(sum(self.wanted[one].width for one in job.sets) * len(job.rows) for job in jobs)
        return values * self.positions * _ITEM_BYTES[self.dtype]

    def run(
        self,
        tell: Callable[[str, int, int], None] = lambda *_: None,
        stop: StopRequest | None = None,
        say: Callable[[str], None] = lambda _: None,
        lock_timeout: float | None = None,
    ) -> float:
        """Extract what is missing, and return the seconds that it took.

        Another process that extracts from the same model is waited for; what it wrote is not extracted again.

        Args:
            tell: called with (stage, rows done, rows to do).
            stop: looked at after each row range.
            say: told who is waited for.
            lock_timeout: seconds to wait for another process; default: as long as it takes.

        Raises:
            InputError: ``PK-L18`` a row cannot be read, ``PK-M20`` a size changes, ``PK-M37`` two passes differ.
            MachineError: ``PK-R01``, ``PK-R02`` the disk is too small, ``PK-R09`` another process holds the lock.
            Interrupted: the user asked to stop.
        """
        self.refresh()
        if not self.jobs():
            return 0.0
        begun = time.monotonic()
        name = f"{self.runner.backend.kind}:{self.runner.backend.fingerprint()}"
        with self.store.lock(name, timeout=lock_timeout, waiting=say):
            self.refresh()
            jobs = self.jobs()
            self._refuse_too_much(jobs)
            self._tell_of_batch_size()
            done, total = 0, sum(len(job.rows) for job in jobs)
            stop = stop or StopRequest()
            stop.heeded = True
            try:
                for sets, some in groupby(jobs, key=lambda job: job.sets):
                    for count, is_written in self._run_together(sets, list(some)):
                        done += count
                        tell(f"{self.name}: forward", done, total)
                        if stop.asked and is_written:
                            raise Interrupted
            finally:
                stop.heeded = False
        self.refresh()
        return time.monotonic() - begun

    @contextmanager
    def timed(self, sets: Sequence[int], rows: IntArray) -> Iterator[Callable[[], object]]:
        """Give a function that passes some rows through the model, for their time; nothing is kept."""
        wanted = [self.wanted[one] for one in sets]
        masks = sorted({name for one in wanted for name in program_masks(one.program)})
        batch = self.runner.read(rows, masks)
        with ExitStack() as stack:
            reduce = self._open(wanted, stack)
            yield lambda: reduce(batch)

    def matrix(self, number: int) -> StoredMatrix:
        """Return one feature matrix of those that were asked, its rows in the order of the examples."""
        return self._stored(self._place[number])

    def _stored(self, number: int) -> StoredMatrix:
        return self.index.matrix(self.keys[number].digest, self._of(number))

    def bad(self) -> dict[int, str]:
        """Return the places of the examples that could not be read, with the reason."""
        found: dict[int, str] = {}
        for one, key in enumerate(self.keys):
            found |= self.index.bad(key.digest, self._of(one))
        return dict(sorted(found.items()))

    def checks(self) -> dict[str, Any]:
        """Return how much reading the taps changed what was computed, the largest over all passes."""
        merged: dict[str, Any] = {}
        for one, key in enumerate(self.keys):
            for facts in self.index.facts(key.digest, self._of(one)):
                merge_largest(merged, facts["checks"])
        return merged

    def refuse_non_finite(self, ids: Any) -> None:
        """Refuse NaN and infinite features.

        Args:
            ids: of the rows.

        Raises:
            InputError: ``PK-M39``, by tap, count and first examples.
        """
        problems = []
        for one, key in enumerate(self.keys):
            facts = self.index.facts(key.digest, self._of(one))
            if any(key.digest in fact["nonfinite"] for fact in facts):
                problems += self._non_finite(one, ids)
        if problems:
            raise InputError(*problems)

    def _non_finite(self, number: int, ids: Any) -> list[Problem]:
        matrix, count, bad = self._stored(number), 0, []
        owners = np.repeat(np.arange(len(self.rows)), matrix.counts)
        start = 0
        for block in matrix.blocks():
            wrong = ~np.isfinite(block)
            count += int(wrong.sum())
            bad.append(owners[start : start + len(block)][wrong.any(axis=1)])
            start += len(block)
        rows = np.unique(np.concatenate(bad)) if bad else np.zeros(0, np.int64)
        if not count:
            return []
        what = (
            f"tap {self.labels[number]!r} has {count} NaN or infinite values in {len(rows)} of {len(self.rows)} "
            f"examples, the first: {listed(ids[rows[:5]], 5)}"
        )
        half = self.wanted[number].tap.dtype == "float16"
        return [Problem("PK-M39", what, "export the model in float32" if half else "leave the tap or the examples out")]

    def _of(self, number: int) -> npt.NDArray[np.uint8]:
        return self._digests[self._variants[number]]

    def _run_together(self, sets: tuple[int, ...], jobs: Sequence[Job]) -> Iterator[tuple[int, bool]]:
        """Extract the jobs of one set of matrices, and write each range as it is full.

        Yields:
            the number of rows of each batch, and whether it was the last one of a range.
        """
        runner, wanted = self.runner, [self.wanted[one] for one in sets]
        masks = sorted({name for one in wanted for name in program_masks(one.program)})
        size = runner.batch_size
        parts = [
            (number, self.rows[job.rows[start : start + size]])
            for number, job in enumerate(jobs)
            for start in range(0, len(job.rows), size)
        ]
        last = {number: index for index, (number, _) in enumerate(parts)}
        with ExitStack() as stack:
            first = runner.read(self.rows[: min(size, CHECKED_ROWS)], masks)
            taps = [one for one in wanted if not is_input(runner, one)]
            # Before the model is opened for all rows, so that two of it are never in memory.
            compared = runner.backend.compare(taps, first.feed, first.masks) if taps and len(first.rows) else {}
            reduce = self._open(wanted, stack)
            apart = self._second_pass(wanted, reduce, first) if len(first.rows) else {}
            checks = storable({"second_pass": apart, **compared})
            pieces = RangePieces(wanted)
            batches = runner.batches([rows for _, rows in parts], masks, self.workers)
            for index, ((number, rows), batch) in enumerate(zip(parts, batches, strict=True)):
                pieces.add(rows, batch, reduce(batch) if len(batch.rows) else [], self.labels, sets)
                if index == last[number]:
                    self._write(sets, jobs[number], pieces, checks)
                    pieces = RangePieces(wanted)
                yield len(rows), index == last[number]

    def _open(self, wanted: Sequence[Wanted], stack: ExitStack) -> Callable[[Batch], list[FloatArray]]:
        """Return what gives the features of a batch; a model's inputs need no model."""
        inputs = [is_input(self.runner, one) for one in wanted]
        taps = [one for one, given in zip(wanted, inputs, strict=True) if not given]
        run: ReducedFunction | None = None
        if taps:
            run = stack.enter_context(self.runner.backend.open_reduced(taps))

        def reduce(batch: Batch) -> list[FloatArray]:
            from_model = iter(run(batch.feed, batch.masks) if run is not None else ())
            return [
                run_program(one.program, batch.feed[one.tap.name], batch.masks) if given else next(from_model)
                for one, given in zip(wanted, inputs, strict=True)
            ]

        return reduce

    def _second_pass(
        self, wanted: Sequence[Wanted], reduce: Callable[[Batch], list[FloatArray]], batch: Batch
    ) -> dict[str, float]:
        """Return, by tap, how far two passes over one batch are apart.

        Raises:
            InputError: ``PK-M37``, by more than rounding.
        """
        first, second = reduce(batch), reduce(batch)
        apart = dict.fromkeys((one.tap.name for one in wanted), 0.0)
        for one, this, again in zip(wanted, first, second, strict=True):
            apart[one.tap.name] = max(apart[one.tap.name], relative_difference(this, again))
        moving = {name: gap for name, gap in apart.items() if not gap <= SAME}
        if moving:
            what = f"two passes over the same examples differ at {listed(moving)}, by up to {max(moving.values()):.1e}"
            hint = "does the model draw at random, or is dropout or batch norm in training mode?"
            raise InputError(Problem("PK-M37", what, hint, "model"))
        return apart

    def _write(self, sets: Sequence[int], job: Job, pieces: RangePieces, checks: dict[str, Any]) -> None:
        entries, nonfinite = [], []
        for place, one in enumerate(sets):
            features = np.concatenate(pieces.features[place])
            pieces.features[place].clear()  # a range is not to be held twice
            if not np.isfinite(features).all():
                nonfinite.append(self.keys[one].digest)
            counts = np.concatenate(pieces.counts[place])
            plain = bool((counts == 1).all()) or (not pieces.positions[place] and len(pieces.bad) > 0)
            entries.append(
                Entry(
                    self.keys[one].digest, self.labels[one], features, self.dtype, self._variants[one],
                    None if plain else counts,
                )
            )  # fmt: skip
        facts = {
            "checks": checks,
            "nonfinite": nonfinite,
            "keys": {
                self.keys[one].digest: {"name": self.name, "label": self.labels[one], **self.keys[one].parts}
                for one in sets
            },
            "seconds": time.monotonic() - pieces.begun,
        }
        digests = {self._variants[one]: self._of(one)[job.rows] for one in sets}
        self.store.write_range(digests, entries, facts, pieces.bad)

    def _refuse_too_much(self, jobs: Sequence[Job]) -> None:
        needed, free = self.bytes_on_disk(jobs), shutil.disk_usage(self.store.root).free
        if needed > free:
            what = f"the features take {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free in {self.store.root}"
            hint = "free some space, name another store:, or use fewer taps, {kind: pool} or store.dtype: float16"
            raise MachineError(Problem("PK-R02", what, hint, "store"))

    def _tell_of_batch_size(self) -> None:
        runner = self.runner
        if runner.fixed_batch and runner.fixed_batch < runner.backend.batch_size:
            what = f"the model takes exactly {runner.fixed_batch} examples at a time, not batch_size"
            warnings.warn(f"{what} {runner.backend.batch_size}", ProbekitWarning, stacklevel=2)


def _places(digests: npt.NDArray[np.uint8], record: npt.NDArray[np.uint8]) -> IntArray | None:
    """Return where the rows of a record stand, None where not all of them are asked."""
    where = {row.tobytes(): place for place, row in reversed(list(enumerate(digests)))}
    places = [where.get(row.tobytes()) for row in record]
    return None if None in places else np.array(places, dtype=np.int64)
