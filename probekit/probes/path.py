"""The path of λ: which are tried, which is chosen on the valid rows, when the path grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from probekit.components import PathPoint
from probekit.probes.target_heads import ValidScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Array, FeatureMatrix
    from probekit.probes.axes import Axes
    from probekit.probes.head import Head
    from probekit.probes.standardise import Standardiser
    from probekit.probes.target_heads import TargetHeads

    End = Literal["smallest", "largest"]

PENALTY_PATH = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
"""The λ that ``penalty: auto`` tries first."""
GROWTH = 2
"""How many λ, each ten times further, a path grows by at most."""
_LOGITS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Choice:
    """The λ that was chosen for one answer.

    Args:
        place: of the chosen head among the answer's heads.
        scores: of all its heads on the valid rows.
        end: at which end of the path the chosen λ lies; None inside, and where there is no path or λ changes nothing.
        grow: at which end the path is too short: where the chosen or the best λ lies at it; None where at none.
    """

    place: int
    scores: ValidScores
    end: End | None
    grow: End | None


def choose(
    heads: Sequence[Head], scores: ValidScores, by: Literal["cross_entropy", "error"], *, one_standard_error: bool
) -> Choice:
    """Choose among the proven heads, or among all where none is; ties go to the larger λ.

    Args:
        heads: of one answer.
        scores: of each.
        by: what the best one makes smallest.
        one_standard_error: take the largest λ whose score is within one standard error of the best one's (Breiman et
            al., Classification and Regression Trees, 1984, section 3.4.3).
    """
    order = sorted(range(len(heads)), key=lambda place: -heads[place].penalty)
    able = [place for place in order if heads[place].reason is None] or order
    value, spread = (scores.loss, scores.loss_spread) if by == "cross_entropy" else (scores.error, scores.error_spread)
    best = chosen = min(able, key=lambda place: float(value[place]))
    if one_standard_error:
        chosen = next(place for place in able if value[place] <= value[best] + spread[best])
    if len(np.unique(value)) == 1:
        return Choice(chosen, scores, None, None)
    ends: dict[int, End] = {order[0]: "largest", order[-1]: "smallest"}
    # One standard error is counted from the best λ: that one must lie inside first.
    return Choice(chosen, scores, ends.get(chosen), ends.get(best) or ends.get(chosen))


def too_short(labels: Sequence[str], choices: Sequence[Choice]) -> tuple[str, ...]:
    """Return what is to be said of paths whose best λ lies at the end while a larger one was chosen.

    Args:
        labels: of the choices, where they are of yes/no labels; else none.
        choices: of a target's answers.
    """
    text = (
        "the best λ on valid is the smallest of its path, so that a better one may lie beyond; the chosen one is "
        "within a standard error of it"
    )
    whose = [f"{label}: " for label in labels] or [""]
    return tuple(
        f"{who}{text}"
        for who, choice in zip(whose, choices, strict=True)
        if choice.grow == "smallest" and choice.end != "smallest"
    )


def further(tried: Sequence[float], end: End) -> float:
    """Return the λ ten times beyond an end of the path.

    >>> further([1.0, 1e-5], "smallest"), further([1.0, 1e-5], "largest")
    (1e-06, 10.0)
    """
    beyond = min(tried) / 10 if end == "smallest" else max(tried) * 10
    return float(f"{beyond:.12g}")


def score_on_valid(
    questions: Sequence[TargetHeads], features: FeatureMatrix, axes: Axes, scale: Standardiser, at_once: int
) -> list[list[ValidScores]]:
    """Score all heads of all answers, reading each valid row once for all targets that have the same ones.

    Args:
        questions: with their heads.
        features: of all rows.
        axes: that the heads' weights are for.
        scale: standardises features.
        at_once: rows that are read at a time at most.

    Returns:
        the scores of each question's answers.
    """
    found: list[list[ValidScores]] = [[] for _ in questions]
    shared: dict[bytes, list[int]] = {}
    for number, question in enumerate(questions):
        shared.setdefault(question.scorable().tobytes(), []).append(number)
    for members in shared.values():
        rows = questions[members[0]].scorable()
        stacked, bias = _stacked([questions[number] for number in members], axes)
        sums: dict[tuple[int, int], Array] = {}
        step = min(at_once, max(256, _LOGITS_AT_ONCE // len(stacked)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            block = torch.from_numpy(scale(features.read(part)))
            logits = torch.addmm(bias.unsqueeze(1), stacked, block.T).numpy()
            top = 0
            for number in members:
                question = questions[number]
                for answer, heads in enumerate(question.heads):
                    size = len(heads) * question.answers[answer].columns
                    own = logits[top : top + size].reshape(len(heads), -1, len(part))
                    top += size
                    loss, error = question.score(own, answer, part)
                    moments = np.stack([one.sum(axis=1) for one in (loss, loss**2, error, error**2)])
                    sums[number, answer] = sums.get((number, answer), 0) + moments
        for number in members:
            found[number] = [
                _scores(sums[number, answer], len(rows)) for answer in range(len(questions[number].answers))
            ]
    return found


def _stacked(questions: Sequence[TargetHeads], axes: Axes) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights of all heads for standardised features, and their biases, in float32."""
    every = [head for question in questions for heads in question.heads for head in heads]
    return (
        torch.cat([axes.back(head.weights).float() for head in every]),
        torch.cat([head.bias.float() for head in every]),
    )


def _scores(sums: Array, count: int) -> ValidScores:
    loss, squares, error, error_squares = sums / count

    def spread(mean: Array, square: Array) -> Array:
        return np.asarray(np.sqrt(np.maximum(square - mean**2, 0) / max(count - 1, 1)))

    return ValidScores(loss, error, spread(loss, squares), spread(error, error_squares))


def path_points(question: TargetHeads, choices: Sequence[Choice]) -> tuple[PathPoint, ...]:
    """Return every λ that was tried, the largest first; of yes/no labels the means over those that tried it."""
    tried: dict[float, list[tuple[Head, float, float]]] = {}
    for heads, choice in zip(question.heads, choices, strict=True):
        for head, loss, error in zip(heads, choice.scores.loss, choice.scores.error, strict=True):
            tried.setdefault(question.penalty(head), []).append((head, float(loss), float(error)))
    return tuple(
        PathPoint(
            penalty=penalty,
            objective=float(np.mean([head.objective for head, _, _ in some])),
            gap=float(np.mean([head.gap for head, _, _ in some])),
            status="proven" if all(head.reason is None for head, _, _ in some) else "missed",
            valid_loss=float(np.mean([loss for _, loss, _ in some])),
            valid_error=None if question.target.task == "number" else float(np.mean([error for _, _, error in some])),
        )
        for penalty, some in sorted(tried.items(), reverse=True)
    )
