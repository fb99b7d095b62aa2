"""The earliest tap that is as good as the best, as far as valid can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.findings.differences import standard_error
from probekit.findings.series import series_of
from probekit.findings.wording import counted, points
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.results import FindingRecord, RunResult


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Say which is the earliest tap within one standard error of the best one on valid.

    The rule is that of Breiman et al. 1984 (Classification and Regression Trees, section 3.4.3), by which the simplest
    model within one standard error of the best is taken; here it is the earliest tap.
    """
    found = []
    for series in series_of(result):
        best, taps = series.best, list(dict.fromkeys(probe.tap for probe in series.ranked))
        if best is None or best.tap == taps[0] or not best.beats(series.baseline):
            continue
        error = standard_error(best, "valid")
        if error is None:
            continue
        reached = best.headline()["valid"]
        near = [probe for probe in series.ranked if abs(probe.headline()["valid"] - reached) <= error]
        earliest = series.best_of(probe for probe in near if probe.tap == near[0].tap)
        if earliest is None:
            continue
        before = taps.index(best.tap) - taps.index(earliest.tap)
        room = f"one standard error ({points(error, series.metric)} on valid)"
        if before == 0:
            text = f"no tap before {series.place(best)} is within {room} of it for {series.asked}."
        else:
            text = (
                f"the earliest tap for {series.asked} within {room} of the best is {series.place(earliest)}, "
                f"{counted(before, 'tap')} before {series.place(best)}: {series.reached(earliest)}."
            )
        found.append(
            series.say(
                "earliest_tap",
                "info",
                text,
                [earliest, best] if before else [best],
                standard_error=error,
                taps_before_best=before,
                valid={"earliest": earliest.headline()["valid"], "best": reached},
                test={"earliest": earliest.headline()["test"], "best": best.headline()["test"]},
            )
        )
    return found
