"""Means of residual sums, taken before the sum, against NumPy's mean of the sum itself."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from probekit.backends.onnx_graft import graft
from probekit.components import Tap, Wanted
from probekit.steps import Flatten, Mean

CHANNELS, WIDTH = 5, 8


def residual(conv=None, activation="Relu", shortcut="input", opset=17):
    """Return a graph relu(conv(x) + y), whose sum is the tap, y being the input or another convolution of it."""
    rng = np.random.default_rng(0)
    conv = {"kernel_shape": [1, 1], **(conv or {})}
    kernel = conv["kernel_shape"]
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal((CHANNELS, CHANNELS, *kernel), dtype=np.float32), "w"),
        onnx.numpy_helper.from_array(rng.standard_normal(CHANNELS, dtype=np.float32), "b"),
        onnx.numpy_helper.from_array(rng.standard_normal((CHANNELS, CHANNELS, 3, 3), dtype=np.float32), "v"),
    ]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["a"], **conv)]
    other = "x"
    if shortcut == "conv":
        nodes.append(helper.make_node("Conv", ["x", "v"], ["y"], pads=[1, 1, 1, 1]))
        other = "y"
    nodes.append(helper.make_node("Add", ["a", other], ["sum"]))
    if activation:
        nodes.append(helper.make_node(activation, ["sum"], ["out"]))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", CHANNELS, WIDTH, WIDTH])
    out = helper.make_tensor_value_info("out" if activation else "sum", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


WANTED = Wanted(Tap("sum", "Add", (CHANNELS, WIDTH, WIDTH), "float32", "NCHW"), (Mean((2, 3)), Flatten()), CHANNELS)


def grafted(model, *, exact=False):
    """Return the name of the grafted output, and the operators of the graph; what follows the sum is kept."""
    (source,) = graft(model, [WANTED], [model.graph.output[0].name], exact=exact).sources
    assert source.grafted
    return source.output, [node.op_type for node in model.graph.node]


def run(model, output, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([output], {"x": x})[0]


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["input", "conv"]), st.integers(1, 4), st.floats(0.01, 100), st.sampled_from([9, 13, 17, 21]))
def test_the_mean_before_the_sum_is_the_mean_of_the_sum(shortcut, batch, scale, opset):
    x = (scale * np.random.default_rng(batch).standard_normal((batch, CHANNELS, WIDTH, WIDTH))).astype(np.float32)
    plain = residual(shortcut=shortcut, opset=opset)
    del plain.graph.output[:]
    plain.graph.output.append(onnx.ValueInfoProto(name="sum"))
    truth = run(plain, "sum", x).mean(axis=(2, 3), dtype=np.float64)
    model = residual(shortcut=shortcut, opset=opset)
    output, operators = grafted(model)
    # The input is both the convolution's and the shortcut: its mean is taken once. The last Conv is of that mean.
    assert operators.count("GlobalAveragePool") == (1 if shortcut == "input" else 2)
    assert operators.count("Conv") == (2 if shortcut == "input" else 3)
    np.testing.assert_allclose(run(model, output, x), truth, rtol=1e-4, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize(
    "model",
    [
        residual(conv={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        residual(conv={"pads": [1, 1, 1, 1], "strides": [1, 1], "kernel_shape": [3, 3]}, shortcut="conv"),
        residual(activation=None),
        residual(activation="Erf"),
    ],
    ids=["a wider kernel", "two wider kernels", "no activation", "an activation that is not fused"],
)
def test_any_other_sum_is_read_itself(model):
    assert grafted(model)[1].count("GlobalAveragePool") == 1


def test_a_sum_that_nothing_else_is_computed_from_is_read_itself():
    model = residual()
    graft(model, [WANTED])
    assert [node.op_type for node in model.graph.node] == ["Conv", "Add", "GlobalAveragePool", "Flatten"]


def test_exactly_as_exported_reads_every_tensor_itself():
    assert grafted(residual(), exact=True)[1].count("GlobalAveragePool") == 1


def test_nan_and_infinity_upstream_are_not_lost():
    x = np.ones((3, CHANNELS, WIDTH, WIDTH), dtype=np.float32)
    x[0, 0, 0, 0], x[1, 1, 1, 1] = np.nan, np.inf
    model = residual()
    output, _ = grafted(model)
    found = run(model, output, x)
    assert not np.isfinite(found[:2]).any()
    assert np.isfinite(found[2]).all()
