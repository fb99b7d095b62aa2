"""Projections that hold more numbers than the probes that they are to make small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.findings.wording import named
from probekit.hookspecs import hookimpl
from probekit.results import FindingRecord

if TYPE_CHECKING:
    from probekit.results import ProbeResult, RunResult, Severity


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the reductions whose matrix is larger than a probe on the whole activation (paper, section 3.4).

    One finding for each model and reduction, about its largest matrix. A probe on the whole activation is counted with
    as many outputs as the probe on the reduced features has.
    """
    groups: dict[tuple[str, str], list[ProbeResult]] = {}
    for probe in result.probes:
        if probe.control is None and probe.parameters is not None and _larger(probe):
            groups.setdefault((probe.model, probe.reduction), []).append(probe)
    several = len({probe.model for probe in result.probes}) > 1
    return [_cost(group, several=several) for group in groups.values()]


def _larger(probe: ProbeResult) -> bool:
    return (probe.reduction_parameters or 0) > whole(probe)


def whole(probe: ProbeResult) -> int:
    """Return how many numbers a linear probe on the whole activation would hold."""
    outputs = (probe.parameters or 0) // (probe.features_used + 1)
    return outputs * (probe.features_raw + 1)


def _cost(group: list[ProbeResult], *, several: bool) -> FindingRecord:
    most = max(group, key=lambda probe: probe.reduction_parameters or 0)
    held, own, raw = most.reduction_parameters or 0, most.parameters or 0, whole(most)
    learned = most.reduction_seconds is not None
    severity: Severity = "warning" if learned else "notice"
    whose = f"Model {named(most.model)}: the" if several else "The"
    taken = f", which took {most.reduction_seconds:.1f} s to learn and apply" if learned else ""
    taps = list(dict.fromkeys(probe.tap for probe in group))
    text = (
        f"{whose} {'learned ' if learned else ''}reduction {named(most.reduction)} holds {held:,} numbers at "
        f"{named(most.tap)}{taken}: {_times(held / own)} as many as the probe after it ({own:,}) and "
        f"{_times(held / raw)} as many as a probe on all {most.features_raw:,} values would hold ({raw:,}); it is "
        f"larger than that at {len(taps):,} {'tap' if len(taps) == 1 else 'taps'}."
    )
    return FindingRecord(
        kind="projection_cost",
        severity=severity,
        sentence=text,
        model=most.model,
        reduction=most.reduction,
        taps=taps,
        evidence={
            "tap": most.tap, "factor": most.factor, "reduction_parameters": held, "parameters": own,
            "parameters_of_whole": raw, "seconds": most.reduction_seconds,
        },
    )  # fmt: skip


def _times(ratio: float) -> str:
    """Return how many times one number is another.

    >>> _times(2470.3), _times(6.42)
    ('2,470 times', '6.4 times')
    """
    return f"{ratio:,.0f} times" if ratio >= 100 else f"{ratio:.2g} times"
