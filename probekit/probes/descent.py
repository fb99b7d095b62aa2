"""L-BFGS on many heads at once, preconditioned by a Kronecker model of their Hessians."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probekit.probes.refresh import refreshed
from probekit.probes.stack import Heads, dots, like

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probekit.probes.axes import Axes
    from probekit.probes.design import Design, OwnUnits

_FEW_COLUMNS = 64
_CACHED_VALUES = 1 << 20

_BLOCK_VALUES = 1 << 22
_FEWEST_ROWS, _FEWEST_ROWS_MANY = 32, 256
_SHORTEST = 13
_LEAST_CURVATURE = 1e-30
_SHORTEST_METRIC = 0.05


class Descent:
    """Moves all heads of a design in lockstep: one pass over X serves them all.

    A pass is X Wᵀ and Rᵀ X. Both products of an iteration are made while a block of rows is at hand, with the residuals
    of the full step; a head that must take a shorter one costs the second product again.

    Args:
        axes: of X.
        dtype: of the products with X; parameters are float32, or float64 where the products are.
        groups: of heads.
        known_rows: of whose curvature each may be known by itself.
    """

    def __init__(self, axes: Axes, dtype: torch.dtype, groups: Sequence[Heads], known_rows: int = 0) -> None:
        self.X: Design = axes.X
        self.axes, self.dtype, self.groups, self.known_rows = axes, dtype, list(groups), known_rows
        self.passes = 0.0

    def restart(self) -> None:
        """Compute logits, objectives and gradients from the parameters alone."""
        for heads in self.groups:
            heads.Z = heads.b.unsqueeze(-1).repeat(1, 1, heads.rows)
        found = self._sweep([torch.cat([heads.W, 0 * heads.b.unsqueeze(-1)], dim=2) for heads in self.groups])
        for heads, (losses, gradient) in zip(self.groups, found, strict=True):
            heads.Z += heads.Zd
            heads.objective = losses + heads.penalty_terms(heads.W)
            heads.gradient = heads.with_penalty(gradient, heads.W)
            heads.metric = None

    def step(self) -> list[Tensor]:
        """Move every head along its L-BFGS direction; return, for each group, which heads could not get lower."""
        for heads in self.groups:
            heads.metric = refreshed(heads, self.axes, self.known_rows)
            heads.steps += 1
        directions = [-_newton_like(heads) for heads in self.groups]
        found = self._sweep(directions)
        rates, stuck = [], []
        for heads, direction, (losses, _) in zip(self.groups, directions, found, strict=True):
            slope = torch.linalg.vecdot(heads.gradient.flatten(1), direction.flatten(1)).cpu().double()
            rounding = heads.rounding()
            rate, reached = _first_rate(heads, direction, slope, losses, rounding)
            heads.objective = torch.where(rate > 0, reached, heads.objective)
            rates.append(rate)
            stuck.append((rate == 0) | (slope > -1e-2 * rounding))
        shorter = [torch.nonzero((rate > 0) & (rate < 1)).flatten() for rate in rates]
        again = self._back(shorter, rates) if any(len(one) for one in shorter) else None
        for place, (heads, direction, (_, gradient)) in enumerate(zip(self.groups, directions, found, strict=True)):
            if again is not None and len(shorter[place]):
                gradient[shorter[place].to(gradient.device)] = again[place]
            heads.move(direction, rates[place], gradient)
        return stuck

    def _sweep(self, directions: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Store each head's change of logits for the full step; return its mean loss and gradient there, unpenalised.

        Args:
            directions: of each group, shape (heads, columns, axes + 1).
        """
        stacked = torch.cat([d[..., :-1].flatten(0, 1) for d in directions]).to(self.dtype)
        moves = torch.cat([d[..., -1].flatten() for d in directions])
        blocks, units = self._blocks(len(stacked))
        if units is not None:
            stacked, added = units.weights(stacked)
            moves = moves + added
        wide = self.groups[0].W.dtype
        losses = [torch.zeros(len(heads), dtype=torch.float64) for heads in self.groups]
        gradient = torch.zeros(stacked.shape, dtype=wide, device=stacked.device)
        biases = torch.zeros(len(stacked), dtype=wide, device=stacked.device)
        first = 0
        for block in blocks:
            here = slice(first, first + len(block))
            # With few columns and with half width, rows first are multiplied faster.
            rows_first = len(stacked) < _FEW_COLUMNS or self.dtype.itemsize < 4
            product = (block @ stacked.T).T if rows_first else stacked @ block.T
            residual = torch.empty(product.shape, dtype=wide, device=product.device)
            top = 0
            for place, heads in enumerate(self.groups):
                size = len(heads) * heads.columns
                part = product[top : top + size].view(len(heads), heads.columns, len(block))
                moved = heads.Zd[..., here]
                torch.add(part, moves[top : top + size].view(len(heads), heads.columns, 1), out=moved)
                own = residual[top : top + size].view(part.shape)
                torch.add(heads.Z[..., here], moved, out=own)
                losses[place] += heads.sum(heads.loss.residual(own, heads.answers(here)))
                top += size
            if self.dtype == wide:
                gradient.addmm_(residual, block)
            else:
                gradient += residual.to(self.dtype) @ block
            biases += residual.sum(dim=1)
            first += len(block)
        self.passes += 1
        return self._split(losses, gradient if units is None else units.gradient(gradient, biases), biases)

    def _blocks(self, columns: int) -> tuple[Iterator[Tensor], OwnUnits | None]:
        """Return the rows, standardised or as they are, and then what makes up for it, for products of some columns."""
        fewest = _FEWEST_ROWS if columns < _FEW_COLUMNS else _FEWEST_ROWS_MANY
        at_once = max(fewest, min(_CACHED_VALUES // columns, _BLOCK_VALUES // self.X.shape[1]))
        units = self.X.own_units(self.dtype)
        return (self.X.blocks(self.dtype, at_once) if units is None else self.X.own_blocks(at_once)), units

    def _split(self, losses: list[Tensor], gradient: Tensor, biases: Tensor) -> list[tuple[Tensor, Tensor]]:
        found, top = [], 0
        whole = torch.cat([gradient, biases.unsqueeze(-1)], dim=1).div_(len(self.X))
        for heads, total in zip(self.groups, losses, strict=True):
            size = len(heads) * heads.columns
            found.append((total / len(self.X), whole[top : top + size].view(len(heads), heads.columns, -1)))
            top += size
        return found

    def _back(self, chosen: Sequence[Tensor], rates: Sequence[Tensor]) -> list[Tensor]:
        """Return the unpenalised gradients of some heads of each group, at their shorter steps."""
        some = []
        for heads, places, rate in zip(self.groups, chosen, rates, strict=True):
            there = places.to(heads.Z.device)
            some.append((there, like(rate[places], heads.Z).view(-1, 1, 1)))
        width = self.X.shape[1]
        totals = [
            torch.zeros(len(places), heads.columns, width + 1, dtype=heads.W.dtype, device=heads.W.device)
            for heads, places in zip(self.groups, chosen, strict=True)
        ]
        first = 0
        columns = sum(len(places) * heads.columns for heads, places in zip(self.groups, chosen, strict=True))
        blocks, units = self._blocks(columns)
        for block in blocks:
            here = slice(first, first + len(block))
            for heads, (places, rate), total in zip(self.groups, some, totals, strict=True):
                if not len(places):
                    continue
                residual = heads.Z[..., here][places] + rate * heads.Zd[..., here][places]
                heads.loss.residual(residual, heads.answers(here, places))
                total[..., :-1] += (residual.flatten(0, 1).to(self.dtype) @ block).view(len(places), heads.columns, -1)
                total[..., -1] += residual.sum(dim=2)
            first += len(block)
        self.passes += 0.5
        if units is not None:
            for total in totals:
                flat = total.flatten(0, 1)
                flat[:, :-1] = units.gradient(flat[:, :-1], flat[:, -1])
        return [total.div_(len(self.X)) for total in totals]


def _first_rate(
    heads: Heads, direction: Tensor, slope: Tensor, losses: Tensor, rounding: Tensor
) -> tuple[Tensor, Tensor]:
    """Return by how much of its direction each head may move, and its objective there.

    The share is the largest of 1, 1/3, 1/9 ... that lowers the objective enough, 0 where none does.

    Args:
        direction: shape (heads, columns, axes + 1).
        slope: shape (heads,), of the objective along it.
        losses: shape (heads,), the mean loss at the full step.
        rounding: shape (heads,), by how much an objective may be wrong.
    """
    rate = torch.ones(len(heads), dtype=torch.float64)
    reached = losses + heads.penalty_terms(heads.W + direction[..., :-1])
    for attempt in range(_SHORTEST):
        short = torch.nonzero(~(reached <= heads.objective + 1e-4 * rate * slope + rounding)).flatten()
        if not len(short):
            break
        if attempt == _SHORTEST - 1:
            rate[short] = 0
            break
        rate[short] /= 3
        there = short.to(heads.Z.device)
        factor = like(rate[short], heads.Z).view(-1, 1, 1)
        total = torch.zeros(len(short), dtype=torch.float64)
        step = max(256, _CACHED_VALUES // (len(short) * heads.columns))
        for start in range(0, heads.rows, step):
            here = slice(start, start + step)
            Z = heads.Z[..., here][there] + factor * heads.Zd[..., here][there]
            total += heads.sum(heads.loss.values(Z, heads.answers(here, there)))
        W = heads.W[there] + factor * direction[there][..., :-1]
        penalty = heads.penalties[short] / 2 * W.flatten(1).pow(2).sum(dim=1).cpu().double()
        reached[short] = total / heads.rows + penalty
    return rate, reached


def _newton_like(heads: Heads) -> Tensor:
    """Return the L-BFGS product of inverse Hessian and gradient, shape (heads, columns, axes + 1).

    The compact form of Byrd, Nocedal & Schnabel (Mathematical Programming 63, 1994, theorem 2.2): with R the upper
    triangle of SᵀY and D its diagonal, both loops of the usual recursion are triangular systems.
    """
    assert heads.metric is not None  # noqa: S101 - made before the first step
    used = len(heads.order)
    if not used:
        return heads.metric(heads.gradient)
    S, Y = heads.S[:, :used].flatten(2), heads.Y[:, :used].flatten(2)
    g = heads.gradient.flatten(1).unsqueeze(2)
    since = heads.order[0]  # the oldest pair; those after it follow in turn
    R = heads.SY[:, :used, :used].roll((-since, -since), (1, 2)).triu_()
    D = R.diagonal(dim1=1, dim2=2).unsqueeze(2).clone()
    R.diagonal(dim1=1, dim2=2).add_((D == 0).squeeze(2))  # a pair that is none
    alpha = torch.linalg.solve_triangular(R, (S @ g).cpu().double().roll(-since, 1), upper=True)
    q = torch.baddbmm(g, Y.mT, like(alpha.roll(since, 1), g), alpha=-1)
    r = heads.metric(q.view_as(heads.gradient)).flatten(1).unsqueeze(2)
    if heads.metric.too_long:
        r.mul_(_scale(heads))
    right = D * alpha - (Y @ r).cpu().double().roll(-since, 1)
    rest = torch.linalg.solve_triangular(R.mT, right, upper=False)
    r = torch.baddbmm(r, S.mT, like(rest.roll(since, 1), g))
    product: Tensor = r.view_as(heads.gradient)
    return product


def _scale(heads: Heads) -> Tensor:
    """Return by how much each head's metric is to be shortened, shape (heads, 1, 1).

    Along the last pair the Hessian may be larger than the metric thinks. Half of what that pair tells, as a geometric
    mean, took fewer passes than all of it or nothing on taps of four networks and on made features.
    """
    assert heads.metric is not None  # noqa: S101 - made before the first step
    step, change = heads.S[:, heads.order[-1]], heads.Y[:, heads.order[-1]]
    told = dots(step, change) / heads.metric.squared_norm(change).clamp_min(_LEAST_CURVATURE)
    shortened = told.clamp(_SHORTEST_METRIC, 1.0).sqrt()
    # A pair without curvature tells nothing.
    return torch.where(told > 0, shortened, torch.ones_like(told)).view(-1, 1, 1)
