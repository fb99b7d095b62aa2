"""The losses that heads share an engine with: of one class, of a yes/no label, of a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

_FEWEST_ROWS = 2048
"""Of those that the classes' curvature is estimated on."""
DIAGONAL_ABOVE = 2048
"""Classes beyond which only the diagonal of their curvature is used: its eigenvectors cost their number cubed."""
_FEW_CLASSES = 64
"""Up to so many the curvature is multiplied in float64."""
_LINEAR_ABOVE = 40.0
"""Where softplus is its argument to all digits of float64; torch's own 20 leaves 2e-9."""


@dataclass(frozen=True)
class Answers:
    """What one target asks of the training rows.

    Args:
        loss: how an answer is judged.
        y: shape (rows,): int64 classes of ``softmax``, each of range(columns) among them; float64 0 or 1 of
            ``logistic``; float64 of ``squares``.
        columns: logits a row: classes of ``softmax``, else 1.
    """

    loss: Loss
    y: Tensor
    columns: int = 1

    def start(self) -> Tensor:
        """Return the bias of a probe that has no weights, shape (columns,), float64."""
        return self.loss.start(self.y, self.columns)

    def chance(self) -> float:
        """Return the mean loss of the best probe without weights: the entropy of the labels in nats."""
        Z = self.start().unsqueeze(-1).expand(self.columns, len(self.y))
        return float(self.loss.values(Z.unsqueeze(0), self.loss.shaped(self.y)).mean())


@dataclass(frozen=True)
class Curvature:
    """The mean second derivative of a loss over the rows, of several heads.

    Args:
        values: its eigenvalues, shape (heads, columns).
        basis: its eigenvectors, shape (heads, columns, columns); None: the unit vectors.
        spread: how much the rows' second derivatives S differ: mean ‖S‖² over ‖mean S‖², less 1, shape (heads,).
    """

    values: Tensor
    basis: Tensor | None
    spread: Tensor


def _spread(squares: Tensor, values: Tensor) -> Tensor:
    """Return it for mean squared norms, shape (heads,), and eigenvalues of the mean."""
    return (squares / values.pow(2).sum(dim=1).clamp_min(1e-30) - 1).clamp_min(0)


class Loss(ABC):
    """A convex loss of logits Z, shape (heads, columns, rows), and of answers, shape (heads, 1, rows)."""

    name: ClassVar[str]
    exact_curvature: ClassVar[bool] = False
    """Whether the second derivative is the same everywhere, so that the metric needs no damping."""

    @abstractmethod
    def residual(self, Z: Tensor, y: Tensor) -> Tensor:
        """Overwrite Z with the derivative of each row's loss; return each row's loss, shape (heads, rows)."""

    @abstractmethod
    def values(self, Z: Tensor, y: Tensor) -> Tensor:
        """Return each row's loss, shape (heads, rows)."""

    @abstractmethod
    def curvature(self, Z: Tensor) -> Curvature:
        """Return the rows' mean second derivative.

        Args:
            Z: shape (heads, columns, rows).
        """

    @abstractmethod
    def traces(self, Z: Tensor) -> Tensor:
        """Return the trace of each row's second derivative, shape (heads, rows).

        Args:
            Z: shape (heads, columns, rows).
        """

    @abstractmethod
    def pairs(self, Z: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Return the largest eigenvalues of each row's second derivative, (rows, pairs), and its eigenvectors.

        Args:
            Z: logits, shape (columns, rows), float64.
            most: how many at most.

        Returns:
            the second of shape (rows, columns, pairs).
        """

    @abstractmethod
    def start(self, y: Tensor, columns: int) -> Tensor:
        """Return the best bias of a probe without weights, shape (columns,), float64."""

    @abstractmethod
    def normaliser(self, Z: Tensor) -> Tensor:
        """Return each row's normaliser, shape (rows,): its loss is that less ``fit``.

        Its derivative in the logits, (columns, rows), is the prediction, which makes ``divergence`` what it is.
        """

    @abstractmethod
    def fit(self, Z: Tensor, y: Tensor) -> Tensor:
        """Return each row's term of logits (columns, rows) that knows the answers (1, rows), shape (rows,)."""

    @abstractmethod
    def predictions(self, Z: Tensor, normaliser: Tensor) -> Tensor:
        """Return the predictions of logits (columns, rows), and of their normaliser, in the same shape."""

    def divergence(self, Zq: Tensor, Zp: Tensor, normaliser: Tensor | None = None) -> float:
        """Return the sum over the rows of KL(q ‖ p), in nats, of logits of shape (columns, rows).

        It is the Bregman divergence of the normaliser; of a number half the squared difference.

        Args:
            Zq: logits of q.
            Zp: logits of p.
            normaliser: of Zp, where that is known.
        """
        normaliser = self.normaliser(Zp) if normaliser is None else normaliser
        own = self.normaliser(Zq)
        inner = (self.predictions(Zq, own) * (Zq - Zp)).sum(dim=0)
        return float((inner - own + normaliser).sum())

    def shaped(self, y: Tensor) -> Tensor:
        """Return answers of shape (rows,) as (1, 1, rows)."""
        return y.view(1, 1, -1)


class OfClasses(Loss):
    """A loss whose predictions are probabilities of classes."""

    @abstractmethod
    def log_predictions(self, Z: Tensor, normaliser: Tensor) -> Tensor:
        """Return the sum over the rows of log p of each class, shape (classes,), for logits (columns, rows)."""

    @abstractmethod
    def mix(self, residual: Tensor, y: Tensor, constant: Tensor, share: float) -> None:
        """Turn Q - Y, shape (columns, rows), into (1 - share) Q + share · constant - Y, in place.

        Args:
            residual: Q - Y; overwritten.
            y: shape (rows,).
            constant: a distribution over the classes, the same for each row.
            share: of it.
        """

    @abstractmethod
    def shares(self, answers: Answers) -> Tensor:
        """Return each class's share of the rows."""


class OfColumns(Loss):
    """A loss that is a sum over the columns: its second derivative has no cross terms."""

    @abstractmethod
    def second(self, Z: Tensor) -> Tensor:
        """Return the second derivative for each column on its own, shape of Z."""

    def curvature(self, Z: Tensor) -> Curvature:
        """The mean of ``second``."""
        second = self.second(Z)
        values = second.mean(dim=2)
        return Curvature(values, None, _spread(second.pow(2).sum(dim=1).mean(dim=1), values))

    def traces(self, Z: Tensor) -> Tensor:
        """The sum over the columns."""
        return self.second(Z).sum(dim=1)

    def pairs(self, Z: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Those of the largest columns."""
        largest = self.second(Z.unsqueeze(0))[0].T.topk(min(most, len(Z)), dim=1)
        return largest.values, torch.nn.functional.one_hot(largest.indices, len(Z)).to(Z).mT


def _sample_step(Z: Tensor) -> int:
    """Return which fraction of the rows curvature is estimated on."""
    return max(1, Z.shape[2] // max(2 * Z.shape[1], _FEWEST_ROWS))


class Softmax(OfClasses):
    """Cross-entropy of the softmax over the columns, in nats."""

    name = "softmax"

    def residual(self, Z: Tensor, y: Tensor) -> Tensor:
        """Softmax minus the label's indicator."""
        top = Z.amax(dim=1, keepdim=True)
        picked = Z.gather(1, y)
        # Below e^-60 a share changes nothing but would become a denormal number, which is slow to multiply.
        total = Z.sub_(top).clamp_min_(-60).exp_().sum(dim=1, keepdim=True)
        Z.div_(total).scatter_add_(1, y, torch.full_like(picked, -1))
        return total.log_().add_(top).sub_(picked).squeeze(1)

    def values(self, Z: Tensor, y: Tensor) -> Tensor:
        """Log of the sum of exponentials minus the label's logit."""
        return (torch.logsumexp(Z, dim=1, keepdim=True) - Z.gather(1, y.expand(len(Z), -1, -1))).squeeze(1)

    def curvature(self, Z: Tensor) -> Curvature:
        """The mean of diag p - p pᵀ on a sample of the rows; ‖diag p - p pᵀ‖² = Σp² - 2Σp³ + (Σp²)²."""
        P = torch.softmax(Z[:, :, :: _sample_step(Z)], dim=1)
        squares = P.pow(2)
        two = squares.sum(dim=1)
        norms = (two - 2 * (squares * P).sum(dim=1) + two**2).mean(dim=1)
        mean = P.mean(dim=2)
        if Z.shape[1] > DIAGONAL_ABOVE:
            values = mean - squares.mean(dim=2)
            return Curvature(values, None, _spread(norms, values))
        few = Z.shape[1] <= _FEW_CLASSES and Z.device.type != "mps"  # which has no float64
        P = P.double() if few else P
        S = torch.diag_embed(P.mean(dim=2)).double() if few else torch.diag_embed(mean).cpu().double()
        S -= (P @ P.mT / P.shape[2]).to(S)
        values, vectors = (one.to(Z.dtype).to(Z.device) for one in torch.linalg.eigh(S))
        values.clamp_min_(0)
        return Curvature(values, vectors, _spread(norms, values))

    def traces(self, Z: Tensor) -> Tensor:
        """1 - Σp²."""
        return 1 - torch.softmax(Z, dim=1).pow(2).sum(dim=1)

    def pairs(self, Z: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Those of diag p - p pᵀ."""
        P = torch.softmax(Z, dim=0).T
        values, vectors = torch.linalg.eigh(torch.diag_embed(P) - P.unsqueeze(2) * P.unsqueeze(1))
        return values[:, -most:], vectors[:, :, -most:]

    def start(self, y: Tensor, columns: int) -> Tensor:
        """The log of the classes' shares."""
        return (torch.bincount(y, minlength=columns).double() / len(y)).log()

    def normaliser(self, Z: Tensor) -> Tensor:
        """Log of the sum of exponentials."""
        return torch.logsumexp(Z, dim=0)

    def fit(self, Z: Tensor, y: Tensor) -> Tensor:
        """The label's logit."""
        return Z.gather(0, y).squeeze(0)

    def predictions(self, Z: Tensor, normaliser: Tensor) -> Tensor:
        """Exponentials of what is left."""
        return (Z - normaliser).exp_()

    def log_predictions(self, Z: Tensor, normaliser: Tensor) -> Tensor:
        """Logits minus the normaliser."""
        return Z.sum(dim=1) - normaliser.sum()

    def mix(self, residual: Tensor, y: Tensor, constant: Tensor, share: float) -> None:
        """By way of Y, a one in each row."""
        residual.mul_(1 - share).add_(share * constant.unsqueeze(-1))
        residual.scatter_add_(0, y.unsqueeze(0), torch.full_like(residual[:1], -share))

    def shares(self, answers: Answers) -> Tensor:
        """Counts over rows."""
        return torch.bincount(answers.y, minlength=answers.columns).double() / len(answers.y)


def _softplus(Z: Tensor) -> Tensor:
    return torch.nn.functional.softplus(Z, threshold=_LINEAR_ABOVE)


class Logistic(OfColumns, OfClasses):
    """Cross-entropy of a yes/no label, in nats."""

    name = "logistic"

    def residual(self, Z: Tensor, y: Tensor) -> Tensor:
        """Sigmoid minus the label."""
        loss = self.values(Z, y)
        Z.sigmoid_().sub_(y)
        return loss

    def values(self, Z: Tensor, y: Tensor) -> Tensor:
        """Softplus minus the label's logit."""
        return (_softplus(Z) - y * Z).squeeze(1)

    def second(self, Z: Tensor) -> Tensor:
        """p (1 - p)."""
        P = torch.sigmoid(Z)
        return P * (1 - P)

    def start(self, y: Tensor, columns: int) -> Tensor:
        """The log odds of yes."""
        return torch.logit(y.double().mean()).view(columns)

    def normaliser(self, Z: Tensor) -> Tensor:
        """Softplus."""
        return _softplus(Z[0])

    def fit(self, Z: Tensor, y: Tensor) -> Tensor:
        """The logit of yes."""
        return y[0] * Z[0]

    def predictions(self, Z: Tensor, normaliser: Tensor) -> Tensor:  # noqa: ARG002 - not needed
        """Sigmoids."""
        return torch.sigmoid(Z)

    def log_predictions(self, Z: Tensor, normaliser: Tensor) -> Tensor:
        """Of no, and of yes."""
        no = -normaliser.sum()
        return torch.stack([no, no + Z[0].sum()])

    def mix(self, residual: Tensor, y: Tensor, constant: Tensor, share: float) -> None:
        """Of yes alone."""
        residual.mul_(1 - share).add_(share * (constant[1] - y))

    def shares(self, answers: Answers) -> Tensor:
        """Of no, and of yes."""
        yes = answers.y.mean()
        return torch.stack([1 - yes, yes])


class Squares(OfColumns):
    """Half the squared error of a number."""

    name = "squares"
    exact_curvature = True

    def residual(self, Z: Tensor, y: Tensor) -> Tensor:
        """Prediction minus the number."""
        Z.sub_(y)
        return (Z**2 / 2).squeeze(1)

    def values(self, Z: Tensor, y: Tensor) -> Tensor:
        """Half the squared error."""
        return ((Z - y) ** 2 / 2).squeeze(1)

    def second(self, Z: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(Z)

    def start(self, y: Tensor, columns: int) -> Tensor:
        """The mean."""
        return y.double().mean().view(columns)

    def normaliser(self, Z: Tensor) -> Tensor:
        """Half the square of the prediction."""
        return Z[0] ** 2 / 2

    def fit(self, Z: Tensor, y: Tensor) -> Tensor:
        """What completes the square."""
        return y[0] * (Z[0] - y[0] / 2)

    def predictions(self, Z: Tensor, normaliser: Tensor) -> Tensor:  # noqa: ARG002 - not needed
        """The logits."""
        return Z


SOFTMAX, LOGISTIC, SQUARES = Softmax(), Logistic(), Squares()
