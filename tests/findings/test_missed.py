"""Probes that are not proven to be at their optimum."""

from probekit.results import CertificateRecord


def missed(probe, tap, gap=1e-5, of_chance=5e-6, **changes):
    record = CertificateRecord(status="missed", gap=gap, of_chance=of_chance, of_objective=None)
    return probe(tap, 0.5, certificate=record, **changes)


def test_the_worst_is_told_with_its_bound_and_reason(make, probe, fit, only):
    probes = [
        probe("a", 0.1), missed(probe, "b"),
        missed(probe, "c", 3.2e-3, 1.4e-3, fit=fit(reason="the budget of 1000 passes is spent at λ = 1e-05")),
    ]  # fmt: skip
    one = only(make(probes))
    assert one.sentence == (
        "2 of 3 probes for digit are not proven to be at their optimum and are not ranked: c, the worst (bound 3.2e-03 "
        "nats, 0.14 % of what chance loses); the budget of 1000 passes is spent at λ = 1e-05."
    )
    assert (one.severity, one.taps) == ("warning", ["b", "c"])
    assert (one.evidence["probes"], one.evidence["missed"], one.evidence["worst"]["gap"]) == (3, 2, 3.2e-3)


def test_all_of_them_are_a_problem(make, probe, only):
    one = only(make([missed(probe, "a", None, None)]))
    assert one.severity == "problem"
    assert one.sentence == "The probe for digit is not proven to be at its optimum and is not ranked: a."


def test_a_number_is_bound_by_its_variance(make, number, only):
    one = only(make([missed(number, "a"), number("b", 0.5)]))
    assert one.sentence.startswith(
        "1 of 2 probes for snr is not proven to be at its optimum and is not ranked: a (bound "
    )
    assert "1.0e-05 of the variance" in one.sentence


def test_those_of_controls_are_told_apart(make, probe, finding):
    probes = [probe("a", 0.1), missed(probe, "a", control="shuffled_labels"), missed(probe, "b")]
    truth, control = finding(make(probes))
    assert (truth.severity, truth.taps, control.severity, control.taps) == ("warning", ["b"], "notice", ["a"])
    assert "The probe for digit under the control shuffled_labels is not proven" in control.sentence


def test_nothing_is_said_where_all_are_proven_or_none_can_be(make, probe, finding):
    assert finding(make([probe("a", 0.1), probe("b", 0.1, status="not_applicable")])) == []
    assert finding(make([])) == []


def test_odd_names_and_reasons(make, probe, fit, only, odd):
    one = only(make([missed(probe, odd, factor=odd, fit=fit(reason=odd))]))
    assert one.taps == [odd]
    assert one.sentence.isprintable()
