"""What a run found, as typed records: everything that a report may say. Saved as ``results.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from probekit.components import Task
from probekit.durable import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Array, IntArray

SCHEMA_VERSION: Literal[1] = 1


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
    """How it was made: ``percentile_bootstrap``."""
    over: str
    """What was resampled: ``examples``, or ``groups`` of them."""
    n: int
    """How many of those."""
    draws: int | None = None
    level: float = 0.95
    seed: int | None = None


class LabelResult(Record):
    """One yes/no label of a probe."""

    penalty: float | None
    """λ."""
    scores: dict[str, dict[str, float]]
    """Metric to split to value."""


class ProbeIdentity(Record):
    """Which probe of a run it is."""

    model: str
    checkpoint: str | None
    tap: str
    reduction: str
    factor: str
    probe: str
    control: str | None
    """The control's name; None for the true labels."""
    seed: int


class ProbeResult(ProbeIdentity):
    """One fitted probe."""

    task: Task = "classes"
    """What is asked of a row: a class, yes/no labels, or a number."""
    scores: dict[str, dict[str, float]]
    """Metric to split to value.

    Of classes: ``error``, ``balanced_error``, ``top5_error`` (shares), ``cross_entropy`` (nats). Of yes/no labels: the
    means over them of ``error``, ``balanced_error`` and ``cross_entropy``, and ``subset_error``, the share of rows with
    any wrong answer. Of a number: ``r2``, ``rmse``, ``mae``.
    """
    primary: str
    """Name of the metric that the probe is judged by: ``error``, or ``r2``, of which more is better."""
    error: dict[str, float] | None
    """Share of wrong predictions on ``train``, ``valid`` and ``test``, the first test split where there are several;
    None of a number."""
    intervals: dict[str, dict[str, IntervalRecord]] = Field(default_factory=dict)
    """Metric to test split to the interval of that score."""
    by_label: dict[str, LabelResult] = Field(default_factory=dict)
    """Of yes/no labels: each by its name."""
    penalty: float | None
    """λ; None for a probe without one, and where yes/no labels chose several."""
    features_raw: int
    """Values of the activation per example."""
    features_used: int
    """Features that the probe was fitted on."""
    rows: dict[str, int]
    certificate: CertificateRecord
    fit: FitRecord | None = None
    """How it was fitted, where the probe tells."""
    seconds: float
    """Wall time of the fit."""

    def headline(self) -> dict[str, float]:
        """Return the primary metric on ``train``, ``valid`` and ``test``, as :attr:`error` has them."""
        return headline(self.scores[self.primary])

    def interval(self) -> IntervalRecord | None:
        """Return the interval of the headline on the first test split, None where there is none."""
        return next(iter(self.intervals.get(self.primary, {}).values()), None)

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


class TapRecord(Record):
    """A tapped tensor."""

    model: str
    tap: str
    """What the results call it."""
    name: str
    """The tensor's own name."""
    op: str
    shape: list[int | None] | None
    """Without the batch axis."""
    dtype: str
    layout: str
    depth: int
    """Position in execution order."""


class GraphRecord(Record):
    """The tapped tensors and how they hang together."""

    taps: list[TapRecord]
    edges: list[list[str]]
    """Triples (model, a, b) of tap labels: a path leads from a to b that passes no other tap."""


class RunResult(Record):
    """Everything that a run found."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    probes: list[ProbeResult]
    """In depth order."""
    model: list[ModelResult]
    graph: GraphRecord
    findings: list[dict[str, Any]] = Field(default_factory=list)
    provenance: dict[str, Any]

    def to_json(self) -> str:
        """Return strict JSON, keys in the order of the fields."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def baseline(self, factor: str, split: str = "test") -> float:
        """Return the primary metric of what knows the training labels alone.

        That is always saying the commonest class, of each yes/no label the commoner answer, of a number the mean.
        """
        return float(self.provenance["labels"][factor]["baseline"][split])

    def unit(self) -> str:
        """Return what one row of features is, in the plural: ``examples`` or ``positions``."""
        return f"{self.provenance.get('rows', {}).get('per', 'example')}s"

    def label_baselines(self, factor: str) -> dict[str, float]:
        """Return, for each yes/no label, the test error of its commoner answer in train; else nothing."""
        found = self.provenance["labels"][factor].get("label_baselines", {})
        return {name: float(by_split["test"]) for name, by_split in found.items()}

    def test_rows(self, factor: str) -> int:
        """Return how many feature rows of the test split have a label of a factor."""
        return int(self.provenance["labels"][factor]["rows"]["test"])


def headline(by_split: Mapping[str, float]) -> dict[str, float]:
    """Return the values of train, valid and test, the first test split where there are several."""
    first = next(split for split in by_split if split not in {"train", "valid"})
    return {"train": by_split["train"], "valid": by_split["valid"], "test": by_split[first]}


def load_result(directory: str | Path) -> RunResult:
    """Return the result that a run saved in a directory."""
    return RunResult.model_validate_json((Path(directory) / "results.json").read_text(encoding="utf-8"))


def text_tensor(values: Array) -> Array:
    """Return text as uint8, shape (values, longest): UTF-8, padded with zeros."""
    encoded = np.array([str(value).encode() for value in values] or [b""], dtype=np.bytes_)
    return encoded.view(np.uint8).reshape(len(encoded), -1)[: len(values)]


def _four_bytes(values: Array) -> Array:
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int32)


def write_predictions(
    path: Path,
    ids: Array,
    groups: Array | None,
    parts: Mapping[str, IntArray],
    labels: Mapping[str, Array],
    predictions: Mapping[str, Array],
    losses: Mapping[str, Array],
    keys: Mapping[str, Mapping[str, Any]],
    positions: IntArray | None = None,
) -> None:
    """Write every feature row's labels and predictions as one safetensors file.

    Tensors, one row per example of any split, or per position of it: ``position`` (int32, where rows are positions);
    ``id`` and ``group`` (uint8, UTF-8 padded with zeros); ``split`` (uint8,
    position in the facts' ``splits``); ``label.FACTOR``, ``predicted.K`` and ``loss.K``. K counts the facts'
    ``predictions``, which say whose they are. The facts are JSON under the metadata's key ``probekit``.

    Labels and predictions of classes are int32, the class or -1 for none; of yes/no labels int32, (rows, labels), 1, 0
    or -1; of a number float32, NaN for none. Losses are float32, NaN without a label: nats, of yes/no labels (rows,
    labels), of a number the squared error.
    """
    from safetensors.numpy import save

    split = np.zeros(len(ids), dtype=np.uint8)
    for number, rows in enumerate(parts.values()):
        split[rows] = number
    tensors: dict[str, Array] = {"id": text_tensor(ids), "split": split}
    if groups is not None:
        tensors["group"] = text_tensor(groups)
    if positions is not None:
        tensors["position"] = positions.astype(np.int32)
    tensors |= {f"label.{name}": _four_bytes(codes) for name, codes in labels.items()}
    tensors |= {f"predicted.{key}": _four_bytes(codes) for key, codes in predictions.items()}
    tensors |= {f"loss.{key}": values.astype(np.float32) for key, values in losses.items()}
    facts = {"schema_version": SCHEMA_VERSION, "splits": list(parts), "predictions": keys}
    # One entry only: safetensors writes several in no fixed order.
    metadata = {"probekit": json.dumps(facts)}
    write_file(path, save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, metadata))
