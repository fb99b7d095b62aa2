"""Digests of taps: what they must and must not tell apart."""

import pathlib
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from probekit.backends.onnx import OnnxBackend

Build = types.SimpleNamespace
Change = Callable[[onnx.ModelProto], None]

RNG = np.random.default_rng(0)
W1, W2 = RNG.standard_normal((3, 5), dtype=np.float32), RNG.standard_normal((5, 2), dtype=np.float32)


def digests(build: Build, model: onnx.ModelProto, folder: pathlib.Path, *taps: str) -> list[str]:
    made = OnnxBackend(path=str(build.save(model, folder / "m.onnx")))
    found = made.tap_fingerprints(taps)
    assert list(found) == list(taps)
    return list(found.values())


def net(build: Build) -> onnx.ModelProto:
    nodes = [
        build.node("MatMul", ["x", "W1"], ["h"], name="first"),
        build.node("LeakyRelu", ["h"], ["a"], alpha=0.1),
        build.node("Split", ["a"], ["left", "right"], axis=1, num_outputs=2),
        build.node("MatMul", ["a", "W2"], ["y"]),
    ]
    return build.model(
        nodes, [build.value("x", "N", 3)], [build.value("y", "N", 2)], [build.weight("W1", W1), build.weight("W2", W2)]
    )


def test_names_do_not_count_but_those_of_inputs(build: Build, tmp_path: pathlib.Path) -> None:
    first, other = net(build), net(build)
    for number, node in enumerate(other.graph.node):
        node.name, node.doc_string = f"n{number}", "other"
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = name if name == "x" else f"_{name}"
    for tensor in other.graph.initializer:
        tensor.name = f"_{tensor.name}"
    other.graph.output[0].name, other.graph.name, other.producer_name = "_y", "other", "other"
    taps = ["h", "a", "left", "right", "y"]
    found = digests(build, first, tmp_path, *taps)
    assert len(set(found)) == 5
    assert all(len(digest) == 32 for digest in found)
    assert digests(build, other, tmp_path, *(f"_{name}" for name in taps)) == found
    other.graph.input[0].name = other.graph.node[0].input[0] = "pixels"
    assert not set(digests(build, other, tmp_path, *(f"_{name}" for name in taps))) & set(found)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_changed_weight_changes_what_comes_after_it_and_nothing_else(
    build: Build, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Over random graphs: which tensors depend on a weight is known from how the graph was drawn."""
    folder = tmp_path_factory.getbasetemp()
    count = data.draw(st.integers(1, 8))
    names, depends = ["x"], {"x": set[int]()}
    nodes, weights = [], []
    for number in range(count):
        sources = [data.draw(st.sampled_from(names)) for _ in range(2)]
        weights.append(build.weight(f"w{number}", np.full(3, number, np.float32)))
        nodes.append(build.node("Sum", [*sources, f"w{number}"], [f"t{number}"]))
        names.append(f"t{number}")
        depends[f"t{number}"] = {number}.union(*(depends[source] for source in sources))
    model = build.model(nodes, [build.value("x", "N", 3)], [build.value(names[-1], "N", 3)], weights)
    before = digests(build, model, folder, *names)
    changed = data.draw(st.integers(0, count - 1))
    model.graph.initializer[changed].CopyFrom(build.weight(f"w{changed}", np.array([changed, changed, -1], np.float32)))
    after = digests(build, model, folder, *names)
    differs = {name for name, one, other in zip(names, before, after, strict=True) if one != other}
    assert differs == {name for name in names if changed in depends[name]}


def set_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].f = 0.2


def set_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Elu"


def set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 19


def set_dtype(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def set_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = (W1 + np.float32(1e-6)).tobytes()


def set_shape_of_weight(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([5, 3])


def swap_inputs(model: onnx.ModelProto) -> None:
    model.graph.node[0].input.reverse()


@pytest.mark.parametrize(
    "change", [set_attribute, set_operator, set_opset, set_dtype, set_weight, set_shape_of_weight, swap_inputs]
)
def test_whatever_comes_before_a_tap_counts(build: Build, tmp_path: pathlib.Path, change: Change) -> None:
    model = net(build)
    before = digests(build, model, tmp_path, "a")
    change(model)
    assert digests(build, model, tmp_path, "a") != before


def set_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def set_later_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].raw_data = (W2 * 2).tobytes()


def drop_what_follows(model: onnx.ModelProto) -> None:
    del model.graph.node[2:]
    model.graph.output[0].name = "a"


def set_import_of_another_library(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="com.acme", version=3)


def write_weight_as_floats(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend(W1.ravel().tolist())


def write_weight_as_constant(model: onnx.ModelProto) -> None:
    weight = onnx.TensorProto()
    weight.CopyFrom(model.graph.initializer[0])
    weight.name = "value"
    del model.graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["W1"], value=weight))


def write_weight_outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "8"), ("length", str(W1.nbytes))):
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize(
    "change",
    [
        set_batch, set_later_weight, drop_what_follows, set_import_of_another_library, write_weight_as_floats,
        write_weight_as_constant, write_weight_outside,
    ],
)  # fmt: skip
def test_what_does_not_shape_a_taps_values_does_not_count(build: Build, tmp_path: pathlib.Path, change: Change) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8) + W1.tobytes() + bytes(8))
    model = net(build)
    before = digests(build, model, tmp_path, "h", "a")
    change(model)
    assert digests(build, model, tmp_path, "h", "a") == before


def test_a_weight_in_another_file_is_read_from_there(build: Build, tmp_path: pathlib.Path) -> None:
    model = net(build)
    write_weight_outside(model)
    found = []
    for content in (W1, W1 * 2):
        (tmp_path / "w.bin").write_bytes(bytes(8) + content.tobytes())
        found.append(digests(build, model, tmp_path, "h"))
    assert found[0] != found[1]


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.FLOAT16, TensorProto.STRING])
def test_constants_of_any_type_count(build: Build, tmp_path: pathlib.Path, kind: int) -> None:
    def one(last: int) -> list[str]:
        values = [b"a", str(last).encode()] if kind == TensorProto.STRING else [1, last]
        constant = build.node("Constant", [], ["c"], value=helper.make_tensor("c", kind, [2], values))
        nodes = [constant, build.node("Mix", ["x", "c"], ["y"], domain="own")]
        model = build.model(nodes, [build.value("x", "N", 2)], [build.value("y", "N", 2)], domains=["own"])
        return digests(build, model, tmp_path, "y")

    assert one(2) == one(2)
    assert one(2) != one(3)


def choice(build: Build, inner: float = 1, outer: float = 2, op: str = "Add") -> onnx.ModelProto:
    """A node whose bodies hold a weight of their own and read one of the outer graph."""
    own = build.weight("own", np.full(3, inner, np.float32))
    nodes = [build.node("Add", ["x", "own"], ["i"]), build.node(op, ["i", "W"], ["o"])]
    then = helper.make_graph(nodes, "then", [], [build.value("o", "N", 3)], [own])
    other = helper.make_graph([build.node("Neg", ["x"], ["n"])], "else", [], [build.value("n", "N", 3)])
    weights = [build.weight("cond", np.array(True)), build.weight("W", np.full(3, outer, np.float32))]
    node = build.node("If", ["cond"], ["y"], then_branch=then, else_branch=other)
    return build.model([node], [build.value("x", "N", 3)], [build.value("y", "N", 3)], weights)


def test_the_bodies_of_a_node_and_what_they_read_outside_count(build: Build, tmp_path: pathlib.Path) -> None:
    first = digests(build, choice(build), tmp_path, "y")
    renamed = choice(build)
    body = next(attribute.g for attribute in renamed.graph.node[0].attribute if attribute.name == "then_branch")
    body.node[0].output[0] = body.node[1].input[0] = "j"
    assert digests(build, renamed, tmp_path, "y") == first
    others = [choice(build, inner=3), choice(build, outer=3), choice(build, op="Mul")]
    assert len({*first, *(digests(build, other, tmp_path, "y")[0] for other in others)}) == 4


def function(build: Build, factor: float = 2, call: str = "Twice", opset: int = 18) -> onnx.ModelProto:
    constant = build.node("Constant", [], ["c"], value_float=factor)
    body = [constant, build.node("Mul", ["a", "c"], ["b"])]
    made = helper.make_function("own", call, ["a"], ["b"], body, [helper.make_opsetid("", opset)])
    nodes = [build.node(call, ["x"], ["y"], domain="own")]
    model = build.model(nodes, [build.value("x", "N", 3)], [build.value("y", "N", 3)], domains=["own"])
    model.functions.append(made)
    return model


def test_what_a_local_function_does_counts_and_what_it_is_called_does_not(build: Build, tmp_path: pathlib.Path) -> None:
    first = digests(build, function(build), tmp_path, "y")
    assert digests(build, function(build, call="Double"), tmp_path, "y") == first
    assert digests(build, function(build, factor=3), tmp_path, "y") != first
    assert digests(build, function(build, opset=17), tmp_path, "y") != first


def test_a_function_that_calls_itself_ends(build: Build, tmp_path: pathlib.Path) -> None:
    model = function(build)
    model.functions[0].node.append(build.node("Twice", ["b"], ["d"], domain="own"))
    assert len(digests(build, model, tmp_path, "y")[0]) == 32


def test_nodes_in_no_order_are_taken_as_a_whole(build: Build, tmp_path: pathlib.Path) -> None:
    model = net(build)
    model.graph.node.reverse()
    made = OnnxBackend(path=str(build.save(model, tmp_path / "m.onnx")))
    assert made.tap_fingerprints(["a"]) == {"a": f"{made.fingerprint()}:a"}


def test_a_thousand_nodes_and_a_hundred_megabytes_take_about_a_second(build: Build, tmp_path: pathlib.Path) -> None:
    weights: list[Any] = [build.weight(f"w{number}", np.ones(100_000, np.float32)) for number in range(250)]
    nodes = [build.node("Add", ["x", "w0"], ["t0"])]
    nodes += [build.node("Add", [f"t{number - 1}", f"w{number % 250}"], [f"t{number}"]) for number in range(1, 1000)]
    model = build.model(nodes, [build.value("x", "N", 100_000)], [build.value("t999", "N", 100_000)], weights)
    path = build.save(model, tmp_path / "m.onnx")
    start = time.process_time()
    OnnxBackend(path=str(path)).tap_fingerprints([f"t{number}" for number in range(0, 1000, 50)])
    assert time.process_time() - start < 4
