"""The best tap of each series: chosen on valid, reported on test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.findings.differences import score_of
from probekit.findings.series import series_of
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.results import FindingRecord, RunResult


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Say where the best probe is and what it reaches; nothing where it is no better than chance."""
    found = []
    for series in series_of(result):
        best = series.best
        if best is None or not best.beats(series.baseline):
            continue
        text = f"the best tap for {series.asked}, chosen on valid, is {series.place(best)}: {series.reached(best)}."
        found.append(
            series.say(
                "best_tap",
                "info",
                text,
                [best],
                metric=series.metric,
                valid=best.headline()["valid"],
                **score_of(best),
                penalty=best.penalty,
                ranked=len(series.ranked),
            )
        )
    return found
