"""Curves: the probes along a model's depth that may be compared with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from probekit.results.run import GraphRecord
    from probekit.results.scores import ProbeResult

_INPUT = "Input"


def curves_of(probes: Iterable[ProbeResult], inputs: Collection[str] = ()) -> dict[str, list[ProbeResult]]:
    """Return the curves of some probes by the reduction that names each, with at most one probe a tap.

    A curve has the probes of one reduction. Where that does not apply to a vector, in which there is nothing to
    reduce, it has the probe on the vector itself: a vector is its own mean over positions. A reduction that reduces
    no tap but the model's inputs has no curve beside one that does, and curves of the same probes are one.

    Args:
        probes: of one model, checkpoint, factor and kind of probe, in depth order.
        inputs: the taps that are the model's inputs.
    """
    probes = list(probes)
    members: dict[str, dict[str, ProbeResult]] = {}
    vectors: dict[str, ProbeResult] = {}
    for probe in probes:
        members.setdefault(probe.reduction, {}).setdefault(probe.tap, probe)
        if probe.vector:
            vectors.setdefault(probe.tap, probe)
    reducing = {one.reduction for one in probes if not one.vector and one.tap not in inputs}
    taps = dict.fromkeys(one.tap for one in probes)
    made: dict[str, list[ProbeResult]] = {}
    seen: set[tuple[int, ...]] = set()
    for reduction, own in members.items():
        if reducing and reduction not in reducing:
            continue
        by_tap = vectors | own
        curve = [by_tap[tap] for tap in taps if tap in by_tap]
        which = tuple(map(id, curve))
        if which not in seen:
            seen.add(which)
            made[reduction] = curve
    return made


def inputs_of(graph: GraphRecord, model: str) -> frozenset[str]:
    """Return the taps that are a model's inputs."""
    return frozenset(one.tap for one in graph.taps if one.model == model and one.op == _INPUT)
