"""The fitting engine: all heads of a tap to their proven optima, in the same passes over X.

The objective of a head, for rows x of X with answers y, is

    f(W, b) = mean over rows of loss(W x + b, y) + (λ/2) ‖W‖²,  b unpenalised,

where the loss is the cross-entropy of a class or of a yes/no label, in nats, or half the squared error of a number.
Heads are minimised by L-BFGS whose initial inverse Hessian is the Kronecker model (S ⊗ G + λ)⁻¹, S the mean curvature
of the loss over the rows and G = XᵀX/N. Where the processor multiplies bfloat16 faster, the first iterations do, until
the bound is rough; float32 goes on; what float32's rounding stops goes on in float64, by Newton's method where that is
small. A head is done when its bound (see ``certificate``), evaluated in float64 on X itself, is within its goal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from probekit.probes.arithmetic import is_faster_rough, threads_for
from probekit.probes.certificate import Claim, prove
from probekit.probes.descent import Descent
from probekit.probes.metric import SampledHessian
from probekit.probes.newton import newton_direction, newton_step
from probekit.probes.stack import LONGEST_HISTORY, Heads, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from probekit.probes.axes import Axes
    from probekit.probes.design import Design
    from probekit.probes.head import Head

ROUGH = 3e-3
"""The bound, as a share of chance, down to which products may be of bfloat16."""
_ROUGH_BELOW = 1e-3
_SLACK = 1.0
_PLAIN_ENOUGH, _MANY_COLUMNS = 0.5, 128
_WAIT = 1
_SHARE_WAITING = 0.2
_REFINE_WITHIN = 200
_REFINE_EVERY = 3
_PASSES_BEFORE_NEWTON = 150
_NEWTON_UNKNOWNS = 704
_NEWTON_FLOPS, _NEWTON_FLOPS_A_PROOF = 6e9, 1e9
_PROOF_VALUES = 1 << 27
_NARROW_DUAL_FLOPS = 1e9


def minimise(
    X: Design,
    axes: Axes,
    heads: Sequence[Head],
    max_passes: int,
    arithmetic: str = "auto",
    tell: Callable[[Sequence[Head], float], None] | None = None,
    history: int = LONGEST_HISTORY,
) -> None:
    """Minimise all heads; each then holds the best that was found and its bound.

    Args:
        X: shape (rows, features): standardised training rows, on which bounds are proven.
        axes: of X.
        heads: what to minimise; those that are done stay as they are.
        max_passes: over X, in which a head may take part.
        arithmetic: ``auto`` as the module says; ``float32`` without bfloat16; ``float64`` from the beginning.
        tell: called after each pass with the heads and the largest share of chance by which one may be off.
        history: the most pairs that L-BFGS keeps.
    """
    columns = sum(head.answers.columns for head in heads)
    with threads_for(4 * axes.X.numel() * columns, axes.X.device):
        _Fit(X, axes, heads, max_passes, tell, history).run(arithmetic)


def _joined(groups: Sequence[Heads]) -> list[Heads]:
    """Return the groups with those of one loss and width put together."""
    kinds: dict[tuple[str, int], list[Heads]] = {}
    for heads in groups:
        kinds.setdefault((heads.loss.name, heads.columns), []).append(heads)
    return [Heads.joined(some) for some in kinds.values()]


@dataclass(frozen=True)
class _Place:
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


@dataclass(frozen=True)
class _Ends:
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


class _Fit:
    """The heads of one design, from the first iteration to the last proof."""

    def __init__(
        self,
        X: Design,
        axes: Axes,
        heads: Sequence[Head],
        max_passes: int,
        tell: Callable[[Sequence[Head], float], None] | None,
        history: int,
    ) -> None:
        self.history, self.waited = history, 0
        self.X, self.axes, self.heads, self.max_passes, self.tell = X, axes, heads, max_passes, tell
        self.slack = [_SLACK] * len(heads)
        self.chance = [head.answers.chance() for head in heads]

    def run(self, arithmetic: str) -> None:
        todo = [number for number, head in enumerate(self.heads) if not head.done]
        groups = self._groups(todo, torch.float64 if arithmetic == "float64" else torch.float32)
        if arithmetic == "auto" and is_faster_rough(self.axes.X, sum(self.heads[n].answers.columns for n in todo)):
            groups = _joined(self._descend(torch.bfloat16, groups, self.max_passes, rough=True))
            self.axes.X.release()
        if arithmetic != "float64":
            self._descend(torch.float32, groups, min(self.max_passes, _PASSES_BEFORE_NEWTON))
        else:
            self._descend(torch.float64, groups, self.max_passes)
        self._newton()
        left = [number for number in todo if not self.heads[number].done]
        wide = self.axes.X.device.type != "mps"
        able = [number for number in left if self.heads[number].passes < self.max_passes]
        if able and arithmetic != "float64" and wide:
            self._descend(torch.float64, self._groups(able, torch.float64), self.max_passes)
        for number in left:
            self._explain(self.heads[number])

    def _groups(self, numbers: Sequence[int], dtype: torch.dtype) -> list[Heads]:
        """Return the state of heads, those of one loss and width together."""
        kinds: dict[tuple[str, int], list[int]] = {}
        for number in numbers:
            answers = self.heads[number].answers
            kinds.setdefault((answers.loss.name, answers.columns), []).append(number)
        groups = []
        for members in kinds.values():
            asked = list({id(self.heads[n].answers): self.heads[n].answers for n in members}.values())
            places = {id(one): place for place, one in enumerate(asked)}
            start = Start(
                members, [self.heads[n].penalty for n in members], [places[id(self.heads[n].answers)] for n in members],
                asked, torch.stack([self.heads[n].weights for n in members]),
                torch.stack([self.heads[n].bias for n in members]),
            )  # fmt: skip
            groups.append(Heads(start, len(self.X), dtype, self.axes.X.device, self.history))
        return groups

    def _descend(self, dtype: torch.dtype, groups: list[Heads], max_passes: int, *, rough: bool = False) -> list[Heads]:
        """Iterate heads until each is proven (``rough``: nearly), stuck in rounding or out of passes.

        Returns:
            where ``rough``, the heads with their histories, for another dtype to go on.
        """
        parked: list[Heads] = []
        if not groups:
            return parked
        descent = Descent(self.axes, dtype, groups)
        descent.restart()
        name = str(dtype).removeprefix("torch.")
        for heads in groups:
            for number in heads.number.tolist():
                self.heads[number].arithmetic.append(name)
        before = 0.0
        stuck = [torch.zeros(len(heads), dtype=torch.bool) for heads in groups]
        while True:
            self._count(descent, before)
            before = descent.passes
            ends = self._ends(descent.groups, stuck, max_passes, rough)
            if rough or self._worth_a_proof(ends):
                self._settle(descent, ends, parked if rough else None)
            if rough and not is_faster_rough(self.axes.X, sum(len(heads) * heads.columns for heads in descent.groups)):
                return parked + descent.groups
            if not descent.groups:
                return parked
            stuck = descent.step()

    def _count(self, descent: Descent, before: float) -> None:
        """Add the passes since ``before`` to the heads that took part, and tell."""
        worst = 0.0
        for heads in descent.groups:
            bounds = heads.bound()
            for number, bound in zip(heads.number.tolist(), bounds.tolist(), strict=True):
                head = self.heads[number]
                head.passes += descent.passes - before
                worst = max(worst, bound / self.chance[number])
        if self.tell is not None:
            self.tell(self.heads, worst)

    def _ends(self, groups: Sequence[Heads], stuck: Sequence[Tensor], max_passes: int, rough: bool) -> list[_Ends]:
        """Return which heads of each group are to be looked at."""
        found = []
        for heads, still in zip(groups, stuck, strict=True):
            numbers = heads.number.tolist()
            now = heads.objective.tolist()
            near = [self._near(n, objective, rough) for n, objective in zip(numbers, now, strict=True)]
            goal = torch.tensor(near, dtype=torch.float64)
            most = [max_passes if self._newton_is_small(self.heads[n]) else self.max_passes for n in numbers]
            spent = torch.tensor([self.heads[n].passes >= limit for n, limit in zip(numbers, most, strict=True)])
            plain = bound = heads.bound()
            last = still | spent | ~bound.isfinite()
            bound, steps = (bound, None) if rough else self._refined(heads, bound, goal, last)
            found.append(_Ends((bound <= goal) | last, last, still | spent, plain, bound, steps))
        return found

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

    def _worth_a_proof(self, ends: Sequence[_Ends]) -> bool:
        """Return whether enough heads wait for one: each costs a pass in float64, that those who wait share."""
        waiting = sum(int(end.mask.sum()) for end in ends)
        if not waiting:
            return False
        self.waited += 1
        last = any(bool(end.last.any()) for end in ends)
        if last or self.waited > _WAIT or waiting >= _SHARE_WAITING * sum(len(end.mask) for end in ends):
            self.waited = 0
            return True
        return False

    def _near(self, number: int, objective: float, rough: bool) -> float:
        """Return the bound at which a head is looked at."""
        head = self.heads[number]
        if rough:  # what rounding adds to the bound grows as λ falls
            return max(ROUGH * max(1.0, _ROUGH_BELOW / head.penalty) * self.chance[number], head.goal_at(objective))
        return self.slack[number] * head.goal_at(objective)

    def _settle(self, descent: Descent, ends: Sequence[_Ends], parked: list[Heads] | None) -> None:
        """Prove the heads that may be done, and drop those that are or that cannot go on."""
        if parked is None:
            self._prove_all(descent.groups, ends)
        for heads, end in zip(descent.groups, ends, strict=True):
            leaving = end.mask.clone()
            if parked is not None:
                if leaving.any():
                    parked.append(heads.taken(leaving))
            else:
                for place in torch.nonzero(end.mask).flatten().tolist():
                    number = int(heads.number[place])
                    head = self.heads[number]
                    # How far the estimate was off says when to look again.
                    off = head.last_gap / max(float(end.bound[place]), 1e-300)
                    self.slack[number] *= min(1 / 1.3, max(1 / 6, 0.9 / max(off * self.slack[number], 1e-300)))
                    leaving[place] = head.done or bool(end.stuck[place]) or head.passes >= self.max_passes
            if leaving.any():
                heads.keep(~leaving)
        descent.groups = [heads for heads in descent.groups if len(heads)]

    def _prove_all(self, groups: Sequence[Heads], ends: Sequence[_Ends]) -> None:
        """Prove the chosen heads of all groups, as many together as memory allows."""
        numbers, places = [], []
        for heads, end in zip(groups, ends, strict=True):
            for place in torch.nonzero(end.mask).flatten().tolist():
                numbers.append(int(heads.number[place]))
                places.append(self._place(heads, place, end))
        self.prove(numbers, places)

    def _place(self, heads: Heads, place: int, end: _Ends) -> _Place:
        """Return where a head is proven."""
        head = self.heads[int(heads.number[place])]
        W, b = heads.W[place].cpu().double(), heads.b[place].cpu().double()
        goal = head.goal_at(float(heads.objective[place]))
        if isinstance(heads.metric, SampledHessian) and bool(W.isfinite().all()):
            # A step to where the gradient would vanish: a dual point as good as the metric is.
            step = -heads.metric(heads.gradient)[place].cpu().double()
            return _Place(W, b, (step[:, :-1], step[:, -1]), goal)
        if self._newton_flops(head) <= _NEWTON_FLOPS_A_PROOF and bool(W.isfinite().all()):
            step, _ = newton_direction(self.axes.X, head.answers, torch.cat([W, b.unsqueeze(1)], dim=1), head.penalty)
            if bool(step.isfinite().all()):
                return _Place(W, b, (-step[:, :-1], -step[:, -1]), goal)
        enough = heads.columns > _MANY_COLUMNS and float(end.plain[place]) <= _PLAIN_ENOUGH * goal
        return _Place(W, b, None if end.steps is None or enough else heads.dual_step(place, end.steps[place]), goal)

    def prove(self, numbers: Sequence[int], places: Sequence[_Place]) -> None:
        """Prove heads at some parameters and keep what is better than what they have.

        Args:
            numbers: of the heads.
            places: of each.
        """
        columns = max((len(place.weights) for place in places), default=1)
        at_once = max(1, _PROOF_VALUES // (len(self.X) * columns))
        for first in range(0, len(numbers), at_once):
            some = list(zip(numbers, places, strict=True))[first : first + at_once]
            claims = [self._claim(self.heads[number], place) for number, place in some]
            for (number, place), proof in zip(some, prove(self.X, claims), strict=True):
                head = self.heads[number]
                head.last_gap = proof.gap
                # Every proof bounds the one optimum from below, wherever it was made.
                head.lower = max(head.lower, proof.objective - proof.gap)
                if proof.objective < head.objective:
                    head.weights, head.bias, head.objective = place.weights, proof.bias, proof.objective
                head.gap = max(head.objective - head.lower, 0.0)

    def _claim(self, head: Head, place: _Place) -> Claim:
        dual, dual_bias = (None, None) if place.dual is None else (self.axes.back(place.dual[0]), place.dual[1])
        if dual is not None and 2 * self.X.numel() * len(dual) >= _NARROW_DUAL_FLOPS:
            dual = dual.float()
        return Claim(head.answers, head.penalty, self.axes.back(place.weights), place.bias, dual, dual_bias, place.goal)

    def _newton_is_small(self, head: Head) -> bool:
        if self.axes.X.device.type != "cpu":
            return False
        unknowns = head.answers.columns * (self.axes.X.shape[1] + 1)
        return unknowns <= _NEWTON_UNKNOWNS or self._newton_flops(head) <= _NEWTON_FLOPS

    def _newton_flops(self, head: Head) -> float:
        """Return the operations of one Newton step."""
        if self.axes.X.device.type != "cpu":
            return math.inf
        unknowns = head.answers.columns * (self.axes.X.shape[1] + 1)
        return 2.0 * len(self.X) * unknowns**2 + unknowns**3

    def _newton(self) -> None:
        """Finish the small heads by Newton's method with the whole Hessian, in float64."""
        for number, head in enumerate(self.heads):
            if head.done or head.passes >= self.max_passes or not self._newton_is_small(head):
                continue
            head.arithmetic.append("float64")
            W, b = head.weights, head.bias
            for _ in range(40):
                W, b, gained = newton_step(self.axes.X, head.answers, W, b, head.penalty)
                head.passes += 1
                self.prove([number], [_Place(W, b, None, head.goal_at(head.objective))])
                if head.done or not gained or head.passes >= self.max_passes:
                    break

    def _explain(self, head: Head) -> None:
        """Say why a head is not proven."""
        if head.gap <= head.goal:
            return
        condition = self.axes.condition(head.penalty)
        where = f"λ = {head.penalty:g}, condition number about {condition:.0e}"
        if head.passes >= self.max_passes:
            head.reason = f"the budget of {self.max_passes} passes was spent ({where})"
        else:
            head.reason = f"rounding stopped the fit ({where})"
