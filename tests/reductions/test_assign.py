"""Which reductions each tap gets."""

from collections.abc import Mapping
from typing import Any

import pytest

from probekit.components import Reduction, Tap
from probekit.errors import SpecError
from probekit.reductions.assign import FeatureSet, assign_reductions
from probekit.reductions.data_free import FlattenReduction, PoolReduction, ProjectReduction, SubsetReduction
from probekit.reductions.pca import PcaReduction
from probekit.steps import Flatten, Program, Step
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


def assigned(taps: list[ChosenTap], reductions: Mapping[str, Reduction], limit: int = 1000) -> list[FeatureSet]:
    return assign_reductions(taps, reductions, limit)


def told(taps: list[ChosenTap], reductions: Mapping[str, Reduction]) -> list[tuple[str, str, int, int]]:
    """Return (label, reduction, values of the activation, features) of each feature matrix."""
    return [(one.label, one.reduction, one.raw, one.width) for one in assigned(taps, reductions)]


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
    assert (one.reduction, one.program, one.raw, one.width) == ("flatten", (Flatten(),), 10, 10)


def test_a_vector_that_another_reduction_fits_is_not_flattened_too() -> None:
    assert told([chosen(LOGITS)], {"pool": POOL, "some": SUBSET}) == [("logits", "some", 10, 6)]
    assert told([chosen(LOGITS)], {"pool": POOL, "flatten": FlattenReduction()}) == [("logits", "flatten", 10, 10)]


def test_a_pattern_with_a_reduction_passes_over_a_vector() -> None:
    taps = [chosen(CONV, "pool"), chosen(LOGITS, "pool")]
    assert told(taps, {"pool": POOL}) == [("conv", "pool", 36, 4), ("logits", "flatten", 10, 10)]


def test_a_tap_without_axes_beside_the_batch_is_flattened_to_one_feature() -> None:
    assert told([chosen(Tap("norm", "ReduceSum", (), "float32"))], {"pool": POOL}) == [("norm", "flatten", 1, 1)]


def test_a_learned_reduction_is_kept_for_later_and_told_by_its_programs_width() -> None:
    pca = PcaReduction(features=2, of=POOL)
    (one,) = assigned([chosen(CONV)], {"pca": pca})
    assert (one.learned, one.width, one.raw) == (pca, 4, 36)
    assert assigned([chosen(CONV)], {"pool": POOL})[0].learned is None


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
        "taps: tap 'tokens': 'pool': the axes of 'tokens', ('N', 5, 8), are not known; "
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
    assert assigned([chosen(CONV)], {"pca": PcaReduction()}, limit=35)[0].width == 36


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
