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

from typing import TYPE_CHECKING

import torch

from probekit.probes.arithmetic import is_faster_rough, threads_for
from probekit.probes.descent import Descent
from probekit.probes.looks import Looks
from probekit.probes.newton import is_newton_small, newton_step
from probekit.probes.proofs import Place, Proofs
from probekit.probes.stack import LONGEST_HISTORY, Heads, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from probekit.probes.axes import Axes
    from probekit.probes.design import Design
    from probekit.probes.head import Head
    from probekit.probes.looks import Ends

_PASSES_BEFORE_NEWTON = 150


def minimise(
    X: Design,
    axes: Axes,
    heads: Sequence[Head],
    max_passes: int,
    arithmetic: str = "auto",
    tell: Callable[[Sequence[Head], float], None] | None = None,
    history: int = LONGEST_HISTORY,
    known_rows: int = 0,
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
        known_rows: of whose curvature each may be known by itself, at most.
    """
    columns = sum(head.answers.columns for head in heads)
    with threads_for(4 * axes.X.numel() * columns, axes.X.device):
        _Fit(X, axes, heads, max_passes, tell, history, known_rows).run(arithmetic)


def _joined(groups: Sequence[Heads]) -> list[Heads]:
    """Return the groups with those of one loss and width put together."""
    kinds: dict[tuple[str, int], list[Heads]] = {}
    for heads in groups:
        kinds.setdefault((heads.loss.name, heads.columns), []).append(heads)
    return [Heads.joined(some) for some in kinds.values()]


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
        known_rows: int,
    ) -> None:
        self.X, self.axes, self.heads, self.max_passes, self.tell = X, axes, heads, max_passes, tell
        self.history, self.known_rows = history, known_rows
        self.looks, self.proofs = Looks(axes, heads, max_passes), Proofs(X, axes, heads)

    def run(self, arithmetic: str) -> None:
        self._prove_solved()
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

    def _prove_solved(self) -> None:
        """Prove the heads that begin at a closed form, before rounding to float32 takes them off it."""
        solved = [number for number, head in enumerate(self.heads) if head.solved and not head.done]
        some = [self.heads[number] for number in solved]
        self.proofs.at(solved, [Place(head.weights, head.bias, None, head.goal_at(head.objective)) for head in some])

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
        descent = Descent(self.axes, dtype, groups, self.known_rows)
        descent.restart()
        name = str(dtype).removeprefix("torch.")
        for heads in groups:
            for number in heads.number.tolist():
                self.heads[number].arithmetic.append(name)
        before = 0.0
        stuck = [torch.zeros(len(heads), dtype=torch.bool) for heads in groups]
        while True:
            bounds = [heads.bound() for heads in descent.groups]
            self._count(descent, before, bounds)
            before = descent.passes
            ends = self.looks.ends(descent.groups, bounds, stuck, max_passes, rough)
            if rough or self.looks.worth_a_proof(ends):
                self._settle(descent, ends, parked if rough else None)
            if rough and not is_faster_rough(self.axes.X, sum(len(heads) * heads.columns for heads in descent.groups)):
                return parked + descent.groups
            if not descent.groups:
                return parked
            stuck = descent.step()

    def _count(self, descent: Descent, before: float, bounds: Sequence[Tensor]) -> None:
        """Add the passes since ``before`` to the heads that took part, and tell how far their bounds are."""
        worst = 0.0
        for heads, their in zip(descent.groups, bounds, strict=True):
            for number, bound in zip(heads.number.tolist(), their.tolist(), strict=True):
                head = self.heads[number]
                head.passes += descent.passes - before
                worst = max(worst, bound / self.looks.chance[number])
        if self.tell is not None:
            self.tell(self.heads, worst)

    def _settle(self, descent: Descent, ends: Sequence[Ends], parked: list[Heads] | None) -> None:
        """Prove the heads that may be done, and drop those that are or that cannot go on."""
        if parked is None:
            self.proofs.of_groups(descent.groups, ends)
        for heads, end in zip(descent.groups, ends, strict=True):
            leaving = end.mask.clone()
            if parked is not None:
                if leaving.any():
                    parked.append(heads.taken(leaving))
            else:
                for place in torch.nonzero(end.mask).flatten().tolist():
                    number = int(heads.number[place])
                    head = self.heads[number]
                    self.looks.learn(number, float(end.bound[place]))
                    leaving[place] = head.done or bool(end.stuck[place]) or head.passes >= self.max_passes
            if leaving.any():
                heads.keep(~leaving)
        descent.groups = [heads for heads in descent.groups if len(heads)]

    def _newton(self) -> None:
        """Finish the small heads by Newton's method with the whole Hessian, in float64."""
        for number, head in enumerate(self.heads):
            if head.done or head.passes >= self.max_passes or not is_newton_small(self.axes.X, head.answers):
                continue
            head.arithmetic.append("float64")
            W, b = head.weights, head.bias
            for _ in range(40):
                W, b, gained = newton_step(self.axes.X, head.answers, W, b, head.penalty)
                head.passes += 1
                self.proofs.at([number], [Place(W, b, None, head.goal_at(head.objective))])
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
