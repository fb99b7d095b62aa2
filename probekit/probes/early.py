"""Linear probes that are trained by stochastic gradient descent and stopped early, as the paper's were.

The paper minimises the cross-entropy without a penalty (section 3.2), is content with "a convenient approximation of
the minimum" (section 3.3), and measures "through early stopping based on a validation set" (section 3.5, figure 3). It
names neither the probes' optimiser nor its settings. Momentum and batch size are here, unless asked otherwise, those
of the training script of the model in section 3.5. The learning rate depends on the number of features, because the
curvature of the loss grows with it: one rate for all layers would be too small for narrow or too large for wide ones.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from probekit.sections import Section

if TYPE_CHECKING:
    from probekit.components import FeatureMatrix, FitContext, Target
    from probekit.probes.fitted import FittedLinear

HALVINGS = 6
"""How often the learning rate is halved at most."""
LARGEST_RATE = 0.1
"""Of ``learning_rate: auto``: beyond it the steps of few features are mostly noise."""


class EarlyStopping(Section):
    """How a probe is trained that stops early: mini-batch gradient descent with momentum, on standardised features."""

    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0, le=1e3)] = Field(
        "auto",
        description=f"step size; auto: 2 ÷ (features that vary + λ), at most {LARGEST_RATE}; halved, at most "
        f"{HALVINGS} times, where no epoch is better on valid than a probe without weights",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last step that is taken again; 0: plain SGD")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="training rows of one step")
    patience: int = Field(10, ge=1, le=1_000_000, description="epochs without a smaller loss on valid before it stops")
    max_epochs: int = Field(200, ge=1, le=1_000_000, description="epochs after which it stops in any case")
    penalty: float = Field(0.0, ge=0, le=1e12, description="λ, in units of standardised features; the paper has none")
    seed: int | None = Field(
        None, ge=0, le=2**32 - 1, description="of the order in which rows are drawn; default: the seed of the splits"
    )


def fit_early(
    features: FeatureMatrix, target: Target, options: EarlyStopping, context: FitContext, device: str = "cpu"
) -> FittedLinear:
    """Train on the training rows; keep the parameters of the epoch with the smallest loss on the valid rows.

    Training starts from weights of 0 and the bias that is best without weights. Where no epoch is better on valid than
    that start, or the loss is not finite, the learning rate is halved and training begins again, at most ``HALVINGS``
    times; after that the start itself is kept. Each yes/no label stops for itself and keeps its own epoch, so that no
    label depends on another. ``facts.passes`` counts all epochs; ``facts.notes`` says which epoch was the best, the
    learning rate and how often it was halved.

    The order of the rows depends on the seed, on the numbers of rows and outputs, on the features' width and on the
    batch size. It does not depend on whether the features are held, so that a streamed fit equals one in memory. Rows
    are shuffled within blocks; a block is drawn from all over the training rows, in runs of neighbouring rows.

    Args:
        features: shape (rows, features), float32, finite. Standardised rows are held where this is an
            :class:`ArrayMatrix` and they fit into ``context.memory``; else two or three blocks are, some 32 MiB each.
        target: what is asked. Valid rows of classes without training rows are left out of the stopping.
        options: of the training.
        context: memory and progress; each yes/no label is a head.
        device: where training runs, as torch names it.

    Returns:
        the probe, ``not_applicable`` as to certificates. Its one path point has the objective, and the loss and error
        on valid. Of a number, squares are in units of its variance over the training rows, and the objective has half
        of them. Of yes/no labels all are means over the labels.

    Raises:
        InputError: ``PK-L13``, no valid row has a label to stop by.
    """
    from probekit.probes.sgd import Training, asked_of

    began = time.monotonic()
    training = Training(features, asked_of(target, device), options, context, target.seed)
    training.run()
    return training.fitted(began)
