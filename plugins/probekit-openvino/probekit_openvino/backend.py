"""OpenVINO as a backend: the part that every backend needs."""

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field

from probekit import Graph, ModelInput, SpecPath, Tap, hookimpl
from probekit_openvino.runtime import OpenvinoRuntime, dtype_of, names_of, shape_of


class OpenvinoBackend(OpenvinoRuntime):
    """An ONNX file or OpenVINO IR, run by OpenVINO in float32."""

    kind: Literal["openvino"] = "openvino"
    path: SpecPath = Field(description="an .onnx file, or an IR's .xml file with its .bin beside it")

    def signature(self):
        return tuple(ModelInput(names_of(one)[0], shape_of(one), dtype_of(one)) for one in self.read().inputs)

    def graph(self, example=None):
        model, taps, edges, feeding = self.read(), [], [], {}
        layouts = self.layouts(model)
        for node in model.get_ordered_ops():
            op = {"Parameter": "Input", "Constant": "Initializer"}.get(node.get_type_name(), node.get_type_name())
            ports = [port.get_source_output() for port in node.inputs()] if op != "ShapeOf" else []
            sources = dict.fromkeys(name for port in ports for name in feeding[port])
            for tensor in node.outputs() if op != "Result" else []:
                names, shape, varies = names_of(tensor), shape_of(tensor), bool(sources) or op == "Input"
                why = "" if varies and shape != () else "it has no batch axis" if varies else "it is constant"
                # A tensor without a name was made by the reader, which calls it otherwise each time.
                for name in names:
                    inner = None if shape is None else shape[1:]
                    taps.append(Tap(name, op, inner, dtype_of(tensor), layouts.get(tensor, ""), len(taps), why))
                    edges += [(source, name) for source in sources]
                feeding[tensor] = names if names and varies else list(sources)
        return Graph(tuple(taps), tuple(edges), tuple(names_of(one)[0] for one in model.outputs if names_of(one)))

    @contextmanager
    def open(self, taps):
        self.graph().require(taps)
        model = self.read()
        tensors = {name: tensor for node in model.get_ops() for tensor in node.outputs() for name in names_of(tensor)}
        run = self.compiled(model, [tensors[name] for name in taps])
        yield lambda feed: dict(zip(taps, run(feed), strict=True))

    def fingerprint(self):
        digest = hashlib.blake2b(digest_size=16)
        for node in self.read().get_ordered_ops():
            if node.get_type_name() == "Constant":  # wherever its values lie: in the file or beside it
                digest.update(node.data.tobytes())
        digest.update(Path(self.path).read_bytes())
        return digest.hexdigest()

    def with_checkpoint(self, path):
        return self.model_copy(update={"path": path})


@hookimpl
def register_backends():
    return [OpenvinoBackend]
