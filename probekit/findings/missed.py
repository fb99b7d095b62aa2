"""Probes that are not proven to be at their optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.errors import printable
from probekit.findings.series import series_of
from probekit.findings.wording import counted, named
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the probes whose certificate was missed and why; those of controls after those of the true labels."""
    found = []
    for series in series_of(result):
        by_control: dict[str | None, list[ProbeResult]] = {}
        for probe in (*series.probes, *series.controls):
            if probe.certificate.status == "missed":
                by_control.setdefault(probe.control, []).append(probe)
        found += [_told(series, control, probes) for control, probes in by_control.items()]
    return found


def _told(series: Series, control: str | None, missed: list[ProbeResult]) -> FindingRecord:
    worst = max(missed, key=lambda probe: (probe.certificate.of_chance or 0.0, probe.certificate.gap or 0.0))
    every = sum(probe.control == control for probe in (*series.probes, *series.controls))
    severity: Severity = "notice" if control is not None else "warning" if len(missed) < every else "problem"
    under = "" if control is None else f" under the control {named(control)}"
    only = every == 1
    count = "the probe" if only else f"{len(missed):,} of {counted(every, 'probe')}"
    alone = len(missed) == 1
    text = (
        f"{count} for {series.asked}{under} {'is' if alone else 'are'} not proven to be at "
        f"{'its' if alone else 'their'} optimum and {'is' if alone else 'are'} not ranked: {series.place(worst)}"
        f"{'' if alone else ', the worst'}{_why(series, worst)}."
    )
    return series.say(
        "missed",
        severity,
        text,
        missed,
        control=control,
        probes=every,
        missed=len(missed),
        worst={
            "tap": worst.tap,
            "reduction": worst.reduction,
            "seed": worst.seed,
            "gap": worst.certificate.gap,
            "of_chance": worst.certificate.of_chance,
            "reason": None if worst.fit is None else worst.fit.reason,
        },
    )


def _why(series: Series, probe: ProbeResult) -> str:
    gap, share = probe.certificate.gap, probe.certificate.of_chance
    unit = "of the variance" if series.task == "number" else "nats"
    told = [] if gap is None else [f"bound {gap:.1e} {unit}"]
    told += [] if share is None else [f"{100 * share:.2g} % of what chance loses"]
    reason = None if probe.fit is None else probe.fit.reason
    return (f" ({', '.join(told)})" if told else "") + (f"; {printable(reason)}" if reason else "")
