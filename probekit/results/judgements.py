"""What the predictions say: pairs of probes compared row by row, twins, spreads, information; and findings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from probekit.results.scores import IntervalRecord, PlaceRecord, Record


class PairedRecord(Record):
    """The test scores of two probes on the same rows: of a tap and of one that feeds it."""

    model: str
    checkpoint: str | None
    reduction: str
    """Of the second tap."""
    factor: str
    probe: str
    control: str | None
    seed: int
    before: str
    """The tap that comes first."""
    before_reduction: str
    """Its reduction: that of the second, or another where one of the two is a vector."""
    after: str
    metric: str
    """The primary metric: ``error``, or ``r2`` of a number."""
    difference: float
    """Of the metric: after - before, so that a negative one of the error is an improvement."""
    interval: IntervalRecord | None
    test: str
    """``mcnemar_exact`` or ``paired_bootstrap``."""
    p: float
    """Two-sided."""
    p_adjusted: float
    """By Holm's method, over the pairs of the same curve, factor and probe; the largest where it is in several curves,
    see :func:`probekit.results.curves_of`."""
    only_before_wrong: int | None
    only_after_wrong: int | None
    n: int
    """Rows."""


class ContrastRecord(PlaceRecord):
    """A probe against another one of the same factor, or against the model's own output, on the same test rows.

    Those that findings compare: what is best on valid with the model's input and its output, side branches with the
    main one, the end with a factor's best tap where something is lost on the way. Each is one question of its own, so
    that p is not adjusted.
    """

    other_tap: str | None
    """None: the model's own output."""
    other_reduction: str | None
    metric: str
    """The primary metric: ``error``, or ``r2`` of a number."""
    difference: float
    """The probe's metric less the other's, so that a negative one of the error is better."""
    interval: IntervalRecord | None
    test: str
    """``mcnemar_exact`` or ``paired_bootstrap``."""
    p: float
    """Two-sided."""
    n: int
    """Rows."""


class TwinRecord(PlaceRecord):
    """The error of a probe on the model's features and on those of another model in its place, on the same rows."""

    control: str
    """Which other model: ``random_weights``."""
    seeds: list[int]
    """Of the draws; the other model's numbers are means over them."""
    metric: str
    """The primary metric: ``error``, or ``r2`` of a number."""
    trained: float
    """Of the model's own features."""
    twin: float
    low: float
    """The smallest value over the draws."""
    high: float
    difference: float
    """trained - twin, so that a negative one of the error is what training gained."""
    interval: IntervalRecord | None
    """Of the difference, for these draws."""
    test: str
    """``mcnemar_exact`` or ``paired_bootstrap``."""
    p: float
    """Two-sided."""
    p_adjusted: float | None
    """By Holm's method, over the taps and reductions of the same model, checkpoint, factor, probe and control; None
    where one of the probes is not proven to be at its optimum, which does not count among them."""
    n: int
    """Rows."""
    missed: bool
    """One of the probes is not proven to be at its optimum."""


class SpreadRecord(PlaceRecord):
    """The test metric of a probe under each draw of a random reduction."""

    metric: str
    """The primary metric: ``error``, or ``r2`` of a number."""
    seeds: list[int]
    """Of the draws; the first one's probe is that of the tables and findings."""
    values: list[float]
    """By seed."""
    low: float
    """The smallest value."""
    median: float
    high: float
    missed: bool
    """One of the probes is not proven to be at its optimum."""


class InformationRecord(PlaceRecord):
    """Whether there is any information about a factor at a tap, as far as a linear probe can use it.

    The gain is the mean, over the test rows, of the loss of always predicting the training labels' shares less that of
    the probe, in nats: its usable information (Xu et al. 2020, section 2). Of a number it is the share of the
    variance that is explained.
    """

    answer: Literal["yes", "no", "cannot_tell"]
    gain: float
    of_chance: float
    """The gain as a share of the loss without features."""
    interval: IntervalRecord | None
    """Of the gain."""
    p: float
    """One-sided: of so large a gain where there is none."""
    p_adjusted: float
    """By Holm's method, over the taps."""


Severity = Literal["info", "notice", "warning", "problem"]


class FindingRecord(Record):
    """One thing that the numbers say, as a sentence with its evidence."""

    kind: str
    """Which finding it is, for machines: ``best_tap``, ``dead_segment``."""
    severity: Severity
    """``info``: a fact; ``notice``: worth a look; ``warning``: something may be wrong; ``problem``: something is."""
    sentence: str
    """In plain English, with its numbers."""
    model: str | None = None
    checkpoint: str | None = None
    factor: str | None = None
    reduction: str | None = None
    probe: str | None = None
    taps: list[str] = Field(default_factory=list)
    """Those that it is about, in depth order."""
    evidence: dict[str, Any] = Field(default_factory=dict)
    """The numbers behind it."""
