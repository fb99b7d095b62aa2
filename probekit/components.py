"""The vocabulary of a plugin author: what can be tapped, and the base class of everything that a spec can name."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from probekit.errors import InputError, Problem
from probekit.sections import Component, Name, Section, SpecPath, fault, runtime_option, told_by_fingerprint
from probekit.steps import Masks, run_program

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from probekit.results import RunResult
    from probekit.steps import Program

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
Columns = Mapping[str, Array]
Feed = Mapping[str, Array]
"""The model's inputs by name; first axis of each that has one: the batch."""


# --- what the graph of a model is made of ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Tap:
    """One named intermediate tensor.

    Args:
        name: the ONNX tensor's own name, or ``module``, ``module#1`` (second call), ``module:in``, ``module[0]``,
            ``module[key]`` of an eager framework.
        op: the operator or module class that produces it; ``Input`` for the model's inputs.
        shape: without the batch axis; None for an axis whose size is not known before a run; None as a whole when
            nothing is known.
        dtype: NumPy's name of it, or the runtime's where NumPy has none.
        layout: one letter an axis, batch axis included (``NCHW``, ``NTC`` ...); empty where it is not certain.
        depth: position in execution order, from 0.
        untappable: why it cannot be tapped; empty when it can.
        batch_axis: the axis that ``shape`` leaves out; the N of ``layout``.
    """

    name: str
    op: str
    shape: tuple[int | None, ...] | None
    dtype: str
    layout: str = ""
    depth: int = 0
    untappable: str = ""
    batch_axis: int = 0


@dataclass(frozen=True)
class Graph:
    """Everything that can be tapped in a model, in execution order, and what feeds what.

    Args:
        taps: in execution order.
        edges: pairs of tap names; a pair (a, b) says that b is computed from a.
        outputs: names of the taps that are the model's own outputs, the main one first.
    """

    taps: tuple[Tap, ...]
    edges: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()

    def tap(self, name: str) -> Tap | None:
        """Return the tap called ``name``, None when there is none."""
        return next((tap for tap in self.taps if tap.name == name), None)

    def contract(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return the pairs (a, b) out of ``names`` with a path from a to b that passes no other of them."""
        wanted = set(names)
        sources: dict[str, list[str]] = {}
        for a, b in self.edges:
            sources.setdefault(b, []).append(a)
        reach: dict[str, frozenset[str]] = {}
        edges = []
        for tap in self.taps:
            before = frozenset().union(
                *({a} if a in wanted else reach.get(a, frozenset()) for a in sources.get(tap.name, ()))
            )
            reach[tap.name] = before
            if tap.name in wanted:
                edges += [(a, tap.name) for a in sorted(before)]
        return edges


@dataclass(frozen=True)
class ModelInput:
    """One input of a model.

    Args:
        name: as the model calls it.
        shape: batch axis included where there is one; None for an axis of any size.
        dtype: NumPy's name of it.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str | None


LAYOUTS = ("NC", "NCHW", "NHWC", "NCDHW", "NCT", "NTC", "TNC")


# --- backends --------------------------------------------------------------------------------------------------------


class InputBinding(Section):
    """What one input of the model is fed: exactly one of ``column``, ``zeros`` and ``value``."""

    column: str | None = Field(None, description="name of a dataset's input or column")
    zeros: list[int | Literal["N"]] | None = Field(None, description="a tensor of zeros; N stands for the batch size")
    value: int | float | bool | list[int | float] | None = Field(None, description="the same value for every batch")
    dtype: str | None = Field(None, description="NumPy's name of the dtype; default: the one the model declares")

    @model_validator(mode="after")
    def _one_source(self) -> InputBinding:
        given = [name for name in ("column", "zeros", "value") if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"needs exactly one of 'column', 'zeros', 'value', got {given or 'none'}"
            raise fault("PK-Y29", what)
        return self


class ModelOutput(Section):
    """The model's own prediction of a label factor: the argmax of one of its tensors."""

    factor: str = Field(description="the label factor that the model predicts")
    name: str | None = Field(None, description="the tensor whose argmax is the prediction; default: the first output")
    classes: Literal["integers", "sorted"] | list[str] = Field(
        "integers",
        description="the class that each entry of the output means: 'integers' (entry 3 is class '3'), 'sorted' (the "
        "factor's classes in their order), or a list of class names",
    )
    classes_file: SpecPath | None = Field(
        None, description="a text file with one class name a line, instead of 'classes'; an empty line is no class"
    )


class CheckpointFiles(Section):
    """Checkpoints that are found by a pattern, in the order of their steps."""

    glob: SpecPath = Field(description="the files: ``ckpt/step_*.safetensors``; only ``*`` and ``?`` are special")
    step: str = Field(
        "*",
        description="where the step stands in a file's name without its ending: ``step_*``; a checkpoint's name is "
        "what ``*`` stands for",
    )


NamedCheckpoints = Annotated[dict[Name, SpecPath | None], Field(min_length=1)]
"""Checkpoints by name; None stands for the model as it is."""

_NAMED_CHECKPOINTS: TypeAdapter[dict[str, str | None]] = TypeAdapter(NamedCheckpoints)

TapFunction = Callable[[Feed], Mapping[str, Array]]
"""From the model's inputs for one batch to the activations {tap name: (batch, ...)}."""


@dataclass(frozen=True)
class Wanted:
    """One feature matrix that a pass over the model is to give.

    Args:
        tap: with the shape, layout and batch axis that a trial run saw.
        program: from its activation to features.
        width: features that the program gives.
    """

    tap: Tap
    program: Program
    width: int


ReducedFunction = Callable[[Feed, Masks], Sequence[FloatArray]]
"""From the model's inputs and the masks of one batch to the features of all that is wanted, each (rows, width)."""


class Backend(Component):
    """A frozen model in the runtime that runs it.

    A third party writes :meth:`signature`, :meth:`graph`, :meth:`open` and :meth:`fingerprint`. A runtime that can
    reduce activations itself also overrides :meth:`open_reduced`.
    """

    category: ClassVar[str] = "backend"

    inputs: dict[str, InputBinding] = Field(
        default_factory=dict,
        description="what each input of the model is fed; default: the dataset's input of that name, or its only one",
    )
    output: ModelOutput | None = told_by_fingerprint(None, "the model's own prediction, for comparison with the probes")
    checkpoints: NamedCheckpoints | CheckpointFiles | None = told_by_fingerprint(
        None,
        "files with other parameters of the same model: {NAME: FILE, ...}, null for the model as it is, or "
        "{glob: PATTERN, step: PATTERN}; each is probed",
    )
    batch_size: int = runtime_option(64, "examples in one forward pass", ge=1, le=1_000_000)

    @field_validator("checkpoints", mode="wrap")
    @classmethod
    def _named_or_found(cls, value: Any, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return handler(value)
        # A pattern would pass as two files that are called 'glob' and 'step'.
        if "glob" in value:
            return CheckpointFiles.model_validate(value, context=info.context)
        return _NAMED_CHECKPOINTS.validate_python(value, context=info.context)

    def identity(self) -> dict[str, Any]:
        """Return the fields that shape values, without paths: the fingerprint tells what the files hold."""
        told = type(self).model_fields
        paths = {name for name, info in told.items() if _is_path(info) or _holds_path(info.annotation)}
        return {name: value for name, value in super().identity().items() if name not in paths}

    @abstractmethod
    def signature(self) -> tuple[ModelInput, ...]:
        """Return the model's inputs. An eager framework that cannot know shapes gives None for them."""

    @abstractmethod
    def graph(self, example: Feed | None = None) -> Graph:
        """Return everything that can be tapped.

        Args:
            example: the inputs of one small batch. A format that describes itself ignores it; an eager framework
                runs it once, and raises InputError when it is None.
        """

    @abstractmethod
    def open(self, taps: Sequence[str]) -> AbstractContextManager[TapFunction]:
        """Load the model and return the function that runs it.

        Args:
            taps: names out of :meth:`graph`.

        Yields:
            a function from one batch of inputs to ``{tap: activation}``; each activation is a NumPy array, in the
            model's own dtype, that nothing changes afterwards, with the batch as first axis.
        """

    @contextmanager
    def open_reduced(self, wanted: Sequence[Wanted]) -> Iterator[ReducedFunction]:
        """Load the model and return the function that runs it and gives features only.

        This one runs the taps' programs in NumPy. A runtime that overrides it must give the same features.

        Args:
            wanted: what each call gives, in this order; several may have one tap.

        Yields:
            a function from one batch of inputs and its masks, {name: (batch, ...)}, to one array per wanted.
        """
        with self.open(list(dict.fromkeys(one.tap.name for one in wanted))) as run:

            def reduced(feed: Feed, masks: Masks) -> list[FloatArray]:
                found = run(feed)
                return [run_program(one.program, found[one.tap.name], masks) for one in wanted]

            yield reduced

    def compare(self, wanted: Sequence[Wanted], feed: Feed, masks: Masks) -> dict[str, Any]:  # noqa: ARG002
        """Return how much reading the taps changes what is computed, for the provenance.

        Args:
            wanted: what a pass gives.
            feed: the first batch.
            masks: of that batch.

        Returns:
            ``against_unoptimised``: {tap: largest difference from the same tap of the graph without optimisations, as a
            share of its largest value}; ``output_against_untapped``: the same for the model's first output with and
            without the taps. Empty where a runtime cannot tell.
        """
        return {}

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest of the weights and the graph, the same on every machine."""

    def tap_fingerprints(self, taps: Sequence[str]) -> dict[str, str]:
        """Return, for each tap, a digest of all that its values come from beside the model's inputs.

        This one takes the whole model. A backend that knows better lets models share what they have in common.
        """
        whole = self.fingerprint()
        return {name: f"{whole}:{name}" for name in taps}

    def with_checkpoint(self, path: str) -> Backend:
        """Return the same model with the parameters of a file.

        Raises:
            InputError: ``PK-M55``, this kind of model has no checkpoints.
        """
        what = f"a model of kind {self.kind!r} takes no checkpoints, got {path!r}"
        raise InputError(Problem("PK-M55", what, "name several models: models: {NAME: ...}", "model.checkpoints"))

    def runtime(self) -> dict[str, Any]:
        """Return what ran, for the provenance: versions, provider or device, threads."""
        return {}


def _is_path(info: Any) -> bool:
    extra = info.json_schema_extra if isinstance(info, FieldInfo) else None
    return isinstance(extra, dict) and extra.get("format") == "path"


def _holds_path(annotation: Any) -> bool:
    """Return whether a type is a path, or a union, list or mapping of paths."""
    return any(_is_path(part) or _holds_path(part) for part in get_args(annotation))


# --- datasets and label factors --------------------------------------------------------------------------------------


class Examples:
    """An opened dataset: all columns, and the model's inputs of any rows.

    Args:
        columns: one value per example each; an ``id`` column is made from row numbers when there is none.
        inputs: {name: (examples, ...)}; left empty by a subclass that overrides :meth:`read`.
        input_names: the names that :meth:`read` gives; default: those of ``inputs``.
    """

    def __init__(
        self, columns: Columns, inputs: Mapping[str, Array] | None = None, input_names: Sequence[str] | None = None
    ) -> None:
        self._inputs = dict(inputs or {})
        self.input_names = tuple(input_names if input_names is not None else self._inputs)
        self.columns: dict[str, Array] = dict(columns)
        some = next(iter([*self.columns.values(), *self._inputs.values()]), np.zeros(0))
        self.columns.setdefault("id", np.arange(len(some)).astype(str))

    def __len__(self) -> int:
        return len(self.columns["id"])

    def read(self, rows: IntArray) -> dict[str, Array]:
        """Return ``{input name: (len(rows), ...)}``, the same for the same rows every time."""
        return {name: array[rows] for name, array in self._inputs.items()}

    def digests(self, rows: IntArray) -> list[bytes]:
        """Return 16 bytes per row that identify what :meth:`read` gives for it.

        This one reads the rows. Where decoding is dear, a subclass digests what is decoded, and how.
        """
        return row_digests(self.read(rows), len(rows))


def row_digests(arrays: Mapping[str, Array], count: int) -> list[bytes]:
    """Return 16 bytes per row that identify the content of arrays, each (count, ...), and their names and dtypes."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(count)]
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        head = f"{name}:{array.dtype.str}:{array.shape[1:]}".encode()
        for row, digest in enumerate(digests):
            digest.update(head)
            digest.update(repr(array[row]).encode() if array.dtype.hasobject else array[row].tobytes())
    return [digest.digest() for digest in digests]


class Dataset(Component):
    """Where the examples come from."""

    category: ClassVar[str] = "dataset"

    on_bad_input: Literal["fail", "skip"] = runtime_option(
        "fail", "an example that cannot be read: 'fail' names it, 'skip' leaves it out and the report counts it"
    )
    workers: int = runtime_option(2, "threads that read ahead of the model", ge=0, le=256)

    @abstractmethod
    def open(self) -> Examples:
        """Read the columns, decode no inputs, and return what reads them.

        Raises:
            InputError: files are missing, damaged or do not fit together.
        """


@dataclass(frozen=True)
class Labels:
    """The classes of one label factor and each example's.

    Args:
        classes: names, in the order of their codes.
        codes: shape (examples,), the class's position in ``classes``, -1 where the label is missing.
    """

    classes: tuple[str, ...]
    codes: IntArray

    @classmethod
    def of(cls, values: Sequence[str | None], classes: Sequence[str] | None = None) -> Labels:
        """Number the classes: as given, else integers by size, else by name.

        >>> Labels.of(["10", "9", None]).classes
        ('9', '10')
        """
        if classes is None:
            names = {value for value in values if value is not None}
            integers = all(re.fullmatch(r"-?\d{1,18}", name) for name in names)
            classes = sorted(names, key=(lambda name: (int(name), name)) if integers else None)
        code = {name: index for index, name in enumerate(classes)}
        codes = np.array([-1 if value is None else code[value] for value in values], dtype=np.int64)
        return cls(tuple(classes), codes)


class LabelFactor(Component):
    """A named way to label examples, made from the dataset's columns."""

    category: ClassVar[str] = "factor"

    missing: Literal["error", "drop"] = Field(
        "error", description="examples without a label: 'error' refuses them, 'drop' leaves them out of this factor"
    )

    @abstractmethod
    def label(self, columns: Columns) -> Labels:
        """Return the classes and each example's.

        Raises:
            InputError: a column is absent or its values cannot be used.
        """


# --- reductions ------------------------------------------------------------------------------------------------------


class DoesNotApplyError(Exception):
    """A reduction does not fit a tap; the text says why."""


class Reduction(Component):
    """What turns an activation into features. A data-free one is its program alone."""

    category: ClassVar[str] = "reduction"

    @abstractmethod
    def program(self, tap: Tap) -> Program:
        """Return the steps for a tap of known shape.

        Args:
            tap: its ``shape`` holds no None.

        Raises:
            DoesNotApplyError: the reduction has no meaning for this shape and layout.
        """


FittedReduction = Callable[[FloatArray], FloatArray]
"""A learned reduction after fitting: maps (rows, features) to (rows, fewer features)."""


class LearnedReduction(Reduction):
    """A reduction that is fitted on the features, which its program gives, of training rows only."""

    @abstractmethod
    def fit(self, features: FloatArray) -> FittedReduction:
        """Fit on shape (training rows, features)."""


# --- probes ----------------------------------------------------------------------------------------------------------


class FeatureMatrix(Protocol):
    """The features of one tap, (rows, features), float32, held or read from the store as they are needed.

    ``numpy.asarray(matrix)`` gives all of it.
    """

    shape: tuple[int, int]

    def read(self, rows: IntArray | slice) -> FloatArray:
        """Return those rows, in their order."""

    def blocks(self, rows_at_once: int = 8192) -> Iterator[FloatArray]:
        """Give all rows in order, so many at a time; the arrays must not be written to."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return all rows."""


class ArrayMatrix:
    """Features that are held.

    Args:
        array: shape (rows, features), float32, C-contiguous.
    """

    def __init__(self, array: FloatArray) -> None:
        self.array = array
        self.shape: tuple[int, int] = (array.shape[0], array.shape[1])

    def read(self, rows: IntArray | slice) -> FloatArray:
        """Index the array."""
        return self.array[rows]

    def blocks(self, rows_at_once: int = 8192) -> Iterator[FloatArray]:
        """Give views of the array."""
        for start in range(0, len(self.array), rows_at_once):
            yield self.array[start : start + rows_at_once]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the array."""
        return np.array(self.array, dtype=dtype, copy=copy)


@dataclass(frozen=True)
class Target:
    """What one head group has to predict: the labels of one factor, true or controlled.

    Args:
        factor: the label factor's name.
        classes: names of the classes.
        codes: shape (rows,), class of each feature row, -1 where it has none.
        train: feature rows to fit on, each with a label.
        valid: feature rows that λ and stopping are chosen on, each with a label.
        control: the control's name, None for the true labels.
        seed: what the control was drawn with, and what a random probe draws with.
    """

    factor: str
    classes: tuple[str, ...]
    codes: IntArray
    train: IntArray
    valid: IntArray
    control: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Certificate:
    """How far a fit can at most be from the optimum of its objective.

    Args:
        status: ``proven`` (the bound is within the tolerance), ``missed`` or ``not_applicable`` (not convex, or
            stopped early on purpose).
        gap: upper bound on objective - optimum, in nats; None when not applicable.
        of_chance: ``gap`` ÷ entropy of the training labels.
        of_objective: ``gap`` ÷ objective.
    """

    status: Literal["proven", "missed", "not_applicable"]
    gap: float | None = None
    of_chance: float | None = None
    of_objective: float | None = None


class FittedProbe(ABC):
    """A probe after fitting."""

    penalty: float | None
    """The λ that was chosen; None for a probe without one."""
    certificate: Certificate
    seconds: float
    """Wall time of this target's share of the fit."""

    @abstractmethod
    def logits(self, features: FloatArray) -> FloatArray:
        """Return shape (rows, classes), whose softmax is the predicted distribution, for (rows, features)."""


class Probe(Component):
    """What is fitted to the features of a tap."""

    category: ClassVar[str] = "probe"

    @abstractmethod
    def fit(self, features: FeatureMatrix, targets: Sequence[Target]) -> list[FittedProbe]:
        """Fit all targets on the same features, choosing on each target's valid rows.

        Args:
            features: shape (rows, features), float32, finite. Unless it is an :class:`ArrayMatrix`, it is larger than the
                memory that a run may take.
            targets: all that is asked of this tap.

        Returns:
            one fitted probe per target, in their order.
        """


# --- reports ---------------------------------------------------------------------------------------------------------


class Report(Component):
    """A view of a run's result: a function from result to text."""

    category: ClassVar[str] = "report"
    filename: ClassVar[str | None] = None
    """The file below the run directory; None: the text is printed."""

    @abstractmethod
    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:
        """Return the report's text.

        Args:
            result: everything a report may say.
            width: columns of the terminal, for a printed report.
            colour: whether a printed report may hold ANSI colours.
        """


BASE_CLASSES: dict[str, type[Component]] = {
    base.category: base for base in (Backend, Dataset, LabelFactor, Reduction, Probe, Report)
}
