"""One fit for all targets that have the same training rows, until each path of λ is long enough."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probekit.components import FitFacts, FitProgress
from probekit.probes.axes import Axes
from probekit.probes.closed_form import ClosedForm
from probekit.probes.design import Streamed, hold, is_worth_holding
from probekit.probes.engine import minimise
from probekit.probes.fitted import FittedLinear
from probekit.probes.head import start_head
from probekit.probes.memory import job_of, plan_memory, room
from probekit.probes.path import GROWTH, choose, further, path_points, score_on_valid, too_short
from probekit.probes.standardise import Standardiser
from probekit.probes.target_heads import TargetHeads, heads_asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from probekit.components import FeatureMatrix, FitContext, Target
    from probekit.probes.design import Design
    from probekit.probes.head import Head
    from probekit.probes.linear import LinearProbe
    from probekit.probes.losses import Answers
    from probekit.probes.memory import MemoryPlan
    from probekit.probes.path import Choice

    Wanted = dict[tuple[int, int], list[float]]

_SECONDS_BETWEEN = 0.2
"""Of two reports of progress."""


@dataclass(frozen=True)
class Rows:
    """Training rows, made ready.

    Args:
        scale: standardises features.
        X: the standardised rows, for proofs.
        axes: of them.
        plan: what is held.
    """

    scale: Standardiser
    X: Design
    axes: Axes
    plan: MemoryPlan


class JointFit:
    """The heads of several targets while they are fitted.

    Args:
        probe: with its options.
        features: shape (rows, features).
        targets: with the same training rows.
        context: memory and progress.
        device: where rows lie.
    """

    def __init__(
        self,
        probe: LinearProbe,
        features: FeatureMatrix,
        targets: Sequence[Target],
        context: FitContext,
        device: torch.device,
    ) -> None:
        self.probe, self.features, self.context, self.device = probe, features, context, device
        self.questions = [TargetHeads(target) for target in targets]
        self._answers = [(n, a) for n, question in enumerate(self.questions) for a in range(len(question.answers))]
        self._closed_form: ClosedForm | None = None
        self._began = time.monotonic()
        self._told = -math.inf

    def run(self) -> list[FittedLinear]:
        """Return the fitted probe of each target."""
        rows = self._prepare()
        wanted: Wanted = {answer: self.probe.penalties() for answer in self._answers}
        grown = dict.fromkeys(wanted, 0)
        while wanted:
            self._minimise(rows, wanted)
            choices = self._choices(rows)
            wanted = self._growth(choices, grown)
        self._tell((), math.nan)
        return [self._fitted(rows, number, choices[number], grown) for number in range(len(self.questions))]

    def _prepare(self) -> Rows:
        train, penalties = self.questions[0].target.train, self.probe.penalties()
        smallest = min(penalties) / (10**GROWTH if self.probe.penalty == "auto" else 1)
        asked = [one for question in self.questions for one in heads_asked(question.target)]
        job = job_of(len(train), self.features.shape[1], asked, self.probe.longest_path())
        may_hold = is_worth_holding(self.features, self.device)
        plan = plan_memory(job, room(self.device, self.context.memory), may_hold=may_hold)
        scale = Standardiser(self.features, train)
        source = Streamed(self.features, train, scale, self.device, plan.at_once)
        held = hold(source) if plan.hold else source
        # A residual's mean square is at most twice the cross-entropy, so that axes with eigenvalues of this sum in all
        # move the bound by at most a twentieth of the tolerance at the smallest λ.
        chance = min(share for question in self.questions for share in question.chance)
        axes = Axes(held, 0.05 * self.probe.tolerance * smallest * min(chance, 1.0))
        return Rows(scale, held, axes, plan)

    def _minimise(self, rows: Rows, wanted: Wanted) -> None:
        """Add heads of the wanted λ to each answer and minimise them, as many together as memory allows."""
        new: list[tuple[Head, list[Head]]] = []
        for (number, answer), penalties in wanted.items():
            question = self.questions[number]
            goal = self.probe.tolerance * question.chance[answer]
            before = list(question.heads[answer])
            for penalty in penalties:
                own, chance = penalty * question.factor_of_penalty, question.chance[answer]
                head = start_head(question.answers[answer], own, goal, rows.axes, chance)
                question.heads[answer].append(head)
                new.append((head, before))
        new.sort(key=lambda pair: -pair[0].penalty)
        start = 0
        while start < len(new):
            stop, columns = start, 0
            while stop < len(new) and (stop == start or columns + new[stop][0].answers.columns <= rows.plan.columns):
                head, before = new[stop]
                columns += head.answers.columns
                if before:  # a path goes on from the nearest λ that is there
                    near = min(before, key=lambda one: abs(math.log(one.penalty / head.penalty)))
                    head.weights, head.bias = near.weights, near.bias
                stop += 1
            some = [head for head, _ in new[start:stop]]
            numbers = [head for head in some if head.answers.loss.exact_curvature]
            if numbers and rows.plan.gram:
                self._closed_form = self._closed_form or ClosedForm(rows.X, self._numbers())
                self._closed_form.put_at_optimum(numbers)
            minimise(
                rows.X, rows.axes, some, self.probe.max_passes, self.probe.arithmetic, self._tell, rows.plan.history,
                rows.plan.known_rows,
            )  # fmt: skip
            for head, before in new[start:stop]:
                before.append(head)
            start = stop

    def _numbers(self) -> list[Answers]:
        return [one for question in self.questions for one in question.answers if one.loss.exact_curvature]

    def _tell(self, heads: Sequence[Head], worst: float) -> None:
        now = time.monotonic()
        if heads and now - self._told < _SECONDS_BETWEEN:
            return
        self._told = now
        every = [head for question in self.questions for some in question.heads for head in some]
        done = sum(head.done or head.reason is not None for head in every)
        passes = max(head.passes for head in heads or every)
        self.context.tell(FitProgress(done, len(every), worst if math.isfinite(worst) else None, int(passes)))

    def _choices(self, rows: Rows) -> list[list[Choice]]:
        """Return the choice of each question's answers."""
        scores = score_on_valid(self.questions, self.features, rows.axes, rows.scale, rows.plan.at_once)
        by, rule = self.probe.choose_by, self.probe.one_standard_error
        return [
            [choose(heads, one, by, one_standard_error=rule) for heads, one in zip(question.heads, found, strict=True)]
            for question, found in zip(self.questions, scores, strict=True)
        ]

    def _growth(self, choices: Sequence[Sequence[Choice]], grown: dict[tuple[int, int], int]) -> Wanted:
        """Return the λ that are to be tried beyond the ends where the best ones lie."""
        wanted: Wanted = {}
        if self.probe.penalty != "auto":
            return wanted
        for number, answer in self._answers:
            end = choices[number][answer].grow
            if end is not None and grown[number, answer] < GROWTH:
                grown[number, answer] += 1
                question = self.questions[number]
                wanted[number, answer] = [further([question.penalty(head) for head in question.heads[answer]], end)]
        return wanted

    def _fitted(
        self, rows: Rows, number: int, choices: Sequence[Choice], grown: dict[tuple[int, int], int]
    ) -> FittedLinear:
        question = self.questions[number]
        chosen = [heads[choice.place] for heads, choice in zip(question.heads, choices, strict=True)]
        penalties = tuple(question.penalty(head) for head in chosen)
        ends = {choice.end for choice in choices} - {None}
        every = [head for heads in question.heads for head in heads]
        labels = question.target.classes if question.target.task == "multilabel" else ()
        facts = FitFacts(
            path=path_points(question, choices),
            grown=max(grown[number, answer] for answer in range(len(choices))),
            end=None if not ends else "smallest" if "smallest" in ends else "largest",
            label_penalties=penalties if question.target.task == "multilabel" else (),
            heads=sum(len(heads) for one in self.questions for heads in one.heads),
            passes=round(max(head.passes for head in every)),
            preconditioner="gram" if all(head.solved for head in every) else rows.axes.kind,
            arithmetic=tuple(dict.fromkeys(name for head in every for name in head.arithmetic)),
            device=self.device.type,
            streamed=not rows.plan.hold,
            reason=question.reason(chosen),
            notes=(*question.left_out(), *too_short(labels, choices)),
        )
        return FittedLinear(
            question.linear(chosen, rows.axes, rows.scale),
            penalties[0] if len(set(penalties)) == 1 else None,
            float(np.mean([head.objective for head in chosen])),
            question.certificate(chosen, self.probe.tolerance),
            (time.monotonic() - self._began) / len(self.questions),
            facts,
        )
