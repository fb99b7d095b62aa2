"""Mini-batch gradient descent with momentum on the heads of one target, judged on the valid rows after each epoch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from probekit.components import Certificate, FitFacts, FitProgress, LinearMap, PathPoint
from probekit.errors import InputError, Problem
from probekit.probes.design import is_worth_holding
from probekit.probes.early import HALVINGS, LARGEST_RATE
from probekit.probes.fitted import FittedLinear
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES
from probekit.probes.memory import room
from probekit.probes.standardise import Standardiser, rows_at_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.components import Array, FeatureMatrix, FitContext, IntArray, Target
    from probekit.probes.early import EarlyStopping
    from probekit.probes.losses import Loss

_RUNS_OF_A_BLOCK = 64
_SHORTEST_RUN = 8
"""Rows; a stored matrix copies runs of as many as this at once."""
_LOGITS_AT_ONCE = 1 << 23
_SECONDS_BETWEEN = 0.2
"""Of two reports of progress."""


@dataclass(frozen=True)
class Asked:
    """A target as heads: one of classes or of a number, one for each yes/no label.

    Args:
        target: what is asked.
        loss: of a head.
        columns: logits of a head.
        valid: valid rows that can be judged.
        y: answers of the training rows, shape (heads, 1, rows).
        y_valid: of the valid rows.
        present: outputs of the target that have training rows.
        centre: what is added to a predicted number.
        scale: what a predicted number is multiplied with.
    """

    target: Target
    loss: Loss
    columns: int
    valid: IntArray
    y: Tensor
    y_valid: Tensor
    present: IntArray
    centre: float = 0.0
    scale: float = 1.0


def asked_of(target: Target, device: str) -> Asked:
    """Return what the valid rows can judge; :func:`fit_early` says what it raises."""
    train, valid, codes = target.train, target.valid, target.codes
    centre, scale, present = 0.0, 1.0, np.arange(target.outputs)
    y_train: Array
    y_valid: Array
    if target.task == "classes":
        # A class without training rows has no finite optimum: its bias would fall for ever.
        present, y = np.unique(codes[train], return_inverse=True)
        valid = valid[np.isin(codes[valid], present)]
        y_train, y_valid = y[None], np.searchsorted(present, codes[valid])[None]
        loss: Loss = SOFTMAX
    elif target.task == "multilabel":
        y_train, y_valid = codes[train].T.astype(np.float32), codes[valid].T.astype(np.float32)
        loss = LOGISTIC
    else:
        centre, scale = float(codes[train].mean()), float(codes[train].std()) or 1.0
        y_train, y_valid = (((codes[rows] - centre) / scale).astype(np.float32)[None] for rows in (train, valid))
        loss = SQUARES
    if not len(valid):
        what = f"no valid row has a label of {target.factor!r} that a training row has too; early stopping needs some"
        raise InputError(Problem("PK-L13", what, "give valid a larger share in splits", f"labels.{target.factor}"))
    answers = [torch.from_numpy(np.ascontiguousarray(part)).unsqueeze(1).to(device) for part in (y_train, y_valid)]
    columns = len(present) if target.task == "classes" else 1
    return Asked(target, loss, columns, valid, answers[0], answers[1], present, centre, scale)


class Rows:
    """Standardised rows: held, or read whenever they are asked for."""

    def __init__(
        self, features: FeatureMatrix, scale: Standardiser, rows: IntArray, device: torch.device, at_once: int
    ) -> None:
        self._features, self._scale, self._rows, self._device, self.at_once = features, scale, rows, device, at_once
        self._held: Tensor | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def hold(self) -> None:
        """Keep all rows."""
        held = torch.empty(len(self), self._features.shape[1], device=self._device)
        for start in range(0, len(self), self.at_once):
            held[start : start + self.at_once] = self.get(slice(start, start + self.at_once))
        self._held = held

    def get(self, places: IntArray | slice) -> Tensor:
        """Return the rows at these places of the list of rows, shape (places, features)."""
        if self._held is None:
            return torch.from_numpy(self._scale(self._features.read(self._rows[places]))).to(self._device)
        return self._held[places if isinstance(places, slice) else torch.from_numpy(places).to(self._device)]

    def shuffled(self, generator: torch.Generator) -> Iterator[tuple[Tensor, IntArray, Tensor]]:
        """Give all rows in blocks; of each block the rows, their places, and the random order to take them in."""
        count = len(self)
        run = max(_SHORTEST_RUN, self.at_once // _RUNS_OF_A_BLOCK)
        starts = torch.randperm(-(-count // run), generator=generator).numpy() * run
        order = (starts[:, None] + np.arange(run)).ravel()
        order = order[order < count]
        for first in range(0, count, self.at_once):
            places = np.sort(order[first : first + self.at_once])
            mixed = torch.randperm(len(places), generator=generator)
            yield self.get(places), places, mixed.to(self._device)


class Training:
    """The heads of a target while they are trained; the best parameters so far of each."""

    def __init__(
        self, features: FeatureMatrix, asked: Asked, options: EarlyStopping, context: FitContext, seed: int
    ) -> None:
        self.asked, self.options, self.context = asked, options, context
        self.seed = seed if options.seed is None else options.seed
        self.device = asked.y.device
        self.heads, self.columns, self.width = len(asked.y), asked.columns, features.shape[1]
        # A yes/no label is two classes, whose two rows of weights, -w/2 and w/2, share the penalty.
        self.penalty = options.penalty * (0.5 if asked.target.task == "multilabel" else 1.0)
        outputs = self.heads * self.columns
        at_once = min(rows_at_once(features), max(256, _LOGITS_AT_ONCE // outputs))
        at_once = max(1, at_once // options.batch_size) * options.batch_size
        self.scale = Standardiser(features, asked.target.train)
        self.train = Rows(features, self.scale, asked.target.train, self.device, at_once)
        self.valid = Rows(features, self.scale, asked.valid, self.device, at_once)
        needed = 4 * (len(self.train) + len(self.valid)) * self.width
        left = room(self.device, context.memory)
        self.held = is_worth_holding(features, self.device) and (left is None or needed <= left)
        if self.held:
            self.train.hold()
            self.valid.hold()
        self.W = torch.zeros(self.heads, self.columns, self.width, device=self.device)
        # Of a label with one answer only the best bias is infinite.
        most = float(np.log(2 * len(self.train)))
        starts = [asked.loss.start(y.view(-1).cpu(), asked.columns).clamp(-most, most) for y in asked.y]
        self.b = torch.stack(starts).to(torch.float32).to(self.device)
        self.best, _ = self._judge(self.valid, asked.y_valid, self.W, self.b)
        self.best_epoch = torch.zeros(self.heads, dtype=torch.int64)
        # Descent with momentum m is stable below 2 (1 + m) over the curvature, which is at most the trace of the Gram
        # matrix, 1 for each feature that varies, plus λ.
        auto = min(LARGEST_RATE, 2 / (max(1, int(np.isfinite(self.scale.scale).sum())) + self.penalty))
        self.rate = auto if options.learning_rate == "auto" else options.learning_rate
        self.halvings = 0
        self.epochs = 0
        self.ended = True
        self._told = float("-inf")

    def run(self) -> None:
        """Train until every head has stopped after an epoch that is better than its start."""
        todo = torch.arange(self.heads)
        for halvings in range(HALVINGS + 1):
            self.halvings = halvings
            self._descend(todo, self.rate / 2**halvings)
            todo = todo[self.best_epoch[todo] == 0]
            if not len(todo):
                break
        self._tell(self.heads)

    def _descend(self, todo: Tensor, rate: float) -> None:
        """Train some heads from the start until each has stopped."""
        options, here = self.options, todo.to(self.device)
        y, y_valid = self.asked.y[here], self.asked.y_valid[here]
        W, b = torch.zeros_like(self.W[here]), self.b[here].clone()
        steps = torch.zeros_like(W), torch.zeros_like(b)
        since, going = torch.zeros(len(todo), dtype=torch.int64), torch.ones(len(todo), dtype=torch.bool)
        generator = torch.Generator().manual_seed(self.seed)
        for epoch in range(1, options.max_epochs + 1):
            self._epoch((W, b), steps, y, rate, generator, self.heads - int(going.sum()))
            self.epochs += 1
            loss, _ = self._judge(self.valid, y_valid, W, b)
            going &= loss.isfinite()
            better = going & (loss < self.best[todo])
            if better.any():
                kept = todo[better]
                self.W[kept.to(self.device)], self.b[kept.to(self.device)] = W[better], b[better]
                self.best[kept], self.best_epoch[kept] = loss[better], epoch
            since = torch.where(better, 0, since + 1)
            going &= since < options.patience
            if not going.any():
                return
        self.ended = False

    def _epoch(
        self,
        parameters: tuple[Tensor, Tensor],
        steps: tuple[Tensor, Tensor],
        y: Tensor,
        rate: float,
        generator: torch.Generator,
        done: int,
    ) -> None:
        """Take one step per batch of the shuffled training rows."""
        options, outputs = self.options, len(y) * self.columns
        W, b = (part.view(outputs, -1) for part in parameters)
        step_W, step_b = (part.view(outputs, -1) for part in steps)
        for block, places, order in self.train.shuffled(generator):
            self._tell(done)
            answers = y[:, :, torch.from_numpy(places).to(self.device)]
            for start in range(0, len(order), options.batch_size):
                batch = order[start : start + options.batch_size]
                rows = block[batch]
                Z = torch.addmm(b, W, rows.T).view(len(y), self.columns, len(rows))
                self.asked.loss.residual(Z, answers[:, :, batch])
                residual = Z.view(outputs, len(rows))
                step_W.addmm_(residual, rows, beta=options.momentum, alpha=1 / len(rows))
                step_b.mul_(options.momentum).add_(residual.mean(dim=1, keepdim=True))
                if self.penalty:
                    step_W.add_(W, alpha=self.penalty)
                W.add_(step_W, alpha=-rate)
                b.add_(step_b, alpha=-rate)

    def _judge(self, rows: Rows, y: Tensor, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the share of wrong answers of each head over rows, shape (heads,), float64."""
        loss, wrong = torch.zeros(len(y), dtype=torch.float64), torch.zeros(len(y), dtype=torch.float64)
        for start in range(0, len(rows), rows.at_once):
            block, answers = rows.get(slice(start, start + rows.at_once)), y[:, :, start : start + rows.at_once]
            Z = torch.addmm(b.view(-1, 1), W.view(-1, self.width), block.T).view(len(y), self.columns, -1)
            said = Z.argmax(dim=1, keepdim=True) if self.columns > 1 else Z > 0
            loss += self.asked.loss.values(Z, answers).cpu().double().sum(dim=1)
            wrong += (said != answers).sum(dim=(1, 2)).cpu()
        return loss / len(rows), wrong / len(rows)

    def _tell(self, done: int) -> None:
        now = time.monotonic()
        if done == self.heads or now - self._told >= _SECONDS_BETWEEN:
            self._told = now
            self.context.tell(FitProgress(done, self.heads, None, self.epochs))

    def fitted(self, began: float) -> FittedLinear:
        """Return the best parameters in the features' own units, and how they were found."""
        asked, target, penalty = self.asked, self.asked.target, self.options.penalty
        loss, _ = self._judge(self.train, asked.y, self.W, self.b)
        W, b = self.W.cpu().double(), self.b.cpu().double()
        objective = float((loss + self.penalty / 2 * (W**2).sum(dim=(1, 2))).mean())
        own, bias = self.scale.fold(W.view(-1, self.width).numpy() * asked.scale, b.view(-1).numpy() * asked.scale)
        weights = np.zeros((target.outputs, self.width))
        all_bias = np.full(target.outputs, -np.inf)
        weights[asked.present], all_bias[asked.present] = own, bias + asked.centre
        valid_loss, wrong = self._judge(self.valid, asked.y_valid, self.W, self.b)
        number = target.task == "number"
        point = PathPoint(
            penalty=penalty,
            objective=objective,
            gap=None,
            status="not_applicable",
            valid_loss=float(valid_loss.mean()) * (2 if number else 1),
            valid_error=None if number else float(wrong.mean()),
        )
        facts = FitFacts(
            path=(point,),
            label_penalties=(penalty,) * self.heads if target.task == "multilabel" else (),
            heads=self.heads,
            passes=self.epochs,
            device=str(self.device),
            streamed=not self.held,
            notes=tuple(self._notes()),
        )
        seconds = time.monotonic() - began
        return FittedLinear(
            LinearMap(weights, all_bias), penalty, objective, Certificate("not_applicable"), seconds, facts
        )

    def _notes(self) -> Iterator[str]:
        """Say what the reader of a result should know of the training."""
        first, last = int(self.best_epoch.min()), int(self.best_epoch.max())
        yield f"best epoch {last}" if first == last else f"best epochs {first} to {last}"
        if not self.ended:
            yield f"stopped at {self.options.max_epochs} epochs"
        times = f"{'up to ' if self.heads > 1 else ''}{self.halvings} times"
        halved = f", halved {times} to {self.rate / 2**self.halvings:.3g}" if self.halvings else ""
        yield f"learning rate {self.rate:.3g}{halved}"
        if not first:
            yield "no epoch better than no weights"
