"""Branches that do not lead to the model's output, against the main branch at the same depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit.findings.series import series_of
from probekit.findings.wording import named, points
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Compare the last tap of each side branch with the main branch after as many taps, and with its end.

    A side branch is a group of taps, hanging together, of which none leads to the model's output where that is tapped,
    or else to the last tap. Its depth is counted in taps on the longest path from the input.
    """
    return [_compared(series, branch) for series in series_of(result) for branch in branches(series)]


@dataclass(frozen=True)
class Branch:
    """A side branch and what it is compared with.

    Args:
        taps: of the branch, in depth order.
        head: its last probe that may be ranked.
        beside: the best probe on valid of the main branch at the same depth.
        last: the best probe on valid at the end of the main branch.
    """

    taps: list[str]
    head: ProbeResult
    beside: ProbeResult
    last: ProbeResult | None


def branches(series: Series) -> Iterator[Branch]:
    """Give the side branches of a series that leave the main one and have probes to compare."""
    paths = series.paths
    if not paths.known:
        return
    main = [probe.tap for probe in series.ranked if probe.tap in paths.main]
    for branch in paths.pieces(tap for tap in paths.order if tap not in paths.main):
        probed = [probe.tap for probe in series.ranked if probe.tap in branch]
        head = series.best_at(probed[-1:])
        if head is None or not paths.before(branch) & paths.main:
            continue
        level = max((paths.levels[tap] for tap in main if paths.levels[tap] <= paths.levels[head.tap]), default=-1)
        beside = series.best_at(tap for tap in main if paths.levels[tap] == level)
        if beside is not None:
            yield Branch(branch, head, beside, series.best_at(main[-1:]))


def _compared(series: Series, branch: Branch) -> FindingRecord:
    head, beside, last = branch.head, branch.beside, branch.last
    before = series.paths.before(branch.taps) & series.paths.main
    fork = max(before, key=series.paths.order.index)
    difference = series.advantage(head, beside)
    how = "ahead of" if difference.better else "behind" if difference.worse else "not clearly ahead of or behind"
    seen = difference.turned() if difference.value < 0 else difference
    gap, sure = points(seen.value, series.metric), seen.sure(series.metric)
    text = (
        f"the branch that leaves the main one after {named(fork)} and ends at {named(branch.taps[-1])} is {how} it at "
        f"the same depth for {series.asked}: {series.shown(head.headline()['test'])} at {series.place(head)}, "
        f"{series.shown(beside.headline()['test'])} at {series.place(beside)} (difference {gap}, {sure})"
    )
    evidence: dict[str, Any] = {"fork": fork, "branch": branch.taps, "ahead": difference.evidence()}
    severity: Severity = "notice" if difference.better else "info"
    if last is not None and last is not beside:
        final = series.advantage(head, last)
        evidence["ahead_of_end"] = {"tap": last.tap, **final.evidence()}
        if final.better:
            severity = "warning"
            text += (
                f"; it is even ahead of {series.place(last)}, by {points(final.value, series.metric)} "
                f"({final.sure(series.metric)})"
            )
    elif difference.better:
        severity = "warning"
    return series.say("auxiliary_head", severity, f"{text}.", [beside, head], **evidence)
