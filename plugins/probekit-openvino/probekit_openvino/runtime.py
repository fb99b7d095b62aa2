"""OpenVINO's own: what reads and compiles, and questions about tensors and nodes."""

from functools import cache

from probekit_openvino.basic import NOT_IN_NUMPY


@cache
def core():
    """Return what OpenVINO reads and compiles with."""
    from probekit_openvino.quiet import ov

    return ov.Core()


@cache
def reader_of(form):
    """Return OpenVINO's reader of files of a format: ``onnx``, ``ir``."""
    from probekit_openvino.quiet import FrontEndManager

    return FrontEndManager().load_by_framework(form)


def is_input(tensor):
    """Return whether a tensor is fed."""
    return tensor.get_node().get_type_name() == "Parameter"


def for_numpy(tensor):
    """Return a tensor as NumPy can hold it."""
    from probekit_openvino.quiet import ops

    short = tensor.get_element_type().get_type_name() in NOT_IN_NUMPY - {"dynamic"}
    return ops.convert(tensor, "f32").output(0) if short else tensor


def needed(ends, parameters):
    """Return the inputs that some nodes are computed from, in their order."""
    seen, waiting = set(), list(ends)
    while waiting:
        node = waiting.pop()
        if node.get_instance_id() not in seen:
            seen.add(node.get_instance_id())
            waiting += [port.get_source_output().get_node() for port in node.inputs()]
    return [one for one in parameters if one.get_instance_id() in seen]


def one_line(error):
    """Return what an error says, on one line."""
    return " ".join(str(error).split())
