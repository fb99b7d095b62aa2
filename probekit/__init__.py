"""probekit: linear classifier probes for the intermediate tensors of neural networks.

The names of ``__all__`` are what a plugin may use. They are imported when they are used, so that ``import probekit`` is
cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probekit.components import (
        ArrayMatrix,
        Backend,
        Certificate,
        Control,
        Dataset,
        DoesNotApplyError,
        Examples,
        FeatureMatrix,
        FittedProbe,
        FittedReduction,
        Graph,
        LabelFactor,
        Labels,
        LearnedReduction,
        ModelInput,
        Probe,
        Reduction,
        Report,
        Tap,
        Target,
        Wanted,
    )
    from probekit.errors import InputError, MachineError, ProbekitWarning, Problem, SpecError, UserError
    from probekit.hookspecs import hookimpl
    from probekit.plugins import Plugins
    from probekit.predictions import Predictions, load_predictions
    from probekit.results import FindingRecord, RunResult, load_result
    from probekit.run import Console, Outcome, run_spec
    from probekit.saved.loaded import LoadedProbe, load_probe
    from probekit.sections import Section, SpecPath, runtime_option
    from probekit.spec import Spec, load_spec

__version__ = "0.1.0"

_HOMES = {
    "components": [
        "ArrayMatrix", "Backend", "Certificate", "Control", "Dataset", "DoesNotApplyError", "Examples", "FeatureMatrix",
        "FittedProbe", "FittedReduction", "Graph", "LabelFactor", "Labels", "LearnedReduction", "ModelInput", "Probe",
        "Reduction", "Report", "Tap", "Target", "Wanted",
    ],
    "errors": ["InputError", "MachineError", "Problem", "ProbekitWarning", "SpecError", "UserError"],
    "hookspecs": ["hookimpl"],
    "plugins": ["Plugins"],
    "predictions": ["Predictions", "load_predictions"],
    "results": ["FindingRecord", "RunResult", "load_result"],
    "run": ["Console", "Outcome", "run_spec"],
    "saved.loaded": ["LoadedProbe", "load_probe"],
    "sections": ["Section", "SpecPath", "runtime_option"],
    "spec": ["Spec", "load_spec"],
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ArrayMatrix",
    "Backend",
    "Certificate",
    "Console",
    "Control",
    "Dataset",
    "DoesNotApplyError",
    "Examples",
    "FeatureMatrix",
    "FindingRecord",
    "FittedProbe",
    "FittedReduction",
    "Graph",
    "InputError",
    "LabelFactor",
    "Labels",
    "LearnedReduction",
    "LoadedProbe",
    "MachineError",
    "ModelInput",
    "Outcome",
    "Plugins",
    "Predictions",
    "Probe",
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
    "hookimpl",
    "load_predictions",
    "load_probe",
    "load_result",
    "load_spec",
    "run_spec",
    "runtime_option",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'probekit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"probekit.{_HOME_OF[name]}"), name)
