"""What probes are fitted on: a stored feature matrix as it is, held, or after a learned reduction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probekit.components import ArrayMatrix, LinearMap
from probekit.errors import InputError, Problem, listed
from probekit.probes.standardise import rows_at_once
from probekit.spec.splits import TRAIN
from probekit.steps import MatMul, Take

if TYPE_CHECKING:
    from probekit.components import FeatureMatrix, FittedReduction, FloatArray
    from probekit.data.question import Question
    from probekit.reductions.assign import FeatureSet

COPIES = 3
"""Copies of a matrix that a fit holds: as it is, standardised, in its principal axes."""


def prepared(
    one: FeatureSet, stored: FeatureMatrix, question: Question, memory: int | None
) -> tuple[FeatureMatrix, FittedReduction | None]:
    """Return the matrix that probes are fitted on, and what was fitted before them.

    A matrix is held where ``COPIES`` of it fit into memory; else probes read it from the store in every pass.

    Args:
        one: what the matrix is.
        stored: the matrix, as the store has it.
        question: whose training rows a learned reduction is fitted on.
        memory: bytes that the matrix and what a fit makes of it may take; None: no bound.

    Raises:
        InputError: ``PK-R03``, a learned reduction needs more memory; ``PK-M39``, it gives NaN or infinite values.
        ValueError: it gives another shape than (rows, features).
    """
    needed = COPIES * 4 * stored.shape[0] * stored.shape[1]
    held = memory is None or needed <= memory
    if one.learned is not None:
        if not held:
            least = f"{needed >> 20} MiB, memory is {(memory or 0) >> 20} MiB"
            what = f"{one.reduction!r} at {one.label!r} is fitted on {least}"
            raise InputError(Problem("PK-R03", what, "raise memory:, or name a data-free reduction as its 'of'"))
        raw = np.asarray(stored)
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
            reduction = one.learned.fit(raw[question.places[TRAIN]])
            return ArrayMatrix(_reduced(one, reduction, raw, question)), reduction
    return (ArrayMatrix(np.asarray(stored)) if held else stored), None


def reduction_parameters(one: FeatureSet, reduction: FittedReduction | None) -> int | None:
    """Return how many numbers a reduction holds: indices, entries of matrices and biases; None where it does not tell.

    Args:
        one: whose program is counted.
        reduction: what was fitted after it, if anything; one that keeps all features as they are holds nothing.
    """
    fixed = sum(step.indices.size for step in one.wanted.program if isinstance(step, Take))
    fixed += sum(step.matrix.size for step in one.wanted.program if isinstance(step, MatMul))
    if reduction is None:
        return fixed
    if not isinstance(reduction, LinearMap):
        return None
    weights, bias = reduction.weights, reduction.bias
    kept = weights.shape[0] == weights.shape[1] and np.array_equal(weights, np.eye(len(weights))) and not bias.any()
    return fixed + (0 if kept else weights.size + bias.size)


def is_constant(matrix: FeatureMatrix) -> bool:
    """Return whether every feature has one value in all rows."""
    first = matrix.read(slice(0, 1))
    return all(bool((block == first).all()) for block in matrix.blocks(rows_at_once(matrix)))


def _reduced(one: FeatureSet, reduction: FittedReduction, raw: FloatArray, question: Question) -> FloatArray:
    """Return what a learned reduction makes of stored features."""
    made = np.asarray(reduction(raw))
    if made.ndim != 2 or len(made) != len(raw) or not made.shape[1]:
        raise ValueError(f"{one.reduction!r} made shape {made.shape} of {raw.shape}, not (rows, features)")
    features = np.ascontiguousarray(made, np.float32)
    wrong = ~np.isfinite(features)
    if wrong.any():
        places = np.unique(question.owners[wrong.any(axis=1)])
        ids = question.examples.columns["id"][question.rows[places[:5]]]
        what = (
            f"tap {one.label!r} has {np.count_nonzero(wrong)} NaN or infinite values under {one.reduction!r} in "
            f"{len(places)} of {len(question.rows)} examples, the first: {listed(ids, 5)}"
        )
        raise InputError(Problem("PK-M39", what, "name a data-free reduction, or leave the tap or the examples out"))
    return features
