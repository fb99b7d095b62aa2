"""Every feature row's labels, predictions and losses: in memory, and as ``predictions.safetensors``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from probekit.components import known_rows
from probekit.durable import write_file
from probekit.errors import InputError, Problem
from probekit.results import ProbeIdentity, Record
from probekit.spec.splits import TRAIN, VALID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Array, IntArray, Task

FILE = "predictions.safetensors"
SCHEMA_VERSION: Literal[1] = 1


class OutputIdentity(Record):
    """Which output of a model it is, taken as the model's own prediction of a factor."""

    model: str
    checkpoint: str | None
    output: str
    factor: str


class _Facts(Record):
    """The metadata of the file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    splits: list[str]
    predictions: dict[str, ProbeIdentity | OutputIdentity]
    """By the number of a prediction: whose it is."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was asked of every feature row of a run, and what each probe and model said.

    A row is an example, or one position of it. Text is what the file can hold: without NUL at its end.

    Args:
        ids: shape (rows,), the id of each row's example.
        groups: shape (rows,), rows of one value are no independent evidence of each other; None: as the ids say.
        positions: shape (rows,), int32, each row's position in its example; None where rows are examples.
        splits: names of the splits.
        split: shape (rows,), uint8, the place in ``splits`` of each row's split.
        labels: by :func:`label_name`: of classes int32, shape (rows,), -1 for none; of yes/no labels int32, (rows,
            labels), 1, 0, or a row of -1 for none; of a number float32, (rows,), NaN for none.
        predicted: by whose it is: the same shapes and types; -1 where a model's output is no class of the factor.
        losses: by probe, float32, NaN without a label: nats, shape (rows,); of yes/no labels (rows, labels); of a
            number the squared error.
        members: where rows are in several splits (``allow_leakage``): bool, shape (rows, splits); ``split`` is the last
            of each row's then. Default: no row is.
    """

    ids: Array
    groups: Array | None
    positions: Array | None
    splits: tuple[str, ...]
    split: Array
    labels: Mapping[str, Array]
    predicted: Mapping[ProbeIdentity | OutputIdentity, Array]
    losses: Mapping[ProbeIdentity, Array]
    members: Array | None = None

    @classmethod
    def of(
        cls,
        ids: Array,
        groups: Array | None,
        parts: Mapping[str, IntArray],
        labels: Mapping[str, Array],
        predictions: Mapping[str, Array],
        losses: Mapping[str, Array],
        keys: Mapping[str, Mapping[str, Any]],
        positions: Array | None = None,
    ) -> Predictions:
        """Return what a run holds, rounded as the file rounds it.

        Args:
            ids, groups, positions: as above, of any type.
            parts: the rows of each split.
            labels: by :func:`label_name`, as :class:`probekit.components.Labels` has the codes.
            predictions: by number, as text.
            losses: by the same numbers.
            keys: by number: the fields of a :class:`ProbeIdentity` or an :class:`OutputIdentity`.

        Raises:
            ValueError: two predictions are of one probe, or a key is no identity.
        """
        split = np.zeros(len(ids), dtype=np.uint8)
        members = np.zeros((len(ids), len(parts)), dtype=bool)
        for number, rows in enumerate(parts.values()):
            split[rows] = number
            members[rows, number] = True
        facts = _Facts.model_validate({"splits": list(parts), "predictions": keys})
        return cls._whole(
            facts, _text(ids), None if groups is None else _text(groups),
            None if positions is None else positions.astype(np.int32), split,
            {name: _four_bytes(codes) for name, codes in labels.items()},
            {number: _four_bytes(codes) for number, codes in predictions.items()},
            {number: values.astype(np.float32, copy=False) for number, values in losses.items()},
            members if (members.sum(axis=1) > 1).any() else None,
        )  # fmt: skip

    @classmethod
    def _whole(
        cls,
        facts: _Facts,
        ids: Array,
        groups: Array | None,
        positions: Array | None,
        split: Array,
        labels: Mapping[str, Array],
        predicted: Mapping[str, Array],
        losses: Mapping[str, Array],
        members: Array | None,
    ) -> Predictions:
        if len(set(facts.predictions.values())) < len(facts.predictions):
            raise ValueError("two predictions are of one probe")
        said = {whose: predicted[number] for number, whose in facts.predictions.items()}
        lost = {
            whose: losses[number] for number, whose in facts.predictions.items() if isinstance(whose, ProbeIdentity)
        }
        return cls(ids, groups, positions, tuple(facts.splits), split, labels, said, lost, members)

    @cached_property
    def units(self) -> IntArray:
        """Each row's independent unit, shape (rows,), from 0: its group, else its example."""
        values = self.ids if self.groups is None else self.groups
        return np.unique(values, return_inverse=True)[1].ravel()

    @cached_property
    def _asked(self) -> set[tuple[str, str | None, int]]:
        """Factor, control and seed of every probe."""
        return {(one.factor, one.control, one.seed) for one in self.predicted if isinstance(one, ProbeIdentity)}

    @property
    def over(self) -> Literal["examples", "groups"]:
        """What the units are."""
        return "examples" if self.groups is None or np.array_equal(self.groups, self.ids) else "groups"

    @property
    def first_test(self) -> str:
        """The name of the first test split, whose scores are the headline."""
        return next(split for split in self.splits if split not in {TRAIN, VALID})

    def codes(self, factor: str, control: str | None = None, seed: int = 0) -> Array:
        """Return what every row is to be predicted as, labelled or not; see ``labels``.

        A control of other features, such as ``random_weights``, has the factor's own labels.

        Raises:
            KeyError: there are no such labels.
        """
        name = label_name(factor, control, seed)
        if name not in self.labels and (factor, control, seed) in self._asked:
            return self.labels[factor]
        return self.labels[name]

    def task(self, factor: str, control: str | None = None, seed: int = 0) -> Task:
        """Return what is asked of a row."""
        return _task(self.codes(factor, control, seed))

    def rows(self, split: str, factor: str, control: str | None = None, seed: int = 0) -> IntArray:
        """Return the rows of a split that have a label, in order.

        Raises:
            KeyError: there are no such labels.
            ValueError: there is no such split.
        """
        codes = self.codes(factor, control, seed)
        place = self.splits.index(split)
        inside = self.split == place if self.members is None else self.members[:, place]
        return np.flatnonzero(inside & known_rows(codes, _task(codes)))

    def write(self, path: Path) -> None:
        """Write one safetensors file whole or not at all; the same predictions are the same bytes.

        Tensors, one row per feature row: ``id`` and ``group`` (uint8, UTF-8 padded with zeros), ``position``,
        ``split``, ``member``, ``label.NAME``, ``predicted.K`` and ``loss.K``. The facts are JSON under the metadata's
        key ``probekit``: ``schema_version``, ``splits`` and ``predictions``, which says for each K whose it is.

        Raises:
            OSError: nothing was written.
        """
        from safetensors.numpy import save

        numbers = {whose: str(number) for number, whose in enumerate(self.predicted)}
        tensors: dict[str, Array] = {"id": text_tensor(self.ids), "split": self.split}
        if self.groups is not None:
            tensors["group"] = text_tensor(self.groups)
        if self.positions is not None:
            tensors["position"] = self.positions
        if self.members is not None:
            tensors["member"] = self.members.astype(np.uint8)
        tensors |= {f"label.{name}": codes for name, codes in self.labels.items()}
        tensors |= {f"predicted.{numbers[whose]}": codes for whose, codes in self.predicted.items()}
        tensors |= {f"loss.{numbers[whose]}": values for whose, values in self.losses.items()}
        facts = _Facts(splits=list(self.splits), predictions={number: whose for whose, number in numbers.items()})
        # One entry only: safetensors writes several in no fixed order.
        metadata = {"probekit": facts.model_dump_json()}
        write_file(path, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata))


def identity_of(probe: ProbeIdentity) -> ProbeIdentity:
    """Return which probe a result is of: the key of its predictions and losses."""
    return ProbeIdentity(**{name: getattr(probe, name) for name in ProbeIdentity.model_fields})


def label_name(factor: str, control: str | None = None, seed: int = 0) -> str:
    """Return the name of labels in :attr:`Predictions.labels`: the factor's own, or that of a control.

    >>> label_name("digit"), label_name("digit", "shuffled_labels", 3)
    ('digit', 'digit.shuffled_labels.3')
    """
    return factor if control is None else control_label_name(factor, control, seed)


def control_label_name(factor: str, control: str, seed: int) -> str:
    """Return the name of a control's labels."""
    return f"{factor}.{control}.{seed}"


def load_predictions(directory: str | Path) -> Predictions:
    """Return the predictions that a run saved.

    Args:
        directory: the run directory.

    Raises:
        InputError: ``PK-X18``, it holds none, or they are damaged or of another version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(directory) / FILE
    if not path.is_file():
        what = f"no predictions: there is no {str(path)!r}"
        raise InputError(Problem("PK-X18", what, "name a run directory, such as runs/digits, or run the spec again"))
    try:
        with safe_open(path, "numpy") as file:
            facts = _Facts.model_validate_json((file.metadata() or {})["probekit"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return _from_tensors(facts, tensors)
    except (SafetensorError, OSError, LookupError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"{str(path)!r} is damaged or of another version: {reason}"
        raise InputError(Problem("PK-X18", what, "run the spec again")) from error


def _from_tensors(facts: _Facts, tensors: Mapping[str, Array]) -> Predictions:
    probes = [number for number, whose in facts.predictions.items() if isinstance(whose, ProbeIdentity)]
    needed = ["id", "split", *(f"predicted.{number}" for number in facts.predictions), *(f"loss.{n}" for n in probes)]
    lacking = [name for name in needed if name not in tensors]
    if lacking:
        raise ValueError(f"there is no tensor {lacking[0]!r}")
    split = tensors["split"]
    wrong = [name for name, tensor in tensors.items() if len(tensor) != len(split)]
    if wrong:
        raise ValueError(f"{wrong[0]} has {len(tensors[wrong[0]])} rows, split has {len(split)}")
    members = tensors.get("member")
    if members is not None and members.shape != (len(split), len(facts.splits)):
        raise ValueError(f"member has shape {members.shape}, not ({len(split)}, {len(facts.splits)})")
    if split.max(initial=0) >= len(facts.splits):
        raise ValueError(f"row {int(split.argmax())} is in no split")

    def below(prefix: str) -> dict[str, Array]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    return Predictions._whole(
        facts, _from_bytes(tensors["id"]), _from_bytes(tensors["group"]) if "group" in tensors else None,
        tensors.get("position"), split, below("label."), below("predicted."), below("loss."),
        None if members is None else members.astype(bool),
    )  # fmt: skip


def text_tensor(values: Array) -> Array:
    """Return text as uint8, shape (values, longest): UTF-8, padded with zeros."""
    encoded = np.array([str(value).encode() for value in values] or [b""], dtype=np.bytes_)
    return encoded.view(np.uint8).reshape(len(encoded), -1)[: len(values)]


def _from_bytes(tensor: Array) -> Array:
    """Undo :func:`text_tensor`."""
    if tensor.dtype != np.uint8 or tensor.ndim != 2 or not tensor.shape[1]:
        raise ValueError(f"text of type {tensor.dtype} and shape {tensor.shape}")
    padded = np.ascontiguousarray(tensor).view(f"S{tensor.shape[1]}").reshape(-1)
    return np.char.decode(padded, "utf-8")


def _text(values: Array) -> Array:
    return np.array([str(value) for value in values], dtype=np.str_)


def _four_bytes(values: Array) -> Array:
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int32, copy=False)


def _task(codes: Array) -> Task:
    if codes.dtype.kind == "f":
        return "number"
    return "multilabel" if codes.ndim == 2 else "classes"
