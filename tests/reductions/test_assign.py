"""Which reductions each tap gets."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from probekit.components import Reduction, Tap, Target
from probekit.errors import SpecError
from probekit.reductions.assign import FeatureSet, assign_reductions
from probekit.reductions.data_free import (
    FlattenReduction,
    PoolReduction,
    ProjectReduction,
    SelectReduction,
    SubsetReduction,
)
from probekit.reductions.pca import PcaReduction
from probekit.spec.rows import Rows
from probekit.steps import BatchFirst, Flatten, Last, Mean, Positions, Program, Step, run_program
from probekit.taps import ChosenTap

POOL, SUBSET = PoolReduction(), SubsetReduction(features=6)
CONV = Tap("conv", "Conv", (4, 3, 3), "float32", "NCHW", depth=1)
TOKENS = Tap("tokens", "Add", (5, 8), "float32", depth=2)
LOGITS = Tap("logits", "Gemm", (10,), "float32", "NC", depth=3)


class Halved(Reduction):
    """A program that leaves two axes."""

    kind: str = "halved"

    def program(self, tap: Tap) -> Program:
        """Do nothing."""
        steps: tuple[Step, ...] = ()
        return steps


def chosen(tap: Tap, *reductions: str, exact: bool = False, label: str = "") -> ChosenTap:
    return ChosenTap(tap, label or tap.name, reductions or None, exact)


def assigned(
    taps: list[ChosenTap], reductions: Mapping[str, Reduction], limit: int = 1000, rows: Rows | None = None
) -> list[FeatureSet]:
    return assign_reductions(taps, reductions, limit, rows)


def told(taps: list[ChosenTap], reductions: Mapping[str, Reduction]) -> list[tuple[str, str, int, int]]:
    """Return (label, reduction, values of the activation, features) of each feature matrix."""
    return [(one.label, one.reduction, one.raw, one.wanted.width) for one in assigned(taps, reductions)]


def refused(*args: Any, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        assigned(*args, **options)
    return [(problem.code, str(problem)) for problem in caught.value.problems]


def test_every_tap_gets_every_reduction_in_the_specs_order() -> None:
    hidden = Tap("hidden", "MatMul", (5, 8), "float32", "NTC")
    assert told([chosen(CONV), chosen(hidden, label="h")], {"pool": POOL, "some": SUBSET}) == [
        ("conv", "pool", 36, 4),
        ("conv", "some", 36, 6),
        ("h", "pool", 40, 8),
        ("h", "some", 40, 6),
    ]


def test_a_tap_may_name_its_own() -> None:
    taps = [chosen(CONV, "some"), chosen(TOKENS, "flat", "some", exact=True)]
    assert told(taps, {"pool": POOL, "some": SUBSET, "flat": FlattenReduction()}) == [
        ("conv", "some", 36, 6),
        ("tokens", "flat", 40, 40),
        ("tokens", "some", 40, 6),
    ]


@pytest.mark.parametrize("exact", [False, True])
def test_a_vector_that_no_reduction_fits_is_flattened(exact: bool) -> None:
    (one,) = assigned([chosen(LOGITS, exact=exact)], {"default": POOL})
    assert (one.reduction, one.wanted.program, one.raw, one.wanted.width) == ("flatten", (Flatten(),), 10, 10)


def test_a_vector_that_another_reduction_fits_is_not_flattened_too() -> None:
    assert told([chosen(LOGITS)], {"pool": POOL, "some": SUBSET}) == [("logits", "some", 10, 6)]
    assert told([chosen(LOGITS)], {"pool": POOL, "flatten": FlattenReduction()}) == [("logits", "flatten", 10, 10)]


def test_only_the_values_of_a_vector_as_they_are_are_those_of_a_vector() -> None:
    reductions = {
        "pool": POOL, "flat": FlattenReduction(), "some": SUBSET, "all": SubsetReduction(features=10),
        "turned": ProjectReduction(features=10), "learned": PcaReduction(features=10, of=FlattenReduction()),
    }  # fmt: skip
    found = {(one.label, one.reduction): one.vector for one in assigned([chosen(CONV), chosen(LOGITS)], reductions)}
    assert {place for place, vector in found.items() if vector} == {("logits", "flat"), ("logits", "all")}
    assert {name for label, name in found if label == "logits"} == set(reductions) - {"pool"}
    assert [one.vector for one in assigned([chosen(LOGITS)], {"pool": POOL})] == [True]
    per_position = assigned([chosen(CONV)], {"flat": FlattenReduction()}, rows=Rows(per="position"))
    assert [one.vector for one in per_position] == [True]


def test_a_pattern_with_a_reduction_passes_over_a_vector() -> None:
    taps = [chosen(CONV, "pool"), chosen(LOGITS, "pool")]
    assert told(taps, {"pool": POOL}) == [("conv", "pool", 36, 4), ("logits", "flatten", 10, 10)]


def test_a_tap_without_axes_beside_the_batch_is_flattened_to_one_feature() -> None:
    assert told([chosen(Tap("norm", "ReduceSum", (), "float32"))], {"pool": POOL}) == [("norm", "flatten", 1, 1)]


def test_a_learned_reduction_is_kept_for_later_and_told_by_its_programs_width() -> None:
    pca = PcaReduction(features=2, of=POOL)
    (one,) = assigned([chosen(CONV)], {"pca": pca})
    assert (one.learned, one.wanted.width, one.raw) == (pca, 4, 36)
    assert assigned([chosen(CONV)], {"pool": POOL})[0].learned is None


def test_what_is_wanted_holds_the_tap_as_it_was_seen() -> None:
    (one,) = assigned([chosen(CONV, label="c")], {"pool": POOL})
    assert (one.tap, one.wanted.tap, one.label) == (CONV, CONV, "c")


# --- the batch axis


def test_a_batch_axis_that_is_not_the_first_is_moved_before_anything_else() -> None:
    hidden = Tap("h", "LSTM", (5, 8), "float32", "NTC", batch_axis=1)
    (one,) = assigned([chosen(hidden)], {"pool": POOL})
    assert one.wanted.program == (BatchFirst(1), Mean((1,)), Flatten())
    values = np.random.default_rng(0).normal(size=(5, 3, 8)).astype(np.float32)  # (time, batch, channels)
    np.testing.assert_allclose(run_program(one.wanted.program, values), values.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_a_vector_with_its_batch_behind_is_turned_and_flattened() -> None:
    (one,) = assigned([chosen(replace(LOGITS, batch_axis=1))], {"default": POOL})
    assert one.wanted.program == (BatchFirst(1), Flatten())


# --- every position a row

HIDDEN = Tap("hidden", "MatMul", (5, 8), "float32", "NTC", depth=2)
TOKEN_ROWS = Rows(per="position", mask="m")


def positioned(
    taps: list[ChosenTap], reductions: Mapping[str, Reduction], rows: Rows = TOKEN_ROWS
) -> list[tuple[str, str, int, int]]:
    return [(one.label, one.reduction, one.raw, one.wanted.width) for one in assigned(taps, reductions, rows=rows)]


def test_reductions_see_what_is_at_one_position() -> None:
    (one,) = assigned([chosen(HIDDEN)], {"some": SUBSET}, rows=TOKEN_ROWS)
    assert one.wanted.program[0] == Positions((1,), "m")
    assert (one.wanted.tap, one.wanted.width, one.raw) == (HIDDEN, 6, 8)


def test_a_pool_has_nothing_left_to_pool_at_one_position() -> None:
    assert positioned([chosen(HIDDEN)], {"pool": POOL}) == [("hidden", "flatten", 8, 8)]


@pytest.mark.parametrize(
    ("layout", "shape", "axes"),
    [
        ("NTC", (5, 8), (1,)),
        ("NCT", (8, 5), (2,)),
        ("NCHW", (8, 5, 3), (2, 3)),
        ("NHWC", (5, 3, 8), (1, 2)),
        ("NCDHW", (8, 2, 5, 3), (2, 3, 4)),
    ],
)
def test_the_channels_of_every_layout_are_the_features_of_a_position(
    layout: str, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    rows = Rows(per="position")
    (one,) = assigned([chosen(Tap("x", "Op", shape, "float32", layout))], {"pool": POOL}, rows=rows)
    assert one.wanted.program == (Positions(axes), Flatten())
    values = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    result = run_program(one.wanted.program, values)
    np.testing.assert_array_equal(result, np.moveaxis(values, layout.index("C"), -1).reshape(-1, 8))


def test_positions_come_after_the_batch_is_put_first() -> None:
    hidden = replace(HIDDEN, batch_axis=1)
    (one,) = assigned([chosen(hidden)], {"pool": POOL}, rows=TOKEN_ROWS)
    assert one.wanted.program == (BatchFirst(1), Positions((1,), "m"), Flatten())


def test_a_number_of_positions_that_changes_does_not_matter_per_position() -> None:
    free = replace(HIDDEN, shape=(None, 8))
    assert positioned([chosen(free)], {"some": SUBSET}) == [("hidden", "some", 8, 6)]


def test_a_vector_that_a_pattern_chose_has_no_positions_and_is_passed_over() -> None:
    assert positioned([chosen(HIDDEN), chosen(LOGITS)], {"some": SUBSET}) == [("hidden", "some", 8, 6)]


def test_a_masked_pool_is_for_any_number_of_positions() -> None:
    free = replace(HIDDEN, shape=(None, 8))
    for pool in (PoolReduction(mask="m"), PoolReduction()):
        (one,) = assigned([chosen(free)], {"pool": pool})
        assert (one.wanted.program, one.wanted.width, one.raw) == ((Mean((1,), pool.mask), Flatten()), 8, 8)


def test_the_last_token_is_for_any_number_of_positions() -> None:
    last = SelectReduction(position="last", mask="m")
    (one,) = assigned([chosen(replace(HIDDEN, shape=(None, 8)))], {"last": last})
    assert (one.wanted.program, one.wanted.width) == ((Last(1, "m"), Flatten()), 8)


def test_a_named_vector_where_every_position_is_a_row_is_refused() -> None:
    message = (
        "taps: tap 'logits': 'logits' is a vector of 10; "
        "state layout: for it, or leave it out; every position is a row here (rows)"
    )
    taps = [chosen(HIDDEN), chosen(LOGITS, exact=True)]
    assert refused(taps, {"some": SUBSET}, rows=TOKEN_ROWS) == [("PK-M56", message)]


@pytest.mark.parametrize("exact", [False, True])
def test_a_tap_whose_axes_are_not_known_must_state_them_where_every_position_is_a_row(exact: bool) -> None:
    message = (
        "taps: tap 'tokens': the axes of 'tokens', (N, 5, 8), are not known; "
        "state layout: for it, or leave it out; every position is a row here (rows)"
    )
    taps = [chosen(HIDDEN), chosen(TOKENS, exact=exact)]
    assert refused(taps, {"some": SUBSET}, rows=TOKEN_ROWS) == [("PK-M56", message)]


def test_taps_of_which_none_has_positions_are_refused() -> None:
    message = "taps: no chosen tap has positions; state layout: for one, or leave rows: per: position out"
    assert refused([chosen(LOGITS)], {"some": SUBSET}, rows=TOKEN_ROWS) == [("PK-M56", message)]


def test_one_row_an_example_is_what_no_rows_section_means() -> None:
    taps, reductions = [chosen(CONV), chosen(HIDDEN)], {"pool": POOL}
    assert assigned(taps, reductions, rows=Rows()) == assigned(taps, reductions)


# --- what is refused


def test_a_named_reduction_that_does_not_fit_a_named_tap_is_refused() -> None:
    message = (
        "taps: tap 'logits' names a reduction that does not fit: 'pool': 'logits' is a vector of 10; "
        "name another, or none"
    )
    assert refused([chosen(LOGITS, "pool", exact=True)], {"pool": POOL}) == [("PK-Y29", message)]


@pytest.mark.parametrize("reductions", [(), ("pool",)])
def test_a_tap_whose_axes_are_not_known_must_state_them(reductions: tuple[str, ...]) -> None:
    message = (
        "taps: tap 'tokens': 'pool': the axes of 'tokens', (N, 5, 8), are not known; "
        "state layout: for it (NCHW, NHWC, NTC ...), or give it a reduction that fits every shape (subset)"
    )
    assert refused([chosen(TOKENS, *reductions)], {"pool": POOL}) == [("PK-M52", message)]


def test_too_many_features_are_refused() -> None:
    message = (
        "max_features: tap 'conv' has 36 features under 'flat', the limit is 35; "
        "use {kind: pool} or {kind: subset, features: 1000}, or raise max_features"
    )
    flat = {"flat": FlattenReduction()}
    assert refused([chosen(CONV)], flat, limit=35) == [("PK-M53", message)]
    assert len(assigned([chosen(CONV)], flat, limit=36)) == 1


def test_a_learned_reduction_may_start_from_more_features() -> None:
    assert assigned([chosen(CONV)], {"pca": PcaReduction()}, limit=35)[0].wanted.width == 36


def test_a_program_that_leaves_several_axes_is_refused() -> None:
    message = (
        "taps: tap 'tokens' names a reduction that does not fit: 'halved': its program leaves 2 axes, "
        "features need one; name another, or none"
    )
    assert refused([chosen(TOKENS, "halved", exact=True)], {"halved": Halved()}) == [("PK-Y29", message)]


def test_all_taps_are_told_of_at_once() -> None:
    taps = [chosen(LOGITS, "pool", exact=True), chosen(TOKENS), chosen(CONV)]
    reductions = {"pool": POOL, "large": ProjectReduction(features=100)}
    problems = refused(taps, reductions, limit=99)
    assert [code for code, _ in problems] == ["PK-Y29", "PK-M52", "PK-M53", "PK-M53"]


# --- several draws ----------------------------------------------------------------------------------------------------


def draws(reduction: Reduction, tap: Tap = CONV) -> list[FeatureSet]:
    return assigned([chosen(tap)], {"drawn": reduction})


@pytest.mark.parametrize("make", [SubsetReduction, ProjectReduction], ids=["subset", "project"])
def test_each_seed_gives_the_features_of_a_reduction_with_that_seed(make: Any) -> None:
    sets = draws(make(features=6, seed=3, seeds=4))
    assert [(one.control, one.seed, one.title) for one in sets] == [
        (None, 0, "conv (drawn)"), *(("reduction_seed", seed, f"conv (drawn, seed {seed})") for seed in (4, 5, 6)),
    ]  # fmt: skip
    x = np.random.default_rng(0).standard_normal((5, 4, 3, 3)).astype(np.float32)
    found = [run_program(one.wanted.program, x) for one in sets]
    for seed, features in enumerate(found, start=3):
        alone = run_program(make(features=6, seed=seed).program(CONV), x)
        np.testing.assert_array_equal(features, alone)
    if make is SubsetReduction:
        indices = [np.sort(np.random.default_rng(seed).choice(36, 6, replace=False)) for seed in range(3, 7)]
        for features, some in zip(found, indices, strict=True):
            np.testing.assert_array_equal(features, x.reshape(5, -1)[:, some])


def test_a_tap_that_keeps_all_features_is_not_drawn_again() -> None:
    assert len(draws(SubsetReduction(features=36, seeds=5))) == 1
    assert len(draws(ProjectReduction(features=36, seeds=5))) == 5
    assert len(draws(PoolReduction())) == 1


def test_what_is_learned_on_a_draw_is_learned_on_each() -> None:
    sets = draws(PcaReduction(features=2, of=SubsetReduction(features=6, seeds=2)))
    assert [(one.control, one.seed) for one in sets] == [(None, 0), ("reduction_seed", 1)]
    first, second = (one.learned for one in sets)
    assert isinstance(first, PcaReduction)
    assert isinstance(second, PcaReduction)
    assert [one.of.identity()["seed"] for one in (first, second) if one.of] == [0, 1]


def test_how_often_it_is_drawn_shapes_no_values() -> None:
    assert SubsetReduction(seeds=5).identity() == SubsetReduction().identity() != SubsetReduction(seed=1).identity()


def test_controls_of_other_features_ask_for_true_labels_only() -> None:
    target = Target("f", ("a", "b"), np.zeros(3, np.int64), np.arange(2), np.arange(2, 3))
    other = replace(target, control="shuffled_labels")
    first, second = draws(SubsetReduction(features=6, seeds=2))
    assert [first.asks(target), first.asks(other), second.asks(target), second.asks(other)] == [True, True, True, False]
    assert not replace(second, factors=("g",)).asks(target)
