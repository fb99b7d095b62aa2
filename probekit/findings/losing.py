"""Where information about one factor is lost while another factor gains."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from probekit.findings.differences import improvement, significant
from probekit.findings.series import series_of
from probekit.findings.wording import SMALLEST, listing, named, points
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.differences import Difference
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult

    Pair = tuple[str, str]


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the steps, and the ways from a factor's best tap to the end, at which one factor loses and another gains.

    A step counts where its paired test is significant after Holm's correction. From a factor's best tap on valid to the
    last tap, its loss and the other's gain count where their 95 % intervals exclude 0.
    """
    found = []
    told: set[tuple[int, ...]] = set()
    for curves in _beside_each_other(result):
        changes = [_steps(curve) for curve in curves]
        for curve, own in zip(curves, changes, strict=True):
            lost: dict[Pair, Difference] = {pair: one for pair, one in own.items() if one.value <= -SMALLEST}
            for pair, loss in lost.items():
                gains = [(other, change[pair]) for other, change in zip(curves, changes, strict=True) if pair in change]
                found += _told(curve, pair, loss, [(other, gain) for other, gain in gains if gain.value > 0], told)
            way = _to_the_end(curve)
            whole = None if way is None else _between(curve, way)
            if way is not None and whole is not None and whole.worse:
                gains = [(other, gain) for other in curves if (gain := _between(other, way)) is not None]
                found += _told(curve, way, whole, [(other, gain) for other, gain in gains if gain.better], told)
    return found


def ways(result: RunResult) -> list[tuple[ProbeResult, ProbeResult]]:
    """Return the probes of each factor at the end and at the best tap of a factor that may have lost on the way there.

    Args:
        result: with its comparisons.
    """
    found = []
    for curves in _beside_each_other(result):
        for way in dict.fromkeys(way for curve in curves if (way := _to_the_end(curve)) is not None):
            found += [pair for curve in curves if (pair := _probes(curve, way)) is not None]
    return found


def _beside_each_other(result: RunResult) -> list[list[Series]]:
    """Return the curves of all factors that have the same model, checkpoint, probe and reduction."""
    groups: dict[tuple[Any, ...], list[Series]] = defaultdict(list)
    for series in series_of(result):
        for curve in series.curves():
            one = curve.probes[0]
            groups[one.model, one.checkpoint, one.probe, curve.reduction].append(curve)
    return [curves for curves in groups.values() if len(curves) > 1]


def _steps(curve: Series) -> dict[Pair, Difference]:
    """Return the significant steps: positive where the factor gains."""
    return {(step.before, step.after): improvement(step) for step in curve.steps if significant(step)}


def _to_the_end(curve: Series) -> Pair | None:
    """Return the way from the best tap to the last one before the model's output, where more than a step is lost."""
    main = [probe for probe in curve.ranked if probe.tap in curve.paths.main]
    best = curve.best_of(main)
    if best is None or best is main[-1]:
        return None
    pair = (best.tap, main[-1].tap)
    change = main[-1].headline()["test"] - best.headline()["test"]
    lost = (-change if curve.metric == "r2" else change) >= SMALLEST
    return pair if lost and pair not in {(step.before, step.after) for step in curve.steps} else None


def _probes(curve: Series, pair: Pair) -> tuple[ProbeResult, ProbeResult] | None:
    """Return the probes at both ends of a way, the last one first."""
    by_tap = {probe.tap: probe for probe in curve.ranked}
    return (by_tap[pair[1]], by_tap[pair[0]]) if set(pair) <= set(by_tap) else None


def _between(curve: Series, pair: Pair) -> Difference | None:
    probes = _probes(curve, pair)
    return None if probes is None else curve.advantage(*probes)


def _told(
    curve: Series,
    pair: Pair,
    loss: Difference,
    gains: list[tuple[Series, Difference]],
    told: set[tuple[int, ...]],
) -> list[FindingRecord]:
    """Return what is told of a loss, unless another curve has told it: two vectors may be in several."""
    about = [probe for probe in curve.probes if probe.tap in pair]
    which = tuple(map(id, about))
    if not gains or which in told:
        return []
    told.add(which)
    before, after = pair
    gained = listing([f"{named(one.factor)} by {points(gain.value, one.metric)}" for one, gain in gains])
    text = (
        f"from {named(before)} to {named(after)} the probe for {curve.asked_at(about)} gets worse by "
        f"{points(-loss.value, curve.metric)} ({loss.turned().sure(curve.metric)}), while others get better: {gained}."
    )
    evidence = {
        "before": before,
        "after": after,
        "loss": loss.evidence(),
        "gains": {one.factor: gain.evidence() for one, gain in gains},
    }
    return [curve.say("losing", "notice", text, about, **evidence)]
