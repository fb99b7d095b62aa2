"""The base class of backends: a frozen model in the runtime that runs it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from probekit.components.arrays import Array, Feed, FloatArray
from probekit.errors import InputError, Problem
from probekit.sections import Component, Name, Section, SpecPath, fault, runtime_option, told_by_fingerprint
from probekit.steps import Masks, run_program

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from probekit.components.graph import Graph, ModelInput, Tap
    from probekit.steps import Program


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

    def compare(self, wanted: Sequence[Wanted], feed: Feed, masks: Masks) -> dict[str, Any]:  # noqa: ARG002 - for who can tell
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

    def with_random_weights(self, seed: int) -> Backend:  # noqa: ARG002 - for who can draw
        """Return the same architecture with weights that are drawn at random, for the control ``random_weights``.

        The taps are the same, the fingerprint is another one, and the same seed gives the same weights. It has no
        ``output`` and no ``checkpoints``. A spec is checked by calling this: nothing is built or read here.

        Args:
            seed: of the draw, 0 to 2**32 - 1.

        Raises:
            InputError: ``PK-M57``, nothing is known of how this kind of model draws its weights.
        """
        what = (
            f"a model of kind {self.kind!r} cannot be made anew with random weights: nothing tells how they are drawn"
        )
        hint = "leave random_weights out, or name the models that can: models: [NAME]; kind torch with a factory can"
        raise InputError(Problem("PK-M57", what, hint))

    def runtime(self) -> dict[str, Any]:
        """Return what ran, for the provenance: versions, provider or device, threads."""
        return {}


def _is_path(info: Any) -> bool:
    extra = info.json_schema_extra if isinstance(info, FieldInfo) else None
    return isinstance(extra, dict) and extra.get("format") == "path"


def _holds_path(annotation: Any) -> bool:
    """Return whether a type is a path, or a union, list or mapping of paths."""
    return any(_is_path(part) or _holds_path(part) for part in get_args(annotation))
