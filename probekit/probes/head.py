"""One head: one λ of one target, and what is known of its optimum."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from probekit.probes.axes import Axes
    from probekit.probes.losses import Answers

_LEAST_OBJECTIVE = 0.01


@dataclass
class Head:
    """One λ of one target, and what is known of its optimum.

    Args:
        answers: what its target asks.
        penalty: λ, above 0.
        goal: the bound, in nats, at which it is proven; it is done at as small a share of its objective.
        weights: shape (columns, axes), float64, in the coordinates of the axes; from where it begins, then the best.
        bias: shape (columns,), float64.
        chance: the mean loss of the best probe without weights; nan: it is done where it is proven.
        objective: in nats.
        lower: largest lower bound on the optimum, in nats.
        gap: upper bound on objective - optimum, in nats.
        last_gap: of the last proof, in nats.
        passes: over X in which it took part.
        arithmetic: of the products that it was iterated with.
        reason: why it is not done; None where it is.
        solved: whether its weights are a closed form's.
    """

    answers: Answers
    penalty: float
    goal: float
    weights: Tensor
    bias: Tensor
    chance: float = math.nan
    objective: float = math.inf
    lower: float = -math.inf
    gap: float = math.inf
    last_gap: float = math.inf
    passes: float = 0.0
    arithmetic: list[str] = field(default_factory=list)
    reason: str | None = None
    solved: bool = False

    @property
    def done(self) -> bool:
        """Whether its bound is within its goal."""
        return self.gap <= self.goal_at(self.objective)

    def goal_at(self, objective: float) -> float:
        """Return the bound, in nats, at which the head is done with such an objective.

        Where labels are read off almost without loss, a bound that is small beside chance is large beside the
        objective, and which λ is best would depend on where the fits stopped.
        """
        if math.isnan(self.chance) or not math.isfinite(objective):
            return self.goal
        return self.goal * min(max(objective / self.chance, _LEAST_OBJECTIVE), 1.0)


def start_head(answers: Answers, penalty: float, goal: float, axes: Axes, chance: float = math.nan) -> Head:
    """Return a head without weights."""
    weights = torch.zeros(answers.columns, axes.X.shape[1], dtype=torch.float64)
    return Head(answers, penalty, goal, weights, answers.start(), chance)
