"""Dead segments, as in figure 6 of the paper: a skip connection that has made a part of a network useless."""

from itertools import pairwise

import pytest

DEAD = [f"fc_{number}" for number in range(1, 6)]
TAPS = ["input", *DEAD, "fc_6", "fc_7"]
CHAIN = list(pairwise(TAPS))
SKIP = ("input", "fc_6")


@pytest.fixture
def network(probe):
    """Return the probes of a network of which a part is dead."""

    def made(at_chance=0.9, **changes):
        errors = {"input": 0.4, **dict.fromkeys(DEAD, at_chance), "fc_6": 0.12, "fc_7": 0.1}
        return [probe(tap, error, **changes) for tap, error in errors.items()]

    return made


def test_the_segment_and_its_skip_are_named(make, network, told, only):
    information = [told(tap, "no") for tap in DEAD]
    one = only(make(network(), edges=[*CHAIN, SKIP], inputs=["input"], information=information))
    assert one.sentence == (
        "Dead segment for digit, fc_1 to fc_5 (5 taps): no better (error 90.0 %) than always saying the commonest "
        "class (90.0 %), while fc_6 has 12.0 % of 600 test examples wrong (95 % interval 9.6 % to 14.8 %, Wilson). It "
        "is passed by along input → fc_6."
    )
    assert (one.severity, one.taps, one.reduction) == ("warning", DEAD, "pool")
    assert one.evidence["dead"] is True
    assert one.evidence["skips"] == [["input", "fc_6"]]
    assert one.evidence["reasons"] == dict.fromkeys(DEAD, "information")
    assert one.evidence["later"]["tap"] == "fc_6"


def test_a_segment_of_vectors_is_told_once_and_of_no_reduction(make, network, probe, only):
    probes = [probe(one.tap, one.error["test"], reduction="flatten", vector=True) for one in network()[1:]]
    probes = [probe("input", 0.4, reduction=name) for name in ("pool", "flatten")] + probes
    one = only(make(probes, edges=[*CHAIN, SKIP]))
    assert one.sentence.startswith("Dead segment for digit, fc_1 to fc_5")


def test_what_leads_only_into_a_segment_is_told(make, probe, told, only):
    errors = {"input": 0.4, "fc_1": 0.5, "fc_2": 0.7, "fc_3": 0.9, "fc_4": 0.9, "fc_5": 0.3}
    taps = list(errors)
    information = [told(tap, "no") for tap in ("fc_3", "fc_4")]
    edges = [*pairwise(taps), ("input", "fc_5")]
    probes = [probe(tap, error) for tap, error in errors.items()]
    one = only(make(probes, edges=edges, inputs=["input"], information=information))
    assert one.taps == ["fc_3", "fc_4"]
    assert one.evidence["leading"] == ["fc_1", "fc_2"]
    assert one.sentence.endswith(
        "It is passed by along input → fc_5. What can be read at fc_1 and fc_2 leads only into it."
    )
    beside = only(make(probes, edges=[*edges, ("fc_1", "fc_5")], inputs=["input"], information=information))
    assert beside.evidence["leading"] == ["fc_2"]
    assert sorted(beside.evidence["skips"]) == [["fc_1", "fc_5"], ["input", "fc_5"]]


def test_a_tap_of_which_nothing_is_known_does_not_cut_a_segment(make, probe, told, only):
    # One fit missed its certificate; one error is better than chance by its own interval, and by nothing else.
    errors = {"input": 0.4, "fc_1": 0.9, "fc_2": 0.5, "fc_3": 0.9, "fc_4": 0.86, "fc_5": 0.9, "fc_6": 0.1}
    missed = {"fc_2": "missed"}
    probes = [probe(tap, error, status=missed.get(tap, "proven")) for tap, error in errors.items()]
    information = [*(told(tap, "no") for tap in ("fc_1", "fc_3", "fc_5")), told("fc_4", "cannot_tell")]
    edges = [*pairwise(errors), ("input", "fc_6")]
    one = only(make(probes, edges=edges, inputs=["input"], information=information))
    assert one.taps == ["fc_1", "fc_3", "fc_5"]
    assert one.evidence["between"] == ["fc_2", "fc_4"]
    assert one.evidence["skips"] == [["input", "fc_6"]]
    assert one.evidence["later"]["tap"] == "fc_6"


def test_a_tap_of_which_nothing_is_known_is_no_segment_and_ends_none(make, probe, told, finding):
    errors = {"input": 0.4, "fc_1": 0.86, "fc_2": 0.9, "fc_3": 0.86, "fc_4": 0.1}
    probes = [probe(tap, error) for tap, error in errors.items()]
    information = [told(tap, "cannot_tell") for tap in ("fc_1", "fc_3")]
    edges = [*pairwise(errors), ("input", "fc_4")]
    (one,) = finding(make(probes, edges=edges, inputs=["input"], information=information))
    assert (one.taps, one.evidence["between"], one.evidence["leading"]) == (["fc_2"], [], ["fc_1"])
    alive = [*information, told("fc_2", "yes")]
    assert finding(make(probes, edges=edges, inputs=["input"], information=alive)) == []


def test_an_error_at_chance_alone_is_a_notice(make, network, told, only):
    one = only(make(network(), edges=[*CHAIN, SKIP]))
    assert (one.severity, set(one.evidence["reasons"].values())) == ("notice", {"error"})
    information = [told(tap, "cannot_tell") for tap in DEAD]
    assert only(make(network(), edges=[*CHAIN, SKIP], information=information)).severity == "notice"
    information = [told(tap, "no") for tap in DEAD[:3]]
    assert only(make(network(), edges=[*CHAIN, SKIP], information=information)).severity == "warning"


@pytest.mark.parametrize(("at_chance", "found"), [(0.92, True), (0.88, True), (0.86, False), (0.5, False)])
def test_chance_is_to_be_within_the_interval(make, network, finding, at_chance, found):
    assert bool(finding(make(network(at_chance), edges=[*CHAIN, SKIP]))) == found


def test_where_there_is_information_a_tap_is_alive(make, network, told, finding):
    assert finding(make(network(), edges=[*CHAIN, SKIP], information=[told(tap, "yes") for tap in DEAD])) == []
    (one, two) = finding(make(network(), edges=[*CHAIN, SKIP], information=[told("fc_3", "yes")]))
    assert (one.taps, two.taps) == (["fc_1", "fc_2"], ["fc_4", "fc_5"])
    assert one.evidence["later"]["tap"] == "fc_3"


def test_features_that_do_not_vary_are_dead(make, probe, only):
    probes = [probe("a", 0.4), probe("b", 0.9, features_constant=True), probe("c", 0.1)]
    one = only(make(probes, edges=[("a", "b"), ("b", "c"), ("a", "c")]))
    assert one.sentence.startswith("Dead segment for digit, b: its features do not vary, while c has 10.0 % of ")
    assert (one.severity, one.evidence["reasons"]) == ("warning", {"b": "constant"})


def test_without_a_way_past_it_it_is_not_dead(make, network, told, only):
    one = only(make(network(), edges=CHAIN, information=[told(tap, "no") for tap in DEAD]))
    assert one.severity == "notice"
    assert one.sentence.startswith("Nothing can be read for digit at fc_1 to fc_5 (5 taps): no better ")
    assert "No tapped path passes it by" in one.sentence
    assert (one.evidence["dead"], one.evidence["skips"]) == (False, [])


def test_without_a_graph_no_skip_is_named(make, network, only):
    one = only(make(network()))
    assert one.sentence.endswith("The graph is not known, so neither is what skips it.")
    assert (one.severity, one.evidence["dead"]) == ("notice", None)


def test_a_dead_branch_of_a_block_is_found_beside_its_living_twin(make, probe, told, only):
    probes = [probe("in", 0.5), probe("left", 0.9), probe("right", 0.4), probe("sum", 0.3)]
    edges = [("in", "left"), ("in", "right"), ("left", "sum"), ("right", "sum"), ("in", "sum")]
    one = only(make(probes, edges=edges, information=[told("left", "no")]))
    assert one.taps == ["left"]
    assert one.evidence["skips"] == [["in", "sum"], ["right", "sum"]]


def test_an_input_that_cannot_be_read_is_no_segment(make, probe, told, finding):
    probes = [probe("x", 0.9), probe("a", 0.4)]
    assert finding(make(probes, edges=[("x", "a")], inputs=["x"], information=[told("x", "no")])) == []


def test_a_tail_or_side_branch_at_chance_is_no_segment(make, probe, finding):
    probes = [probe("a", 0.4), probe("b", 0.9), probe("c", 0.9)]
    assert finding(make(probes, edges=[("a", "b"), ("b", "c")])) == []
    probes = [probe("a", 0.4), probe("aux", 0.9), probe("c", 0.2)]
    assert finding(make(probes, edges=[("a", "aux"), ("a", "c")])) == []


def test_a_later_tap_is_to_be_surely_better(make, probe, finding):
    edges = [("a", "b"), ("b", "c"), ("a", "c")]
    assert finding(make([probe("a", 0.9), probe("b", 0.9), probe("c", 0.89)], edges=edges)) == []


def test_numbers_and_missed_probes(make, number, only):
    probes = [number("a", 0.5), number("b", 0.01), number("gone", 0.0, status="missed"), number("c", 0.8)]
    one = only(make(probes, edges=[("a", "b"), ("b", "gone"), ("gone", "c"), ("a", "c")]))
    assert one.taps == ["b"]
    assert "b: no better (R² 0.010) than always saying the mean (-0.010), while c has R² 0.800 (" in one.sentence


def test_each_reduction_has_its_own(make, network, finding):
    probes = [*network(), *network(reduction="flatten"), *network(at_chance=0.3, factor="parity")]
    found = finding(make(probes, edges=[*CHAIN, SKIP]))
    assert [one.reduction for one in found] == ["pool", "flatten"]
    assert found[0].sentence.startswith("Dead segment for digit under pool, fc_1 to fc_5 (5 taps): ")


def test_nothing_is_said_of_one_tap_of_none_or_without_intervals(make, probe, number, finding):
    assert finding(make([])) == []
    assert finding(make([probe("a", 0.9)])) == []
    bare = [number("a", 0.5, intervals={}), number("b", 0.0, intervals={}), number("c", 0.5, intervals={})]
    assert finding(make(bare)) == []


def test_odd_names(make, probe, only, odd):
    probes = [probe("a", 0.4, factor=odd), probe(odd, 0.9, factor=odd), probe("c", 0.1, factor=odd)]
    one = only(make(probes, edges=[("a", odd), (odd, "c"), ("a", "c")]))
    assert one.taps == [odd]
    assert one.sentence.isprintable()
