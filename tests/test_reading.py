"""What is read from models and what is shared: checkpoints, grids, positions, changed data, weights and options.

The nets are a few numbers; what a run says is compared with NumPy, and what it extracts is counted.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from probekit import InputError, MachineError, Plugins, SpecError, load_spec, prepared, run_spec
from probekit.data.images import ImageExamples
from probekit.data.question import ask
from probekit.features import memory
from probekit.features.digests import RowDigests
from probekit.probes.linear import LinearProbe
from probekit.reading import feature_rows, open_store, read_models, store_path
from probekit.store.feature_store import FeatureStore

COUNT, STEPS = 120, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((COUNT, 3)).astype(np.float32)
LABEL = (X[:, 0] + X[:, 1] > 0).astype(int)
PART = np.resize(["train", "train", "valid", "test"], COUNT)

NET = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.act = nn.Tanh()
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.act(self.first(x)))
"""


def weights(seed: int = 0) -> dict[str, Any]:
    """Return the parameters of the net, as torch names them."""
    rng = np.random.default_rng(seed)
    shapes = {"first.weight": (4, 3), "first.bias": (4,), "last.weight": (2, 4), "last.bias": (2,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def by_hand(w: dict[str, Any], x: Any) -> tuple[Any, Any]:
    """Return the net's hidden values and its logits."""
    hidden = np.tanh(x @ w["first.weight"].T + w["first.bias"])
    return hidden, hidden @ w["last.weight"].T + w["last.bias"]


def as_onnx(w: dict[str, Any], path: Path, steps: int | None = None) -> None:
    """Write the net; with steps, one that gives its hidden values per step and the logits of their mean."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["product"]), helper.make_node("Add", ["product", "b1"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["hidden"]),
    ]  # fmt: skip
    last = "hidden"
    if steps:
        nodes.append(helper.make_node("ReduceMean", ["hidden", "axis"], ["mean"], keepdims=0))
        last = "mean"
    nodes.append(helper.make_node("Gemm", [last, "w2", "b2"], ["logits"], transB=1))
    arrays = {"w1": w["first.weight"].T.copy(), "b1": w["first.bias"], "w2": w["last.weight"], "b2": w["last.bias"]}
    arrays |= {"axis": np.array([1])} if steps else {}
    shape = ["N", steps, 3] if steps else ["N", 3]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


class Site:
    """A folder with data and models, specs of a few lines, and a store of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        self.weights = weights()
        self.data(X)
        as_onnx(self.weights, folder / "net.onnx")
        save_file(self.weights, folder / "net.safetensors")
        (folder / "net.py").write_text(NET)
        self.sections: dict[str, Any] = {
            "probekit": 1, "model": {"kind": "onnx", "path": "net.onnx"},
            "data": {"kind": "arrays", "arrays": {"x": "x.npy"}, "columns": "columns.csv"},
            "taps": ["hidden", "logits"], "reduction": {"kind": "flatten"},
            "labels": {"label": {"kind": "column", "column": "label"}},
            "splits": {"column": "part", "train": "train", "valid": "valid", "test": "test"},
            "probe": {"kind": "linear", "penalty": 0.1}, "reports": ["json"], "store": str(self.store),
        }  # fmt: skip
        self.runs = 0

    def data(self, x: Any, **columns: Any) -> None:
        np.save(self.folder / "x.npy", x)
        columns = {"label": LABEL, "big": (X[:, 2] > 0).astype(int), "part": PART, **columns}
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        (self.folder / "columns.csv").write_text("\n".join(lines) + "\n")

    def load(self, *settings: str, **sections: Any) -> Any:
        """Load the spec with other sections; None leaves one out."""
        spec = {name: value for name, value in {**self.sections, **sections}.items() if value is not None}
        path = self.folder / "s.yaml"
        path.write_text(json.dumps(spec))
        return load_spec(path, Plugins(), settings, trust_code=True)

    def read(self, *settings: str, **sections: Any) -> SimpleNamespace:
        """Return what a run reads before it extracts, and the feature rows."""
        spec = self.load(*settings, **sections).spec
        asked = ask(spec)
        readings = read_models(spec, asked, RowDigests(asked.examples), open_store(spec))
        counts, positions = feature_rows(spec, asked, readings)
        return SimpleNamespace(asked=asked, readings=readings, counts=counts, positions=positions)

    def run(self, *settings: str, **sections: Any) -> Any:
        """Run the spec in a new folder; return the result."""
        self.runs += 1
        loaded = self.load(*settings, **sections)
        return run_spec(loaded, Plugins(), self.folder / f"run{self.runs}").result

    def matrix(self, tap: str, number: int = 0, *settings: str, **sections: Any) -> Any:
        """Return the features of a tap of the model of a number, extracted."""
        reading = self.read(*settings, **sections).readings[number]
        reading.extraction.run()
        labels = [one.label for one in reading.sets] + ["output"]
        return np.asarray(reading.extraction.matrix(labels.index(tap)))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def numbers(result: Any) -> list[dict[str, Any]]:
    """Return what a result says of its probes, without times."""
    return [probe.model_dump(exclude={"seconds"}) for probe in result.probes]


# --- where the store is -----------------------------------------------------------------------------------------------


def test_the_store_is_the_specs_else_the_variables_else_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store_path("/a", {"PROBEKIT_STORE": "/b"}) == Path("/a")
    assert store_path(None, {"PROBEKIT_STORE": "/b"}) == Path("/b")
    assert store_path(None, {}) == tmp_path / "probekit" / "features"
    assert store_path(None, {"PROBEKIT_STORE": ""}) == tmp_path / "probekit" / "features"


def test_a_relative_store_is_below_the_specs_folder_and_a_variable_may_name_the_home(site, monkeypatch):
    monkeypatch.setenv("HOME", "/home/x")
    assert site.load(store="here").spec.store.path == str(site.folder / "here")
    assert store_path(None, {"PROBEKIT_STORE": "~/s"}) == Path("/home/x/s")


def test_a_store_that_cannot_be_made_is_told_before_a_model_is_read(site, monkeypatch):
    """A file stands where the folder should; root may write to any folder."""
    site.store.write_text("a file")
    monkeypatch.setattr("probekit.run.read_models", lambda *_: pytest.fail("a model was read"))
    with pytest.raises(MachineError) as caught:
        site.run()
    assert [problem.code for problem in caught.value.problems] == ["PK-R13"]


# --- what is extracted, and what never again --------------------------------------------------------------------------


def test_features_are_those_of_numpy(site):
    hidden, logits = by_hand(site.weights, X)
    np.testing.assert_allclose(site.matrix("hidden"), hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(site.matrix("logits"), logits, rtol=1e-5, atol=1e-6)


def test_a_run_passes_over_the_model_once_for_all_its_taps(site, passes):
    site.run(model={"kind": "onnx", "path": "net.onnx", "output": {"factor": "label"}})
    assert [(one.taps, one.rows) for one in passes] == [(["hidden", "logits"], COUNT)]


def test_a_second_run_extracts_nothing_and_says_the_same(site, passes):
    first = site.run()
    passes.clear()
    second = site.run()
    assert passes == []
    assert numbers(first) == numbers(second)
    assert first.provenance["models"] == second.provenance["models"]


@pytest.mark.parametrize(
    "sections",
    [
        {"labels": {"big": {"kind": "column", "column": "big"}}},
        {"splits": {"train": 0.5, "valid": 0.2, "test": 0.3, "seed": 7}},
        {"splits": {"train": 0.5, "valid": 0.2, "test": 0.3, "seed": 8, "limit": {"train": 30}}},
        {"probe": {"kind": "linear", "penalty": [1.0, 0.01]}},
        {"reports": ["csv", "html"]},
        {"memory": "300MB"},
        {"taps": ["logits"]},
        {"taps": ["hidden", {"match": "logits", "as": "answer"}]},
        {"model": {"kind": "onnx", "path": "net.onnx", "batch_size": 7}},
        {"model": {"kind": "onnx", "path": "net.onnx", "providers": ["CPUExecutionProvider"]}},
        {"model": {"kind": "onnx", "path": "net.onnx", "output": {"factor": "label"}}},
        {"data": {"kind": "arrays", "arrays": {"x": "x.npy"}, "columns": "columns.csv", "workers": 0}},
    ],
    ids=[
        "factor", "split seed", "limit", "probe", "report", "memory", "fewer taps", "tap's name", "batch size",
        "providers", "output", "workers",
    ],
)  # fmt: skip
def test_what_does_not_change_features_extracts_nothing(site, passes, sections):
    site.run()
    passes.clear()
    site.run(**sections)
    assert passes == []


def test_a_new_tap_is_extracted_alone(site, passes):
    site.run()
    passes.clear()
    site.run(taps=["sum", "hidden", "logits"])
    assert [(one.taps, one.rows) for one in passes] == [(["sum"], COUNT)]


def test_a_grid_of_reductions_is_one_pass(site, passes):
    grid = {
        "all": {"kind": "flatten"},
        "some": {"kind": "subset", "features": 2},
        "far": {"kind": "project", "features": 2},
    }
    result = site.run(taps=["hidden"], reduction=None, reductions=grid)
    assert [(one.taps, one.rows) for one in passes] == [(["hidden"] * 3, COUNT)]
    assert {probe.reduction: probe.features_used for probe in result.probes} == {"all": 4, "some": 2, "far": 2}


def test_a_row_that_changed_is_extracted_alone(site, passes):
    site.run()
    passes.clear()
    x = X.copy()
    x[17] = 0.25
    site.data(x)
    site.run()
    assert [(one.taps, one.rows) for one in passes] == [(["hidden", "logits"], 1)]
    np.testing.assert_allclose(site.matrix("hidden"), by_hand(site.weights, x)[0], rtol=1e-5, atol=1e-6)


def test_a_file_of_data_that_was_only_touched_extracts_nothing(site, passes):
    site.run()
    passes.clear()
    site.data(X)
    site.run()
    assert passes == []


def test_a_store_that_was_moved_is_used_where_it_is(site, passes):
    site.run()
    passes.clear()
    shutil.move(site.store, site.folder / "moved")
    site.run(store=str(site.folder / "moved"))
    assert passes == []


def test_a_changed_weight_extracts_the_taps_that_come_after_it(site, passes):
    site.run()
    passes.clear()
    changed = {**site.weights, "last.bias": site.weights["last.bias"] + 1}
    as_onnx(changed, site.folder / "net.onnx")
    site.run()
    assert [(one.taps, one.rows) for one in passes] == [(["logits"], COUNT)]
    np.testing.assert_allclose(site.matrix("logits"), by_hand(changed, X)[1], rtol=1e-5, atol=1e-6)


def test_an_option_that_changes_values_extracts_again(site, passes):
    site.run()
    passes.clear()
    site.run(model={"kind": "onnx", "path": "net.onnx", "optimization": "off"})
    assert [(one.taps, one.rows) for one in passes] == [(["hidden", "logits"], COUNT)]


def torch_model(**more: Any) -> dict[str, Any]:
    return {"kind": "torch", "factory": "./net.py:Net", "weights": "net.safetensors", **more}


def test_a_changed_weight_of_a_torch_model_extracts_all_of_it(site, passes):
    site.run(model=torch_model(), taps=["act", "last"])
    assert [(one.kind, one.taps, one.rows) for one in passes] == [("torch", ["act", "last"], COUNT)]
    passes.clear()
    site.run(model=torch_model(), taps=["act", "last"])
    assert passes == []
    save_file({**site.weights, "last.bias": site.weights["last.bias"] + 1}, site.folder / "net.safetensors")
    site.run(model=torch_model(), taps=["act", "last"])
    assert [(one.taps, one.rows) for one in passes] == [(["act", "last"], COUNT)]


def test_two_models_of_one_file_share_a_pass(site, passes):
    one = {"kind": "onnx", "path": "net.onnx"}
    shutil.copy(site.folder / "net.onnx", site.folder / "copy.onnx")
    result = site.run(model=None, models={"a": one, "b": one, "c": {**one, "path": "copy.onnx"}})
    assert [(one.taps, one.rows) for one in passes] == [(["hidden", "logits"], COUNT)]
    assert [(probe.model, probe.tap) for probe in result.probes] == [
        (m, t) for m in "abc" for t in ("hidden", "logits")
    ]
    assert len({json.dumps(probe.error) for probe in result.probes if probe.tap == "hidden"}) == 1


def test_the_input_is_extracted_once_for_all_models_and_checkpoints(site):
    save_file(weights(1), site.folder / "other.safetensors")
    models = {
        "onnx": {"kind": "onnx", "path": "net.onnx"},
        "torch": torch_model(checkpoints={"a": None, "b": "other.safetensors"}),
    }
    result = site.run(model=None, models=models, taps=[{"op": "Input"}])
    assert [(probe.model, probe.checkpoint) for probe in result.probes] == [
        ("onnx", None), ("torch", "a"), ("torch", "b")
    ]  # fmt: skip
    assert [(entry.rows, entry.ranges) for entry in FeatureStore(site.store).entries()] == [(COUNT, 1)]
    np.testing.assert_array_equal(site.matrix("x", taps=["x"]), X)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def own_errors(result: Any) -> dict[str | None, float]:
    return {one.checkpoint: one.error["test"] for one in result.model}


def error_by_hand(w: dict[str, Any]) -> float:
    test = PART == "test"
    return float(np.mean(by_hand(w, X)[1].argmax(axis=1)[test] != LABEL[test]))


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_named_checkpoints_are_probed_each_with_its_own_weights(site, passes, kind):
    others = {name: weights(seed) for name, seed in (("late", 5), ("early", 3))}
    for name, w in others.items():
        as_onnx(w, site.folder / f"{name}.onnx")
        save_file(w, site.folder / f"{name}.safetensors")
    ending, tap = ("onnx", "hidden") if kind == "onnx" else ("safetensors", "act")
    model = {"kind": "onnx", "path": "net.onnx"} if kind == "onnx" else torch_model()
    files = {"late": f"late.{ending}", "first": None, "early": f"early.{ending}"}
    sections = {"model": {**model, "checkpoints": files, "output": {"factor": "label"}}, "taps": [tap]}
    result = site.run(**sections)
    assert [probe.checkpoint for probe in result.probes] == ["late", "first", "early"]
    expected = {"late": others["late"], "first": site.weights, "early": others["early"]}
    assert own_errors(result) == {name: error_by_hand(w) for name, w in expected.items()}
    assert set(result.provenance["models"]) == {"default@late", "default@first", "default@early"}
    assert len(passes) == 3
    for number, w in enumerate(expected.values()):
        np.testing.assert_allclose(site.matrix(tap, number, **sections), by_hand(w, X)[0], rtol=1e-5, atol=1e-6)
    assert len(passes) == 3


def test_a_checkpoint_is_what_the_same_file_is_as_a_model_of_its_own(site, passes):
    as_onnx(weights(4), site.folder / "four.onnx")
    within = site.run(model={"kind": "onnx", "path": "net.onnx", "checkpoints": {"four": "four.onnx"}})
    passes.clear()
    alone = site.run(model={"kind": "onnx", "path": "four.onnx"})
    assert passes == []
    strip = [{**probe, "checkpoint": None} for probe in numbers(within)]
    assert strip == numbers(alone)


def test_checkpoints_of_a_pattern_are_called_by_their_step_and_ordered_by_number(site):
    steps = {10: weights(10), 2: weights(2), 100: weights(100)}
    for step, w in steps.items():
        as_onnx(w, site.folder / f"step_{step}.onnx")
    model = {
        "kind": "onnx", "path": "net.onnx", "checkpoints": {"glob": "step_*.onnx", "step": "step_*"},
        "output": {"factor": "label"},
    }  # fmt: skip
    result = site.run(model=model)
    assert own_errors(result) == {str(step): error_by_hand(steps[step]) for step in (2, 10, 100)}
    assert [probe.checkpoint for probe in result.probes] == ["2", "2", "10", "10", "100", "100"]


def test_steps_that_are_no_numbers_are_ordered_by_name(site):
    for name in ("b", "a", "10", "9"):
        as_onnx(site.weights, site.folder / f"at-{name}-end.onnx")
    found = site.read(
        model={"kind": "onnx", "path": "net.onnx", "checkpoints": {"glob": "at-*.onnx", "step": "at-*-end"}}
    )
    assert [one.checkpoint for one in found.readings] == ["10", "9", "a", "b"]


@pytest.mark.parametrize(
    ("checkpoints", "problem"),
    [
        (
            {"glob": "step_*.onnx", "step": "epoch_*"},
            "PK-M55 model.checkpoints: 'step_1.onnx' does not match step 'epoch_*'; change step: to the part of the "
            "name around the step, such as step_*",
        ),
        ({"glob": "stpe_*.onnx"}, "PK-M01 model.checkpoints: no file '{}/stpe_*.onnx'; did you mean 'step_2.onnx'?"),
        ({"glob": "none/*.onnx"}, "PK-M01 model.checkpoints: no file '{}/none/*.onnx'"),
    ],
    ids=["wrong step", "misspelt", "no folder"],
)  # fmt: skip
def test_checkpoints_that_cannot_be_told_are_refused(site, checkpoints, problem):
    for step in (1, 2):
        as_onnx(site.weights, site.folder / f"step_{step}.onnx")
    with pytest.raises(InputError) as caught:
        site.read(model={"kind": "onnx", "path": "net.onnx", "checkpoints": checkpoints})
    (found,) = caught.value.problems
    assert f"{found.code} {found}".startswith(problem.format(site.folder))


def test_without_a_star_in_step_a_checkpoint_is_called_by_its_file(site):
    for step in (2, 1):
        as_onnx(site.weights, site.folder / f"step_{step}.onnx")
    model = {"kind": "onnx", "path": "net.onnx", "checkpoints": {"glob": "step_?.onnx", "step": "step_?"}}
    assert [one.checkpoint for one in site.read(model=model).readings] == ["step_1", "step_2"]


def test_two_checkpoints_of_one_step_are_refused(site):
    for folder in ("a", "b"):
        (site.folder / f"s_1.{folder}.onnx").write_bytes((site.folder / "net.onnx").read_bytes())
    with pytest.raises(InputError, match=r"two checkpoints are called '1': 's_1\.a\.onnx' and 's_1\.b\.onnx'"):
        site.read(model={"kind": "onnx", "path": "net.onnx", "checkpoints": {"glob": "s_*.onnx", "step": "s_*.?"}})


def test_a_pattern_takes_no_other_character_for_special(site):
    """Brackets in a folder or a file are what they are."""
    folder = site.folder / "run [1]"
    folder.mkdir()
    as_onnx(site.weights, folder / "s_[7].onnx")
    model = {"kind": "onnx", "path": "net.onnx", "checkpoints": {"glob": "run [1]/s_[*].onnx", "step": "s_[*]"}}
    assert [one.checkpoint for one in site.read(model=model).readings] == ["7"]


# --- rows that are positions ------------------------------------------------------------------------------------------

SEQUENCE = RNG.standard_normal((COUNT, STEPS, 3)).astype(np.float32)
MASK = (np.arange(STEPS) < RNG.integers(1, STEPS + 1, COUNT)[:, None]).astype(np.int64)
TOKEN = (SEQUENCE[:, :, 0] > 0).astype(np.int64)


@pytest.fixture
def sequences(site: Site) -> Site:
    """A net over sequences, with a mask and a label per token in 2-D arrays."""
    as_onnx(site.weights, site.folder / "steps.onnx", STEPS)
    site.data(SEQUENCE)
    np.save(site.folder / "mask.npy", MASK)
    np.save(site.folder / "token.npy", TOKEN)
    arrays = {"x": "x.npy", "mask": "mask.npy", "token": "token.npy"}
    site.sections |= {
        "model": {"kind": "onnx", "path": "steps.onnx"},
        "data": {"kind": "arrays", "arrays": arrays, "columns": "columns.csv"},
        "taps": [{"match": "hidden", "layout": "NTC"}],
        "reduction": None,
    }
    return site


KEPT = {"mask": MASK != 0, None: np.ones_like(MASK, bool)}


@pytest.mark.parametrize("mask", ["mask", None])
def test_every_position_is_a_row_with_its_example_its_place_and_its_features(sequences, mask):
    rows = {"per": "position", "mask": mask}
    found = sequences.read(rows=rows)
    examples, places = np.nonzero(KEPT[mask])
    assert found.counts.tolist() == KEPT[mask].sum(axis=1).tolist()
    assert found.positions.tolist() == places.tolist()
    hidden, _ = by_hand(sequences.weights, SEQUENCE)
    np.testing.assert_allclose(sequences.matrix("hidden", rows=rows), hidden[examples, places], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", ["mask", None])
def test_labels_per_token_are_those_of_the_kept_positions(sequences, mask):
    result = sequences.run(
        rows={"per": "position", "mask": mask},
        labels={"token": {"kind": "column", "column": "token"}, "label": {"kind": "column", "column": "label"}},
    )
    path = sequences.folder / "run1" / "predictions.safetensors"
    tensors = load_file(path)
    examples, places = np.nonzero(KEPT[mask])
    assert tensors["position"].tolist() == places.tolist()
    assert tensors["label.token"].tolist() == TOKEN[examples, places].tolist()
    assert tensors["label.label"].tolist() == LABEL[examples].tolist()
    assert [bytes(row).rstrip(b"\0").decode() for row in tensors["id"]] == [str(example) for example in examples]
    rows = {split: int((KEPT[mask] & (split == PART)[:, None]).sum()) for split in ("train", "valid", "test")}
    assert {probe.factor: probe.rows for probe in result.probes} == {"token": rows, "label": rows}


def test_a_models_output_per_example_is_its_prediction_at_every_position(sequences):
    model = {"kind": "onnx", "path": "steps.onnx", "output": {"factor": "label"}}
    result = sequences.run(rows={"per": "position", "mask": "mask"}, model=model)
    hidden, _ = by_hand(sequences.weights, SEQUENCE)
    logits = hidden.mean(axis=1) @ sequences.weights["last.weight"].T + sequences.weights["last.bias"]
    examples, _ = np.nonzero((MASK != 0) & (PART == "test")[:, None])
    expected = np.mean(logits.argmax(axis=1)[examples] != LABEL[examples])
    assert result.model[0].error["test"] == pytest.approx(expected)
    assert result.model[0].rows["test"] == len(examples)


def test_an_example_whose_mask_keeps_nothing_has_no_rows(sequences):
    mask = MASK.copy()
    mask[[0, 50]] = 0
    np.save(sequences.folder / "mask.npy", mask)
    result = sequences.run(rows={"per": "position", "mask": "mask"})
    assert sum(result.probes[0].rows.values()) == int(mask.sum())
    assert result.provenance["skipped"]["examples"] == 0


def test_a_mask_of_other_positions_is_refused_with_the_numbers(sequences):
    np.save(sequences.folder / "mask.npy", np.ones((COUNT, STEPS + 1), np.int64))
    with pytest.raises(SpecError) as caught:
        sequences.read(rows={"per": "position", "mask": "mask"})
    (problem,) = caught.value.problems
    assert problem.code == "PK-M54"
    assert problem.what == "the mask 'mask' has 6 positions, tap 'hidden' has 5"


def test_a_mask_that_is_not_there_is_refused(sequences):
    with pytest.raises(InputError, match="no mask 'msak' in the data; did you mean 'mask'"):
        sequences.read(rows={"per": "position", "mask": "msak"})


def test_taps_of_different_positions_are_refused_without_a_mask(sequences):
    taps = [{"match": "hidden", "layout": "NTC"}, {"match": "turned", "layout": "NTC"}]
    model = onnx.load(sequences.folder / "steps.onnx")
    model.graph.node.insert(3, helper.make_node("Transpose", ["hidden"], ["turned"], perm=[0, 2, 1]))
    onnx.save(model, sequences.folder / "steps.onnx")
    with pytest.raises(SpecError) as caught:
        sequences.read(rows={"per": "position"}, taps=taps)
    (problem,) = caught.value.problems
    assert problem.code == "PK-M56"
    assert "'hidden: 5', 'turned: 4'" in problem.what


LSTM = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)

    def forward(self, x):
        return self.lstm(x.transpose(0, 1))[0][-1]
"""


def test_an_lstm_that_puts_time_first_is_read_by_example_and_by_position(sequences):
    import torch

    (sequences.folder / "lstm.py").write_text(LSTM)
    model = {"kind": "torch", "factory": "./lstm.py:Net", "seed": 1, "batch_size": 7}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        lstm = torch.nn.LSTM(3, 4)
    with torch.no_grad():
        truth = lstm(torch.from_numpy(SEQUENCE).transpose(0, 1))[0].transpose(0, 1).numpy()
    sections = {"model": model, "taps": [{"match": "lstm[0]", "layout": "TNC"}]}
    mean = sequences.matrix("lstm[0]", reduction={"kind": "pool"}, **sections)
    np.testing.assert_allclose(mean, truth.mean(axis=1), rtol=1e-4, atol=1e-6)
    masked = sequences.matrix("lstm[0]", rows={"per": "position", "mask": "mask"}, **sections)
    np.testing.assert_allclose(masked, truth[MASK != 0], rtol=1e-4, atol=1e-6)


# --- examples that cannot be read -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 digits as PNG files, two of them damaged: one cut short, one that is no image."""
    from PIL import Image
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("pictures")
    digits = load_digits()
    lines = ["path,label,part"]
    for number in range(60):
        path = root / f"{number:02}.png"
        Image.fromarray((digits.images[number] * 15).astype(np.uint8)).save(path)
        lines.append(f"{path.name},{digits.target[number] % 2},{PART[number]}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    whole = (root / "41.png").read_bytes()
    (root / "41.png").write_bytes(whole[: len(whole) // 2])
    (root / "58.png").write_text("<html>404</html>")
    return root


@pytest.fixture
def torn(site: Site, pictures: Path, specs: Path) -> Site:
    site.sections |= {
        "model": {"kind": "onnx", "path": str(specs / "models" / "digits_convnet.onnx"), "output": None},
        "data": {
            "kind": "images", "path": str(pictures), "table": str(pictures / "table.csv"),
            "preprocess": {"mode": "L", "scale": 240.0},
        },
        "taps": ["linear"],
    }  # fmt: skip
    return site


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    usual = ImageExamples._decode

    def decode(self: Any, path: Path) -> Any:
        names.append(path.name)
        return usual(self, path)

    monkeypatch.setattr(ImageExamples, "_decode", decode)
    return names


def skipping(site: Site) -> dict[str, Any]:
    return {**site.sections["data"], "on_bad_input": "skip"}


def test_damaged_images_are_named_and_refused(torn, pictures):
    with pytest.raises(InputError) as caught:
        torn.run()
    (problem,) = caught.value.problems
    assert problem.code == "PK-L18"
    assert f"{pictures}/41.png" in problem.what
    assert f"{pictures}/58.png" in problem.what


def test_damaged_images_are_left_out_counted_and_named(torn):
    result = torn.run(data=skipping(torn))
    assert result.provenance["skipped"]["examples"] == 2
    first = result.provenance["skipped"]["first"]
    assert list(first) == ["41.png", "58.png"]
    assert "truncated" in first["41.png"]
    assert "cannot identify image file" in first["58.png"]
    assert sum(result.probes[0].rows.values()) == 58
    (text,) = [text for text in result.provenance["warnings"] if "left out" in text]
    assert text.startswith("2 of 60 examples could not be read and are left out; the first: 1 of 1 images cannot")
    ids = load_file(torn.folder / "run1" / "predictions.safetensors")["id"]
    names = [bytes(row).rstrip(b"\0").decode() for row in ids]
    assert names == [f"{number:02}.png" for number in range(60) if number not in (41, 58)]


def test_an_answer_without_damaged_images_is_that_of_data_without_them(torn, pictures):
    with_them = torn.run(data=skipping(torn))
    table = pictures / "table.csv"
    lines = [line for line in table.read_text().splitlines() if not line.startswith(("41", "58"))]
    (torn.folder / "good.csv").write_text("\n".join(lines) + "\n")
    without = torn.run(data={**torn.sections["data"], "table": str(torn.folder / "good.csv")})
    assert [probe.error for probe in with_them.probes] == [probe.error for probe in without.probes]


def test_a_second_run_does_not_decode_damaged_images_again(torn, decoded, passes):
    first = torn.run(data=skipping(torn))
    assert {"41.png", "58.png"} <= set(decoded)
    decoded.clear()
    passes.clear()
    second = torn.run(data=skipping(torn))
    assert {"41.png", "58.png"} & set(decoded) == set()
    assert passes == []
    assert first.provenance["skipped"] == second.provenance["skipped"]


def test_a_damaged_image_that_was_mended_is_extracted_alone(torn, pictures, passes, monkeypatch, tmp_path):
    mended = tmp_path / "mended"
    shutil.copytree(pictures, mended)
    data = {**skipping(torn), "path": str(mended), "table": str(mended / "table.csv")}
    torn.run(data=data)
    passes.clear()
    shutil.copy(mended / "40.png", mended / "58.png")
    content = bytearray((mended / "40.png").read_bytes())
    (mended / "58.png").write_bytes(bytes(content) + b"more")  # another content, the same picture
    result = torn.run(data=data)
    assert [one.rows for one in passes] == [1]
    assert result.provenance["skipped"]["examples"] == 1


def test_empty_files_in_two_splits_are_no_leakage(torn, pictures, tmp_path):
    """They have one content, but what cannot be read is no example."""
    folder = tmp_path / "empty"
    shutil.copytree(pictures, folder)
    for name in ("40.png", "41.png", "42.png", "43.png", "58.png"):
        (folder / name).write_bytes(b"")
    data = {**skipping(torn), "path": str(folder), "table": str(folder / "table.csv")}
    assert torn.run(data=data).provenance["skipped"]["examples"] == 5


def test_a_split_of_damaged_images_only_is_refused(torn, pictures, tmp_path):
    folder = tmp_path / "empty"
    shutil.copytree(pictures, folder)
    for number in np.flatnonzero(PART[:60] == "valid"):
        (folder / f"{number:02}.png").write_text(f"no image {number}")
    data = {**skipping(torn), "path": str(folder), "table": str(folder / "table.csv")}
    with pytest.raises(InputError, match="no example of 'valid' has a row of features: none can be read"):
        torn.run(data=data)


# --- values and memory ------------------------------------------------------------------------------------------------


def test_values_that_the_stores_dtype_cannot_hold_are_refused_with_what_to_do(site):
    as_onnx({**site.weights, "last.bias": np.array([1e6, 0], np.float32)}, site.folder / "net.onnx")
    with pytest.raises(InputError) as caught:
        site.run(store={"path": str(site.store), "dtype": "float16"})
    (problem,) = caught.value.problems
    assert problem.code == "PK-M40"
    assert "logits" in problem.what
    site.run(store={"path": str(site.store), "dtype": "bfloat16"})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_features_of_half_the_size_give_the_same_errors(site, dtype):
    whole, half = site.run(), site.run(store={"path": str(site.store), "dtype": dtype})
    for one, other in zip(whole.probes, half.probes, strict=True):
        for split, rows in one.rows.items():
            assert abs(one.error[split] - other.error[split]) * rows <= 1 + 1e-9


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_model_whose_output_is_not_finite_is_refused_by_tap_and_example(site):
    """The logarithm of a negative number."""
    model = onnx.load(site.folder / "net.onnx")
    model.graph.node[2].op_type = "Log"
    onnx.save(model, site.folder / "net.onnx")
    with pytest.raises(InputError) as caught:
        site.run()
    assert [problem.code for problem in caught.value.problems] == ["PK-M39", "PK-M39"]
    assert all("NaN or infinite values in" in problem.what for problem in caught.value.problems)


def test_a_run_whose_features_exceed_its_memory_says_the_same(site, monkeypatch):
    fitted = []
    usual = LinearProbe.fit

    def fit(self: Any, features: Any, targets: Any, context: Any = None) -> Any:
        fitted.append(type(features).__name__)
        return usual(self, features, targets, context)

    monkeypatch.setattr(LinearProbe, "fit", fit)
    monkeypatch.setattr(memory, "LEAST", 1)
    monkeypatch.setattr(prepared, "COPIES", 10_000)  # the features are few, what a fit holds beside them is not
    held, streamed = (site.run(f"memory={size}", "probe.penalty=[0.1, 0.001]") for size in ("1GB", "1MB"))
    assert fitted == ["ArrayMatrix", "ArrayMatrix", "StoredMatrix", "StoredMatrix"]
    for one, other in zip(held.probes, streamed.probes, strict=True):
        assert (one.tap, one.penalty, one.certificate.status) == (other.tap, other.penalty, other.certificate.status)
        assert one.error == other.error
        for split, value in one.scores["cross_entropy"].items():
            assert other.scores["cross_entropy"][split] == pytest.approx(value, rel=1e-4)
