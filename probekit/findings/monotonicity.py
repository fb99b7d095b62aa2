"""Whether the error falls with depth, and which single steps are worse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probekit.findings.differences import ends_of, improvement, significant
from probekit.findings.series import series_of
from probekit.findings.wording import SMALLEST, chance_text, counted, listing, named, points
from probekit.hookspecs import hookimpl
from probekit.statistics.multiple import SIGNIFICANT

if TYPE_CHECKING:
    from probekit.findings.differences import Difference, Place
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, PairedRecord, ProbeResult, RunResult, Severity

FEWEST = 5
"""Taps that can show a trend: of fewer even one without exception has p > 0.05, of four 2 ÷ 4! = 0.083."""


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Give Kendall's rank correlation of test metric and depth, and the steps to neighbouring taps that are worse.

    Only taps on the way to the model's output count. The trend is Kendall's τ-b with its two-sided p-value; a step is
    significant where its paired test is, after Holm's correction. Curves of fewer than ``FEWEST`` taps have no trend:
    of all of them together, only the steps that are significantly worse are given, where there are any.
    """
    found: list[FindingRecord] = []
    for series in series_of(result):
        told: set[tuple[Place, Place]] = set()
        short: dict[tuple[Place, Place], tuple[PairedRecord, Difference]] = {}
        for curve in series.curves():
            probes = [probe for probe in curve.ranked if probe.tap in curve.paths.main]
            steps = {ends_of(one[0]): one for one in _steps(curve, {probe.tap for probe in probes})}
            if len(probes) < FEWEST:
                short |= steps
            else:
                told |= steps.keys()
                found.append(_trend(curve, probes, list(steps.values())))
        worse = [one for ends, one in short.items() if ends not in told and _worse(*one)]
        if worse:
            found.append(_steps_alone(series, worse))
    return found


def _steps_alone(series: Series, worse: list[tuple[PairedRecord, Difference]]) -> FindingRecord:
    worse.sort(key=lambda one: one[1].value)
    probes = {(probe.tap, probe.reduction): probe for probe in series.ranked}
    pairs = [tuple(probes[place] for place in ends_of(step)) for step, _ in worse]
    told = [
        _told(series.place(before), series.place(after), found, series.metric)
        for (before, after), (_, found) in zip(pairs, worse, strict=True)
    ]
    count = f"{counted(len(worse), 'step')} to the next tap {'is' if len(worse) == 1 else 'are'} significantly worse"
    return series.say(
        "monotonicity",
        "notice",
        f"for {series.asked}, {count} after Holm's correction: {listing(told)}.",
        [probe for pair in pairs for probe in pair],
        worse=[_evidence(step, found) for step, found in worse],
    )


def _trend(curve: Series, probes: list[ProbeResult], steps: list[tuple[PairedRecord, Difference]]) -> FindingRecord:
    from scipy.stats import kendalltau

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
    worse = [one for one in steps if _worse(*one)]
    slightly = sum(-SMALLEST < found.value < 0 and significant(step) for step, found in steps)
    maybe = [found for step, found in steps if found.worse and not significant(step)]
    if worse:
        severity = "notice"
        told = [_told(named(step.before), named(step.after), found, curve.metric) for step, found in worse]
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


def _told(before: str, after: str, found: Difference, metric: str) -> str:
    difference, sure = points(-found.value, metric), found.turned().sure(metric)
    return f"{after} is {difference} worse than {before}, which feeds it ({sure})"


def _worse(step: PairedRecord, found: Difference) -> bool:
    return found.value <= -SMALLEST and significant(step)


def _evidence(step: PairedRecord, found: Difference) -> dict[str, object]:
    return {"before": step.before, "after": step.after, **found.evidence(), "p_adjusted": step.p_adjusted}
