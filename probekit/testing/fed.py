"""A backend together with a batch that it is fed: what the checks of backends run."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from probekit.components import DoesNotApplyError, Examples, Wanted
from probekit.errors import listed
from probekit.features.runner import Runner
from probekit.features.trial import try_taps
from probekit.reductions.data_free import position_axes
from probekit.steps import (
    BatchFirst,
    Flatten,
    Last,
    MatMul,
    Max,
    Mean,
    Positions,
    Select,
    Slice,
    Std,
    Take,
    program_shape,
)
from probekit.taps import ChosenTap
from probekit.testing.checks import expect, no_crash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components import Array, Backend, Feed, Graph, IntArray, ReducedFunction, Tap, TapFunction
    from probekit.steps import Masks, Program

_WIDEST = 4096
"""Values of an activation above which a program's constants are made for some of them only."""


class FedBackend:
    """A backend, some examples, and what a run would find out of the two.

    Args:
        backend: what is checked.
        batch: the inputs of some examples as a dataset gives them, {name: (examples, ...)}.
        taps: names of the taps to look at; None: all that can be tapped.
    """

    def __init__(self, backend: Backend, batch: Mapping[str, Array], taps: Sequence[str] | None = None) -> None:
        self.backend, self.batch = backend, dict(batch)
        self._asked = None if taps is None else list(taps)
        self.passed_over: dict[str, str] = {}
        """Taps that a run would pass over, such as those without a batch axis, with the reason; after ``seen``."""

    @cached_property
    def runner(self) -> Runner:
        """What feeds it, as in a run."""
        sizes = {name: len(array) for name, array in self.batch.items()}
        expect(len(set(sizes.values())) == 1, f"batch has {sizes} examples", "give every input as many")
        expect(
            min(sizes.values()) >= 4, f"batch has {min(sizes.values())} examples", "give four or more, all different"
        )
        return Runner(self.backend, Examples({}, self.batch))

    @property
    def rows(self) -> IntArray:
        """The numbers of all examples."""
        return np.arange(len(self.runner.examples))

    @cached_property
    def graph(self) -> Graph:
        """Everything that can be tapped."""
        return self.backend.graph(self.runner.example(self.rows))

    @cached_property
    def seen(self) -> list[Tap]:
        """The taps as a trial run sees them: with the sizes, dtypes and batch axes of real activations."""
        usable = {tap.name: tap for tap in self.graph.taps if not tap.untappable}
        absent = [name for name in self._asked or [] if name not in usable]
        expect(not absent, f"taps names {listed(absent)}, which the graph cannot tap", "name taps of the graph")
        chosen = usable if self._asked is None else {name: usable[name] for name in self._asked}
        expect(chosen, "the graph has no tap that can be tapped", "list tensors in graph() with untappable=''")
        asked = [ChosenTap(tap, name, None, exact=False) for name, tap in chosen.items()]
        with no_crash("a trial run of all taps", "open must serve every tap that graph() lists without a reason"):
            trial = try_taps(self.runner, asked, self.rows)
        self.passed_over = trial.skipped
        return [one.tap for one in trial.taps]

    @property
    def names(self) -> list[str]:
        """The names of the taps."""
        return [tap.name for tap in self.seen]

    def feed(self, rows: IntArray | None = None) -> Feed:
        """Return the model's inputs for some examples, by default as many as one pass may have."""
        return self.runner.read(self.rows[: self.most] if rows is None else rows).feed

    @property
    def most(self) -> int:
        """How many examples one pass has: all, or as many as the model's batch fixes."""
        return self.runner.fixed_batch or len(self.rows)

    def rows_of(self, run: TapFunction, rows: IntArray) -> dict[str, Array]:
        """Return the activations of some examples, their batch axis first, without what fills a fixed batch."""
        found = run(self.feed(rows))
        axes = {tap.name: tap.batch_axis for tap in self.seen}
        return {name: np.moveaxis(array, axes[name], 0)[: len(rows)] for name, array in found.items()}

    def activations(self, names: Sequence[str] | None = None) -> dict[str, Array]:
        """Open the model and return copies of the activations of one pass."""
        names = self.names if names is None else names
        doing, todo = f"opening the taps {listed(names)} and one pass", "open must serve every tap of the graph"
        with no_crash(doing, todo), self.backend.open(list(names)) as run:
            return {name: np.array(array) for name, array in run(self.feed()).items()}

    def features(self, masks: Masks, run: ReducedFunction, rows: IntArray) -> list[Array]:
        """Return the features that a backend gives for some examples."""
        batch = self.runner.read(rows)
        lacking = len(next(iter(batch.feed.values()))) - len(rows)
        again = np.concatenate([rows, np.full(lacking, rows[-1])]) if lacking else rows
        return [np.asarray(array) for array in run(batch.feed, {name: mask[again] for name, mask in masks.items()})]


def reductions_of(tap: Tap) -> dict[str, Wanted]:
    """Return a wanted feature matrix for every step without a mask that fits a tap, by the step's name."""
    if tap.shape is None or None in tap.shape or not tap.shape or 0 in tap.shape:
        return {}
    shape = tuple(int(size) for size in tap.shape if size is not None)
    size = math.prod(shape)
    rng = np.random.default_rng(size)
    some = np.sort(rng.choice(size, min(size, 7), replace=False)).astype(np.int64)
    programs: dict[str, Program] = {"flatten": (Flatten(),), "take": (Flatten(), Take(some))}
    if size <= _WIDEST:
        programs["matmul"] = (Flatten(), MatMul(rng.standard_normal((size, 3), dtype=np.float32)))
    axes = position_axes_of(tap)
    if axes:
        programs["positions"] = (Positions(axes), Flatten())
        programs |= {kind.__name__.lower(): (kind(axes), Flatten()) for kind in (Mean, Max, Std)}
        programs["select"] = (Select(axes[0], -1), Flatten())
        programs["slice"] = (Slice(axes[-1], 0, max(1, shape[axes[-1] - 1] - 1)), Flatten())
    return {name: wanted(tap, program) for name, program in programs.items()}


def masked_reductions_of(tap: Tap) -> dict[str, Wanted]:
    """Return the same for every step with a mask; the mask is called as :func:`mask_name` says."""
    axes = position_axes_of(tap)
    if not axes:
        return {}
    mask = mask_name(tap, axes)
    programs: dict[str, Program] = {
        f"masked {kind.__name__.lower()}": (kind(axes, mask), Flatten()) for kind in (Mean, Max, Std)
    }
    programs["masked positions"] = (Positions(axes, mask), Flatten())
    if len(axes) == 1:
        programs["last"] = (Last(axes[0], mask), Flatten())
    return {name: wanted(tap, program) for name, program in programs.items()}


def wanted(tap: Tap, program: Program) -> Wanted:
    """Return a feature matrix of a tap: the batch axis comes first, then the program."""
    width = program_shape(program, tap.shape or ())[0]
    leading: Program = (BatchFirst(tap.batch_axis),) if tap.batch_axis else ()
    return Wanted(tap, (*leading, *program), int(width or 0))


def position_axes_of(tap: Tap) -> tuple[int, ...]:
    """Return a tap's axes of positions by its layout; all but the first two where it has none; none of a vector."""
    if tap.shape is None or None in tap.shape or len(tap.shape) < 2 or 0 in tap.shape:
        return ()
    try:
        return position_axes(tap)
    except DoesNotApplyError:
        return tuple(range(2, len(tap.shape) + 1))


def mask_name(tap: Tap, axes: Sequence[int]) -> str:
    """Return the name of a mask for these axes: it holds their sizes."""
    return "mask " + " x ".join(str((tap.shape or ())[axis - 1]) for axis in axes)


def masks_for(taps: Sequence[Tap], examples: int, *, empty: bool) -> dict[str, Array]:
    """Return random masks, {name: (examples, positions ...)}, booleans; the first example keeps every position.

    Args:
        taps: those with axes of positions get one.
        examples: how many.
        empty: the last example keeps no position; else each keeps one or more.
    """
    rng = np.random.default_rng(5)
    masks = {}
    for tap in taps:
        axes = position_axes_of(tap)
        if axes:
            sizes = [int((tap.shape or ())[axis - 1] or 0) for axis in axes]
            mask = rng.random((examples, *sizes)) < 0.6
            mask[0] = True
            kept = rng.integers(math.prod(sizes), size=examples)
            mask.reshape(examples, -1)[np.arange(examples), kept] = True
            if empty:
                mask[-1] = False
            masks[mask_name(tap, axes)] = mask
    return masks
