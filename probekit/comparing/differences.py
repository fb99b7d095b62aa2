"""Paired differences of probes, and of the models themselves, on the test rows that two runs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from probekit.comparing.alignment import names_in_common
from probekit.comparing.records import ModelDifference, ProbeDifference, ScoreDifference
from probekit.errors import InputError, Problem, listed
from probekit.judging import RESOLUTION
from probekit.predictions import identity_of
from probekit.results import IntervalRecord
from probekit.spec.splits import TRAIN
from probekit.statistics.means import TEST_DRAWS, enough_draws
from probekit.statistics.multiple import holm
from probekit.statistics.paired import paired_errors_batch, paired_values_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.comparing.alignment import Aligned
    from probekit.comparing.records import Which
    from probekit.comparing.rows import SharedRows
    from probekit.comparing.sides import Side
    from probekit.components import Array
    from probekit.predictions import OutputIdentity, Predictions
    from probekit.results import ProbeIdentity, ProbeResult
    from probekit.statistics.paired import PairedDifference


def probe_differences(
    first: Side, second: Side, taps: Sequence[Aligned], rows: SharedRows
) -> tuple[list[ProbeDifference], list[str]]:
    """Return the differences of one factor, Holm's p among the taps and reductions of one kind of probe.

    A probe that is not proven to be at its optimum does not count among them. A bootstrap has as many draws as its
    family needs, see :func:`probekit.statistics.paired.enough_draws`; the intervals tell them.

    Reductions and probes are paired by name, or where each run has only one and no name in common.

    Args:
        first: one side.
        second: the other.
        taps: aligned.
        rows: the factor's shared rows.

    Returns:
        the differences, by probe and then in the first's depth order, and what the reader should know of what was
        compared with what.

    Raises:
        InputError: ``PK-X33``, R² is undefined on the shared rows.
    """
    here, there = first.probes(rows.factor), second.probes(rows.factor)
    beside = {(one.tap, one.reduction, one.probe): one for one in there}
    aligned = {tap.first: tap for tap in taps}
    reductions = dict(names_in_common(*(_names([one.reduction for one in some]) for some in (here, there))))
    probes = dict(names_in_common(*(_names([one.probe for one in some]) for some in (here, there))))
    found: list[ProbeDifference] = []
    for name, other_name in probes.items():
        pairs = []
        for one in here:
            tap, reduction = aligned.get(one.tap), reductions.get(one.reduction)
            if one.probe == name and tap is not None and reduction is not None:
                other = beside.get((tap.second, reduction, other_name))
                pairs += [] if other is None else [(tap, one, other)]
        found += _family(first, second, pairs, rows)
    pairings = [*(("reduction", *pair) for pair in reductions.items()), *(("probe", *pair) for pair in probes.items())]
    notes = [f"the {what} {a!r} is compared with {b!r}" for what, a, b in pairings if a != b and found]
    compared, probed = {one.first.tap for one in found}, ({one.tap for one in here}, {one.tap for one in there})
    lost = [t.first for t in taps if t.first not in compared and t.first in probed[0] and t.second in probed[1]]
    if lost:
        notes.append(f"{rows.factor}: not compared, as reduction or probe have other names in each: {listed(lost)}")
    return found, notes


def _names(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _family(
    first: Side, second: Side, pairs: Sequence[tuple[Aligned, ProbeResult, ProbeResult]], rows: SharedRows
) -> list[ProbeDifference]:
    missed = [_missed(one, other) for _, one, other in pairs]
    judged = [not sides for sides in missed]
    draws = enough_draws(sum(judged))
    predicted = [_predicted(first, second, (identity_of(one), identity_of(other)), rows) for _, one, other in pairs]
    scores, losses = _primary(predicted, rows, draws), _losses(first, second, pairs, rows, draws)
    adjusted = zip(_adjusted(scores, judged), _adjusted(losses, judged), strict=True)
    return [
        ProbeDifference(
            first=identity_of(one), second=identity_of(other), aligned=tap.how, task=rows.task,
            score=score.model_copy(update={"p_adjusted": p}),
            loss=None if loss is None else loss.model_copy(update={"p_adjusted": p_of_loss}), missed=sides,
        )
        for (tap, one, other), score, loss, (p, p_of_loss), sides in zip(
            pairs, scores, losses, adjusted, missed, strict=True
        )
    ]  # fmt: skip


def _missed(one: ProbeResult, other: ProbeResult) -> list[Which]:
    """Return the sides whose probe is not proven to be at its optimum."""
    sides: tuple[tuple[Which, ProbeResult], ...] = (("first", one), ("second", other))
    return [which for which, probe in sides if probe.certificate.status == "missed"]


def _adjusted(scores: Sequence[ScoreDifference | None], judged: Sequence[bool]) -> list[float | None]:
    """Return Holm's p of each among those that are judged; None of the others."""
    family = [one.p for one, counts in zip(scores, judged, strict=True) if one is not None and counts]
    adjusted = iter(holm(family))
    return [next(adjusted) if one is not None and counts else None for one, counts in zip(scores, judged, strict=True)]


def model_difference(first: Side, second: Side, rows: SharedRows) -> ModelDifference | None:
    """Return the difference of the models' own predictions, None unless both made some.

    Raises:
        InputError: ``PK-X33``, R² is undefined on the shared rows.
    """
    one, other = first.own(rows.factor), second.own(rows.factor)
    if one is None or other is None:
        return None
    (score,) = _primary([_predicted(first, second, (one, other), rows)], rows)
    return ModelDifference(
        factor=rows.factor, task=rows.task, first_output=one.output, second_output=other.output, score=score
    )


def _predicted(
    first: Side,
    second: Side,
    whose: tuple[ProbeIdentity | OutputIdentity, ProbeIdentity | OutputIdentity],
    rows: SharedRows,
) -> tuple[Array, Array]:
    """Return what each side predicts for the shared rows."""
    ones, others = first.run.predictions.predicted[whose[0]], second.run.predictions.predicted[whose[1]]
    return ones[rows.first], others[rows.second]


def _primary(
    predicted: Sequence[tuple[Array, Array]], rows: SharedRows, draws: int = TEST_DRAWS
) -> list[ScoreDifference]:
    """Return the differences of the primary metric from what each side predicts for the shared rows.

    The R² of both sides has the variance of the same numbers below it, which is taken as it is: the bootstrap is of
    the squared errors.
    """
    if rows.task == "number":
        numbers = rows.first_codes.astype(np.float64)
        spread = float(numbers.var())
        if not spread > 0:
            what = f"the {len(numbers):,} shared rows have one and the same {rows.factor!r}, so that R² is undefined"
            raise InputError(Problem("PK-X33", what, "compare runs that share more rows, or other factors"))
        explained = [
            (1 - (ones - numbers) ** 2 / spread, 1 - (others - numbers) ** 2 / spread) for ones, others in predicted
        ]
        return [
            _record(found, "r2", [float(each.mean()) for each in pair], rows)
            for pair, found in zip(explained, paired_values_batch(explained, rows.units, draws=draws), strict=True)
        ]
    wrong = [(ones != rows.first_codes, others != rows.second_codes) for ones, others in predicted]
    return [
        _record(found, "error", [float(each.mean()) for each in pair], rows)
        for pair, found in zip(wrong, paired_errors_batch(wrong, rows.units, draws=draws), strict=True)
    ]


def _losses(
    first: Side, second: Side, pairs: Sequence[tuple[Aligned, ProbeResult, ProbeResult]], rows: SharedRows, draws: int
) -> list[ScoreDifference | None]:
    """Return the differences of the cross-entropy; None of a number, and where it is not finite."""
    if rows.task == "number":
        return [None] * len(pairs)
    ones, others = first.run.predictions.losses, second.run.predictions.losses
    whose = [(identity_of(one), identity_of(other)) for _, one, other in pairs]

    def nats(one: ProbeIdentity, other: ProbeIdentity) -> tuple[Array, Array]:
        return _nats(ones[one][rows.first]), _nats(others[other][rows.second])

    means = [[float(each.mean()) for each in nats(*pair)] for pair in whose]
    finite = [pair for pair, both in zip(whose, means, strict=True) if np.isfinite(both).all()]
    found = iter(paired_values_batch((nats(*pair) for pair in finite), rows.units, draws=draws))
    resolution = RESOLUTION * max(_entropy(side.run.predictions, rows.factor) for side in (first, second))
    return [
        _record(next(found), "cross_entropy", both, rows, resolution=resolution) if np.isfinite(both).all() else None
        for both in means
    ]


def _entropy(predictions: Predictions, factor: str) -> float:
    """Return the entropy of the training labels in nats, of yes/no labels the sum over them."""
    from scipy.special import entr

    codes = predictions.codes(factor)[predictions.rows(TRAIN, factor)]
    columns = codes.reshape(len(codes), -1).T
    return sum(float(entr(np.unique(column, return_counts=True)[1] / len(column)).sum()) for column in columns)


def _nats(losses: Array) -> Array:
    """Return each row's loss, of yes/no labels the sum over them, shape (rows,)."""
    return losses.sum(axis=1, dtype=np.float64) if losses.ndim == 2 else losses.astype(np.float64)


def _record(
    found: PairedDifference,
    metric: Literal["error", "r2", "cross_entropy"],
    values: Sequence[float],
    rows: SharedRows,
    resolution: float = 0.0,
) -> ScoreDifference:
    """Return a paired difference as a record, its p not yet adjusted.

    Args:
        found: of what was paired.
        metric: whose difference it is.
        values: of the metric, on each side.
        rows: what the interval is over.
        resolution: a difference up to this is not judged.
    """
    return ScoreDifference(
        metric=metric, first=values[0], second=values[1], difference=found.difference,
        interval=IntervalRecord.of(found.interval, rows.over), test=found.test, p=found.p, p_adjusted=found.p,
        only_first_wrong=found.only_first, only_second_wrong=found.only_second, n=found.n, resolution=resolution,
    )  # fmt: skip
