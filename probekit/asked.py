"""What a factor asks of the test rows, and how probes are compared on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from probekit.spec.splits import TRAIN
from probekit.statistics.means import TEST_DRAWS
from probekit.statistics.paired import paired_errors_batch, paired_values_batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from probekit.components import Array, IntArray, Task
    from probekit.predictions import Predictions
    from probekit.statistics.paired import PairedDifference


@dataclass(frozen=True)
class Asked:
    """What a factor asks of the test rows, and what knowing the training labels alone loses there.

    Args:
        task: what is asked of a row.
        rows: shape (test rows,), the labelled rows of the first test split.
        codes: their labels, shape (test rows,) or (test rows, labels).
        units: shape (test rows,), the independent unit of each.
        over: what the units are: ``examples`` or ``groups``.
        chance: shape (test rows,): -log of the class's share among the training labels, in nats; of yes/no labels the
            sum over them; of a number its squared distance from the training mean, as a share of their variance.
        scale: what a probe's losses are divided by: the variance of the training labels of a number, else 1.
    """

    task: Task
    rows: IntArray
    codes: Array
    units: IntArray
    over: str
    chance: Array
    scale: float = 1.0

    def gains(self, losses: Array) -> Array:
        """Return by how much a probe loses less than chance, shape (test rows,).

        Args:
            losses: of these rows, as :class:`Predictions` has them.
        """
        own = losses.astype(np.float64)
        return self.chance - (own.sum(axis=1) if own.ndim == 2 else own) / self.scale

    @cached_property
    def variance(self) -> float:
        """The variance of these rows' labels, of a number."""
        return float(self.codes.astype(np.float64).var())

    @property
    def defined(self) -> bool:
        """Whether the primary metric is: R² is not where these rows have one number."""
        return self.task != "number" or self.variance > 0

    def measured(self, predicted: Array) -> Array:
        """Return what the primary metric is a mean of: wrong answers; of a number the explained share of the variance.

        Args:
            predicted: for every row, as :class:`Predictions` has them.

        Returns:
            shape (test rows,) or (test rows, labels).
        """
        said = predicted[self.rows]
        if self.task != "number":
            return np.asarray(said != self.codes)
        squares = (said.astype(np.float64) - self.codes.astype(np.float64)) ** 2
        return np.asarray(1 - squares / self.variance)

    def compare(
        self, pairs: Iterable[tuple[Array, Array]], seed: int, draws: int = TEST_DRAWS
    ) -> list[PairedDifference]:
        """Return how the primary metric differs in pairs of what is :meth:`measured`, the second's less the first's."""
        compare = paired_values_batch if self.task == "number" else paired_errors_batch
        return compare(pairs, self.units, seed, draws)


def asked_of(predictions: Predictions, factor: str) -> Asked:
    """Return what a factor asks of the first test split.

    Args:
        predictions: of the run.
        factor: one of its label factors, or of their controls, by :func:`probekit.predictions.label_name`.
    """
    task, every = predictions.task(factor), predictions.codes(factor)
    rows = predictions.rows(predictions.first_test, factor)
    codes, train = every[rows], every[predictions.rows(TRAIN, factor)]
    scale = 1.0
    if task == "number":
        train = train.astype(np.float64)
        scale = float(train.var())
        chance = (codes.astype(np.float64) - train.mean()) ** 2 / scale
    elif task == "multilabel":
        yes = train.mean(axis=0, dtype=np.float64)
        chance = -np.log(np.where(codes == 1, yes, 1 - yes)).sum(axis=1)
    else:
        shares = np.bincount(train, minlength=int(every.max()) + 1) / len(train)
        chance = -np.log(shares[codes])
    return Asked(task, rows, codes, predictions.units[rows], predictions.over, chance, scale)
