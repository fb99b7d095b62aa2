"""Differences in closed form, and against NumPy on whole matrices."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from probekit.parity import distance
from probekit.parity.distance import DistanceMeter

FLOATS = st.floats(-1e3, 1e3, width=32)


def measured(reference, other, parts=1):
    meter = DistanceMeter(len(reference), reference.shape[1])
    for a, b in zip(np.array_split(reference, parts), np.array_split(other, parts), strict=True):
        meter.add(a, b)
    assert meter.rows == len(reference)
    return meter.distance()


def test_one_entry_that_is_off():
    reference = np.full((4, 5), 2.0, np.float32)
    other = reference.copy()
    other[2, 3] += 0.5
    found = measured(reference, other, parts=3)
    assert found.scale == 2
    assert found.largest == 0.25
    assert found.median == 0
    assert found.place == (2, 3)
    assert found.cosine == pytest.approx((19 * 4 + 2 * 2.5) / math.sqrt(80 * (19 * 4 + 2.5**2)))


def test_a_change_of_scale_and_of_sign():
    reference = np.random.default_rng(0).standard_normal((30, 4))
    doubled = measured(reference, 2 * reference)
    assert doubled.cosine == pytest.approx(1)
    assert doubled.largest == pytest.approx(np.abs(reference).max() / np.sqrt(np.mean(reference**2)))
    assert measured(reference, -reference).cosine == pytest.approx(-1)


def test_an_entry_near_zero_is_no_large_difference():
    reference = np.array([[1.0, 1e-12]])
    assert measured(reference, reference + 1e-9).largest == pytest.approx(1e-9 * math.sqrt(2), rel=1e-6)


def test_nothing_but_zeros():
    zeros = np.zeros((3, 2))
    same, apart = measured(zeros, zeros), measured(zeros, zeros + 1e-9)
    assert (same.largest, same.cosine, same.place) == (0, 1, None)
    assert apart.largest == math.inf
    assert math.isnan(apart.cosine)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_the_same_only_as_itself(value):
    reference = np.ones((2, 3))
    reference[1, 1] = value
    same = measured(reference, reference)
    assert (same.largest, same.scale, same.cosine) == (0, 1, 1)
    apart = measured(reference, np.ones((2, 3)))
    assert (apart.largest, apart.place) == (math.inf, (1, 1))
    assert measured(np.ones((2, 3)), reference).largest == math.inf
    assert measured(reference, -reference).largest == (2 if math.isnan(value) else math.inf)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 7), st.just(2)), elements=FLOATS), st.data())
def test_batches_give_what_the_whole_matrices_give(both, data):
    a, b = both[..., 0].astype(np.float64), both[..., 1].astype(np.float64)
    found = measured(both[..., 0], both[..., 1], data.draw(st.integers(1, 4)))
    scale, apart = np.sqrt(np.mean(a**2)), np.abs(a - b)
    assert found.scale == pytest.approx(scale, rel=1e-12)
    if scale:
        assert found.largest == pytest.approx(apart.max() / scale, rel=1e-9)
        assert found.median == pytest.approx(np.median(apart) / scale, rel=1e-5)
    if scale and b.any():
        assert found.cosine == pytest.approx(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)
    assert (found.place is None) == (not apart.any())
    if found.place is not None:
        assert apart[found.place] == apart.max()


def test_the_median_of_many_features_is_that_of_some_that_are_drawn(monkeypatch):
    monkeypatch.setattr(distance, "MOST_SAMPLED", 400)
    apart = np.random.default_rng(1).random((20, 1000))
    meters = [DistanceMeter(20, 1000, seed) for seed in (0, 0, 1)]
    for meter in meters:
        meter.add(np.ones((20, 1000)), 1 + apart)
    first, again, other = (meter.distance() for meter in meters)
    assert first == again
    assert first.median != other.median
    assert first.median == pytest.approx(0.5, abs=0.1)
    assert first.largest == apart.max() == other.largest
