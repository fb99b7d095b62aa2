"""The conformance of reductions."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from probekit.components import DoesNotApplyError, LearnedReduction, LinearMap, Tap
from probekit.errors import UserError
from probekit.steps import program_digest, program_masks, program_shape, run_program
from probekit.testing.checks import equal_arrays, expect, expect_near, no_crash
from probekit.testing.component import ComponentConformance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Array, Reduction
    from probekit.sections import Component
    from probekit.steps import Masks, Program

TAPS = (
    Tap("vector", "Linear", (10,), "float32", "NC"),
    Tap("image", "Conv", (3, 5, 4), "float32", "NCHW"),
    Tap("channels last", "Conv", (5, 4, 3), "float32", "NHWC"),
    Tap("volume", "Conv", (2, 3, 4, 2), "float32", "NCDHW"),
    Tap("sequence", "LSTM", (6, 4), "float32", "NTC"),
    Tap("signal", "Conv", (4, 6), "float32", "NCT"),
    Tap("time first", "LSTM", (6, 4), "float32", "NTC", batch_axis=1),
    Tap("unnamed axes", "Reshape", (3, 4), "float32"),
    Tap("no axes", "ReduceSum", (), "float32"),
    Tap("half", "Conv", (2, 3, 3), "float16", "NCHW"),
    Tap("whole numbers", "Gather", (6,), "int64", "NC"),
    Tap("unknown size", "LSTM", (None, 4), "float32", "NTC"),
    Tap("unknown", "Custom", None, "float32"),
)
"""What reductions are tried on, as a trial run sees it: each layout, a vector, a scalar, unknown axes and sizes.

The batch axis is the first, also where the model has it elsewhere.
"""

_ROWS = 24
_CHANGING = 6
"""The size, here, of an axis whose size changes from batch to batch."""


class ReductionConformance(ComponentConformance):
    """What a reduction must hold to. Give ``reduction``; it must fit one of the taps at least.

    Example:
        ::

            class TestMyReduction(ReductionConformance):
                @pytest.fixture
                def reduction(self):
                    return MyReduction(features=4)
    """

    @pytest.fixture
    def reduction(self) -> Reduction:
        """The reduction, as a spec would configure it."""
        raise NotImplementedError("override the fixture 'reduction'")

    @pytest.fixture
    def taps(self) -> Sequence[Tap]:
        """The taps that it is tried on; default: one of each layout, and what has no layout or size."""
        return TAPS

    @pytest.fixture
    def component(self, reduction: Reduction) -> Component:
        """The reduction."""
        return reduction

    def test_program_gives_what_its_shape_says(self, reduction: Reduction, taps: Sequence[Tap]) -> None:
        """For each tap, ``program`` gives steps that leave one row of features an example, finite, as wide as their
        shapes say; or it raises DoesNotApplyError with the reason.

        The width is known before anything runs: by it memory and disk are planned.
        """
        for tap, program in _programs(reduction, taps):
            values = _activation(tap)
            shape = program_shape(program, tap.shape or ())
            expect(
                len(shape) == 1, f"for {tap.name!r} its shape is {shape}", "let the last step leave one axis: Flatten()"
            )
            with no_crash(
                f"the program for {tap.name!r}", "compile it for the tap's shape, axes counted with the batch"
            ):
                found = run_program(program, values, _masks(program, tap))
            expect(
                found.shape == (_ROWS, shape[0]),
                f"for {tap.name!r} it gives {found.shape}, its shape says {(_ROWS, shape[0])}",
                "let Step.shape tell what Step.apply gives",
            )
            expect(np.isfinite(found).all(), f"for {tap.name!r} features are not finite", "guard divisions")

    def test_rows_do_not_depend_on_the_batch(self, reduction: Reduction, taps: Sequence[Tap]) -> None:
        """An example's features are the same alone and beside others: they are stored by example."""
        for tap, program in _programs(reduction, taps):
            values, masks = _activation(tap), _masks(program, tap)
            whole = run_program(program, values, masks)
            for row in (0, _ROWS - 1):
                alone = run_program(program, values[row : row + 1], {k: m[row : row + 1] for k, m in masks.items()})
                fact = f"features of {tap.name!r} alone and in a batch"
                expect_near(alone, whole[row : row + 1], fact, "leave axis 0, the batch, alone")

    def test_program_is_the_same_every_time(self, reduction: Reduction, taps: Sequence[Tap]) -> None:
        """A tap's program is equal in a second call and from an unpickled copy, and its steps can be digested.

        The digest is in the key of stored features: a matrix that is drawn anew would never find them.
        """
        todo = "draw with numpy.random.default_rng(self.seed), and let a step hold plain values and arrays"
        copy = pickle.loads(pickle.dumps(reduction))  # noqa: S301 - our own bytes
        for tap, program in _programs(reduction, taps):
            with no_crash(f"the digest of the program for {tap.name!r}", todo):
                first = program_digest(program)
            for how, again in (("a second call", reduction.program(tap)), ("a copy", copy.program(tap))):
                expect(program_digest(again) == first, f"the program for {tap.name!r} differs in {how}", todo)

    def test_program_leaves_the_activation_alone(self, reduction: Reduction, taps: Sequence[Tap]) -> None:
        """The steps change neither the activation nor a mask: other reductions of the tap read the same arrays."""
        for tap, program in _programs(reduction, taps):
            values, masks = _activation(tap), _masks(program, tap)
            before = values.copy(), {name: mask.copy() for name, mask in masks.items()}
            run_program(program, values, masks)
            same = equal_arrays(values, before[0])
            same = same and all(equal_arrays(masks[name], mask) for name, mask in before[1].items())
            expect(same, f"the program changes the activation of {tap.name!r}", "let Step.apply return a new array")

    def test_draws_begin_with_itself(self, reduction: Reduction, taps: Sequence[Tap]) -> None:
        """``draws`` gives reductions by seed, itself first, of which some tap's program differs from seed to seed.

        The spread over draws tells how much an error owes to the draw; equal ones would tell of none.
        """
        draws = reduction.draws()
        if not draws:
            pytest.skip("draws() is empty: the reduction draws nothing")
        todo = "return {seed: self.model_copy(update={'seed': seed})}, its own seed first"
        made = [
            tuple(program_digest(program) for _, program in _programs(one, taps))
            for one in (reduction, *draws.values())
        ]
        expect(made[0] == made[1], f"the first draw, seed {next(iter(draws))}, is another reduction", todo)
        expect(len(set(made[1:])) == len(draws), f"{len(draws)} draws have {len(set(made[1:]))} programs", todo)

    def test_a_learned_reduction_is_fitted_to_training_rows(self, reduction: Reduction, taps: Sequence[Tap]) -> None:
        """``fit`` gives the same map every time, changes nothing that it is given, and the map gives each row features
        of its own, finite, as many for every row. A LinearMap says what it computes.

        It sees training rows only and is used on all of them; what depends on other rows at use would leak.
        """
        if not isinstance(reduction, LearnedReduction):
            pytest.skip("it is no LearnedReduction: its program is all that it does")
        rng = np.random.default_rng(3)
        for tap, program in _programs(reduction, taps)[:2]:
            width = program_shape(program, tap.shape or ())[0] or 0
            train, other = (rng.standard_normal((rows, width), dtype=np.float32) for rows in (400, 30))
            before = train.copy()
            try:
                fitted, again = reduction.fit(train), reduction.fit(train.copy())
            except UserError as error:
                raise AssertionError(f"fit refuses 400 rows of {width}: {error}; give fewer features") from error
            expect(equal_arrays(train, before), "fit changes the features that it is given", "copy them first")
            found = np.asarray(fitted(other))
            expect(found.ndim == 2 and len(found) == 30, f"30 rows become {found.shape}", "give (rows, features)")
            expect(np.isfinite(found).all(), "features are not finite", "guard divisions")
            expect_near(np.asarray(again(other)), found, "features of two fits", "seed whatever is drawn")
            alone = np.concatenate([np.asarray(fitted(other[row : row + 1])) for row in range(30)])
            expect_near(alone, found, "features of a row alone and among others", "use what was fitted alone")
            if isinstance(fitted, LinearMap):
                by_hand = other.astype(np.float64) @ fitted.weights.T + fitted.bias
                expect_near(found, by_hand, "features and weights x + bias", "let the LinearMap be what is computed")


def _programs(reduction: Reduction, taps: Sequence[Tap]) -> list[tuple[Tap, Program]]:
    """Return the program for each tap that the reduction fits; fail where it fits none, or raises anything else."""
    found, reasons = [], []
    for tap in taps:
        todo = "raise DoesNotApplyError with the reason where a shape or layout has no meaning"
        with no_crash(f"program() for the tap {tap.name!r} of shape {tap.shape}", todo):
            try:
                program = reduction.program(tap)
            except DoesNotApplyError as error:
                reasons.append(f"{tap.name}: {error}")
                continue
            expect(tap.shape is not None, f"{tap.name!r} has an unknown shape and gets a program", todo)
            if None in program_shape(program, tap.shape or ()):
                reasons.append(f"{tap.name}: the number of features changes from batch to batch")
                continue
        found.append((tap, program))
    expect(found, f"it fits no tap: {'; '.join(reasons)}", "give the fixture 'taps' with taps that it fits")
    return found


def _activation(tap: Tap) -> Array:
    values = np.random.default_rng(1).standard_normal((_ROWS, *_sizes(tap)))
    return (10 * values).astype(tap.dtype)


def _sizes(tap: Tap) -> list[int]:
    return [_CHANGING if size is None else size for size in tap.shape or ()]


def _masks(program: Program, tap: Tap) -> Masks:
    """Return masks of the sizes that the program's steps ask for."""
    found = {}
    for name in program_masks(program):
        step = next(step for step in program if getattr(step, "mask", None) == name)
        axes = getattr(step, "axes", None) or (getattr(step, "axis", 1),)
        sizes = [_sizes(tap)[axis - 1] for axis in axes]
        mask = np.random.default_rng(2).random((_ROWS, *sizes)) < 0.5
        mask.reshape(_ROWS, -1)[:, 0] = True
        found[name] = mask
    return found
