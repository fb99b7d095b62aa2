"""OpenVINO as a backend: what every backend needs. It works alone; ``backend.py`` adds what is OpenVINO's own."""

from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from probekit import Backend, Graph, ModelInput, SpecPath, Tap, content_digest, reading_file

NOT_IN_NUMPY = {"bf16", "f8e4m3", "f8e5m2", "f8e8m0", "f4e2m1", "nf4", "dynamic"}


class BasicBackend(Backend):
    """An ONNX file or OpenVINO IR, run by OpenVINO in float32."""

    kind: Literal["openvino"] = "openvino"
    path: SpecPath = Field(description="an .onnx file, or an IR's .xml file with its .bin beside it")

    def signature(self):
        return tuple(ModelInput(names_of(one)[0], shape_of(one), dtype_of(one)) for one in self.read().inputs)

    def graph(self, example=None):
        model, taps, edges, feeding = self.read(), [], [], {}
        for node in model.get_ordered_ops():
            op = {"Parameter": "Input", "Constant": "Initializer"}.get(node.get_type_name(), node.get_type_name())
            ports = [port.get_source_output() for port in node.inputs()] if op != "ShapeOf" else []
            sources = dict.fromkeys(name for port in ports for name in feeding[port])
            for tensor in node.outputs() if op != "Result" else []:
                names, shape, varies = names_of(tensor), shape_of(tensor), bool(sources) or op == "Input"
                why = "" if varies and shape != () else "it has no batch axis" if varies else "it is constant"
                for name in names:  # a tensor without one was made by the reader, which calls it otherwise each time
                    taps.append(Tap(name, op, shape and shape[1:], dtype_of(tensor), "", len(taps), why))
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
        nodes = self.read().get_ordered_ops()  # the weights may lie beside the file
        return content_digest(Path(self.path), *(one.data for one in nodes if one.get_type_name() == "Constant"))

    def with_checkpoint(self, path):
        return self.model_copy(update={"path": path, "checkpoints": None})

    def read(self):
        from probekit_openvino.quiet import ov

        with reading_file(self.path):
            return ov.Core().read_model(self.path)

    def compiled(self, model, tensors):
        from probekit_openvino.quiet import ops, ov

        made = ov.Model([ops.result(one) for one in tensors], model.get_parameters(), "probekit")
        run = ov.Core().compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda feed: run(feed).to_tuple()


def names_of(tensor):
    return sorted(tensor.get_names())


def shape_of(tensor):
    shape = tensor.get_partial_shape()
    return None if shape.rank.is_dynamic else tuple(None if size.is_dynamic else size.get_length() for size in shape)


def dtype_of(tensor):
    kind = tensor.get_element_type().get_type_name()
    return kind if kind in NOT_IN_NUMPY else np.dtype(tensor.get_element_type().to_dtype()).name
