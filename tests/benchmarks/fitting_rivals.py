"""What a user would fit a probe with instead, scikit-learn first: the cheapest setting that reaches a true gap.

Every fit begins with the features as they are and ends with W and b, standardising included. Nothing here is run by
itself.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from unittest import mock

import numpy as np
from fitting_truth import Weights, inverse_penalty, two_rows
from side_by_side import OwnTime

MOST_ITERATIONS = 1_000_000
_NEWTON_FLOPS = 3e11
"""Of one exact Hessian; a larger one takes longer than all other rivals together."""


@dataclass(frozen=True)
class Contest:
    """One problem as every rival sees it.

    Args:
        features: shape (rows, features), float32, not standardised.
        codes: of the classes.
        penalty: λ.
        gap: gives (objective - optimum) ÷ optimum of some W and b, in float64.
        lower: what the optimum is at least.
        goal: the gap to reach.
        limit: seconds that the search for a setting, and any fit, may take.
    """

    features: np.ndarray
    codes: np.ndarray
    penalty: float
    gap: Callable[[Weights], float]
    lower: float
    goal: float = 1e-4
    limit: float = 300.0

    @property
    def classes(self) -> int:
        return int(self.codes.max()) + 1

    @property
    def inverse_penalty(self) -> float:
        return inverse_penalty(self.penalty, len(self.codes), self.classes)


@dataclass(frozen=True)
class Found:
    """A rival's cheapest setting.

    Args:
        setting: as text.
        gap: that it reaches.
        seconds: of the fit during the search.
        fit: does it again.
    """

    setting: str
    gap: float
    seconds: float
    fit: Callable[[], Any]


class Rival(Protocol):
    """One way to fit a probe."""

    name: str
    settings: str

    def search(self, contest: Contest) -> Found | str:
        """Return the cheapest setting that reaches the goal, or the best within the limit; or why there is none."""


def result(returned: Any) -> Weights:
    """Return what a fit gives, with or without a time of its own."""
    return returned.result if isinstance(returned, OwnTime) else returned


def smallest(
    attempt: Callable[[int], tuple[float, float]], goal: float, limit: float, most: int = MOST_ITERATIONS
) -> tuple[int, float, float]:
    """Return the smallest count that reaches a goal, to 5 %: doubling, then bisection.

    Args:
        attempt: gives (gap, seconds) of a count; costs about as much more as the count is larger.
        goal: the gap to reach.
        limit: seconds; no attempt begins that would end later.
        most: the largest count.

    Returns:
        count, gap, seconds; the gap is above the goal where the limit came first.
    """
    count, low = 1, 0
    gap, seconds = attempt(count)
    best, spent = (count, gap, seconds), seconds
    while gap > goal and count < most and spent + 2 * seconds <= limit:
        low, count = count, min(2 * count, most)
        gap, seconds = attempt(count)
        spent += seconds
        if gap < best[1]:
            best = (count, gap, seconds)
    if gap > goal:
        return best
    best = (count, gap, seconds)
    while best[0] - low > max(1, best[0] // 20) and spent + best[2] <= limit:
        middle = (low + best[0]) // 2
        gap, seconds = attempt(middle)
        spent += seconds
        if gap <= goal:
            best = (middle, gap, seconds)
        else:
            low = middle
    return best


def by_count(contest: Contest, fit: Callable[[int], Any], name: str) -> Found:
    """Search a setting that counts iterations."""

    def attempt(count: int) -> tuple[float, float]:
        begun = time.perf_counter()
        returned = fit(count)
        seconds = returned.seconds if isinstance(returned, OwnTime) else time.perf_counter() - begun
        return contest.gap(result(returned)), seconds

    count, gap, seconds = smallest(attempt, contest.goal, contest.limit)
    return Found(f"{name}={count}", gap, seconds, lambda: fit(count))


def standardised(features: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Return scikit-learn's standardised features."""
    from sklearn.preprocessing import StandardScaler

    return np.asarray(StandardScaler().fit_transform(features.astype(dtype, copy=False)))


@contextmanager
def silent() -> Iterator[None]:
    """Let nobody say that it has not converged: the true gap says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- scikit-learn ----------------------------------------------------------------------------------------------------


@dataclass
class Trace:
    """Follows SciPy's L-BFGS from outside, and stops it where the true gap is small enough or the time is up.

    Args:
        contest: what is fitted.
        iterations: so far.
        gap: the last one that was evaluated.
        excluded: seconds that evaluating took.
    """

    contest: Contest
    iterations: int = 0
    gap: float = np.inf
    excluded: float = 0.0
    begun: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begun - self.excluded

    def __call__(self, intermediate_result: Any) -> None:
        self.iterations += 1
        at_limit = self.seconds > self.contest.limit
        # The solver's own objective is ours up to rounding; where it is far away, nothing need be evaluated.
        if intermediate_result.fun <= self.contest.lower * (1 + 2 * self.contest.goal) or at_limit:
            begun = time.perf_counter()
            self.gap = self.contest.gap(_unravelled(intermediate_result.x, self.contest.classes))
            self.excluded += time.perf_counter() - begun
        if self.gap <= self.contest.goal or at_limit:
            raise StopIteration

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Be called by SciPy."""
        from scipy import optimize

        plain = optimize.minimize

        def followed(*args: Any, **options: Any) -> Any:
            return plain(*args, **(options | {"callback": self}))

        with mock.patch.object(optimize, "minimize", followed):
            yield


def _unravelled(x: np.ndarray, classes: int) -> Weights:
    if classes == 2:
        return two_rows(x[:-1], x[-1])
    both = x.reshape(classes, -1, order="F").astype(np.float64)
    return both[:, :-1], both[:, -1]


def sklearn_weights(model: Any) -> Weights:
    """Return W and b of a fitted LogisticRegression, two rows for two classes."""
    if len(model.classes_) == 2:
        return two_rows(model.coef_[0], model.intercept_[0])
    return np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)


def sklearn_model(contest: Contest, solver: str, count: int, **options: Any) -> Any:
    """Return scikit-learn's estimator, which stops after so many iterations."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=contest.inverse_penalty, solver=solver, max_iter=count, tol=0.0, **options)


class SklearnLbfgs:
    """float32 features; float64 where float32 does not get there."""

    name = "scikit-learn lbfgs"
    settings = "StandardScaler, LogisticRegression(C=1/(N λ), tol=0, max_iter=the first iteration within the gap)"

    def search(self, contest: Contest) -> Found:
        found: list[Found] = []
        for dtype in (np.float32, np.float64):
            X, trace = standardised(contest.features, dtype), Trace(contest)
            with trace.attached(), silent():
                model = sklearn_model(contest, "lbfgs", MOST_ITERATIONS).fit(X, contest.codes)
            seconds = trace.seconds
            gap = contest.gap(sklearn_weights(model))
            fit = self._fit(contest, dtype, max(trace.iterations, 1))
            setting = f"{np.dtype(dtype).name}, max_iter={trace.iterations}"
            found.append(Found(setting, gap, seconds, fit))
            if gap <= contest.goal or seconds > contest.limit:
                break
        return min(found, key=lambda one: (one.gap > contest.goal, one.gap))

    def _fit(self, contest: Contest, dtype: Any, count: int) -> Callable[[], Weights]:
        def fit() -> Weights:
            with silent():
                X = standardised(contest.features, dtype)
                return sklearn_weights(sklearn_model(contest, "lbfgs", count).fit(X, contest.codes))

        return fit


@dataclass(frozen=True)
class SklearnOther:
    """A solver that is only told how many iterations to make."""

    solver: str

    @property
    def name(self) -> str:
        return f"scikit-learn {self.solver}"

    @property
    def settings(self) -> str:
        return f"StandardScaler, float32, LogisticRegression(solver='{self.solver}', tol=0, max_iter=smallest)"

    def search(self, contest: Contest) -> Found | str:
        rows, unknowns = len(contest.features), contest.features.shape[1] * max(1, contest.classes - 1)
        if self.solver == "newton-cholesky" and rows * unknowns**2 > _NEWTON_FLOPS:
            return f"its Hessian has {unknowns} rows: {2 * rows * unknowns**2:.0e} flops an iteration"

        def fit(count: int) -> Weights:
            with silent():
                X = standardised(contest.features)
                return sklearn_weights(sklearn_model(contest, self.solver, count, random_state=0).fit(X, contest.codes))

        return by_count(contest, fit, "max_iter")
