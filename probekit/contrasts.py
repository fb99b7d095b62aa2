"""The pairs of probes that findings compare beside neighbouring taps, and probes against the model's own output."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from probekit.findings.auxiliary_head import branches
from probekit.findings.series import series_of
from probekit.predictions import OutputIdentity, identity_of
from probekit.results import ContrastRecord, IntervalRecord, ProbeResult
from probekit.statistics.paired import paired_errors_batch, paired_values_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from probekit.components import Array
    from probekit.findings.series import Series
    from probekit.judging import Asked
    from probekit.predictions import Predictions
    from probekit.results import ProbeIdentity, RunResult
    from probekit.statistics.paired import PairedDifference

Pair = tuple[ProbeResult, ProbeResult | OutputIdentity]


def contrast(result: RunResult, predictions: Predictions, asked: Mapping[str, Asked]) -> list[ContrastRecord]:
    """Return how the pairs that findings compare differ on the test rows.

    Probes are chosen on valid and compared on test: McNemar's exact test of the errors, or the paired bootstrap; of
    numbers the bootstrap of squared errors, over the variance of the test labels.

    Args:
        result: of the run.
        predictions: of the run.
        asked: by factor; see :class:`probekit.judging.Asked`.

    Raises:
        KeyError: a probe of the result has no predictions.
    """
    records: list[ContrastRecord] = []
    for series in series_of(result):
        pairs = list({tuple(map(_whose, pair)): pair for pair in _pairs(series, predictions)}.values())
        if pairs:
            one = asked[series.factor]
            found = _differences(pairs, predictions, one)
            records += [_record(*pair, each, one) for pair, each in zip(pairs, found, strict=True) if each is not None]
    return records


def _pairs(series: Series, predictions: Predictions) -> Iterator[Pair]:
    """Give the best probe with the model's input and output, then each side branch with the main one."""
    best, given = series.best, series.best_at(series.paths.inputs)
    if best is not None:
        if given is not None and given is not best:
            yield best, given
        for whose in predictions.predicted:
            place = (best.model, best.checkpoint, best.factor)
            if isinstance(whose, OutputIdentity) and (whose.model, whose.checkpoint, whose.factor) == place:
                yield best, whose
    for branch in branches(series):
        yield branch.head, branch.beside
        if branch.last is not None and branch.last is not branch.beside:
            yield branch.head, branch.last


def _whose(one: ProbeResult | OutputIdentity) -> ProbeIdentity | OutputIdentity:
    return one if isinstance(one, OutputIdentity) else identity_of(one)


def _differences(
    pairs: Sequence[Pair], predictions: Predictions, asked: Asked
) -> Sequence[PairedDifference] | Sequence[None]:
    def predicted(one: ProbeResult | OutputIdentity) -> Array:
        return predictions.predicted[_whose(one)][asked.rows]

    def lost(one: ProbeResult | OutputIdentity) -> Array:
        """Squared errors, or which answers are wrong."""
        if asked.task != "number":
            return np.asarray(predicted(one) != asked.codes)
        return np.asarray((predicted(one).astype(np.float64) - asked.codes.astype(np.float64)) ** 2)

    if asked.task == "number" and not asked.codes.astype(np.float64).var():
        return [None] * len(pairs)
    compare = paired_values_batch if asked.task == "number" else paired_errors_batch
    return compare(((lost(other), lost(one)) for one, other in pairs), asked.units, pairs[0][0].seed)


def _record(
    one: ProbeResult, other: ProbeResult | OutputIdentity, found: PairedDifference, asked: Asked
) -> ContrastRecord:
    scale = -1 / float(asked.codes.astype(np.float64).var()) if asked.task == "number" else 1.0
    interval = None
    if found.interval is not None:
        low, high = sorted(scale * end for end in (found.interval.low, found.interval.high))
        interval = IntervalRecord(**{**asdict(found.interval), "low": low, "high": high}, over=asked.over)
    return ContrastRecord(
        **one.place(),
        other_tap=other.tap if isinstance(other, ProbeResult) else None,
        other_reduction=other.reduction if isinstance(other, ProbeResult) else None,
        metric=one.primary,
        difference=scale * found.difference,
        interval=interval,
        test=found.test,
        p=found.p,
        n=found.n,
    )
