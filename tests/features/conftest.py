"""A model made of NumPy functions, as a plugin's author would write it, and what a refusal says."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pytest

from probekit.components import Backend, Graph, ModelInput, Tap, TapFunction, Wanted
from probekit.errors import UserError
from probekit.sections import told_by_fingerprint
from probekit.steps import Program

Functions = dict[str, Callable[[Any], Any]]


class NumpyBackend(Backend):
    """Functions of its input ``x``, shape (examples, 3). A component pickles: it holds only their number."""

    kind: Literal["numpy"] = "numpy"
    names: list[str]
    fixed: int | None = None
    number: int = told_by_fingerprint(0, "which functions")

    def signature(self) -> tuple[ModelInput, ...]:
        return (ModelInput("x", (self.fixed, 3), "float32"),)

    def graph(self, example: Any = None) -> Graph:
        taps = [Tap("x", "Input", (3,), "float32", "NC")]
        return Graph((*taps, *(Tap(name, "Numpy", None, "", depth=i) for i, name in enumerate(self.names, 1))))

    @contextmanager
    def open(self, taps: Sequence[str]) -> Iterator[TapFunction]:
        functions, seen = _MODELS[self.number]

        def run(feed: Any) -> dict[str, Any]:
            seen.append(feed["x"].copy())
            if self.fixed is not None and len(feed["x"]) != self.fixed:
                raise AssertionError(f"fed {len(feed['x'])} examples")
            return {name: functions[name](feed["x"]) for name in taps}

        yield run

    def fingerprint(self) -> str:
        return f"numpy-{self.number}"


_MODELS: list[tuple[Functions, list[Any]]] = []


def _model(functions: Functions, fixed: int | None = None, batch_size: int = 4) -> tuple[NumpyBackend, list[Any]]:
    _MODELS.append((functions, []))
    made = NumpyBackend(names=list(functions), fixed=fixed, batch_size=batch_size, number=len(_MODELS) - 1)
    return made, _MODELS[-1][1]


@pytest.fixture(scope="session")
def numpy_model() -> Callable[..., tuple[NumpyBackend, list[Any]]]:
    """Return a backend of functions by name, and the list of all that it will be fed."""
    return _model


def _wanted(name: str, shape: tuple[int, ...], program: Program, width: int, dtype: str = "float32") -> Wanted:
    return Wanted(Tap(name, "Numpy", shape, dtype), program, width)


@pytest.fixture(scope="session")
def wanted() -> Callable[..., Wanted]:
    """Return a wanted feature matrix of a tap."""
    return _wanted


def _rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 3), dtype=np.float32)


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., Any]:
    """Return so many random examples, shape (count, 3)."""
    return _rows


def _problems(call: Callable[[], Any]) -> list[tuple[str, str]]:
    with pytest.raises(UserError) as caught:
        call()
    return [(problem.code, str(problem)) for problem in caught.value.problems]


@pytest.fixture(scope="session")
def refused() -> Callable[[Callable[[], Any]], list[tuple[str, str]]]:
    """Return the code and whole message of each problem that a call raises."""
    return _problems
