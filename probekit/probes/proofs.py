"""Proofs of heads where they stand, as many together as memory allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from probekit.probes.certificate import Claim, prove
from probekit.probes.metric import SampledHessian
from probekit.probes.newton import newton_direction, newton_flops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from probekit.probes.axes import Axes
    from probekit.probes.design import Design
    from probekit.probes.head import Head
    from probekit.probes.looks import Ends
    from probekit.probes.stack import Heads

_PLAIN_ENOUGH, _MANY_COLUMNS = 0.5, 128
_NEWTON_FLOPS_A_PROOF = 1e9
_PROOF_VALUES = 1 << 27
_NARROW_DUAL_FLOPS = 1e9


@dataclass(frozen=True)
class Place:
    """Where a head is proven, in the axes' coordinates.

    Args:
        weights: float64.
        bias: float64.
        dual: the step to the dual point, of W and of the bias; None for none.
        goal: the bound that is aimed at, in nats.
    """

    weights: Tensor
    bias: Tensor
    dual: tuple[Tensor, Tensor] | None
    goal: float


class Proofs:
    """Proves heads of a fit.

    Args:
        X: shape (rows, features): the rows that bounds are proven on.
        axes: of X; parameters are in their coordinates.
        heads: of the fit; each keeps the best that was proven of it.
    """

    def __init__(self, X: Design, axes: Axes, heads: Sequence[Head]) -> None:
        self._X, self._axes, self._heads = X, axes, heads

    def of_groups(self, groups: Sequence[Heads], ends: Sequence[Ends]) -> None:
        """Prove the chosen heads of all groups where they stand."""
        numbers, places = [], []
        for heads, end in zip(groups, ends, strict=True):
            for place in torch.nonzero(end.mask).flatten().tolist():
                numbers.append(int(heads.number[place]))
                places.append(self._place(heads, place, end))
        self.at(numbers, places)

    def at(self, numbers: Sequence[int], places: Sequence[Place]) -> None:
        """Prove heads at some parameters and keep what is better than what they have.

        Args:
            numbers: of the heads.
            places: of each.
        """
        columns = max((len(place.weights) for place in places), default=1)
        at_once = max(1, _PROOF_VALUES // (len(self._X) * columns))
        for first in range(0, len(numbers), at_once):
            some = list(zip(numbers, places, strict=True))[first : first + at_once]
            claims = [self._claim(self._heads[number], place) for number, place in some]
            for (number, place), proof in zip(some, prove(self._X, claims), strict=True):
                head = self._heads[number]
                head.last_gap = proof.gap
                # Every proof bounds the one optimum from below, wherever it was made.
                head.lower = max(head.lower, proof.objective - proof.gap)
                if proof.objective < head.objective:
                    head.weights, head.bias, head.objective = place.weights, proof.bias, proof.objective
                head.gap = max(head.objective - head.lower, 0.0)

    def _place(self, heads: Heads, place: int, end: Ends) -> Place:
        """Return where a head is proven."""
        head = self._heads[int(heads.number[place])]
        W, b = heads.W[place].cpu().double(), heads.b[place].cpu().double()
        goal = head.goal_at(float(heads.objective[place]))
        if isinstance(heads.metric, SampledHessian) and bool(W.isfinite().all()):
            # A step to where the gradient would vanish: a dual point as good as the metric is.
            step = -heads.metric(heads.gradient)[place].cpu().double()
            return Place(W, b, (step[:, :-1], step[:, -1]), goal)
        if newton_flops(self._axes.X, head.answers) <= _NEWTON_FLOPS_A_PROOF and bool(W.isfinite().all()):
            step, _ = newton_direction(self._axes.X, head.answers, torch.cat([W, b.unsqueeze(1)], dim=1), head.penalty)
            if bool(step.isfinite().all()):
                return Place(W, b, (-step[:, :-1], -step[:, -1]), goal)
        enough = heads.columns > _MANY_COLUMNS and float(end.plain[place]) <= _PLAIN_ENOUGH * goal
        return Place(W, b, None if end.steps is None or enough else heads.dual_step(place, end.steps[place]), goal)

    def _claim(self, head: Head, place: Place) -> Claim:
        dual, dual_bias = (None, None) if place.dual is None else (self._axes.back(place.dual[0]), place.dual[1])
        if dual is not None and 2 * self._X.numel() * len(dual) >= _NARROW_DUAL_FLOPS:
            dual = dual.float()
        return Claim(
            head.answers, head.penalty, self._axes.back(place.weights), place.bias, dual, dual_bias, place.goal
        )
