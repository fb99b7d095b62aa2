"""The probe that the benchmark of fits is about: its fits, its references, and the peak that a pass is held against.

Nothing here is run by itself.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fitting_problems import Problem
from fitting_rivals import Contest, Trace, silent, sklearn_weights
from fitting_truth import Objective, Proof, Standard, Weights, inverse_penalty

from probekit.components import ArrayMatrix, FeatureMatrix, FitContext, FittedProbe, PathPoint, Target

TOLERANCES = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7)
"""Of the search for the loosest one that reaches a gap; the default is 1e-4."""
DEFAULT = 1e-4
TIGHT = (1e-7, 1e-9)
"""The tolerances of a reference: the second where the first, a share of the entropy, leaves it too wide."""
WIDE = 1e-5
"""A reference is known to this share of the objective; where we do not get there, scikit-learn goes on in float64."""


def fit(
    features: FeatureMatrix | np.ndarray,
    targets: Sequence[Target],
    penalties: Sequence[float],
    tolerance: float = DEFAULT,
    memory: int | None = None,
    **options: Any,
) -> list[FittedProbe]:
    """Fit all heads of a matrix."""
    matrix = ArrayMatrix(features) if isinstance(features, np.ndarray) else features
    return probe(penalties, tolerance, **options).fit(matrix, targets, FitContext(memory=memory))


def probe(penalties: Sequence[float], tolerance: float = DEFAULT, **options: Any) -> Any:
    """Return the probe that fits all heads of a matrix."""
    from probekit.probes.linear import LinearProbe

    return LinearProbe(penalty=list(penalties), tolerance=tolerance, **options)


def point(fitted: FittedProbe, penalty: float) -> PathPoint:
    """Return what is known of one λ of a fit's path."""
    assert fitted.facts is not None
    return min(fitted.facts.path, key=lambda one: abs(np.log(one.penalty / penalty)))


def weights(fitted: FittedProbe, X: Standard) -> Weights:
    """Return W and b in units of standardised features."""
    assert fitted.linear is not None
    return X.of_raw(fitted.linear.weights, fitted.linear.bias)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch, BLAS and OpenMP take so many threads."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


# --- references ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The optimum of a problem, from below and from above.

    Args:
        objective: in float64.
        lower: proven in float64, in NumPy.
        upper: that some W reaches.
        weights: it.
        how: where that W comes from.
    """

    objective: Objective
    lower: float
    upper: float
    weights: Weights
    how: str

    @property
    def width(self) -> float:
        """What is not known of the optimum, as a share of it."""
        return (self.upper - self.lower) / self.lower

    def gap(self, found: Weights) -> float:
        """Return (objective - optimum) ÷ optimum of some W and b, at most."""
        return (self.objective(found) - self.lower) / self.lower


def reference(problem: Problem, X: Standard, penalty: float) -> Reference:
    """Return the optimum: our fit at a tight tolerance, and where it is not tight enough, scikit-learn's from there."""
    objective, how = Objective(X, problem.codes, penalty), "ours"
    for tolerance in TIGHT:
        (fitted,) = fit(problem.features, [problem.target()], [penalty], tolerance)
        proof = objective.prove(weights(fitted, X))
        if proof.bound <= WIDE * proof.objective:
            break
    if proof.bound > WIDE * proof.objective:
        more = objective.prove(exact_sklearn(X, problem, penalty, proof.weights))
        if more.objective < proof.objective:
            how = "scikit-learn's, from ours"
        proof = _better(proof, more)
    return Reference(objective, proof.lower, proof.objective, proof.weights, how)


def _better(one: Proof, other: Proof) -> Proof:
    """Return a proof with the tighter bound of both and the lower objective of both."""
    best = min(one, other, key=lambda proof: proof.objective)
    lower = max(one.lower, other.lower)
    return Proof(best.weights, best.objective, best.objective - lower)


def exact_sklearn(X: Standard, problem: Problem, penalty: float, start: Weights | None = None) -> Weights:
    """Return scikit-learn's optimum: lbfgs, float64, tolerance 1e-10; where it got after ten minutes."""
    from sklearn.linear_model import LogisticRegression

    C = inverse_penalty(penalty, len(problem.codes), problem.classes)
    model = LogisticRegression(C=C, tol=1e-10, max_iter=5000, warm_start=start is not None)
    if start is not None:
        W, b = start
        model.classes_ = np.arange(problem.classes)
        model.coef_, model.intercept_ = (W[1:] - W[:1], b[1:] - b[:1]) if problem.classes == 2 else (W, b)
    never = Contest(problem.features, problem.codes, penalty, lambda _: np.inf, -np.inf, 0.0, limit=600)
    with Trace(never).attached(), silent():
        model.fit(np.concatenate(list(X.blocks())), problem.codes)
    return sklearn_weights(model)


# --- the search for our setting --------------------------------------------------------------------------------------


def loosest(
    problem: Problem, X: Standard, penalty: float, gap: Callable[[Weights], float], goal: float
) -> tuple[float, float, FittedProbe]:
    """Return the loosest tolerance that reaches a gap, that gap, and the fit; the tightest where none does."""
    for tolerance in TOLERANCES:
        (fitted,) = fit(problem.features, [problem.target()], [penalty], tolerance)
        reached = gap(weights(fitted, X))
        if reached <= goal:
            break
    return tolerance, reached, fitted


# --- the peak --------------------------------------------------------------------------------------------------------


def peak_pass(rows: int, width: int, columns: int, repeats: int = 5) -> tuple[float, float]:
    """Return the seconds of X Wᵀ and Rᵀ X alone in float32, the best of a few, and their GFLOP/s."""
    import torch

    X, W, R = torch.randn(rows, width), torch.randn(columns, width), torch.randn(columns, rows)
    forward, back = torch.empty(columns, rows), torch.empty(columns, width)
    best = np.inf
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        torch.mm(W, X.T, out=forward)
        torch.mm(R, X, out=back)
        best = min(best, time.perf_counter() - begun)
    return best, 4 * rows * width * columns / best / 1e9
