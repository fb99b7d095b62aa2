"""What a comparison found, as typed records: everything that its views may say.

``first`` and ``second`` are the two sides. Every difference is second - first.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from probekit.components import Task
from probekit.errors import json_text
from probekit.results import IntervalRecord, ProbeIdentity, Record
from probekit.statistics.multiple import SIGNIFICANT

SCHEMA_VERSION: Literal[1] = 1

Which = Literal["first", "second"]
Part = Literal["model", "data", "spec", "versions"]
How = Literal["map", "name", "tensor", "renamed", "position"]
"""How two taps were aligned: by ``--map``; by their names in the results; by the tensors' own names; by what is left of
those without what a quantizer appends; by the last part of the names and the order of depth."""


class SideRecord(Record):
    """One of the two models."""

    called: str
    """What the views call it: what tells it from the other one."""
    directory: str
    """The run directory, as it was given."""
    name: str
    """The run's name."""
    model: str
    checkpoint: str | None
    fingerprint: str | None
    """Digest of weights and graph."""
    split: str
    """The test split that is compared."""
    started: str | None


class ScoreDifference(Record):
    """A score of both sides on the same rows, and how far they are apart."""

    metric: Literal["error", "r2", "cross_entropy"]
    """``error`` is a share, of yes/no labels of all answers; ``cross_entropy`` is in nats, of yes/no labels the sum
    over them."""
    first: float
    """On the rows that both have, so that it may differ from what the run reports."""
    second: float
    difference: float
    """second - first."""
    interval: IntervalRecord | None
    """Of the difference."""
    test: Literal["mcnemar_exact", "paired_bootstrap"]
    p: float
    """Two-sided."""
    p_adjusted: float | None
    """By Holm's method, over the taps and reductions of the same factor and probe; None where a probe is not proven to
    be at its optimum, which does not count among them."""
    only_first_wrong: int | None = None
    only_second_wrong: int | None = None
    n: int
    """Rows."""
    resolution: float = 0.0
    """A difference up to this is not judged: of ``cross_entropy`` the share of the training labels' entropy that fits
    are proven to, :data:`probekit.judging.RESOLUTION`."""

    def worsening(self) -> float:
        """Return by how much the second is worse: in percentage points of the error, or of the variance explained.

        Of ``cross_entropy`` it is in nats.
        """
        return _worse(self.difference, self.metric)

    def least_worsening(self) -> float | None:
        """Return the end of the interval at which the second is best, as :meth:`worsening` has it."""
        if self.interval is None:
            return None
        return min(_worse(self.interval.low, self.metric), _worse(self.interval.high, self.metric))

    def significant(self) -> bool:
        """Return whether the adjusted p is there and small enough."""
        return self.p_adjusted is not None and self.p_adjusted < SIGNIFICANT

    def verdict(self) -> Literal["worse", "better", "same"]:
        """Return what the second is, where the difference is significant and above the resolution; else ``same``."""
        if not self.significant() or abs(self.difference) <= self.resolution:
            return "same"
        return "worse" if self.worsening() > 0 else "better"


def _worse(difference: float, metric: str) -> float:
    return {"error": 100.0, "r2": -100.0, "cross_entropy": 1.0}[metric] * difference


class ProbeDifference(Record):
    """The probes of two taps that are compared."""

    first: ProbeIdentity
    second: ProbeIdentity
    aligned: How
    task: Task
    score: ScoreDifference
    """The primary metric: ``error``, or ``r2`` of a number."""
    loss: ScoreDifference | None
    """Cross-entropy, which shows differences that leave every prediction as it is; None of a number, and where it is
    infinite."""
    missed: list[Which]
    """The sides whose probe is not proven to be at its optimum; no verdict and no gate counts such a difference."""


class ModelDifference(Record):
    """The models' own predictions of a factor."""

    factor: str
    task: Task
    first_output: str
    second_output: str
    score: ScoreDifference


class FactorRecord(Record):
    """A label factor that both runs have, and its test rows."""

    factor: str
    task: Task
    first_rows: int
    """Labelled test rows of the first run."""
    second_rows: int
    shared: int
    """Those in both, by example id and position: only they are compared."""
    over: str
    """What counts as independent: ``examples``, or ``groups`` of them."""
    baseline: float
    """The primary metric, on the shared rows, of what knows the first run's training labels alone, as its result has
    it on its whole split."""
    verdicts: list[str]
    """One sentence for each probe."""


class UnmatchedTap(Record):
    """A tap that has no counterpart."""

    side: Which
    tap: str
    nearest: str | None
    """The most similar name among the other side's taps."""


class ChangedValue(Record):
    """Something in which the two runs differ."""

    part: Part
    key: str
    """Dotted."""
    first: str | None
    """None: it is not there."""
    second: str | None


class GateRecord(Record):
    """A condition of ``--fail-if``."""

    condition: str
    held: bool
    hits: list[str]
    """Where it held, each with its number."""


class ComparisonResult(Record):
    """Everything that a comparison found."""

    schema_version: Literal[1] = SCHEMA_VERSION
    first: SideRecord
    second: SideRecord
    unit: str
    """What one row is, in the plural: ``examples`` or ``positions``."""
    factors: list[FactorRecord]
    differences: list[ProbeDifference]
    """By factor, then by probe, then in the first side's depth order."""
    models: list[ModelDifference]
    unmatched: list[UnmatchedTap]
    changes: list[ChangedValue]
    notes: list[str]
    """What the reader should know."""
    gates: list[GateRecord] = Field(default_factory=list)

    def failed(self) -> bool:
        """Return whether any condition of ``--fail-if`` held."""
        return any(gate.held for gate in self.gates)

    def to_json(self) -> str:
        """Return strict JSON, keys in the order of the fields."""
        return json_text(self.model_dump(mode="json"))
