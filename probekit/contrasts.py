"""The pairs of probes that findings compare beside neighbouring taps, and probes against the model's own output."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from probekit.findings.auxiliary_head import branches
from probekit.findings.losing import ways
from probekit.findings.series import series_of
from probekit.predictions import OutputIdentity, identity_of
from probekit.results import ContrastRecord, IntervalRecord, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from probekit.asked import Asked
    from probekit.components import Array
    from probekit.findings.series import Series
    from probekit.predictions import Predictions
    from probekit.results import ProbeIdentity, RunResult
    from probekit.statistics.paired import PairedDifference

Pair = tuple[ProbeResult, ProbeResult | OutputIdentity]


def contrast(result: RunResult, predictions: Predictions, asked: Mapping[str, Asked]) -> list[ContrastRecord]:
    """Return how the pairs that findings compare differ on the test rows.

    Probes are chosen on valid and compared on test: McNemar's exact test of the errors, or the paired bootstrap; of
    numbers the bootstrap of squared errors, over the variance of the test labels.

    Args:
        result: of the run, with its comparisons.
        predictions: of the run.
        asked: by factor; see :class:`probekit.asked.Asked`.

    Raises:
        KeyError: a probe of the result has no predictions.
    """
    records: list[ContrastRecord] = []
    on_the_way: dict[tuple[str | None, ...], list[Pair]] = defaultdict(list)
    for pair in ways(result):
        on_the_way[_series_of(pair[0])].append(pair)
    for series in series_of(result):
        wanted = [*_pairs(series, predictions), *on_the_way[_series_of(series.probes[0])]]
        pairs = list({tuple(map(_whose, pair)): pair for pair in wanted}.values())
        if pairs and asked[series.factor].defined:
            one = asked[series.factor]
            found = _differences(pairs, predictions, one)
            records += [_record(*pair, each, one) for pair, each in zip(pairs, found, strict=True)]
    return records


def _series_of(probe: ProbeResult) -> tuple[str | None, ...]:
    return probe.model, probe.checkpoint, probe.factor, probe.probe


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


def _differences(pairs: Sequence[Pair], predictions: Predictions, asked: Asked) -> list[PairedDifference]:
    def measured(one: ProbeResult | OutputIdentity) -> Array:
        return asked.measured(predictions.predicted[_whose(one)])

    return asked.compare(((measured(other), measured(one)) for one, other in pairs), pairs[0][0].seed)


def _record(
    one: ProbeResult, other: ProbeResult | OutputIdentity, found: PairedDifference, asked: Asked
) -> ContrastRecord:
    return ContrastRecord(
        **one.place(),
        other_tap=other.tap if isinstance(other, ProbeResult) else None,
        other_reduction=other.reduction if isinstance(other, ProbeResult) else None,
        metric=one.primary,
        difference=found.difference,
        interval=IntervalRecord.of(found.interval, asked.over),
        test=found.test,
        p=found.p,
        n=found.n,
    )
