"""Reductions that need no fitting."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from probekit.components import DoesNotApplyError, Reduction, Tap
from probekit.reductions.data_free import (
    FlattenReduction,
    PoolReduction,
    ProjectReduction,
    SelectReduction,
    SubsetReduction,
)
from probekit.steps import program_masks, program_shape, run_program

Array = npt.NDArray[np.float32]
LAYOUTS = ["NCHW", "NHWC", "NCDHW", "NCT", "NTC"]
SIZES = {"C": 3, "D": 2, "H": 4, "W": 5, "T": 6}
EVERY = [
    FlattenReduction(),
    PoolReduction(),
    ProjectReduction(features=2),
    SelectReduction(),
    SubsetReduction(features=2),
]


def tap(layout: str = "", shape: tuple[int | None, ...] | None = None) -> Tap:
    if shape is None and layout:
        shape = tuple(SIZES[letter] for letter in layout[1:])
    return Tap("x", "Op", shape, "float32", layout)


def activation(one: Tap, batch: int = 3) -> Array:
    return np.random.default_rng(0).normal(size=(batch, *(one.shape or ()))).astype(np.float32)


def features(reduction: Reduction, one: Tap, values: Array) -> Array:
    return run_program(reduction.program(one), values)


def channels_first(layout: str, values: Array) -> Array:
    """Return (batch, channels, positions), positions in row-major order of their letters in the layout."""
    moved = np.moveaxis(values, layout.index("C"), 1)
    return moved.reshape(*moved.shape[:2], -1)


def reason(reduction: Reduction, one: Tap) -> str:
    with pytest.raises(DoesNotApplyError) as caught:
        reduction.program(one)
    return str(caught.value)


# --- flatten


@settings(deadline=None, max_examples=40)
@given(shape=st.lists(st.integers(1, 4), max_size=4).map(tuple))
def test_flatten_keeps_every_value_in_row_major_order(shape: tuple[int, ...]) -> None:
    one = tap(shape=shape)
    values = activation(one)
    assert features(FlattenReduction(), one, values).tolist() == [list(row.flat) for row in values]


# --- pool


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("how", "summary"), [("mean", np.mean), ("max", np.max), ("std", np.std)])
def test_pool_gives_one_number_a_channel_whatever_the_layout(
    layout: str, how: str, summary: Callable[..., Array]
) -> None:
    one = tap(layout)
    values = activation(one)
    expected = [
        [summary(channel.astype(np.float64)) for channel in example] for example in channels_first(layout, values)
    ]
    result = features(PoolReduction.model_validate({"how": how}), one, values)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


# --- select


@pytest.mark.parametrize("layout", ["NTC", "NCT"])
@pytest.mark.parametrize("position", [0, 2, 5, -1, -6])
def test_select_takes_the_channels_of_one_time(layout: str, position: int) -> None:
    one = tap(layout)
    values = activation(one)
    expected = channels_first(layout, values)[:, :, position]
    assert features(SelectReduction(position=position), one, values).tolist() == expected.tolist()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 4), (-1, 2), (1, -5)])
def test_select_takes_the_channels_of_one_pixel(layout: str, row: int, column: int) -> None:
    one = tap(layout)
    values = activation(one)
    expected = [[float(channel.reshape(4, 5)[row, column]) for channel in n] for n in channels_first(layout, values)]
    assert features(SelectReduction(position=[row, column]), one, values).tolist() == expected


def test_select_takes_the_first_position_unless_the_spec_says_another() -> None:
    values = activation(tap("NTC"))
    assert features(SelectReduction(), tap("NTC"), values).tolist() == values[:, 0].tolist()


def test_select_takes_the_channels_of_one_voxel() -> None:
    one = tap("NCDHW")
    values = activation(one)
    assert features(SelectReduction(position=[1, 2, -1]), one, values).tolist() == values[:, :, 1, 2, 4].tolist()


@pytest.mark.parametrize(
    ("layout", "position", "expected"),
    [
        ("NTC", 6, "'x' has 6 positions, there is no position 6"),
        ("NTC", -7, "'x' has 6 positions, there is no position -7"),
        ("NCHW", [0, 5], "'x' has 5 positions, there is no position 5"),
        ("NCHW", 0, "'x' has 2 axes of positions, position [0] names 1"),
        ("NTC", [0, 0], "'x' has 1 axes of positions, position [0, 0] names 2"),
    ],
)
def test_a_position_that_is_not_there_does_not_apply(layout: str, position: int | list[int], expected: str) -> None:
    assert reason(SelectReduction(position=position), tap(layout)) == expected


# --- subset


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 300), count=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_a_subset_is_some_of_the_columns_each_once(size: int, count: int, seed: int) -> None:
    one = tap(shape=(size,))
    indices = np.arange(size, dtype=np.float32)[None]
    kept = features(SubsetReduction(features=count, seed=seed), one, indices)[0].tolist()
    assert len(kept) == min(size, count)
    assert kept == sorted(set(kept))
    assert set(kept) <= set(range(size))
    again = features(SubsetReduction(features=count, seed=seed), tap(shape=(1, size)), indices[:, None])[0].tolist()
    assert kept == again


def test_a_subset_is_the_same_for_every_tap_of_one_size_and_another_for_another_seed() -> None:
    flat = np.arange(60, dtype=np.float32)[None]
    kept = features(SubsetReduction(features=10), tap(shape=(60,)), flat).tolist()
    assert features(SubsetReduction(features=10), tap("NCHW"), flat.reshape(1, 3, 4, 5)).tolist() == kept
    assert features(SubsetReduction(features=10, seed=1), tap(shape=(60,)), flat).tolist() != kept


def test_the_subset_of_a_seed_stays_what_it_is() -> None:
    """The indices enter results; another draw would change every published number."""
    flat = np.arange(1000, dtype=np.float32)[None]
    kept = features(SubsetReduction(features=5, seed=3), tap(shape=(1000,)), flat)[0].tolist()
    assert kept == [85, 179, 181, 236, 808]


# --- project


@pytest.mark.parametrize("kind", [SubsetReduction, ProjectReduction])
def test_the_seed_is_0_unless_the_spec_says_another(kind: type[SubsetReduction | ProjectReduction]) -> None:
    one = tap("NCHW")
    drawn = {seed: features(kind(features=5, seed=seed), one, activation(one)).tolist() for seed in (0, 1)}
    assert features(kind(features=5), one, activation(one)).tolist() == drawn[0] != drawn[1]


def test_a_projection_is_the_same_for_the_same_seed_and_size() -> None:
    values = activation(tap("NCHW"))
    one = features(ProjectReduction(features=7, seed=2), tap("NCHW"), values)
    flat = features(ProjectReduction(features=7, seed=2), tap(shape=(60,)), values.reshape(3, 60))
    other = features(ProjectReduction(features=7, seed=3), tap("NCHW"), values)
    assert one.shape == (3, 7)
    assert one.tolist() == flat.tolist() != other.tolist()


def test_a_projection_is_linear_with_entries_of_variance_one_over_features() -> None:
    matrix = features(ProjectReduction(features=50), tap(shape=(400,)), np.eye(400, dtype=np.float32))
    # 20,000 draws of variance 1/50: the mean is within 4 of its standard errors, so is the variance.
    assert abs(matrix.mean()) < 4 / np.sqrt(50 * 20_000)
    assert abs(matrix.var() * 50 - 1) < 4 * np.sqrt(2 / 20_000)
    values = activation(tap(shape=(400,)))
    result = features(ProjectReduction(features=50), tap(shape=(400,)), values)
    np.testing.assert_allclose(result, values.astype(np.float64) @ matrix.astype(np.float64), rtol=1e-3, atol=1e-4)


def test_a_projection_keeps_squared_distances_on_average() -> None:
    values = activation(tap(shape=(300,)), batch=2)
    true = ((values[0] - values[1]) ** 2).sum()
    kept = [
        (np.diff(features(ProjectReduction(features=20, seed=seed), tap(shape=(300,)), values), axis=0) ** 2).sum()
        for seed in range(200)
    ]
    # Each ratio is a chi-squared of 20 degrees over 20, of variance 1/10.
    assert abs(np.mean(kept) / true - 1) < 4 * np.sqrt(0.1 / 200)


def test_a_projection_too_large_for_memory_does_not_apply() -> None:
    fact = "'x' has 4194304 values; the matrix to 256 would take 4.0 GiB"
    assert reason(ProjectReduction(), tap(shape=(64, 256, 256))) == fact


# --- what does not apply


@pytest.mark.parametrize("reduction", [PoolReduction(), SelectReduction()], ids=lambda one: one.kind)
@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (tap("NC", (10,)), "'x' is a vector of 10"),
        (tap("", ()), "'x' is a vector of 1"),
        (tap("", (3, 4)), "the axes of 'x', (N, 3, 4), are not known"),
        (tap("NC", (3, 4)), "the axes of 'x', (N, 3, 4), are not known"),
        (tap("", (None, 4)), "the axes of 'x', (N, ?, 4), are not known"),
        (tap("NC", (None,)), "the shape of 'x' is not known"),
        (tap("", None), "the shape of 'x' is not known"),
    ],
)
def test_without_positions_a_reduction_over_them_does_not_apply(reduction: Reduction, one: Tap, expected: str) -> None:
    assert reason(reduction, one) == expected


@pytest.mark.parametrize("reduction", EVERY, ids=lambda one: one.kind)
def test_a_shape_that_is_not_known_does_not_apply(reduction: Reduction) -> None:
    assert reason(reduction, tap("", None)) == "the shape of 'x' is not known"


@pytest.mark.parametrize(
    "reduction", [one for one in EVERY if not isinstance(one, PoolReduction)], ids=lambda one: one.kind
)
def test_a_size_that_changes_does_not_apply_where_it_makes_features_or_numbers_of_positions(
    reduction: Reduction,
) -> None:
    assert reason(reduction, tap("NCHW", (3, None, 4))) == "the shape of 'x' is not known"


def test_a_pool_takes_positions_of_any_number() -> None:
    one = tap("NCHW", (3, None, 4))
    program = PoolReduction().program(one)
    assert program_shape(program, one.shape or ()) == (3,)
    for height in (1, 6):
        values = np.random.default_rng(0).normal(size=(2, 3, height, 4)).astype(np.float32)
        np.testing.assert_allclose(run_program(program, values), values.mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)


# --- masks


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("how", "summary"), [("mean", np.mean), ("max", np.max), ("std", np.std)])
def test_a_masked_pool_counts_only_the_positions_that_the_mask_keeps(
    layout: str, how: str, summary: Callable[..., Array]
) -> None:
    one = tap(layout)
    values = activation(one)
    mask = np.random.default_rng(1).integers(0, 2, [3, *(SIZES[letter] for letter in layout[1:] if letter != "C")])
    mask.reshape(3, -1)[:, 0] = 1
    expected = [
        [summary(channel[kept != 0].astype(np.float64)) for channel in example]
        for example, kept in zip(channels_first(layout, values), mask.reshape(3, -1), strict=True)
    ]
    program = PoolReduction.model_validate({"how": how, "mask": "m"}).program(one)
    assert program_masks(program) == ("m",)
    np.testing.assert_allclose(run_program(program, values, {"m": mask}), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", ["NTC", "NCT"])
def test_select_last_takes_the_last_position_that_the_mask_keeps(layout: str) -> None:
    one = tap(layout)
    values = activation(one)
    mask = np.array([[1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 1], [0, 1, 0, 1, 0, 0]])
    program = SelectReduction(position="last", mask="m").program(one)
    moved = channels_first(layout, values)
    expected = [moved[n, :, position].tolist() for n, position in enumerate([2, 5, 3])]
    assert run_program(program, values, {"m": mask}).tolist() == expected


def test_the_last_of_two_axes_of_positions_does_not_apply() -> None:
    last = SelectReduction(position="last", mask="m")
    assert reason(last, tap("NCHW")) == "'x' has 2 axes of positions, 'last' needs one"


@pytest.mark.parametrize("options", [{"position": "last"}, {"mask": "m"}, {"position": -1, "mask": "m"}])
def test_last_and_a_mask_go_together(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        SelectReduction.model_validate(options)
    assert [(error["type"], error["msg"], error["ctx"]["hint"]) for error in caught.value.errors()] == [
        ("PK-Y29", "position 'last' and 'mask' go together", "give both, or position: -1 without a mask")
    ]


@pytest.mark.parametrize("reduction", EVERY, ids=lambda one: one.kind)
@pytest.mark.parametrize("layout", ["NTC", "NCT"])
def test_every_program_gives_the_one_axis_that_it_tells(reduction: Reduction, layout: str) -> None:
    one = tap(layout)
    result = features(reduction, one, activation(one))
    assert result.shape == (3, *program_shape(reduction.program(one), one.shape or ()))
    assert result.ndim == 2


@pytest.mark.parametrize("options", [{"features": 0}, {"features": -1}, {"features": 1.5}, {"seed": -1}])
@pytest.mark.parametrize("kind", [SubsetReduction, ProjectReduction])
def test_numbers_out_of_range_are_refused(kind: type[Reduction], options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        kind.model_validate(options)
