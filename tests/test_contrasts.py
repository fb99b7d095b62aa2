"""Pairs of probes that findings compare, row by row: against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import r2_score

from probekit.judging import judge
from probekit.predictions import Predictions
from probekit.results import (
    CertificateRecord,
    GraphRecord,
    ProbeIdentity,
    ProbeResult,
    RunResult,
    TapRecord,
    headline,
)

TRAIN, VALID, TEST = np.arange(40), np.arange(40, 60), np.arange(60, 260)
EDGES = [("in", "a"), ("a", "out"), ("a", "aux")]


def run_of(labels, said, own=None, groups=None, **changes):
    """Return the judged result of a network whose probes predict what is given by tap.

    Args:
        labels: of every row.
        said: from a tap to its valid error and what its probe predicts for every row.
        own: what the model itself predicts.
    """
    number = labels.dtype.kind == "f"
    metric, probes, keys, predicted, losses = "r2" if number else "error", [], {}, {}, {}
    for tap, (valid, values) in said.items():
        scores = {metric: {"train": 0.0, "valid": valid, "test": 0.5}}
        probe = ProbeResult(**{
            "model": "m", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": "f", "probe": "p",
            "control": None, "seed": 0, "task": "number" if number else "classes", "scores": scores, "primary": metric,
            "error": None if number else scores[metric], "penalty": 0.1, "features_raw": 1, "features_used": 1,
            "rows": {}, "seconds": 0.0,
            "certificate": CertificateRecord(status="proven", gap=None, of_chance=None, of_objective=None), **changes,
        })  # fmt: skip
        probes.append(probe)
        key = str(len(keys))
        keys[key] = {name: getattr(probe, name) for name in ProbeIdentity.model_fields}
        predicted[key], losses[key] = values, (values - labels) ** 2.0
    if own is not None:
        keys["own"] = {"model": "m", "checkpoint": None, "output": "o", "factor": "f"}
        predicted["own"] = own
    taps = [
        TapRecord(model="m", tap=tap, name=tap, op="Input" if tap == "in" else "Relu", shape=[4], dtype="float32",
                  layout="NC", depth=depth)
        for depth, tap in enumerate(said)
    ]  # fmt: skip
    edges = [["m", a, b] for a, b in EDGES if {a, b} <= set(said)]
    facts = {"f": {"baseline": {"test": 0.5}, "task": "classes"}}
    result = RunResult(
        name="n", probes=probes, model=[], graph=GraphRecord(taps=taps, edges=edges), provenance={"labels": facts}
    )
    ids, parts = np.arange(len(labels)).astype(str), {"train": TRAIN, "valid": VALID, "far": TEST}
    return judge(result, Predictions.of(ids, groups, parts, {"f": labels}, predicted, losses, keys))


def wrong(codes, rows):
    """Return predictions that are wrong in some test rows."""
    said = codes.copy()
    said[TEST[rows]] = 1 - said[TEST[rows]]
    return said


@pytest.fixture
def codes():
    return np.random.default_rng(0).integers(0, 2, 260)


def test_the_best_is_compared_with_the_input_and_the_output_and_a_branch_with_the_main_one(codes):
    rows = {"in": range(80), "a": range(60), "aux": range(30, 90), "out": range(20, 50)}
    valid = {"in": 0.4, "a": 0.3, "aux": 0.25, "out": 0.2}
    made = run_of(
        codes, {tap: (valid[tap], wrong(codes, list(rows[tap]))) for tap in rows}, wrong(codes, range(10, 60))
    )
    found = {(one.tap, one.other_tap): one for one in made.contrasts}
    assert list(found) == [("out", "in"), ("out", None), ("aux", "out")]
    others = {**rows, None: range(10, 60)}
    for (tap, other), one in found.items():
        mine, theirs = set(rows[tap]), set(others[other])
        assert one.difference == pytest.approx((len(mine) - len(theirs)) / 200)
        assert one.p == pytest.approx(binomtest(len(mine - theirs), len(mine ^ theirs)).pvalue)
        assert one.interval.low < one.difference < one.interval.high
        assert (one.test, one.metric, one.n, one.interval.kind) == ("mcnemar_exact", "error", 200, "newcombe")
    assert (found["out", "in"].other_reduction, found["out", None].other_reduction) == ("pool", None)


def test_of_numbers_the_difference_is_that_of_r2():
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=260).astype(np.float32)
    said = {
        tap: (valid, (numbers + spread * rng.normal(size=260)).astype(np.float32))
        for tap, valid, spread in (("in", 0.1, 0.9), ("a", 0.8, 0.3))
    }
    own = (numbers + 0.6 * rng.normal(size=260)).astype(np.float32)
    made = run_of(numbers, said, own)
    r2 = {tap: r2_score(numbers[TEST], values[TEST]) for tap, values in [("in", said["in"][1]), (None, own)]}
    best = r2_score(numbers[TEST], said["a"][1][TEST])
    assert [(one.tap, one.other_tap, one.metric) for one in made.contrasts] == [("a", "in", "r2"), ("a", None, "r2")]
    for one in made.contrasts:
        assert one.difference == pytest.approx(best - r2[one.other_tap], rel=1e-5)
        assert one.interval.low < one.difference < one.interval.high
        assert (one.test, one.interval.draws) == ("paired_bootstrap", 10_000)
        assert one.p < 0.001


def test_numbers_that_are_all_alike_have_no_contrast():
    numbers = np.random.default_rng(1).normal(size=260).astype(np.float32)
    numbers[TEST] = 1.0
    made = run_of(numbers, {"in": (0.1, numbers + 1), "a": (0.8, numbers)})
    assert made.contrasts == []


def test_whole_groups_are_drawn(codes):
    said = {"in": (0.4, wrong(codes, range(80))), "a": (0.3, wrong(codes, range(60)))}
    (one,) = run_of(codes, said, groups=np.arange(260) // 10).contrasts
    assert (one.test, one.interval.over, one.interval.n) == ("paired_bootstrap", "groups", 20)


def test_missed_probes_and_controls_have_no_part(codes):
    said = {"in": (0.4, codes), "a": (0.3, codes)}
    missed = CertificateRecord(status="missed", gap=None, of_chance=None, of_objective=None)
    assert run_of(codes, said, codes, certificate=missed).contrasts == []
    assert run_of(codes, said, codes, control="random_weights").contrasts == []


def test_both_ends_of_a_way_on_which_a_factor_loses_are_compared_for_each_factor(codes):
    rows = {"f": {"a": 10, "b": 20, "c": 50}, "g": {"a": 70, "b": 60, "c": 40}}
    probes, keys, predicted, losses = [], {}, {}, {}
    for factor, by_tap in rows.items():
        for tap, count in by_tap.items():
            one = probe_of(factor, tap, count / 200)
            probes.append(one)
            key = f"{factor}{tap}"
            keys[key] = {name: getattr(one, name) for name in ProbeIdentity.model_fields}
            predicted[key], losses[key] = wrong(codes, range(count)), np.zeros(260)
    taps = [
        TapRecord(model="m", tap=tap, name=tap, op="Relu", shape=[4], dtype="float32", layout="NC", depth=depth)
        for depth, tap in enumerate("abc")
    ]
    graph = GraphRecord(taps=taps, edges=[["m", "a", "b"], ["m", "b", "c"]])
    facts = {factor: {"baseline": {"test": 0.5}, "task": "classes"} for factor in rows}
    result = RunResult(name="n", probes=probes, model=[], graph=graph, provenance={"labels": facts})
    parts = {"train": TRAIN, "valid": VALID, "far": TEST}
    labels = dict.fromkeys(rows, codes)
    told = Predictions.of(np.arange(260).astype(str), None, parts, labels, predicted, losses, keys)
    found = {(one.factor, one.tap, one.other_tap): one for one in judge(result, told).contrasts}
    assert {place: one.difference for place, one in found.items()} == pytest.approx(
        {("f", "c", "a"): 0.2, ("g", "c", "a"): -0.15}
    )
    for one, discordant in zip(found.values(), (40, 30), strict=True):
        assert (one.test, one.p) == ("mcnemar_exact", pytest.approx(binomtest(0, discordant).pvalue))


def probe_of(factor, tap, error):
    scores = {"error": dict.fromkeys(("train", "valid", "far"), error)}
    return ProbeResult(
        model="m", checkpoint=None, tap=tap, reduction="pool", factor=factor, probe="p", control=None, seed=0,
        scores=scores, primary="error", error=headline(scores["error"]), penalty=0.1, features_raw=1,
        features_used=1, rows={}, seconds=0.0,
        certificate=CertificateRecord(status="proven", gap=None, of_chance=None, of_objective=None),
    )  # fmt: skip


def test_the_input_is_not_compared_with_itself(codes):
    said = {"in": (0.1, codes), "a": (0.3, codes)}
    assert run_of(codes, said).contrasts == []
