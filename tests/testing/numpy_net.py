"""A backend that passes every check of the kit, small enough that one wrong line can be put into it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from probekit.components import Backend, Graph, ModelInput, ReducedFunction, Tap, TapFunction, Wanted
from probekit.errors import InputError, Problem, absent_file
from probekit.hookspecs import hookimpl
from probekit.sections import SpecPath, told_by_fingerprint
from probekit.steps import run_program

LIVE: dict[str, dict[str, Any]] = {}
"""Weights that are held while the process lives, by file."""


def write(path: Path, change: float = 0.0) -> str:
    rng = np.random.default_rng(0)
    w0, w1 = rng.standard_normal((4, 5)), rng.standard_normal((5, 3)) + change
    np.savez(path, w0=w0.astype(np.float32), w1=w1.astype(np.float32))
    return str(path)


def examples(count: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "x": rng.standard_normal((count, 7, 4)).astype(np.float32),
        "scale": rng.random((count, 1), dtype=np.float32),
    }


class NumpyNet(Backend):
    """relu(x w0), its mean over time, times scale, times w1."""

    kind: Literal["numpy_net"] = "numpy_net"
    path: SpecPath = told_by_fingerprint(..., "an .npz file with w0 and w1")
    seed: int | None = told_by_fingerprint(None, "of weights that are drawn instead")

    def signature(self) -> tuple[ModelInput, ...]:
        self.weights()
        return (ModelInput("x", (None, 7, 4), "float32"), ModelInput("scale", (None, 1), "float32"))

    def graph(self, example: Any = None) -> Graph:
        self.weights()
        taps = [
            Tap("x", "Input", (7, 4), "float32", "NTC"), Tap("scale", "Input", (1,), "float32", "NC"),
            Tap("hidden", "ReLU", (7, 5), "float32", "NTC"), Tap("mean", "Mean", (5,), "float32", "NC"),
            Tap("logits", "Linear", (3,), "float32", "NC"),
        ]  # fmt: skip
        taps = [Tap(t.name, t.op, t.shape, t.dtype, t.layout, depth) for depth, t in enumerate(taps)]
        edges = [*pairwise(["x", "hidden", "mean", "logits"]), ("scale", "logits")]
        return Graph(tuple(taps), tuple(edges), ("logits",))

    def activations(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        weights = self.weights()
        hidden = np.maximum(feed["x"] @ weights["w0"], 0)
        mean = hidden.mean(axis=1)
        return {**feed, "hidden": hidden, "mean": mean, "logits": mean * feed["scale"] @ weights["w1"]}

    @contextmanager
    def open(self, taps: Sequence[str]) -> Iterator[TapFunction]:
        self.graph().require(taps)

        def run(feed: Any) -> dict[str, Any]:
            found = self.activations(feed)
            return {name: found[name] for name in taps}

        yield run

    @contextmanager
    def open_reduced(self, wanted: Sequence[Wanted]) -> Iterator[ReducedFunction]:
        def run(feed: Any, masks: Any) -> list[Any]:
            found = self.activations(feed)
            return [run_program(one.program, found[one.tap.name], masks) for one in wanted]

        yield run

    def fingerprint(self) -> str:
        return hashlib.blake2b(b"".join(one.tobytes() for one in self.weights().values())).hexdigest()

    def tap_fingerprints(self, taps: Sequence[str]) -> dict[str, str]:
        sources = {"hidden": ["w0"], "mean": ["w0"], "logits": ["w0", "w1"]}
        weights = self.weights()
        return {
            name: hashlib.blake2b(
                b"".join(weights[one].tobytes() for one in sources.get(name, [])), person=name.encode()
            ).hexdigest()
            for name in taps
        }

    def with_checkpoint(self, path: str) -> Backend:
        return self.model_copy(update={"path": path})

    def with_random_weights(self, seed: int) -> Backend:
        return self.model_copy(update={"seed": seed, "output": None, "checkpoints": None})

    def weights(self) -> dict[str, Any]:
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
            sizes = {"w0": (4, 5), "w1": (5, 3)}
            return {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
        if not Path(self.path).is_file():
            raise InputError(absent_file(Path(self.path), "model.path"))
        if self.path not in LIVE:
            try:
                with Path(self.path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                    LIVE[self.path] = {name: file[name] for name in ("w0", "w1")}
            except Exception as error:
                raise InputError(Problem("PK-M02", f"{self.path!r} is damaged", field="model.path")) from error
        return LIVE[self.path]


@hookimpl
def register_backends() -> list[type[Backend]]:
    return [NumpyNet]
