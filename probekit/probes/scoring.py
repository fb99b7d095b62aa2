"""From what a probe gives for every row to its scores, intervals, predictions and losses, whatever is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from probekit.probes.intervals import r2_interval
from probekit.probes.metrics import losses, score_all, score_labels, score_numbers, yes_no_losses
from probekit.spec.splits import TRAIN, VALID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from probekit.components import Array, FittedProbe, FloatArray, IntArray, Target
    from probekit.probes.intervals import Interval

BySplit = dict[str, dict[str, float]]
"""Metric to split to value."""


@dataclass(frozen=True)
class Scored:
    """What is known of one probe's predictions.

    Args:
        scores: metric to split to value.
        predicted: of every feature row: its class, shape (rows,); 1 or 0 of each yes/no label, (rows, labels); a
            number, (rows,).
        losses: of every feature row, NaN without a label: nats, shape (rows,); of yes/no labels (rows, labels); of a
            number the squared error.
        by_label: each yes/no label's scores, by its name.
        intervals: metric to test split to interval.
    """

    scores: BySplit
    predicted: Array
    losses: Array
    by_label: dict[str, BySplit] = field(default_factory=dict)
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)


def score_target(logits: FloatArray, target: Target, rows: Mapping[str, IntArray], units: IntArray) -> Scored:
    """Score what a probe gives for every feature row.

    Args:
        logits: shape (feature rows, outputs).
        target: what was asked.
        rows: the labelled feature rows of each split.
        units: shape (feature rows,), the independent unit of each row: its example or group.
    """
    known = np.flatnonzero(target.known())
    if target.task == "number":
        predicted = logits[:, 0]
        scores, intervals = score_number(predicted, target, rows, units)
        loss = (predicted.astype(np.float64) - target.codes) ** 2
        return Scored(scores, predicted, loss, intervals=intervals)
    if target.task == "multilabel":
        pairs = {split: score_labels(logits[part], target.codes[part], target.classes) for split, part in rows.items()}
        by_label = {
            name: by_metric({split: labels[name] for split, (_, labels) in pairs.items()}) for name in target.classes
        }
        loss = np.full(logits.shape, np.nan)
        loss[known] = yes_no_losses(logits[known], target.codes[known])
        scores = by_metric({split: whole for split, (whole, _) in pairs.items()})
        return Scored(scores, (logits > 0).astype(np.int64), loss, by_label)
    scores = by_metric({split: score_all(logits[part], target.codes[part]) for split, part in rows.items()})
    loss = np.full(len(logits), np.nan)
    loss[known] = losses(logits[known], target.codes[known])
    return Scored(scores, logits.argmax(axis=1), loss)


def score_number(
    predicted: Array, target: Target, rows: Mapping[str, IntArray], units: IntArray
) -> tuple[BySplit, dict[str, dict[str, Interval]]]:
    """Return the scores of predicted numbers, shape (feature rows,), and the intervals of R² on the test splits."""
    scores = by_metric({split: score_numbers(predicted[part], target.codes[part]) for split, part in rows.items()})
    found = {
        split: r2_interval(predicted[part], target.codes[part], units[part], target.seed)
        for split, part in rows.items()
        if split not in {TRAIN, VALID}
    }
    intervals = {split: one for split, one in found.items() if one is not None}
    return scores, {"r2": intervals} if intervals else {}


def label_penalties(fitted: FittedProbe, target: Target) -> dict[str, float | None]:
    """Return the λ of each yes/no label by its name; empty where that is not what is asked."""
    if target.task != "multilabel":
        return {}
    told = () if fitted.facts is None else fitted.facts.label_penalties
    return dict(zip(target.classes, told or (fitted.penalty,) * len(target.classes), strict=True))


def remarks(fitted: FittedProbe, target: Target, probe: str) -> Iterator[str]:
    """Give what the reader should know of a fit: a certificate that was missed, a best λ at the end of its path.

    Args:
        fitted: the probe.
        target: what it was asked.
        probe: its name in the spec.
    """
    facts, gap = fitted.facts, fitted.certificate.gap
    if fitted.certificate.status == "missed":
        unit = "nats" if target.task != "number" else "of the variance"
        bound = "" if gap is None else f" (bound {gap:.1e} {unit})"
        reason = "" if facts is None or facts.reason is None else f": {facts.reason}"
        yield f"is not proven to be at its optimum{bound}{reason}; it is not ranked"
    chosen = [one for one in (fitted.penalty, *(facts.label_penalties if facts else ())) if one is not None]
    if facts is not None and facts.end is not None and chosen:
        end, step = (min(chosen), 0.1) if facts.end == "smallest" else (max(chosen), 10.0)
        further = ", ".join(f"{end * step**power:.3g}" for power in range(3))
        grown = f", to which {facts.grown} were added" if facts.grown else ""
        yield (
            f"chose λ = {end:.3g}, the {facts.end} of its path{grown}; a better one may lie beyond: "
            f"give the probe {probe!r} penalty: [{further}]"
        )


def by_metric(by_split: Mapping[str, Mapping[str, float]]) -> BySplit:
    """Turn split to metric to value around."""
    metrics = next(iter(by_split.values()))
    return {metric: {split: scores[metric] for split, scores in by_split.items()} for metric in metrics}
