"""Whether the probes can memorise: how low their training error is on shuffled labels."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from probekit.components import SHUFFLED_LABELS
from probekit.findings.series import series_of
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity

MEMORISED = 0.5
"""Where less than this share of the baseline's training error is left, a probe memorises."""


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Say at which taps shuffled labels are fitted, after Zhang et al. 2017 (ICLR, section 2.1)."""
    return [_capacity(series, by_place) for series in series_of(result) if (by_place := _shuffled(series))]


def _shuffled(series: Series) -> list[tuple[ProbeResult, float, int]]:
    """Return, in depth order, a control's probe of each tap and reduction, the mean train metric, how many seeds."""
    places: dict[tuple[str, str], list[ProbeResult]] = {}
    for probe in series.controls:
        if probe.control == SHUFFLED_LABELS and probe.certificate.status != "missed":
            places.setdefault((probe.tap, probe.reduction), []).append(probe)
    return [
        (probes[0], fmean(probe.headline()["train"] for probe in probes), len(probes)) for probes in places.values()
    ]


def _capacity(series: Series, shuffled: list[tuple[ProbeResult, float, int]]) -> FindingRecord:
    def left(one: tuple[ProbeResult, float, int]) -> float:
        return series.left(one[1], "train")

    most = min(shuffled, key=left)
    memorised = [probe for probe, value, _ in shuffled if series.left(value, "train") < MEMORISED]
    chance = series.shown(series.result.baseline(series.factor, "train"))
    extreme = (
        f"{series.measured} {series.shown(most[1])} on train at {series.place(most[0])}, where chance has {chance}"
    )
    severity: Severity = "info"
    if memorised:
        severity = "notice"
        text = (
            f"with shuffled labels, {len(memorised):,} of {len(shuffled):,} probes for {series.asked} can memorise, "
            f"most of all {extreme}; what they reach on train says little."
        )
    else:
        text = f"with shuffled labels, no probe for {series.asked} can memorise; the nearest to it is {extreme}."
    return series.say(
        "capacity",
        severity,
        text,
        memorised or [most[0]],
        baseline=series.result.baseline(series.factor, "train"),
        probes=len(shuffled),
        memorised=len(memorised),
        most={"tap": most[0].tap, "reduction": most[0].reduction, "train": most[1], "seeds": most[2]},
    )
