"""The primitive steps against plain Python loops. A warning of NumPy fails a test."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.steps import (
    Flatten,
    MatMul,
    Max,
    Mean,
    Program,
    Select,
    Slice,
    Std,
    Step,
    Take,
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
