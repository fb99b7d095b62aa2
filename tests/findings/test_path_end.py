"""Probes whose best λ is the last of its path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.probes.linear import LinearProbe
from probekit.results import PathPointRecord
from probekit.spec.yaml_loader import parse_value


def path_of(*penalties):
    facts = {"objective": 1.0, "gap": 0.0, "status": "proven", "valid_loss": 0.5, "valid_error": 0.1}
    return [PathPointRecord(penalty=penalty, **facts) for penalty in penalties]


def typed(one):
    """Return the λ of a probe with what the sentence says to type."""
    text = one.sentence.split("give the probe penalty: ")[1].removesuffix(".")
    penalties = LinearProbe(penalty=parse_value(text)).penalty
    assert penalties == sorted(penalties, reverse=True)
    return penalties


def test_the_taps_are_named_with_their_penalties(make, probe, fit, only):
    ends = {"fit": fit(end="smallest", grown=4)}
    probes = [probe(tap, 0.1, penalty=1e-5, **ends) for tap in "abcd"] + [probe("e", 0.1, fit=fit())]
    one = only(make(probes))
    assert one.sentence == (
        "The best λ for digit is the smallest of its path at 4 taps, a (λ = 1e-05), b (λ = 1e-05), c (λ = 1e-05) and 1 "
        "more; a better one may lie beyond: give the probe penalty: [0.01, 1e-05, 1e-06, 1e-07]."
    )
    assert (one.severity, one.taps) == ("notice", list("abcd"))
    assert one.evidence["probes"][0] == {"tap": "a", "reduction": "pool", "penalty": 1e-5, "grown": 4}


def test_the_largest_is_a_notice_only_where_something_was_learned(make, probe, fit, only):
    one = only(make([probe("a", 0.1, penalty=10.0, fit=fit(end="largest"))]))
    assert one.sentence == (
        "The best λ for digit is the largest of its path at 1 tap, a (λ = 10); a better one may lie beyond: give the "
        "probe penalty: [1000, 100, 10]."
    )
    assert one.severity == "notice"
    one = only(make([probe("a", 0.95, penalty=10.0, fit=fit(end="largest"))]))
    assert one.sentence.endswith("at 1 tap, a (λ = 10), where nothing is learnt.")
    assert one.severity == "info"


def test_what_to_type_goes_on_from_the_outermost_penalty(make, probe, fit, only):
    ends = {"fit": fit(end="smallest")}
    one = only(make([probe("a", 0.1, penalty=1e-3, **ends), probe("b", 0.1, penalty=1e-5, **ends)]))
    assert one.sentence.endswith("give the probe penalty: [0.001, 1e-05, 1e-06, 1e-07].")


@given(st.lists(st.floats(1e-10, 1e10), min_size=1, max_size=6, unique=True), st.sampled_from(["smallest", "largest"]))
def test_no_probe_loses_its_own_penalty_and_two_lie_beyond(make, probe, fit, finding, tried, end):
    tried = [float(f"{penalty:.12g}") for penalty in tried]
    ended = fit(end=end).model_copy(update={"path": path_of(*tried)})
    last = min(tried) if end == "smallest" else max(tried)
    inside = fit().model_copy(update={"path": path_of(*tried[:2])})
    probes = [
        probe("a", 0.1, penalty=last, fit=ended), probe("b", 0.1, penalty=tried[0], fit=inside),
        probe("c", 0.1, penalty=3e-7, factor="other"), probe("d", 0.1, penalty=5e-5, control="shuffled_labels"),
    ]  # fmt: skip
    (one,) = finding(make(probes))
    found, every = typed(one), {*tried, 3e-7, 5e-5}
    assert one.evidence["penalty"] == found
    assert every < set(found)
    most = min(every) if end == "smallest" else max(every)
    beyond = [most * factor for factor in ((0.1, 0.01) if end == "smallest" else (10, 100))]
    assert sorted(set(found) - every) == pytest.approx(sorted(beyond))


def test_one_list_serves_both_ends(make, probe, fit, finding):
    probes = [
        probe("a", 0.1, penalty=1e-5, fit=fit(end="smallest")), probe("b", 0.1, penalty=1.0, fit=fit(end="largest")),
        probe("c", 0.1, penalty=1e5, probe="another"), probe("d", 0.1, penalty=1e5, fit=fit(end="largest"), factor="x"),
    ]  # fmt: skip
    made = make(probes)
    one, other, more = finding(made)
    assert typed(one) == typed(other) == typed(more) == [1e7, 1e6, 1e5, 1.0, 1e-5, 1e-6, 1e-7]
    worse = make([one if one.tap != "d" else probe("d", 0.95, fit=fit(end="largest"), factor="x") for one in probes])
    assert typed(finding(worse)[0]) == [100.0, 10.0, 1.0, 0.01, 1e-5, 1e-6, 1e-7]


@pytest.mark.parametrize(("penalty", "end"), [(1e-12, "smallest"), (1e12, "largest")])
def test_beyond_what_a_spec_may_name_nothing_is_to_be_typed(make, probe, fit, only, penalty, end):
    assert only(make([probe("a", 0.1, penalty=penalty, fit=fit(end=end))])).sentence.endswith("may lie beyond.")


def test_both_ends_are_told_apart(make, probe, fit, finding):
    probes = [probe("a", 0.1, fit=fit(end="smallest")), probe("b", 0.1, fit=fit(end="largest"))]
    assert [(one.evidence["end"], one.taps) for one in finding(make(probes))] == [
        ("smallest", ["a"]),
        ("largest", ["b"]),
    ]


def test_of_labels_the_outermost_penalty_is_told(make, tags, fit, only):
    one = only(make([tags("a", 0.1, penalty=None, fit=fit(end="smallest", label_penalties=[0.1, 0.001]))]))
    assert "a (λ = 0.001)" in one.sentence
    one = only(make([tags("a", 0.1, penalty=None, fit=fit(end="largest", label_penalties=[0.1, 0.001]))]))
    assert "a (λ = 0.1)" in one.sentence
    assert "at 1 tap, a;" in only(make([tags("a", 0.1, penalty=None, fit=fit(end="largest"))])).sentence


def test_missed_probes_and_those_within_their_path_say_nothing(make, probe, fit, finding):
    assert finding(make([probe("a", 0.1, status="missed", fit=fit(end="smallest"))])) == []
    assert finding(make([probe("a", 0.1), probe("b", 0.1, fit=fit())])) == []
    assert finding(make([])) == []


def test_odd_names(make, probe, fit, only, odd):
    one = only(make([probe(odd, 0.1, factor=odd, fit=fit(end="smallest"))]))
    assert one.taps == [odd]
    assert one.sentence.isprintable()
