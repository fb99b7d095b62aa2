"""How sure scores and their differences are, from the intervals and paired tests that a result holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from probekit.findings.wording import chance_text, points, tested_by
from probekit.results import IntervalRecord, ModelResult, first_test
from probekit.statistics.intervals import wilson_bounds
from probekit.statistics.multiple import SIGNIFICANT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from probekit.results import ContrastRecord, PairedRecord, ProbeResult

    Place = tuple[str, str]


@dataclass(frozen=True)
class Difference:
    """By how much one score is better than another, in units of the metric.

    Args:
        value: positive where it is better.
        low, high: ends of the 95 % interval; None where it is not known.
        paired: whether it was made from the same examples, pair by pair. Otherwise the scores are taken as independent,
            which is too careful for those of the same examples.
        test: by which it was tested, as records name it; None where it was not.
        p: two-sided, of that test.
    """

    value: float
    low: float | None = None
    high: float | None = None
    paired: bool = False
    test: str | None = None
    p: float | None = None

    @property
    def better(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def worse(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high is not None and self.high < 0

    def turned(self) -> Difference:
        """Return the same difference, seen from the other score."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return replace(self, value=-self.value, low=low, high=high)

    def sure(self, metric: str) -> str:
        """Return the interval as text."""
        if self.low is None or self.high is None:
            return "interval unknown"
        low = points(self.low, metric).removesuffix(" points")
        tested = "" if self.p is None or self.test is None else f"; {chance_text(self.p)} by {tested_by(self.test)}"
        return f"95 % interval {low} to {points(self.high, metric)}, {'paired' if self.paired else 'unpaired'}{tested}"

    def evidence(self) -> dict[str, Any]:
        """Return the numbers."""
        tested = {} if self.test is None else {"test": self.test, "p": self.p}
        return {"value": self.value, "low": self.low, "high": self.high, "paired": self.paired, **tested}


def interval_of(scored: ProbeResult | ModelResult, split: str = "test") -> IntervalRecord | None:
    """Return the interval of the primary metric on train, valid or test, the first test split.

    R² has one on test alone; on another split it is taken to be as wide, but for the number of units, whose root it is
    in proportion to; units are taken to have as many rows as on test. An error of a result without any intervals gets
    Wilson's, over its rows.

    Args:
        scored: a probe or the model itself.
        split: ``train``, ``valid`` or ``test``.
    """
    by_split, test = scored.intervals.get(scored.primary, {}), first_test(scored.rows)
    asked = test if split == "test" else split
    value, rows = scored.headline()[split], scored.rows[asked]
    if asked in by_split:
        return by_split[asked]
    if scored.primary == "r2" and test in by_split:
        known = by_split[test]
        half = (known.high - known.low) / 2 * math.sqrt(scored.rows[test] / rows)
        units = round(known.n * rows / scored.rows[test])
        return known.model_copy(update={"low": value - half, "high": value + half, "n": units})
    if scored.primary == "r2" or scored.intervals:
        return None
    low, high = wilson_bounds(value * rows, rows)
    return IntervalRecord(low=low, high=high, kind="wilson", over="examples", n=rows)


def score_of(scored: ProbeResult | ModelResult) -> dict[str, Any]:
    """Return what is reached on test and its interval, as evidence."""
    interval = interval_of(scored)
    return {"test": scored.headline()["test"], "interval": None if interval is None else interval.model_dump()}


def standard_error(scored: ProbeResult | ModelResult, split: str) -> float | None:
    """Return the standard error of the primary metric: half of its interval's width ÷ the normal quantile.

    Wilson's interval makes this about √(p (1 - p) / n), and about 1 / n where there is no error at all.

    Args:
        scored: a probe or the model itself.
        split: ``train``, ``valid`` or ``test``.
    """
    interval = interval_of(scored, split)
    if interval is None:
        return None
    return (interval.high - interval.low) / 2 / NormalDist().inv_cdf((1 + interval.level) / 2)


def unpaired(
    one: ProbeResult | ModelResult,
    other: ProbeResult | ModelResult,
    split: str = "test",
    other_split: str | None = None,
) -> Difference:
    """Return by how much one score is better than another, from the intervals of both.

    For Wilson's intervals this is method 10 of Newcombe 1998 (Statistics in Medicine 17, 873); for others the same
    construction (Zou and Donner 2008, Statistics in Medicine 27, 1693, section 2).

    Args:
        one: a probe or the model itself.
        other: what it is compared with, of the same metric.
        split: of both.
        other_split: of the other, where it is another.
    """
    against = other_split or split
    sign = 1 if one.primary == "r2" else -1
    a, b = one.headline()[split], other.headline()[against]
    value = sign * (a - b)
    first, second = interval_of(one, split), interval_of(other, against)
    if first is None or second is None:
        return Difference(value)
    # A bootstrap's ends may both lie on one side of the score.
    down = math.hypot(_above(a, first.low), _above(second.high, b))
    up = math.hypot(_above(first.high, a), _above(b, second.low))
    if sign < 0:
        down, up = up, down
    return Difference(value, value - down, value + up)


def _above(a: float, b: float) -> float:
    return max(a - b, 0.0)


def improvement(step: PairedRecord | ContrastRecord) -> Difference:
    """Return by how much the second tap of a step, or the probe of a contrast, is better than the other one."""
    sign, interval = 1 if step.metric == "r2" else -1, step.interval
    low, high = (None, None) if interval is None else sorted((sign * interval.low, sign * interval.high))
    return Difference(sign * step.difference, low, high, paired=True)


def ends_of(step: PairedRecord) -> tuple[Place, Place]:
    """Return tap and reduction of both probes of a step, the first one first."""
    return (step.before, step.before_reduction), (step.after, step.reduction)


def significant(step: PairedRecord) -> bool:
    """Return whether a step is significant after Holm's correction."""
    return step.p_adjusted < SIGNIFICANT


def advantage(
    steps: Iterable[PairedRecord],
    contrasts: Iterable[ContrastRecord],
    one: ProbeResult,
    other: ProbeResult | ModelResult,
) -> Difference:
    """Return by how much a probe is better on test than another one or the model: paired where the result has it.

    Args:
        steps: paired differences of the same model, checkpoint, factor and probe.
        contrasts: likewise.
        one: a probe.
        other: what it is compared with.
    """
    own: Place = (one.tap, one.reduction)
    against = None if isinstance(other, ModelResult) else (other.tap, other.reduction)
    for contrast in contrasts:
        ends = [(contrast.tap, contrast.reduction), _other(contrast)]
        if ends in ([own, against], [against, own]):
            found = replace(improvement(contrast), test=contrast.test, p=contrast.p)
            return found if ends[0] == own else found.turned()
    for step in steps:
        before, after = ends_of(step)
        if (before, after) in ((own, against), (against, own)):
            return improvement(step) if after == own else improvement(step).turned()
    return unpaired(one, other)


def _other(contrast: ContrastRecord) -> Place | None:
    """Return tap and reduction of what a probe is compared with; None for the model's own output."""
    if contrast.other_tap is None or contrast.other_reduction is None:
        return None
    return contrast.other_tap, contrast.other_reduction
