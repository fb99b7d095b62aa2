"""Corrections for many tests, against statsmodels."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from probekit.statistics.multiple import holm


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_is_statsmodels(p):
    found = holm(p)
    assert found == pytest.approx(list(multipletests(p, method="holm")[1]))
    assert all(own <= adjusted <= 1 for own, adjusted in zip(p, found, strict=True))


def test_no_test_needs_no_correction():
    assert holm([]) == []
    assert holm([0.03]) == [0.03]
