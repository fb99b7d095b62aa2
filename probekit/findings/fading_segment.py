"""Runs of taps that lose most of what can be read before them, while a connection leads past them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.findings.differences import score_of
from probekit.findings.series import series_of
from probekit.findings.wording import named, run_of
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity

FEWEST = 5
"""Taps of a run. The branch of a block that is added to what it came from is mostly shorter."""
MOST, NEARLY_ALL = 0.5, 0.1
"""Shares of the source's gain: less than the first is kept, or even less than the second."""


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the segments that fade: a skip leads past them, and they keep less than half of what it carries.

    A tap's gain is by how much its test metric is better than the baseline. A segment lies on a path from a tap, its
    source, to a later tap that the source also feeds directly. At the segment's end less than half of the source's gain
    is left, at the later tap more than half, and both are better than the end by the whole 95 % interval of their
    difference. The segment is the run up to the end at which less than half is left; a tap whose fit missed its
    certificate does not cut it. Where nothing is left at the end it is a dead segment.
    """
    curves = (curve for series in series_of(result) for curve in series.curves() if curve.paths.known)
    return [found for curve in curves for found in _segments(curve)]


def _segments(curve: Series) -> list[FindingRecord]:
    probes = {probe.tap: probe for probe in curve.ranked}
    found = []
    for later in (tap for tap in curve.paths.order if tap in probes):
        feeders = [tap for tap in curve.paths.sources[later] if tap in probes]
        for end in feeders:
            before = curve.paths.before([end])
            source = curve.best_at(tap for tap in feeders if tap in before)
            if source is None or not _fades(curve, source, probes[end], probes[later]):
                continue
            inside = curve.paths.after([source.tap]) & {*before, end}
            faded = [tap for tap in inside if tap not in probes or _kept(curve, probes[tap], source) < MOST]
            run = next([tap for tap in piece if tap in probes] for piece in curve.paths.pieces(faded) if end in piece)
            if len(run) >= FEWEST:
                found.append(_segment(curve, run, source, probes[end], probes[later]))
    return found


def _fades(curve: Series, source: ProbeResult, end: ProbeResult, later: ProbeResult) -> bool:
    if not curve.above_chance(source) or not _reads(curve, end):
        return False
    if _kept(curve, end, source) >= MOST or _kept(curve, later, source) < MOST:
        return False
    return all(curve.advantage(one, end).better for one in (source, later))


def _segment(curve: Series, run: list[str], source: ProbeResult, end: ProbeResult, later: ProbeResult) -> FindingRecord:
    kept = _kept(curve, end, source)
    severity: Severity = "warning" if kept < NEARLY_ALL else "notice"
    reached = [f"{named(one.tap)} has {curve.reached(one)}" for one in (end, source, later)]
    text = (
        f"the segment {run_of(run)} loses most of what can be read for {curve.asked}: {reached[0]}, while {reached[1]} "
        f"and {reached[2]}. It is passed by along {named(source.tap)} → {named(later.tap)}, so that what is read later "
        "need not come through it."
    )
    return curve.say(
        "fading_segment",
        severity,
        text,
        [probe for probe in curve.ranked if probe.tap in run],
        kept=kept,
        skip=[source.tap, later.tap],
        source={"tap": source.tap, **score_of(source)},
        end={"tap": end.tap, **score_of(end)},
        later={"tap": later.tap, **score_of(later)},
        baseline=curve.baseline,
    )


def _kept(curve: Series, probe: ProbeResult, source: ProbeResult) -> float:
    """Return a probe's gain as a share of the source's, which is above 0."""
    gain, whole = (1 - curve.left(one.headline()["test"]) for one in (probe, source))
    return gain / whole


def _reads(curve: Series, probe: ProbeResult) -> bool:
    """Return whether something can be read at a tap; else it is dead."""
    told = curve.answer(probe)
    return told == "yes" or (told != "no" and bool(curve.above_chance(probe)))
