"""What a run's predictions say, row by row: how neighbouring taps differ, and which taps tell anything of a factor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from probekit.components import Graph, Tap
from probekit.contrasts import contrast
from probekit.controlling import compare_twins, spread_over_seeds
from probekit.predictions import identity_of
from probekit.results import InformationRecord, IntervalRecord, PairedRecord
from probekit.spec.splits import TRAIN
from probekit.statistics.multiple import SIGNIFICANT, holm
from probekit.statistics.paired import enough_draws, one_sided_batch, paired_errors_batch, paired_values_batch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components import Array, IntArray, Task
    from probekit.predictions import Predictions
    from probekit.results import GraphRecord, ProbeResult, RunResult
    from probekit.statistics.intervals import Interval
    from probekit.statistics.paired import PairedDifference

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
    asked = {factor: _asked(predictions, factor) for factor in dict.fromkeys(one.factor for one in probes)}
    comparisons = compare_neighbours(result.graph, probes, predictions, asked)
    information = find_information(result, probes, predictions, asked)
    others = {
        "contrasts": contrast(result, predictions, asked),
        "twins": compare_twins(result, predictions, asked),
        "spreads": spread_over_seeds(result),
    }
    return result.model_copy(update={"comparisons": comparisons, "information": information, **others})


@dataclass(frozen=True)
class Asked:
    """What a factor asks of the test rows, and what knowing the training labels alone loses there.

    Args:
        task: what is asked of a row.
        rows: shape (test rows,), the labelled rows of the first test split.
        codes: their labels, shape (test rows,) or (test rows, labels).
        units: shape (test rows,), the independent unit of each.
        over: what the units are: ``examples`` or ``groups``.
        chance: shape (test rows,): -log of the class's share among the training labels, in nats; of yes/no labels the
            sum over them; of a number its squared distance from the training mean, as a share of their variance.
        scale: what a probe's losses are divided by: the variance of the training labels of a number, else 1.
    """

    task: Task
    rows: IntArray
    codes: Array
    units: IntArray
    over: str
    chance: Array
    scale: float = 1.0

    def gains(self, losses: Array) -> Array:
        """Return by how much a probe loses less than chance, shape (test rows,).

        Args:
            losses: of these rows, as :class:`Predictions` has them.
        """
        own = losses.astype(np.float64)
        return self.chance - (own.sum(axis=1) if own.ndim == 2 else own) / self.scale


def _asked(predictions: Predictions, factor: str) -> Asked:
    task, every = predictions.task(factor), predictions.codes(factor)
    rows = predictions.rows(predictions.first_test, factor)
    codes, train = every[rows], every[predictions.rows(TRAIN, factor)]
    scale = 1.0
    if task == "number":
        train = train.astype(np.float64)
        scale = float(train.var())
        chance = (codes.astype(np.float64) - train.mean()) ** 2 / scale
    elif task == "multilabel":
        yes = train.mean(axis=0, dtype=np.float64)
        chance = -np.log(np.where(codes == 1, yes, 1 - yes)).sum(axis=1)
    else:
        shares = np.bincount(train, minlength=int(every.max()) + 1) / len(train)
        chance = -np.log(shares[codes])
    return Asked(task, rows, codes, predictions.units[rows], predictions.over, chance, scale)


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
    inputs = {one.tap for one in records if one.op == "Input"}
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
    """Return the paired differences of neighbouring taps, Holm's p among the pairs of one group.

    A group has one model, checkpoint, reduction, factor and probe. A bootstrap has as many draws as a group of so many
    pairs needs, see :func:`probekit.statistics.paired.enough_draws`; its interval tells them.

    Args:
        graph: of the result.
        probes: in depth order.
        predictions: of the run.
        asked: by factor.
    """
    groups: dict[tuple[str | None, ...], list[ProbeResult]] = {}
    for probe in probes:
        key = (probe.model, probe.checkpoint, probe.reduction, probe.factor, probe.probe)
        groups.setdefault(key, []).append(probe)
    records = []
    for group in groups.values():
        by_tap = {probe.tap: probe for probe in group}
        pairs = [(by_tap[a], by_tap[b]) for a, b in neighbours(graph, group[0].model, list(by_tap))]
        one = asked[group[0].factor]
        found = _differences(pairs, predictions, one)
        adjusted = holm([difference.p for difference in found])
        for (before, after), difference, p in zip(pairs, found, adjusted, strict=True):
            records.append(
                PairedRecord(
                    model=after.model,
                    checkpoint=after.checkpoint,
                    reduction=after.reduction,
                    factor=after.factor,
                    probe=after.probe,
                    control=after.control,
                    seed=after.seed,
                    before=before.tap,
                    after=after.tap,
                    metric="squared_error" if one.task == "number" else "error",
                    difference=difference.difference,
                    interval=_record(difference.interval, one.over),
                    test=difference.test,
                    p=difference.p,
                    p_adjusted=p,
                    only_before_wrong=difference.only_first,
                    only_after_wrong=difference.only_second,
                    n=difference.n,
                )
            )
    return records


def _differences(
    pairs: Sequence[tuple[ProbeResult, ProbeResult]], predictions: Predictions, asked: Asked
) -> list[PairedDifference]:
    """Compare probes on the test rows, all with the same draws."""
    seed, draws = pairs[0][0].seed if pairs else 0, enough_draws(len(pairs))
    whose = [(identity_of(before), identity_of(after)) for before, after in pairs]
    if asked.task == "number":
        squares = ((predictions.losses[one][asked.rows], predictions.losses[other][asked.rows]) for one, other in whose)
        return paired_values_batch(squares, asked.units, seed, draws)
    said = predictions.predicted
    wrong = ((said[one][asked.rows] != asked.codes, said[other][asked.rows] != asked.codes) for one, other in whose)
    return paired_errors_batch(wrong, asked.units, seed, draws)


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
                interval=_record(found.interval, one.over),
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


def _record(interval: Interval | None, over: str) -> IntervalRecord | None:
    return None if interval is None else IntervalRecord(**asdict(interval), over=over)
