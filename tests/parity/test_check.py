"""Two models whose difference is known by construction: what is measured, aligned and named."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_digits

from probekit import InputError, Plugins, SpecError, load_spec
from probekit.parity.check import check_parity
from probekit.parity.sides import choose_sides
from probekit.parity.terminal import render

IMAGES = (load_digits().images[:, None] / 16).astype(np.float32)

SPEC = """
probekit: 1
{models}
data: {{kind: digits}}
taps: {taps}
reductions: {{flatten: {{kind: flatten}}}}
labels: {{digit: {{kind: column, column: label}}}}
"""


def write_model(path, shift=0.0, hole=False, last="flat", pads=0):
    """Write image → double = 2 · image → sum = double + shift → flat, and side = -image."""
    constants = {"two": np.float32(2), "shift": np.float32(shift), "axes": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Mul", ["image", "two"], ["double"]),
        helper.make_node("Neg", ["image"], ["side"]),
        helper.make_node("Add", ["double", "shift"], ["sum"]),
        helper.make_node("Log" if hole else "Identity", ["sum"], ["log"]),
        helper.make_node("Flatten", ["log"], [last]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)]
    outputs += [helper.make_tensor_value_info("side", TensorProto.FLOAT, ["N", 1, 8, 8])]
    weights = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [image], outputs, weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def check(tmp_path):
    def run(first, second, chosen="[image, double, side, sum, flat]", *settings, **arguments):
        models = f"models: {{a: {{kind: onnx, path: {first}}}, b: {{kind: onnx, path: {second}, batch_size: 7}}}}"
        path = tmp_path / "s.yaml"
        path.write_text(SPEC.format(models=models, taps=chosen))
        return check_parity(choose_sides([load_spec(path, Plugins(), settings)]), **arguments)

    return run


def rows_drawn(count, seed=0):
    return np.sort(np.random.default_rng(seed).permutation(len(IMAGES))[:count])


def test_a_shift_is_measured_where_it_begins(check, tmp_path):
    a, b = write_model(tmp_path / "a.onnx"), write_model(tmp_path / "b.onnx", shift=0.25)
    result = check(a, b, rows=100)
    (pair,) = result.pairs
    assert (result.same, pair.same, result.rows, result.of) == (False, False, 100, 1797)
    assert [one.tap for one in pair.taps] == ["image", "double", "side", "sum", "flat"]
    by_tap = {one.tap: one for one in pair.taps}
    drawn = 2 * IMAGES[rows_drawn(100)].reshape(100, 64).astype(np.float64)
    scale = np.sqrt(np.mean(drawn**2))
    for name in ("image", "double", "side"):
        one = by_tap[name]
        assert (one.same, one.largest, one.median, one.cosine, one.example) == (True, 0, 0, 1, "")
    for name in ("sum", "flat"):
        one = by_tap[name]
        assert (one.same, one.rows, one.features) == (False, 100, 64)
        assert one.scale == pytest.approx(scale, rel=1e-6)
        assert one.largest == pytest.approx(0.25 / scale, rel=1e-5)
        assert one.median == pytest.approx(0.25 / scale, rel=1e-5)
        shifted = drawn + 0.25
        cosine = np.vdot(drawn, shifted) / np.linalg.norm(drawn) / np.linalg.norm(shifted)
        assert one.cosine == pytest.approx(cosine, rel=1e-6)
        assert int(one.example) in rows_drawn(100)
    assert pair.first_apart is by_tap["sum"]
    assert by_tap["sum"].after == ("double",)
    shown = " ".join(render(result, 100).split())
    assert "b and a are apart at 2 of 5 feature matrices" in shown
    assert "the first tap that is apart is 'sum'" in shown
    assert "what feeds it, 'double', is the same" in shown
    told = json.loads(result.to_json())
    assert (told["verdict"], told["pairs"][0]["first_apart"]) == ("apart", "sum")
    assert told["models"]["a"]["kind"] == "onnx"


def test_the_tolerance_decides(check, tmp_path):
    a, b = write_model(tmp_path / "a.onnx"), write_model(tmp_path / "b.onnx", shift=0.25)
    largest = check(a, b).pairs[0].taps[-1].largest
    assert check(a, b, tolerance=largest).same
    assert not check(a, b, tolerance=largest * 0.999).same


def test_the_same_seed_draws_the_same_examples(check, tmp_path):
    a, b = write_model(tmp_path / "a.onnx"), write_model(tmp_path / "b.onnx", shift=0.25)
    first, again, other = (check(a, b, rows=20, seed=seed).to_json() for seed in (0, 0, 1))
    assert first == again != other
    assert check(a, b, rows=5000).rows == 1797


def test_what_is_infinite_on_one_side_has_no_bound(check, tmp_path):
    a, b = write_model(tmp_path / "a.onnx", hole=True), write_model(tmp_path / "b.onnx", shift=0.25, hole=True)
    result = check(a, b, rows=50)
    last = result.pairs[0].taps[-1]
    assert (last.same, last.largest) == (False, None)
    assert json.loads(result.to_json())["pairs"][0]["taps"][-1]["largest"] is None
    assert "unbounded" in render(result)
    assert check(a, write_model(tmp_path / "c.onnx", hole=True), rows=50).same


def test_taps_of_other_names_are_paired_as_said(check, tmp_path):
    a, b = write_model(tmp_path / "a.onnx"), write_model(tmp_path / "b.onnx", last="end")
    (pair,) = check(a, b, '["*"]', taps=["flat=end"]).pairs
    assert [(one.tap, one.other, one.how) for one in pair.taps][-1] == ("flat", "end", "map")
    assert (pair.reference_only, pair.other_only) == ((), ())
    (pair,) = check(a, b, '["*"]').pairs
    assert (pair.reference_only, pair.other_only) == (("flat",), ("end",))
    assert "only a has: flat" in render(check(a, b, '["*"]'))
    with pytest.raises(SpecError, match="the second model has no probed tap 'ned'") as refused:
        check(a, b, '["*"]', taps=["flat=ned"])
    assert refused.value.problems[0].code == "PK-X35"


def test_the_models_own_output_is_compared_too(check, tmp_path):
    a, b = write_model(tmp_path / "a.onnx"), write_model(tmp_path / "b.onnx", shift=0.25)
    own = [f"models.{name}.output.factor=digit" for name in "ab"]
    (pair,) = check(a, b, "[image, double]", *own).pairs
    assert [(one.tap, one.same) for one in pair.taps] == [("image", True), ("double", True), ("output", False)]


def test_nothing_in_common_is_refused(tmp_path):
    a, b = write_model(tmp_path / "a.onnx"), write_model(tmp_path / "b.onnx", last="end")
    loaded = []
    for name, path, tap in (("x", a, "flat"), ("y", b, "end")):
        file = tmp_path / f"{name}.yaml"
        file.write_text(SPEC.format(models=f"model: {{kind: onnx, path: {path}}}", taps=f"[{tap}]"))
        loaded.append(load_spec(file, Plugins()))
    with pytest.raises(InputError, match="'x' and 'y' have no tap in common; pair them with --map") as refused:
        check_parity(choose_sides(loaded))
    assert refused.value.problems[0].code == "PK-X61"
    assert check_parity(choose_sides(loaded), ["flat=end"]).same


def test_of_two_specs_the_first_ones_data_is_read(tmp_path):
    loaded = []
    for name in "xy":
        model = write_model(tmp_path / f"{name}.onnx")
        file = tmp_path / f"{name}.yaml"
        file.write_text(SPEC.format(models=f"model: {{kind: onnx, path: {model}}}", taps="[double]"))
        if name == "y":
            np.savez(tmp_path / "some.npz", image=IMAGES[:10], label=np.arange(10))
            arrays = f"{{kind: arrays, arrays: {tmp_path}/some.npz}}"
            file.write_text(file.read_text().replace("{kind: digits}", arrays))
        loaded.append(load_spec(file, Plugins()))
    result = check_parity(choose_sides(loaded))
    assert (result.of, result.same) == (1797, True)
    assert "were fed the data of" in result.notes[0]
    assert "note: both models were fed the data of" in render(result)


def test_a_model_that_breaks_is_told_at_its_place(check, tmp_path):
    a = write_model(tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes(b"")
    with pytest.raises(InputError) as refused:
        check(a, tmp_path / "b.onnx")
    assert refused.value.problems[0].code == "PK-M05"
