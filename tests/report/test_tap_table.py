"""The table of all taps: what its step column says."""

import pytest

from probekit.report.page import tables
from probekit.report.parts import Evidence
from probekit.report.tap_table import grid
from probekit.results import PairedRecord


def step(before, origin, after, reduction, difference, metric="error", p=0.2):
    return PairedRecord(
        model="default", checkpoint=None, reduction=reduction, factor="snr" if metric == "r2" else "digit",
        probe="default", control=None, seed=0, before=before, before_reduction=origin, after=after, metric=metric,
        difference=difference, interval=None, test="paired_bootstrap", p=p, p_adjusted=p, only_before_wrong=None,
        only_after_wrong=None, n=10,
    )  # fmt: skip


def column(result, head="step"):
    """Return a column of a result's only table, and its notes."""
    (table,) = tables(result)
    made = grid(result, table, Evidence(result))
    place = [one.head for one in made.columns].index(head)
    return [line.texts[place] for _, _, lines in made.blocks for line in lines], " ".join(made.notes)


@pytest.mark.parametrize(
    ("difference", "text"), [(0.1234, "+0.123*"), (-0.0496, "-0.050*"), (4e-4, "0.000*"), (-4e-4, "0.000*")]
)
def test_steps_of_numbers_are_told_in_r2(make, number, difference, text):
    result = make([number("a", 0.2), number("b", 0.6)])
    steps = [step("a", "pool", "b", "pool", difference, "r2", 0.01)]
    told, notes = column(result.model_copy(update={"comparisons": steps}))
    assert told == ["", text]
    assert "on the same rows, in R², by" in notes


def test_a_vector_has_a_step_from_each_reduction_and_says_which(make, probe):
    probes = [
        probe("a", 0.5), probe("a", 0.4, reduction="flatten"), probe("b", 0.2, reduction="flatten", vector=True),
        probe("c", 0.1, reduction="flatten", vector=True),
    ]  # fmt: skip
    steps = [
        step("a", "pool", "b", "flatten", -0.3, p=0.01), step("a", "flatten", "b", "flatten", -0.2),
        step("b", "flatten", "c", "flatten", 2e-4),
    ]  # fmt: skip
    told, notes = column(make(probes).model_copy(update={"comparisons": steps}))
    assert told == ["", "", "-30.0*\u00a0(pool), -20.0\u00a0(flatten)", "0.0"]
    assert notes.count("; in brackets its reduction.") == 1
    assert "in brackets" not in column(make(probes[2:]).model_copy(update={"comparisons": steps[2:]}))[1]


def test_two_taps_that_feed_one_need_no_brackets(make, probe):
    steps = [step(before, "pool", "c", "pool", 0.01) for before in "ab"]
    told, _ = column(make([probe(tap, 0.5) for tap in "abc"]).model_copy(update={"comparisons": steps}))
    assert told == ["", "", "+1.0, +1.0"]
