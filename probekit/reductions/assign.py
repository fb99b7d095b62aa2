"""Which reductions each tap gets, and how many features come of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.components import DoesNotApplyError, LearnedReduction
from probekit.errors import Problem, SpecError
from probekit.reductions.data_free import FlattenReduction
from probekit.steps import program_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components import Reduction, Tap
    from probekit.steps import Program
    from probekit.taps import ChosenTap

FLATTEN = "flatten"
"""Name of the reduction that a tap falls to when the spec's do not apply to it."""


@dataclass(frozen=True)
class FeatureSet:
    """One tap under one reduction: one feature matrix.

    Args:
        tap: with the shape that a trial run saw.
        label: what results call the tap.
        reduction: the reduction's name in the spec, ``flatten`` where the spec's did not apply.
        program: the steps from activation to features.
        raw: values of the activation per example.
        width: features that the program gives.
        learned: what is fitted on these features afterwards, if anything.
    """

    tap: Tap
    label: str
    reduction: str
    program: Program
    raw: int
    width: int
    learned: LearnedReduction | None = None


def assign_reductions(
    taps: Sequence[ChosenTap], reductions: Mapping[str, Reduction], max_features: int
) -> list[FeatureSet]:
    """Return the feature matrices that the spec asks for, in the taps' order.

    A reduction that does not fit a tap is passed over where a pattern chose the tap, and refused where both are named.
    A vector tap that no reduction is left for is flattened.

    Args:
        taps: with shapes that hold no None.
        reductions: of the spec, by name.
        max_features: more features than these are refused.

    Raises:
        SpecError: all at once: ``PK-Y29`` a named reduction does not fit, ``PK-M52`` a tap's axes must be stated,
            ``PK-M53`` too many features.
    """
    sets: list[FeatureSet] = []
    problems: list[Problem] = []
    for chosen in taps:
        named = chosen.reductions is not None and chosen.exact
        found: list[FeatureSet] = []
        refusals: list[str] = []
        for name in chosen.reductions or reductions:
            try:
                found.append(_feature_set(chosen, name, reductions[name]))
            except DoesNotApplyError as refusal:
                refusals.append(f"{name!r}: {refusal}")
        if refusals and named:
            what = f"tap {chosen.label!r} names a reduction that does not fit: {'; '.join(refusals)}"
            problems.append(Problem("PK-Y29", what, "name another, or none", "taps"))
        elif refusals and len(chosen.tap.shape or ()) <= 1:
            if not found:
                found.append(_feature_set(chosen, FLATTEN, FlattenReduction()))
        elif refusals:
            hint = "state layout: for it (NCHW, NHWC, NTC ...), or give it a reduction that fits every shape (subset)"
            problems.append(Problem("PK-M52", f"tap {chosen.label!r}: {'; '.join(refusals)}", hint, "taps"))
        for one in found:
            if one.width > max_features and one.learned is None:
                what = (
                    f"tap {one.label!r} has {one.width} features under {one.reduction!r}, the limit is {max_features}"
                )
                hint = "use {kind: pool} or {kind: subset, features: 1000}, or raise max_features"
                problems.append(Problem("PK-M53", what, hint, "max_features"))
        sets += found
    if problems:
        raise SpecError(*problems)
    return sets


def _feature_set(chosen: ChosenTap, name: str, reduction: Reduction) -> FeatureSet:
    tap = chosen.tap
    program = reduction.program(tap)
    shape = tuple(size or 0 for size in tap.shape or ())
    result = program_shape(program, shape)
    if len(result) != 1:
        raise DoesNotApplyError(f"its program leaves {len(result)} axes, features need one")
    learned = reduction if isinstance(reduction, LearnedReduction) else None
    return FeatureSet(tap, chosen.label, name, program, math.prod(shape), result[0], learned)
