"""Programs in the graph against run_program on NumPy's own activations, and what is cut away and checked."""

import math
import pathlib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from probekit.backends.differences import relative_difference
from probekit.backends.onnx import OnnxBackend
from probekit.components import Graph, Tap, Wanted
from probekit.reductions.data_free import PoolReduction, SubsetReduction
from probekit.steps import (
    BatchFirst,
    Flatten,
    Last,
    MatMul,
    Max,
    Mean,
    Positions,
    Program,
    Select,
    Slice,
    Std,
    Step,
    Take,
    program_masks,
    program_shape,
    run_program,
)

Refused = Callable[[Callable[[], Any]], list[tuple[str, str]]]
Build = types.SimpleNamespace

GPU = "CUDAExecutionProvider" in onnxruntime.get_available_providers() and pathlib.Path("/dev/nvidia0").exists()
LAYOUTS = ["NC", "NCHW", "NHWC", "NCDHW", "NCT", "NTC", "TNC"]
DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", "bfloat16"]
ELEMENTS = {**{name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in DTYPES[:-1]}, "bfloat16": 16}


def _slack(truth):
    """Return what rounding may change: sums of large values leave small ones with few digits."""
    return 1e-5 + 1e-6 * float(np.abs(truth[np.isfinite(truth)]).max(initial=0))


def backend(build: Build, model: onnx.ModelProto, folder: pathlib.Path, **fields: Any) -> OnnxBackend:
    return OnnxBackend(path=str(build.save(model, folder / "m.onnx")), **fields)


def wanted(tap: Tap, program: Program) -> Wanted:
    assert tap.shape is not None
    width = program_shape(program, tap.shape)[0]
    assert width is not None
    return Wanted(tap, program, width)


def reduced(made: OnnxBackend, asked: list[Wanted], feed: Mapping[str, Any], masks: Mapping[str, Any] | None = None):
    with made.open_reduced(asked) as function:
        return list(function(feed, masks or {}))


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[onnx.ModelProto]:
    """Every model that ONNX Runtime is given, as it is given."""
    seen: list[onnx.ModelProto] = []
    plain = onnxruntime.InferenceSession

    def session(content: bytes, *args: Any, **more: Any) -> Any:
        seen.append(onnx.load_from_string(content))
        return plain(content, *args, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return seen


# --- one meaning -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """An activation, a program for it, and the masks that it names."""

    activation: Any
    dtype: str
    tap: Tap
    program: Program
    masks: dict[str, Any]


def programs(draw: Any, layout: str, shape: tuple[int, ...], rng: np.random.Generator) -> Program:
    """Draw a program for a layout that begins with the batch and a shape without it."""
    size = math.prod(shape)
    kinds = ["flatten", "subset", "project"]
    axes = tuple(axis for axis, letter in enumerate(layout) if letter in "DHWT")
    if axes:
        kinds += ["mean", "max", "std", "select", "positions", "slice", "select subset"]
        kinds += ["last"] if len(axes) == 1 else []
    kind = draw(st.sampled_from(kinds))
    mask = draw(st.sampled_from([None, "kept"]))
    steps: list[Step] = []
    if kind in {"mean", "max", "std"}:
        steps = [{"mean": Mean, "max": Max, "std": Std}[kind](axes, mask)]
    elif kind == "positions":
        steps = [Positions(axes, mask)]
    elif kind == "last":
        steps = [Last(axes[0], "kept")]
    elif kind == "slice":
        bound = st.integers(-4, 4)
        steps = [Slice(axes[0], draw(bound), draw(bound))]
    elif kind.startswith("select"):
        steps = [Select(a, draw(st.integers(-shape[a - 1], shape[a - 1] - 1))) for a in reversed(axes)]
        size = shape[layout.index("C") - 1]
    if kind.endswith("subset"):
        return (*steps, Flatten(), Take(rng.integers(0, size, draw(st.integers(1, 6)))))
    if kind == "project":
        return (Flatten(), MatMul(rng.standard_normal((size, 3), dtype=np.float32)))
    return (*steps, Flatten())


@st.composite
def cases(draw: Any, dtypes: list[str], specials: bool = False) -> Case:
    layout = draw(st.sampled_from(LAYOUTS if not specials else LAYOUTS[1:]))
    batch = draw(st.integers(1, 4))
    sizes = {letter: draw(st.integers(1, 5)) for letter in "CDHWT"}
    dtype = draw(st.sampled_from(dtypes))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    full = tuple(batch if letter == "N" else sizes[letter] for letter in layout)
    values = rng.integers(0, 2, full) if dtype == "bool" else rng.integers(0, 99, full) / 4
    if dtype.startswith(("float", "bfloat", "int")):
        values = values - 12
    activation = values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    if specials:
        for value in (np.nan, np.inf, -np.inf, 3e38, -3e38):
            places = rng.random(full) < draw(st.sampled_from([0, 0, 0.1, 0.7, 1]))
            activation[places] = value
    axis = layout.index("N")
    inner = tuple(size for number, size in enumerate(full) if number != axis)
    program = programs(draw, "N" + layout.replace("N", ""), inner, rng)
    masked = tuple(size for letter, size in zip(layout.replace("N", ""), inner, strict=True) if letter in "DHWT")
    mask = rng.random((batch, *masked)) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    masks = {"kept": mask.astype(draw(st.sampled_from(["bool", "int64", "float32"])))}
    if axis:
        program = (BatchFirst(axis), *program)
    named = program_masks(program)
    tap = Tap("t", "Identity", inner, dtype, layout, 1, "", axis)
    return Case(activation, dtype, tap, program, {name: masks[name] for name in named})


def one_node(build: Build, case: Case, opset: int = 18) -> onnx.ModelProto:
    symbols = [f"s{axis}" for axis in range(case.activation.ndim)]
    if case.dtype == "bfloat16":
        node, given_as = build.node("Cast", ["x"], ["t"], to=TensorProto.BFLOAT16), TensorProto.FLOAT
    else:
        node, given_as = build.node("Identity", ["x"], ["t"]), ELEMENTS[case.dtype]
    outputs = [build.value("t", *symbols, dtype=ELEMENTS[case.dtype])]
    return build.model([node], [build.value("x", *symbols, dtype=given_as)], outputs, opset=opset)


def fed(case: Case) -> dict[str, Any]:
    return {"x": case.activation.astype(np.float32) if case.dtype == "bfloat16" else case.activation}


@settings(deadline=None, max_examples=200)
@given(case=cases(DTYPES))
def test_the_graft_gives_the_features_of_run_program(
    build: Build, tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    made = backend(build, one_node(build, case), tmp_path_factory.getbasetemp())
    (found,) = reduced(made, [wanted(case.tap, case.program)], fed(case), case.masks)
    truth = run_program(case.program, case.activation, case.masks)
    assert (found.dtype, found.shape) == (np.float32, truth.shape)
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=_slack(truth))


@settings(deadline=None, max_examples=150)
@given(case=cases(["float32"], specials=True))
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_infinities_and_nan_come_out_as_from_run_program(
    build: Build, tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    made = backend(build, one_node(build, case), tmp_path_factory.getbasetemp())
    (found,) = reduced(made, [wanted(case.tap, case.program)], fed(case), case.masks)
    truth = run_program(case.program, case.activation, case.masks)
    # A sum of many 3e38 is infinite or not, as they are added up.
    huge = np.abs(case.activation[np.isfinite(case.activation)]).max(initial=0) > 1e38
    assume(not (huge and any(isinstance(step, Mean | Std | MatMul) for step in case.program)))
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=_slack(truth))


@pytest.mark.parametrize("opset", [6, 7, 8, 9, 10, 11, 12, 13, 17, 18, 21, 23])
@settings(deadline=None, max_examples=10)
@given(case=cases(["float32"]))
def test_any_operator_set_gives_the_same_features(
    build: Build, tmp_path_factory: pytest.TempPathFactory, opset: int, case: Case
) -> None:
    made = backend(build, one_node(build, case, opset), tmp_path_factory.getbasetemp())
    (found,) = reduced(made, [wanted(case.tap, case.program)], fed(case), case.masks)
    truth = run_program(case.program, case.activation, case.masks)
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=_slack(truth))


@pytest.mark.parametrize("dtype", ["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "INT4", "UINT4"])
def test_numbers_that_numpy_lacks_are_cast_to_float32(build: Build, tmp_path: pathlib.Path, dtype: str) -> None:
    x = np.array([[0.3, 1, 2.7, 5], [0, 2, 3, 7]], np.float32)
    if dtype.endswith("INT4"):
        x = np.floor(x)  # how a fraction becomes an integer is the runtime's own affair
    node = build.node("Cast", ["x"], ["t"], to=getattr(TensorProto, dtype))
    value = build.value("t", "N", 4, dtype=getattr(TensorProto, dtype))
    model = build.model([node], [build.value("x", "N", 4)], [value], opset=21)
    made = backend(build, model, tmp_path)
    tap = made.graph().tap("t")
    assert tap is not None
    assert (tap.dtype, tap.untappable) == (dtype.lower(), "")
    kinds = {"INT4": ml_dtypes.int4, "UINT4": ml_dtypes.uint4, "FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn}
    kinds |= {"FLOAT8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "FLOAT8E5M2": ml_dtypes.float8_e5m2}
    kinds |= {"FLOAT8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz}
    truth = x.astype(np.int8 if dtype.endswith("INT4") else kinds[dtype]).astype(np.float32)
    (found,) = reduced(made, [wanted(tap, (Flatten(),))], {"x": x})
    np.testing.assert_array_equal(found, truth)
    with made.open(["t"]) as function:
        raw = function({"x": x})["t"]
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, truth)


def convolutions(build: Build, size: Any = "H") -> onnx.ModelProto:
    """Three convolutions, each normalised and rectified, with a residual sum: what the runtime fuses and lays out."""
    rng, nodes, weights = np.random.default_rng(0), [], []
    source = "x"
    for number, channels in enumerate([(3, 16), (16, 16), (16, 16)]):
        weights.append(build.weight(f"k{number}", rng.standard_normal((channels[1], channels[0], 3, 3), np.float32)))
        nodes.append(build.node("Conv", [source, f"k{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        if number == 2:
            nodes.append(build.node("Add", [f"c{number}", "r1"], ["sum"]))
        nodes.append(build.node("Relu", ["sum" if number == 2 else f"c{number}"], [f"r{number}"]))
        source = f"r{number}"
    nodes += [build.node("GlobalAveragePool", [source], ["pooled"]), build.node("Flatten", ["pooled"], ["logits"])]
    inputs = [build.value("x", "N", 3, size, size)]
    return build.model(nodes, inputs, [build.value("logits", "N", 16)], weights)


def by_reference(model: onnx.ModelProto, names: list[str], feed: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors as onnx's own evaluator in NumPy gives them."""
    from onnx.reference import ReferenceEvaluator

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return dict(zip(names, ReferenceEvaluator(copy).run(names, dict(feed)), strict=True))


def seen(graph: Graph, name: str, *shape: int) -> Tap:
    """Return a tap as a trial run leaves it."""
    tap = graph.tap(name)
    assert tap is not None
    return replace(tap, shape=shape)


@pytest.mark.parametrize("optimization", ["all", "off"])
def test_images_in_the_runtimes_own_layout(build: Build, tmp_path: pathlib.Path, optimization: str) -> None:
    model = convolutions(build)
    made = backend(build, model, tmp_path, optimization=optimization)
    graph = made.graph()
    taps = [seen(graph, "x", 3, 6, 6), *(seen(graph, name, 16, 6, 6) for name in ("r0", "c1", "sum", "r2"))]
    kinds = [PoolReduction(), PoolReduction(how="max"), PoolReduction(how="std"), SubsetReduction(features=20)]
    asked = [wanted(tap, kind.program(tap)) for kind in kinds for tap in taps]
    x = np.random.default_rng(1).standard_normal((5, 3, 6, 6), dtype=np.float32)
    truth = by_reference(model, [tap.name for tap in taps[1:]], {"x": x}) | {"x": x}
    for one, found in zip(asked, reduced(made, asked, {"x": x}), strict=True):
        expected = run_program(one.program, truth[one.tap.name])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_time_first_tap_of_a_recurrent_net(build: Build, tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    weights = [
        build.weight("W", rng.standard_normal((1, 12, 4), dtype=np.float32)),
        build.weight("R", rng.standard_normal((1, 12, 3), dtype=np.float32)),
    ]
    nodes = [build.node("LSTM", ["x", "W", "R"], ["y", "last"], hidden_size=3)]
    outputs = [build.value("y", "T", 1, "N", 3), build.value("last", 1, "N", 3)]
    model = build.model(nodes, [build.value("x", "T", "N", 4)], outputs, weights)
    made = backend(build, model, tmp_path)
    graph = made.graph()
    assert [(tap.name, tap.batch_axis, tap.untappable) for tap in graph.taps[:3]] == [
        ("x", 1, ""), ("y", 2, ""), ("last", 1, ""),
    ]  # fmt: skip
    x = rng.standard_normal((7, 5, 4), dtype=np.float32)
    truth = by_reference(model, ["y", "last"], {"x": x})
    y, last = seen(graph, "y", 7, 1, 3), seen(graph, "last", 1, 3)
    asked = [
        wanted(y, (BatchFirst(2), Mean((1,)), Flatten())),
        wanted(y, (BatchFirst(2), Last(1, "kept"), Flatten())),
        wanted(last, (BatchFirst(1), Flatten())),
        wanted(y, (BatchFirst(2), Positions((1,), "kept"), Flatten())),
    ]
    kept = rng.random((5, 7)) < 0.5
    found = reduced(made, asked, {"x": x}, {"kept": kept})
    for one, features in zip(asked, found, strict=True):
        expected = run_program(one.program, truth[one.tap.name], {"kept": kept})
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    with made.open(["y"]) as function:
        assert function({"x": x})["y"].shape == (7, 1, 5, 3)


def test_a_large_matrix_is_lent_to_the_runtime(
    build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]
) -> None:
    rng = np.random.default_rng(0)
    nodes = [build.node("Relu", ["x"], ["a"]), build.node("Neg", ["x"], ["b"])]
    model = build.model(nodes, [build.value("x", "N", 2000)], [build.value("a", "N", 2000)])
    made = backend(build, model, tmp_path)
    a, b = (made.graph().tap(name) for name in "ab")
    assert a is not None
    assert b is not None
    matrix = rng.standard_normal((2000, 300), dtype=np.float32)
    other = rng.standard_normal((2000, 300), dtype=np.float32)
    asked = [wanted(a, (MatMul(matrix),)), wanted(b, (MatMul(matrix.copy()),)), wanted(b, (MatMul(other),))]
    x = rng.standard_normal((3, 2000), dtype=np.float32)
    found = reduced(made, asked, {"x": x})
    for features, truth in zip(found, [np.maximum(x, 0) @ matrix, -x @ matrix, -x @ other], strict=True):
        np.testing.assert_allclose(features, truth, rtol=1e-3, atol=1e-3)
    assert sessions[0].ByteSize() < 10_000
    assert len(sessions[0].graph.initializer) == 2


# --- equal work ------------------------------------------------------------------------------------------------------


def test_equal_work_is_done_once(build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]) -> None:
    made = backend(build, convolutions(build), tmp_path)
    tap = seen(made.graph(), "r0", 16, 6, 6)
    pool = PoolReduction().program(tap)
    asked = [
        wanted(tap, pool),
        wanted(tap, PoolReduction().program(tap)),
        wanted(tap, PoolReduction(how="max").program(tap)),
    ]
    asked += [wanted(tap, SubsetReduction(features=9, seed=seed).program(tap)) for seed in (0, 0, 1)]
    found = reduced(made, asked, {"x": np.ones((2, 3, 6, 6), np.float32)})
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[3], found[4])
    assert not np.array_equal(found[3], found[5])
    (model,) = sessions
    added = [node.op_type for node in model.graph.node if node.name.startswith("probekit/")]
    # The sum that shows whether a maximum can be trusted is the mean.
    assert sorted(added) == sorted(
        ["GlobalAveragePool", "Flatten", "GlobalMaxPool", "Flatten", "Shape", "Flatten", "Gather", "Gather"]
    )


def test_a_step_of_a_plugin_runs_in_numpy_and_the_others_in_the_graph(
    build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]
) -> None:
    class Halve(Mean):
        """Not the mean, though it looks like one."""

        def apply(self, activation: Any, masks: Any = None) -> Any:
            return activation.mean(axis=self.axes) / 2

    made = backend(build, convolutions(build), tmp_path)
    tap = seen(made.graph(), "r0", 16, 6, 6)
    asked = [
        wanted(tap, (Halve((2, 3)),)),
        wanted(tap, (Mean((2, 3)),)),
        wanted(
            tap,
            (
                Mean((1,), "m"),
                Flatten(),
                Halve(()),
            ),
        ),
    ]
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6), dtype=np.float32)
    halves, means = reduced(made, asked[:2], {"x": x})
    np.testing.assert_allclose(halves, means / 2, rtol=1e-5)
    outputs = [value.name for value in sessions[0].graph.output]
    assert len(outputs) == 2
    assert "r0" in outputs
    # What had been grafted of a program that then falls back, a mask among it, is gone.
    reduced_mask = {"m": np.ones((2, 16), bool)}
    reduced(made, asked[1:2], {"x": x}, reduced_mask)
    assert [value.name for value in sessions[1].graph.input] == ["x"]


# --- what is cut away ------------------------------------------------------------------------------------------------


def pool_of(made: OnnxBackend, name: str, *shape: int) -> list[Wanted]:
    tap = seen(made.graph(), name, *shape)
    return [wanted(tap, (*([Mean(tuple(range(2, len(shape) + 1)))] if len(shape) > 1 else []), Flatten()))]


def test_only_what_a_tap_needs_is_loaded(build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]) -> None:
    made = backend(build, convolutions(build), tmp_path)
    x = {"x": np.ones((2, 3, 6, 6), np.float32)}
    reduced(made, pool_of(made, "r0", 16, 6, 6), x)
    with made.open(["r0"]) as function:
        function(x)
    ops = [[node.op_type for node in model.graph.node] for model in sessions]
    assert ops == [["Conv", "Relu", "GlobalAveragePool", "Flatten"], ["Conv", "Relu"]]
    assert [[tensor.name for tensor in model.graph.initializer] for model in sessions] == [["k0"], ["k0"]]
    reduced(made, pool_of(made, "x", 3, 6, 6), x)
    assert len(sessions) == 2, "an input needs no session"


def test_the_first_of_many_taps_is_reduced_first(
    build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]
) -> None:
    """The runtime begins with the last node that nothing reads: the order here is what keeps memory low."""
    made = backend(build, convolutions(build), tmp_path)
    asked = [*pool_of(made, "r0", 16, 6, 6), *pool_of(made, "sum", 16, 6, 6), *pool_of(made, "c1", 16, 6, 6)]
    reduced(made, asked, {"x": np.ones((2, 3, 6, 6), np.float32)})
    pools = [node.input[0] for node in sessions[0].graph.node if node.op_type == "GlobalAveragePool"]
    assert pools == ["sum", "c1", "r0"]


def test_an_early_tap_needs_no_operator_that_comes_later(build: Build, tmp_path: pathlib.Path) -> None:
    nodes = [build.node("Relu", ["x"], ["a"]), build.node("MyOp", ["a"], ["y"], domain="com.acme")]
    model = build.model(nodes, [build.value("x", "N", 3)], [build.value("y", "N", 3)], domains=["com.acme"])
    made = backend(build, model, tmp_path)
    x = np.array([[1, -2, 3]], np.float32)
    np.testing.assert_array_equal(reduced(made, pool_of(made, "a", 3), {"x": x})[0], np.maximum(x, 0))
    with made.open(["a"]) as function:
        np.testing.assert_array_equal(function({"x": x})["a"], np.maximum(x, 0))


def test_an_input_that_is_cut_away_need_not_be_fed(
    build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]
) -> None:
    nodes = [build.node("Relu", ["x"], ["a"]), build.node("Add", ["a", "z"], ["y"])]
    inputs = [build.value("x", "N", 3), build.value("z", "N", 3)]
    made = backend(build, build.model(nodes, inputs, [build.value("y", "N", 3)]), tmp_path)
    x, z = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    for feed in ({"x": x}, {"x": x, "z": z}):
        np.testing.assert_array_equal(reduced(made, pool_of(made, "a", 3), feed)[0], x)
        assert [value.name for value in sessions[-1].graph.input] == ["x"]
    np.testing.assert_array_equal(reduced(made, pool_of(made, "y", 3), {"x": x, "z": z})[0], x + z)


def test_what_the_bodies_of_a_node_read_is_kept(
    build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]
) -> None:
    node = build.node
    leaf = helper.make_graph([node("Add", ["good", "W"], ["deep"])], "leaf", [], [build.value("deep", "N", 3)])
    then = helper.make_graph(
        [node("If", ["cond"], ["middle"], then_branch=leaf, else_branch=leaf)],
        "then", [], [build.value("middle", "N", 3)],
    )  # fmt: skip
    other = helper.make_graph([node("Mul", ["also", "W2"], ["o"])], "else", [], [build.value("o", "N", 3)], [])
    nodes = [
        node("Relu", ["x"], ["good"]),
        node("Neg", ["x"], ["also"]),
        node("Abs", ["x"], ["unused"]),
        node("If", ["cond"], ["y"], then_branch=then, else_branch=other),
        node("Add", ["y", "unused"], ["end"]),
    ]
    weights = [build.weight("cond", np.array(True)), build.weight("W", np.arange(3, dtype=np.float32))]
    weights += [build.weight("W2", np.ones(3, np.float32)), build.weight("W3", np.ones(3, np.float32))]
    model = build.model(nodes, [build.value("x", "N", 3)], [build.value("end", "N", 3)], weights)
    made = backend(build, model, tmp_path)
    x = np.array([[1, -2, 3]], np.float32)
    (found,) = reduced(made, pool_of(made, "y", 3), {"x": x})
    np.testing.assert_array_equal(found, np.maximum(x, 0) + np.arange(3))
    assert [node.output[0] for node in sessions[0].graph.node] == ["good", "also", "y"]
    assert [tensor.name for tensor in sessions[0].graph.initializer] == ["cond", "W", "W2"]


def test_only_called_functions_are_kept(build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]) -> None:
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [build.node("Relu", ["a"], ["b"])], opset)
    calls = [build.node("Inner", ["a"], ["b"], domain="own")]
    outer = helper.make_function("own", "Outer", ["a"], ["b"], calls, opset)
    late = helper.make_function("late", "Late", ["a"], ["b"], [build.node("Neg", ["a"], ["b"])], opset)
    nodes = [build.node("Outer", ["x"], ["h"], domain="own"), build.node("Late", ["h"], ["y"], domain="late")]
    model = build.model(
        nodes, [build.value("x", "N", 3)], [build.value("y", "N", 3)], domains=["own", "late", "nobody"]
    )
    model.functions.extend([inner, outer, late])
    made = backend(build, model, tmp_path)
    x = np.array([[1, -2, 3]], np.float32)
    tap = Tap("h", "Outer", (3,), "", "NC", 1)
    np.testing.assert_array_equal(reduced(made, [wanted(tap, (Flatten(),))], {"x": x})[0], np.maximum(x, 0))
    assert {one.name for one in sessions[0].functions} == {"Inner", "Outer"}
    assert {one.domain for one in sessions[0].opset_import} == {"", "own"}
    (found,) = reduced(made, pool_of(made, "y", 3), {"x": x})
    np.testing.assert_array_equal(found, -np.maximum(x, 0))


def test_data_of_weights_that_are_cut_away_are_still_checked(
    build: Build, refused: Refused, tmp_path: pathlib.Path
) -> None:
    nodes = [build.node("Add", ["x", "near"], ["a"]), build.node("Add", ["a", "far"], ["y"])]
    near, far = (build.external(name, (3,), location=f"{name}.bin") for name in ("near", "far"))
    model = build.model(nodes, [build.value("x", "N", 3)], [build.value("y", "N", 3)], [near, far])
    for name in ("near", "far"):
        (tmp_path / f"{name}.bin").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    made = backend(build, model, tmp_path)
    asked = pool_of(made, "a", 3)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(reduced(made, asked, {"x": x})[0], x + np.arange(3))
    (tmp_path / "far.bin").unlink()
    what = f"model.path: the model's external data is absent: 'far.bin'; copy it to '{tmp_path}'"
    assert refused(lambda: reduced(made, asked, {"x": x})) == [("PK-M07", what)]


def test_names_that_look_like_ours_do_not_clash(build: Build, tmp_path: pathlib.Path) -> None:
    nodes = [
        build.node("Relu", ["x"], ["probekit/x:Flatten_0"], name="probekit/a"),
        build.node("Neg", ["probekit/x:Flatten_0"], ["_probekit/y"]),
    ]
    model = build.model(nodes, [build.value("x", "N", 2, 3)], [build.value("_probekit/y", "N", 2, 3)])
    made = backend(build, model, tmp_path)
    x = np.array([[[1, -2, 3], [4, -5, 6]]], np.float32)
    asked = [wanted(seen(made.graph(), name, 2, 3), (Flatten(),)) for name in ("probekit/x:Flatten_0", "_probekit/y")]
    found = reduced(made, asked, {"x": x})
    np.testing.assert_array_equal(found[0], np.maximum(x, 0).reshape(1, 6))
    np.testing.assert_array_equal(found[1], -np.maximum(x, 0).reshape(1, 6))


# --- sizes that change -----------------------------------------------------------------------------------------------

ONE_SIZE = "give the dataset inputs of one size"


def test_axes_that_a_reduction_removes_may_change_their_size(build: Build, tmp_path: pathlib.Path) -> None:
    model = convolutions(build)
    made = backend(build, model, tmp_path)
    tap = seen(made.graph(), "r0", 16, 6, 6)
    asked = [wanted(tap, (kind((2, 3)), Flatten())) for kind in (Mean, Max, Std)]
    with made.open_reduced(asked) as function:
        for size in (6, 4, 9):
            x = np.random.default_rng(size).standard_normal((2, 3, size, size), dtype=np.float32)
            truth = by_reference(model, ["r0"], {"x": x})["r0"]
            for one, found in zip(asked, function({"x": x}, {}), strict=True):
                np.testing.assert_allclose(found, run_program(one.program, truth), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("program", "sizes", "change"),
    [
        ((Flatten(),), (3, 2), ": (2, 3) in the first rows, (3, 2) later"),  # as many values, other features
        ((Flatten(),), (2, 4), ": (2, 3) in the first rows, (2, 4) later"),
        ((Flatten(), Take(np.array([0, 5]))), (2, 4), ": (2, 3) in the first rows, (2, 4) later"),
        ((Mean((1,)), Take(np.array([0, 2]))), (2, 4), ": (3,) in the first rows, (4,) later"),
        ((Mean((1,)), Flatten()), (2, 4), ": 3 features in the first rows, (4,) later"),
        ((Positions((1,)), Flatten()), (5, 6), ": (None, 3) in the first rows, (5, 6) later"),
        ((Flatten(), Take(np.array([0, 5]))), (2, 2), ""),  # the runtime stops before the sizes are compared
        ((Select(1, 1), Flatten()), (1, 3), ""),
        ((Flatten(), MatMul(np.ones((6, 2), np.float32))), (2, 4), ""),
    ],
)
def test_another_size_never_becomes_other_features(
    build: Build, refused: Refused, tmp_path: pathlib.Path, program: Program, sizes: tuple[int, int], change: str
) -> None:
    model = build.model([build.node("Relu", ["x"], ["t:1"])], [build.value("x", "N", "A", "B")], [])
    model.graph.output.append(build.value("t:1", "N", "A", "B"))
    made = backend(build, model, tmp_path)
    one = wanted(Tap("t:1", "Relu", (2, 3), "float32"), program)
    with made.open_reduced([one]) as function:
        assert function({"x": np.ones((4, 2, 3), np.float32)}, {})[0].shape[1] == one.width
        ((code, text),) = refused(lambda: function({"x": np.ones((4, *sizes), np.float32)}, {}))
    assert code == "PK-M20"
    assert text == f"tap 't:1' changes its size{change}; {ONE_SIZE}"


@pytest.mark.parametrize("step", [Mean((1,), "kept"), Max((1,), "kept"), Last(1, "kept"), Positions((1,), "kept")])
@pytest.mark.parametrize("length", [1, 5, 9])
def test_a_mask_of_other_positions_is_refused(
    build: Build, refused: Refused, tmp_path: pathlib.Path, step: Step, length: int
) -> None:
    model = build.model(
        [build.node("Relu", ["x"], ["t"])], [build.value("x", "N", 7, 3)], [build.value("t", "N", 7, 3)]
    )
    made = backend(build, model, tmp_path)
    asked = [wanted(Tap("t", "Relu", (7, 3), "float32"), (step, Flatten()))]
    masks = {"kept": np.ones((2, length), bool)}
    ((code, text),) = refused(lambda: reduced(made, asked, {"x": np.ones((2, 7, 3), np.float32)}, masks))
    assert code in {"PK-M54", "PK-M20"}
    if code == "PK-M54":
        assert text.startswith(f"the mask 'kept' has the sizes ({length},), 't' has (7,) positions; ")


# --- how much the runtime changes ------------------------------------------------------------------------------------


def test_the_taps_are_compared_with_the_graph_as_exported(
    build: Build, tmp_path: pathlib.Path, sessions: list[onnx.ModelProto]
) -> None:
    made = backend(build, convolutions(build), tmp_path)
    graph = made.graph()
    taps = [seen(graph, "x", 3, 6, 6), seen(graph, "sum", 16, 6, 6), seen(graph, "c1", 16, 6, 6)]
    asked = [wanted(tap, kind.program(tap)) for tap in taps for kind in (PoolReduction(), SubsetReduction(features=9))]
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6), dtype=np.float32)
    told = made.compare(asked, {"x": x}, {})
    assert set(told) == {"against_unoptimised", "output_against_untapped"}
    assert set(told["against_unoptimised"]) == {"x", "sum", "c1"}
    assert told["against_unoptimised"]["x"] == 0
    assert all(0 <= value < 1e-5 for value in told["against_unoptimised"].values())
    assert 0 <= told["output_against_untapped"] < 1e-5
    assert [len(model.graph.output) for model in sessions] == [1, 7, 6]
    off = backend(build, convolutions(build), tmp_path, optimization="off").compare(asked, {"x": x}, {})
    assert off == {"against_unoptimised": dict.fromkeys(["x", "sum", "c1"], 0.0), "output_against_untapped": 0.0}


def test_a_runtime_that_computes_something_else_shows(
    build: Build, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime whose optimised sessions are 1 % off: each tap says so, by its largest program."""
    made = backend(build, convolutions(build), tmp_path)
    tap = seen(made.graph(), "r0", 16, 6, 6)
    plain = onnxruntime.InferenceSession

    class Off(plain):
        def __init__(self, content: bytes, options: Any, **more: Any) -> None:
            super().__init__(content, options, **more)
            level = options.graph_optimization_level
            self.factor = 1.01 if level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL else 1

        def run(self, names: Any, feed: Any) -> Any:
            return [array * self.factor for array in super().run(names, feed)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Off)
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 6, 6), dtype=np.float32)}
    told = made.compare([wanted(tap, PoolReduction().program(tap))], x, {})
    assert told["against_unoptimised"]["r0"] == pytest.approx(0.01, rel=1e-3)


def test_a_first_output_that_is_no_tensor_of_numbers_is_left_out(build: Build, tmp_path: pathlib.Path) -> None:
    nodes = [build.node("Relu", ["x"], ["a"]), build.node("Cast", ["a"], ["text"], to=TensorProto.STRING)]
    outputs = [build.value("text", "N", 3, dtype=TensorProto.STRING)]
    made = backend(build, build.model(nodes, [build.value("x", "N", 3)], outputs), tmp_path)
    told = made.compare(pool_of(made, "a", 3), {"x": np.ones((2, 3), np.float32)}, {})
    assert told == {"against_unoptimised": {"a": 0.0}}


def test_an_output_that_cannot_be_computed_here_is_left_out(build: Build, tmp_path: pathlib.Path) -> None:
    nodes = [build.node("Relu", ["x"], ["a"]), build.node("MyOp", ["a"], ["y"], domain="com.acme")]
    model = build.model(nodes, [build.value("x", "N", 3)], [build.value("y", "N", 3)], domains=["com.acme"])
    made = backend(build, model, tmp_path)
    told = made.compare(pool_of(made, "a", 3), {"x": np.ones((2, 3), np.float32)}, {})
    assert told == {"against_unoptimised": {"a": 0.0}}


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ([1, 2], [1, 2], 0),
        ([0, 0], [0, 0], 0),
        ([1, 2.5], [1, 2], 0.25),
        ([np.nan, 2.5], [np.nan, 2], 0.25),
        ([np.inf, 1], [np.inf, 1], 0),
        ([np.inf, 1], [-np.inf, 1], np.inf),
        ([np.nan, 1], [1, 1], np.inf),
        ([1], [0], np.inf),
        ([1], [1, 1], np.inf),
    ],
)
def test_the_relative_difference(one: list[float], other: list[float], difference: float) -> None:
    assert relative_difference(np.array(one), np.array(other)) == difference


def _kinds() -> Iterator[Program]:
    yield (Mean((2, 3)), Flatten())
    yield (Flatten(), Take(np.array([1, 5])))


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no GPU")
def test_a_gpu_gives_the_features_of_run_program(build: Build, tmp_path: pathlib.Path) -> None:
    model = convolutions(build)
    made = backend(build, model, tmp_path, providers=["CUDAExecutionProvider"])
    tap = seen(made.graph(), "sum", 16, 6, 6)
    asked = [wanted(tap, program) for program in _kinds()]
    x = np.random.default_rng(1).standard_normal((5, 3, 6, 6), dtype=np.float32)
    truth = by_reference(model, ["sum"], {"x": x})["sum"]
    for one, found in zip(asked, reduced(made, asked, {"x": x}), strict=True):
        np.testing.assert_allclose(found, run_program(one.program, truth), rtol=1e-2, atol=1e-2)
