"""How much better probes do on the task than on random labels of the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from probekit.components import is_control_task
from probekit.findings.differences import Difference, unpaired
from probekit.findings.series import series_of
from probekit.findings.wording import counted, named, points
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity

LOW = 0.5
"""Selectivity is low where it is at most this share of the gain over chance: the rest can be memorised."""


@dataclass(frozen=True)
class Selective:
    """The selectivity of one probe.

    Args:
        probe: of the true labels.
        control: the control's metric on test, the mean over seeds.
        selectivity: the task's metric, less the control's, as a gain.
        seeds: of the control.
    """

    probe: ProbeResult
    control: float
    selectivity: Difference
    seeds: int

    def evidence(self) -> dict[str, Any]:
        """Return the numbers."""
        return {
            "tap": self.probe.tap,
            "reduction": self.probe.reduction,
            "task": self.probe.headline()["test"],
            "control": self.control,
            "selectivity": self.selectivity.evidence(),
            "seeds": self.seeds,
        }


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Give the selectivity of the best probe and the lowest one, by Hewitt and Liang 2019 (EMNLP, section 2).

    Selectivity is the accuracy on the task less that on the control task, on test: the control's error less the task's;
    of a number, the difference of R². Where a control has several seeds, the mean over them.
    """
    found = []
    for series in series_of(result):
        for name in dict.fromkeys(str(one.control) for one in series.controls):
            selective = _selective(series, name) if is_control_task(name) else []
            if selective:
                found.append(_told(series, name, selective))
    return found


def _selective(series: Series, name: str) -> list[Selective]:
    made = []
    for probe in series.ranked:
        controls = [
            one
            for one in series.controls
            if (one.control, one.tap, one.reduction) == (name, probe.tap, probe.reduction)
            and one.certificate.status != "missed"
        ]
        if not controls:
            continue
        differences = [unpaired(probe, one) for one in controls]
        lows = [one.low for one in differences if one.low is not None]
        highs = [one.high for one in differences if one.high is not None]
        whole = len(lows) == len(highs) == len(differences)
        mean = Difference(
            fmean(one.value for one in differences), fmean(lows) if whole else None, fmean(highs) if whole else None
        )
        made.append(Selective(probe, fmean(one.headline()["test"] for one in controls), mean, len(controls)))
    return made


def _told(series: Series, name: str, selective: list[Selective]) -> FindingRecord:
    best = series.best_of(one.probe for one in selective)
    main = next(one for one in selective if one.probe is best)
    lowest = min(selective, key=lambda one: one.selectivity.value)
    low = [one for one in selective if _is_low(series, one)]
    severity: Severity = "info"
    if main.selectivity.low is not None and main.selectivity.low <= 0:
        severity = "warning"
    elif main in low:
        severity = "notice"
    size = f"{points(main.selectivity.value, series.metric)} ({main.selectivity.sure(series.metric)})"
    task, control = series.shown(main.probe.headline()["test"]), series.shown(main.control)
    text = (
        f"against the {named(name.replace('_', ' ', 1))}, the probe for {series.asked} at {series.place(main.probe)} "
        f"has a selectivity of {size}: {series.measured} {task} on the task, {control} on the control"
    )
    if lowest is not main:
        text += f"; the lowest, {points(lowest.selectivity.value, series.metric)}, is at {series.place(lowest.probe)}"
    if low:
        count = counted(len(low), "probe" if series.several else "tap")
        text += f"; at {count} half of the gain over chance or more can be memorised"
    return series.say(
        "selectivity",
        severity,
        f"{text}.",
        [one.probe for one in low] or [main.probe],
        control=name,
        probes=len(selective),
        low=len(low),
        best=main.evidence(),
        lowest=lowest.evidence(),
    )


def _is_low(series: Series, one: Selective) -> bool:
    value = one.probe.headline()["test"]
    gain = value - series.baseline if series.metric == "r2" else series.baseline - value
    return gain > 0 and one.selectivity.value <= LOW * gain
