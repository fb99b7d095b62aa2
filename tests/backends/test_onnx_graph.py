"""What a graph says of each tensor, against hand-built models whose truth is known and plain onnxruntime sessions."""

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from probekit.backends.onnx_graph import model_inputs, read_graph
from probekit.components import Graph, ModelInput, Tap

Refused = Callable[[Callable[[], Any]], list[tuple[str, str]]]
Build = types.SimpleNamespace
CONSTANT = "constant: it does not depend on the input's values"
WEIGHT = "an initializer: a weight, the same for every input"


def tap(graph: Graph, name: str) -> Tap:
    found = graph.tap(name)
    assert found is not None, f"no tap {name!r} in {[one.name for one in graph.taps]}"
    return found


def image(build: Build, *shape: int | str) -> onnx.ValueInfoProto:
    return build.value("x", *(shape or ("N", 3, 8, 8)))


# --- order, edges, outputs -------------------------------------------------------------------------------------------


def residual(build: Build) -> onnx.ModelProto:
    nodes = [
        build.node("Relu", ["x"], ["a"]),
        build.node("Sigmoid", ["a"], ["b"]),
        build.node("Add", ["a", "b"], ["sum"]),
        build.node("MatMul", ["sum", "W"], ["logits"]),
    ]
    outputs = [build.value("logits", "N", 2), build.value("b", "N", 4)]
    return build.model(nodes, [build.value("x", "N", 4)], outputs, [build.weight("W", np.ones((4, 2), np.float32))])


def test_taps_stand_in_execution_order_with_their_edges_and_outputs(build: Build) -> None:
    graph = read_graph(residual(build))
    assert graph.taps == (
        Tap("x", "Input", (4,), "float32", "NC", 0),
        Tap("a", "Relu", (4,), "float32", "NC", 1),
        Tap("b", "Sigmoid", (4,), "float32", "NC", 2),
        Tap("sum", "Add", (4,), "float32", "NC", 3),
        Tap("logits", "MatMul", (2,), "float32", "NC", 4),
        Tap("W", "Initializer", None, "", "", 5, WEIGHT),
    )
    assert graph.edges == (("x", "a"), ("a", "b"), ("a", "sum"), ("b", "sum"), ("sum", "logits"))
    assert graph.outputs == ("logits", "b")


def test_a_residual_skip_is_an_edge_past_the_branch(build: Build) -> None:
    assert read_graph(residual(build)).contract(["x", "b", "sum"]) == [("x", "b"), ("b", "sum"), ("x", "sum")]


def test_several_inputs_are_taps_of_their_own_dtype(build: Build) -> None:
    nodes = [
        build.node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT),
        build.node("Mul", ["f", "scale"], ["y"]),
    ]
    inputs = [build.value("ids", "N", "T", dtype=TensorProto.INT64), build.value("scale", "N", 1)]
    model = build.model(nodes, inputs, [build.value("y", "N", "T")])
    assert model_inputs(model) == (ModelInput("ids", (None, None), "int64"), ModelInput("scale", (None, 1), "float32"))
    graph = read_graph(model)
    assert [(one.name, one.op, one.shape, one.dtype) for one in graph.taps[:2]] == [
        ("ids", "Input", (None,), "int64"), ("scale", "Input", (1,), "float32"),
    ]  # fmt: skip
    assert {one.untappable for one in graph.taps} == {""}
    assert graph.edges == (("ids", "f"), ("f", "y"), ("scale", "y"))


# --- what cannot be tapped -------------------------------------------------------------------------------------------


def oddities(build: Build) -> onnx.ModelProto:
    """A model with one tensor of every sort that has no batch of numbers."""
    node = build.node
    nodes = [
        node("Relu", ["x"], ["good"]),
        node("Constant", [], ["const"], value=build.weight("c", np.ones(4, np.float32))),
        node("Mul", ["const", "W"], ["folded"]),
        node("Shape", ["x"], ["shape"]),
        node("Size", ["x"], ["size"]),
        node("ConstantOfShape", ["shape"], ["zeros"]),
        node("Add", ["good", "zeros"], ["plus_zeros"]),
        node("ReduceMean", ["good"], ["mean_of_all"], keepdims=0),
        node("ReduceMean", ["good", "first"], ["mean_of_batch"], keepdims=1),
        node("NonZero", ["good"], ["places"]),
        node("Transpose", ["good"], ["turned"], perm=[1, 0]),
        node("SplitToSequence", ["good"], ["parts"], axis=1),
        node("SequenceAt", ["parts", "zero"], ["part"]),
        node("Cast", ["good"], ["text"], to=TensorProto.STRING),
        node("Cast", ["good"], ["brain"], to=TensorProto.BFLOAT16),
        node("Cast", ["good"], ["truth"], to=TensorProto.BOOL),
        node("Cast", ["good"], ["half"], to=TensorProto.FLOAT16),
    ]
    weights = [
        build.weight("W", np.ones(4, np.float32)),
        build.weight("first", np.array([0])),
        build.weight("zero", np.array(0)),
    ]
    return build.model(nodes, [build.value("x", "N", 4)], [build.value("plus_zeros", "N", 4)], weights)


def cannot_hold(name: str) -> str:
    return f"{name} values, which NumPy cannot hold; tap the tensor after its cast or DequantizeLinear"


def test_whatever_has_no_batch_of_numbers_says_why_it_cannot_be_tapped(build: Build) -> None:
    graph = read_graph(oddities(build))
    assert {one.name: one.untappable for one in graph.taps} == {
        "x": "",
        "good": "",
        "const": CONSTANT,
        "folded": CONSTANT,
        "shape": CONSTANT,
        "size": CONSTANT,
        "zeros": CONSTANT,
        "plus_zeros": "",
        "mean_of_all": "a scalar: it has no batch axis",
        "mean_of_batch": "no batch axis: its first axis is always 1",
        "places": "no batch axis: its first axis is always 2",
        "turned": "",
        "parts": "a sequence, not a tensor",
        "part": "",
        "text": "text, not numbers",
        "brain": "",
        "truth": "",
        "half": "",
        "W": WEIGHT,
        "first": WEIGHT,
        "zero": WEIGHT,
    }
    assert (tap(graph, "truth").dtype, tap(graph, "half").dtype) == ("bool", "float16")
    assert (tap(graph, "brain").dtype, tap(graph, "brain").shape) == ("bfloat16", (4,))
    turned = tap(graph, "turned")
    assert (turned.shape, turned.batch_axis, turned.layout) == ((4,), 1, "")


def test_what_can_be_tapped_follows_the_batch_in_a_plain_session(build: Build) -> None:
    model = oddities(build)
    axes = {one.name: one.batch_axis for one in read_graph(model).taps if not one.untappable and one.op != "Input"}
    names = [name for name in axes if name != "brain"]  # a plain session cannot give bfloat16 to NumPy
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (2, 5):
        found = session.run(names, {"x": np.ones((batch, 4), np.float32)})
        assert {n: array.shape[axes[n]] for n, array in zip(names, found, strict=True)} == dict.fromkeys(names, batch)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "") for name in ("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ")),
        *((name, "") for name in ("BFLOAT16", "INT4", "UINT4")),
        ("FLOAT4E2M1", cannot_hold("float4e2m1")),
        ("COMPLEX64", cannot_hold("complex64")),
    ],
)
def test_numbers_that_numpy_lacks_can_be_tapped_where_the_runtime_casts_them(
    build: Build, name: str, reason: str
) -> None:
    kind = getattr(TensorProto, name)
    y = build.value("y", "N", 4, dtype=kind)
    model = build.model([build.node("Cast", ["x"], ["y"], to=kind)], [build.value("x", "N", 4)], [y], opset=23)
    assert tap(read_graph(model), "y") == Tap("y", "Cast", (4,), name.lower(), "NC", 1, reason)


def test_an_input_of_numbers_that_numpy_lacks_cannot_be_tapped(build: Build) -> None:
    x = build.value("x", "N", 4, dtype=TensorProto.BFLOAT16)
    model = build.model([build.node("Cast", ["x"], ["y"], to=1)], [x], [build.value("y", "N", 4)])
    graph = read_graph(model)
    assert (tap(graph, "x").untappable, tap(graph, "y").untappable) == (cannot_hold("bfloat16"), "")


def test_a_number_type_of_the_future_cannot_be_tapped(build: Build) -> None:
    y = build.value("y", "N", 4, dtype=999)
    model = build.model([build.node("MyOp", ["x"], ["y"], domain="own")], [build.value("x", "N", 4)], [y])
    model.opset_import.add(domain="own", version=1)
    what = f"values of a type that onnx {onnx.__version__} does not know"
    assert tap(read_graph(model), "y").untappable == what


def test_an_optional_and_a_map_cannot_be_tapped(build: Build) -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 4])
    optional = helper.make_value_info("maybe", helper.make_optional_type_proto(tensor))
    labels = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    mapping = helper.make_value_info("map", helper.make_map_type_proto(TensorProto.INT64, labels))
    nodes = [
        build.node("Optional", ["x"], ["maybe"]),
        build.node("MyMap", ["x"], ["map"], domain="own"),
    ]
    model = build.model(nodes, [build.value("x", "N", 4)], [optional, mapping], domains=["own"])
    graph = read_graph(model)
    assert tap(graph, "maybe").untappable == "an optional, not a tensor"
    assert tap(graph, "map").untappable == "a map, not a tensor"


def test_tensors_inside_the_bodies_of_if_and_loop_say_so(build: Build) -> None:
    node, scalar = build.node, helper.make_tensor_value_info
    then = helper.make_graph(
        [node("Relu", ["good"], ["in_then"]), node("Neg", ["in_then"], ["then_out"])],
        "then", [], [build.value("then_out", "N", 4)],
    )  # fmt: skip
    other = helper.make_graph([node("Abs", ["good"], ["else_out"])], "else", [], [build.value("else_out", "N", 4)])
    body = helper.make_graph(
        [node("Identity", ["go"], ["still"]), node("Add", ["carried", "good"], ["grown"])],
        "body",
        [scalar("i", TensorProto.INT64, []), scalar("go", TensorProto.BOOL, []), build.value("carried", "N", 4)],
        [scalar("still", TensorProto.BOOL, []), build.value("grown", "N", 4)],
    )
    nodes = [
        node("Relu", ["x"], ["good"]),
        node("If", ["cond"], ["chosen"], name="choice", then_branch=then, else_branch=other),
        node("Loop", ["trips", "cond", "chosen"], ["looped"], body=body),
    ]
    weights = [build.weight("cond", np.array(True)), build.weight("trips", np.array(3))]
    model = build.model(nodes, [build.value("x", "N", 4)], [build.value("looped", "N", 4)], weights)
    onnx.checker.check_model(model)
    graph = read_graph(model)
    for name in ("in_then", "then_out", "else_out"):
        assert tap(graph, name).untappable == "inside the body of the If node 'choice'"
    for name in ("still", "grown"):
        assert tap(graph, name).untappable == "inside the body of the Loop node 'looped'"
    # The outputs of both depend on the input through their bodies alone.
    assert (tap(graph, "chosen").untappable, tap(graph, "looped").untappable) == ("", "")
    assert {("good", "chosen"), ("chosen", "looped"), ("good", "looped")} <= set(graph.edges)


def test_an_if_in_an_if_is_named_by_the_inner_node(build: Build) -> None:
    node = build.node
    leaf = helper.make_graph([node("Abs", ["x"], ["deep"])], "leaf", [], [build.value("deep", "N", 4)])
    middle = helper.make_graph(
        [node("If", ["cond"], ["middle"], name="inner", then_branch=leaf, else_branch=leaf)],
        "middle", [], [build.value("middle", "N", 4)],
    )  # fmt: skip
    nodes = [node("If", ["cond"], ["y"], name="outer", then_branch=middle, else_branch=middle)]
    weights = [build.weight("cond", np.array(True))]
    graph = read_graph(build.model(nodes, [build.value("x", "N", 4)], [build.value("y", "N", 4)], weights))
    assert tap(graph, "middle").untappable == "inside the body of the If node 'outer'"
    assert tap(graph, "deep").untappable == "inside the body of the If node 'inner'"
    assert graph.edges == (("x", "y"),)


def test_quantized_codes_point_at_their_values(build: Build) -> None:
    scale, zero = build.weight("scale", np.float32(0.1)), build.weight("zero", np.uint8(128))
    nodes = [
        build.node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        build.node("DequantizeLinear", ["codes", "scale", "zero"], ["values"]),
        build.node("QuantizeLinear", ["values", "scale", "zero"], ["kept"]),
    ]
    kept = build.value("kept", "N", 4, dtype=TensorProto.UINT8)
    graph = read_graph(build.model(nodes, [build.value("x", "N", 4)], [kept], [scale, zero]))
    assert tap(graph, "codes").untappable == "the raw codes of QuantizeLinear; tap 'values', their values"
    assert tap(graph, "values").untappable == ""
    assert (tap(graph, "kept").untappable, tap(graph, "kept").dtype) == ("", "uint8")


# --- the batch axis --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "other"), [(1, 4), (4, 1), (3, 2)])
def test_a_fixed_batch_size_tells_the_batch_axis(build: Build, batch: int, other: int) -> None:
    nodes = [build.node("Relu", ["x"], ["a"]), build.node("Transpose", ["a"], ["turned"], perm=[1, 0])]
    model = build.model(nodes, [build.value("x", batch, other)], [build.value("turned", other, batch)])
    assert model_inputs(model) == (ModelInput("x", (batch, other), "float32"),)
    graph = read_graph(model)
    assert tap(graph, "a").untappable == ""
    assert tap(graph, "turned").untappable == f"no batch axis: its first axis is always {other}"


def test_an_input_of_constants_does_not_tell_the_batch_axis(build: Build) -> None:
    nodes = [build.node("Relu", ["x"], ["a"]), build.node("Identity", ["state"], ["next"])]
    inputs = [build.value("state", 2, 1, 8), build.value("x", 1, 4)]
    model = build.model(nodes, inputs, [build.value("a", 1, 4), build.value("next", 2, 1, 8)])
    graph = read_graph(model, constant=["state"])
    assert (tap(graph, "x").untappable, tap(graph, "a").untappable) == ("", "")
    for name in ("state", "next"):
        assert tap(graph, name).untappable == "no batch axis: its first axis is always 2"


def test_a_negative_size_is_any_size(build: Build) -> None:
    model = build.model([build.node("Relu", ["x"], ["y"])], [build.value("x", -1, 4)], [build.value("y", -1, 4)])
    assert [one.untappable for one in read_graph(model).taps] == ["", ""]


def test_a_tensor_of_unknown_shape_is_left_to_a_trial(build: Build) -> None:
    y = onnx.ValueInfoProto(name="y")
    model = build.model([build.node("MyOp", ["x"], ["y"], domain="own")], [build.value("x", "N", 4)], [y])
    model.opset_import.add(domain="own", version=1)
    assert tap(read_graph(model), "y") == Tap("y", "MyOp", None, "", "", 1)


# --- layouts ---------------------------------------------------------------------------------------------------------


def conv(build: Build, source: str, target: str, weight: str = "K") -> onnx.NodeProto:
    return build.node("Conv", [source, weight], [target], pads=[1, 1, 1, 1])


KERNEL = np.ones((3, 3, 3, 3), np.float32)


def layouts(graph: Graph) -> dict[str, str]:
    return {one.name: one.layout for one in graph.taps if one.op != "Initializer"}


def test_a_chain_of_convolutions_is_nchw_to_both_ends(build: Build) -> None:
    nodes = [
        build.node("Sigmoid", ["x"], ["before"]),
        conv(build, "before", "c1"),
        build.node("Relu", ["c1"], ["r1"]),
        build.node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2]),
        build.node("Add", ["p1", "p1"], ["sum"]),
        build.node("GlobalAveragePool", ["sum"], ["pooled"]),
        build.node("Flatten", ["pooled"], ["flat"]),
    ]
    graph = read_graph(build.model(nodes, [image(build)], [build.value("flat", "N", 3)], [build.weight("K", KERNEL)]))
    nchw = dict.fromkeys(["x", "before", "c1", "r1", "p1", "sum", "pooled"], "NCHW")
    assert layouts(graph) == {**nchw, "flat": "NC"}


@pytest.mark.parametrize(("rank", "layout"), [(1, "NCT"), (2, "NCHW"), (3, "NCDHW")])
def test_a_convolution_tells_the_layout_by_its_rank(build: Build, rank: int, layout: str) -> None:
    sizes = [8] * rank
    kernel = build.weight("K", np.ones((2, 3, *[1] * rank), np.float32))
    nodes = [build.node("Conv", ["x", "K"], ["y"])]
    graph = read_graph(build.model(nodes, [image(build, "N", 3, *sizes)], [build.value("y", "N", 2, *sizes)], [kernel]))
    assert layouts(graph) == {"x": layout, "y": layout}


@settings(deadline=None, max_examples=30)
@given(st.permutations([1, 2, 3]))
def test_a_transposition_moves_the_letters_as_it_moves_the_axes(build: Build, rest: list[int]) -> None:
    permutation = [0, *rest]
    nodes = [
        conv(build, "x", "c"),
        build.node("Transpose", ["c"], ["turned"], perm=permutation),
        build.node("Relu", ["turned"], ["y"]),
    ]
    model = build.model(nodes, [image(build)], [onnx.ValueInfoProto(name="y")], [build.weight("K", KERNEL)])
    truth = "".join(np.array(list("NCHW"))[permutation])
    assert {name: layouts(read_graph(model))[name] for name in ("turned", "y")} == {"turned": truth, "y": truth}


def test_an_nhwc_input_is_known_from_the_transposition_before_its_convolution(build: Build) -> None:
    nodes = [build.node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]), conv(build, "nchw", "y")]
    model = build.model(
        nodes, [image(build, "N", 8, 8, 3)], [build.value("y", "N", 3, 8, 8)], [build.weight("K", KERNEL)]
    )
    assert layouts(read_graph(model)) == {"x": "NHWC", "nchw": "NCHW", "y": "NCHW"}


def test_a_layer_normalization_over_the_last_of_three_axes_is_ntc(build: Build) -> None:
    nodes = [
        build.node("LayerNormalization", ["x", "scale"], ["normal"], axis=-1),
        build.node("MatMul", ["normal", "W"], ["mixed"]),
        build.node("Add", ["mixed", "x"], ["sum"]),
    ]
    weights = [build.weight("scale", np.ones(4, np.float32)), build.weight("W", np.eye(4, dtype=np.float32))]
    model = build.model(nodes, [build.value("x", "N", "T", 4)], [build.value("sum", "N", "T", 4)], weights)
    assert layouts(read_graph(model)) == {"x": "NTC", "normal": "NTC", "mixed": "NTC", "sum": "NTC"}


def test_a_normalization_over_two_axes_tells_nothing(build: Build) -> None:
    nodes = [build.node("LayerNormalization", ["x", "scale"], ["y"], axis=1)]
    scale = build.weight("scale", np.ones((7, 4), np.float32))
    graph = read_graph(build.model(nodes, [build.value("x", "N", 7, 4)], [build.value("y", "N", 7, 4)], [scale]))
    assert layouts(graph) == {"x": "", "y": ""}


def lstm(build: Build) -> list[onnx.TensorProto]:
    rng = np.random.default_rng(0)
    return [
        build.weight("Wl", rng.standard_normal((1, 12, 4), dtype=np.float32)),
        build.weight("Rl", rng.standard_normal((1, 12, 3), dtype=np.float32)),
    ]


def test_the_input_of_an_lstm_is_time_first_and_never_ntc(build: Build) -> None:
    nodes = [
        build.node("Transpose", ["x"], ["time_first"], perm=[1, 0, 2]),
        build.node("Relu", ["time_first"], ["rectified"]),
        build.node("LSTM", ["rectified", "Wl", "Rl"], ["y", "last"], hidden_size=3),
    ]
    outputs = [build.value("y", "T", 1, "N", 3), build.value("last", 1, "N", 3)]
    graph = read_graph(build.model(nodes, [build.value("x", "N", "T", 4)], outputs, lstm(build)))
    assert layouts(graph) == {"x": "NTC", "time_first": "TNC", "rectified": "TNC", "y": "", "last": ""}
    assert tap(graph, "x").untappable == ""
    found = {name: (tap(graph, name).shape, tap(graph, name).batch_axis) for name in layouts(graph)}
    assert found == {
        "x": ((None, 4), 0), "time_first": ((None, 4), 1), "rectified": ((None, 4), 1), "y": ((None, 1, 3), 2),
        "last": ((1, 3), 1),
    }  # fmt: skip
    assert {tap(graph, name).untappable for name in layouts(graph)} == {""}


def test_an_lstm_on_the_models_own_input_makes_that_time_first(build: Build) -> None:
    nodes = [build.node("LSTM", ["x", "Wl", "Rl"], ["y"], hidden_size=3)]
    model = build.model(nodes, [build.value("x", "T", "N", 4)], [build.value("y", "T", 1, "N", 3)], lstm(build))
    x, y = tap(read_graph(model), "x"), tap(read_graph(model), "y")
    assert (x.layout, x.shape, x.batch_axis, x.untappable) == ("TNC", (None, 4), 1, "")
    assert (y.layout, y.shape, y.batch_axis, y.untappable) == ("", (None, 1, 3), 2, "")


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(("steps", "batch"), [("T", "N"), (7, 2), (7, 7), (None, None)])
@pytest.mark.parametrize("layout", [0, 1])
def test_the_outputs_of_a_recurrent_node_tell_their_batch_axis_by_the_standard(
    build: Build, op: str, steps: Any, batch: Any, layout: int
) -> None:
    order = [steps, batch] if layout == 0 else [batch, steps]
    nodes = [build.node(op, ["x", "W", "R"], ["y", "h"], hidden_size=3, **({"layout": 1} if layout else {}))]
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    weights = [build.weight("W", np.ones((1, 3 * gates, 4), np.float32))]
    weights += [build.weight("R", np.ones((1, 3 * gates, 3), np.float32))]
    outputs = [onnx.ValueInfoProto(name=name) for name in ("y", "h")]
    graph = read_graph(build.model(nodes, [build.value("x", *order, 4)], outputs, weights))
    length = steps if isinstance(steps, int) else None
    found = {name: (tap(graph, name).batch_axis, tap(graph, name).untappable) for name in ("x", "y", "h")}
    assert found == {"x": (1 - layout, ""), "y": (2 if layout == 0 else 0, ""), "h": (1 - layout, "")}
    assert tap(graph, "x").shape == (length, 4)


def test_a_tensor_with_the_batch_on_another_axis_is_found_by_its_symbol(build: Build) -> None:
    nodes = [
        build.node("Transpose", ["x"], ["middle"], perm=[1, 0, 2]),
        build.node("Transpose", ["x"], ["last"], perm=[2, 1, 0]),
        build.node("ReduceMax", ["middle", "first"], ["one"], keepdims=1),
        build.node("ReduceMax", ["x", "first"], ["none"], keepdims=0),
    ]
    outputs = [onnx.ValueInfoProto(name="one")]
    model = build.model(nodes, [build.value("x", "N", 5, 6)], outputs, [build.weight("first", np.array([0]))])
    graph = read_graph(model)
    found = {name: (tap(graph, name).shape, tap(graph, name).batch_axis) for name in ("middle", "last", "one")}
    assert found == {"middle": ((5, 6), 1), "last": ((6, 5), 2), "one": ((1, 6), 1)}
    assert tap(graph, "none").untappable == "no batch axis: its first axis is always 5"


def test_a_size_that_nobody_declares_is_left_to_a_trial(build: Build) -> None:
    nodes = [build.node("Reshape", ["x", "to"], ["y"]), build.node("Transpose", ["x"], ["z"], perm=[1, 0])]
    model = build.model(nodes, [build.value("x", "N", "T")], [], [build.weight("to", np.array([4, -1]))])
    model.graph.output.extend([onnx.ValueInfoProto(name="y"), build.value("z", "T", "N")])
    graph = read_graph(model)
    assert (tap(graph, "y").untappable, tap(graph, "y").batch_axis) == ("", 0)
    assert (tap(graph, "z").untappable, tap(graph, "z").batch_axis) == ("", 1)


def test_large_weights_are_no_part_of_what_is_inferred(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, plain = [], onnx.shape_inference.infer_shapes

    def infer(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
        sizes.append(model.ByteSize())
        return plain(model, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", infer)
    nodes = [build.node("MatMul", ["x", "W"], ["h"]), build.node("Reshape", ["h", "to"], ["y"])]
    weights = [build.weight("W", np.ones((500, 600), np.float32)), build.weight("to", np.array([0, 2, 300]))]
    model = build.model(nodes, [build.value("x", "N", 500)], [onnx.ValueInfoProto(name="y")], weights)
    graph = read_graph(model)
    assert (tap(graph, "h").shape, tap(graph, "y").shape, tap(graph, "W").shape) == ((600,), (2, 300), None)
    assert tap(graph, "W").untappable == WEIGHT
    assert [one.name for one in graph.taps if one.op == "Input"] == ["x"]
    assert sizes[0] < 2000


def test_a_layout_that_nothing_tells_is_empty(build: Build) -> None:
    nodes = [build.node("Relu", ["x"], ["y"])]
    graph = read_graph(build.model(nodes, [image(build)], [build.value("y", "N", 3, 8, 8)]))
    assert layouts(graph) == {"x": "", "y": ""}


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_graph_that_contradicts_itself_is_refused(build: Build, refused: Refused) -> None:
    model = build.model([build.node("Relu", ["x"], ["y"])], [build.value("x", "N", 3)], [build.value("y", "N", 3)])
    del model.opset_import[:]
    ((code, text),) = refused(lambda: read_graph(model))
    assert code == "PK-M02"
    assert text.startswith("model.path: the graph is damaged: ")
