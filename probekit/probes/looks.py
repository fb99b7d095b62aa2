"""When heads that are iterated are looked at: a proof costs a pass in float64, so it is made where it may succeed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from probekit.probes.metric import SampledHessian
from probekit.probes.newton import is_newton_small

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from probekit.probes.axes import Axes
    from probekit.probes.head import Head
    from probekit.probes.stack import Heads

ROUGH = 3e-3
"""The bound, as a share of chance, down to which products may be of bfloat16."""
_ROUGH_BELOW = 1e-3
_SLACK = 1.0
_WAIT = 1
_SHARE_WAITING = 0.2
_REFINE_WITHIN = 200
_REFINE_EVERY = 3


@dataclass(frozen=True)
class Ends:
    """Heads of a group that are to be looked at.

    Args:
        mask: which, shape (heads,).
        last: which cannot go on as they are.
        stuck: which could not get lower, or have spent their passes.
        plain: each head's bound with Q = P, were its bias exact, in nats.
        bound: what its bound is thought to be, in nats.
        steps: coefficients of each head's dual step; None where none was sought.
    """

    mask: Tensor
    last: Tensor
    stuck: Tensor
    plain: Tensor
    bound: Tensor
    steps: Tensor | None


class Looks:
    """Which heads of a fit are to be looked at, as far as estimates of their bounds tell.

    Args:
        axes: that heads are iterated in.
        heads: of the fit.
        max_passes: in which a head may take part.
    """

    def __init__(self, axes: Axes, heads: Sequence[Head], max_passes: int) -> None:
        self._axes, self._heads, self._max_passes = axes, heads, max_passes
        self._slack, self._waited = [_SLACK] * len(heads), 0
        self.chance = [head.answers.chance() for head in heads]
        """Each head's mean loss without weights, in nats."""

    def ends(
        self, groups: Sequence[Heads], bounds: Sequence[Tensor], stuck: Sequence[Tensor], max_passes: int, rough: bool
    ) -> list[Ends]:
        """Return which heads of each group are to be looked at.

        Args:
            groups: of heads that are iterated.
            bounds: of each, as :meth:`Heads.bound` gives them.
            stuck: which of each could not get lower.
            max_passes: of this descent, for heads that Newton's method can finish.
            rough: whether products are of bfloat16.
        """
        found = []
        for heads, plain, still in zip(groups, bounds, stuck, strict=True):
            numbers = heads.number.tolist()
            now = heads.objective.tolist()
            near = [self._near(n, objective, rough) for n, objective in zip(numbers, now, strict=True)]
            goal = torch.tensor(near, dtype=torch.float64)
            most = [
                max_passes if is_newton_small(self._axes.X, self._heads[n].answers) else self._max_passes
                for n in numbers
            ]
            spent = torch.tensor([self._heads[n].passes >= limit for n, limit in zip(numbers, most, strict=True)])
            last = still | spent | ~plain.isfinite()
            bound, steps = (plain, None) if rough else self._refined(heads, plain, goal, last)
            found.append(Ends((bound <= goal) | last, last, still | spent, plain, bound, steps))
        return found

    def worth_a_proof(self, ends: Sequence[Ends]) -> bool:
        """Return whether enough heads wait for one: each costs a pass in float64, that those who wait share."""
        waiting = sum(int(end.mask.sum()) for end in ends)
        if not waiting:
            return False
        self._waited += 1
        last = any(bool(end.last.any()) for end in ends)
        if last or self._waited > _WAIT or waiting >= _SHARE_WAITING * sum(len(end.mask) for end in ends):
            self._waited = 0
            return True
        return False

    def learn(self, number: int, estimate: float) -> None:
        """Look again at a head when its estimate is as good as the last one turned out to be wrong.

        Args:
            number: of the head, which was proven.
            estimate: of its bound before, in nats.
        """
        off = self._heads[number].last_gap / max(estimate, 1e-300)
        self._slack[number] *= min(1 / 1.3, max(1 / 6, 0.9 / max(off * self._slack[number], 1e-300)))

    def _near(self, number: int, objective: float, rough: bool) -> float:
        """Return the bound at which a head is looked at."""
        head = self._heads[number]
        if rough:  # what rounding adds to the bound grows as λ falls
            return max(ROUGH * max(1.0, _ROUGH_BELOW / head.penalty) * self.chance[number], head.goal_at(objective))
        return self._slack[number] * head.goal_at(objective)

    @staticmethod
    def _refined(heads: Heads, plain: Tensor, goal: Tensor, last: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what a proof with a dual point of its own may reach, where it is time to look; and how to get there.

        Args:
            heads: of one loss and width.
            plain: each head's bound with Q = P.
            goal: the bounds at which they are looked at.
            last: which cannot go on.
        """
        if isinstance(heads.metric, SampledHessian):
            # The decrement is what is left where the metric is the Hessian; the geometric mean allows for the sample.
            decrement = heads.metric.squared_norm(heads.gradient).cpu().double().clamp_min(0) / 2
            return (decrement * plain).sqrt().minimum(plain), None
        # No proof without the better bound at hand, and every few steps a look whether it is near.
        look = bool((last | (plain <= goal)).any()) or (
            heads.steps % _REFINE_EVERY == 0 and bool((plain <= _REFINE_WITHIN * goal).any())
        )
        if not heads.order or not look:
            return plain, None
        near = last | (plain <= _REFINE_WITHIN * goal)
        refined, steps = heads.refined_bound(near)
        found = plain.clone()
        found[near] = torch.where(refined.isfinite(), refined.minimum(plain[near]), plain[near])
        coefficients = torch.zeros(len(heads), steps.shape[1], dtype=torch.float64)
        coefficients[near] = steps
        return found, coefficients
