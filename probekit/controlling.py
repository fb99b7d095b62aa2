"""Probes of the true labels on other features: of another model, or of another draw of a random reduction."""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np

from probekit.components import REDUCTION_SEED
from probekit.predictions import identity_of, label_name
from probekit.results import IntervalRecord, SpreadRecord, TwinRecord
from probekit.statistics.means import enough_draws
from probekit.statistics.multiple import holm
from probekit.statistics.paired import paired_values_batch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.asked import Asked
    from probekit.components import Array
    from probekit.predictions import Predictions
    from probekit.results import ProbeResult, RunResult
    from probekit.statistics.paired import PairedDifference

Pair = tuple["ProbeResult", list["ProbeResult"]]
"""A probe on the model's own features, and those on other ones, one a seed."""


def compare_twins(result: RunResult, predictions: Predictions, asked: Mapping[str, Asked]) -> list[TwinRecord]:
    """Return how a model differs from each other one in its place, Holm's p among the taps.

    Probes that are not proven to be at their optimum are compared, but have no part in Holm's method.
    Of one draw: McNemar's exact test of the errors, and Newcombe's interval. Of several: the paired bootstrap of each
    row's error and its mean over the draws. R² is compared by the squared errors, over the same variance; where that is
    0 there is no record.

    Args:
        result: of the run.
        predictions: of the run.
        asked: by factor; see :class:`probekit.asked.Asked`.
    """
    own = [one for one in result.probes if one.control is None]
    families: dict[tuple[str | None, ...], list[Pair]] = {}
    for control, drawn in _of_other_models(result, predictions).items():
        for probe in own:
            # Another model stands for all checkpoints, and has none.
            place = (probe.model, probe.tap, probe.reduction, probe.factor, probe.probe)
            if place in drawn and probe.factor in asked and asked[probe.factor].defined:
                key = (probe.model, probe.checkpoint, probe.factor, probe.probe, control)
                families.setdefault(key, []).append((probe, drawn[place]))
    records = {}
    for pairs in families.values():
        one = asked[pairs[0][0].factor]
        judged = [not _any_missed([probe, *twins]) for probe, twins in pairs]
        found = _differences(pairs, predictions, one, enough_draws(sum(judged)))
        adjusted = iter(holm([each.p for each, counts in zip(found, judged, strict=True) if counts]))
        for (probe, twins), difference, counts in zip(pairs, found, judged, strict=True):
            p = next(adjusted) if counts else None
            records[identity_of(probe), str(twins[0].control)] = _twin(probe, twins, difference, p, one)
    order = {identity_of(probe): number for number, probe in enumerate(own)}
    return [records[key] for key in sorted(records, key=lambda key: order[key[0]])]


def _of_other_models(
    result: RunResult, predictions: Predictions
) -> dict[str, dict[tuple[str, str, str, str, str], list[ProbeResult]]]:
    """Return, by control and place, the probes of the true labels on other models' features, one a seed."""
    found: dict[str, dict[tuple[str, str, str, str, str], list[ProbeResult]]] = {}
    for one in result.probes:
        if one.control in {None, REDUCTION_SEED}:
            continue
        if label_name(one.factor, one.control, one.seed) in predictions.labels:
            continue
        place = (one.model, one.tap, one.reduction, one.factor, one.probe)
        found.setdefault(str(one.control), {}).setdefault(place, []).append(one)
    return found


def _differences(pairs: Sequence[Pair], predictions: Predictions, asked: Asked, draws: int) -> list[PairedDifference]:
    """Compare probes on the test rows: the model's own less the mean over the draws."""
    seed = pairs[0][0].seed

    def measured(probe: ProbeResult) -> Array:
        return asked.measured(predictions.predicted[identity_of(probe)])

    if all(len(twins) == 1 for _, twins in pairs):
        return asked.compare(((measured(twins[0]), measured(probe)) for probe, twins in pairs), seed, draws)
    means = (
        (np.mean([_of_row(measured(twin)) for twin in twins], axis=0), _of_row(measured(probe)))
        for probe, twins in pairs
    )
    return paired_values_batch(means, asked.units, seed, draws)


def _of_row(values: Array) -> Array:
    """Return one number a row: of yes/no labels the share of wrong answers."""
    return values.mean(axis=1) if values.ndim == 2 else values.astype(np.float64)


def _twin(
    probe: ProbeResult, twins: Sequence[ProbeResult], found: PairedDifference, p: float | None, asked: Asked
) -> TwinRecord:
    values = [twin.headline()["test"] for twin in twins]
    return TwinRecord(
        **probe.place(),
        control=str(twins[0].control),
        seeds=[twin.seed for twin in twins],
        metric=probe.primary,
        trained=probe.headline()["test"],
        twin=fmean(values),
        low=min(values),
        high=max(values),
        difference=found.difference,
        interval=IntervalRecord.of(found.interval, asked.over),
        test=found.test,
        p=found.p,
        p_adjusted=p,
        n=found.n,
        missed=_any_missed([probe, *twins]),
    )


def spread_over_seeds(result: RunResult) -> list[SpreadRecord]:
    """Return the test metric under all seeds of a random reduction, for every probe that was drawn more than once."""
    drawn: dict[tuple[str | None, ...], list[ProbeResult]] = {}
    for one in result.probes:
        if one.control == REDUCTION_SEED:
            drawn.setdefault(_place(one), []).append(one)
    first = result.provenance.get("seeds", {}).get("reductions", {})
    records = []
    for probe in result.probes:
        others = drawn.get(_place(probe), [])
        if probe.control is not None or not others:
            continue
        every = [probe, *others]
        values = [one.headline()["test"] for one in every]
        records.append(
            SpreadRecord(
                **probe.place(),
                metric=probe.primary,
                seeds=[first[probe.reduction][0], *(one.seed for one in others)],
                values=values,
                low=min(values),
                median=median(values),
                high=max(values),
                missed=_any_missed(every),
            )
        )
    return records


def _place(one: ProbeResult) -> tuple[str | None, ...]:
    return tuple(one.place().values())


def _any_missed(probes: Sequence[ProbeResult]) -> bool:
    return any(one.certificate.status == "missed" for one in probes)
