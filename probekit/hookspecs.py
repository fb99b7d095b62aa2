"""Every hook that a plugin can implement. Each docstring is the hook's documentation.

A plugin is a module with functions of these names, marked with ``@probekit.hookimpl``. Its distribution names it in
the entry-point group ``probekit``, one entry point per kind: ``backend.openvino = "probekit_openvino"``. The module is
imported when a spec names one of its kinds; findings and listeners are of the plugins that a spec requires
(``plugins:``). An implementation takes only the arguments that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from probekit.components import Backend, Control, Dataset, Executor, LabelFactor, Probe, Reduction, Report
    from probekit.results import FindingRecord, ProbeResult, RunResult
    from probekit.spec import Spec

API_VERSION = "1.0"
"""The version of what a plugin may use: the second number rises with what is new, the first with what is changed or
gone.
"""

hookspec = pluggy.HookspecMarker("probekit")
hookimpl = pluggy.HookimplMarker("probekit")


@hookspec
def register_backends() -> list[type[Backend]]:
    """Return backend classes: the runtimes that run a model. Entry point ``backend.KIND``."""
    raise NotImplementedError


@hookspec
def register_datasets() -> list[type[Dataset]]:
    """Return dataset classes: where the examples come from. Entry point ``dataset.KIND``."""
    raise NotImplementedError


@hookspec
def register_label_factors() -> list[type[LabelFactor]]:
    """Return label factor classes: named ways to label examples. Entry point ``factor.KIND``."""
    raise NotImplementedError


@hookspec
def register_reductions() -> list[type[Reduction]]:
    """Return reduction classes: what turns activations into features. Entry point ``reduction.KIND``."""
    raise NotImplementedError


@hookspec
def register_probes() -> list[type[Probe]]:
    """Return probe classes: what is fitted to features. Entry point ``probe.KIND``."""
    raise NotImplementedError


@hookspec
def register_controls() -> list[type[Control]]:
    """Return control classes: other labels for a factor's rows. Entry point ``control.KIND``."""
    raise NotImplementedError


@hookspec
def register_reports() -> list[type[Report]]:
    """Return report classes: views of a result. Entry point ``report.KIND``."""
    raise NotImplementedError


@hookspec
def register_executors() -> list[type[Executor]]:
    """Return executor classes: where small fits are made at the same time. Entry point ``executor.KIND``."""
    raise NotImplementedError


@hookspec
def find(result: RunResult) -> list[FindingRecord]:
    """Return what the numbers of a run say, as sentences with their evidence. Entry point ``finding.NAME``.

    Called when the result is complete but for its findings, before it is saved, if the spec requires the plugin. A
    module may have several entry points. One that raises, or returns anything else, is reported as a warning with the
    distribution's name; the run goes on.

    Args:
        result: everything that the run found, with ``comparisons`` and ``information``.

    Returns:
        records whose ``kind`` is a NAME of the module's entry points; none where there is nothing to say.
    """
    raise NotImplementedError


@hookspec
def on_run_start(spec: Spec) -> None:
    """Called before a run reads its data, if the spec requires the plugin. Entry point ``listener.NAME``, as for the
    other events.

    An event that raises is reported as a warning with the distribution's name; the run goes on.

    Args:
        spec: the validated spec.
    """


@hookspec
def on_probe_fitted(probe: ProbeResult) -> None:
    """Called after each probe is fitted and scored.

    Args:
        probe: the probe's result, as it will stand in ``results.json``.
    """


@hookspec
def on_run_end(result: RunResult) -> None:
    """Called after the result is saved and the reports are written.

    Args:
        result: the whole result.
    """


REGISTER_HOOKS = {
    "backend": "register_backends",
    "dataset": "register_datasets",
    "factor": "register_label_factors",
    "reduction": "register_reductions",
    "probe": "register_probes",
    "control": "register_controls",
    "report": "register_reports",
    "executor": "register_executors",
}
"""From a category, as entry points and specs spell it, to the hook that registers its classes."""

FIND_HOOK = "find"
EVENT_HOOKS = ("on_run_start", "on_probe_fitted", "on_run_end")


def hook_names() -> list[str]:
    """Return the names of all hooks, in their order here."""
    return [name for name, one in globals().items() if hasattr(one, "probekit_spec")]
