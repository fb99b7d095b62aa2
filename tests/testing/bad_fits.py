"""Reductions and probes with one fault each, by the check that must find it and what it must say."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from probekit.components import (
    Certificate,
    FitContext,
    FitProgress,
    FittedProbe,
    LearnedReduction,
    LinearMap,
    Probe,
    Reduction,
    Tap,
)
from probekit.errors import InputError, Problem
from probekit.reductions.data_free import FlattenReduction, SubsetReduction
from probekit.reductions.pca import PcaReduction
from probekit.sections import runtime_option
from probekit.steps import Flatten, MatMul, Program, Step

Given = Callable[[Any], dict[str, Any]]


def reduction_of(made: type[Reduction], **fields: Any) -> Given:
    def given(_: Any) -> dict[str, Any]:
        return {"reduction": made(**fields)}

    given.__name__ = made.__name__
    return given


@dataclass(frozen=True)
class _Step:
    """Flattens; what else it does is its fault."""

    def shape(self, shape: Any) -> Any:
        return Flatten().shape(shape)

    def apply(self, activation: Any, masks: Any = None) -> Any:
        return Flatten().apply(activation)


class _Wide(_Step):
    def shape(self, shape: Any) -> Any:
        return (3,)


class _Whole(_Step):
    def shape(self, shape: Any) -> Any:
        return shape


class _Centred(_Step):
    def apply(self, activation: Any, masks: Any = None) -> Any:
        flat = super().apply(activation)
        return flat - flat.mean(axis=0)


class _InPlace(_Step):
    def apply(self, activation: Any, masks: Any = None) -> Any:
        activation *= 2
        return super().apply(activation)


class _WithStep(FlattenReduction):
    def step(self) -> Step:
        raise NotImplementedError

    def program(self, tap: Tap) -> Program:
        return (*super().program(tap)[:0], self.step()) if super().program(tap) else ()


class LiesOfItsWidth(_WithStep):
    def step(self) -> Step:
        return _Wide()


class LeavesAxes(_WithStep):
    def step(self) -> Step:
        return _Whole()


class CentresTheBatch(_WithStep):
    def step(self) -> Step:
        return _Centred()


class WorksInPlace(_WithStep):
    def step(self) -> Step:
        return _InPlace()


class AnswersForUnknown(FlattenReduction):
    def program(self, tap: Tap) -> Program:
        return (Flatten(),)


class CrashesOnUnknown(FlattenReduction):
    def program(self, tap: Tap) -> Program:
        assert tap.shape is not None, "no shape"
        return (Flatten(),)


class DrawsAnew(FlattenReduction):
    def program(self, tap: Tap) -> Program:
        size = Flatten().shape(tap.shape or ())[0] if super().program(tap) else 0
        return (Flatten(), MatMul(np.random.default_rng().standard_normal((size or 1, 2)).astype(np.float32)))


class OneDrawOften(SubsetReduction):
    def draws(self) -> dict[int, Reduction]:
        return dict.fromkeys(range(3), self)


class BeginsWithAnother(SubsetReduction):
    def draws(self) -> dict[int, Reduction]:
        return dict(list(super().draws().items())[1:])


class FitsAtRandom(PcaReduction):
    def fit(self, features: Any) -> Any:
        directions = np.random.default_rng().standard_normal((2, features.shape[1]))
        return LinearMap(directions, np.zeros(2))


class CentresAtUse(LearnedReduction):
    kind: Literal["centres"] = "centres"

    def program(self, tap: Tap) -> Program:
        return FlattenReduction().program(tap)

    def fit(self, features: Any) -> Any:
        return lambda rows: rows - rows.mean(axis=0)


class CentresInPlace(PcaReduction):
    def fit(self, features: Any) -> Any:
        features -= features.mean(axis=0)
        return super().fit(features)


REDUCTIONS = [
    reduction_of(FlattenReduction), reduction_of(SubsetReduction, features=3, seeds=3),
    reduction_of(PcaReduction, features=2),
]  # fmt: skip

BAD_REDUCTIONS: dict[str, dict[Given, str]] = {
    "test_program_gives_what_its_shape_says": {
        reduction_of(LiesOfItsWidth): "its shape says", reduction_of(LeavesAxes): "its shape is",
        reduction_of(AnswersForUnknown): "gets a program", reduction_of(CrashesOnUnknown): "no shape"},
    "test_rows_do_not_depend_on_the_batch": {reduction_of(CentresTheBatch): "alone and in a batch"},
    "test_program_is_the_same_every_time": {reduction_of(DrawsAnew): "differs in a second call"},
    "test_program_leaves_the_activation_alone": {reduction_of(WorksInPlace): "changes the activation"},
    "test_draws_begin_with_itself": {
        reduction_of(OneDrawOften, features=3): "3 draws have 1 programs",
        reduction_of(BeginsWithAnother, features=3, seeds=3): "is another reduction"},
    "test_a_learned_reduction_is_fitted_to_training_rows": {
        reduction_of(FitsAtRandom, features=2): "two fits", reduction_of(CentresAtUse): "alone and among others",
        reduction_of(CentresInPlace, features=2): "changes the features"},
}  # fmt: skip


# --- probes


class Fitted(FittedProbe):
    def __init__(self, linear: LinearMap) -> None:
        self.linear, self.penalty, self.certificate, self.seconds = linear, None, Certificate("not_applicable"), 0.0

    def logits(self, features: Any) -> Any:
        assert self.linear is not None
        return self.linear(features)


class LeastSquares(Probe):
    """Least squares on one-hot classes: a probe in its smallest form."""

    kind: Literal["least_squares"] = "least_squares"
    fault: str = runtime_option("", "what it does wrong")

    def fit(self, features: Any, targets: Any, context: FitContext | None = None) -> list[FittedProbe]:
        return [self._fit(features, target, targets, context or FitContext()) for target in targets]

    def _fit(self, features: Any, target: Any, targets: Any, context: FitContext) -> FittedProbe:
        if self.fault == "crashes on numbers" and target.task == "number":
            raise ZeroDivisionError
        if self.fault == "refuses all":
            raise InputError(Problem("PK-L13", "nothing is served"))
        x = np.asarray(features, np.float64) if self.fault != "needs an array" else features.array
        rows = np.arange(len(x)) if self.fault == "sees all rows" else target.train
        rows = rows[target.known()[rows]]
        if self.fault == "takes the others' rows" and len(targets) > 1:
            rows = rows[: len(rows) // 2]
        codes = target.codes[rows]
        y = np.eye(target.outputs)[codes] if target.task == "classes" else 2.0 * codes.reshape(len(rows), -1)
        y = y - 1 if target.task == "multilabel" else y
        inputs = np.hstack([x[rows], np.ones((len(rows), 1))])
        weights = np.linalg.lstsq(inputs, y, rcond=None)[0]
        if target.task == "number":
            weights /= 2
        if self.fault == "negative":
            weights *= -1
        if self.fault == "random":
            weights += np.random.default_rng().standard_normal(weights.shape)
        if self.fault == "writes":
            target.codes[rows[0]] = 0 if target.task == "number" else target.codes[rows[0]] * 0
            np.asarray(features.array)[0] = 0
        try:
            context.tell(FitProgress(1, 1, None, 1))
        except Exception:
            if self.fault != "swallows":
                raise
        made: FittedProbe = Fitted(LinearMap(weights[:-1].T, weights[-1]))
        return FAULTS[self.fault](made) if self.fault in FAULTS else made


class Transposed(Fitted):
    def logits(self, features: Any) -> Any:
        return super().logits(features).T


class Doubles(Fitted):
    def logits(self, features: Any) -> Any:
        return super().logits(features).astype(np.float64)


class CentresRows(Fitted):
    def logits(self, features: Any) -> Any:
        found = super().logits(features)
        return found - found.mean(axis=0) if len(found) else found


class HalfTheMap(Fitted):
    def logits(self, features: Any) -> Any:
        return super().logits(features) / 2


class HoldsALambda(Fitted):
    def __init__(self, linear: LinearMap) -> None:
        super().__init__(linear)
        self.more = lambda: None


class ProvenOfNothing(Fitted):
    def __init__(self, linear: LinearMap) -> None:
        super().__init__(linear)
        self.certificate = replace(self.certificate, status="proven")


FAULTS: dict[str, Any] = {
    name: lambda made, kind=kind: kind(made.linear)
    for name, kind in {
        "transposed": Transposed, "float64": Doubles, "centres": CentresRows, "half": HalfTheMap,
        "lambda": HoldsALambda, "proven": ProvenOfNothing,
    }.items()
}  # fmt: skip


class LosesOne(LeastSquares):
    def fit(self, features: Any, targets: Any, context: FitContext | None = None) -> list[FittedProbe]:
        return super().fit(features, targets, context)[: max(1, len(targets) - 1)]


def probe_of(made: type[Probe], fault: str = "") -> Given:
    def given(_: Any) -> dict[str, Any]:
        return {"probe": made(fault=fault)}

    given.__name__ = fault or made.__name__
    return given


def bad(fault: str) -> Given:
    return probe_of(LeastSquares, fault)


PROBES = [probe_of(LeastSquares)]

BAD_PROBES: dict[str, dict[Given, str]] = {
    "test_fit_gives_a_probe_for_each_target": {
        probe_of(LosesOne): "4 probes for 5", bad("transposed"): "not", bad("float64"): "float64",
        bad("proven"): "proven", bad("crashes on numbers"): "ZeroDivisionError",
        bad("refuses all"): "refuses every task"},
    "test_a_probe_reads_what_is_there": {bad("negative"): "its test error is"},
    "test_other_rows_play_no_part": {bad("sees all rows"): "with other test rows"},
    "test_fits_are_the_same_every_time": {bad("random"): "two fits", bad("writes"): "fit changes"},
    "test_targets_do_not_know_each_other": {bad("takes the others' rows"): "alone and beside others"},
    "test_features_may_be_read_as_needed": {bad("needs an array"): "read as needed"},
    "test_rows_are_scored_one_by_one": {
        bad("centres"): "alone and among others", bad("half"): "weights x"},
    "test_who_listens_can_end_the_fit": {bad("swallows"): "swallowed"},
    "test_a_fitted_probe_pickles": {bad("lambda"): "pickling"},
}  # fmt: skip
