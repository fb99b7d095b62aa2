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
from probekit.components.control import (
    CONTROL_TASK,
    RANDOM_WEIGHTS,
    REDUCTION_SEED,
    SHUFFLED_LABELS,
    Control,
    LabelControl,
    ModelControl,
    is_control_task,
)
from probekit.components.data import ColumnTable, Dataset, Examples, LabelFactor, Labels, Task, known_rows, row_digests
from probekit.components.executor import Executor, MessageQueue
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
    "CONTROL_TASK",
    "LAYOUTS",
    "RANDOM_WEIGHTS",
    "REDUCTION_SEED",
    "SHUFFLED_LABELS",
    "Array",
    "ArrayMatrix",
    "Backend",
    "BoolArray",
    "Certificate",
    "CheckpointFiles",
    "ColumnTable",
    "Columns",
    "Component",
    "Control",
    "Dataset",
    "DoesNotApplyError",
    "Examples",
    "Executor",
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
    "LabelControl",
    "LabelFactor",
    "Labels",
    "LearnedReduction",
    "LinearMap",
    "MessageQueue",
    "ModelControl",
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
    "is_control_task",
    "known_rows",
    "row_digests",
]

BASE_CLASSES: dict[str, type[Component]] = {
    base.category: base for base in (Backend, Dataset, LabelFactor, Reduction, Probe, Control, Report, Executor)
}
