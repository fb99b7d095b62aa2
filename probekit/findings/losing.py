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
    from probekit.results import FindingRecord, RunResult

    Pair = tuple[str, str]


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the steps, and the ways from a factor's best tap to the end, at which one factor loses and another gains.

    A step counts where its paired test is significant after Holm's correction. From a factor's best tap on valid to the
    last tap, its loss and the other's gain count where their 95 % intervals exclude 0.
    """
    groups: dict[tuple[Any, ...], list[Series]] = defaultdict(list)
    for series in series_of(result):
        for curve in series.curves():
            one = curve.probes[0]
            groups[one.model, one.checkpoint, one.probe, one.reduction, one.seed].append(curve)
    found = []
    for curves in groups.values():
        changes = [_steps(curve) for curve in curves]
        for index, curve in enumerate(curves):
            lost: dict[Pair, Difference] = {pair: one for pair, one in changes[index].items() if one.value <= -SMALLEST}
            for pair, loss in lost.items():
                gains = [(other, change[pair]) for other, change in zip(curves, changes, strict=True) if pair in change]
                found += _told(curve, pair, loss, [(other, gain) for other, gain in gains if gain.value > 0])
            whole = _to_the_end(curve)
            if whole is not None and whole[0] not in {(step.before, step.after) for step in curve.steps}:
                pair, loss = whole
                gains = [(other, gain) for other in curves if (gain := _between(other, pair)) is not None]
                found += _told(curve, pair, loss, [(other, gain) for other, gain in gains if gain.better])
    return found


def _steps(curve: Series) -> dict[Pair, Difference]:
    """Return the significant steps: positive where the factor gains."""
    found = {(step.before, step.after): improvement(curve.result, step) for step in curve.steps if significant(step)}
    return {pair: one for pair, one in found.items() if one is not None}


def _to_the_end(curve: Series) -> tuple[Pair, Difference] | None:
    """Return the way from the best tap to the last one before the model's output, where something is lost on it."""
    main = [probe for probe in curve.ranked if probe.tap in curve.paths.main]
    best = curve.best_of(main)
    if best is None or best is main[-1]:
        return None
    pair = (best.tap, main[-1].tap)
    loss = _between(curve, pair)
    return (pair, loss) if loss is not None and loss.worse and loss.value <= -SMALLEST else None


def _between(curve: Series, pair: Pair) -> Difference | None:
    by_tap = {probe.tap: probe for probe in curve.ranked}
    if not set(pair) <= set(by_tap):
        return None
    return curve.advantage(by_tap[pair[1]], by_tap[pair[0]])


def _told(curve: Series, pair: Pair, loss: Difference, gains: list[tuple[Series, Difference]]) -> list[FindingRecord]:
    if not gains:
        return []
    before, after = pair
    gained = listing([f"{named(one.factor)} by {points(gain.value, one.metric)}" for one, gain in gains])
    text = (
        f"from {named(before)} to {named(after)} the probe for {curve.asked} gets worse by "
        f"{points(-loss.value, curve.metric)} ({loss.turned().sure(curve.metric)}), while others get better: {gained}."
    )
    evidence = {
        "before": before,
        "after": after,
        "loss": loss.evidence(),
        "gains": {one.factor: gain.evidence() for one, gain in gains},
    }
    about = [probe for probe in curve.probes if probe.tap in pair]
    return [curve.say("losing", "notice", text, about, **evidence)]
