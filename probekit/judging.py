"""What a run's predictions say, row by row: how neighbouring taps differ, and which taps tell anything of a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from probekit.asked import asked_of
from probekit.components import Graph, Tap
from probekit.contrasts import contrast
from probekit.controlling import compare_twins, spread_over_seeds
from probekit.predictions import identity_of
from probekit.results import InformationRecord, IntervalRecord, PairedRecord, curves_of, inputs_of
from probekit.statistics.means import enough_draws, one_sided_batch
from probekit.statistics.multiple import SIGNIFICANT, holm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.asked import Asked
    from probekit.components import Array
    from probekit.predictions import Predictions
    from probekit.results import GraphRecord, ProbeIdentity, ProbeResult, RunResult
    from probekit.statistics.intervals import Interval
    from probekit.statistics.paired import PairedDifference

    ProbePair = tuple[ProbeResult, ProbeResult]

NEGLIGIBLE = 0.01
"""There is no gain where it can at most be this share of the loss without features."""
RESOLUTION = 1e-4
"""A gain below this share is never told from none: fits are proven no finer."""


def judge(result: RunResult, predictions: Predictions) -> RunResult:
    """Return a result with its comparisons, its contrasts, its information and what controls of other features tell.

    All are about probes of true labels on the first test split. A probe whose certificate was missed has no comparison
    with its neighbours and no information.

    Args:
        result: what a run found.
        predictions: of the same run.

    Raises:
        KeyError: a probe of the result has no predictions.
    """
    probes = [one for one in result.probes if one.control is None and one.certificate.status != "missed"]
    asked = {factor: asked_of(predictions, factor) for factor in dict.fromkeys(one.factor for one in probes)}
    comparisons = compare_neighbours(result.graph, probes, predictions, asked)
    result = result.model_copy(update={"comparisons": comparisons})
    others = {
        "information": find_information(result, probes, predictions, asked),
        "contrasts": contrast(result, predictions, asked),
        "twins": compare_twins(result, predictions, asked),
        "spreads": spread_over_seeds(result),
    }
    return result.model_copy(update=others)


def neighbours(graph: GraphRecord, model: str, taps: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of taps to compare, each with the one that comes first, by the depth of the second.

    A tap goes with each of ``taps`` that feeds it along a path without another of them. Where the graph knows no such
    tap, it goes with the one before it, unless it is an input of the model.

    Args:
        graph: of the result.
        model: whose taps they are.
        taps: their names in the result, in depth order.
    """
    records = sorted((one for one in graph.taps if one.model == model), key=lambda one: one.depth)
    nodes = tuple(Tap(one.tap, one.op, None, one.dtype, depth=one.depth) for one in records)
    edges = tuple((before, after) for whose, before, after in graph.edges if whose == model)
    feeders: dict[str, list[str]] = {}
    for before, after in Graph(nodes, edges).contract(taps):
        feeders.setdefault(after, []).append(before)
    inputs = inputs_of(graph, model)
    place = {tap: number for number, tap in enumerate(taps)}
    pairs = []
    for number, tap in enumerate(taps):
        ahead = sorted(feeders.get(tap, []), key=place.__getitem__)
        if not ahead and number > 0 and tap not in inputs:
            ahead = [taps[number - 1]]
        pairs += [(one, tap) for one in ahead]
    return pairs


def compare_neighbours(
    graph: GraphRecord, probes: Sequence[ProbeResult], predictions: Predictions, asked: Mapping[str, Asked]
) -> list[PairedRecord]:
    """Return the paired differences of neighbouring taps of each curve, with Holm's p among the pairs of the curve.

    A pair of several curves, as two vectors are, has one record; its p is the largest of them. A bootstrap has as many
    draws as the longest curve needs, see :func:`probekit.statistics.means.enough_draws`; its interval tells them.
    Differences of squared errors become those of R² through the variance of the test rows; where that is 0 there are
    none.

    Args:
        graph: of the result.
        probes: in depth order.
        predictions: of the run.
        asked: by factor.
    """
    groups: dict[tuple[str | None, ...], list[ProbeResult]] = {}
    for probe in probes:
        groups.setdefault((probe.model, probe.checkpoint, probe.factor, probe.probe), []).append(probe)
    records = []
    for group in groups.values():
        model, one = group[0].model, asked[group[0].factor]
        if not one.defined:
            continue
        families: list[list[ProbePair]] = []
        for curve in curves_of(group, inputs_of(graph, model)).values():
            by_tap = {probe.tap: probe for probe in curve}
            families.append([(by_tap[a], by_tap[b]) for a, b in neighbours(graph, model, list(by_tap))])
        pairs = {_whose(pair): pair for family in families for pair in family}
        differences = _differences(list(pairs.values()), max(map(len, families)), predictions, one)
        found = dict(zip(pairs, differences, strict=True))
        adjusted = dict.fromkeys(pairs, 0.0)
        for family in families:
            for pair, p in zip(family, holm([found[_whose(pair)].p for pair in family]), strict=True):
                adjusted[_whose(pair)] = max(adjusted[_whose(pair)], p)
        records += [_step(pair, found[whose], adjusted[whose], one) for whose, pair in pairs.items()]
    return records


def _whose(pair: ProbePair) -> tuple[ProbeIdentity, ProbeIdentity]:
    return identity_of(pair[0]), identity_of(pair[1])


def _step(pair: ProbePair, found: PairedDifference, p_adjusted: float, asked: Asked) -> PairedRecord:
    before, after = pair
    return PairedRecord(
        **identity_of(after).model_dump(exclude={"tap"}),
        before=before.tap,
        before_reduction=before.reduction,
        after=after.tap,
        metric=after.primary,
        difference=found.difference,
        interval=IntervalRecord.of(found.interval, asked.over),
        test=found.test,
        p=found.p,
        p_adjusted=p_adjusted,
        only_before_wrong=found.only_first,
        only_after_wrong=found.only_second,
        n=found.n,
    )


def _differences(
    pairs: Sequence[ProbePair], longest: int, predictions: Predictions, asked: Asked
) -> Sequence[PairedDifference]:
    """Compare probes on the test rows, all with the same draws, which are enough for the longest curve."""
    seed, draws = pairs[0][0].seed if pairs else 0, enough_draws(longest)
    said, whose = predictions.predicted, (_whose(pair) for pair in pairs)
    measured = ((asked.measured(said[one]), asked.measured(said[other])) for one, other in whose)
    return asked.compare(measured, seed, draws)


class _Gain(NamedTuple):
    """What a probe gains over chance on the test rows."""

    probe: ProbeResult
    mean: float
    interval: Interval | None
    p: float


def find_information(
    result: RunResult, probes: Sequence[ProbeResult], predictions: Predictions, asked: Mapping[str, Asked]
) -> list[InformationRecord]:
    """Return, for each probe, whether there is any information about its factor; Holm's p among the taps.

    The taps of one model, checkpoint, factor and probe are one family, under all reductions. A probe whose losses are
    not finite has no record.

    The gain estimates the predictive V-information of Xu et al. 2020 (section 2), V being the linear probes.

    Args:
        result: whose baselines tell whether an error is better than chance.
        probes: in depth order.
        predictions: of the run.
        asked: by factor.
    """
    families: dict[tuple[str | None, ...], list[ProbeResult]] = {}
    for probe in probes:
        families.setdefault((probe.model, probe.checkpoint, probe.factor, probe.probe), []).append(probe)
    records = {}
    for family in families.values():
        one = asked[family[0].factor]
        gains, chance = _gains(family, predictions, one), float(one.chance.mean())
        for found, p in zip(gains, holm([gain.p for gain in gains]), strict=True):
            probe = found.probe
            records[identity_of(probe)] = InformationRecord(
                **probe.place(),
                answer=_answer(found, p, chance, better=_surely_better(result, probe, predictions.first_test)),
                gain=found.mean,
                of_chance=found.mean / chance,
                interval=IntervalRecord.of(found.interval, one.over),
                p=found.p,
                p_adjusted=p,
            )
    return [records[whose] for probe in probes if (whose := identity_of(probe)) in records]


def _gains(probes: Sequence[ProbeResult], predictions: Predictions, asked: Asked) -> list[_Gain]:
    """Return what each probe gains, where that is finite; all of them from the same bootstrap draws of whole units."""

    def gains(probe: ProbeResult) -> Array:
        return asked.gains(predictions.losses[identity_of(probe)][asked.rows])

    finite = [probe for probe in probes if np.isfinite(gains(probe)).all()]
    draws = enough_draws(len(probes), sides=1)
    tests = one_sided_batch(map(gains, finite), asked.units, probes[0].seed, draws)
    return [_Gain(probe, *test) for probe, test in zip(finite, tests, strict=True)]


def _answer(found: _Gain, p_adjusted: float, chance: float, *, better: bool) -> Literal["yes", "no", "cannot_tell"]:
    if p_adjusted < SIGNIFICANT and found.mean >= RESOLUTION * chance:
        return "yes"
    if found.interval is None or found.interval.high >= NEGLIGIBLE * chance or better:
        return "cannot_tell"
    return "no"


def _surely_better(result: RunResult, probe: ProbeResult, split: str) -> bool:
    """Return whether the whole interval of the test score is better than the baseline.

    Such a probe reads something, however poor its probabilities are.
    """
    baseline = result.baseline(probe.factor)
    interval = probe.intervals.get(probe.primary, {}).get(split)
    if interval is None:
        return probe.beats(baseline)
    return interval.low > baseline if probe.primary == "r2" else interval.high < baseline
