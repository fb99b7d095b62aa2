"""Probes on other features: against scipy's tests, counts by hand, and a run whose features NumPy makes."""

import json
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import r2_score
from statsmodels.stats.multitest import multipletests

from probekit import Plugins, load_predictions, load_result, load_spec, run_spec
from probekit.judging import judge
from probekit.predictions import Predictions
from probekit.results import CertificateRecord, GraphRecord, ProbeIdentity, ProbeResult, RunResult

TRAIN, TEST = 60, 120
COUNT = TRAIN + TEST
PARTS = {"train": np.arange(40), "valid": np.arange(40, TRAIN), "test": np.arange(TRAIN, COUNT)}


class Made:
    """A run made by hand; scores on test come from the predictions."""

    def __init__(self, codes, reductions=None):
        self.codes, self.probes, self.keys, self.predicted, self.losses = codes, [], {}, {}, {}
        self.seeds = {"splits": 0, **({"reductions": reductions} if reductions else {})}

    def add(self, tap, predicted, control=None, seed=0, status="proven", **changes):
        test = PARTS["test"]
        number, tags = self.codes.dtype.kind == "f", self.codes.ndim == 2
        value = r2_score(self.codes[test], predicted[test]) if number else np.mean(predicted[test] != self.codes[test])
        metric, by_split = "r2" if number else "error", dict.fromkeys(PARTS, float(value))
        probe = ProbeResult(**{
            "model": "m", "checkpoint": None, "tap": tap, "reduction": "r", "factor": "f", "probe": "p", "seed": seed,
            "control": control, "task": "number" if number else "multilabel" if tags else "classes",
            "scores": {metric: by_split}, "primary": metric, "error": None if number else by_split, "penalty": 0.1,
            "features_raw": 1, "features_used": 1, "rows": {}, "seconds": 0.0,
            "certificate": CertificateRecord(status=status, gap=None, of_chance=None, of_objective=None), **changes,
        })  # fmt: skip
        key = str(len(self.keys))
        self.probes.append(probe)
        self.keys[key] = {name: getattr(probe, name) for name in ProbeIdentity.model_fields}
        self.predicted[key] = predicted
        self.losses[key] = (predicted - self.codes) ** 2 if number else np.zeros(self.codes.shape)

    def judged(self):
        ids = np.array([f"x{number}" for number in range(COUNT)])
        told = Predictions.of(ids, None, PARTS, {"f": self.codes}, self.predicted, self.losses, self.keys)
        facts = {"labels": {"f": {"baseline": {"test": 0.5}}}, "seeds": self.seeds}
        graph = GraphRecord(taps=[], edges=[])
        return judge(RunResult(name="n", probes=self.probes, model=[], graph=graph, provenance=facts), told)


def classes(seed=0):
    return np.random.default_rng(seed).integers(0, 2, COUNT)


def wrong_at(codes, rows):
    predicted = codes.copy()
    predicted[PARTS["test"][rows]] = 1 - predicted[PARTS["test"][rows]]
    return predicted


# --- another model ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, TEST - 1), unique=True), st.lists(st.integers(0, TEST - 1), unique=True))
def test_one_draw_is_compared_by_mcnemars_exact_test(own, other):
    codes = classes()
    made = Made(codes)
    made.add("a", wrong_at(codes, own))
    made.add("a", wrong_at(codes, other), "random_weights", 3)
    (twin,) = made.judged().twins
    assert (twin.trained, twin.twin) == (pytest.approx(len(own) / TEST), pytest.approx(len(other) / TEST))
    assert twin.difference == pytest.approx((len(own) - len(other)) / TEST)
    alone, both = len(set(own) - set(other)), len(set(own) ^ set(other))
    assert twin.p == pytest.approx(binomtest(alone, both).pvalue if both else 1.0)
    assert (twin.control, twin.seeds, twin.test, twin.n) == ("random_weights", [3], "mcnemar_exact", TEST)
    assert twin.interval.low - 1e-12 <= twin.difference <= twin.interval.high + 1e-12
    assert twin.interval.kind == "newcombe"


def test_several_draws_are_compared_by_their_mean():
    codes = classes()
    made = Made(codes)
    made.add("a", wrong_at(codes, range(10)))
    for seed, wrong in enumerate((30, 48, 36)):
        made.add("a", wrong_at(codes, range(wrong)), "random_weights", seed)
    (twin,) = made.judged().twins
    assert (twin.twin, twin.low, twin.high) == tuple(pytest.approx(x / TEST) for x in (38, 30, 48))
    assert twin.difference == pytest.approx((10 - 38) / TEST)
    assert (twin.test, twin.seeds) == ("paired_bootstrap", [0, 1, 2])
    assert twin.interval.low < twin.difference < twin.interval.high < 0
    # The row-wise mean has fewer values than a single draw; its standard error by hand.
    rows = np.r_[np.ones(30), np.full(6, 2 / 3), np.full(12, 1 / 3), np.zeros(TEST - 48)]
    error = (np.r_[np.ones(10), np.zeros(TEST - 10)] - rows).std() / np.sqrt(TEST)
    assert twin.interval.high - twin.interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_numbers_are_compared_by_r2():
    rng = np.random.default_rng(1)
    codes = rng.standard_normal(COUNT)
    made = Made(codes)
    made.add("a", codes + 0.1 * rng.standard_normal(COUNT))
    made.add("a", codes + 0.7 * rng.standard_normal(COUNT), "random_weights")
    (twin,) = made.judged().twins
    assert twin.metric == "r2"
    assert twin.difference == pytest.approx(twin.trained - twin.twin, rel=1e-5)
    assert 0 < twin.interval.low < twin.difference < twin.interval.high


def test_numbers_that_are_all_alike_have_no_comparison():
    codes = np.ones(COUNT)
    codes[:TRAIN] = np.arange(TRAIN)
    made = Made(codes)
    made.add("a", codes + 0.1)
    made.add("a", codes + 0.7, "random_weights")
    assert made.judged().twins == []


def test_yes_no_labels_are_compared_by_their_share_of_wrong_answers():
    codes = np.random.default_rng(2).integers(0, 2, (COUNT, 3))
    made = Made(codes)
    made.add("a", codes)
    made.add("a", np.where(np.arange(3) == 1, 1 - codes, codes), "random_weights")
    (twin,) = made.judged().twins
    assert (twin.trained, twin.twin, twin.difference) == (0.0, pytest.approx(1 / 3), pytest.approx(-1 / 3))


def test_holms_method_counts_the_taps_of_one_question():
    codes = classes()
    made = Made(codes)
    for number, tap in enumerate("abc"):
        made.add(tap, wrong_at(codes, range(10)))
        made.add(tap, wrong_at(codes, range(12 + 2 * number)), "random_weights")
    twins = made.judged().twins
    assert [one.tap for one in twins] == ["a", "b", "c"]
    assert [one.p_adjusted for one in twins] == pytest.approx(
        multipletests([one.p for one in twins], method="holm")[1].tolist()
    )


def test_a_missed_probe_has_no_part_in_holms_method():
    codes = classes()
    made = Made(codes)
    for tap, wrong, status in (("a", 20, "proven"), ("b", 60, "missed"), ("c", 24, "proven")):
        made.add(tap, wrong_at(codes, range(10)), status="missed" if tap == "b" else "proven")
        made.add(tap, wrong_at(codes, range(wrong)), "random_weights", status=status)
    first, missed, last = made.judged().twins
    assert (missed.missed, missed.p_adjusted, missed.p < 1e-9) == (True, None, True)
    assert [first.p_adjusted, last.p_adjusted] == pytest.approx(
        multipletests([first.p, last.p], method="holm")[1].tolist()
    )


def test_any_number_of_taps_can_be_significant():
    """By a bootstrap of 10,000 draws no p is below 2e-4, and times 300 it is above 0.05."""
    codes = classes()
    made = Made(codes)
    for number in range(300):
        made.add(f"t{number}", wrong_at(codes, range(10)))
        for seed in (0, 1):
            wrong = 90 if number < 2 else 10
            made.add(f"t{number}", wrong_at(codes, range(wrong)), "random_weights", seed)
    twins = made.judged().twins
    assert [one.p_adjusted < 0.05 for one in twins] == [True] * 2 + [False] * 298
    assert {one.interval.draws for one in twins} == {24_000}


def test_one_model_stands_beside_every_checkpoint_and_no_other_probe():
    codes = classes()
    made = Made(codes)
    for step in ("1", "2"):
        made.add("a", codes, checkpoint=step)
    made.add("b", codes, checkpoint="1")
    made.add("a", wrong_at(codes, range(5)), "random_weights")
    made.add("a", wrong_at(codes, range(5)), "random_weights", probe="other")
    assert [(one.checkpoint, one.tap) for one in made.judged().twins] == [("1", "a"), ("2", "a")]


def test_labels_of_a_control_are_no_other_model():
    codes = classes()
    made = Made(codes)
    made.add("a", codes)
    made.add("a", codes, "reduction_seed", 1)
    ids = np.array([f"x{number}" for number in range(COUNT)])
    told = Predictions.of(ids, None, PARTS, {"f": codes}, made.predicted, made.losses, made.keys)
    assert np.array_equal(told.codes("f", "reduction_seed", 1), told.codes("f"))
    with pytest.raises(KeyError):
        told.codes("f", "reduction_seed", 2)


def test_a_probe_that_missed_its_optimum_is_marked():
    codes = classes()
    made = Made(codes, {"r": [0, 1]})
    made.add("a", codes)
    made.add("a", codes, "random_weights", status="missed")
    made.add("a", codes, "reduction_seed", 1, status="missed")
    result = made.judged()
    assert [one.missed for one in (*result.twins, *result.spreads)] == [True, True]


# --- other draws of a reduction ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, TEST), min_size=2, max_size=7))
def test_the_spread_is_that_of_all_draws(errors):
    codes, seeds = classes(), list(range(5, 5 + len(errors)))
    made = Made(codes, {"r": seeds})
    for seed, wrong in zip(seeds, errors, strict=True):
        control = {} if seed == 5 else {"control": "reduction_seed", "seed": seed}
        made.add("a", wrong_at(codes, range(wrong)), **control)
    made.add("kept", codes)
    result = made.judged()
    (spread,) = result.spreads
    shares = [wrong / TEST for wrong in errors]
    assert (spread.tap, spread.seeds) == ("a", seeds)
    assert spread.values == pytest.approx(shares)
    assert (spread.low, spread.median, spread.high) == pytest.approx((min(shares), np.median(shares), max(shares)))
    assert result.twins == []


# --- a run ------------------------------------------------------------------------------------------------------------

NET = """
    from torch import nn

    def make():
        return nn.Sequential(nn.Linear(12, 30), nn.Tanh(), nn.Linear(30, 2))
"""
X = np.random.default_rng(3).standard_normal((240, 12)).astype(np.float32)
LABEL = (X[:, 0] + X[:, 1] > 0).astype(int)
PART = np.array(["train", "valid", "test", "train"] * 60)
SETTINGS = {
    "probekit": 1, "data": {"kind": "arrays", "arrays": {"input": "x.npy"}, "columns": "columns.csv"},
    "model": {"kind": "torch", "factory": "./net.py:make", "weights": "net.safetensors"}, "taps": ["input", "1", "2"],
    "labels": {"label": {"kind": "column", "column": "label"}, "other": {"kind": "column", "column": "other"}},
    "splits": {"column": "part", "train": "train", "valid": "valid", "test": "test"},
    "reduction": {"kind": "subset", "features": 8, "seed": 4, "seeds": 3},
    "probe": {"kind": "linear", "penalty": 0.01}, "reports": ["json"],
    "controls": [{"kind": "random_weights", "seeds": 2, "seed": 9, "factors": ["label"]}],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from safetensors.torch import save_file
    from torch import nn

    path = tmp_path_factory.mktemp("controls")
    np.save(path / "x.npy", X)
    other = (X[:, 2] > 0).astype(int)
    lines = ["label,other,part", *(f"{a},{b},{c}" for a, b, c in zip(LABEL, other, PART, strict=True))]
    (path / "columns.csv").write_text("\n".join(lines) + "\n")
    (path / "net.py").write_text(textwrap.dedent(NET))
    torch.manual_seed(100)
    net = nn.Sequential(nn.Linear(12, 30), nn.Tanh(), nn.Linear(30, 2))
    save_file(net.state_dict(), path / "net.safetensors")
    return path


def load(folder, **sections):
    (folder / "s.yaml").write_text(json.dumps({**SETTINGS, "store": str(folder / "store"), **sections}))
    return load_spec(folder / "s.yaml", Plugins(), trust_code=True)


@pytest.fixture(scope="module")
def outcome(folder):
    return run_spec(load(folder), Plugins(), folder / "run")


def test_every_tap_has_its_draws_and_its_random_models(outcome):
    found = {}
    for one in outcome.result.probes:
        found.setdefault((one.tap, one.factor), []).append((one.control, one.seed))
    drawn = [(None, 0), ("reduction_seed", 5), ("reduction_seed", 6)]
    random = [("random_weights", 9), ("random_weights", 10)]
    assert found == {
        ("input", "label"): drawn, ("input", "other"): drawn, ("1", "label"): drawn + random, ("1", "other"): drawn,
        ("2", "label"): [(None, 0), *random], ("2", "other"): [(None, 0)],
    }  # fmt: skip
    assert [(one.tap, one.factor, one.seeds) for one in outcome.result.twins] == [
        ("1", "label", [9, 10]), ("2", "label", [9, 10]),
    ]  # fmt: skip
    assert [(one.tap, one.factor, one.seeds) for one in outcome.result.spreads] == [
        (tap, factor, [4, 5, 6]) for tap in ("input", "1") for factor in ("label", "other")
    ]
    assert outcome.result.provenance["seeds"] == {
        "splits": 0, "reductions": {"default": [4, 5, 6]}, "random_weights": [9, 10],
    }  # fmt: skip
    twins = {name: facts for name, facts in outcome.result.provenance["models"].items() if "control" in facts}
    assert [(facts["control"], facts["seed"], facts["backend"]["seed"]) for facts in twins.values()] == [
        ("random_weights", 9, 9), ("random_weights", 10, 10),
    ]  # fmt: skip
    assert len({facts["fingerprint"] for facts in outcome.result.provenance["models"].values()}) == 3
    assert not outcome.failures


def test_what_is_saved_is_what_was_judged(outcome):
    saved = load_result(outcome.directory)
    assert saved == outcome.result
    again = judge(saved, load_predictions(outcome.directory))
    assert (again.twins, again.spreads) == (saved.twins, saved.spreads)
    by_place = {(one.tap, one.factor): one for one in saved.probes if one.control is None}
    for twin in saved.twins:
        assert twin.trained == by_place[twin.tap, twin.factor].error["test"]
        errors = [one.error["test"] for one in saved.probes if (one.tap, one.control) == (twin.tap, twin.control)]
        assert twin.twin == pytest.approx(np.mean(errors))
        assert twin.difference == pytest.approx(twin.trained - twin.twin)


def test_features_are_those_of_numpy_and_of_modules_made_by_hand(folder, outcome, monkeypatch):
    from probekit.backends.torch import TorchBackend
    from probekit.data.question import ask
    from probekit.features.digests import RowDigests
    from probekit.reading import open_store, read_models

    spec = load(folder).spec
    asked = ask(spec)
    readings = read_models(spec, asked, RowDigests(asked.examples), open_store(spec))

    def first_layer(net):
        with torch.no_grad():
            return torch.tanh(net[0](torch.from_numpy(X))).numpy()

    def made(seed):
        from torch import nn

        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(12, 30), nn.Tanh(), nn.Linear(30, 2))

    # The run wrote all of it: nothing is to be run again.
    assert not any(one.extraction.missing().any() for one in readings)
    monkeypatch.setattr(TorchBackend, "open_reduced", None)
    hidden = {None: first_layer(made(100)), 9: first_layer(made(9)), 10: first_layer(made(10))}
    seen = []
    for reading in readings:
        for number, one in enumerate(reading.sets):
            if one.label == "2":
                continue
            whole = X if one.label == "input" else hidden[reading.seed if reading.control else None]
            seed = one.seed if one.control == "reduction_seed" else 4
            indices = np.sort(np.random.default_rng(seed).choice(whole.shape[1], 8, replace=False))
            found = np.asarray(reading.extraction.matrix(number))
            np.testing.assert_allclose(found, whole[:, indices], rtol=0, atol=1e-6)
            seen.append((reading.name, one.title))
    assert len(seen) == len(set(seen)) == 2 * 3 + 2
    assert readings[1].name == "default (random_weights, seed 9)"


def test_the_model_runs_once_for_all_draws(folder, passes, tmp_path):
    run_spec(load(folder, store=str(tmp_path), controls=[]), Plugins(), tmp_path / "run")
    (one,) = passes
    assert one.taps == ["1", "1", "1", "2"]
    assert one.rows == len(X)


def test_only_probes_of_the_model_itself_are_saved(outcome):
    from probekit.saved.files import read_index

    _, index = read_index(outcome.directory)
    assert {one.control for one in index.probes} == {None, "reduction_seed"}
    assert list(index.models) == ["default"]
