"""The base classes of controls: other labels or another model, which tell what a probe's error is worth."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from probekit.sections import Component, Name, fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components.arrays import Array, Columns, IntArray
    from probekit.components.backend import Backend
    from probekit.components.probe import Target

SHUFFLED_LABELS = "shuffled_labels"
"""The control whose training error shows capacity."""
CONTROL_TASK = "control_task"
"""The control that gives selectivity; results call it ``control_task by COLUMN``."""
RANDOM_WEIGHTS = "random_weights"
"""The control that gives what training gained."""
REDUCTION_SEED = "reduction_seed"
"""What results call the other draws of a random reduction; it has no section, but the reduction's key ``seeds``."""


class Control(Component):
    """What a probe's error is compared with: a :class:`LabelControl` or a :class:`ModelControl`."""

    category: ClassVar[str] = "control"

    factors: list[Name] | None = Field(
        None, min_length=1, description="the label factors that it is made for; default: all of them"
    )
    seeds: int = Field(1, ge=1, le=100, description="how often it is drawn; each draw is fitted and reported")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of the first draw; the next ones count on from it")

    @model_validator(mode="after")
    def _seeds_of_32_bits(self) -> Control:
        if self.seed + self.seeds > 2**32:
            raise fault("PK-Y30", f"the seeds {self.seed} to {self.seed + self.seeds - 1} go beyond {2**32 - 1}")
        return self

    def control_name(self) -> str:
        """Return what results call it: its kind, and what tells it from another of that kind."""
        return self.kind

    def is_for(self, factor: str) -> bool:
        """Return whether it is made for a label factor."""
        return self.factors is None or factor in self.factors

    def all_seeds(self) -> range:
        """Return the seeds of its draws."""
        return range(self.seed, self.seed + self.seeds)


class LabelControl(Control):
    """Other labels for a factor's rows. Probes are fitted to them as to the true ones, at every tap.

    A control keeps the factor's classes and its labelled rows, so that it shares each pass over the features.
    """

    def needed_columns(self) -> dict[str, str]:
        """Return the dataset's columns that :meth:`draw` reads, by the key of the section that names each."""
        return {}

    def generator(self, factor: str, seed: int) -> np.random.Generator:
        """Return what one draw draws with: no other factor or control has any part in it.

        Args:
            factor: whose labels are replaced.
            seed: of the draw.
        """
        return np.random.default_rng([seed, zlib.crc32(f"{self.control_name()}\n{factor}".encode())])

    @abstractmethod
    def draw(
        self, target: Target, parts: Mapping[str, IntArray], columns: Columns, generator: np.random.Generator
    ) -> Array:
        """Return other labels for the rows that have one.

        Args:
            target: the true labels.
            parts: the labelled feature rows of each split: ``train``, ``valid`` and the test splits.
            columns: ``id`` and what :meth:`needed_columns` names, one value a feature row.
            generator: of the draw.

        Returns:
            the codes of all feature rows, as those of ``target``: without a label where that has none, and of classes
            none that no training row gets.

        Raises:
            InputError: ``PK-L28``, this control says nothing about this factor. A field that the problem names is a
                key of the section.
        """

    def facts(self, target: Target, parts: Mapping[str, IntArray], columns: Columns) -> dict[str, Any]:  # noqa: ARG002
        """Return what the reader of a result should know of the control of a factor, as plain values."""
        return {}


class ModelControl(Control):
    """Another model in the place of the model: probes of true labels are fitted to its features at the same taps."""

    models: list[Name] | None = Field(
        None, min_length=1, description="the models that it is made for; default: all of them"
    )

    def is_of(self, model: str) -> bool:
        """Return whether it is made for a model."""
        return self.models is None or model in self.models

    @abstractmethod
    def twin(self, backend: Backend, seed: int) -> Backend:
        """Return the other model, with the taps of the first one. Nothing is built or read yet: the spec is checked.

        Args:
            backend: the model as the spec has it.
            seed: of the draw.

        Raises:
            InputError: ``PK-M57``, this kind of model has none.
        """


def is_control_task(name: str) -> bool:
    """Return whether a control gives selectivity.

    >>> is_control_task("control_task by word"), is_control_task("shuffled_labels")
    (True, False)
    """
    return name.startswith(f"{CONTROL_TASK} by ")
