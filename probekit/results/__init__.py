"""What a run found, as typed records: everything that a report may say. Saved as ``results.json``."""

from __future__ import annotations

from probekit.results.curves import curves_of, inputs_of
from probekit.results.judgements import (
    ContrastRecord,
    FindingRecord,
    InformationRecord,
    PairedRecord,
    Severity,
    SpreadRecord,
    TwinRecord,
)
from probekit.results.run import (
    FAILED,
    SCHEMA_VERSION,
    GraphRecord,
    RunResult,
    TapRecord,
    load_result,
)
from probekit.results.scores import (
    CertificateRecord,
    ClassErrorRecord,
    ConfusionRecord,
    FitRecord,
    IntervalRecord,
    LabelResult,
    MistakesRecord,
    ModelResult,
    PathPointRecord,
    PlaceRecord,
    ProbeIdentity,
    ProbeResult,
    Record,
    first_test,
    headline,
)

__all__ = [
    "FAILED",
    "SCHEMA_VERSION",
    "CertificateRecord",
    "ClassErrorRecord",
    "ConfusionRecord",
    "ContrastRecord",
    "FindingRecord",
    "FitRecord",
    "GraphRecord",
    "InformationRecord",
    "IntervalRecord",
    "LabelResult",
    "MistakesRecord",
    "ModelResult",
    "PairedRecord",
    "PathPointRecord",
    "PlaceRecord",
    "ProbeIdentity",
    "ProbeResult",
    "Record",
    "RunResult",
    "Severity",
    "SpreadRecord",
    "TapRecord",
    "TwinRecord",
    "curves_of",
    "first_test",
    "headline",
    "inputs_of",
    "load_result",
]
