"""A branch that does not lead to the model's output, beside the main one."""

import pytest

EDGES = [("in", "a"), ("a", "b"), ("b", "c"), ("c", "out"), ("a", "x"), ("x", "aux")]
"""in → a → b → c → out, and a → x → aux: aux is as deep as c."""


@pytest.fixture
def network(probe):
    """Return the probes of a network with an auxiliary head, from the errors of the head and of two taps beside it."""

    def made(aux, c, out, **changes):
        errors = {"in": 0.8, "a": 0.5, "b": 0.4, "x": 0.45, "aux": aux, "c": c, "out": out}
        return [probe(tap, error, **changes) for tap, error in errors.items()]

    return made


def test_a_head_ahead_of_the_end_is_a_warning(make, network, only):
    one = only(make(network(0.1, 0.3, 0.2), edges=EDGES))
    assert one.severity == "warning"
    assert one.sentence.startswith(
        "The branch that leaves the main one after a and ends at aux is ahead of it at the same depth for digit: "
        "10.0 % at aux, 30.0 % at c (difference 20.0 points, 95 % interval "
    )
    assert "unpaired); it is even ahead of out, by 10.0 points (95 % interval" in one.sentence
    assert (one.taps, one.evidence["fork"], one.evidence["branch"]) == (["aux", "c"], "a", ["x", "aux"])


def test_both_comparisons_are_made_on_the_same_rows(make, network, contrast, only):
    known = [contrast("aux", "c", -0.2), contrast("aux", "out", -0.1, p=0.0001)]
    one = only(make(network(0.1, 0.3, 0.2), edges=EDGES, contrasts=known))
    told = "10.0 points (95 % interval 9.5 to 10.5 points, paired; p < 0.001 by McNemar's exact test)."
    assert one.sentence.endswith(f"it is even ahead of out, by {told}")
    assert one.evidence["ahead"]["p"] == 0.004


def test_a_head_ahead_at_its_depth_only_is_a_notice(make, network, only):
    one = only(make(network(0.2, 0.3, 0.1), edges=EDGES))
    assert one.severity == "notice"
    assert "is ahead of it" in one.sentence
    assert "even" not in one.sentence
    assert one.evidence["ahead_of_end"]["value"] == pytest.approx(-0.1)


@pytest.mark.parametrize(("aux", "how"), [(0.5, "behind it"), (0.3, "not clearly ahead of or behind it")])
def test_a_head_that_is_not_ahead_is_a_fact(make, network, only, aux, how):
    one = only(make(network(aux, 0.31, 0.1), edges=EDGES))
    assert one.severity == "info"
    assert f"is {how} at the same depth" in one.sentence
    assert f"(difference {100 * abs(aux - 0.31):.1f} points" in one.sentence


def test_a_deeper_head_is_compared_with_the_end(make, network, probe, only):
    probes = [*network(0.1, 0.3, 0.2), probe("deep", 0.1), probe("deeper", 0.1)]
    taps = ["in", "a", "b", "x", "aux", "deep", "deeper", "c", "out"]
    one = only(make(probes, edges=[*EDGES, ("aux", "deep"), ("deep", "deeper")], taps=taps))
    assert one.taps == ["deeper", "out"]
    assert one.severity == "warning"
    assert "ahead_of_end" not in one.evidence


def test_the_models_own_output_says_which_branch_is_the_main_one(make, network, own, only):
    one = only(make(network(0.1, 0.3, 0.2), edges=EDGES, own=[own(0.1, output="tensor of aux")]))
    assert one.evidence["branch"] == ["b", "c", "out"]
    assert one.sentence.startswith("The branch that leaves the main one after a and ends at out is behind it ")


def test_each_branch_is_told(make, probe, finding):
    probes = [probe(tap, 0.3) for tap in ("in", "one", "two", "out")]
    edges = [("in", "one"), ("in", "two"), ("in", "out")]
    assert [one.evidence["branch"] for one in finding(make(probes, edges=edges))] == [["one"], ["two"]]


def test_a_head_without_a_ranked_probe_gives_way_to_the_tap_before_it(make, network, only):
    probes = [p for p in network(0.1, 0.3, 0.2) if p.tap != "aux"]
    one = only(make(probes, edges=EDGES, taps=["in", "a", "b", "x", "aux", "c", "out"]))
    assert one.taps == ["b", "x"]
    assert "ends at aux" in one.sentence


def test_numbers(make, number, only):
    probes = [number("in", 0.1), number("aux", 0.6), number("out", 0.4)]
    one = only(make(probes, edges=[("in", "aux"), ("in", "out")]))
    assert "is ahead of it at the same depth for snr: 0.600 at aux, 0.400 at out (difference 0.200, " in one.sentence


def test_without_edges_or_branches_nothing_is_said(make, probe, network, finding):
    assert finding(make([])) == []
    assert finding(make([probe("a", 0.1)])) == []
    assert finding(make(network(0.1, 0.3, 0.2))) == []
    assert finding(make([probe("a", 0.1), probe("b", 0.1)], edges=[("a", "b")])) == []


def test_a_tap_that_nothing_feeds_is_no_branch(make, probe, finding):
    probes = [probe(tap, 0.3) for tap in ("in", "alone", "out")]
    assert finding(make(probes, edges=[("in", "out")])) == []


def test_missed_probes_have_no_part(make, network, finding):
    assert finding(make(network(0.1, 0.3, 0.2, status="missed"), edges=EDGES)) == []


def test_odd_names(make, probe, only, odd):
    probes = [probe(tap, 0.3, factor=odd) for tap in ("in", odd, "out")]
    one = only(make(probes, edges=[("in", odd), ("in", "out")]))
    assert one.taps == [odd, "out"]
    assert one.sentence.isprintable()
