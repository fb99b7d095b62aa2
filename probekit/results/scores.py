"""How well each probe and each model does: scores, intervals, certificates, fits, mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from probekit.components import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from probekit.statistics.intervals import Interval


class Record(BaseModel):
    """A part of the result: closed and frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CertificateRecord(Record):
    """How far a fit can at most be from its optimum; see ``probekit.components.Certificate``."""

    status: Literal["proven", "missed", "not_applicable"]
    gap: float | None
    """Upper bound on objective - optimum, in nats."""
    of_chance: float | None
    """The gap as a share of the entropy of the training labels."""
    of_objective: float | None
    """The gap as a share of the objective."""


class PathPointRecord(Record):
    """One λ that was tried; see ``probekit.components.PathPoint``."""

    penalty: float
    objective: float | None
    gap: float | None
    status: Literal["proven", "missed", "not_applicable"]
    valid_loss: float | None
    """Mean cross-entropy in nats on the valid rows; of a number the mean squared error."""
    valid_error: float | None
    """Share of wrong predictions on the valid rows; None for a number."""


class FitRecord(Record):
    """How a probe was fitted; see ``probekit.components.FitFacts``."""

    path: list[PathPointRecord]
    """Every λ that was tried, the largest first."""
    grown: int
    """How many λ were added because the best one lay at an end of the path."""
    end: Literal["smallest", "largest"] | None
    """At which end of the path the chosen λ lies all the same."""
    label_penalties: list[float]
    """The λ of each yes/no label."""
    heads: int
    passes: int
    """Over the training rows."""
    preconditioner: str
    arithmetic: list[str]
    device: str
    streamed: bool
    reason: str | None
    """Why a certificate was missed."""
    notes: list[str] = Field(default_factory=list)
    """What else the reader should know."""


class IntervalRecord(Record):
    """A range for a score."""

    low: float
    high: float
    kind: str
    """How it was made: ``wilson``, ``newcombe`` (of a paired difference) or ``percentile_bootstrap``."""
    over: str
    """What counts as independent: ``examples``, or ``groups`` of them."""
    n: int
    """How many of those."""
    draws: int | None = None
    """Of a bootstrap."""
    level: float = 0.95
    seed: int | None = None
    """Of a bootstrap."""

    @classmethod
    def of(cls, found: Interval | None, over: str) -> IntervalRecord | None:
        """Return the record of an interval over examples or groups, None of none."""
        return None if found is None else cls(**vars(found), over=over)


class LabelResult(Record):
    """One yes/no label of a probe."""

    penalty: float | None
    """λ."""
    scores: dict[str, dict[str, float]]
    """Metric to split to value."""
    intervals: dict[str, dict[str, IntervalRecord]] = Field(default_factory=dict)
    """Metric to split to the interval of that score: of the error on the first test split."""

    def interval(self) -> IntervalRecord | None:
        """Return the interval of the error on the first test split, None where there is none."""
        return _of_tests(self.intervals.get("error", {}))


class ClassErrorRecord(Record):
    """How often rows of one class are taken for another."""

    name: str
    error: float
    """Share of its rows that are predicted as another class."""
    interval: IntervalRecord | None
    n: int
    """Rows of the class."""


class ConfusionRecord(Record):
    """How often one class is taken for a certain other."""

    true: str
    predicted: str
    count: int
    """Rows."""
    share: float
    """Of the rows of the true class."""


class MistakesRecord(Record):
    """What a probe of classes gets wrong most; ``confusions.csv`` has all of it."""

    split: str
    """The first test split; ``valid`` where that has no labelled row."""
    worst: list[ClassErrorRecord]
    """At most five classes, the largest error first; none without an error."""
    confused: list[ConfusionRecord]
    """At most five pairs, the most frequent first."""


class PlaceRecord(Record):
    """Which feature matrix a probe reads, for which factor, and which kind of probe it is."""

    model: str
    checkpoint: str | None
    tap: str
    reduction: str
    factor: str
    probe: str

    def place(self) -> dict[str, Any]:
        """Return these fields, for another record of the same place."""
        return {name: getattr(self, name) for name in PlaceRecord.model_fields}


class ProbeIdentity(PlaceRecord):
    """Which probe of a run it is."""

    control: str | None
    """The control's name; None for the true labels."""
    seed: int


class ProbeResult(ProbeIdentity):
    """One fitted probe."""

    task: Task = "classes"
    """What is asked of a row: a class, yes/no labels, or a number."""
    scores: dict[str, dict[str, float]]
    """Metric to split to value.

    Of classes: ``error``, ``balanced_error``, ``top5_error`` (shares), ``cross_entropy`` (nats), and ``auroc`` of two.
    Of yes/no labels: the means over them of ``error``, ``balanced_error``, ``cross_entropy`` and ``auroc``, and
    ``subset_error``, the share of rows with any wrong answer. Of a number: ``r2``, ``rmse``, ``mae``.
    """
    primary: str
    """Name of the metric that the probe is judged by: ``error``, or ``r2``, of which more is better."""
    error: dict[str, float] | None
    """Share of wrong predictions on ``train``, ``valid`` and ``test``, the first test split where there are several;
    None of a number."""
    intervals: dict[str, dict[str, IntervalRecord]] = Field(default_factory=dict)
    """Metric to split to the interval of that score: of errors on every split, else on test splits."""
    by_label: dict[str, LabelResult] = Field(default_factory=dict)
    """Of yes/no labels: each by its name."""
    mistakes: MistakesRecord | None = None
    """Of classes, for true labels: what it gets wrong most."""
    penalty: float | None
    """λ; None for a probe without one, and where yes/no labels chose several."""
    features_raw: int
    """Values of the activation per example."""
    features_used: int
    """Features that the probe was fitted on."""
    features_constant: bool = False
    """Each of these features has one value in all rows."""
    vector: bool = False
    """The features are the values of a vector, as they are; see :func:`probekit.results.curves_of`."""
    parameters: int | None = None
    """Numbers that the probe holds, weights and biases; None where it is not linear."""
    reduction_parameters: int | None = None
    """Numbers that the reduction holds: indices of a subset, a projection's matrix; None where it does not tell."""
    reduction_seconds: float | None = None
    """Wall time of reading the features, fitting a learned reduction and applying it; None of another one, which runs
    in the model's pass."""
    rows: dict[str, int]
    certificate: CertificateRecord
    fit: FitRecord | None = None
    """How it was fitted, where the probe tells."""
    seconds: float
    """Wall time of the fit."""

    def headline(self) -> dict[str, float]:
        """Return the primary metric on ``train``, ``valid`` and ``test``, as :attr:`error` has them."""
        return headline(self.scores[self.primary])

    def on_valid(self) -> float:
        """Return what a choice among probes of one factor makes smallest: the headline on valid, of R² its negative."""
        return self.headline()["valid"] * (-1 if self.primary == "r2" else 1)

    def interval(self) -> IntervalRecord | None:
        """Return the interval of the headline on the first test split, None where there is none."""
        return _of_tests(self.intervals.get(self.primary, {}))

    def beats(self, other: float) -> bool:
        """Return whether the headline on test is better than another value of the metric."""
        own = self.headline()["test"]
        return own > other if self.primary == "r2" else own < other


class ModelResult(Record):
    """The model's own predictions of a factor, on the same examples, from the same pass."""

    model: str
    checkpoint: str | None
    factor: str
    output: str
    """The tensor whose argmax is the prediction; of a number the tensor that is it."""
    task: Task = "classes"
    scores: dict[str, dict[str, float]]
    primary: str = "error"
    error: dict[str, float] | None
    """None of a number."""
    intervals: dict[str, dict[str, IntervalRecord]] = Field(default_factory=dict)
    rows: dict[str, int]

    def headline(self) -> dict[str, float]:
        """Return the primary metric, as :meth:`ProbeResult.headline` does."""
        return headline(self.scores[self.primary])

    def interval(self) -> IntervalRecord | None:
        """Return the interval of the headline, as :meth:`ProbeResult.interval` does."""
        return _of_tests(self.intervals.get(self.primary, {}))


def first_test(by_split: Iterable[str]) -> str:
    """Return the name of the first test split out of all names in order.

    >>> first_test({"train": 1, "valid": 2, "easy": 3, "test": 4})
    'easy'
    """
    return next(split for split in by_split if split not in {"train", "valid"})


def headline(by_split: Mapping[str, float]) -> dict[str, float]:
    """Return the values of train, valid and test, the first test split where there are several."""
    return {"train": by_split["train"], "valid": by_split["valid"], "test": by_split[first_test(by_split)]}


def _of_tests(by_split: Mapping[str, IntervalRecord]) -> IntervalRecord | None:
    """Return the interval on the first test split that has one."""
    return next((one for split, one in by_split.items() if split not in {"train", "valid"}), None)
