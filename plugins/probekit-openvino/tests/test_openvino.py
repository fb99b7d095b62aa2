"""The plugin: it passes the kit, and gives the features of the runtimes that probekit brings along."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from probekit_openvino.backend import OpenvinoBackend
from probekit_openvino.basic import BasicBackend
from probekit_openvino.quiet import ov

import probekit
from probekit import InputError, MachineError, Tap, Wanted, steps
from probekit.testing import BackendConformance

ROOT = Path(__file__).parents[3]
FASHION = ROOT / "specs" / "models" / "fashion_convnet.onnx"
INT8 = ROOT / "specs" / "models" / "fashion_convnet_int8.onnx"


def backend_of(path, **fields):
    return OpenvinoBackend(path=str(path), threads=1, **fields)


def images(count=5):
    return np.random.default_rng(0).random((count, 1, 28, 28), dtype=np.float32)


def with_another_weight(path, to):
    model = onnx.load(path)
    weight = next(one for one in model.graph.initializer if one.data_type == 1 and len(one.dims) > 1)
    array = onnx.numpy_helper.to_array(weight).copy()
    array.flat[0] += 0.5
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    to.write_bytes(model.SerializeToString())
    return to


def as_ir(path, to):
    ov.save_model(ov.Core().read_model(path), to, compress_to_fp16=False)
    return to


def model_of(path, nodes, inputs, outputs, weights=()):
    """Write an ONNX model of float32; inputs and outputs are {name: sizes}."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in some.items()]
        for some in (inputs, outputs)
    ]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in weights]
    graph = helper.make_graph(nodes, "g", *values, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
    path.write_bytes(helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString())
    return path


class Kit(BackendConformance):
    @pytest.fixture
    def batch(self):
        return {"image": images()}

    @pytest.fixture
    def other_weights(self, tmp_path):
        return backend_of(with_another_weight(FASHION, tmp_path / "other.onnx"))

    @pytest.fixture
    def checkpoint(self, tmp_path):
        return str(with_another_weight(FASHION, tmp_path / "step.onnx"))


class TestOnnx(Kit):
    @pytest.fixture
    def backend(self):
        return backend_of(FASHION)


class TestIR(Kit):
    @pytest.fixture
    def backend(self, tmp_path_factory):
        return backend_of(as_ir(FASHION, tmp_path_factory.mktemp("ir") / "net.xml"))

    @pytest.fixture
    def other_weights(self, tmp_path):
        return backend_of(as_ir(with_another_weight(FASHION, tmp_path / "other.onnx"), tmp_path / "other.xml"))

    @pytest.fixture
    def checkpoint(self, tmp_path):
        return str(as_ir(with_another_weight(FASHION, tmp_path / "step.onnx"), tmp_path / "step.xml"))


def in_onnxruntime(path, feed, names):
    model = onnx.load(path)
    there = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), feed), strict=True))


def apart(one, other):
    """Return the largest difference as a share of the root mean square of ``other``."""
    return np.abs(one.astype(np.float64) - other).max() / np.sqrt(np.mean(other.astype(np.float64) ** 2))


def wanted(name, shape, *program, layout="NCHW"):
    width = steps.program_shape(program, shape)[0]
    return Wanted(Tap(name, "any", shape, "float32", layout), program, width)


def test_every_tensor_of_the_file_is_a_tap_with_its_values():
    names = [output for node in onnx.load(FASHION).graph.node for output in node.output]
    backend, feed = backend_of(FASHION), {"image": images()}
    taps = {tap.name: tap for tap in backend.graph().taps if not tap.untappable}
    assert list(taps) == ["image", *names]
    with backend.open(names) as run:
        found = run(feed)
    for name, truth in in_onnxruntime(FASHION, feed, names).items():
        assert found[name].dtype == truth.dtype
        assert taps[name].shape == truth.shape[1:]
        assert apart(found[name], truth) < 1e-4
    assert [taps[name].layout for name in ("image", "conv2d", "relu_1", "view")] == ["NCHW", "NCHW", "NCHW", "NC"]


def test_int8_has_the_values_of_onnxruntime():
    feed = {"image": images()}
    with backend_of(INT8).open(["relu", "max_pool2d", "logits"]) as run:
        found = run(feed)
    step = 0.05  # both round to 8 bits, and a sum that lies between two codes may go either way
    for name, truth in in_onnxruntime(INT8, feed, list(found)).items():
        assert np.mean(np.abs(found[name] - truth)) / np.sqrt(np.mean(truth**2)) < step


def test_only_what_the_taps_need_is_run(tmp_path):
    """A part of the model that no tap needs may not be fed: its input is missing, and nothing is said."""
    nodes = [helper.make_node("Relu", ["a"], ["relu"]), helper.make_node("Add", ["relu", "b"], ["sum"])]
    path = model_of(tmp_path / "m.onnx", nodes, {"a": ["N", 3], "b": ["N", 3]}, {"sum": ["N", 3]})
    a = np.array([[-1, 2, 3]], np.float32)
    with backend_of(path).open_reduced([wanted("relu", (3,), steps.Flatten(), layout="NC")]) as run:
        np.testing.assert_array_equal(run({"a": a}, {})[0], [[0, 2, 3]])


def test_it_computes_in_float32_whatever_the_machine_is_faster_at(tmp_path):
    """1 + 2**-12 has no room in bfloat16 or float16; a sum of a thousand such products would tell."""
    weights = np.full((1024, 4), 1 + 2**-12, np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": ["N", 1024]}, {"y": ["N", 4]}, [("w", weights)])
    x = np.full((64, 1024), 1 + 2**-12, np.float32)
    with backend_of(path).open(["y"]) as run:
        np.testing.assert_allclose(run({"x": x})["y"], 1024 * (1 + 2**-12) ** 2, rtol=1e-6)
    assert backend_of(path).runtime()["precision"] == "f32"


def test_a_maximum_keeps_nan(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Mul", ["r", "x"], ["y"])]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": ["N", 2, 4, 4]}, {"y": ["N", 2, 4, 4]})
    x = np.ones((3, 2, 4, 4), np.float32)
    x[1, 0, 2, 2] = np.nan
    with backend_of(path).open(["y"]) as run:
        raw = run({"x": x})["y"]
    one = wanted("y", (2, 4, 4), steps.Max((2, 3)), steps.Flatten())
    with backend_of(path).open_reduced([one]) as run:
        np.testing.assert_array_equal(run({"x": x}, {})[0], steps.run_program(one.program, raw))
    assert np.isnan(raw).any()


def test_a_step_of_a_plugin_runs_in_numpy():
    class Twice(steps.Flatten):
        def apply(self, activation, masks=steps.NO_MASKS):
            return 2 * super().apply(activation)

    both = [wanted("linear", (512,), step, layout="NC") for step in (steps.Flatten(), Twice())]
    with backend_of(FASHION).open_reduced(both) as run:
        one, two = run({"image": images()}, {})
    np.testing.assert_array_equal(two, 2 * one)


def test_a_size_that_changes_is_refused(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": ["N", "T", 3]}, {"y": ["N", "T", 3]})
    with backend_of(path).open_reduced([wanted("y", (4, 3), steps.Flatten(), layout="NTC")]) as run:
        assert run({"x": np.ones((2, 4, 3), np.float32)}, {})[0].shape == (2, 12)
        with pytest.raises(InputError, match="tap 'y' changes its size") as refused:
            run({"x": np.ones((2, 5, 3), np.float32)}, {})
    assert refused.value.problems[0].code == "PK-M20"


def test_weights_beside_the_file_count(tmp_path):
    """An ONNX file may keep its weights in another file: another weight there is another model."""
    prints = []
    for number in range(2):
        path = tmp_path / f"m{number}" / "m.onnx"
        path.parent.mkdir()
        weights = np.full((64, 64), 1.0 + number, np.float32)
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        model_of(path, nodes, {"x": ["N", 64]}, {"y": ["N", 64]}, [("w", weights)])
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
        with backend_of(path).open(["y"]) as run:
            assert run({"x": np.ones((1, 64), np.float32)})["y"][0, 0] == 64 * (1 + number)
        prints.append(backend_of(path).fingerprint())
    assert (tmp_path / "m0" / "m.onnx").read_bytes() == (tmp_path / "m1" / "m.onnx").read_bytes()
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("fashion_convnt.onnx", None, "PK-M01", "did you mean 'fashion_convnet.onnx'?"),
        ("m.onnx", b"this is no model", "PK-M02", "m.onnx"),
        ("m.xml", b"this is no model", "PK-M02", "m.xml"),
        ("m.pt", b"this is no model", "PK-M06", ".onnx file, or the .xml file of an IR"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, capfd, name, content, code, words):
    path = FASHION.parent / name if content is None else tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        backend_of(path).signature()
    (problem,) = refused.value.problems
    assert (problem.code, problem.field) == (code, "model.path")
    assert words in str(problem)
    assert "\n" not in problem.what
    assert capfd.readouterr() == ("", "")


def test_an_operator_that_openvino_lacks_is_named(tmp_path):
    nodes = [helper.make_node("Whirl", ["x"], ["y"], domain="my.own")]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": ["N", 3]}, {"y": ["N", 3]})
    with pytest.raises(InputError, match="Whirl") as refused:
        backend_of(path).graph()
    assert refused.value.problems[0].code == "PK-M19"


def test_a_device_that_is_not_there_is_named():
    with (
        pytest.raises(MachineError, match="no device 'CPUU' here; did you mean 'CPU'") as refused,
        backend_of(FASHION, device="CPUU").open(["relu"]),
    ):
        pass
    assert refused.value.problems[0].code == "PK-E02"


def test_nothing_heavy_is_imported_by_name_and_nothing_is_sent(tmp_path):
    """The kind costs no runtime until a model is read; a run opens no connection and leaves nothing in the home folder.

    By default OpenVINO sends an event when it is imported, from a thread that hides its errors.
    """
    script = f"""
import socket, sys, threading
from probekit_openvino.backend import OpenvinoBackend
backend = OpenvinoBackend(path={str(FASHION)!r}, threads=1)
assert "openvino" not in sys.modules
asked = []
def refuse(*told, **_):
    asked.append(told)
    raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
with backend.open(["relu"]) as run:
    run({{"image": np.zeros((1, 1, 28, 28), np.float32)}})
for thread in threading.enumerate():
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join(20)
assert not asked, asked
assert "openvino" in sys.modules and not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""
    env = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


# --- what it takes to write it

MODULES = ["backend", "basic", "layouts", "quiet", "reduced", "runtime"]


def source(name):
    return (Path(__file__).parents[1] / "probekit_openvino" / f"{name}.py").read_text(encoding="utf-8")


def counted(text):
    return sum(bool(line.strip()) for line in text.splitlines())


class TestBasic(Kit):
    """The part that every backend needs passes the kit alone."""

    test_kind_is_declared_and_found = None  # a spec's kind is the whole backend

    @pytest.fixture
    def backend(self):
        return BasicBackend(path=str(FASHION))

    @pytest.fixture
    def other_weights(self, tmp_path):
        return BasicBackend(path=str(with_another_weight(FASHION, tmp_path / "other.onnx")))


def test_the_part_that_every_backend_needs_has_sixty_lines():
    """Every line that is not blank counts, with those that register the backend; nothing else of the plugin is used but
    the import of OpenVINO.
    """
    basic, hook = source("basic"), source("backend").partition("@hookimpl")[2]
    assert counted(f"{basic}@hookimpl{hook}") <= 60
    assert set(re.findall(r"from (probekit_openvino\S*) import", basic)) == {"probekit_openvino.quiet"}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_used_but_the_public_api(name):
    """Only names of ``probekit.__all__``, and none that begins with an underscore of an object that is not its own."""
    for node in ast.walk(ast.parse(source(name))):
        if isinstance(node, ast.Import):
            assert all(not one.name.startswith("probekit") for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "probekit":
            assert node.module == "probekit"
            assert {one.name for one in node.names} <= set(probekit.__all__)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            assert ast.unparse(node.value) == "self"


def test_the_readme_counts_the_lines_of_every_file():
    folder = Path(__file__).parents[1]
    told = re.findall(
        r"^\| `probekit_openvino/(\w+)\.py` \| (\d+) \|", (folder / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert {name: int(lines) for name, lines in told} == {name: counted(source(name)) for name in MODULES}
    assert {path.stem for path in (folder / "probekit_openvino").glob("*.py")} == {"__init__", *MODULES}
