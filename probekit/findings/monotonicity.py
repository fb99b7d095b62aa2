"""Whether the error falls with depth, and which single steps are worse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probekit.findings.differences import improvement, significant
from probekit.findings.series import series_of
from probekit.findings.wording import SMALLEST, chance_text, counted, listing, named, points
from probekit.hookspecs import hookimpl
from probekit.statistics.multiple import SIGNIFICANT

if TYPE_CHECKING:
    from probekit.findings.differences import Difference
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, PairedRecord, RunResult, Severity

FEWEST = 3
"""Taps; with fewer there is no trend."""


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Give Kendall's rank correlation of test metric and depth, and the steps to neighbouring taps that are worse.

    Only taps on the way to the model's output count. The trend is Kendall's τ-b with its two-sided p-value; a step is
    significant where its paired test is, after Holm's correction.
    """
    curves = (curve for series in series_of(result) for curve in series.curves())
    return [found for curve in curves if (found := _trend(curve)) is not None]


def _trend(curve: Series) -> FindingRecord | None:
    from scipy.stats import kendalltau

    probes = [probe for probe in curve.ranked if probe.tap in curve.paths.main]
    if len(probes) < FEWEST:
        return None
    values = [probe.headline()["test"] for probe in probes]
    trend = kendalltau(range(len(values)), values)
    tau, p = float(trend.statistic), float(trend.pvalue)
    severity: Severity = "info"
    what = f"the test {curve.measured} for {curve.asked}"
    numbers = f"Kendall's τ {tau:.2f}, {chance_text(p)}, {counted(len(probes), 'tap')}"
    if math.isnan(tau):
        tau, p = 0.0, 1.0
        text = f"{what} is the same at all {len(probes):,} taps"
    elif p >= SIGNIFICANT:
        text = f"{what} has no clear trend with depth ({numbers})"
    else:
        text = f"{what} {'falls' if tau < 0 else 'rises'} with depth ({numbers})"
        if (tau < 0) == (curve.metric == "r2"):
            severity = "notice"
    steps = _steps(curve, {probe.tap for probe in probes})
    worse = [(step, found) for step, found in steps if found.value <= -SMALLEST and significant(step)]
    slightly = sum(-SMALLEST < found.value < 0 and significant(step) for step, found in steps)
    maybe = [found for step, found in steps if found.worse and not significant(step)]
    if worse:
        severity = "notice"
        told = [
            f"{named(step.after)} is {points(-found.value, curve.metric)} worse than {named(step.before)}, which feeds "
            f"it ({found.turned().sure(curve.metric)})"
            for step, found in worse
        ]
        text += f"; significant after Holm's correction: {listing(told)}"
    elif steps and not slightly:
        text += "; no step to the next tap is significantly worse"
    if slightly:
        text += f"; {counted(slightly, 'step')} significantly worse by less than {points(SMALLEST, curve.metric)}"
    if maybe:
        text += f"; {counted(len(maybe), 'step')} worse by the interval alone, not after Holm's correction"
    return curve.say(
        "monotonicity",
        severity,
        f"{text}.",
        [probe for probe in probes if any(probe.tap in (step.before, step.after) for step, _ in worse)],
        tau=tau,
        p=p,
        taps=len(probes),
        steps=len(steps),
        better=sum(found.value > 0 and significant(step) for step, found in steps),
        worse=[_evidence(step, found) for step, found in worse],
    )


def _steps(curve: Series, taps: set[str]) -> list[tuple[PairedRecord, Difference]]:
    return [(step, improvement(step)) for step in curve.steps if {step.before, step.after} <= taps]


def _evidence(step: PairedRecord, found: Difference) -> dict[str, object]:
    return {"before": step.before, "after": step.after, **found.evidence(), "p_adjusted": step.p_adjusted}
