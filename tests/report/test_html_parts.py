"""What the page is made of, before it has any markup."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.report import charts, page, summary, vega, wording
from probekit.report.charts import depth_chart, near_top
from probekit.report.page import tables
from probekit.report.parts import FOLDED, Evidence, fold, heads, sayings
from probekit.report.summary import flat
from probekit.results import FindingRecord, GraphRecord, TapRecord

names = st.lists(st.from_regex(r"\A[ab]([./_][ab01]{1,3}){0,3}\Z"), min_size=1, max_size=60, unique=True)


@pytest.mark.parametrize("module", [charts, page, summary, vega, wording])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


@given(names, st.integers(1, 12))
def test_folding_keeps_every_item_once_and_taps_together(taps, each):
    items = [(tap, number) for tap in taps for number in range(each)]
    blocks = fold(items, lambda item: item[0])
    assert [item for _, some in blocks for item in some] == items
    homes = [{name for name, some in blocks if any(item[0] == tap for item in some)} for tap in taps]
    assert all(len(home) == 1 for home in homes)
    assert len(items) <= FOLDED or len(taps) <= FOLDED // 10 or all(name for name, _ in blocks)


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=4), inner, max_size=30),
    max_leaves=40,
)


@given(values)
def test_any_provenance_becomes_lines(value):
    assert all(isinstance(line, str) for line in flat({"all": value}))


def test_long_lists_are_cut_and_counted():
    assert flat({"classes": list(range(1000))})[0].endswith("18, 19, 980 more")
    assert flat({"checks": {f"tap{i}": 0.1 for i in range(25)}})[0].endswith("tap19 0.1, 5 more")


def test_heads_are_the_last_checkpoints_and_know_the_models_input(make, probe):
    probes = [
        probe(tap, error, checkpoint=step, factor=factor, reduction=reduction)
        for step, shift in (("1", 0.3), ("2", 0.0))
        for factor in ("a", "b")
        for tap, reduction, error in (
            ("image", "pool", 0.6 + shift),
            ("image", "flat", 0.5 + shift),
            ("fc", "pool", 0.1),
        )
    ]
    record = {"model": "default", "shape": None, "dtype": "float32", "layout": ""}
    taps = [
        TapRecord(**record, tap="image", name="image", op="Input", depth=0),
        TapRecord(**record, tap="fc", name="fc", op="Gemm", depth=1),
    ]
    found = heads(make(probes).model_copy(update={"graph": GraphRecord(taps=taps, edges=[])}))
    assert [(head.name, head.checkpoint, len(head.moments)) for head in found] == [("a", "2", 2), ("b", "2", 2)]
    for head in found:
        assert head.input.probe.reduction == "flat"
        assert head.input.scores["test"] == 0.5
        assert head.best.probe.tap == "fc"


def test_findings_go_where_they_belong(make, probe):
    def found(kind, severity, **more):
        return FindingRecord(kind=kind, severity=severity, sentence=f"{kind}.", **more)

    findings = [
        found("dead_segment", "problem", taps=["a", "nowhere"]),
        found("monotonicity", "warning", factor="digit"),
        found("monotonicity", "info", factor="digit"),
        found("earliest_tap", "info", factor="digit"),
        found("earliest_tap", "info", factor="another"),
        found("best_tap", "info", factor="digit"),
        found("gain", "notice"),
    ]
    result = make([probe("a", 0.1)], warnings=["tap a (pool): x", "model m, tap b, reduction pool: y"])
    result = result.model_copy(update={"findings": findings})
    said = sayings(result, heads(result), Evidence(result))
    assert said.leading == {1: ["earliest_tap.", "monotonicity."]}
    assert [line.sentence for line in said.notices] == ["earliest_tap.", "gain."]
    assert [(line.severity, line.sentence, line.links) for line in said.warnings] == [
        ("problem", "dead_segment.", [("a", "t1")]),
        ("warning", "monotonicity.", []),
        ("warning", "tap a (pool): x", [("a", "t1")]),
        ("warning", "model m, tap b, reduction pool: y", []),
    ]


@pytest.mark.parametrize(
    ("errors", "end"),
    [
        ([0.9, 0.5, 0.1, 0.05, 0.04, 0.03], 0.15),
        ([0.9, 0.02, 0.015, 0.01], 0.05),
        ([0.9, 0.7, 0.5, 0.1], None),
        ([0.1, 0.1], None),
        ([0.9, 0.0, 0.0, 0.0], 0.01),
    ],
)
def test_the_lower_part_is_enlarged_where_most_points_lie_there(make, probe, errors, end):
    (table,) = tables(make([probe(f"t{i}", error) for i, error in enumerate(errors)]))
    assert near_top(depth_chart(table, 0.9)) == end
