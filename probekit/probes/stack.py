"""Heads of one loss and width, stacked: their parameters, logits, gradients and histories."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.probes.losses import Answers, Loss
    from probekit.probes.metric import Metric

SHORTEST_HISTORY, LONGEST_HISTORY = 20, 40
_ROWS_A_PAIR = 700
_EXACT_PRODUCTS = 1 << 22
_BIAS_WEIGHT = 10
_LEAST_CURVATURE = 1e-30
_ROUNDING, _ROUNDING_WIDE = 2e-7, 1e-14
_FIELDS = ("number", "penalties", "which", "W", "b", "Z", "Zd", "objective", "gradient", "SY")


def history_for(rows: int, most: int = LONGEST_HISTORY) -> int:
    """Return how many pairs are worth their arithmetic beside that of a pass over so many rows."""
    return max(min(SHORTEST_HISTORY, most), min(most, rows // _ROWS_A_PAIR))


@dataclass
class Start:
    """Where heads of one loss and width begin.

    Args:
        numbers: which heads of the fit they are.
        penalties: λ of each.
        which: the answers of each, as a position in ``answers``.
        answers: what their targets ask.
        W: shape (heads, columns, axes), float64.
        b: shape (heads, columns), float64.
    """

    numbers: list[int]
    penalties: list[float]
    which: list[int]
    answers: Sequence[Answers]
    W: Tensor
    b: Tensor


class Heads:
    """The state of heads of one loss and width: parameters, logits, gradients, history.

    Args:
        start: where they begin.
        rows: of X.
        dtype: of the parameters.
        device: of all of it.
        history: the most pairs of steps and changes of the gradient that are kept.
    """

    def __init__(
        self, start: Start, rows: int, dtype: torch.dtype, device: torch.device, history: int = LONGEST_HISTORY
    ) -> None:
        self.loss: Loss = start.answers[0].loss
        self.rows, self.columns = rows, start.answers[0].columns
        y = torch.stack([one.y for one in start.answers]).unsqueeze(1)
        self.y = y.to(device) if y.dtype == torch.int64 else y.to(device=device, dtype=dtype)
        self.number = torch.tensor(start.numbers)
        self.penalties = torch.tensor(start.penalties, dtype=torch.float64)
        self.which = torch.tensor(start.which, device=device)
        self.W, self.b = start.W.to(device=device, dtype=dtype), start.b.to(device=device, dtype=dtype)
        shape = (len(self.number), self.columns, rows)
        self.Z = torch.zeros(shape, dtype=dtype, device=device)
        self.Zd = torch.zeros(shape, dtype=dtype, device=device)
        self.objective = torch.zeros(len(self.number), dtype=torch.float64)
        self.gradient = torch.zeros(*self.W.shape[:2], self.W.shape[2] + 1, dtype=dtype, device=device)
        shape = (len(self.number), history_for(rows, history), *self.gradient.shape[1:])
        self.S, self.Y = torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)
        self.SY = torch.zeros(shape[0], shape[1], shape[1], dtype=torch.float64)
        self.order: list[int] = []
        self.metric: Metric | None = None
        self.steps = 0

    def __len__(self) -> int:
        return len(self.number)

    def keep(self, mask: Tensor) -> None:
        """Drop the heads that are done; the others no longer pay for them."""
        for name in _FIELDS:
            value = getattr(self, name)
            setattr(self, name, value[mask.to(value.device)])
        there = mask.to(self.W.device)
        for name in ("S", "Y"):
            old = getattr(self, name)
            new = torch.zeros(len(self.number), *old.shape[1:], dtype=old.dtype, device=old.device)
            new[:, : len(self.order)] = old[there, : len(self.order)]
            setattr(self, name, new)
        if self.metric is not None:
            self.metric.keep(there)

    def taken(self, mask: Tensor) -> Heads:
        """Return the heads of a mask, with their histories."""
        some = copy(self)
        some.metric = None
        some.keep(mask)
        return some

    @staticmethod
    def joined(parts: Sequence[Heads]) -> Heads:
        """Return heads of one loss and width as one group, with their histories and without logits."""
        whole = copy(parts[0])
        if len(parts) == 1:
            return whole
        for name in ("number", "penalties", "which", "W", "b", "objective", "gradient"):
            setattr(whole, name, torch.cat([getattr(part, name) for part in parts]))
        used = max(len(part.order) for part in parts)
        for name in ("S", "Y", "SY"):
            old = [getattr(part, name) for part in parts]
            new = torch.zeros(len(whole.number), *old[0].shape[1:], dtype=old[0].dtype, device=old[0].device)
            first = 0
            for part, values in zip(parts, old, strict=True):  # the oldest pairs of a shorter history are zeros
                since, heads = used - len(part.order), slice(first, first + len(part))
                if name == "SY":
                    new[heads, since:used, since:used] = values[:, part.order][:, :, part.order]
                else:
                    new[heads, since:used] = values[:, part.order]
                first += len(part)
            setattr(whole, name, new)
        whole.order = list(range(used))
        whole.Z = torch.empty(len(whole), whole.columns, whole.rows, dtype=whole.W.dtype, device=whole.W.device)
        whole.Zd = torch.empty_like(whole.Z)
        whole.metric = None
        return whole

    def bound(self) -> Tensor:
        """Return ‖gradient of W‖²/(2λ) of each head, float64: its bound were the bias exact."""
        squares = self.gradient[..., :-1].flatten(1).float().pow(2).sum(dim=1).cpu().double()
        return squares / (2 * self.penalties)

    def refined_bound(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return a smaller bound that a proof at another point of the dual may reach, and how to get there.

        The dual point Q = softmax(Z + X u) costs KL(q ‖ p), about ½ uᵀ(H - λ)u, and leaves ‖g + (H - λ)u‖²/(2λ), which
        is small where u undoes the gradient along the directions of large curvature. With u a combination of the last
        steps, whose changes of the gradient are known, both are quadratic in its coefficients.

        Args:
            chosen: which heads, a mask of shape (heads,).

        Returns:
            the chosen heads' bounds, shape (chosen,), float64, as far as the last steps tell; the coefficients of the
            steps, shape (chosen, steps).
        """
        used, there = len(self.order), chosen.to(self.S.device)
        plain, penalties = self.bound()[chosen], self.penalties[chosen]
        exact = self.S[0, :used].numel() * len(plain) <= _EXACT_PRODUCTS and self.S.device.type != "mps"
        dtype, cutoff = (torch.float64, 1e-13) if exact else (self.S.dtype, 1e-6)
        S, V, g = self.S[there, :used].to(dtype), self.Y[there, :used].to(dtype), self.gradient[there].to(dtype)
        V[..., :-1] -= like(penalties, S).view(-1, 1, 1, 1) * S[..., :-1]
        # The bias must come out at its optimum: its gradient counts for more than it costs.
        V[..., -1] *= _BIAS_WEIGHT
        g[..., -1] *= _BIAS_WEIGHT
        SV = (S[..., :-1].flatten(2) @ V[..., :-1].flatten(2).mT).cpu().double()
        VV = (V.flatten(2) @ V.flatten(2).mT).cpu().double()
        Vg = (V.flatten(2) @ g.flatten(1).unsqueeze(2)).cpu().double()
        penalty = penalties.view(-1, 1, 1)
        model = VV / penalty + (SV + SV.mT) / 2
        scale = model.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        scale = torch.where(scale > 0, 1 / scale.clamp_min(1e-300), torch.zeros_like(scale)).unsqueeze(2)
        scaled = model * scale * scale.mT
        if not bool(scaled.isfinite().all()):
            return plain, torch.zeros(len(plain), used, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(scaled)
        inverse = torch.where(values > cutoff * values[:, -1:], 1 / values, torch.zeros_like(values))
        right = vectors.mT @ (scale * Vg / penalty)
        coefficients = -scale * (vectors @ (inverse.unsqueeze(2) * right))
        gain = (inverse.unsqueeze(2) * right**2).sum(dim=(1, 2)) / 2
        whole = plain + (g[..., -1] ** 2).sum(dim=1).cpu().double() / (2 * penalties)
        # What the last steps foretell is too good, as the Hessian changed meanwhile; the geometric mean is near.
        return (plain * (whole - gain).clamp_min(0)).sqrt().minimum(plain), coefficients.squeeze(2)

    def dual_step(self, place: int, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Return the combination of a head's last steps, W part and bias part, in float64 on the CPU."""
        steps = self.S[place, : len(coefficients)]
        both = torch.tensordot(like(coefficients, steps), steps, dims=1).cpu().double()
        return both[:, :-1], both[:, -1]

    def answers(self, rows: slice, chosen: Tensor | None = None) -> Tensor:
        """Return what some rows are asked, shape (heads, 1, rows), of all heads or of chosen ones."""
        which = self.which if chosen is None else self.which[chosen]
        part = self.y[..., rows]
        return part.expand(len(which), -1, -1) if len(self.y) == 1 else part[which]

    def sum(self, losses: Tensor) -> Tensor:
        """Return the sum over the rows, (heads, rows), in float64 where the device has it."""
        if losses.device.type == "mps":
            return losses.sum(dim=1).cpu().double()
        return losses.sum(dim=1, dtype=torch.float64).cpu()

    def rounding(self) -> Tensor:
        """Return by how much each objective may be wrong by the arithmetic alone."""
        return (_ROUNDING if self.W.dtype == torch.float32 else _ROUNDING_WIDE) * self.objective.abs().clamp_min(1e-3)

    def with_penalty(self, gradient: Tensor, W: Tensor) -> Tensor:
        """Return the gradient of the objective, given that of the mean loss."""
        gradient[..., :-1].addcmul_(W, like(self.penalties, W).view(-1, 1, 1))
        return gradient

    def move(self, direction: Tensor, rate: Tensor, gradient: Tensor) -> None:
        """Take a step and remember it.

        Args:
            direction: shape (heads, columns, axes + 1).
            rate: shape (heads,), the share of the direction that each head moves.
            gradient: of the mean loss, where the step ends.
        """
        factor = like(rate, direction).view(-1, 1, 1)
        full = bool((rate == 1).all())
        step = direction if full else factor * direction
        if full:
            self.Z += self.Zd
        else:
            self.Z.addcmul_(self.Zd, factor)
        self.W = self.W + step[..., :-1]
        self.b = self.b + step[..., -1]
        gradient = self.with_penalty(gradient, self.W)
        still = (rate == 0).to(gradient.device)
        if still.any():
            gradient[still] = self.gradient[still]
        change = gradient - self.gradient
        # A pair without curvature is no pair.
        pair = (dots(step, change) > _LEAST_CURVATURE).view(-1, 1, 1)
        place = len(self.order) if len(self.order) < self.S.shape[1] else self.order.pop(0)
        torch.mul(step, pair, out=self.S[:, place])
        torch.mul(change, pair, out=self.Y[:, place])
        self.order.append(place)
        used = len(self.order)
        # Of a step and a later change of the gradient alone: the other half is not used.
        S, newest = self.S[:, :used].flatten(2), self.Y[:, place].flatten(1).unsqueeze(2)
        self.SY[:, :used, place] = (S @ newest).squeeze(2).cpu().double()
        self.gradient = gradient

    def penalty_terms(self, W: Tensor) -> Tensor:
        """Return (λ/2)‖W‖² of each head, float64."""
        return self.penalties / 2 * W.flatten(1).pow(2).sum(dim=1).cpu().double()


def like(values: Tensor, other: Tensor) -> Tensor:
    """Return values in another tensor's dtype, then on its device, which need not know their dtype."""
    return values.to(other.dtype).to(other.device)


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Return each head's inner product, shape (heads,)."""
    found: Tensor = torch.linalg.vecdot(a.flatten(1), b.flatten(1))
    return found
