"""Features that nothing can be fitted to: constant, or not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.errors import printable
from probekit.findings.series import series_of
from probekit.findings.wording import listing
from probekit.hookspecs import hookimpl
from probekit.results import FAILED, FindingRecord

if TYPE_CHECKING:
    from probekit.results import RunResult


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the taps whose features do not vary, and the fits that failed on NaN or infinite ones."""
    found = []
    for series in series_of(result):
        constant = [probe for probe in series.probes if probe.features_constant]
        if constant:
            places = listing([series.place(probe) for probe in constant])
            text = f"no feature varies at {places}, so nothing about {series.asked} can be read there."
            found.append(
                series.say(
                    "unfit_features",
                    "warning",
                    text,
                    constant,
                    constant=[[probe.tap, probe.reduction] for probe in constant],
                )
            )
    return found + [
        FindingRecord(
            kind="unfit_features",
            severity="problem",
            sentence=f"No probe could be fitted: {printable(text).rstrip('.')}.",
            evidence={"warning": f"{FAILED}{text}"},
        )
        for text in result.failures()
        if "NaN or infinite" in text
    ]
