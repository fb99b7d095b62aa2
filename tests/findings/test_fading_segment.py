"""Segments that fade, as the first half of figure 6 of the paper does where its probes are fitted to their optimum."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FADED = [f"fc_{number}" for number in range(1, 7)]
TAPS = ["input", *FADED, "fc_7", "fc_8"]
CHAIN = list(pairwise(TAPS))
SKIP = ("input", "fc_7")
ERRORS = [0.55, 0.6, 0.65, 0.7, 0.7, 0.7]


@pytest.fixture(scope="module")
def network(probe):
    """Return the probes of a network whose first half fades, at given errors."""

    def made(errors=ERRORS, source=0.1, later=0.08, **changes):
        all_errors = dict(zip(TAPS, [source, *errors, later, 0.05], strict=True))
        return [probe(tap, error, **changes) for tap, error in all_errors.items()]

    return made


def test_the_segment_its_source_and_its_skip_are_named(make, network, told, only):
    information = [told(tap, "yes") for tap in TAPS]
    one = only(make(network(), edges=[*CHAIN, SKIP], inputs=["input"], information=information))
    assert one.sentence == (
        "The segment fc_1 to fc_6 (6 taps) loses most of what can be read for digit: fc_6 has 70.0 % of 600 test "
        "examples wrong (95 % interval 66.2 % to 73.5 %, Wilson), while input has 10.0 % of 600 test examples wrong "
        "(95 % interval 7.8 % to 12.7 %, Wilson) and fc_7 has 8.0 % of 600 test examples wrong (95 % interval 6.1 % to "
        "10.4 %, Wilson). It is passed by along input → fc_7, so that what is read later need not come through it."
    )
    assert (one.severity, one.taps, one.reduction) == ("notice", FADED, "pool")
    assert one.evidence["skip"] == ["input", "fc_7"]
    assert one.evidence["kept"] == pytest.approx(0.2 / 0.8)  # of a baseline of 90 %


@pytest.mark.parametrize(("end", "severity"), [(0.81, "notice"), (0.83, "warning")])
def test_less_than_a_tenth_is_a_warning(make, network, told, only, end, severity):
    information = [told(tap, "yes") for tap in TAPS]
    one = only(make(network([*ERRORS[:-1], end]), edges=[*CHAIN, SKIP], information=information))
    assert one.severity == severity


def test_the_run_begins_where_less_than_half_is_left(make, network, only):
    one = only(make(network([0.3, 0.51, 0.6, 0.6, 0.6, 0.6]), edges=[*CHAIN, SKIP]))
    assert one.taps == FADED[1:]


def test_a_short_run_is_the_branch_of_a_block(make, network, finding):
    assert finding(make(network([0.3, 0.3, 0.6, 0.6, 0.6, 0.6]), edges=[*CHAIN, SKIP])) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"errors": [0.2, 0.3, 0.4, 0.45, 0.48, 0.49]},  # more than half is left
        {"errors": [*ERRORS[:-1], 0.4]},  # the end has it again
        {"errors": [0.9] * 6},  # nothing is left: dead
        {"later": 0.6},  # what follows has lost it too
        {"source": 0.9},  # there was nothing to lose
        {"source": 0.89, "errors": [0.895] * 6, "later": 0.5},
    ],
)
def test_what_is_no_fading_segment(make, network, finding, changes):
    assert finding(make(network(**changes), edges=[*CHAIN, SKIP])) == []


def test_without_a_skip_or_a_graph_nothing_is_said(make, network, finding):
    assert finding(make(network(), edges=CHAIN)) == []
    assert finding(make(network())) == []


def test_a_skip_from_the_middle_of_the_way_is_its_own_source(make, network, only):
    one = only(make(network([0.1, *ERRORS[1:]]), edges=[*CHAIN, ("fc_1", "fc_7")]))
    assert (one.evidence["skip"], one.taps) == (["fc_1", "fc_7"], FADED[1:])
    # Of several sources, the one that reads best on valid.
    both = only(make(network([0.2, *ERRORS[1:]]), edges=[*CHAIN, SKIP, ("fc_1", "fc_7")]))
    assert both.evidence["skip"] == ["input", "fc_7"]


def test_an_end_that_is_told_dead_is_left_to_the_other_finding(make, network, told, finding):
    edges = [*CHAIN, SKIP]
    assert finding(make(network(), edges=edges, information=[told("fc_6", "no")])) == []
    assert finding(make(network(), edges=edges, information=[told("fc_6", "cannot_tell")]))


def test_missed_probes_are_not_named(make, probe, finding):
    errors = dict(zip(TAPS, [0.1, *ERRORS, 0.08, 0.05], strict=True))
    for gone, some in (("fc_6", False), ("input", False), ("fc_7", False), ("fc_3", True)):
        missed = {gone: "missed"}
        probes = [probe(tap, error, status=missed.get(tap, "proven")) for tap, error in errors.items()]
        found = finding(make(probes, edges=[*CHAIN, SKIP]))
        assert not any(gone in one.taps for one in found)
        assert bool(found) == some


def test_numbers(make, number, only):
    values = dict(zip(TAPS, [0.8, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.8, 0.9], strict=True))
    probes = [number(tap, value) for tap, value in values.items()]
    one = only(make(probes, edges=[*CHAIN, SKIP]))
    assert one.taps == FADED
    assert "fc_6 has R² 0.300 (" in one.sentence
    assert one.evidence["kept"] == pytest.approx(0.31 / 0.81)  # of a baseline of -0.01


@given(errors=st.lists(st.floats(0, 0.35), min_size=6, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_network_that_reads_well_everywhere_has_none(make, network, finding, errors):
    assert finding(make(network(errors), edges=[*CHAIN, SKIP])) == []


def test_odd_names(make, probe, only, odd):
    taps = ["a", odd, "b", "c", "d", "e", "f"]
    probes = [probe(tap, error) for tap, error in zip(taps, [0.1, 0.6, 0.6, 0.6, 0.6, 0.6, 0.1], strict=True)]
    one = only(make(probes, edges=[*pairwise(taps), ("a", "f")]))
    assert one.taps == taps[1:-1]
    assert one.sentence.isprintable()
