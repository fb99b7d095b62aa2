"""One pass over the model: from rows to a feature matrix for every tap and reduction."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probekit.data.feed import make_feed
from probekit.errors import InputError, MachineError, ProbekitWarning, Problem, SpecError, listed
from probekit.steps import run_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from probekit.components import Array, Backend, Examples, Feed, FloatArray, IntArray, ModelInput, Tap, TapFunction
    from probekit.reductions.assign import FeatureSet
    from probekit.taps import ChosenTap


@dataclass
class Extracted:
    """What one pass over a model gave, for the rows asked.

    Args:
        features: one matrix per feature set, in their order, each (rows, width).
        output: the model's own output, (rows, entries); None when it was not asked for.
        digests: 16 bytes per row that identify its inputs.
        seconds: wall time of the pass.
    """

    features: list[FloatArray]
    output: FloatArray | None
    digests: list[bytes]
    seconds: float = 0.0


@dataclass
class Trial:
    """What a run of a few rows showed.

    Args:
        taps: those that can be tapped, with the shapes and dtypes that were seen.
        skipped: tap name to reason, of those that only a pattern asked for.
    """

    taps: list[ChosenTap]
    skipped: dict[str, str] = field(default_factory=dict)


class Runner:
    """Feeds a backend with a dataset's rows, batch by batch.

    Args:
        backend: the model.
        examples: the opened dataset.
    """

    def __init__(self, backend: Backend, examples: Examples) -> None:
        signature = backend.signature()
        self.backend, self.examples = backend, examples
        self.feed = make_feed(signature, backend.inputs, examples)
        self.fixed_batch = _fixed_batch(signature, backend)

    def read(self, rows: IntArray) -> tuple[Mapping[str, Array], Feed]:
        """Return the dataset's inputs of those rows, and what the model is fed."""
        inputs = self.examples.read(rows)
        return inputs, self.feed(rows, inputs)

    def example(self, rows: IntArray) -> Feed:
        """Return the feed of the first rows, two or the number that the model fixes."""
        return self.read(self._padded(rows[: self.fixed_batch or 2]))[1]

    def batches(self, rows: IntArray) -> Iterator[tuple[slice, Mapping[str, Array], Feed]]:
        """Give (place among the rows, dataset's inputs, feed); the last batch is padded where the size is fixed."""
        size = self.fixed_batch or self.backend.batch_size
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            inputs, feed = self.read(self._padded(part))
            yield slice(start, start + len(part)), {name: a[: len(part)] for name, a in inputs.items()}, feed

    def _padded(self, rows: IntArray) -> IntArray:
        lacking = (self.fixed_batch or 0) - len(rows)
        return np.concatenate([rows, np.repeat(rows[-1:], lacking)]) if lacking > 0 else rows


def _fixed_batch(signature: Sequence[ModelInput], backend: Backend) -> int | None:
    for declared in signature:
        binding = backend.inputs.get(declared.name)
        if declared.shape and declared.shape[0] is not None and (binding is None or binding.column is not None):
            return declared.shape[0]
    return None


def try_taps(runner: Runner, taps: Sequence[ChosenTap], rows: IntArray) -> Trial:
    """Run a few rows twice, with two batch sizes, to see shapes and that each tap's first axis is the batch.

    Raises:
        SpecError: ``PK-M28``, a tap that was asked for by name has no batch axis; all such at once.
    """
    names = [chosen.tap.name for chosen in taps]
    # Rows are repeated where there are fewer: an axis that is no batch axis must not look like one.
    sizes = (runner.fixed_batch,) if runner.fixed_batch else (2, 3)
    with runner.backend.open(names) as run:
        seen = [(size, run(runner.read(np.resize(rows, size))[1])) for size in sizes]
    found, problems, skipped = [], [], {}
    for chosen in taps:
        arrays = [(size, got[chosen.tap.name]) for size, got in seen]
        reason = _no_features(arrays)
        if not reason:
            found.append(replace(chosen, tap=_seen(chosen.tap, [array for _, array in arrays])))
        elif chosen.exact:
            problems.append(Problem("PK-M28", f"{chosen.tap.name!r} cannot be tapped: {reason}", field="taps"))
        else:
            skipped[chosen.tap.name] = reason
    if not found and not problems:
        problems = [Problem("PK-M28", f"no chosen tensor can be tapped: {listed(skipped.items())}", field="taps")]
    if problems:
        raise SpecError(*problems)
    return Trial(found, skipped)


def _no_features(arrays: Sequence[tuple[int, Array]]) -> str:
    for count, array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            return f"its values are {getattr(array, 'dtype', type(array).__name__)}, not real numbers"
        if not array.ndim or array.shape[0] != count:
            return f"no batch axis: shape {array.shape} for a batch of {count}"
    return ""


def _seen(tap: Tap, arrays: Sequence[Array]) -> Tap:
    shapes = {array.shape[1:] for array in arrays}
    shape: tuple[int | None, ...] = next(iter(shapes))
    if len(shapes) > 1:
        same_rank = len({len(one) for one in shapes}) == 1
        sizes = zip(*shapes, strict=True) if same_rank else ()
        shape = tuple(one[0] if len(set(one)) == 1 else None for one in sizes)
    layout = tap.layout if len(tap.layout) == len(shape) + 1 else ("NC" if len(shape) == 1 else "")
    return replace(tap, shape=shape, dtype=arrays[0].dtype.name, layout=layout)


def extract(
    runner: Runner,
    sets: Sequence[FeatureSet],
    rows: IntArray,
    output: str | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Extracted:
    """Run the model once over the rows and reduce every tap to features.

    Args:
        runner: the fed model.
        sets: what to compute.
        rows: of the dataset, in the order of the result.
        output: name of the model's own output, kept as it is.
        progress: called with (rows done, rows in all).

    Raises:
        InputError: ``PK-M39`` values that are not finite, by tap, count and first examples; ``PK-M20`` a size changes.
        MachineError: ``PK-R03``, the features do not fit in memory.
    """
    _refuse_too_much(sets, len(rows))
    if runner.fixed_batch and runner.fixed_batch < runner.backend.batch_size:
        what = f"the model takes exactly {runner.fixed_batch} examples at a time, not batch_size"
        warnings.warn(f"{what} {runner.backend.batch_size}", ProbekitWarning, stacklevel=2)
    start = time.monotonic()
    names = list(dict.fromkeys([*(one.tap.name for one in sets), *([output] if output else [])]))
    features = [np.empty((len(rows), one.width), dtype=np.float32) for one in sets]
    own: list[FloatArray] = []
    digests: list[bytes] = []
    with runner.backend.open(names) as run:
        for place, inputs, feed in runner.batches(rows):
            count = place.stop - place.start
            got = _run(run, feed, count)
            for one, matrix in zip(sets, features, strict=True):
                matrix[place] = _reduced(one, got[one.tap.name], count)
            if output:
                own.append(_flat(output, got[output], count))
            digests += runner.examples.row_digests(inputs)
            progress(place.stop, len(rows))
    _refuse_non_finite(sets, features, runner.examples.columns["id"][rows])
    return Extracted(features, np.concatenate(own) if own else None, digests, time.monotonic() - start)


def _run(run: TapFunction, feed: Feed, count: int) -> dict[str, Array]:
    return {name: array[:count] if array.ndim else array for name, array in run(feed).items()}


def _reduced(one: FeatureSet, activation: Array, count: int) -> FloatArray:
    _refuse_other_rows(one.label, activation, count)
    if activation.shape[1:] != one.tap.shape:
        what = f"tap {one.label!r} changes its size: {one.tap.shape} in the first rows, {activation.shape[1:]} later"
        raise InputError(Problem("PK-M20", what, "give the dataset inputs of one size"))
    return run_program(one.program, activation)


def _flat(output: str, activation: Array, count: int) -> FloatArray:
    _refuse_other_rows(output, activation, count)
    return np.asarray(activation, dtype=np.float32).reshape(count, -1)


def _refuse_other_rows(label: str, activation: Array, count: int) -> None:
    if not activation.ndim or activation.shape[0] != count:
        what = f"tap {label!r} has shape {activation.shape} for a batch of {count}: it has no batch axis"
        raise InputError(Problem("PK-M28", what, "leave it out"))


def _refuse_non_finite(sets: Sequence[FeatureSet], features: Sequence[FloatArray], ids: Array) -> None:
    problems = []
    for one, matrix in zip(sets, features, strict=True):
        bad = ~np.isfinite(matrix)
        if bad.any():
            rows = np.flatnonzero(bad.any(axis=1))
            what = (
                f"tap {one.label!r} under {one.reduction!r} has {int(bad.sum())} NaN or infinite values "
                f"in {len(rows)} of {len(matrix)} examples, the first: {listed(ids[rows[:5]], 5)}"
            )
            hint = "export the model in float32" if one.tap.dtype == "float16" else "leave the tap or the examples out"
            problems.append(Problem("PK-M39", what, hint))
    if problems:
        raise InputError(*problems)


def _refuse_too_much(sets: Sequence[FeatureSet], rows: int) -> None:
    needed = sum(one.width for one in sets) * rows * 4
    free = available_memory()
    # Fitting holds one more copy of a tap's training rows, standardised.
    largest = max((one.width for one in sets), default=0) * rows * 4
    if free is not None and needed + 2 * largest > free:
        what = f"features of {rows} examples take {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
        hint = "use fewer taps, {kind: pool}, or {kind: subset, features: 1000}"
        raise MachineError(Problem("PK-R03", what, hint))


def available_memory() -> int | None:
    """Return the bytes that this process may still take, by the kernel and the container; None where unknown."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
            limits.append(int(limit) - used)
    except (OSError, ValueError):
        pass
    return min(limits) if limits else None
