"""The vocabulary of a plugin author: what can be tapped, and the base class of everything that a spec can name."""

from __future__ import annotations

from probekit.components.arrays import Array, BoolArray, Columns, Feed, FloatArray, IntArray
from probekit.components.backend import (
    Backend,
    CheckpointFiles,
    InputBinding,
    ModelOutput,
    NamedCheckpoints,
    ReducedFunction,
    TapFunction,
    Wanted,
)
from probekit.components.data import Dataset, Examples, LabelFactor, Labels, Task, known_rows, row_digests
from probekit.components.graph import LAYOUTS, Graph, ModelInput, Tap
from probekit.components.probe import (
    ArrayMatrix,
    Certificate,
    FeatureMatrix,
    FitContext,
    FitFacts,
    FitProgress,
    FittedProbe,
    LinearMap,
    PathPoint,
    Probe,
    Target,
)
from probekit.components.reduction import DoesNotApplyError, FittedReduction, LearnedReduction, Reduction
from probekit.components.report import Report
from probekit.sections import Component

__all__ = [
    "BASE_CLASSES",
    "LAYOUTS",
    "Array",
    "ArrayMatrix",
    "Backend",
    "BoolArray",
    "Certificate",
    "CheckpointFiles",
    "Columns",
    "Component",
    "Dataset",
    "DoesNotApplyError",
    "Examples",
    "FeatureMatrix",
    "Feed",
    "FitContext",
    "FitFacts",
    "FitProgress",
    "FittedProbe",
    "FittedReduction",
    "FloatArray",
    "Graph",
    "InputBinding",
    "IntArray",
    "LabelFactor",
    "Labels",
    "LearnedReduction",
    "LinearMap",
    "ModelInput",
    "ModelOutput",
    "NamedCheckpoints",
    "PathPoint",
    "Probe",
    "ReducedFunction",
    "Reduction",
    "Report",
    "Tap",
    "TapFunction",
    "Target",
    "Task",
    "Wanted",
    "known_rows",
    "row_digests",
]

BASE_CLASSES: dict[str, type[Component]] = {
    base.category: base for base in (Backend, Dataset, LabelFactor, Reduction, Probe, Report)
}
