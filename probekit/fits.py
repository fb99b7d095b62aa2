"""What a run has fitted so far, kept in its directory until the results are written.

One safetensors file per fit: of one probe to one feature matrix, for all that is asked of it. Its name is a digest of
all that shapes the fit's values. The tensors are ``weights.K`` and ``bias.K``, K counting the targets. The metadata has
one entry, ``probekit``: JSON with ``facts``, itself a JSON text, and a digest of it and the tensors. So a file that was
cut off, changed or written by something else is known.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import warnings
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.components import Certificate, FitFacts, FittedProbe, LinearMap
from probekit.durable import make_folder, remove_stale, write_file
from probekit.errors import ProbekitWarning
from probekit.probes.standardise import rows_at_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from probekit.components import Array, FeatureMatrix, FloatArray, Probe, Target

_FORMAT = 1
_PACKAGES = ("numpy", "scikit-learn", "torch")
"""Whose versions may change the last bits of a fit."""
_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")


class KeptProbe(FittedProbe):
    """A linear probe that was fitted by an earlier run.

    Args:
        linear: what it computes.
        penalty: the chosen λ.
        certificate: of the fit.
        seconds: that the fit took then.
        facts: how it was fitted.
    """

    def __init__(
        self,
        linear: LinearMap,
        penalty: float | None,
        certificate: Certificate,
        seconds: float,
        facts: FitFacts | None,
    ) -> None:
        self.linear: LinearMap = linear
        self.penalty, self.certificate, self.seconds, self.facts = penalty, certificate, seconds, facts

    def logits(self, features: FloatArray) -> FloatArray:
        """W x + b, in float64 before it is rounded."""
        return self.linear(features)


class FitJournal:
    """The fits of a run that has not written its results yet.

    Files that cannot be used are passed over with a warning; where nothing can be written, the run goes on without.

    Args:
        folder: in the run directory; made when there is something to keep.
        targets: all that is asked of every feature matrix.
    """

    def __init__(self, folder: Path, targets: Sequence[Target]) -> None:
        self.folder, self.targets = folder, targets
        self.kept: set[str] = set()
        """Keys of the fits that are kept now, found ones among them."""
        self.found: set[str] = set()
        """Keys of the fits that were found."""
        self._broken = False

    def key(self, names: Sequence[str | None], contents: str, probe: Probe) -> str:
        """Return what identifies a fit, 32 hexadecimal digits.

        Args:
            names: of model, checkpoint, tap, reduction and probe.
            contents: :func:`contents_digest` of the features.
            probe: its ``identity()`` counts.
        """
        return _digest([_FORMAT, self._versions, names, contents, self._asked, probe.identity()])

    def has(self, key: str) -> bool:
        """Return whether a fit is kept."""
        return (self.folder / f"{key}.safetensors").is_file()

    def read(self, key: str) -> dict[int, FittedProbe]:
        """Return the fitted probes that are kept of a fit, by the number of their target; none where it is not kept."""
        path = self.folder / f"{key}.safetensors"
        if not path.is_file():
            return {}
        try:
            fits = _decoded(path, key, len(self.targets))
        except _UnfitError as error:
            warnings.warn(f"{str(path)!r} is not used: {error}; the fit is made again", ProbekitWarning, stacklevel=2)
            return {}
        if fits:
            self.kept.add(key)
            self.found.add(key)
        return fits

    def write(self, key: str, fits: Mapping[int, FittedProbe]) -> None:
        """Keep a fit, unless one of its probes is not linear.

        Args:
            key: of the fit.
            fits: by the number of their target; those that failed are absent.
        """
        if self._broken or not fits:
            return
        content = _encoded(key, fits)
        if content is None:
            return
        try:
            make_folder(self.folder)
            write_file(self.folder / f"{key}.safetensors", content)
        except OSError as error:
            self._broken = True
            text = (
                f"fits cannot be kept in {str(self.folder)!r} ({error.strerror}): if the run is stopped, they are lost"
            )
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        else:
            self.kept.add(key)

    def remove(self) -> None:
        """Remove all fits, now that the results hold what there is to know; files of another name stay."""
        with contextlib.suppress(OSError):
            remove_stale(self.folder)
            for path in self.folder.iterdir():
                if _NAME.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            self.folder.rmdir()

    @cached_property
    def _versions(self) -> dict[str, str]:
        return fit_versions()

    @cached_property
    def _asked(self) -> list[Any]:
        return [
            [
                target.factor, target.classes, target.task, target.control, target.seed,
                *(_array_digest(array) for array in (target.codes, target.train, target.valid)),
            ]
            for target in self.targets
        ]  # fmt: skip


def fit_versions() -> dict[str, str]:
    """Return the versions here of what may change the last bits of a fit, by distribution."""
    from probekit import __version__

    found = {"probekit": __version__}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def contents_digest(features: FeatureMatrix) -> str:
    """Return a digest of all features: whatever they came from, equal ones give equal fits."""
    found = hashlib.sha256(repr(features.shape).encode())
    for block in features.blocks(rows_at_once(features)):
        found.update(np.ascontiguousarray(block).data)
    return found.hexdigest()


class _UnfitError(Exception):
    """A file does not hold the fit that its name says; the text says why."""


def _encoded(key: str, fits: Mapping[int, FittedProbe]) -> bytes | None:
    """Return the bytes of a file; None where a probe is not linear, or says what JSON cannot hold."""
    from safetensors.numpy import save

    tensors: dict[str, Array] = {}
    facts: list[dict[str, Any]] = []
    for number, fitted in fits.items():
        if fitted.linear is None:
            return None
        tensors[f"weights.{number}"] = np.ascontiguousarray(fitted.linear.weights)
        tensors[f"bias.{number}"] = np.ascontiguousarray(fitted.linear.bias)
        facts.append(
            {
                "target": number,
                "penalty": fitted.penalty,
                "certificate": asdict(fitted.certificate),
                "seconds": fitted.seconds,
                "facts": None if fitted.facts is None else asdict(fitted.facts),
            }
        )
    try:
        text = json.dumps({"format": _FORMAT, "key": key, "threads": _threads(), "fits": facts}, default=_plain)
        return save(tensors, {"probekit": json.dumps({"digest": _whole(text, tensors), "facts": text})})
    except (TypeError, ValueError, MemoryError):
        return None


def _decoded(path: Path, key: str, targets: int) -> dict[int, FittedProbe]:
    """Return the fitted probes of a file; none where another number of threads made it.

    Raises:
        _UnfitError: it does not hold this fit.
    """
    from pydantic import TypeAdapter
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = json.loads(file.metadata()["probekit"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        text = metadata["facts"]
        if metadata["digest"] != _whole(text, tensors):
            raise _UnfitError("its content is not what was written")
        facts = json.loads(text)
        if (facts["format"], facts["key"]) != (_FORMAT, key):
            raise _UnfitError("it belongs to another fit or version")
        if facts["threads"] is not None and facts["threads"] != _threads(load=True):
            return {}
        return {
            one["target"]: KeptProbe(
                LinearMap(tensors[f"weights.{one['target']}"], tensors[f"bias.{one['target']}"]),
                one["penalty"],
                TypeAdapter(Certificate).validate_python(one["certificate"]),
                one["seconds"],
                TypeAdapter(FitFacts | None).validate_python(one["facts"]),
            )
            for one in facts["fits"]
            if one["target"] < targets
        }
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise _UnfitError("it is damaged, or was not written by probekit") from error


def _threads(*, load: bool = False) -> int | None:
    """Return how many threads torch computes with; None where nothing has used it, unless it is to be loaded."""
    if not load and "torch" not in sys.modules:
        return None
    import torch

    return torch.get_num_threads()


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _whole(text: str, tensors: Mapping[str, Array]) -> str:
    return _digest([text, {name: _array_digest(tensors[name]) for name in sorted(tensors)}])


def _array_digest(array: Array) -> str:
    found = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
