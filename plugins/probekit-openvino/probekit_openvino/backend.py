"""OpenVINO as a backend: how models are read and compiled, what its refusals mean, and reductions in its own graph."""

from dataclasses import replace

from probekit import InputError, MachineError, Problem, hookimpl, nearest, reading_file, runtime_option
from probekit_openvino.basic import BasicBackend, names_of
from probekit_openvino.runtime import core, for_numpy, is_input, needed, one_line, reader_of

_FORMATS = {".onnx": "onnx", ".xml": "ir"}
_UNKNOWN = ("No conversion rule found for operations: ", "does not support the following ONNX operations: ")


class OpenvinoBackend(BasicBackend):
    """An ONNX file or OpenVINO IR, run by OpenVINO in float32."""

    device: str = runtime_option("CPU", "OpenVINO's name of the device: CPU, GPU, GPU.1 ...")
    threads: int | None = runtime_option(None, "of the CPU; default: OpenVINO's choice", ge=1)

    def graph(self, example=None):
        from probekit_openvino.layouts import layouts

        graph, known = super().graph(example), layouts(self.read())
        return replace(graph, taps=tuple(replace(tap, layout=known.get(tap.name, "")) for tap in graph.taps))

    def read(self):
        """Return the model; nothing is compiled.

        Raises:
            InputError: ``PK-M01`` no file, ``PK-M06`` another kind of file, ``PK-M02`` a damaged one, ``PK-M19`` an
                operator is not known.
        """
        with reading_file(self.path) as file:
            if file.suffix not in _FORMATS:
                hint = "name an .onnx file, or the .xml file of an IR"
                raise InputError(Problem("PK-M06", f"{self.path!r} ends in {file.suffix!r}", hint, "model.path"))
            try:
                # Core would try every format on a damaged file, and each would write its own complaint to the terminal.
                reader = reader_of(_FORMATS[file.suffix])
                model = reader.convert(reader.load(self.path))
            except Exception as error:
                raise InputError(self._refusal(error)) from error
        if not model.outputs:
            what = f"{self.path!r} holds no graph with an output"
            raise InputError(Problem("PK-M02", what, "export or copy it again", "model.path"))
        return model

    def _refusal(self, error):
        text = one_line(error)
        for sign in _UNKNOWN:
            if sign in text:
                what = f"OpenVINO has no operator {text.split(sign)[1].split()[0].rstrip(',')!r}"
                hint = "export the model with standard operators, or try kind: onnx"
                return Problem("PK-M19", what, hint, "model.path")
        return Problem("PK-M02", f"OpenVINO refuses {self.path!r}: {text}", "export or copy it again", "model.path")

    def compiled(self, model, tensors, masks=()):
        """Return a function from a batch's inputs to some tensors, each as a new array.

        Args:
            model: what nothing out of ``tensors`` needs is not compiled.
            tensors: to compute.
            masks: inputs besides those of the model.

        Raises:
            InputError: ``PK-M02``, OpenVINO refuses to compile it; the function raises ``PK-M23``.
            MachineError: ``PK-E02``, there is no such device.
        """
        from probekit_openvino.quiet import ops, ov

        fed = {number: names_of(one)[0] for number, one in enumerate(tensors) if is_input(one)}
        results = [ops.result(for_numpy(one)) for one in tensors if not is_input(one)]
        if not results:
            return lambda feed: [feed[name] for name in fed.values()]
        sinks = model.get_sinks()
        inputs = needed([*results, *sinks], [*model.get_parameters(), *masks])
        request = self._compile(ov.Model(results, sinks, inputs, "probekit")).create_infer_request()
        names = [names_of(one.output(0))[0] for one in inputs]

        def run(feed):
            if sinks:
                request.reset_state()  # what one batch leaves behind must not change the next one
            try:
                # The arrays that come back are copies; those that go in are not copied.
                found = iter(request.infer([feed[name] for name in names], share_inputs=True).to_tuple())
            except Exception as error:
                what = f"OpenVINO cannot run the model: {one_line(error)}"
                raise InputError(Problem("PK-M23", what, "", "model")) from error
            return [feed[fed[number]] if number in fed else next(found) for number in range(len(tensors))]

        return run

    def _compile(self, model):
        there = core().available_devices
        if self.device.partition(".")[0] not in {one.partition(".")[0] for one in there}:
            what = f"OpenVINO has no device {self.device!r} here"
            raise MachineError(Problem("PK-E02", what, nearest(self.device, there, "available"), "model.device"))
        # By default it computes in bfloat16 or float16 where the machine is faster at it, and quantizes activations.
        options = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}
        options |= {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
        if self.device == "CPU":
            # A thread that is pinned to a core waits for it where another process works there.
            options |= {"ENABLE_CPU_PINNING": "NO", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
            options |= {"INFERENCE_NUM_THREADS": str(self.threads)} if self.threads else {}
        try:
            return core().compile_model(model, self.device, options)
        except Exception as error:
            raise InputError(self._refusal(error)) from error

    def open_reduced(self, wanted):
        from probekit_openvino.reduced import open_reduced

        return open_reduced(self, wanted)

    def compare(self, wanted, feed, masks):
        from probekit_openvino.reduced import compare

        return compare(self, wanted, feed, masks)

    def runtime(self):
        from probekit_openvino.quiet import ops, ov

        x = ops.parameter([1], ov.Type.f32)
        compiled = self._compile(ov.Model([ops.result(ops.relu(x))], [x], "any"))
        return {
            "openvino": ov.get_version(),
            "device": ", ".join(compiled.get_property("EXECUTION_DEVICES")),
            "precision": compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
            "threads": self.threads or "default",
        }


@hookimpl
def register_backends():
    return [OpenvinoBackend]
