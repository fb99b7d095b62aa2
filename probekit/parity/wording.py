"""The sentences of a check of parity, and its numbers as every view shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probekit.parity.records import PairParity, ParityResult, TapParity


def share(value: float | None) -> str:
    """Return a share of a tap's scale.

    >>> share(0.0), share(2.34e-6), share(0.25), share(None)
    ('0', '2.3e-06', '0.25', 'unbounded')
    """
    return "unbounded" if value is None else f"{value:.2g}"


def cosine(value: float | None) -> str:
    """Return a cosine; what is not 1 does not look like it.

    >>> cosine(1.0), cosine(0.9999999999), cosine(0.98765), cosine(None)
    ('1', '1 - 1e-10', '0.98765', 'none')
    """
    if value is None:
        return "none"
    if value == 1:
        return "1"
    return f"1 - {1 - value:.0e}" if value > 0.99999 else f"{value:.5f}"


def tap_name(one: TapParity) -> str:
    """Return a tap's name, both where they differ."""
    return one.tap if one.tap == one.other else f"{one.tap} = {one.other}"


def verdict_of(one: TapParity) -> str:
    """Return a tap's verdict."""
    return "same" if one.same else f"apart: {one.reason}" if one.reason else "apart"


def sentences(pair: PairParity, tolerance: float) -> list[str]:
    """Return the verdict on two models, and where the trouble begins."""
    total, apart = len(pair.taps), sum(not one.same for one in pair.taps)
    both, limit = f"{pair.other} and {pair.reference}", f"{tolerance:g} of each tap's scale"
    first = pair.first_apart
    if first is None:
        most = max(pair.taps, key=lambda one: one.largest or 0.0)
        where = f"at most {share(most.largest)} ({most.tap}, {most.reduction})"
        return [f"{both} are the same to {limit}: {_counted(total)}, {where}"]
    told = [f"{both} are apart at {apart} of {_counted(total)}, by more than {limit}"]
    begins = f"the first tap that is apart is {first.tap!r} ({first.reduction})"
    if first.reason:
        return [*told, f"{begins}: {first.reason}"]
    begins += f": largest {share(first.largest)}, at feature {first.feature} of example {first.example!r}"
    if not first.after:
        return [*told, begins]
    fed = " and ".join(map(repr, first.after))
    return [*told, f"{begins}; what feeds it, {fed}, {'is' if len(first.after) == 1 else 'are'} the same"]


def how_measured(result: ParityResult) -> str:
    """Return what was run and what the numbers mean."""
    drawn = f"{result.rows:,} of {result.of:,} examples, drawn with seed {result.seed}"
    return f"{drawn}; differences are shares of a tap's scale, the root mean square of the reference's features"


def _counted(total: int) -> str:
    return f"{total} feature {'matrix' if total == 1 else 'matrices'}"
