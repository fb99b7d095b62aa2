"""The file ``probes.safetensors``: every linear probe of a run, and how the features that it reads come about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from probekit.components import LinearMap, Task
from probekit.durable import write_file
from probekit.errors import InputError, Problem
from probekit.results import CertificateRecord, ProbeIdentity, Record
from probekit.saved.programs import ForeignStepError, program_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from probekit.components import Array, Feed, FittedProbe, FittedReduction, Target
    from probekit.reductions.assign import FeatureSet
    from probekit.results import ProbeResult

FILE = "probes.safetensors"
SCHEMA_VERSION: Literal[1] = 1
IDENTITY = tuple(ProbeIdentity.model_fields)


class InputRecord(Record):
    """One input of a model, as the run fed it."""

    source: str | None
    """The dataset's input or column; None for a constant."""
    shape: list[int]
    """Of a batch of two examples, or of the batch that the model fixes."""
    dtype: str


class ModelRecord(Record):
    """A model at a checkpoint."""

    backend: dict[str, Any]
    """Its section of the spec."""
    fingerprint: str
    inputs: dict[str, InputRecord]


class TensorRecord(Record):
    """A tapped tensor as a trial run saw it; see ``probekit.components.Tap``."""

    name: str
    op: str
    shape: tuple[int | None, ...] | None
    dtype: str
    layout: str
    depth: int
    batch_axis: int


class FeaturesRecord(Record):
    """What a feature matrix is made of."""

    tensor: TensorRecord
    width: int
    """Features of a row."""
    program: list[dict[str, Any]] | None
    """The steps from tensor to features; None where they cannot be written."""
    reason: str | None = None
    """Why they cannot be written."""


class LabelsRecord(Record):
    """What is predicted."""

    task: Task
    classes: list[str]
    """Names, in the order of the probe's outputs; empty for a number."""


class RowsRecord(Record):
    """What a row of features is."""

    per: Literal["example", "position"]
    mask: str | None


class ProbeRecord(ProbeIdentity):
    """One fitted probe."""

    labels: int
    """Number of its entry of ``labels``."""
    features: int
    """Number of its entry of ``features``."""
    penalty: float | None
    certificate: CertificateRecord
    tensor: str | None
    """``weights.NAME`` and ``bias.NAME`` hold the probe; None where it is left out."""
    left_out: str | None
    """Why it is left out."""

    @property
    def model_name(self) -> str:
        """The name of its entry of ``models``."""
        return self.model if self.checkpoint is None else f"{self.model}@{self.checkpoint}"


class ProbesIndex(Record):
    """The metadata of the file: everything but the arrays."""

    schema_version: Literal[1] = SCHEMA_VERSION
    rows: RowsRecord
    models: dict[str, ModelRecord]
    labels: list[LabelsRecord]
    features: list[FeaturesRecord]
    probes: list[ProbeRecord]


class ProbeFile:
    """Collects the fitted probes of a run and writes them."""

    def __init__(self) -> None:
        self._tensors: dict[str, Array] = {}
        self._digests: dict[bytes, str] = {}
        self._inputs: dict[str, dict[str, InputRecord]] = {}
        self._labels: list[LabelsRecord] = []
        self._features: list[FeaturesRecord] = []
        self._sets: dict[int, tuple[FeatureSet, int]] = {}
        self._probes: list[ProbeRecord] = []

    def add_model(self, name: str, sources: Mapping[str, str], feed: Feed) -> None:
        """Note what a model is fed.

        Args:
            name: of the model, ``NAME@CHECKPOINT`` where it has checkpoints.
            sources: the dataset's input or column of each of the model's inputs that is no constant.
            feed: of a small batch.
        """
        self._inputs[name] = {
            key: InputRecord(source=sources.get(key), shape=list(array.shape), dtype=array.dtype.name)
            for key, array in feed.items()
        }

    def add(
        self,
        result: ProbeResult,
        one: FeatureSet,
        reduction: FittedReduction | None,
        target: Target,
        fitted: FittedProbe,
    ) -> None:
        """Keep a probe; one that is not linear in the features of the store is left out, with the reason.

        Args:
            result: whose identity and certificate it has.
            one: the feature matrix in the store.
            reduction: what was fitted on that matrix before the probe, if anything.
            target: what the probe predicts.
            fitted: the probe.
        """
        linear, left_out, tensor = fitted.linear, None, None
        if linear is None:
            left_out = "the probe is not linear"
        elif reduction is not None and not isinstance(reduction, LinearMap):
            left_out = f"the reduction {one.reduction!r} is learned and not linear"
        else:
            tensor = str(len(self._probes))
            linear = linear if reduction is None else folded(linear, reduction)
            self._tensors[f"weights.{tensor}"] = np.ascontiguousarray(linear.weights, np.float64)
            self._tensors[f"bias.{tensor}"] = np.ascontiguousarray(linear.bias, np.float64)
        labels = LabelsRecord(task=target.task, classes=list(target.classes))
        if labels not in self._labels:
            self._labels.append(labels)
        self._probes.append(
            ProbeRecord(
                **{name: getattr(result, name) for name in IDENTITY},
                labels=self._labels.index(labels),
                features=self._number(one),
                penalty=result.penalty,
                certificate=result.certificate,
                tensor=tensor,
                left_out=left_out,
            )
        )

    def write(self, path: Path, models: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Any]) -> None:
        """Write the file whole or not at all.

        Args:
            path: of the file.
            models: ``backend`` and ``fingerprint`` of each model, by the name that :meth:`add_model` was given.
            rows: ``per`` and ``mask`` of the spec's section.

        Raises:
            OSError: nothing was written.
        """
        from safetensors.numpy import save

        index = ProbesIndex(
            rows=RowsRecord(**rows),
            models={
                name: ModelRecord(
                    backend=facts["backend"], fingerprint=facts["fingerprint"], inputs=self._inputs.get(name, {})
                )
                for name, facts in models.items()
            },
            labels=self._labels,
            features=self._features,
            probes=self._probes,
        )
        # One entry only: safetensors writes several in no fixed order.
        text = json.dumps(index.model_dump(mode="json"), allow_nan=False)
        write_file(path, save(self._tensors, {"probekit": text}))

    def _number(self, one: FeatureSet) -> int:
        if id(one) not in self._sets:
            tap = one.tap
            program, reason = None, None
            try:
                program = program_to_json(one.wanted.program, self._shared)
            except ForeignStepError as error:
                reason = str(error)
            tensor = TensorRecord(**{name: getattr(tap, name) for name in TensorRecord.model_fields})
            record = FeaturesRecord(tensor=tensor, width=one.wanted.width, program=program, reason=reason)
            # Held, so that no later set gets its id.
            self._sets[id(one)] = (one, len(self._features))
            self._features.append(record)
        return self._sets[id(one)][1]

    def _shared(self, array: Array) -> str:
        """Keep an array of a program and return its tensor's name; equal arrays are kept once."""
        array = np.ascontiguousarray(array)
        digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).digest()
        if digest not in self._digests:
            self._digests[digest] = f"step.{len(self._digests)}"
            self._tensors[self._digests[digest]] = array
        return self._digests[digest]


def folded(linear: LinearMap, reduction: LinearMap) -> LinearMap:
    """Return a probe on the features before a linear reduction: W V and b + W c for a reduction V x + c."""
    return LinearMap(linear.weights @ reduction.weights, linear.bias + linear.weights @ reduction.bias)


def read_index(run: str | Path) -> tuple[Path, ProbesIndex]:
    """Return the file of a run directory and what it holds, but no arrays.

    Raises:
        InputError: ``PK-X10``, there is none, or it is damaged.
    """
    path = Path(run) / FILE
    if not path.is_file():
        what = f"no saved probes: there is no {str(path)!r}"
        raise InputError(Problem("PK-X10", what, "name a run directory, such as runs/digits, or run the spec again"))

    def read(file: Any) -> ProbesIndex:
        return ProbesIndex.model_validate_json((file.metadata() or {})["probekit"])

    return path, _read(path, read)


def read_tensors(path: Path, names: list[str]) -> dict[str, Array]:
    """Return some arrays of the file by name.

    Raises:
        InputError: ``PK-X10``, the file is damaged.
    """
    found: dict[str, Array] = _read(path, lambda file: {name: file.get_tensor(name) for name in names})
    return found


def _read(path: Path, read: Callable[[Any], Any]) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return read(file)
    except (SafetensorError, ValidationError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(damaged(path, reason)) from error


def damaged(path: Path, reason: str) -> Problem:
    """Return the problem of a file that cannot be read, ``PK-X10``."""
    return Problem("PK-X10", f"{str(path)!r} is damaged or of another version: {reason}", "run the spec again")
