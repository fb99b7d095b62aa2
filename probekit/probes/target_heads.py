"""What one target asks of the fitting engine, and what it makes of the heads that come back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from probekit.components import Certificate, LinearMap
from probekit.errors import InputError, Problem, listed
from probekit.probes.losses import LOGISTIC, SOFTMAX, SQUARES, Answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Array, FloatArray, Target
    from probekit.probes.axes import Axes
    from probekit.probes.head import Head
    from probekit.probes.standardise import Standardiser


@dataclass(frozen=True)
class ValidScores:
    """How heads do on the valid rows, one entry a head.

    Args:
        loss: mean loss.
        error: share of wrong predictions; of a number, its mean squared error again.
        loss_spread: standard error of the mean loss.
        error_spread: standard error of the error.
    """

    loss: Array
    error: Array
    loss_spread: Array
    error_spread: Array


def heads_asked(target: Target) -> list[tuple[str, int]]:
    """Return the loss and the columns of one head of each answer of a target."""
    if target.task == "number":
        return [(SQUARES.name, 1)]
    if target.task == "multilabel":
        return [(LOGISTIC.name, 1)] * len(target.classes)
    present = len(np.unique(target.codes[target.train]))
    return [(SOFTMAX.name, present) if present != 2 else (LOGISTIC.name, 1)]


@dataclass
class TargetHeads:
    """One target as problems of the engine: one for classes or a number, one for each yes/no label.

    Two classes are one logit: with W = (-w/2, w/2), (λ/2)‖W‖² is (λ/4)‖w‖². So is a yes/no label.

    Args:
        target: what is asked.

    Raises:
        InputError: ``PK-L01``, the training rows have one class, one answer to a yes/no label, or one number;
            ``PK-L13``, no valid row can be scored.
    """

    target: Target
    answers: list[Answers] = field(init=False)
    chance: list[float] = field(init=False)
    heads: list[list[Head]] = field(init=False)

    def __post_init__(self) -> None:
        codes = self.target.codes[self.target.train]
        self.mean, self.deviation = 0.0, 1.0
        if self.target.task == "multilabel":
            self.answers = [Answers(LOGISTIC, torch.from_numpy(column.astype(np.float64))) for column in codes.T]
        elif self.target.task == "number":
            self.mean, self.deviation = float(codes.mean()), float(codes.std()) or 1.0
            self.answers = [Answers(SQUARES, torch.from_numpy((codes - self.mean) / self.deviation))]
        else:
            # A class without training examples has no finite optimum: its bias would fall for ever.
            self.present, y = np.unique(codes, return_inverse=True)
            if len(self.present) == 2:
                self.answers = [Answers(LOGISTIC, torch.from_numpy(y.astype(np.float64)))]
            else:
                self.answers = [Answers(SOFTMAX, torch.from_numpy(y), len(self.present))]
        self.chance = [one.chance() for one in self.answers]
        self.heads = [[] for _ in self.answers]
        self._check()

    def _check(self) -> None:
        place = f"labels.{self.target.factor}"
        same = [label for label, share in zip(self.target.classes, self.chance, strict=False) if not share > 0]
        if not all(share > 0 for share in self.chance):
            which = f" of {listed(same)}" if self.target.task == "multilabel" else ""
            what = f"the training rows have one answer only{which}; nothing is asked"
            raise InputError(Problem("PK-L01", what, "leave it out, or take more training examples", place))
        if not len(self.scorable()):
            what = f"no valid row has a label of {self.target.factor!r} that a training row has too"
            raise InputError(Problem("PK-L13", what, "give valid a larger share in splits", place))

    @property
    def factor_of_penalty(self) -> float:
        """What the engine's λ is, as a share of the spec's."""
        return 0.5 if self.answers[0].loss is LOGISTIC else 1.0

    def penalty(self, head: Head) -> float:
        """Return the spec's λ of a head."""
        return head.penalty / self.factor_of_penalty

    def linear(self, heads: Sequence[Head], axes: Axes, scale: Standardiser) -> LinearMap:
        """Return what the chosen head of each answer computes together, in the features' own units."""
        parts = [scale.fold(axes.back(head.weights).numpy(), head.bias.numpy()) for head in heads]
        if self.target.task == "multilabel":
            return LinearMap(np.concatenate([w for w, _ in parts]), np.concatenate([b for _, b in parts]))
        weights, bias = parts[0]
        if self.target.task == "number":
            return LinearMap(self.deviation * weights, self.deviation * bias + self.mean)
        if len(self.present) == 2:
            weights, bias = np.concatenate([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
        every = np.zeros((len(self.target.classes), weights.shape[1]))
        every_bias = np.full(len(self.target.classes), -np.inf)
        every[self.present], every_bias[self.present] = weights, bias
        return LinearMap(every, every_bias)

    def certificate(self, heads: Sequence[Head], tolerance: float) -> Certificate:
        """Return what is proven of the chosen heads; of several yes/no labels, of the mean of their objectives."""
        shares = [head.gap / chance for head, chance in zip(heads, self.chance, strict=True)]
        gap, objective = (float(np.mean([getattr(head, name) for head in heads])) for name in ("gap", "objective"))
        proven = all(head.gap <= tolerance * chance for head, chance in zip(heads, self.chance, strict=True))
        return Certificate("proven" if proven else "missed", gap, float(np.mean(shares)), gap / max(objective, 1e-300))

    def reason(self, heads: Sequence[Head]) -> str | None:
        """Return why the chosen heads are not proven; None where they are."""
        told = [
            head.reason if len(heads) == 1 else f"{label}: {head.reason}"
            for label, head in zip(self.target.classes or (self.target.factor,), heads, strict=False)
            if head.reason is not None
        ]
        return "; ".join(told) or None

    def left_out(self) -> tuple[str, ...]:
        """Return which λ were not chosen among since they are not proven, a sentence for each label that has some."""
        told = []
        for number, heads in enumerate(self.heads):
            text = left_out(heads, [self.penalty(head) for head in heads])
            if text is not None:
                told.append(f"{self.target.classes[number]}: {text}" if self.target.task == "multilabel" else text)
        return tuple(told)

    def score(self, logits: FloatArray, answer: int, rows: Array) -> tuple[Array, Array]:
        """Return each row's loss and error for logits of all heads of an answer.

        Args:
            logits: shape (heads, columns, rows), in standardised units of a number.
            answer: its number.
            rows: the feature rows; their labels are known.

        Returns:
            shape (heads, rows) each.
        """
        codes = self.target.codes[rows]
        if self.target.task == "number":
            squares = (logits[:, 0] - (codes - self.mean) / self.deviation) ** 2
            return squares, squares
        if self.answers[answer].loss is LOGISTIC:
            yes = codes[:, answer] if self.target.task == "multilabel" else np.searchsorted(self.present, codes)
            signed = np.where(yes == 1, -logits[:, 0], logits[:, 0]).astype(np.float64)
            wrong = (logits[:, 0] > 0) != (yes == 1)
            return np.logaddexp(0, signed), wrong.astype(np.float64)
        place = np.searchsorted(self.present, codes)
        wide = logits.astype(np.float64)
        top = wide.max(axis=1)
        own = np.take_along_axis(wide, place[None, None, :], axis=1)[:, 0]
        loss = np.log(np.exp(wide - top[:, None]).sum(axis=1)) + top - own
        return loss, (wide.argmax(axis=1) != place).astype(np.float64)

    def scorable(self) -> Array:
        """Return the valid rows that can be scored: not those of classes without training rows."""
        valid = self.target.valid
        if self.target.task != "classes":
            return valid
        return valid[np.isin(self.target.codes[valid], self.present)]


def left_out(heads: Sequence[Head], penalties: Sequence[float]) -> str | None:
    """Return which λ were not chosen among since they are not proven; None where none or all are not.

    Args:
        heads: of one answer.
        penalties: the spec's λ of each.
    """
    missed = [penalty for head, penalty in zip(heads, penalties, strict=True) if head.reason is not None]
    if not missed or len(missed) == len(heads):
        return None
    return f"not proven, and so not chosen among: λ = {', '.join(f'{one:g}' for one in sorted(missed, reverse=True))}"
