"""The onnx backend against NumPy by hand, plain onnxruntime sessions and the faults M01 to M19, M43."""

import os
import pathlib
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from probekit.backends.onnx import OnnxBackend, available_providers
from probekit.backends.onnx_external import external_files
from probekit.components import Graph, InputBinding, ModelInput
from probekit.errors import MachineError, UserError

Refused = Callable[[Callable[[], Any]], list[tuple[str, str]]]
Build = types.SimpleNamespace

RNG = np.random.default_rng(0)
W1 = RNG.standard_normal((3, 5), dtype=np.float32)
B1 = RNG.standard_normal(5, dtype=np.float32)
W2 = RNG.standard_normal((5, 2), dtype=np.float32)
GPU = "CUDAExecutionProvider" in onnxruntime.get_available_providers() and os.path.exists("/dev/nvidia0")  # noqa: PTH110


def backend(path: pathlib.Path, **fields: Any) -> OnnxBackend:
    return OnnxBackend(path=str(path), **fields)


def run(made: OnnxBackend, taps: list[str], feed: dict[str, Any]) -> dict[str, Any]:
    with made.open(taps) as function:
        return dict(function(feed))


def attempt(call: Callable[[], Any]) -> tuple[Any, set[str]]:
    """Return what a call gives, or the codes of its refusal."""
    try:
        return call(), set()
    except UserError as error:
        return None, {problem.code for problem in error.problems}


def mlp(build: Build, w1: Any = W1) -> onnx.ModelProto:
    nodes = [
        build.node("MatMul", ["x", "W1"], ["h"]),
        build.node("Add", ["h", "B1"], ["biased"]),
        build.node("Relu", ["biased"], ["hidden"]),
        build.node("MatMul", ["hidden", "W2"], ["logits"]),
    ]
    weights = [build.weight("W1", w1), build.weight("B1", B1), build.weight("W2", W2)]
    return build.model(nodes, [build.value("x", "N", 3)], [build.value("logits", "N", 2)], weights)


def mlp_by_hand(x: Any) -> dict[str, Any]:
    h = x @ W1
    hidden = np.maximum(h + B1, 0)
    return {"x": x, "h": h, "biased": h + B1, "hidden": hidden, "logits": hidden @ W2}


@pytest.fixture(scope="module")
def mlp_path(build: Build, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return build.save(mlp(build), tmp_path_factory.mktemp("mlp") / "mlp.onnx")


# --- values ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.permutations(["x", "h", "biased", "hidden", "logits"]), st.integers(0, 5), st.integers(1, 7), st.data())
def test_any_tensors_by_name_in_any_order_are_those_of_numpy(
    mlp_path: pathlib.Path, names: list[str], count: int, batch: int, data: st.DataObject
) -> None:
    x = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal((batch, 3), dtype=np.float32)
    found, truth = run(backend(mlp_path), names[:count], {"x": x}), mlp_by_hand(x)
    assert list(found) == names[:count]
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, truth[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("optimization", "level"), [("all", "ORT_ENABLE_ALL"), ("off", "ORT_DISABLE_ALL")])
def test_the_graph_runs_at_the_level_that_is_asked_for(
    build: Build, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, optimization: str, level: str
) -> None:
    path = build.save(mlp(build), tmp_path / "m.onnx")
    levels, plain = [], onnxruntime.InferenceSession

    def session(model: bytes, options: Any, **more: Any) -> Any:
        levels.append(options.graph_optimization_level)
        return plain(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    run(backend(path, optimization=optimization), ["h"], {"x": np.ones((1, 3), np.float32)})
    assert levels == [getattr(onnxruntime.GraphOptimizationLevel, level)]


@settings(deadline=None, max_examples=20)
@given(
    st.lists(
        st.sampled_from(["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]),
        min_size=1, max_size=4,
    ),
    st.integers(1, 4),
)  # fmt: skip
def test_inputs_of_any_dtype_are_declared_and_fed(build: Build, dtypes: list[str], batch: int) -> None:
    names = [f"in{i}" for i in range(len(dtypes))]
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for dtype in dtypes]
    nodes = [build.node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT) for name in names]
    nodes += [build.node("Sum", [f"{name}_f" for name in names], ["total"])]
    inputs = [build.value(name, "N", 2, dtype=kind) for name, kind in zip(names, kinds, strict=True)]
    model = build.model(nodes, inputs, [build.value("total", "N", 2)])
    feed = {name: RNG.integers(0, 2, (batch, 2)).astype(dtype) for name, dtype in zip(names, dtypes, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnnxBackend, "_load", lambda _: model)
        made = OnnxBackend(path="in-memory.onnx")
        assert made.signature() == tuple(ModelInput(n, (None, 2), d) for n, d in zip(names, dtypes, strict=True))
        found = run(made, ["total", *names], feed)
    np.testing.assert_array_equal(found["total"], sum(array.astype(np.float32) for array in feed.values()))
    for name, dtype in zip(names, dtypes, strict=True):
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], feed[name])


def test_ids_choose_rows_of_an_embedding_beside_a_mask(build: Build, tmp_path: pathlib.Path) -> None:
    table = RNG.standard_normal((10, 4), dtype=np.float32)
    nodes = [
        build.node("Gather", ["table", "ids"], ["embedded"]),
        build.node("Cast", ["mask"], ["mask_f"], to=TensorProto.FLOAT),
        build.node("Unsqueeze", ["mask_f", "last"], ["mask_3"]),
        build.node("Mul", ["embedded", "mask_3"], ["masked"]),
    ]
    inputs = [build.value("ids", "N", "T", dtype=TensorProto.INT64)]
    inputs += [build.value("mask", "N", "T", dtype=TensorProto.INT32)]
    weights = [build.weight("table", table), build.weight("last", np.array([2]))]
    path = build.save(build.model(nodes, inputs, [build.value("masked", "N", "T", 4)], weights), tmp_path / "m.onnx")
    ids, mask = RNG.integers(0, 10, (3, 6)), RNG.integers(0, 2, (3, 6)).astype(np.int32)
    found = run(backend(path), ["embedded", "masked"], {"ids": ids, "mask": mask})
    np.testing.assert_array_equal(found["embedded"], table[ids])
    np.testing.assert_array_equal(found["masked"], table[ids] * mask[..., None])


def test_the_signature_leaves_out_initializers_and_a_negative_size_means_any(
    build: Build, tmp_path: pathlib.Path
) -> None:
    model = mlp(build)
    model.graph.input.append(build.value("W1", 3, 5))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    path = build.save(model, tmp_path / "m.onnx")
    assert backend(path).signature() == (ModelInput("x", (None, 3), "float32"),)


def test_the_file_is_read_as_protobuf_whatever_its_name(build: Build, tmp_path: pathlib.Path) -> None:
    graph = backend(build.save(mlp(build), tmp_path / "m.onnx")).graph()
    for name in ("m.json", "m.textproto", "m"):
        assert backend(build.save(mlp(build), tmp_path / name)).graph() == graph


def test_an_input_that_the_spec_keeps_constant_does_not_tell_the_batch_axis(
    build: Build, tmp_path: pathlib.Path
) -> None:
    nodes = [build.node("Relu", ["x"], ["a"]), build.node("Identity", ["state"], ["next"])]
    inputs = [build.value("state", 2, 1, 8), build.value("x", 1, 4)]
    model = build.model(nodes, inputs, [build.value("a", 1, 4), build.value("next", 2, 1, 8)])
    bindings = {"state": InputBinding(zeros=[2, "N", 8]), "x": InputBinding(column="x")}
    graph = backend(build.save(model, tmp_path / "m.onnx"), inputs=bindings).graph()
    assert [tap.name for tap in graph.taps if not tap.untappable] == ["x", "a"]


def test_an_opened_model_gives_new_arrays_for_every_batch(mlp_path: pathlib.Path) -> None:
    with backend(mlp_path).open(["hidden"]) as function:
        first = function({"x": np.ones((2, 3), np.float32)})["hidden"]
        kept = first.copy()
        function({"x": -np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(first, kept)


def test_the_component_pickles_and_gives_the_same_values(mlp_path: pathlib.Path) -> None:
    made = backend(mlp_path, batch_size=8)
    copy = pickle.loads(pickle.dumps(made))
    x = RNG.standard_normal((4, 3), dtype=np.float32)
    assert copy == made
    assert copy.fingerprint() == made.fingerprint()
    assert copy.graph() == made.graph()
    np.testing.assert_array_equal(run(copy, ["h"], {"x": x})["h"], run(made, ["h"], {"x": x})["h"])


@pytest.mark.parametrize(
    ("feed", "parts"),
    [
        (np.ones((2, 4), np.float32), ["index: 1 Got: 4 Expected: 3"]),
        (np.ones((2, 3, 1), np.float32), ["Invalid rank for input: x Got: 3 Expected: 2"]),
        (np.ones((2, 3), np.float64), ["Actual: (tensor(double))", "expected: (tensor(float))"]),
    ],
)
def test_a_wrong_input_is_answered_with_what_came_and_what_was_expected(
    refused: Refused, mlp_path: pathlib.Path, feed: Any, parts: list[str]
) -> None:
    ((code, text),) = refused(lambda: run(backend(mlp_path), ["h"], {"x": feed}))
    assert code == "PK-M23"
    assert text.startswith("model: ONNX Runtime cannot run the model: ")
    assert "[ONNXRuntimeError]" not in text
    assert all(part in text for part in parts), text


# --- providers -------------------------------------------------------------------------------------------------------


def test_the_cpu_is_always_last_and_what_runs_is_told(mlp_path: pathlib.Path) -> None:
    assert available_providers(["CPUExecutionProvider"]) == ["CPUExecutionProvider"]
    assert available_providers([]) == ["CPUExecutionProvider"]
    told = backend(mlp_path, providers=["CPUExecutionProvider"]).runtime()
    assert told == {
        "onnxruntime": onnxruntime.__version__, "providers": ["CPUExecutionProvider"], "optimization": "all",
        "threads": "default", "memory_pattern": False,
    }  # fmt: skip


@pytest.mark.skipif(GPU, reason="a GPU is there")
def test_without_a_gpu_the_cpu_runs_and_cuda_is_refused(mlp_path: pathlib.Path, refused: Refused) -> None:
    assert available_providers(None) == ["CPUExecutionProvider"]
    made = backend(mlp_path, providers=["CUDAExecutionProvider"])
    what = "model.providers: the provider 'CUDAExecutionProvider' is not available here; "
    message = what + "did you mean 'CPUExecutionProvider'?"
    assert refused(lambda: run(made, ["h"], {"x": np.ones((1, 3), np.float32)})) == [("PK-E02", message)]
    with pytest.raises(MachineError):
        available_providers(["CPUExecutionProvider", "TensorrtExecutionProvider"])


def test_a_misspelt_provider_is_answered_with_the_nearest(refused: Refused) -> None:
    what = "model.providers: the provider 'CPUProvider' is not available here; did you mean 'CPUExecutionProvider'?"
    assert refused(lambda: available_providers(["CPUProvider"])) == [("PK-E02", what)]


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no GPU")
def test_a_gpu_gives_the_values_of_numpy(mlp_path: pathlib.Path) -> None:
    x = RNG.standard_normal((4, 3), dtype=np.float32)
    found = run(backend(mlp_path, providers=["CUDAExecutionProvider"]), ["logits"], {"x": x})
    np.testing.assert_allclose(found["logits"], mlp_by_hand(x)["logits"], rtol=1e-2, atol=1e-3)


def test_what_runs_is_told_without_the_model(tmp_path: pathlib.Path) -> None:
    told = backend(tmp_path / "absent.onnx", optimization="off").runtime()
    assert (told["optimization"], told["providers"][-1]) == ("off", "CPUExecutionProvider")


# --- fingerprint -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_content_alone(build: Build, tmp_path: pathlib.Path) -> None:
    other = W1.copy()
    other[1, 2] += 1e-6
    here, there = tmp_path / "a", tmp_path / "b"
    for folder in (here, there):
        folder.mkdir()
    first = backend(build.save(mlp(build), here / "m.onnx")).fingerprint()
    assert backend(here / "m.onnx", batch_size=7, providers=["CPUExecutionProvider"]).fingerprint() == first
    assert backend(build.save(mlp(build), there / "other.onnx")).fingerprint() == first
    assert backend(build.save(mlp(build, other), here / "m.onnx")).fingerprint() != first


def test_the_fingerprint_changes_with_a_weight_in_another_file(build: Build, tmp_path: pathlib.Path) -> None:
    path = with_data(build, tmp_path)
    first = backend(path).fingerprint()
    assert backend(path).fingerprint() == first
    (tmp_path / "w.bin").write_bytes((W1 * 2).tobytes())
    assert backend(path).fingerprint() != first


def test_where_the_file_lies_does_not_shape_values_and_a_checkpoint_is_another_file(
    build: Build, tmp_path: pathlib.Path
) -> None:
    first = backend(build.save(mlp(build), tmp_path / "m.onnx"), optimization="off", batch_size=3)
    other = first.with_checkpoint(str(build.save(mlp(build, W1 * 2), tmp_path / "step_2.onnx")))
    assert isinstance(other, OnnxBackend)
    assert other == first.model_copy(update={"path": str(tmp_path / "step_2.onnx")})
    assert "path" not in first.identity()
    assert first.identity() == other.identity()
    assert first.identity() != backend(tmp_path / "m.onnx").identity()
    assert first.fingerprint() != other.fingerprint()
    x = RNG.standard_normal((4, 3), dtype=np.float32)
    np.testing.assert_allclose(run(other, ["h"], {"x": x})["h"], x @ W1 * 2, rtol=1e-5, atol=1e-5)


# --- external data ---------------------------------------------------------------------------------------------------


def matmul(build: Build, weight: onnx.TensorProto) -> onnx.ModelProto:
    nodes = [build.node("MatMul", ["x", "W1"], ["h"])]
    return build.model(nodes, [build.value("x", "N", 3)], [build.value("h", "N", 5)], [weight])


def with_data(build: Build, folder: pathlib.Path, location: str = "w.bin", **entries: Any) -> pathlib.Path:
    (folder / "w.bin").write_bytes(W1.tobytes())
    tensor = build.external("W1", (3, 5), location=location, **entries)
    return build.save(matmul(build, tensor), folder / "m.onnx")


def reads_w1(path: pathlib.Path) -> bool:
    return np.allclose(run(backend(path), ["h"], {"x": np.eye(3, dtype=np.float32)})["h"], W1)


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(*_: Any, **__: Any) -> None:
        pytest.fail("ONNX Runtime saw the model")

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)


def test_external_data_beside_the_model_are_read(build: Build, tmp_path: pathlib.Path) -> None:
    assert reads_w1(with_data(build, tmp_path))
    assert reads_w1(with_data(build, tmp_path, "./w.bin"))
    (tmp_path / "data").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "data" / "w.bin")
    (tmp_path / "w.bin").symlink_to("data/w.bin")
    tensor = build.external("W1", (3, 5), location="data/w.bin")
    assert reads_w1(build.save(matmul(build, tensor), tmp_path / "m.onnx"))


def test_two_tensors_share_a_file_by_their_offsets(build: Build, tmp_path: pathlib.Path) -> None:
    model = mlp(build)
    del model.graph.initializer[:]
    (tmp_path / "all.bin").write_bytes(W2.tobytes() + W1.tobytes())
    model.graph.initializer.extend(
        [
            build.external("W1", (3, 5), location="all.bin", offset=40, length=60),
            build.external("W2", (5, 2), location="all.bin", offset=0, length=40),
            build.weight("B1", B1),
        ]
    )
    path = build.save(model, tmp_path / "m.onnx")
    x = RNG.standard_normal((4, 3), dtype=np.float32)
    found = run(backend(path), ["logits"], {"x": x})["logits"]
    np.testing.assert_allclose(found, mlp_by_hand(x)["logits"], rtol=1e-5, atol=1e-6)


def test_a_hub_cache_of_links_into_a_folder_of_blobs_works(build: Build, tmp_path: pathlib.Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    tensor = build.external("W1", (3, 5), location="model.onnx_data")
    build.save(matmul(build, tensor), blobs / "0a1b")
    (blobs / "2c3d").write_bytes(W1.tobytes())
    (snapshot / "model.onnx").symlink_to("../../../blobs/0a1b")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/2c3d")
    assert reads_w1(snapshot / "model.onnx")
    plain = tmp_path / "plain"
    plain.mkdir()
    build.save(matmul(build, tensor), plain / "model.onnx")
    (plain / "model.onnx_data").write_bytes(W1.tobytes())
    assert backend(snapshot / "model.onnx").fingerprint() == backend(plain / "model.onnx").fingerprint()


def test_a_linked_model_with_some_data_beside_its_link_and_some_beside_itself_works(
    build: Build, tmp_path: pathlib.Path
) -> None:
    real, logical = tmp_path / "real", tmp_path / "logical"
    real.mkdir()
    logical.mkdir()
    model = mlp(build)
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        [
            build.external("W1", (3, 5), location="w1"),
            build.external("W2", (5, 2), location="w2"),
            build.weight("B1", B1),
        ]
    )
    build.save(model, real / "m.onnx")
    (real / "w1").write_bytes(W1.tobytes())
    (logical / "w2").write_bytes(W2.tobytes())
    (logical / "m.onnx").symlink_to(real / "m.onnx")
    (logical / "w1").symlink_to(real / "w1")
    x = RNG.standard_normal((4, 3), dtype=np.float32)
    found = run(backend(logical / "m.onnx"), ["logits"], {"x": x})["logits"]
    np.testing.assert_allclose(found, mlp_by_hand(x)["logits"], rtol=1e-5, atol=1e-6)


OUTSIDE = "which is outside the model's folder; keep the data beside the model"
AGAIN = "export or copy the model again"


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize(
    ("location", "entries", "code", "what"),
    [
        ("../w.bin", {}, "PK-M08", f"tensor 'W1' reads '../w.bin', {OUTSIDE}"),
        ("a/../../w.bin", {}, "PK-M08", f"tensor 'W1' reads 'a/../../w.bin', {OUTSIDE}"),
        ("link/../w.bin", {}, "PK-M08", f"tensor 'W1' reads 'link/../w.bin', {OUTSIDE}"),
        ("/etc/hostname", {}, "PK-M08", f"tensor 'W1' reads '/etc/hostname', {OUTSIDE}"),
        ("link/secret", {}, "PK-M08", f"tensor 'W1' reads 'link/secret', {OUTSIDE}"),
        ("leaves", {}, "PK-M08", f"tensor 'W1' reads 'leaves', {OUTSIDE}"),
        ("hard", {}, "PK-M12", "tensor 'W1' reads 'hard', which is a hard link; copy the file"),
        ("gone", {}, "PK-M07", "the model's external data is absent: 'gone'; copy it to '{folder}'"),
        ("", {}, "PK-M07", "the model's external data is absent: ''; copy it to '{folder}'"),
        ("g" * 999, {}, "PK-M07", f"the model's external data is absent: '{'g' * 80}'; copy it to '{{folder}}'"),
        ("loop", {}, "PK-M07", "the model's external data is absent: 'loop'; copy it to '{folder}'"),
        ("w.bin", {"offset": 4}, "PK-M13", f"tensor 'W1' takes 60 bytes from byte 4 of 'w.bin', which has 60; {AGAIN}"),
        ("w.bin", {"length": 999}, "PK-M13", f"tensor 'W1' takes 60 bytes, 999 are named in 'w.bin'; {AGAIN}"),
        ("w.bin", {"length": 8}, "PK-M13", f"tensor 'W1' takes 60 bytes, 8 are named in 'w.bin'; {AGAIN}"),
        ("w.bin", {"offset": 61}, "PK-M14", f"tensor 'W1' starts at byte 61 of 'w.bin', which has 60; {AGAIN}"),
        (
            "w.bin", {"offset": -1}, "PK-M14",
            f"tensor 'W1' has the offset '-1' in 'w.bin', which is no number of bytes; {AGAIN}",
        ),
        (
            "*/_ORT_MEM_ADDR_/*", {"offset": 1}, "PK-M15",
            f"tensor 'W1' reads '*/_ORT_MEM_ADDR_/*', an address in memory and no file; {AGAIN}",
        ),
        (
            "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*", {}, "PK-M15",
            f"tensor 'W1' reads '*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*', an address in memory and no file; {AGAIN}",
        ),
        (
            "w.bin", {"raw_data": "x"}, "PK-M16",
            f"tensor 'W1' has external data with the unknown key 'raw_data'; {AGAIN}",
        ),
    ],
)  # fmt: skip
def test_external_data_that_cannot_be_trusted_never_reach_the_runtime(
    build: Build, refused: Refused, tmp_path: pathlib.Path, location: str, entries: dict[str, Any], code: str, what: str
) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "model"
    outside.mkdir()
    folder.mkdir()
    (outside / "secret").write_bytes(bytes(60))
    (outside / "w.bin").write_bytes(bytes(60))
    (folder / "hard").hardlink_to(outside / "w.bin")
    (folder / "link").symlink_to(outside)
    (folder / "leaves").symlink_to(outside / "secret")
    (folder / "loop").symlink_to("loop")
    made = backend(with_data(build, folder, location, **entries))
    message = [(code, f"model.path: {what.format(folder=folder)}")]
    for call in (made.signature, made.graph, made.fingerprint, lambda: run(made, ["h"], {})):
        assert refused(call) == message


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize("name", ["w.bin", "gone"])
def test_an_absolute_path_is_refused_wherever_it_leads(
    build: Build, refused: Refused, tmp_path: pathlib.Path, name: str
) -> None:
    location = str(tmp_path / name)
    what = f"model.path: tensor 'W1' reads {location[:200]!r}, {OUTSIDE}"
    assert refused(backend(with_data(build, tmp_path, location)).graph) == [("PK-M08", what)]


@pytest.mark.usefixtures("no_runtime")
def test_a_second_location_of_one_tensor_is_refused(build: Build, refused: Refused, tmp_path: pathlib.Path) -> None:
    (tmp_path / "w.bin").write_bytes(W1.tobytes())
    tensor = build.external("W1", (3, 5), location="w.bin")
    tensor.external_data.add(key="location", value="/etc/passwd")
    made = backend(build.save(matmul(build, tensor), tmp_path / "m.onnx"))
    what = f"model.path: tensor 'W1' has external data with the repeated key 'location'; {AGAIN}"
    assert refused(lambda: run(made, ["h"], {})) == [("PK-M16", what)]


@pytest.mark.usefixtures("no_runtime")
def test_all_absent_files_are_listed_at_once(build: Build, refused: Refused, tmp_path: pathlib.Path) -> None:
    model = mlp(build)
    del model.graph.initializer[:2]
    absent = [build.external(name, shape, location=f"{name}.bin") for name, shape in [("W1", (3, 5)), ("B1", (5,))]]
    model.graph.initializer.extend(absent)
    made = backend(build.save(model, tmp_path / "m.onnx"))
    what = f"model.path: the model's external data is absent: 'B1.bin', 'W1.bin'; copy it to '{tmp_path}'"
    assert refused(made.graph) == [("PK-M07", what)]


def tensors_in_odd_places(build: Build) -> Iterator[tuple[str, onnx.ModelProto]]:
    x, y = [build.value("x", "N", 3)], [build.value("y", "N", 3)]
    bad = build.external("bad", (3,), location="../secret")
    yield (
        "a Constant node",
        build.model([build.node("Constant", [], ["c"], value=bad), build.node("Add", ["x", "c"], ["y"])], x, y),
    )
    inner = helper.make_graph([build.node("Add", ["x", "bad"], ["z"])], "then", [], [build.value("z", "N", 3)], [bad])
    yield "an inner graph", build.model(
        [
            build.node("Constant", [], ["c"], value=build.weight("c", np.array(True))),
            build.node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
        ],
        x, y,
    )  # fmt: skip
    sparse = onnx.SparseTensorProto(values=bad, indices=build.weight("i", np.arange(3)), dims=[3])
    model = build.model([build.node("Add", ["x", "bad"], ["y"])], x, y)
    model.graph.sparse_initializer.append(sparse)
    yield "a sparse initializer", model
    model = build.model([build.node("Add", ["x", "x"], ["y"])], x, y)
    constant = build.node("Constant", [], ["o"], value=bad)
    model.functions.append(helper.make_function("own", "F", [], ["o"], [constant], [helper.make_opsetid("", 18)]))
    yield "a function", model


@pytest.mark.usefixtures("no_runtime")
def test_tensors_in_attributes_inner_graphs_functions_and_sparse_ones_are_checked_too(
    build: Build, refused: Refused, tmp_path: pathlib.Path
) -> None:
    for place, model in tensors_in_odd_places(build):
        made = backend(build.save(model, tmp_path / "m.onnx"))
        what = f"model.path: tensor 'bad' reads '../secret', {OUTSIDE}"
        assert refused(lambda made=made: run(made, ["y"], {})) == [("PK-M08", what)], place


LOCATIONS = st.lists(st.sampled_from(["..", ".", "", "a", "out", "in", "w.bin", "s"]), min_size=1, max_size=5).map(
    "/".join
)


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A model's folder: ``a`` a folder, ``out`` a link to the outside, ``in`` one to ``a``; data in and outside."""
    top = tmp_path_factory.mktemp("maze")
    home = top / "home"
    for folder in (top / "s", home / "a" / "s"):
        folder.mkdir(parents=True)
    for folder in (top, top / "s", home, home / "a", home / "a" / "s"):
        (folder / "w.bin").write_bytes(bytes(4))
    (home / "out").symlink_to(top)
    (home / "in").symlink_to("a")
    (home / "s").symlink_to("../s")
    return home


@settings(deadline=None, max_examples=200)
@given(location=LOCATIONS)
def test_whatever_the_location_what_is_read_lies_inside_the_folder(
    build: Build, maze: pathlib.Path, location: str
) -> None:
    model = matmul(build, build.external("W1", (1,), location=location))
    opened = os.path.realpath(os.path.join(maze, location))  # noqa: PTH118 - as the system would open it
    inside = opened.startswith(f"{maze}{os.sep}") and os.path.isfile(opened)  # noqa: PTH113
    files, codes = attempt(lambda: external_files(model, maze / "m.onnx"))
    plain = ".." not in location.split("/") and not location.startswith("/")
    if codes:
        assert not (inside and plain), "data inside the folder are refused"
        assert codes <= {"PK-M07", "PK-M08"}
    else:
        assert inside
        assert plain
        assert [str(file) for file in files.values()] == [opened]


# --- files that are no ONNX models -----------------------------------------------------------------------------------

SAFETENSORS = (
    (65).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(65) + bytes(4)
)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
TORCH = "use kind: torch"


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize(
    ("content", "code", "what"),
    [
        (b"", "PK-M05", "'{path}' is empty; export or copy it again"),
        (LFS, "PK-M04", "'{path}' is a Git LFS pointer; type: git lfs pull"),
        (b"\n <!DOCTYPE html><html>", "PK-M03", "'{path}' is an HTML page; download it again"),
        (b"<HTML>", "PK-M03", "'{path}' is an HTML page; download it again"),
        (b"PK\x03\x04" + bytes(40), "PK-M06", f"'{{path}}' is a PyTorch checkpoint or zip; {TORCH}"),
        (pickle.dumps(7), "PK-M06", f"'{{path}}' is a pickle; {TORCH}, or export it to ONNX"),
        (pickle.dumps([b"x" * 999], 2), "PK-M06", f"'{{path}}' is a pickle; {TORCH}, or export it to ONNX"),
        (SAFETENSORS, "PK-M06", f"'{{path}}' is a safetensors file; {TORCH} with weights"),
        (b"\x08\x0a\x12\x04test", "PK-M02", "'{path}' holds no graph: it is cut off"),
    ],
)
def test_a_file_that_is_no_onnx_model_is_named_for_what_it_is(
    refused: Refused, tmp_path: pathlib.Path, content: bytes, code: str, what: str
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    for call in (backend(path).graph, lambda: run(backend(path), ["y"], {})):
        assert refused(call) == [(code, f"model.path: {what.format(path=path)}")]


def test_a_file_that_torch_wrote_is_named(refused: Refused, tmp_path: pathlib.Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = {"weight": torch.ones(3)}
    torch.save(state, tmp_path / "zip.onnx")
    torch.save(state, tmp_path / "old.onnx", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "safe.onnx")
    whats = {"zip": "a PyTorch checkpoint or zip", "old": "a pickle", "safe": "a safetensors file"}
    for stem, what in whats.items():
        ((code, text),) = refused(backend(tmp_path / f"{stem}.onnx").graph)
        assert (code, text.partition("; ")[0]) == ("PK-M06", f"model.path: '{tmp_path / stem}.onnx' is {what}")


def test_a_file_over_two_gib_is_refused_before_it_is_read(
    build: Build, refused: Refused, tmp_path: pathlib.Path
) -> None:
    path = build.save(mlp(build), tmp_path / "m.onnx")
    os.truncate(path, 2**31)
    what = f"model.path: '{path}' has 2147483648 bytes, an ONNX file has less than 2 GiB; save it with external data"
    assert refused(backend(path).graph) == [("PK-M43", what)]


def test_an_absent_file_is_answered_with_the_nearest(build: Build, refused: Refused, tmp_path: pathlib.Path) -> None:
    build.save(mlp(build), tmp_path / "resnet.onnx")
    what = f"model.path: no file '{tmp_path}/resnett.onnx'; did you mean 'resnet.onnx'?"
    assert refused(backend(tmp_path / "resnett.onnx").graph) == [("PK-M01", what)]
    what = f"model.path: no file '{tmp_path}/no/m.onnx'; there: none"
    assert refused(backend(tmp_path / "no" / "m.onnx").graph) == [("PK-M01", what)]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_file_cut_off_anywhere_is_named(
    build: Build, refused: Refused, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = mlp(build).SerializeToString()
    path = tmp_path_factory.getbasetemp() / "cut.onnx"
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    for call in (backend(path).graph, lambda: run(backend(path), ["y"], {})):
        ((code, text),) = refused(call)
        assert code == "PK-M02"
        assert text.startswith((f"model.path: '{path}' is cut off or is no", f"model.path: '{path}' holds no "))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_file_with_a_changed_byte_is_read_or_refused_but_never_a_crash(
    build: Build, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(mlp(build).SerializeToString())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.onnx"
    path.write_bytes(content)
    graph, codes = attempt(backend(path).graph)
    assert all(code.startswith("PK-M") for code in codes) if codes else isinstance(graph, Graph)


def relu(build: Build, **more: Any) -> onnx.ModelProto:
    return build.model(
        [build.node("Relu", ["x"], ["y"])], [build.value("x", "N", 3)], [build.value("y", "N", 3)], **more
    )


def test_an_opset_or_ir_version_of_the_future_is_named_with_what_is_known(
    build: Build, refused: Refused, tmp_path: pathlib.Path
) -> None:
    known = onnx.defs.onnx_opset_version()
    ((code, text),) = refused(lambda: run(backend(build.save(relu(build, opset=99), tmp_path / "m.onnx")), ["y"], {}))
    words = text.replace(",", " ").split()
    assert code == "PK-M18"
    most = next(int(word) for word in words if word.isdigit() and word != "99")
    assert abs(most - known) <= 2
    upgrade = "type: pip install --upgrade onnxruntime-gpu, or export with"
    what = f"the file has opset 99, this ONNX Runtime knows up to {most}; {upgrade} opset {most} or older"
    assert text == f"model.path: {what}"
    ((code, text),) = refused(
        lambda: run(backend(build.save(relu(build, ir_version=99), tmp_path / "m.onnx")), ["y"], {})
    )
    assert code == "PK-M18"
    assert text.startswith("model.path: the file has IR version 99, this ONNX Runtime knows up to ")
    assert text.endswith(f"; {upgrade} an older opset")


def test_an_operator_that_the_runtime_lacks_is_named_with_its_domain(
    build: Build, refused: Refused, tmp_path: pathlib.Path
) -> None:
    x, y = [build.value("x", "N", 3)], [build.value("y", "N", 3)]
    custom = build.model([build.node("MyOp", ["x"], ["y"], domain="com.acme")], x, y, domains=["com.acme"])
    hint = "export the model with standard operators"
    what = f"model.path: ONNX Runtime has no operator 'MyOp' of the domain 'com.acme'; {hint}"
    made = backend(build.save(custom, tmp_path / "m.onnx"))
    assert refused(lambda: run(made, ["y"], {})) == [("PK-M19", what)]
    assert [tap.op for tap in made.graph().taps] == ["Input", "MyOp"]
    unknown = build.model([build.node("Relux", ["x"], ["y"])], x, y)
    what = f"model.path: ONNX Runtime has no operator 'Relux' in opset 18; {hint}"
    made = backend(build.save(unknown, tmp_path / "m.onnx"))
    assert refused(lambda: run(made, ["y"], {})) == [("PK-M19", what)]


def test_a_graph_without_an_opset_is_refused(build: Build, refused: Refused, tmp_path: pathlib.Path) -> None:
    model = relu(build)
    del model.opset_import[:]
    path = build.save(model, tmp_path / "m.onnx")
    assert refused(backend(path).graph) == [("PK-M02", f"model.path: '{path}' holds no opset: it is cut off")]
    foreign = build.model(
        [build.node("MyOp", ["x"], ["y"], domain="com.acme")], [build.value("x", 3)], [build.value("y", 3)]
    )
    ((code, text),) = refused(backend(build.save(foreign, path)).graph)
    assert code == "PK-M02"
    assert text.startswith("model.path: the graph is damaged: ")
    assert "com.acme" in text


def test_a_refusal_prints_nothing_and_tries_no_other_provider(
    build: Build, refused: Refused, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = build.model([build.node("Relu", ["q"], ["y"])], [build.value("x", "N", 3)], [build.value("y", "N", 3)])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString().replace(b"\x0a\x01q", b"\x0a\x01\xff"))  # a name that is no UTF-8
    ((code, text),) = refused(lambda: run(backend(path), ["y"], {}))
    assert (code, text.partition(":")[0]) == ("PK-M02", "model.path")
    assert capfd.readouterr() == ("", "")
