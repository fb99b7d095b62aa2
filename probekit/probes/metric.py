"""What L-BFGS is preconditioned with: an inverse Hessian of heads, modelled or of a sample of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from probekit.probes.newton import add_curvature
from probekit.probes.stack import dots, like

if TYPE_CHECKING:
    from probekit.probes.axes import Axes
    from probekit.probes.stack import Heads

_DAMPING, _MOST_DAMPING = 10, 100
_UNKNOWNS = 704
_FEWEST_SAMPLED, _SAMPLED_AN_UNKNOWN = 2048, 4
_FLOPS_OF_A_PASS = 40
"""What one inverse Hessian of a sample may cost, in passes; its products are large, and so ten times faster."""
_FLOPS_A_LOGIT = 200
"""What a logit costs in a pass beside the products with X."""
_MOST_BYTES = 64 << 20
_BIAS_RIDGE = 1e-6


class Metric:
    """A model of the initial inverse Hessian: the heads' mean curvature over the rows beside the shared spectrum.

    The model is exact where all rows have the same curvature: of numbers, without weights, and nearly so for labels
    that cannot be read off. The more the rows differ, the more it is damped, by a share F/N of the spectrum's mean:
    else rare directions are followed too early.

    Args:
        heads: at their parameters of now.
        axes: of X.
    """

    too_long: ClassVar[bool] = True
    """Whether steps along it are shortened by what the last pair tells."""

    def __init__(self, heads: Heads, axes: Axes) -> None:
        self.axes = axes
        found = heads.loss.curvature(heads.Z)
        self.curvature, self.basis = found.values, found.basis
        level, spread = self.curvature.mean(dim=1, keepdim=True), found.spread.unsqueeze(-1)
        damping = (_DAMPING * spread).clamp_max(_MOST_DAMPING) * axes.X.shape[1] / heads.rows * axes.mean
        self.shift = like(heads.penalties, level).unsqueeze(-1) + damping * level
        # The bias has no penalty, and of a softmax its curvature none along equal shifts of all classes.
        self.bias_shift = 0 * level if heads.loss.exact_curvature else 1e-3 * level

    def keep(self, mask: Tensor) -> None:
        """Drop the heads that are done."""
        self.curvature, self.shift, self.bias_shift = self.curvature[mask], self.shift[mask], self.bias_shift[mask]
        self.basis = None if self.basis is None else self.basis[mask]

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the product with a gradient, shape (heads, columns, axes + 1) as it is given."""
        solved = self._solve(gradient if self.basis is None else self.basis.mT @ gradient)
        return solved if self.basis is None else self.basis @ solved

    def squared_norm(self, gradient: Tensor) -> Tensor:
        """Return the inner product of a gradient and its product, shape (heads,)."""
        rotated = gradient if self.basis is None else self.basis.mT @ gradient
        return dots(rotated, self._solve(rotated))

    def of_biases(self, gradient: Tensor) -> Tensor:
        """Return the product with what a gradient has of the biases, shape (heads, columns)."""
        if self.basis is None:
            return gradient / (self.curvature + self.bias_shift)
        rotated = (self.basis.mT @ gradient.unsqueeze(2)).squeeze(2) / (self.curvature + self.bias_shift)
        return (self.basis @ rotated.unsqueeze(2)).squeeze(2)

    def _solve(self, rotated: Tensor) -> Tensor:
        solved = torch.empty_like(rotated)
        solved[..., :-1] = self.axes.solve(rotated[..., :-1], self.curvature, self.shift)
        solved[..., -1] = rotated[..., -1] / (self.curvature + self.bias_shift)
        return solved


class SampledHessian(Metric):
    """The inverse of the whole Hessian of each head over a sample of the rows (Byrd, Chin, Neveitt & Nocedal, SIAM J.
    Optimization 21, 2011): where unknowns are few it costs about a pass, and spares most of the others.
    """

    def __init__(self, heads: Heads, axes: Axes) -> None:
        rows = sampled_rows(heads, axes)
        X = axes.sample(rows)
        ones = torch.nn.functional.pad(X, (0, 1), value=1.0).to(heads.W.dtype)
        size = ones.shape[1]
        ridge = torch.full((heads.columns, size), _BIAS_RIDGE, dtype=torch.float64, device=X.device)
        self.factors = torch.empty(len(heads), heads.columns * size, heads.columns * size, dtype=heads.W.dtype,
                                   device=X.device)  # fmt: skip
        for number, penalty in enumerate(heads.penalties.tolist()):
            hessian = curvature_matrix(heads, number, rows, ones).double()
            ridge[:, :-1] = penalty
            hessian.diagonal().add_(ridge.flatten())
            factor, failed = torch.linalg.cholesky_ex(hessian)
            more = _BIAS_RIDGE * float(hessian.diagonal().mean())
            while int(failed):  # rounding made it indefinite
                hessian.diagonal().add_(more)
                factor, failed = torch.linalg.cholesky_ex(hessian)
                more *= 10
            self.factors[number] = factor

    def keep(self, mask: Tensor) -> None:
        """Drop the heads that are done."""
        self.factors = self.factors[mask]

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the product with a gradient, shape (heads, columns, axes + 1)."""
        return torch.cholesky_solve(gradient.flatten(1).unsqueeze(2), self.factors).view_as(gradient)

    def squared_norm(self, gradient: Tensor) -> Tensor:
        """Return the inner product of a gradient and its product, shape (heads,)."""
        return dots(gradient, self(gradient))


def sampled_rows(heads: Heads, axes: Axes) -> Tensor:
    """Return which rows the Hessian of heads is sampled on: every so many-th."""
    unknowns = heads.columns * (axes.X.shape[1] + 1)
    wanted = max(_FEWEST_SAMPLED, _SAMPLED_AN_UNKNOWN * unknowns)
    return torch.arange(0, heads.rows, max(1, heads.rows // wanted), device=heads.Z.device)


def curvature_matrix(heads: Heads, number: int, rows: Tensor, ones: Tensor) -> Tensor:
    """Return the second derivative of one head's mean loss over some rows, in W and b.

    Args:
        heads: of one loss and width.
        number: which of them.
        rows: which.
        ones: those rows of X, each with a one at its end, shape (rows, axes + 1).

    Returns:
        shape (columns · (axes + 1), the same), column by column.
    """
    unknowns = heads.columns * ones.shape[1]
    matrix = torch.zeros(unknowns, unknowns, dtype=ones.dtype, device=ones.device)
    add_curvature(matrix, heads.loss, heads.Z[number][:, rows], ones, 1 / len(rows))
    return matrix


def is_worth_sampling(heads: Heads, axes: Axes) -> bool:
    """Return whether the whole Hessian of a sample costs little beside a pass."""
    width, device = axes.X.shape[1], axes.X.device.type
    unknowns = heads.columns * (width + 1)
    if heads.loss.exact_curvature or unknowns > _UNKNOWNS or device == "mps":  # which has no float64
        return False
    if len(heads) * unknowns**2 * heads.W.itemsize > _MOST_BYTES:
        return False
    rows = min(heads.rows, max(_FEWEST_SAMPLED, _SAMPLED_AN_UNKNOWN * unknowns))
    sampled = 2 * rows * unknowns**2 + unknowns**3 / 3
    return sampled <= _FLOPS_OF_A_PASS * heads.rows * heads.columns * (4 * width + _FLOPS_A_LOGIT)
