"""A few rows are run first, with two batch sizes: what shapes the taps have, and which axis of each is the batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from probekit.errors import Problem, SpecError, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Array, IntArray, Tap
    from probekit.features.runner import Runner
    from probekit.taps import ChosenTap

_SIZES = (2, 3)


@dataclass
class Trial:
    """What a run of a few rows showed.

    Args:
        taps: those that can be tapped, with the shapes, dtypes and batch axes that were seen.
        skipped: tap name to reason, of those that only a pattern asked for.
    """

    taps: list[ChosenTap]
    skipped: dict[str, str] = field(default_factory=dict)


def try_taps(runner: Runner, taps: Sequence[ChosenTap], rows: IntArray) -> Trial:
    """Run a few rows twice, with two batch sizes, to see shapes and which axis of each tap is the batch.

    Raises:
        SpecError: ``PK-M28``, a tap that was asked for by name has no batch axis; all such at once.
    """
    names = [chosen.tap.name for chosen in taps]
    sizes = (runner.fixed_batch,) if runner.fixed_batch else _SIZES
    readable = _readable(runner, rows, max(sizes))
    with runner.backend.open(names) as run:
        # Rows are repeated where there are fewer: an axis that is no batch axis must not look like one.
        seen = [run(runner.read(np.resize(readable, size)).feed) for size in sizes]
    found, problems, skipped = [], [], {}
    for chosen in taps:
        arrays = [got[chosen.tap.name] for got in seen]
        axis, reason = _batch_axis(chosen.tap, arrays, sizes)
        if not reason:
            found.append(replace(chosen, tap=_seen(chosen.tap, arrays, axis)))
        elif chosen.exact:
            problems.append(Problem("PK-M28", f"{chosen.tap.name!r} cannot be tapped: {reason}", field="taps"))
        else:
            skipped[chosen.tap.name] = reason
    if not found and not problems:
        problems = [Problem("PK-M28", f"no chosen tensor can be tapped: {listed(skipped.items())}", field="taps")]
    if problems:
        raise SpecError(*problems)
    return Trial(found, skipped)


def _readable(runner: Runner, rows: IntArray, count: int) -> IntArray:
    """Return the first few rows that can be read."""
    found: list[int] = []
    for start in range(0, len(rows), count):
        found += runner.read(rows[start : start + count]).rows.tolist()
        if len(found) >= count:
            break
    return np.array(found[:count] or rows[:1], dtype=np.int64)


def _batch_axis(tap: Tap, arrays: Sequence[Array], sizes: Sequence[int]) -> tuple[int, str]:
    """Return the batch axis, or why there is none."""
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            return 0, f"its values are {getattr(array, 'dtype', type(array).__name__)}, not real numbers"
    shapes = " and ".join(str(array.shape) for array in arrays)
    batches = " and ".join(map(str, sizes))
    if len({array.ndim for array in arrays}) > 1:
        return 0, f"its number of axes changes: {shapes} for batches of {batches}"
    axes = [
        axis
        for axis in range(arrays[0].ndim)
        if all(array.shape[axis] == size for array, size in zip(arrays, sizes, strict=True))
    ]
    stated = tap.layout.find("N") if len(tap.layout) == arrays[0].ndim else tap.batch_axis
    if stated in axes:
        return stated, ""
    if len(axes) == 1 and len(sizes) > 1:
        return axes[0], ""
    if axes:
        which = "several of its axes" if len(axes) > 1 else f"axis {axes[0]}"
        return 0, f"{which} could be the batch: {shapes} for batches of {batches}; a layout: would tell"
    return 0, f"no batch axis: {shapes} for batches of {batches}"


def _seen(tap: Tap, arrays: Sequence[Array], axis: int) -> Tap:
    """Return the tap as it looks once its batch axis is the first."""
    shapes = [array.shape[:axis] + array.shape[axis + 1 :] for array in arrays]
    shape = tuple(one[0] if len(set(one)) == 1 else None for one in zip(*shapes, strict=True))
    layout = tap.layout if len(tap.layout) == len(shape) + 1 else ""
    if layout:
        layout = "N" + layout[:axis] + layout[axis + 1 :] if layout[axis] == "N" else ""
    return replace(
        tap,
        shape=shape,
        dtype=arrays[0].dtype.name,
        layout=layout or ("NC" if len(shape) == 1 else ""),
        batch_axis=axis,
    )
