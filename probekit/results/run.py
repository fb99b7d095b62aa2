"""The result of a run as one record, and its file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from probekit.errors import json_text
from probekit.results.judgements import (
    ContrastRecord,
    FindingRecord,
    InformationRecord,
    PairedRecord,
    SpreadRecord,
    TwinRecord,
)
from probekit.results.scores import ModelResult, ProbeResult, Record, first_test

SCHEMA_VERSION: Literal[1] = 1
FAILED = "the fit failed: "
"""How what a run warns of a fit that failed begins."""


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
    comparisons: list[PairedRecord] = Field(default_factory=list)
    """Of neighbouring taps."""
    contrasts: list[ContrastRecord] = Field(default_factory=list)
    """Of true labels: the best probe and others that findings compare."""
    information: list[InformationRecord] = Field(default_factory=list)
    twins: list[TwinRecord] = Field(default_factory=list)
    """Of true labels: the model against another one in its place, such as one with random weights."""
    spreads: list[SpreadRecord] = Field(default_factory=list)
    """Of true labels: over the seeds of a random reduction."""
    findings: list[FindingRecord] = Field(default_factory=list)
    """The most severe first."""
    provenance: dict[str, Any]

    def to_json(self) -> str:
        """Return strict JSON, keys in the order of the fields; what is NaN or infinite is null."""
        return json_text(_strict(self.model_dump(mode="json")))

    def baseline(self, factor: str, split: str | None = None) -> float:
        """Return the primary metric of what knows the training labels alone.

        That is always saying the commonest class, of each yes/no label the commoner answer, of a number the mean.

        Args:
            factor: the label factor.
            split: by its name; default: the first test split.
        """
        by_split = self.provenance["labels"][factor]["baseline"]
        return float(by_split[split or first_test(by_split)])

    def failures(self) -> list[str]:
        """Return the fits that failed: where each is, and why."""
        warnings = map(str, self.provenance.get("warnings", ()))
        return [text.removeprefix(FAILED) for text in warnings if text.startswith(FAILED)]

    def unit(self) -> str:
        """Return what one row of features is, in the plural: ``examples`` or ``positions``."""
        return f"{self.provenance.get('rows', {}).get('per', 'example')}s"

    def label_baselines(self, factor: str) -> dict[str, float]:
        """Return, for each yes/no label, the test error of its commoner answer in train; else nothing."""
        found = self.provenance["labels"][factor].get("label_baselines", {})
        return {name: float(by_split[first_test(by_split)]) for name, by_split in found.items()}

    def test_rows(self, factor: str) -> int:
        """Return how many feature rows of the first test split have a label of a factor."""
        rows = self.provenance["labels"][factor]["rows"]
        return int(rows[first_test(rows)])


def _strict(value: Any) -> Any:
    """Return nested values with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: _strict(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_result(directory: str | Path) -> RunResult:
    """Return the result that a run saved in a directory."""
    return RunResult.model_validate_json((Path(directory) / "results.json").read_text(encoding="utf-8"))
