"""What ``probekit taps`` shows: of an ONNX file without a run, of a spec with the first examples of its data."""

import sys
import types
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pydantic import Field

from probekit import Backend, Dataset, Examples, Graph, InputError, ModelInput, SpecError, Tap, hookimpl
from probekit.listing import list_taps, tap_lines
from probekit.plugins import Plugins, Provider, installed_providers

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "specs" / "models" / "digits_convnet.onnx"


class EagerBackend(Backend):
    """A model that must be run to know it; its graph tells what it was fed."""

    kind: Literal["eager"] = "eager"
    fixed: int | None = Field(None, description="its only batch size")

    def signature(self):
        return (ModelInput("x", (self.fixed, 3), "float32"),)

    def graph(self, example=None):
        return Graph((Tap("x", "Input", example["x"].shape, str(example["x"].dtype)),))

    @contextmanager
    def open(self, taps):
        raise AssertionError("a listing opens no model")
        yield

    def fingerprint(self):
        raise AssertionError("a listing needs no fingerprint")


class FewDataset(Dataset):
    """So many examples."""

    kind: Literal["few"] = "few"
    count: int = Field(5, description="how many")

    def open(self):
        return Examples({"label": np.arange(self.count)}, {"x": np.zeros((self.count, 3), np.float32)})


@hookimpl
def register_backends():
    return [EagerBackend]


@hookimpl
def register_datasets():
    return [FewDataset]


@pytest.fixture
def plugins(monkeypatch):
    module = types.ModuleType("eager_plugin")
    module.register_backends, module.register_datasets = register_backends, register_datasets
    monkeypatch.setitem(sys.modules, "eager_plugin", module)
    own = [("backend", "eager"), ("dataset", "few")]
    return Plugins(
        [*installed_providers(autoload=False), *(Provider(*one, "eager_plugin", "eager-plugin", "1") for one in own)]
    )


SPEC = """\
probekit: 1
models:
  any: {kind: eager}
  four: {kind: eager, fixed: 4}
data: {kind: few}
labels: {d: {kind: column}}
"""


def test_an_onnx_file_is_listed_in_execution_order(plugins):
    found = list_taps(str(DIGITS), plugins, [], trust_code=False)
    assert list(found) == [str(DIGITS)]
    taps = [tap for tap in found[str(DIGITS)] if not tap.untappable]
    assert [tap.op for tap in taps] == [
        "Input", "Conv", "Relu", "Conv", "Relu", "MaxPool", "Reshape", "Gemm", "Relu", "Gemm",
    ]  # fmt: skip
    assert (taps[0].name, taps[0].shape, taps[0].layout) == ("image", (1, 8, 8), "NCHW")
    assert (taps[-1].name, taps[-1].shape, taps[-1].dtype) == ("logits", (10,), "float32")


def test_a_model_that_must_run_is_given_two_examples_or_its_own_number(plugins, tmp_path):
    (tmp_path / "s.yaml").write_text(SPEC)
    found = list_taps(str(tmp_path / "s.yaml"), plugins, [], trust_code=False)
    assert {name: [tap.shape for tap in taps] for name, taps in found.items()} == {"any": [(2, 3)], "four": [(4, 3)]}


def test_one_example_is_enough(plugins, tmp_path):
    (tmp_path / "s.yaml").write_text(SPEC)
    found = list_taps(str(tmp_path / "s.yaml"), plugins, ["data.count=1"], trust_code=False)
    assert [taps[0].shape for taps in found.values()] == [(1, 3), (4, 3)]


def test_a_wrong_spec_or_model_is_refused(plugins, tmp_path):
    (tmp_path / "s.yaml").write_text(SPEC.replace("few", "fwe"))
    with pytest.raises(SpecError, match="did you mean 'few'"):
        list_taps(str(tmp_path / "s.yaml"), plugins, [], trust_code=False)
    with pytest.raises(InputError, match="no file"):
        list_taps(str(tmp_path / "absent.onnx"), plugins, [], trust_code=False)


@pytest.mark.parametrize(
    ("model", "code"),
    [("~no-such-user/a.onnx", "PK-Y28"), ("${PK_TEST_UNSET}/a.onnx", "PK-Y33"), ("a\0.onnx", "PK-Y28")],
)
def test_a_path_that_is_none_is_refused_in_words(plugins, model, code):
    with pytest.raises(SpecError) as refused:
        list_taps(model, plugins, [], trust_code=False)
    assert [(problem.code, problem.field) for problem in refused.value.problems] == [(code, "path")]


def test_code_that_is_not_trusted_is_not_run(plugins, tmp_path):
    (tmp_path / "net.py").write_text("raise SystemExit('it ran')\n")
    spec = SPEC.replace("any: {kind: eager}", "any: {kind: torch, factory: './net.py:build'}")
    (tmp_path / "s.yaml").write_text(spec)
    with pytest.raises(SpecError, match="--trust-code"):
        list_taps(str(tmp_path / "s.yaml"), plugins, [], trust_code=False)


# --- the table --------------------------------------------------------------------------------------------------------

TAPS = [
    Tap("image", "Input", (1, 8, 8), "float32", "NCHW", 0),
    Tap("/stage/very/long/name/of/a/block/Relu_output_0", "Relu", (16, None), "float32", "", 1),
    Tap("any", "Loop", None, "float16", "", 2),
    Tap("scalar", "ReduceSum", (), "float32", "", 3),
    Tap("w1", "", None, "", untappable="a weight"),
    Tap("w2", "", None, "", untappable="a weight"),
    Tap("seq", "", None, "", untappable="a sequence"),
]

WIDE = """\
model a
depth  name                                            op         shape      dtype    layout  features per row
0      image                                           Input      (1, 8, 8)  float32  NCHW    64
1      /stage/very/long/name/of/a/block/Relu_output_0  Relu       (16, ?)    float32          ?
2      any                                             Loop       unknown    float16          ?
3      scalar                                          ReduceSum  ()         float32          1

3 tensors cannot be tapped:
  a weight: w1, w2
  a sequence: seq
"""

NARROW = """\
name
    depth  op         shape      dtype    layout  features per row
image
    0      Input      (1, 8, 8)  float32  NCHW    64
/stage/very/long/name/of/a/block/Relu_output_0
    1      Relu       (16, ?)    float32          ?
"""


def test_a_wide_terminal_has_one_line_a_tap():
    assert list(tap_lines("model a", TAPS, 120)) == WIDE.splitlines()


def test_on_a_narrow_terminal_a_name_has_a_line_of_its_own():
    assert list(tap_lines("", TAPS, 60))[:6] == NARROW.splitlines()


def test_the_table_takes_exactly_the_width_that_it_needs():
    needed = max(len(line) for line in tap_lines("", TAPS, 200))
    assert list(tap_lines("", TAPS, needed)) == list(tap_lines("", TAPS, 200))
    assert next(tap_lines("", TAPS, needed - 1)) == "name"


def test_only_what_cannot_be_tapped_needs_no_table():
    assert list(tap_lines("", TAPS[-1:], 80)) == ["1 tensor cannot be tapped:", "  a sequence: seq"]


def test_many_names_are_cut():
    many = [Tap(f"w{n}", "", None, "", untappable="a weight") for n in range(11)]
    assert list(tap_lines("", many, 80))[-1] == "  a weight: w0, w1, w2, w3, w4, w5, w6, w7 and 3 more"


def test_no_control_character_of_a_model_reaches_the_terminal():
    bad = "a\x1b[2J\u202e\n"
    lines = list(tap_lines("", [Tap(bad, bad, (3,), "float32"), Tap(bad, "", None, "", untappable=bad)], 120))
    assert all(line.isprintable() for line in lines)
    assert sum(r"a\u001b[2J\u202e\u000a" in line for line in lines) == 2
