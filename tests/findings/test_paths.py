"""What comes before and after a tap, against the closure of the graph's matrix."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.findings.paths import paths_of
from probekit.results import GraphRecord, ModelResult, RunResult, TapRecord


def result_of(count, edges, output=None):
    taps = [
        TapRecord(
            model="m", tap=f"t{i}", name=f"n{i}", op="Input" if i == 0 else "Relu", shape=None, dtype="", layout="",
            depth=i,
        )
        for i in range(count)
    ]  # fmt: skip
    own = [] if output is None else [
        ModelResult(model="m", checkpoint=None, factor="f", output=output, scores={}, error=None, rows={})
    ]  # fmt: skip
    graph = GraphRecord(taps=taps, edges=[["m", f"t{a}", f"t{b}"] for a, b in edges])
    return RunResult(name="r", probes=[], model=own, graph=graph, provenance={})


@st.composite
def dags(draw):
    count = draw(st.integers(1, 9))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return count, edges


def closure(count, edges):
    """Return whether a path of one edge or more leads from a to b (Warshall)."""
    reach = np.zeros((count, count), bool)
    for a, b in edges:
        reach[a, b] = True
    for k in range(count):
        reach |= np.outer(reach[:, k], reach[k])
    return reach


def numbers(taps):
    return {int(tap[1:]) for tap in taps}


@given(dags(), st.data())
@settings(max_examples=40)
def test_before_and_after_are_what_paths_lead_to(dag, data):
    count, edges = dag
    if not edges:
        return
    paths, reach = paths_of(result_of(count, edges), "m"), closure(count, edges)
    some = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    names = [f"t{i}" for i in some]
    assert numbers(paths.after(names)) == set(np.flatnonzero(reach[sorted(some)].any(axis=0)).tolist()) - some
    assert numbers(paths.before(names)) == set(np.flatnonzero(reach[:, sorted(some)].any(axis=1)).tolist()) - some
    assert numbers(paths.main) == {i for i in range(count) if reach[i, count - 1] or i == count - 1}


@given(dags(), st.data())
@settings(max_examples=40)
def test_paths_among_some_taps_pass_no_other_of_them(dag, data):
    count, edges = dag
    if not edges:
        return
    some = data.draw(st.sets(st.integers(0, count - 1)))
    paths = paths_of(result_of(count, edges), "m").among(f"t{i}" for i in some)
    expected = set()
    for a in some:
        for b in some:
            kept = [(x, y) for x, y in edges if (x not in some or x == a) and (y not in some or y == b)]
            if a != b and closure(count, kept)[a, b]:
                expected.add((a, b))
    assert {(int(a[1:]), int(b[1:])) for a, b in paths.edges} == expected
    assert numbers(paths.order) == some


@given(dags(), st.data())
@settings(max_examples=40)
def test_pieces_hang_together_and_levels_count_taps(dag, data):
    count, edges = dag
    if not edges:
        return
    paths = paths_of(result_of(count, edges), "m")
    some = data.draw(st.sets(st.integers(0, count - 1)))
    inner = [(a, b) for a, b in edges if {a, b} <= some]
    reach = closure(count, [*inner, *((b, a) for a, b in inner)])
    pieces = [numbers(piece) for piece in paths.pieces(f"t{i}" for i in some)]
    expected = {frozenset({i, *np.flatnonzero(reach[i]).tolist()}) for i in some}
    assert set(map(frozenset, pieces)) == expected
    assert [min(piece) for piece in pieces] == sorted(min(piece) for piece in pieces)
    for b in range(count):
        sources = [a for a, target in edges if target == b]
        assert paths.levels[f"t{b}"] == max((paths.levels[f"t{a}"] + 1 for a in sources), default=0)


def test_without_edges_each_tap_feeds_the_next_and_nothing_is_known():
    paths = paths_of(result_of(3, []), "m")
    assert (paths.known, paths.edges) == (False, (("t0", "t1"), ("t1", "t2")))
    assert paths.main == {"t0", "t1", "t2"}
    assert paths.pieces(["t0", "t1"]) == [["t0", "t1"]]
    assert paths.pieces(["t0", "t2"]) == [["t0"], ["t2"]]


def test_the_end_is_the_models_output_where_that_is_tapped():
    edges = [(0, 1), (1, 2), (1, 3)]
    assert paths_of(result_of(4, edges), "m").main == {"t0", "t1", "t3"}
    paths = paths_of(result_of(4, edges, "n2"), "m")
    assert (paths.end, paths.main) == ("t2", {"t0", "t1", "t2"})


def test_a_model_without_taps_has_no_paths():
    paths = paths_of(result_of(0, []), "m")
    assert (paths.order, paths.end, paths.main) == ((), None, frozenset())
    assert paths.among([]).pieces([]) == []
