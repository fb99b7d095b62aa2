"""What ``probekit plan`` says: cached, new, partly, stale and why; and that it changes nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sklearn.datasets import load_digits

from probekit import Plugins, load_spec, run_spec
from probekit.features import plan as job_plan
from probekit.planning import PlannedTap, duration, make_plan, plan_lines, size
from probekit.run import Console
from probekit.store.feature_store import FeatureStore

SPEC = """\
probekit: 1
name: s
model: {kind: onnx, path: net.onnx}
data: {kind: digits}
taps: [relu_1, linear]
reduction: {kind: pool}
labels: {digit: {kind: column, column: label}}
splits:
  {column: half, train: even, valid: {of: odd, share: 0.3}, test: odd, limit: {train: 60, valid: 30, test: 30}}
probe: {kind: linear, penalty: 0.1}
reports: [json]
store: store
"""


class Site:
    """A folder with a spec, a model and a store."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        shutil.copy(model, folder / "net.onnx")
        (folder / "s.yaml").write_text(SPEC)

    def load(self, *settings: str) -> Any:
        return load_spec(self.folder / "s.yaml", Plugins(), settings)

    def run(self, *settings: str, **console: Any) -> Any:
        return run_spec(self.load(*settings), Plugins(), self.folder / "run", Console(**console))

    def plan(self, *settings: str) -> Any:
        return make_plan(self.load(*settings).spec)

    def states(self, *settings: str) -> list[tuple[str, str, tuple[str, ...]]]:
        return [(tap.tap, tap.state, tap.changed) for tap in self.plan(*settings).taps]

    def change(self, initializer: str) -> None:
        """Change one weight of the model."""
        model = onnx.load(self.folder / "net.onnx")
        (found,) = [one for one in model.graph.initializer if one.name == initializer]
        array = numpy_helper.to_array(found).copy()
        array.flat[0] += 1
        found.CopyFrom(numpy_helper.from_array(array, initializer))
        onnx.save(model, self.folder / "net.onnx")


@pytest.fixture
def site(tmp_path: Path, specs: Path) -> Site:
    return Site(tmp_path, specs / "models" / "digits_convnet.onnx")


NEW = [("relu_1 (default)", "new", ()), ("linear (flatten)", "new", ())]


def test_what_nobody_extracted_is_new_with_what_it_will_cost(site):
    plan = site.plan()
    assert plan.taps == [
        PlannedTap("default", "relu_1 (default)", 32, 120, 0, "new"),
        PlannedTap("default", "linear (flatten)", 64, 120, 0, "new"),
    ]
    assert (plan.rows, plan.bytes_on_disk, plan.largest) == (120, 120 * 96 * 4, 120 * 64 * 4)
    assert plan.bytes_free == pytest.approx(shutil.disk_usage(site.store).free, rel=0.05)
    assert plan.store == str(site.store)
    assert plan.seconds is not None


def test_a_plan_keeps_no_features(site):
    site.plan()
    assert FeatureStore(site.store).entries() == []
    assert site.states() == NEW


def test_what_was_extracted_is_cached_and_costs_nothing(site):
    site.run()
    plan = site.plan()
    assert [(tap.cached, tap.state, tap.changed) for tap in plan.taps] == [(120, "cached", ())] * 2
    assert (plan.rows, plan.bytes_on_disk, plan.seconds) == (0, 0, None)


def test_the_bytes_on_disk_are_those_that_a_run_writes(site):
    needed = site.plan().bytes_on_disk
    site.run()
    assert needed <= sum(entry.bytes for entry in FeatureStore(site.store).entries()) <= needed + 2 * 1024


def test_what_a_stopped_run_left_is_partly_there(site, monkeypatch):
    monkeypatch.setattr(job_plan, "MOST_ROWS", 64)
    stop = Console().stop

    def tell(*_: Any) -> None:
        stop.asked = True

    with pytest.raises(KeyboardInterrupt):
        site.run(tell=tell, stop=stop)
    plan = site.plan()
    assert [(tap.cached, tap.state, tap.changed) for tap in plan.taps] == [(64, "partly", ())] * 2
    assert plan.rows == 56


def test_a_new_tap_beside_cached_ones_is_new(site):
    site.run()
    assert site.states("taps=[relu_1, linear, logits]")[2] == ("logits (flatten)", "new", ())


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        (["model.optimization=off"], ("options",)),
        (["reduction.how=max"], ("reduction",)),
        (["store={path: store, dtype: float16}"], ("dtype",)),
        (["store={path: store, dtype: float16}", "model.optimization=off"], ("dtype", "options")),
    ],
    ids=["options", "reduction", "dtype", "two"],
)
def test_what_a_changed_spec_makes_stale_is_told_with_what_changed(site, settings, changed):
    site.run()
    assert site.states(*settings)[0] == ("relu_1 (default)", "stale", changed)


def test_after_a_changed_weight_only_what_comes_after_it_is_stale(site):
    site.run()
    (weight, *_) = [
        name for node in onnx.load(site.folder / "net.onnx").graph.node if "linear" in node.output
        for name in node.input[1:2]
    ]  # fmt: skip
    site.change(weight)
    assert site.states() == [("relu_1 (default)", "cached", ()), ("linear (flatten)", "stale", ("model",))]


def test_other_rows_of_the_data_are_told_as_such(site):
    digits = load_digits()
    lines = [f"{label},{'even' if row % 2 == 0 else 'odd'}" for row, label in enumerate(digits.target)]
    (site.folder / "columns.csv").write_text("\n".join(["label,half", *lines]) + "\n")
    for name, scale in (("dark", 32), ("light", 16)):
        np.save(site.folder / f"{name}.npy", (digits.images[:, None] / scale).astype(np.float32))
    dark, light = (
        f"data={{kind: arrays, arrays: {{image: {name}.npy}}, columns: columns.csv}}" for name in ("dark", "light")
    )
    site.run(dark)
    assert [state[1:] for state in site.states(light)] == [("stale", ("data",))] * 2


def test_a_changed_split_factor_or_probe_leaves_all_cached(site):
    site.run()
    more = ["labels.parity={kind: group, column: label, groups: {even: '0,2,4,6,8', odd: '1,3,5,7,9'}}"]
    assert {state for _, state, _ in site.states(*more, "probe.penalty=1", "reports=[csv]")} == {"cached"}


def test_a_tap_that_is_too_large_for_the_memory_is_named(site, monkeypatch):
    monkeypatch.setattr("probekit.planning.memory_budget", lambda asked: asked)
    assert site.plan("memory=50000").streamed == ["default linear (flatten)"]
    assert site.plan("memory=1GB").streamed == []


# --- what is printed --------------------------------------------------------------------------------------------------


def lines(site: Site, *settings: str) -> list[str]:
    return list(plan_lines(site.plan(*settings)))


def test_the_table_says_of_every_tap_what_is_there(site):
    site.run()
    table = lines(site, "reduction.how=max", "taps=[relu_1, linear, logits]")
    assert table[:4] == [
        "tap               features      cached  state",
        "relu_1 (default)        32    0 of 120  stale: reduction changed",
        "linear (flatten)        64  120 of 120  cached",
        "logits (flatten)        10    0 of 120  new",
    ]
    assert table[4:6] == ["", f"store: {site.store}"]
    assert table[6].startswith("to extract: 120 rows; 19.7 KiB on disk, ")


def test_of_several_models_each_line_names_its_own(site):
    one = "{kind: onnx, path: net.onnx}"
    names = [
        line.split("  ")[0] for line in lines(site, "model=null", f"models={{a: {one}, b: {one}}}", "taps=[linear]")
    ]
    assert names[1:3] == ["a linear (flatten)", "b linear (flatten)"]


def test_what_two_models_share_is_counted_once(site):
    one = "{kind: onnx, path: net.onnx}"
    plan = site.plan("model=null", f"models={{a: {one}, b: {one}}}")
    assert [tap.state for tap in plan.taps] == ["new"] * 4
    assert (plan.rows, plan.bytes_on_disk) == (120, 120 * 96 * 4)


def test_a_plan_of_nothing_says_so(site):
    site.run()
    assert "to extract: nothing" in lines(site)


def test_the_command_prints_the_table(site, main):
    code, out, err = main("plan", str(site.folder / "s.yaml"))
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == "relu_1 (default)        32  0 of 120  new"


def test_the_command_in_json_says_the_same(site, main):
    site.run()
    code, out, err = main("plan", str(site.folder / "s.yaml"), "--json", "--set", "reduction.how=max")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["taps"][0] == {
        "model": "default", "tap": "relu_1 (default)", "features": 32, "rows": 120, "cached": 0, "state": "stale",
        "changed": ["reduction"],
    }  # fmt: skip
    assert set(found) == {
        "taps", "store", "rows", "bytes_on_disk", "bytes_free", "seconds", "largest", "memory", "streamed"
    }  # fmt: skip


def test_a_tap_that_is_not_there_is_told_at_its_place(site, main):
    code, out, err = main("plan", str(site.folder / "s.yaml"), "--set", "taps=[linaer]")
    assert (code, out) == (2, "")
    assert "the model has no tensor 'linaer'; did you mean 'linear'?" in err


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 40, "5.0 TiB")])
def test_a_size_in_words(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.99, "under a second"), (1.2, "2 s"), (59.5, "1 min 0 s"), (3599.5, "1 h 0 min"), (7300, "2 h 1 min")],
)
def test_a_duration_in_words(seconds, text):
    assert duration(seconds) == text
