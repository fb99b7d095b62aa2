"""Runs with saved probes, made without fitting anything."""

import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probekit.components import Certificate, FittedProbe, LinearMap, Tap, Target, Wanted
from probekit.errors import UserError
from probekit.reductions.assign import FeatureSet
from probekit.results import CertificateRecord
from probekit.saved.files import FILE, ProbeFile
from probekit.steps import Flatten, Program

Array = Any
CLASSES = ("cat", "dog", "eel")
FLAT: Program = (Flatten(),)


class Given(FittedProbe):
    """A probe that is given, not fitted."""

    def __init__(self, linear: LinearMap | None) -> None:
        self.linear, self.penalty, self.seconds = linear, 0.1, 0.0
        self.certificate = Certificate("proven", 1e-9, 1e-9, 1e-9)

    def logits(self, features: Array) -> Array:
        assert self.linear is not None
        return self.linear(features)


def random_linear(outputs: int, width: int, seed: int = 0) -> LinearMap:
    rng = np.random.default_rng(seed)
    return LinearMap(rng.normal(size=(outputs, width)) / np.sqrt(width), rng.normal(size=outputs))


class MadeRun:
    """Writes a run directory whose probes are given."""

    def __init__(self, folder: Path, backend: dict[str, Any] | None = None, fingerprint: str = "f") -> None:
        self.folder, self.file = folder, ProbeFile()
        self.facts = {"backend": backend or {"kind": "torch"}, "fingerprint": fingerprint}
        self.names: dict[str, Any] = {}
        self.rows = {"per": "example", "mask": None}

    def fed(self, sources: dict[str, str], feed: dict[str, Array], name: str = "default") -> None:
        self.file.add_model(name, sources, feed)

    def add(
        self,
        linear: LinearMap | None,
        *,
        classes: Sequence[str] = CLASSES,
        task: Any = "classes",
        tensor: Tap | None = None,
        program: Program = FLAT,
        width: int | None = None,
        fitted_reduction: Any = None,
        raw: FeatureSet | None = None,
        certificate: Certificate | None = None,
        **identity: Any,
    ) -> FeatureSet:
        names = {
            "model": "default", "checkpoint": None, "tap": "hidden", "reduction": "flatten", "factor": "animal",
            "probe": "default", "control": None, "seed": 0, **identity,
        }  # fmt: skip
        width = width or (linear.weights.shape[1] if linear is not None else 4)
        seen = tensor or Tap(names["tap"], "Relu", (width,), "float32", "NC", 3)
        one = raw or FeatureSet(Wanted(seen, program, width), names["tap"], names["reduction"], width)
        outputs = np.zeros(2, np.int64)
        target = Target(names["factor"], tuple(classes), outputs, outputs, outputs, names["control"], 0, task)
        fitted = Given(linear)
        record = CertificateRecord(**vars(certificate or fitted.certificate))
        result: Any = types.SimpleNamespace(**names, penalty=fitted.penalty, certificate=record)
        self.file.add(result, one, fitted_reduction, target, fitted)
        name = names["model"] if names["checkpoint"] is None else f"{names['model']}@{names['checkpoint']}"
        self.names[name] = self.facts
        return one

    def write(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write(self.folder / FILE, self.names, self.rows)
        return self.folder


@pytest.fixture
def made_run(tmp_path: Path) -> MadeRun:
    """A run directory to add probes to."""
    return MadeRun(tmp_path / "run")


@pytest.fixture(scope="session")
def make_run() -> Callable[..., MadeRun]:
    """Return what makes run directories."""
    return MadeRun


@pytest.fixture(scope="session")
def linear() -> Callable[..., LinearMap]:
    """Return what draws W of shape (outputs, features) and b."""
    return random_linear


@pytest.fixture(scope="session")
def refused() -> Callable[[Callable[[], Any]], list[tuple[str, str]]]:
    """Return the code and whole message of each problem that a call raises."""

    def check(call: Callable[[], Any]) -> list[tuple[str, str]]:
        with pytest.raises(UserError) as caught:
            call()
        return [(problem.code, str(problem)) for problem in caught.value.problems]

    return check
