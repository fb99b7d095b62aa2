"""Axis layouts of tensors: where an operator's definition fixes them, carried along to others."""

from probekit import propagate_layouts
from probekit_openvino.basic import names_of

_CHANNELS_FIRST = {
    "AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "BatchNormInference", "Convolution", "ConvolutionBackpropData",
    "DeformableConvolution", "GroupConvolution", "GroupConvolutionBackpropData", "LRN", "MaxPool",
}  # fmt: skip
_SAME_AXES = {
    "Abs", "Add", "Clamp", "Concat", "Convert", "Divide", "Elu", "Erf", "Exp", "FakeQuantize", "Gelu", "HSigmoid",
    "HSwish", "HardSigmoid", "Interpolate", "Log", "LogSoftmax", "MVN", "Maximum", "Minimum", "Mish", "Multiply",
    "Negative", "NormalizeL2", "PRelu", "Pad", "Power", "Relu", "Selu", "Sigmoid", "SoftPlus", "SoftSign", "Softmax",
    "Sqrt", "Subtract", "Swish", "Tanh",
}  # fmt: skip
_BY_RANK = {3: "NCT", 4: "NCHW", 5: "NCDHW"}


def layouts(model):
    """Return the layouts that are certain, by the names of the tensors."""
    seeds, links, ranks = {}, [], {}
    for node in model.get_ordered_ops():
        op, into = node.get_type_name(), [port.get_source_output() for port in node.inputs()]
        for tensor in node.outputs():
            rank = tensor.get_partial_shape().rank
            if rank.is_static:
                ranks[tensor] = rank.get_length()
        if op in _CHANNELS_FIRST:
            seeds |= {one: _BY_RANK[ranks[one]] for one in (into[0], node.output(0)) if ranks.get(one) in _BY_RANK}
        elif op == "Transpose" and into[1].get_node().get_type_name() == "Constant":
            links.append((into[0], node.output(0), tuple(into[1].get_node().data.tolist())))
        elif op in _SAME_AXES:
            links += [(one, node.output(0), None) for one in into]
    known = {tensor: "NC" for tensor, rank in ranks.items() if rank == 2} | propagate_layouts(seeds, links, ranks)
    return {name: layout for tensor, layout in known.items() for name in names_of(tensor)}
