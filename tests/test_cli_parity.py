"""``probekit parity``: what it prints, its exit codes, what it refuses; on real models of three runtimes."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
DIGITS = """
probekit: 1
models:
  a: {{kind: onnx, path: {model}, output: {{factor: digit}}}}
  b: {{kind: onnx, path: {other}, output: {{factor: digit}}}}
data: {{kind: digits}}
taps: ["*"]
reductions: {{flatten: {{kind: flatten}}}}
labels: {{digit: {{kind: column, column: label}}}}
"""


@pytest.fixture
def digits(specs, tmp_path):
    """Write the spec of a convnet and of the same with one weight of its second convolution changed by so much."""

    def write(change):
        path = specs / "models" / "digits_convnet.onnx"
        model = onnx.load(path)
        (node,) = [one for one in model.graph.node if one.output[0] == "conv2d_1"]
        (second,) = [one for one in model.graph.initializer if one.name == node.input[1]]
        array = onnx.numpy_helper.to_array(second).copy()
        array.flat[0] += change
        second.CopyFrom(onnx.numpy_helper.from_array(array, second.name))
        onnx.save(model, tmp_path / "other.onnx")
        (tmp_path / "s.yaml").write_text(DIGITS.format(model=path, other=tmp_path / "other.onnx"))
        return tmp_path / "s.yaml"

    return write


def test_the_same_model_ends_with_0(main, digits):
    code, out, err = main("parity", str(digits(0.0)), "-q", "--rows", "50")
    assert (code, err) == (0, "")
    shown = " ".join(out.split())
    assert "50 of 1,797 examples, drawn with seed 0" in shown
    assert "b and a are the same to 0.0001 of each tap's scale" in shown
    assert "apart" not in shown


def test_a_changed_weight_ends_with_1_and_the_first_tap_is_named(main, digits):
    code, out, _ = main("parity", str(digits(0.5)), "-q", "--rows", "50")
    assert code == 1
    shown = " ".join(out.split())
    assert "the first tap that is apart is 'conv2d_1'" in shown
    code, out, _ = main("parity", str(digits(0.5)), "-q", "--rows", "50", "--tolerance", "1e9")
    assert code == 0


def test_formats(main, digits):
    spec = str(digits(0.5))
    code, out, err = main("parity", spec, "-q", "--rows", "20", "--format", "json")
    assert (code, err) == (1, "")
    told = json.loads(out)
    assert (told["schema_version"], told["verdict"], told["rows"], told["tolerance"]) == (1, "apart", 20, 1e-4)
    assert told["pairs"][0]["first_apart"] == "conv2d_1"
    code, out, _ = main("parity", spec, "-q", "--rows", "20", "--format", "md")
    assert code == 1
    assert "## `b` against `a`" in out
    assert "**APART**" in out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--models", "a", "c"), 2, "PK-X60"),
        (("--map", "relu=rleu"), 2, "did you mean 'relu'?"),
        (("--rows", "0"), 2, "0 is not in the range"),
        (("--format", "html"), 2, "'html' is not one of"),
        (("--set", "models.b.path=nothing.onnx"), 3, "PK-M01"),
    ],
)
def test_what_is_refused(main, digits, arguments, code, text):
    got, out, err = main("parity", str(digits(0.0)), "-q", *arguments)
    assert (got, out) == (code, "")
    assert text in err


@pytest.fixture
def fashion(need):
    need(FASHION.is_dir(), "apt-get install dataset-fashion-mnist")


def test_float_against_int8(main, specs, fashion):
    spec = str(specs / "fashion_float_against_int8.yaml")
    code, out, err = main("parity", spec, "-q", "--rows", "64", "--format", "json")
    assert (code, err) == (1, "")
    (pair,) = json.loads(out)["pairs"]
    by_tap = {one["tap"]: one for one in pair["taps"]}
    assert by_tap["image"]["same"]
    assert pair["first_apart"] == "relu1"
    # 8 bits: a step of the codes is 1/255 of the largest value.
    assert all(1e-4 < one["largest"] < 1 and one["cosine"] > 0.99 for name, one in by_tap.items() if name != "image")


def test_torch_against_onnx_as_two_specs(main, specs, fashion):
    pair = [str(specs / f"fashion_convnet_{name}.yaml") for name in ("torch", "onnx")]
    code, out, err = main("parity", *pair, "--trust-code", "-q", "--rows", "64", "--format", "json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert [told["pairs"][0][side] for side in ("reference", "other")] == [
        "fashion-convnet-torch",
        "fashion-convnet-onnx",
    ]
    assert len(told["pairs"][0]["taps"]) == 11
    assert 0 < max(one["largest"] for one in told["pairs"][0]["taps"]) < 1e-4


def test_three_runtimes(main, specs, fashion, need):
    need(find_spec("probekit_openvino") is not None, "pip install ./plugins/probekit-openvino")
    spec = str(specs / "fashion_three_runtimes.yaml")
    code, out, err = main("parity", spec, "--trust-code", "-q", "--rows", "64", "--format", "json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert [(pair["reference"], pair["other"]) for pair in told["pairs"]] == [("torch", "onnx"), ("torch", "openvino")]
    for pair in told["pairs"]:
        assert len(pair["taps"]) == 16
        assert pair["reference_only"] == pair["other_only"] == []
        assert 0 < max(one["largest"] for one in pair["taps"]) < 1e-4
