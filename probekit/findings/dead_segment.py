"""Runs of taps at which nothing can be read, while a later tap can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from probekit.findings.differences import score_of
from probekit.findings.series import series_of
from probekit.findings.wording import listing, named, run_of
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.findings.paths import Paths
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity

    State = Literal["constant", "information", "error", "alive", "doubtful"]


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the dead segments, as in Alain and Bengio 2016, section 5.2 and figure 6, and the skips around them.

    A tap is dead where its features do not vary, where there is no information, or where the interval of its test
    metric reaches the baseline and information is not shown. A segment is a run of dead taps with a later tap that is
    shown to be better than chance; taps of which neither is known may lie between its own. Without a skip around it the
    run is not dead: its signal has another form there.
    """
    found = []
    for series in series_of(result):
        told: set[tuple[int, ...]] = set()
        for curve in series.curves():
            found += _segments(curve, told)
    return found


def _segments(curve: Series, told: set[tuple[int, ...]]) -> list[FindingRecord]:
    """Return the segments of a curve that no earlier one has told: vectors may be in several."""
    states = {probe.tap: state for probe in curve.ranked if (state := _state(curve, probe)) is not None}
    dead = {
        tap for tap, state in states.items() if state not in {"alive", "doubtful"} and tap not in curve.paths.inputs
    }
    # Of many taps that hold nothing, some seem better than chance by one interval, and a fit may have missed.
    unknown = {tap for tap in curve.paths.order if states.get(tap, "doubtful") == "doubtful"} - curve.paths.inputs
    between = unknown & curve.paths.before(dead) & curve.paths.after(dead)
    found = []
    for whole in curve.paths.pieces(dead | between):
        piece = [tap for tap in whole if tap in dead]
        if not piece:
            continue
        after = curve.paths.after(whole)
        alive = [probe for probe in curve.ranked if probe.tap in after and states.get(probe.tap) == "alive"]
        which = tuple(id(probe) for probe in curve.ranked if probe.tap in piece)
        if alive and which not in told:
            told.add(which)
            found.append(_segment(curve, piece, [tap for tap in whole if tap not in dead], alive[0], states))
    return found


def _state(curve: Series, probe: ProbeResult) -> State | None:
    """Return why a tap is dead, that it is alive, or that its error alone says so; None where nothing is known."""
    if probe.features_constant:
        return "constant"
    told = curve.answer(probe)
    if told == "no":
        return "information"
    above = curve.above_chance(probe)
    if told == "yes" or (above and told is None):
        return "alive"
    if above is None:
        return None
    return "doubtful" if above else "error"


def _segment(
    curve: Series, piece: list[str], between: list[str], alive: ProbeResult, states: Mapping[str, str]
) -> FindingRecord:
    probes = [probe for probe in curve.ranked if probe.tap in piece]
    inside = {*piece, *between}
    after = curve.paths.after(inside)
    skips = [(a, b) for a, b in curve.paths.edges if b in after and a not in after and a not in inside]
    leading = _leading(curve.paths, inside)
    asked, reasons = curve.asked_at(probes), [states[tap] for tap in piece]
    where = f"{run_of(piece)}: {_seen(curve, probes, reasons)}, while {named(alive.tap)} has {curve.reached(alive)}"
    severity: Severity = "notice"
    if not curve.paths.known:
        text = f"nothing can be read for {asked} at {where}. The graph is not known, so neither is what skips it."
    elif skips:
        edges = listing([f"{named(a)} → {named(b)}" for a, b in skips])
        text = f"dead segment for {asked}, {where}. It is passed by along {edges}."
        if leading:
            text += f" What can be read at {run_of(leading)} leads only into it."
        severity = "warning" if 2 * reasons.count("error") <= len(reasons) else "notice"
    else:
        text = (
            f"nothing can be read for {asked} at {where}. No tapped path passes it by, so what is read later is "
            "there in another form, which these features or a linear probe do not show."
        )
    return curve.say(
        "dead_segment",
        severity,
        text,
        probes,
        dead=bool(skips) if curve.paths.known else None,
        reasons=dict(zip(piece, reasons, strict=True)),
        skips=[list(edge) for edge in skips],
        leading=leading,
        between=between,
        baseline=curve.baseline,
        later={"tap": alive.tap, **score_of(alive)},
    )


def _leading(paths: Paths, inside: set[str]) -> list[str]:
    """Return the taps from which every path leads into a segment, without the model's inputs."""
    found = set(inside)
    for tap in reversed(paths.order):
        if paths.targets[tap] and found.issuperset(paths.targets[tap]) and tap not in paths.inputs:
            found.add(tap)
    return [tap for tap in paths.order if tap in found - inside]


def _seen(curve: Series, probes: list[ProbeResult], reasons: list[str]) -> str:
    """Return what is seen at the dead taps, for sentences."""
    if set(reasons) == {"constant"}:
        return "its features do not vary" if len(probes) == 1 else "their features do not vary"
    best = curve.best_of(probes)
    value = "" if best is None else f" ({curve.measured} {curve.shown(best.headline()['test'])})"
    return f"no better{value} than {curve.chance}"
