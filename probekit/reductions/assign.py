"""Which reductions each tap gets, and how many features come of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probekit.components import REDUCTION_SEED, DoesNotApplyError, LearnedReduction, Wanted
from probekit.errors import Problem, SpecError
from probekit.reductions.data_free import FlattenReduction, position_axes
from probekit.spec.rows import Rows
from probekit.steps import BatchFirst, Flatten, Positions, program_digest, program_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components import Reduction, Tap, Target
    from probekit.steps import Program
    from probekit.taps import ChosenTap

FLATTEN = "flatten"
"""Name of the reduction that a tap falls to when the spec's do not apply to it."""


@dataclass(frozen=True)
class FeatureSet:
    """One tap under one reduction: one feature matrix.

    Args:
        wanted: the tap with the shape that a trial run saw, the program, the number of features that it gives.
        label: what results call the tap.
        reduction: the reduction's name in the spec, ``flatten`` where the spec's did not apply.
        raw: values of the activation per feature row; an axis whose size changes counts as one.
        learned: what is fitted on these features afterwards, if anything.
        control: the control that the probes on these features belong to; None for the features of the model as it is,
            under the reduction's own seed.
        seed: of the control's draw.
        factors: the label factors that the control is made for; None: all of them.
        vector: whether the features are the values of a vector, as they are.
    """

    wanted: Wanted
    label: str
    reduction: str
    raw: int
    learned: LearnedReduction | None = None
    control: str | None = None
    seed: int = 0
    factors: tuple[str, ...] | None = None
    vector: bool = False

    @property
    def title(self) -> str:
        """What messages call it: ``TAP (REDUCTION)``, with the seed where it is not the reduction's first."""
        return f"{self.label} ({self.reduction}{f', seed {self.seed}' if self.control == REDUCTION_SEED else ''})"

    def asks(self, target: Target) -> bool:
        """Return whether probes of a target are fitted to these features: of a control only those of true labels."""
        if self.control is None:
            return True
        return target.control is None and (self.factors is None or target.factor in self.factors)

    @property
    def tap(self) -> Tap:
        """The tapped tensor."""
        return self.wanted.tap


def assign_reductions(
    taps: Sequence[ChosenTap], reductions: Mapping[str, Reduction], max_features: int, rows: Rows | None = None
) -> list[FeatureSet]:
    """Return the feature matrices that the spec asks for, in the taps' order.

    A reduction that does not fit a tap is passed over where a pattern chose the tap, and refused where both are named.
    A vector tap that no reduction is left for is flattened.

    Args:
        taps: as a trial run saw them.
        reductions: of the spec, by name.
        max_features: more features than these are refused.
        rows: the spec's section; with one row per position, reductions see what is at one position.

    Raises:
        SpecError: all at once: ``PK-Y29`` a named reduction does not fit, ``PK-M52`` a tap's axes must be stated,
            ``PK-M53`` too many features, ``PK-M56`` a tap without positions where every position is a row.
    """
    sets: list[FeatureSet] = []
    problems: list[Problem] = []
    for chosen in taps:
        try:
            leading, seen = _leading(chosen.tap, rows or Rows())
        except DoesNotApplyError as refusal:
            if chosen.exact or len(chosen.tap.shape or ()) > 1:
                hint = "state layout: for it, or leave it out; every position is a row here (rows)"
                problems.append(Problem("PK-M56", f"tap {chosen.label!r}: {refusal}", hint, "taps"))
            continue
        named = chosen.reductions is not None and chosen.exact
        found: list[FeatureSet] = []
        refusals: list[str] = []
        for name in chosen.reductions or reductions:
            try:
                found += _feature_sets(chosen, name, reductions[name], leading, seen)
            except DoesNotApplyError as refusal:
                refusals.append(f"{name!r}: {refusal}")
        if refusals and named:
            what = f"tap {chosen.label!r} names a reduction that does not fit: {'; '.join(refusals)}"
            problems.append(Problem("PK-Y29", what, "name another, or none", "taps"))
        elif refusals and len(seen.shape or ()) <= 1:
            if not found:
                found.append(_feature_set(chosen, FLATTEN, FlattenReduction(), leading, seen))
        elif refusals:
            hint = "state layout: for it (NCHW, NHWC, NTC ...), or give it a reduction that fits every shape (subset)"
            problems.append(Problem("PK-M52", f"tap {chosen.label!r}: {'; '.join(refusals)}", hint, "taps"))
        for one in found:
            if one.wanted.width > max_features and one.learned is None:
                what = (
                    f"tap {one.label!r} has {one.wanted.width} features under {one.reduction!r}, the limit is "
                    f"{max_features}"
                )
                hint = "use {kind: pool} or {kind: subset, features: 1000}, or raise max_features"
                problems.append(Problem("PK-M53", what, hint, "max_features"))
        sets += found
    if not sets and not problems:
        what = "no chosen tap has positions"
        problems = [Problem("PK-M56", what, "state layout: for one, or leave rows: per: position out", "taps")]
    if problems:
        raise SpecError(*problems)
    return sets


def _leading(tap: Tap, rows: Rows) -> tuple[Program, Tap]:
    """Return the steps that come before any reduction, and the tap as reductions see it after them."""
    steps: Program = (BatchFirst(tap.batch_axis),) if tap.batch_axis else ()
    if rows.per == "example":
        return steps, tap
    axes = position_axes(tap)
    assert tap.shape is not None  # noqa: S101 - it has position axes
    shape = tuple(size for axis, size in enumerate(tap.shape, start=1) if axis not in axes)
    layout = "".join(letter for axis, letter in enumerate(tap.layout) if axis not in axes)
    return (*steps, Positions(axes, rows.mask)), replace(tap, shape=shape, layout=layout)


def _feature_sets(chosen: ChosenTap, name: str, reduction: Reduction, leading: Program, seen: Tap) -> list[FeatureSet]:
    """Return the features under a reduction, then under its other seeds, as far as these give others."""
    found = [_feature_set(chosen, name, reduction, leading, seen)]
    known = {program_digest(found[0].wanted.program)}
    for seed, one in list(reduction.draws().items())[1:]:
        made = _feature_set(chosen, name, one, leading, seen)
        digest = program_digest(made.wanted.program)
        if digest not in known:
            known.add(digest)
            found.append(replace(made, control=REDUCTION_SEED, seed=seed))
    return found


def _feature_set(chosen: ChosenTap, name: str, reduction: Reduction, leading: Program, seen: Tap) -> FeatureSet:
    program = reduction.program(seen)
    result = program_shape(program, seen.shape or ())
    if len(result) != 1:
        raise DoesNotApplyError(f"its program leaves {len(result)} axes, features need one")
    width = result[0]
    if width is None:
        raise DoesNotApplyError(f"the size of {seen.name!r} changes from batch to batch")
    learned = reduction if isinstance(reduction, LearnedReduction) else None
    raw = math.prod(size for size in seen.shape or () if size is not None)
    vector = learned is None and len(seen.shape or ()) <= 1 and program == (Flatten(),)
    wanted = Wanted(chosen.tap, (*leading, *program), width)
    return FeatureSet(wanted, chosen.label, name, raw, learned, vector=vector)
