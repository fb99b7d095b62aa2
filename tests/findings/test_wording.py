"""Words and numbers of sentences."""

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.findings import wording
from probekit.findings.wording import LONGEST, interval_text, listing, named, points, run_of, sentence, shown
from probekit.results import IntervalRecord


def test_the_examples_are_true():
    assert doctest.testmod(wording).failed == 0


@given(st.text())
def test_a_name_is_printable_and_short(text):
    name = named(text)
    assert name.isprintable()
    assert len(name) <= LONGEST
    if text.isprintable() and len(text) <= LONGEST:
        assert name == text


def test_a_long_name_keeps_both_ends():
    name = named("begin" + "x" * 500 + "end")
    assert name.startswith("begin")
    assert name.endswith("end")
    assert "…" in name


@given(st.lists(st.text(min_size=1), min_size=1), st.integers(1, 5))
@settings(max_examples=50)
def test_an_enumeration_names_the_first_and_counts_the_others(texts, most):
    text = listing(texts, most)
    assert text.startswith(texts[0])
    assert text.endswith(f"{len(texts) - most} more") == (len(texts) > most) or texts[-1].endswith(" more")


@given(st.floats(-1, 1), st.sampled_from(["error", "r2"]))
def test_numbers_never_show_a_minus_zero(value, metric):
    for text in (shown(value, metric), points(value, metric)):
        assert float(text.split()[0]) != 0 or not text.startswith("-")


@pytest.mark.parametrize(("value", "text"), [(-1234.5, "-1.23e+03"), (0.98765, "0.988"), (-0.25, "-0.250")])
def test_r2_has_three_decimals_or_digits(value, text):
    assert shown(value, "r2") == text


def test_a_run_of_taps_is_told_by_its_ends():
    assert run_of([f"fc_{number}" for number in range(1, 1001)]) == "fc_1 to fc_1000 (1,000 taps)"


def test_an_unknown_kind_of_interval_is_told_by_its_own_name():
    interval = IntervalRecord(low=0.1, high=0.2, kind="my_kind", over="examples", n=5)
    assert interval_text(interval, "error", 7) == "95 % interval 10.0 % to 20.0 %, my kind over 5 examples"


def test_a_sentence_begins_with_whose_it_is():
    assert sentence("model int8, probe paper", "τ is 1.") == "Model int8, probe paper: τ is 1."
    assert sentence("", "") == ""
