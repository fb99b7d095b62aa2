"""What a run found, as typed records: everything that a report may say. Saved as ``results.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

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


class ProbeResult(Record):
    """One fitted probe. Model, checkpoint, tap, reduction, factor, probe, control and seed are its identity."""

    model: str
    checkpoint: str | None
    tap: str
    reduction: str
    factor: str
    probe: str
    control: str | None
    """The control's name; None for the true labels."""
    seed: int
    scores: dict[str, dict[str, float]]
    """Metric to split to value: ``error``, ``balanced_error``, ``top5_error`` (shares), ``cross_entropy`` (nats)."""
    primary: str
    """Name of the metric that the probe is judged by."""
    error: dict[str, float]
    """Share of wrong predictions on ``train``, ``valid`` and ``test``, the first test split where there are several."""
    penalty: float | None
    """λ."""
    features_raw: int
    """Values of the activation per example."""
    features_used: int
    """Features that the probe was fitted on."""
    rows: dict[str, int]
    certificate: CertificateRecord
    seconds: float
    """Wall time of the fit."""


class ModelResult(Record):
    """The model's own predictions of a factor, on the same examples, from the same pass."""

    model: str
    checkpoint: str | None
    factor: str
    output: str
    """The tensor whose argmax is the prediction."""
    scores: dict[str, dict[str, float]]
    error: dict[str, float]
    rows: dict[str, int]


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
        """Return the error of always saying the commonest class of the training split."""
        return float(self.provenance["labels"][factor]["baseline"][split])

    def unit(self) -> str:
        """Return what one row of features is, in the plural: ``examples`` or ``positions``."""
        return f"{self.provenance.get('rows', {}).get('per', 'example')}s"

    def test_rows(self, factor: str) -> int:
        """Return how many feature rows of the test split have a label of a factor."""
        return sum(self.provenance["labels"][factor]["counts"]["test"])


def load_result(directory: str | Path) -> RunResult:
    """Return the result that a run saved in a directory."""
    return RunResult.model_validate_json((Path(directory) / "results.json").read_text(encoding="utf-8"))


def text_tensor(values: Array) -> Array:
    """Return text as uint8, shape (values, longest): UTF-8, padded with zeros."""
    encoded = np.array([str(value).encode() for value in values] or [b""], dtype=np.bytes_)
    return encoded.view(np.uint8).reshape(len(encoded), -1)[: len(values)]


def write_predictions(
    path: Path,
    ids: Array,
    groups: Array | None,
    parts: Mapping[str, IntArray],
    labels: Mapping[str, IntArray],
    predictions: Mapping[str, IntArray],
    losses: Mapping[str, Array],
    keys: Mapping[str, Mapping[str, Any]],
    positions: IntArray | None = None,
) -> None:
    """Write every feature row's labels and predictions as one safetensors file.

    Tensors, one row per example of any split, or per position of it: ``position`` (int32, where rows are positions);
    ``id`` and ``group`` (uint8, UTF-8 padded with zeros); ``split`` (uint8,
    position in the facts' ``splits``); ``label.FACTOR``, ``predicted.K`` (int32, class, -1 for none); ``loss.K``
    (float32, nats, NaN without a label). K counts the facts' ``predictions``, which say whose they are. The facts
    are JSON under the metadata's key ``probekit``.
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
    tensors |= {f"label.{name}": codes.astype(np.int32) for name, codes in labels.items()}
    tensors |= {f"predicted.{key}": codes.astype(np.int32) for key, codes in predictions.items()}
    tensors |= {f"loss.{key}": values.astype(np.float32) for key, values in losses.items()}
    facts = {"schema_version": SCHEMA_VERSION, "splits": list(parts), "predictions": keys}
    # One entry only: safetensors writes several in no fixed order.
    metadata = {"probekit": json.dumps(facts)}
    write_file(path, save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, metadata))
