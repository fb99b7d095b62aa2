"""Exported models in ONNX Runtime against the plain model, the program in NumPy and the saved probe."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from probekit import load_probe
from probekit.backends.onnx import OnnxBackend
from probekit.components import LinearMap, Tap
from probekit.saved.onnx_export import export_onnx
from probekit.steps import (
    BatchFirst,
    Flatten,
    Last,
    MatMul,
    Max,
    Mean,
    Positions,
    Slice,
    Std,
    Take,
    program_shape,
    run_program,
)

RNG = np.random.default_rng(0)
IMAGE = Tap("conv", "Conv", (4, 6, 6), "float32", "NCHW", 1)
WORDS = Tap("embedded", "Gather", (5, 4), "float32", "NTC", 1)
CHANNELS = (Mean((2, 3)), Flatten())


def weight(name, *shape, dtype=np.float32):
    return numpy_helper.from_array(RNG.normal(size=shape).astype(dtype), name)


def value(name, *shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def image_model(path: Path, *, opset=18, batch: int | str = "N", ir=10, external=False) -> Path:
    """A convolution, an activation and a matrix, from ``image`` to ``scores``."""
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [value("image", batch, 3, 6, 6)], [value("scores", batch, 7)],
        [weight("kernel", 4, 3, 3, 3), weight("matrix", 144, 7)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    onnx.save_model(model, path, save_as_external_data=external, location=f"{path.stem}.bin", size_threshold=0)
    return path


def words_model(path: Path) -> Path:
    """Embeddings of ``ids`` times a mask that it is fed, summed."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("Cast", ["attention"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["embedded", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "time"], ["sum"], keepdims=0),
    ]
    ids, attention = (value(name, "N", "T", dtype=TensorProto.INT64) for name in ("ids", "attention"))
    constants = [numpy_helper.from_array(np.array([n]), name) for n, name in ((2, "last"), (1, "time"))]
    graph = helper.make_graph(nodes, "g", [ids, attention], [value("sum", "N", 4)], [weight("table", 9, 4), *constants])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def saved(make_run, linear, tmp_path):
    """Save one probe of a model and load it."""

    def made(path: Path, tap: Tap, program, *, task="classes", probe: LinearMap | None = None, feed=None, **more):
        backend = OnnxBackend(path=str(path), **more)
        run = make_run(tmp_path / "run", backend.model_dump(mode="json"), backend.fingerprint())
        width = program_shape(program, tap.shape)[0]
        probe = probe or linear(1 if task == "number" else 3, width)
        classes = () if task == "number" else ("cat", "dog", "eel")
        run.add(probe, tensor=tap, program=program, width=width, task=task, classes=classes)
        feed = feed or {"image": np.zeros((2, 3, 6, 6), np.float32)}
        run.fed({name: name for name in feed}, feed)
        run.rows = {"per": "position" if any(isinstance(s, Positions) for s in program) else "example", "mask": None}
        return load_probe(run.write(), "hidden", "animal")

    return made


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def images(count=5):
    return RNG.normal(size=(count, 3, 6, 6)).astype(np.float32)


def truth(probe, path, feed, masks=None):
    """What the plain model, the program in NumPy and the probe give."""
    wanted = probe.wanted()
    if wanted.tap.name in feed:
        activation = feed[wanted.tap.name]
    else:
        with OnnxBackend(path=str(path)).open([wanted.tap.name]) as run:
            activation = run(feed)[wanted.tap.name]
    features = run_program(wanted.program, activation, masks or {})
    return probe.predict(features)[:, None] if probe.task == "number" else probe.predict_proba(features)


PROGRAMS = {
    "pool": CHANNELS,
    "max": (Max((2, 3)), Flatten()),
    "std": (Std((2, 3)), Flatten()),
    "flatten": (Flatten(),),
    "subset": (Flatten(), Take(np.array([0, 17, 143]))),
    "project": (Flatten(), MatMul(RNG.normal(size=(144, 6)).astype(np.float32) / 12)),
    "positions": (Positions((2, 3)), Flatten()),
}


@pytest.mark.parametrize("early_exit", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_reduction_gives_the_saved_probes_probabilities(saved, tmp_path, name, early_exit):
    path = image_model(tmp_path / "m.onnx")
    probe = saved(path, IMAGE, PROGRAMS[name])
    made = export_onnx(probe, tmp_path / "out.onnx", early_exit=early_exit)
    assert made.difference <= 1e-5
    assert made.data is None
    onnx.checker.check_model(onnx.load(made.path), full_check=True)
    feed = {"image": images()}
    (found,) = session(made.path).run([made.output], feed)
    np.testing.assert_allclose(found, truth(probe, path, feed), atol=1e-5)


def test_the_models_own_outputs_stay_as_they_were(saved, tmp_path):
    path = image_model(tmp_path / "m.onnx")
    made = export_onnx(saved(path, IMAGE, CHANNELS), tmp_path / "out.onnx")
    feed = {"image": images()}
    new = session(made.path)
    assert made.outputs == ("scores", "probekit/animal")
    assert [one.name for one in new.get_outputs()] == list(made.outputs)
    assert [one.name for one in new.get_inputs()] == ["image"]
    np.testing.assert_allclose(new.run(["scores"], feed)[0], session(path).run(None, feed)[0], rtol=1e-5, atol=1e-5)


def test_an_early_exit_holds_only_what_the_probe_needs(saved, tmp_path):
    path = image_model(tmp_path / "m.onnx")
    made = export_onnx(saved(path, IMAGE, (Flatten(),)), tmp_path / "out.onnx", early_exit=True)
    graph = onnx.load(made.path).graph
    assert [one.name for one in graph.output] == ["probekit/animal"]
    assert {node.op_type for node in graph.node} == {"Conv", "Flatten", "MatMul", "Add", "Softmax"}
    assert "matrix" not in {one.name for one in graph.initializer}


def test_the_metadata_says_what_the_output_means(saved, tmp_path):
    made = export_onnx(saved(image_model(tmp_path / "m.onnx"), IMAGE, CHANNELS), tmp_path / "out.onnx")
    told = json.loads(session(made.path).get_modelmeta().custom_metadata_map[made.output])
    assert told["classes"] == ["cat", "dog", "eel"]
    assert (told["task"], told["tap"], told["factor"], told["rows"]) == ("classes", "hidden", "animal", "example")
    assert told["certificate"] == {"status": "proven", "gap": 1e-9, "of_chance": 1e-9, "of_objective": 1e-9}


@pytest.mark.parametrize("task", ["multilabel", "number"])
@pytest.mark.parametrize("float64", [False, True])
def test_other_tasks_have_their_own_last_operator(saved, tmp_path, task, float64):
    path = image_model(tmp_path / "m.onnx")
    probe = saved(path, IMAGE, CHANNELS, task=task)
    made = export_onnx(probe, tmp_path / "out.onnx", float64=float64)
    feed = {"image": images()}
    (found,) = session(made.path).run([made.output], feed)
    assert found.dtype == np.float32
    assert found.shape == (5, 1 if task == "number" else 3)
    np.testing.assert_allclose(found, truth(probe, path, feed), atol=1e-5)


def test_a_class_without_examples_has_no_probability(saved, linear, tmp_path):
    probe = linear(3, 4)
    probe.bias[2] = -np.inf
    made = export_onnx(saved(image_model(tmp_path / "m.onnx"), IMAGE, CHANNELS, probe=probe), tmp_path / "out.onnx")
    (found,) = session(made.path).run([made.output], {"image": images()})
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_a_probe_of_the_input_itself(saved, tmp_path):
    path = image_model(tmp_path / "m.onnx")
    probe = saved(path, Tap("image", "Input", (3, 6, 6), "float32", "NCHW"), CHANNELS, probe=None)
    made = export_onnx(probe, tmp_path / "out.onnx", early_exit=True)
    feed = {"image": images()}
    np.testing.assert_allclose(session(made.path).run(None, feed)[0], truth(probe, path, feed), atol=1e-5)


@pytest.mark.parametrize(("opset", "ir"), [(9, 3), (11, 6), (13, 7), (21, 10)])
def test_older_and_newer_formats(saved, tmp_path, opset, ir):
    path = image_model(tmp_path / "m.onnx", opset=opset, ir=ir)
    if ir < 4:  # weights are inputs there
        model = onnx.load(path)
        model.graph.input.extend([value("kernel", 4, 3, 3, 3), value("matrix", 144, 7)])
        path.write_bytes(model.SerializeToString())
    probe = saved(path, IMAGE, CHANNELS)
    made = export_onnx(probe, tmp_path / "out.onnx")
    written = onnx.load(made.path)
    onnx.checker.check_model(written, full_check=True)
    assert written.ir_version == max(ir, 4)
    feed = {"image": images()}
    np.testing.assert_allclose(session(made.path).run([made.output], feed)[0], truth(probe, path, feed), atol=1e-5)


def test_a_batch_that_the_model_fixes(saved, tmp_path):
    path = image_model(tmp_path / "m.onnx", batch=7)
    probe = saved(path, IMAGE, CHANNELS, feed={"image": np.zeros((7, 3, 6, 6), np.float32)})
    made = export_onnx(probe, tmp_path / "out.onnx")
    assert made.rows == 7


def test_time_first_tensors(saved, tmp_path):
    nodes = [helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2])]
    graph = helper.make_graph(nodes, "g", [value("x", "N", 5, 3)], [value("turned", 5, "N", 3)])
    path = tmp_path / "m.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    tap = Tap("turned", "Transpose", (5, 3), "float32", "NTC", 1, batch_axis=1)
    feed = {"x": RNG.normal(size=(4, 5, 3)).astype(np.float32)}
    probe = saved(path, tap, (BatchFirst(1), Slice(1, 1, 4), Flatten()), feed=feed)
    made = export_onnx(probe, tmp_path / "out.onnx")
    np.testing.assert_allclose(session(made.path).run([made.output], feed)[0], truth(probe, path, feed), atol=1e-5)


# --- masks -----------------------------------------------------------------------------------------------------------

IDS = {"ids": np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]), "attention": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])}
MASKED = {
    "mean": (Mean((1,), "attention"), Flatten()),
    "last": (Last(1, "attention"), Flatten()),
    "positions": (Positions((1,), "attention"), Flatten()),
}


@pytest.mark.parametrize("early_exit", [False, True])
@pytest.mark.parametrize("name", MASKED)
def test_a_mask_that_the_model_is_fed_is_no_other_input(saved, tmp_path, name, early_exit):
    path = words_model(tmp_path / "m.onnx")
    probe = saved(path, WORDS, MASKED[name], feed=IDS)
    made = export_onnx(probe, tmp_path / "out.onnx", early_exit=early_exit)
    assert made.inputs == {}
    new = session(made.path)
    assert {one.name for one in new.get_inputs()} == {"ids", "attention"}
    (found,) = new.run([made.output], IDS)
    np.testing.assert_allclose(found, truth(probe, path, IDS, {"attention": IDS["attention"] != 0}), atol=1e-5)


def test_another_mask_becomes_an_input(saved, tmp_path):
    path = words_model(tmp_path / "m.onnx")
    probe = saved(path, WORDS, (Mean((1,), "nouns"), Flatten()), feed=IDS)
    made = export_onnx(probe, tmp_path / "out.onnx")
    assert list(made.inputs) == ["nouns"]
    nouns = np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 1]], bool)
    (found,) = session(made.path).run([made.output], {**IDS, made.inputs["nouns"]: nouns})
    np.testing.assert_allclose(found, truth(probe, path, IDS, {"nouns": nouns}), atol=1e-5)


# --- weights beside the model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("early_exit", [False, True])
def test_weights_beside_the_model_come_beside_the_new_one(saved, tmp_path, early_exit):
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    path = image_model(tmp_path / "from" / "m.onnx", external=True)
    probe = saved(path, IMAGE, CHANNELS)
    made = export_onnx(probe, tmp_path / "to" / "out.onnx", early_exit=early_exit)
    if not early_exit:
        assert made.data == tmp_path / "to" / "out.onnx.data"
    feed = {"image": images()}
    expected = truth(probe, path, feed)
    for file in (tmp_path / "from").iterdir():
        file.unlink()
    (found,) = session(made.path).run([made.output], feed)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_large_projection_is_inside_the_model(saved, tmp_path):
    path = image_model(tmp_path / "m.onnx")
    program = (Flatten(), MatMul(RNG.normal(size=(144, 2000)).astype(np.float32)))
    probe = saved(path, IMAGE, program)
    made = export_onnx(probe, tmp_path / "out.onnx", float64=True)
    assert made.data is None
    assert made.path.stat().st_size > 4 * 144 * 2000


# --- refusals --------------------------------------------------------------------------------------------------------


def left(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_another_model_is_refused(saved, tmp_path, refused):
    path = image_model(tmp_path / "m.onnx")
    probe = saved(path, IMAGE, CHANNELS)
    other = image_model(tmp_path / "other.onnx")
    (problem,) = refused(lambda: export_onnx(probe, tmp_path / "out.onnx", model_path=other))
    assert problem[0] == "PK-X14"
    assert str(other) in problem[1]
    moved = path.rename(tmp_path / "moved.onnx")
    assert refused(lambda: export_onnx(probe, tmp_path / "out.onnx"))[0][0] == "PK-M01"
    assert export_onnx(probe, tmp_path / "out.onnx", model_path=moved).difference <= 1e-5


def test_a_torch_model_is_refused_with_the_way_to_go(made_run, linear, refused, tmp_path):
    made_run.add(linear(3, 4))
    made_run.fed({}, {})
    probe = load_probe(made_run.write(), "hidden", "animal")
    (problem,) = refused(lambda: export_onnx(probe, tmp_path / "out.onnx"))
    assert problem == (
        "PK-X15",
        "the run's model is of kind 'torch', not an ONNX model; in Python type: probekit.load_probe(RUN, TAP, "
        "FACTOR).attach(module)",
    )


def test_an_old_opset_is_refused(saved, tmp_path, refused):
    path = image_model(tmp_path / "m.onnx", opset=6)
    probe = saved(path, IMAGE, CHANNELS)
    (problem,) = refused(lambda: export_onnx(probe, tmp_path / "out.onnx"))
    assert problem[0] == "PK-X15"
    assert "opset 6" in problem[1]
    path = words_model(tmp_path / "w.onnx")
    model = onnx.load(path)
    model.opset_import[0].version = 11
    path.write_bytes(model.SerializeToString())
    probe = saved(path, WORDS, MASKED["last"], feed=IDS)
    (problem,) = refused(lambda: export_onnx(probe, tmp_path / "out.onnx"))
    assert "opset 11 cannot express the reduction 'flatten' (Last, Flatten)" in problem[1]


def test_a_plugins_own_step_is_refused(saved, tmp_path, refused):
    class Mine(Flatten):
        pass

    probe = saved(image_model(tmp_path / "m.onnx"), IMAGE, (Mine(),))
    assert probe.predict(np.zeros((1, 144))).shape == (1,)
    (problem,) = refused(lambda: export_onnx(probe, tmp_path / "out.onnx"))
    assert problem[0] == "PK-X15"
    assert "Mine is a plugin's own" in problem[1]


def test_the_model_itself_is_not_overwritten(saved, tmp_path, refused):
    path = image_model(tmp_path / "m.onnx", external=True)
    before = path.read_bytes()
    probe = saved(path, IMAGE, CHANNELS)
    assert refused(lambda: export_onnx(probe, path))[0][0] == "PK-X17"
    assert refused(lambda: export_onnx(probe, tmp_path / "m.bin"))[0][0] == "PK-X17"
    assert path.read_bytes() == before


def test_a_difference_is_an_error_and_leaves_no_file(saved, linear, tmp_path, refused):
    # Large weights on a sum of large features that nearly cancel: float32 has too few digits.
    near = linear(3, 4)
    near.weights[:] = 1e7 * np.array([[1], [2], [3]])
    near.bias[:] = 0
    program = CHANNELS
    path = image_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    kernel = numpy_helper.to_array(model.graph.initializer[0]).copy()
    kernel[1], kernel[3] = -kernel[0], -kernel[2]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    path.write_bytes(model.SerializeToString())
    probe = saved(path, IMAGE, program, probe=near)
    before = left(tmp_path)
    (problem,) = refused(lambda: export_onnx(probe, tmp_path / "out.onnx"))
    assert problem[0] == "PK-X16"
    assert problem[1].endswith("; add --float64")
    assert left(tmp_path) == before


def test_a_folder_that_is_not_there_is_told(saved, tmp_path, refused):
    probe = saved(image_model(tmp_path / "m.onnx"), IMAGE, CHANNELS)
    (problem,) = refused(lambda: export_onnx(probe, tmp_path / "no" / "out.onnx"))
    assert problem[0] == "PK-R13"


def test_a_second_probe_can_be_put_on_an_exported_model(saved, linear, tmp_path):
    path = image_model(tmp_path / "m.onnx")
    first = export_onnx(saved(path, IMAGE, CHANNELS), tmp_path / "one.onnx")
    probe = saved(first.path, IMAGE, CHANNELS, probe=linear(3, 4, 5))
    second = export_onnx(probe, tmp_path / "two.onnx")
    assert second.outputs == ("scores", "probekit/animal", "_probekit/animal")
    assert len(session(second.path).run(None, {"image": images()})) == 3
