"""A backend: a multilayer perceptron in NumPy, whose weights w0, b0, w1, b1 ... stand in an .npz file."""

from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from probekit import Backend, Graph, ModelInput, SpecPath, Tap, content_digest, hookimpl, reading_file


class ToyBackend(Backend):
    """A multilayer perceptron with ReLU, in NumPy."""

    kind: Literal["toy"] = "toy"
    path: SpecPath = Field(description="an .npz file with w0, b0, w1, b1 ...; w0 is (inputs, units)")

    def signature(self):
        return (ModelInput("x", (None, len(self._layers()[0][0])), "float32"),)

    def graph(self, example=None):
        layers = self._layers()
        taps = [Tap("x", "Input", (len(layers[0][0]),), "float32", "NC")]
        for number, (_, bias) in enumerate(layers):
            for op in ["Linear", "ReLU"][: 1 if number == len(layers) - 1 else 2]:
                taps.append(Tap(f"{op.lower()}{number}", op, bias.shape, "float32", "NC", len(taps)))
        names = [tap.name for tap in taps]
        return Graph(tuple(taps), tuple(pairwise(names)), (names[-1],))

    @contextmanager
    def open(self, taps):
        self.graph().require(taps)
        layers = self._layers()

        def run(feed):
            found = {"x": feed["x"]}
            value = feed["x"]
            for number, (weights, bias) in enumerate(layers):
                value = found[f"linear{number}"] = value @ weights + bias
                value = found[f"relu{number}"] = np.maximum(value, 0)
            return {name: found[name] for name in taps}

        yield run

    def fingerprint(self):
        self._layers()  # refuses a file that is absent or damaged
        return content_digest(Path(self.path))

    def _layers(self):
        with reading_file(self.path) as path, path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return [(file[f"w{n}"], file[f"b{n}"]) for n in range(len(file.files) // 2)]


@hookimpl
def register_backends():
    return [ToyBackend]
