"""The primitive steps against plain Python loops. A warning of NumPy fails a test."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.steps import (
    NO_MASKS,
    BatchFirst,
    Flatten,
    Last,
    Masks,
    MatMul,
    Max,
    Mean,
    Positions,
    Program,
    Select,
    Shape,
    Slice,
    Std,
    Step,
    Take,
    program_digest,
    program_masks,
    program_shape,
    run_program,
)

Array = npt.NDArray[np.float32]


@st.composite
def activations(draw: st.DrawFn, least_axes: int = 1, most_axes: int = 4) -> Array:
    """Give an activation with a batch axis, of moderate values."""
    shape = draw(st.lists(st.integers(1, 4), min_size=least_axes, max_size=most_axes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.normal(0, 3, shape).astype(np.float32)


def cells(array: Array, axes: tuple[int, ...]) -> Iterable[tuple[tuple[int, ...], list[float]]]:
    """Give each place of the axes that stay, and the values along ``axes`` there."""
    for place in itertools.product(*(range(1 if axis in axes else size) for axis, size in enumerate(array.shape))):
        along = itertools.product(
            *(range(size) if axis in axes else [place[axis]] for axis, size in enumerate(array.shape))
        )
        yield tuple(n for axis, n in enumerate(place) if axis not in axes), [float(array[index]) for index in along]


def by_loop(array: Array, axes: tuple[int, ...], summary: Callable[[list[float]], float]) -> Array:
    found = {place: summary(values) for place, values in cells(array, axes)}
    shape = [size for axis, size in enumerate(array.shape) if axis not in axes]
    return np.array([found[place] for place in itertools.product(*map(range, shape))], np.float64).reshape(shape)


@pytest.mark.parametrize(
    ("step", "summary"), [(Mean, statistics.fmean), (Max, max), (Std, statistics.pstdev)], ids=["mean", "max", "std"]
)
@settings(deadline=None, max_examples=40)
@given(activation=activations(least_axes=2), data=st.data())
def test_a_summary_over_axes_is_the_loop_over_their_values(
    step: type[Mean | Max | Std], summary: Callable[[list[float]], float], activation: Array, data: st.DataObject
) -> None:
    axes = tuple(data.draw(st.lists(st.integers(1, activation.ndim - 1), min_size=1, unique=True)))
    result = step(axes).apply(activation)
    np.testing.assert_allclose(result, by_loop(activation, axes, summary), rtol=1e-5, atol=1e-5)
    assert step(axes).shape(activation.shape[1:]) == result.shape[1:]


@settings(deadline=None, max_examples=40)
@given(activation=activations(least_axes=2), data=st.data())
def test_select_takes_one_position_from_either_end(activation: Array, data: st.DataObject) -> None:
    axis = data.draw(st.integers(1, activation.ndim - 1))
    size = activation.shape[axis]
    position = data.draw(st.integers(-size, size - 1))
    result = Select(axis, position).apply(activation)
    assert result.tolist() == by_loop(activation, (axis,), lambda values: values[position]).tolist()
    assert Select(axis, position).shape(activation.shape[1:]) == result.shape[1:]


@settings(deadline=None, max_examples=40)
@given(activation=activations(least_axes=2), data=st.data())
def test_slice_counts_as_python_slices_do(activation: Array, data: st.DataObject) -> None:
    axis = data.draw(st.integers(1, activation.ndim - 1))
    start, stop = data.draw(st.integers(-6, 6)), data.draw(st.integers(-6, 6))
    result = Slice(axis, start, stop).apply(activation)
    kept = list(range(activation.shape[axis]))[start:stop]
    expected = [by_loop(activation, (axis,), lambda values, n=n: values[n]) for n in kept]
    assert np.moveaxis(result, axis, 0).tolist() == [one.tolist() for one in expected]
    assert Slice(axis, start, stop).shape(activation.shape[1:]) == result.shape[1:]


@settings(deadline=None, max_examples=40)
@given(activation=activations())
def test_flatten_counts_the_last_axis_fastest(activation: Array) -> None:
    result = Flatten().apply(activation)
    places = list(itertools.product(*map(range, activation.shape[1:])))
    assert result.tolist() == [[float(activation[n, *place]) for place in places] for n in range(len(activation))]
    assert Flatten().shape(activation.shape[1:]) == result.shape[1:]


@settings(deadline=None, max_examples=40)
@given(activation=activations(2, 2), data=st.data())
def test_take_keeps_the_order_of_its_indices(activation: Array, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, activation.shape[1] - 1), max_size=6))
    step = Take(np.array(indices, dtype=np.int64))
    result = step.apply(activation)
    assert result.tolist() == [[float(row[i]) for i in indices] for row in activation]
    assert step.shape(activation.shape[1:]) == result.shape[1:]


@settings(deadline=None, max_examples=40)
@given(activation=activations(2, 2), width=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_matmul_sums_the_products(activation: Array, width: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(activation.shape[1], width)).astype(np.float32)
    result = MatMul(matrix).apply(activation)
    expected = [
        [math.fsum(float(row[i]) * float(matrix[i, j]) for i in range(len(row))) for j in range(width)]
        for row in activation
    ]
    np.testing.assert_allclose(result, np.array(expected), rtol=1e-4, atol=1e-4)
    assert MatMul(matrix).shape(activation.shape[1:]) == result.shape[1:]


# --- masks and positions


@st.composite
def masked(draw: st.DrawFn, most_masked: int = 3) -> tuple[Array, tuple[int, ...], npt.NDArray[np.int64]]:
    """Give an activation, ascending axes of it, and their mask of zeros and other numbers."""
    activation = draw(activations(least_axes=2))
    axes = st.lists(st.integers(1, activation.ndim - 1), min_size=1, max_size=most_masked, unique=True)
    chosen = tuple(sorted(draw(axes)))
    shape = (len(activation), *(activation.shape[axis] for axis in chosen))
    mask = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(-1, 3, shape)
    return activation, chosen, mask * draw(st.sampled_from([0, 1, 1, 1]))


def kept_of(
    activation: Array, axes: tuple[int, ...], mask: npt.NDArray[np.int64]
) -> dict[tuple[int, ...], list[tuple[tuple[int, ...], float]]]:
    """Give, at each place of the axes that stay, the positions that the mask keeps and their values."""
    found: dict[tuple[int, ...], list[tuple[tuple[int, ...], float]]] = {}
    for place in itertools.product(*map(range, activation.shape)):
        stays = tuple(n for axis, n in enumerate(place) if axis not in axes)
        position = tuple(place[axis] for axis in axes)
        found.setdefault(stays, [])
        if mask[(place[0], *position)] != 0:
            found[stays].append((position, float(activation[place])))
    return found


@pytest.mark.parametrize(
    ("step", "summary", "nothing"),
    [(Mean, statistics.fmean, math.nan), (Max, max, -math.inf), (Std, statistics.pstdev, math.nan)],
    ids=["mean", "max", "std"],
)
@settings(deadline=None, max_examples=40)
@given(given=masked())
def test_a_masked_summary_is_the_loop_over_the_values_that_the_mask_keeps(
    step: type[Mean | Max | Std],
    summary: Callable[[list[float]], float],
    nothing: float,
    given: tuple[Array, tuple[int, ...], npt.NDArray[np.int64]],
) -> None:
    activation, axes, mask = given
    found = kept_of(activation, axes, mask)
    expected = [summary([v for _, v in kept]) if kept else nothing for kept in found.values()]
    result = run_program((step(axes, "m"), Flatten()), activation, {"m": mask, "other": mask * 0})
    np.testing.assert_allclose(result, np.reshape(expected, (len(activation), -1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", [Mean, Max, Std])
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf, 3e38])
def test_what_a_mask_leaves_out_may_hold_anything(step: type[Mean | Max | Std], rubbish: float) -> None:
    activation = np.array([[[1, 2], [rubbish, rubbish], [3, 6]]], dtype=np.float32)
    result = run_program((step((1,), "m"), Flatten()), activation, {"m": np.array([[1, 0, 1]])})
    expected = {Mean: [[2, 4]], Max: [[3, 6]], Std: [[1, 2]]}[step]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_a_mask_of_any_dtype_keeps_what_is_not_0(dtype: str) -> None:
    activation = np.array([[1.0, 5.0, 7.0]])
    result = run_program((Mean((1,), "m"), Flatten()), activation, {"m": np.array([[1, 0, 1]], dtype=dtype)})
    assert result.tolist() == [[4.0]]


@settings(deadline=None, max_examples=60)
@given(given=masked(most_masked=1))
def test_last_takes_the_last_position_that_the_mask_keeps(
    given: tuple[Array, tuple[int, ...], npt.NDArray[np.int64]],
) -> None:
    activation, (axis,), mask = given
    found = kept_of(activation, (axis,), mask)
    every = kept_of(activation, (axis,), np.ones_like(mask))
    expected = [(kept or every[place])[-1][1] for place, kept in found.items()]
    result = Last(axis, "m").apply(activation, {"m": mask})
    assert result.flatten().tolist() == expected
    assert Last(axis, "m").shape(activation.shape[1:]) == result.shape[1:]


@settings(deadline=None, max_examples=60)
@given(given=masked(), with_mask=st.booleans())
def test_every_position_that_is_kept_becomes_a_row_in_the_order_of_examples_and_positions(
    given: tuple[Array, tuple[int, ...], npt.NDArray[np.int64]], with_mask: bool
) -> None:
    activation, axes, mask = given
    if not with_mask:
        mask = np.ones_like(mask)
    others = [range(size) for axis, size in enumerate(activation.shape) if axis and axis not in axes]
    expected = []
    for position in itertools.product(*map(range, mask.shape)):
        if mask[position] == 0:
            continue
        row = []
        for other in itertools.product(*others):
            rest = iter(other)
            here = dict(zip(axes, position[1:], strict=True))
            place = [position[0], *(here[a] if a in here else next(rest) for a in range(1, activation.ndim))]
            row.append(float(activation[tuple(place)]))
        expected.append(row)
    step = Positions(axes, "m" if with_mask else None)
    result = run_program((step, Flatten()), activation, {"m": mask})
    assert result.tolist() == expected
    assert step.shape(activation.shape[1:]) == tuple(map(len, others))


@settings(deadline=None, max_examples=40)
@given(activation=activations(least_axes=2), data=st.data())
def test_batch_first_puts_each_example_together(activation: Array, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, activation.ndim - 1))
    result = BatchFirst(axis).apply(activation)
    others = [range(size) for number, size in enumerate(activation.shape) if number != axis]
    for n in range(activation.shape[axis]):
        for place in itertools.product(*others):
            assert result[(n, *place)] == activation[(*place[:axis], n, *place[axis:])]
    assert BatchFirst(axis).shape(result.shape[1:]) == result.shape[1:]


def test_after_batch_first_axes_count_from_the_batch() -> None:
    activation = np.arange(24.0).reshape(4, 3, 2)  # (time, batch, channels)
    result = run_program((BatchFirst(1), Select(1, -1), Flatten()), activation)
    assert result.tolist() == activation[3].tolist()


def test_the_masks_of_a_program_are_named_once_in_order() -> None:
    program = (Positions((1,), "z"), Mean((2,), "a"), Std((2,), "z"), Last(1, "b"), Max((2,)), Flatten())
    assert program_masks(program) == ("a", "b", "z")
    assert program_masks((Mean((1,)), Positions((1,)), Flatten())) == ()


def test_a_program_sees_float32_before_its_first_step() -> None:
    # Two numbers that float32 cannot tell apart: in float64 their spread would not be 0.
    activation = np.array([[2.0**24, 2.0**24 + 1]])
    assert run_program((Std((1,)), Flatten()), activation).tolist() == [[0.0]]
    codes = np.array([[100, 100]], dtype=np.int8)
    assert run_program((Flatten(), MatMul(np.full((2, 1), 2, np.float32))), codes).tolist() == [[400.0]]


# --- what identifies a program


def steps() -> st.SearchStrategy[Step]:
    axes = st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True).map(tuple)
    mask = st.sampled_from([None, "m", "n"])
    numbers = st.lists(st.integers(0, 3), max_size=3).map(lambda found: np.array(found, dtype=np.int64))
    matrices = st.integers(1, 2).map(lambda width: np.ones((2, width), dtype=np.float32))
    return st.one_of(
        st.builds(BatchFirst, st.integers(0, 2)),
        *(st.builds(kind, axes, mask) for kind in (Mean, Max, Std, Positions)),
        st.builds(Select, st.integers(1, 2), st.integers(-2, 2)),
        st.builds(Last, st.integers(1, 2), st.sampled_from(["m", "n"])),
        st.builds(Slice, st.integers(1, 2), st.integers(0, 1), st.integers(2, 3)),
        st.just(Flatten()),
        st.builds(Take, numbers),
        st.builds(MatMul, matrices),
    )


def fields_of(step: Step) -> tuple[object, ...]:
    """Return all that a step says, arrays as lists."""
    values = [value.tolist() if isinstance(value, np.ndarray) else value for value in vars(step).values()]
    return type(step), *map(repr, values)


@settings(deadline=None, max_examples=200)
@given(one=st.lists(steps(), max_size=3), other=st.lists(steps(), max_size=3))
def test_programs_have_one_digest_exactly_where_their_steps_and_fields_are_equal(
    one: list[Step], other: list[Step]
) -> None:
    same = list(map(fields_of, one)) == list(map(fields_of, other))
    assert (program_digest(tuple(one)) == program_digest(tuple(other))) == same


def test_an_equal_program_that_is_made_anew_has_the_same_digest() -> None:
    def made() -> Program:
        return (BatchFirst(1), Flatten(), Take(np.arange(5)), MatMul(np.eye(5, 2, dtype=np.float32)))

    assert program_digest(made()) == program_digest(made())


ARRAY = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)


@pytest.mark.parametrize(
    "other",
    [
        ARRAY + np.float32(1e-6),
        -ARRAY,
        ARRAY.T.copy(),
        ARRAY[:1],
        ARRAY.reshape(4, 1),
        ARRAY.reshape(1, 4),
        ARRAY.astype(np.float64),
        ARRAY.view(np.int32),
    ],
    ids=["a value", "all signs", "turned", "a row less", "a column", "a row", "dtype", "the same bytes as integers"],
)
def test_any_change_of_an_array_changes_the_digest(other: npt.NDArray[np.float32]) -> None:
    assert program_digest((MatMul(other),)) != program_digest((MatMul(ARRAY),))


def test_the_place_of_an_array_in_memory_does_not_change_the_digest() -> None:
    wide = np.zeros((2, 4), dtype=np.float32)
    wide[:, ::2] = ARRAY
    for same in (ARRAY.copy(), np.asfortranarray(ARRAY), wide[:, ::2]):
        assert program_digest((MatMul(same),)) == program_digest((MatMul(ARRAY),))


def test_the_digest_of_a_program_stays_what_it_is() -> None:
    """It names the features in the store: another digest would extract everything again."""
    program = (Mean((2, 3), "m"), Flatten(), Take(np.array([0, 2], dtype=np.int64)))
    assert program_digest(program) == "5882f7d17ff777b5ebbe7c695bf9cdbb"


def test_a_step_of_a_plugin_is_not_taken_for_a_built_in_one_of_its_name() -> None:
    def of_a_plugin() -> Step:
        @dataclass(frozen=True)
        class Mean:
            axes: tuple[int, ...]
            mask: str | None = None

            def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:
                return activation

            def shape(self, shape: Shape) -> Shape:
                return shape

        return Mean((1,))

    assert program_digest((of_a_plugin(),)) != program_digest((Mean((1,)),))


def test_a_step_that_is_no_dataclass_is_refused() -> None:
    class Nothing:
        def apply(self, activation: Array, masks: Masks = NO_MASKS) -> Array:
            return activation

        def shape(self, shape: Shape) -> Shape:
            return shape

    with pytest.raises(TypeError, match="dataclass"):
        program_digest((Nothing(),))


# --- whole programs

PROGRAMS: list[tuple[Program, tuple[int, ...]]] = [
    ((Flatten(),), (12,)),
    ((Mean((2,)), Flatten()), (3,)),
    ((Std((1, 2)), Flatten()), (1,)),
    ((Select(2, -1),), (3,)),
    ((Slice(2, 1, 3), Max((1,))), (2,)),
    ((Flatten(), Take(np.array([11, 0], dtype=np.int64))), (2,)),
    ((Flatten(), MatMul(np.eye(12, 5, dtype=np.float32))), (5,)),
]


@pytest.mark.parametrize(("program", "shape"), PROGRAMS)
@pytest.mark.parametrize("batch", [0, 1, 7])
def test_the_told_shape_is_the_shape_that_comes_out(program: Program, shape: tuple[int, ...], batch: int) -> None:
    assert program_shape(program, (3, 4)) == shape
    assert run_program(program, np.ones((batch, 3, 4))).shape == (batch, *shape)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("step", [Mean((2,)), Max((2,)), Std((2,)), Select(2, 1)], ids=lambda step: type(step).__name__)
def test_every_real_dtype_gives_contiguous_float32_of_the_same_values(dtype: str, step: Step) -> None:
    activation = np.array([[[0, 1, 1], [1, 1, 0]], [[0, 0, 1], [1, 0, 0]]]).astype(dtype)
    result = run_program((step, Flatten()), activation)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    expected = {
        Mean: [[2 / 3, 2 / 3], [1 / 3, 1 / 3]],
        Max: [[1, 1], [1, 1]],
        Std: [[math.sqrt(2) / 3] * 2] * 2,
        Select: [[1, 1], [0, 0]],
    }[type(step)]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_a_transposed_activation_gives_contiguous_features() -> None:
    activation = np.arange(6, dtype=np.float32).reshape(3, 2).T
    result = run_program((Flatten(),), activation)
    assert result.flags.c_contiguous
    assert result.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_the_mean_of_large_half_precision_values_is_finite() -> None:
    activation = np.full((1, 1000), 65504, dtype=np.float16)
    assert run_program((Mean((1,)), Flatten()), activation).tolist() == [[65504.0]]


def test_the_standard_deviation_divides_by_n() -> None:
    assert run_program((Std((1,)), Flatten()), np.array([[1.0, 3.0]])).tolist() == [[1.0]]


LARGE = np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("program", "activation"),
    [
        ((Flatten(),), np.full((2, 3), 1e300)),
        ((Mean((1,)), Flatten()), np.full((2, 3), 1e300)),
        ((Mean((1,)), Flatten()), np.full((2, 3), LARGE)),
        ((MatMul(np.ones((3, 1), dtype=np.float32)),), np.full((2, 3), LARGE)),
    ],
)
def test_a_value_beyond_float32_becomes_infinite_without_a_warning(program: Program, activation: Array) -> None:
    assert np.isposinf(run_program(program, activation)).all()


def test_nan_and_infinity_stay_without_a_warning() -> None:
    activation = np.array([[np.nan, 1.0], [np.inf, 1.0], [2.0, 4.0]])
    means = run_program((Mean((1,)), Flatten()), activation)
    spreads = run_program((Std((1,)), Flatten()), activation)
    np.testing.assert_array_equal(means, [[np.nan], [np.inf], [3.0]])
    np.testing.assert_array_equal(spreads, [[np.nan], [np.nan], [1.0]])
