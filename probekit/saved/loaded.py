"""Saved probes, found by name and used as scikit-learn's classifiers and regressors are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.components import LinearMap, Tap, Wanted
from probekit.errors import InputError, ProbekitWarning, Problem, SpecError, listed, nearest
from probekit.saved.files import IDENTITY, damaged, read_index, read_tensors
from probekit.saved.programs import program_from_json, program_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from probekit.components import Array, Task
    from probekit.saved.files import FeaturesRecord, LabelsRecord, ModelRecord, ProbeRecord, ProbesIndex

    Matrix = npt.ArrayLike
    """Features of shape (rows, features)."""


@dataclass(frozen=True)
class Recipe:
    """How the features of a probe come about.

    Args:
        model: the model at its checkpoint: its section of the spec, its fingerprint and what it was fed.
        tensor: the tapped tensor's own name.
        wanted: tap, program and number of features; None where a plugin's own step cannot be saved.
        reason: why it cannot.
        per: what a row is: ``example`` or ``position``.
        mask: the mask of ``per: position``.
    """

    model: ModelRecord
    tensor: str
    wanted: Wanted | None
    reason: str | None
    per: str
    mask: str | None


class LoadedProbe:
    """A linear probe that a run has saved, in the units of the features that the feature store holds.

    Args:
        record: its identity, λ and certificate.
        labels: what it predicts.
        linear: W and b.
        recipe: how its features come about.

    Attributes:
        coef_: W, float64, shape (outputs, features), or (features,) for a number. Two classes have two rows.
        intercept_: b, shape (outputs,), or one value for a number; -inf for a class without training examples.
        n_features_in_: features of a row.
        classes_: names of the classes, or of the yes/no labels; a number has none.
        task: ``classes``, ``multilabel`` or ``number``.
    """

    def __init__(self, record: ProbeRecord, labels: LabelsRecord, linear: LinearMap, recipe: Recipe) -> None:
        self.record, self.linear, self.recipe = record, linear, recipe
        self.task: Task = labels.task
        number = labels.task == "number"
        self.coef_: Array = linear.weights[0] if number else linear.weights
        self.intercept_: Any = float(linear.bias[0]) if number else linear.bias
        self.n_features_in_ = int(linear.weights.shape[1])
        if not number:
            self.classes_ = np.array(labels.classes, dtype=np.str_)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name in IDENTITY if (value := getattr(self.record, name)) is not None)
        return f"{type(self).__name__}({shown})"

    def predict(self, X: Matrix) -> Array:
        """Predict for features of shape (rows, features).

        Returns:
            shape (rows,): class names, or numbers; of yes/no labels shape (rows, labels), 1 for yes and 0 for no.

        Raises:
            ValueError: X has another shape, or values that are NaN or infinite.
        """
        scores = self._scores(X)
        if self.task == "number":
            return np.asarray(scores[:, 0])
        if self.task == "multilabel":
            return (scores > 0).astype(np.int64)
        return np.asarray(self.classes_[scores.argmax(axis=1)])

    @property
    def predict_proba(self) -> Callable[[Matrix], Array]:
        """Function from X to shape (rows, outputs): the probability of each class, or of yes for each label.

        Raises:
            AttributeError: a number has no probabilities.
        """
        return self._classifying("predict_proba", self._probabilities)

    @property
    def decision_function(self) -> Callable[[Matrix], Array]:
        """Function from X to the logits, shape (rows, outputs); for two classes shape (rows,), above 0 for the second.

        Raises:
            AttributeError: a number has none.
        """
        return self._classifying("decision_function", self._logits)

    def score(self, X: Matrix, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
        """Compare predictions with the truth.

        Args:
            X: shape (rows, features).
            y: class names, 0 and 1 of shape (rows, labels), or numbers.
            sample_weight: of each row; default: equal.

        Returns:
            the accuracy, of yes/no labels the share of rows all of whose labels are right; of a number R².

        Raises:
            ValueError: shapes do not fit, or y has no value that is a class.
        """
        predicted, truth = self.predict(X), np.asarray(y)
        if self.task == "number":
            from sklearn.metrics import r2_score

            return float(r2_score(truth, predicted, sample_weight=sample_weight))
        if self.task == "classes":
            truth = truth.astype(np.str_)
            if len(truth) and not np.isin(truth, self.classes_).any():
                given, known = listed(dict.fromkeys(truth.tolist()), 3), listed(self.classes_, 3)
                raise ValueError(f"y has no value that is a class: {given}; the classes are {known}")
        if truth.shape != predicted.shape:
            raise ValueError(f"y has shape {truth.shape}, the predictions have {predicted.shape}")
        right = (truth == predicted).reshape(len(truth), -1).all(axis=1)
        return float(np.average(right, weights=None if sample_weight is None else np.asarray(sample_weight)))

    def attach(self, module: nn.Module) -> nn.Module:
        """Return a module whose forward gives (the module's own output, this probe's probabilities).

        See :class:`probekit.saved.torch_module.ProbedModule`. ``module`` itself is not changed.

        Args:
            module: the PyTorch model that the probe was fitted on, or another one with the same tap.

        Raises:
            InputError: ``PK-M26`` it has no such tap, ``PK-X15`` the reduction cannot be saved.
        """
        from probekit.saved.torch_module import ProbedModule

        return ProbedModule(module, self)

    def wanted(self) -> Wanted:
        """Return the tap, the program and the number of features.

        Raises:
            InputError: ``PK-X15``, a plugin's own step could not be saved.
        """
        if self.recipe.wanted is None:
            what = f"the reduction {self.record.reduction!r} cannot be saved: {self.recipe.reason}"
            hint = "give the features to predict_proba, or use a built-in reduction"
            raise InputError(Problem("PK-X15", what, hint))
        return self.recipe.wanted

    def _scores(self, X: Matrix) -> Array:
        features = np.asarray(X)
        if features.ndim != 2:
            raise ValueError(f"X has shape {features.shape}, expected (rows, features)")
        if features.shape[1] != self.n_features_in_:
            what = f"X has {features.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_}"
            raise ValueError(f"{what} features as input")
        features = features.astype(np.float64)
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise ValueError(f"X contains NaN or infinity, first in row {int(np.argmin(finite))}")
        return np.asarray(features @ self.linear.weights.T + self.linear.bias)

    def _logits(self, X: Matrix) -> Array:
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if self.task == "classes" and scores.shape[1] == 2 else scores

    def _probabilities(self, X: Matrix) -> Array:
        return (sigmoid if self.task == "multilabel" else softmax)(self._scores(X))

    def _classifying(self, name: str, function: Callable[[Matrix], Array]) -> Callable[[Matrix], Array]:
        if self.task == "number":
            raise AttributeError(f"{type(self).__name__!r} of a number has no attribute {name!r}")
        return function


def softmax(scores: Array) -> Array:
    """Return probabilities over the last axis, without overflow; -inf gives 0."""
    above = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(above / above.sum(axis=-1, keepdims=True))


def sigmoid(scores: Array) -> Array:
    """Return 1 / (1 + e^-x) without overflow; -inf gives 0."""
    return np.asarray(np.exp(-np.logaddexp(0, -scores)))


def load_probe(
    run: str | Path,
    tap: str,
    factor: str,
    *,
    reduction: str | None = None,
    probe: str | None = None,
    model: str | None = None,
    checkpoint: str | None = None,
    control: str | None = None,
    seed: int | None = None,
) -> LoadedProbe:
    """Load a fitted probe of a run.

    What is not given must not be needed to tell one probe from all others. A probe whose certificate was missed is
    loaded with a :class:`ProbekitWarning`.

    Args:
        run: the run directory.
        tap: as results call it, or the tensor's own name.
        factor: the label factor.
        reduction: its name in the spec, ``flatten`` where none of the spec's applied.
        probe: its name in the spec.
        model: its name in the spec.
        checkpoint: its name.
        control: its name; default: the probe of the true labels.
        seed: of the control.

    Raises:
        InputError: ``PK-X10`` the run has no saved probes, ``PK-X13`` this one could not be saved.
        SpecError: ``PK-X11`` there is no such probe, ``PK-X12`` there are several.
    """
    path, index = read_index(run)
    given = {
        "model": model, "checkpoint": checkpoint, "tap": tap, "factor": factor, "control": control,
        "reduction": reduction, "probe": probe, "seed": seed,
    }  # fmt: skip
    record = _find(index, given)
    if record.tensor is None:
        what = f"the probe for {factor!r} at {tap!r} is not saved: {record.left_out}"
        raise InputError(Problem("PK-X13", what, "load the probe of another kind or reduction"))
    try:
        model_record = index.models[record.model_name]
        features, labels = index.features[record.features], index.labels[record.labels]
        steps = features.program
        arrays = read_tensors(
            path, [f"weights.{record.tensor}", f"bias.{record.tensor}", *(program_tensors(steps) if steps else [])]
        )
        linear = LinearMap(arrays[f"weights.{record.tensor}"], arrays[f"bias.{record.tensor}"])
        wanted = _wanted(features, arrays)
    except (LookupError, TypeError) as error:
        raise InputError(damaged(path, str(error))) from error
    outputs = 1 if labels.task == "number" else len(labels.classes)
    if linear.weights.shape != (outputs, features.width) or linear.bias.shape != (outputs,):
        shapes = f"weights {linear.weights.shape} for {outputs} outputs of {features.width} features"
        raise InputError(damaged(path, shapes))
    if record.certificate.status == "missed":
        bound = record.certificate.of_chance
        known = "nothing bounds its distance from it" if bound is None else f"off by up to {bound:.2g} of chance"
        what = f"the probe for {factor!r} at {tap!r} is not proven to be at its optimum ({known})"
        warnings.warn(what, ProbekitWarning, stacklevel=2)
    rows = index.rows
    recipe = Recipe(model_record, features.tensor.name, wanted, features.reason, rows.per, rows.mask)
    return LoadedProbe(record, labels, linear, recipe)


def _wanted(features: FeaturesRecord, arrays: dict[str, Array]) -> Wanted | None:
    if features.program is None:
        return None
    tap = Tap(**features.tensor.model_dump())
    return Wanted(tap, program_from_json(features.program, arrays), features.width)


def _find(index: ProbesIndex, given: dict[str, Any]) -> ProbeRecord:
    """Return the one probe that the names mean.

    Raises:
        SpecError: ``PK-X11``, ``PK-X12``.
    """
    left = index.probes
    for name, value in given.items():
        if value is None and name != "control":
            continue
        there = [record for record in left if getattr(record, name) == value]
        if not there and name == "tap":
            there = [record for record in left if index.features[record.features].tensor.name == value]
        if not there:
            raise SpecError(_unknown(name, value, left))
        left = there
    several = {name: _choices(name, left) for name in given}
    deciding = {name: values for name, values in several.items() if len(values) > 1}
    if len(left) == 1:
        return left[0]
    differ = "; ".join(f"{name}: {', '.join(values)}" for name, values in deciding.items())
    what = f"{len(left)} probes for {given['factor']!r} at {given['tap']!r} differ in {differ}"
    hint = f"name {' and '.join(f'{name}= (--{name})' for name in deciding)}"
    raise SpecError(Problem("PK-X12", what, hint))


def _choices(name: str, records: Sequence[ProbeRecord]) -> list[str]:
    values = dict.fromkeys(getattr(record, name) for record in records)
    return ["(none)" if value is None else str(value) for value in values]


def _unknown(name: str, value: Any, left: Sequence[ProbeRecord]) -> Problem:
    known = _choices(name, left)
    if value is None:
        return Problem("PK-X11", "there is no probe of the true labels here", f"name control=: {', '.join(known)}")
    return Problem("PK-X11", f"no saved probe has the {name} {str(value)!r}", nearest(str(value), known, f"{name}s"))
