"""A part of a result: what belongs to it, and names that are not there."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import SpecError
from probekit.report.page import tables
from probekit.report.selection import select
from probekit.results import FindingRecord, GraphRecord, PairedRecord, RunResult, TapRecord

CHAIN = ["conv1", "relu1", "conv2", "relu2", "fc"]


def tap_record(name, depth):
    return TapRecord(
        model="default", tap=name, name=f"/net/{name}_output", op="Relu", shape=[8], dtype="float32", layout="NC",
        depth=depth,
    )  # fmt: skip


def graph(names, pairs):
    taps = [tap_record(name, depth) for depth, name in enumerate(names)]
    return GraphRecord(taps=taps, edges=[["default", a, b] for a, b in pairs])


def step(before, after):
    return PairedRecord(
        model="default", checkpoint=None, reduction="pool", factor="digit", probe="default", control=None, seed=0,
        before=before, before_reduction="pool", after=after, metric="error", difference=0.1, interval=None,
        test="mcnemar_exact", p=0.1, p_adjusted=0.1, only_before_wrong=1, only_after_wrong=2, n=10,
    )  # fmt: skip


def finding(**fields):
    return FindingRecord(kind="made", severity="info", sentence="It is so.", **fields)


@pytest.fixture
def result(make, probe):
    """Five taps in a chain with a skip, two factors."""
    probes = [probe(tap, 0.5, factor=factor) for tap in CHAIN for factor in ("digit", "parity")]
    edges = [*pairwise(CHAIN), ("relu1", "fc")]
    return make(probes, own=0.1).model_copy(
        update={
            "graph": graph(CHAIN, edges),
            "comparisons": [step(a, b) for a, b in pairwise(CHAIN)],
            "findings": [
                finding(), finding(factor="parity"), finding(taps=["conv1"]), finding(taps=["conv1", "fc"]),
                finding(model="other"),
            ],
        }
    )  # fmt: skip


def test_no_names_keep_all(result):
    assert select(result, {"tap": (), "factor": ()}) is result


def test_only_what_is_asked_for_is_left(result):
    part = select(result, {"tap": ["conv2", "fc"], "factor": ["digit"]})
    assert [(one.tap, one.factor) for one in part.probes] == [("conv2", "digit"), ("fc", "digit")]
    assert [one.tap for one in part.graph.taps] == ["conv2", "fc"]
    assert part.graph.edges == [["default", "conv2", "fc"]]
    assert part.comparisons == []
    assert [one.taps for one in part.findings] == [[], ["conv1", "fc"]]
    assert len(part.model) == 1
    assert part.provenance["warnings"][0] == "this view shows 2 of 10 probes: tap conv2, tap fc, factor digit"
    assert RunResult.model_validate_json(part.to_json()) == part
    assert len(tables(part)) == 1


def test_steps_between_taps_that_are_left_are_left(result):
    part = select(result, {"tap": ["conv1", "relu1", "fc"]})
    assert [(one.before, one.after) for one in part.comparisons] == [("conv1", "relu1")]


def test_a_reduction_is_left_with_the_vectors_that_continue_it_and_the_step_to_them(make, probe):
    probes = [
        probe("conv", 0.5), probe("conv", 0.4, reduction="flatten"), probe("fc", 0.2, reduction="flatten", vector=True),
    ]  # fmt: skip
    steps = [
        step("conv", "fc").model_copy(update={"reduction": "flatten", "before_reduction": before})
        for before in ("pool", "flatten")
    ]
    part = select(make(probes).model_copy(update={"comparisons": steps}), {"reduction": ["pool"]})
    assert [(one.tap, one.reduction) for one in part.probes] == [("conv", "pool"), ("fc", "flatten")]
    assert [one.before_reduction for one in part.comparisons] == ["pool"]


def test_the_models_own_result_goes_with_its_factor(result):
    assert select(result, {"factor": ["parity"]}).model == []


@pytest.mark.parametrize(
    ("pattern", "taps"), [("conv*", ["conv1", "conv2"]), ("relu?", ["relu1", "relu2"]), ("fc", ["fc"])]
)
def test_patterns_have_stars_and_question_marks(result, pattern, taps):
    assert list(dict.fromkeys(one.tap for one in select(result, {"tap": [pattern]}).probes)) == taps


def test_an_exact_name_wins_over_a_pattern(make, probe):
    part = select(make([probe("a*", 0.1), probe("ab", 0.1)]), {"tap": ["a*"]})
    assert [one.tap for one in part.probes] == ["a*"]


def test_a_tap_may_be_given_by_the_tensors_name(result):
    assert {one.tap for one in select(result, {"tap": ["/net/fc_output"]}).probes} == {"fc"}


def test_every_name_that_is_not_there_is_told_with_the_nearest(result):
    with pytest.raises(SpecError) as caught:
        select(result, {"tap": ["conf1", "fc"], "factor": ["parrity"], "checkpoint": ["late"]})
    assert [(one.code, one.field, one.hint) for one in caught.value.problems] == [
        ("PK-X43", "--tap", "did you mean 'conv1'?"), ("PK-X43", "--factor", "did you mean 'parity'?"),
        ("PK-X43", "--checkpoint", "checkpoints: none"),
    ]  # fmt: skip


def test_names_that_no_probe_has_together_are_told(make, probe):
    result = make([probe("a", 0.1, factor="x"), probe("b", 0.1, factor="y")])
    with pytest.raises(SpecError, match="all of: tap a, factor y"):
        select(result, {"tap": ["a"], "factor": ["y"]})


def paths(edges, a, b, through):
    """Return whether a path leads from a to b over the given taps only: an independent, recursive search."""
    return any(
        x == a and (y == b or (y in through and paths([e for e in edges if e != (x, y)], y, b, through)))
        for x, y in edges
    )


@given(st.data())
def test_an_edge_leads_over_what_is_left_out(data):
    from probekit.report.selection import _graph

    names = [f"t{i}" for i in range(6)]
    possible = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    edges = data.draw(st.lists(st.sampled_from(possible), unique=True))
    kept = data.draw(st.sets(st.sampled_from(names)))
    found = _graph(graph(names, edges), {("default", name) for name in kept})
    left = set(names) - kept
    assert [one.tap for one in found.taps] == [name for name in names if name in kept]
    assert {(a, b) for _, a, b in found.edges} == {
        (a, b) for a, b in possible if a in kept and b in kept and paths(edges, a, b, left)
    }
