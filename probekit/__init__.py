"""probekit: linear classifier probes for the intermediate tensors of neural networks.

The names of ``__all__`` are what a plugin may use. They are imported when they are used, so that ``import probekit`` is
cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probekit import steps
    from probekit.backends.differences import relative_difference
    from probekit.backends.digests import content_digest
    from probekit.backends.layouts import propagate_layouts
    from probekit.components import (
        ArrayMatrix,
        Backend,
        Certificate,
        Control,
        Dataset,
        DoesNotApplyError,
        Examples,
        Executor,
        FeatureMatrix,
        FitContext,
        FittedProbe,
        FittedReduction,
        Graph,
        LabelControl,
        LabelFactor,
        Labels,
        LearnedReduction,
        LinearMap,
        ModelControl,
        ModelInput,
        Probe,
        Reduction,
        Report,
        Tap,
        Target,
        Wanted,
    )
    from probekit.errors import (
        InputError,
        MachineError,
        ProbekitWarning,
        Problem,
        SpecError,
        UserError,
        absent_file,
        nearest,
        printable,
        reading_file,
    )
    from probekit.hookspecs import API_VERSION, hookimpl
    from probekit.plugins import Plugins
    from probekit.predictions import Predictions, load_predictions
    from probekit.results import FindingRecord, ProbeResult, RunResult, load_result
    from probekit.run import Console, Outcome, run_spec
    from probekit.saved.loaded import LoadedProbe, load_probe
    from probekit.sections import Section, SpecPath, runtime_option
    from probekit.spec import Spec, load_spec

__version__ = "0.1.0"

_HOMES = {
    "backends.differences": ["relative_difference"],
    "backends.digests": ["content_digest"],
    "backends.layouts": ["propagate_layouts"],
    "components": [
        "ArrayMatrix", "Backend", "Certificate", "Control", "Dataset", "DoesNotApplyError", "Examples", "Executor",
        "FeatureMatrix", "FitContext", "FittedProbe", "FittedReduction", "Graph", "LabelControl", "LabelFactor",
        "Labels", "LearnedReduction", "LinearMap", "ModelControl", "ModelInput", "Probe", "Reduction", "Report", "Tap",
        "Target", "Wanted",
    ],
    "errors": [
        "InputError", "MachineError", "Problem", "ProbekitWarning", "SpecError", "UserError", "absent_file", "nearest",
        "printable", "reading_file",
    ],
    "hookspecs": ["API_VERSION", "hookimpl"],
    "plugins": ["Plugins"],
    "predictions": ["Predictions", "load_predictions"],
    "results": ["FindingRecord", "ProbeResult", "RunResult", "load_result"],
    "run": ["Console", "Outcome", "run_spec"],
    "saved.loaded": ["LoadedProbe", "load_probe"],
    "sections": ["Section", "SpecPath", "runtime_option"],
    "spec": ["Spec", "load_spec"],
}  # fmt: skip
_MODULES = ["steps"]
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "API_VERSION",
    "ArrayMatrix",
    "Backend",
    "Certificate",
    "Console",
    "Control",
    "Dataset",
    "DoesNotApplyError",
    "Examples",
    "Executor",
    "FeatureMatrix",
    "FindingRecord",
    "FitContext",
    "FittedProbe",
    "FittedReduction",
    "Graph",
    "InputError",
    "LabelControl",
    "LabelFactor",
    "Labels",
    "LearnedReduction",
    "LinearMap",
    "LoadedProbe",
    "MachineError",
    "ModelControl",
    "ModelInput",
    "Outcome",
    "Plugins",
    "Predictions",
    "Probe",
    "ProbeResult",
    "ProbekitWarning",
    "Problem",
    "Reduction",
    "Report",
    "RunResult",
    "Section",
    "Spec",
    "SpecError",
    "SpecPath",
    "Tap",
    "Target",
    "UserError",
    "Wanted",
    "absent_file",
    "content_digest",
    "hookimpl",
    "load_predictions",
    "load_probe",
    "load_result",
    "load_spec",
    "nearest",
    "printable",
    "propagate_layouts",
    "reading_file",
    "relative_difference",
    "run_spec",
    "runtime_option",
    "steps",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name in _MODULES:
        return importlib.import_module(f"probekit.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'probekit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"probekit.{_HOME_OF[name]}"), name)
