"""Standardised features against scikit-learn's in float64."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from probekit.components import ArrayMatrix
from probekit.probes import standardise
from probekit.probes.standardise import Standardiser, block_rows, rows_at_once


class Noted(ArrayMatrix):
    """Notes how many rows are read."""

    def __init__(self, array):
        super().__init__(array)
        self.reads = []

    def read(self, rows):
        self.reads.append(len(rows))
        return super().read(rows)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 700), features=st.integers(1, 5),
    spread=st.sampled_from([1e-30, 1e-3, 1.0, 1e15, 1e30]), offset=st.sampled_from([0.0, 1.0, -300.0]),
)  # fmt: skip
def test_features_become_those_of_scikit_learn(seed, rows, features, spread, offset):
    rng = np.random.default_rng(seed)
    X = (spread * (rng.standard_normal((rows, features)) + offset)).astype(np.float32)
    train = np.sort(rng.permutation(rows)[: max(2, rows // 2)])
    scale = Standardiser(ArrayMatrix(X), train)
    wide = X.astype(np.float64) / spread  # which scikit-learn would take for constant
    model = StandardScaler().fit(wide[train])
    np.testing.assert_allclose(scale(X), model.transform(wide), rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(scale.mean / spread, model.mean_, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 99), spread=st.sampled_from([1e-20, 1.0, 1e20]))
def test_weights_are_folded_into_the_features_own_units(seed, spread):
    rng = np.random.default_rng(seed)
    X = (spread * (2 + rng.standard_normal((50, 4)))).astype(np.float32)
    X[:, 1] = np.float32(5 * spread)
    scale = Standardiser(ArrayMatrix(X), np.arange(30))
    W, b = rng.standard_normal((3, 4)), rng.standard_normal(3)
    own, bias = scale.fold(W, b)
    assert (own[:, 1] == 0).all()
    np.testing.assert_allclose(X.astype(np.float64) @ own.T + bias, scale(X).astype(np.float64) @ W.T + b, atol=1e-4)


def test_the_largest_numbers_of_float32_stay_finite():
    X = np.array([[3e38, 1.0], [-3e38, 2.0], [1e38, 3.0], [-1e38, 4.0]], dtype=np.float32)
    scale = Standardiser(ArrayMatrix(X), np.arange(4))
    np.testing.assert_allclose(scale(X), StandardScaler().fit_transform(X.astype(np.float64)), rtol=1e-5)


def test_a_constant_feature_becomes_nothing_whatever_it_is_elsewhere():
    X = np.array([[7.7, 0.0], [7.7, 0.0], [1e6, -3.0]], dtype=np.float32)
    scale = Standardiser(ArrayMatrix(X), np.arange(2))
    assert np.isinf(scale.scale).all()
    assert (scale(X) == 0).all()


def test_an_offset_far_beyond_the_spread_counts_as_constant_only_below_rounding():
    train, rng = np.arange(1000), np.random.default_rng(0)
    X = (1e4 + rng.standard_normal((1000, 1))).astype(np.float32)
    assert np.isfinite(Standardiser(ArrayMatrix(X), train).scale).all()
    assert np.isinf(Standardiser(ArrayMatrix(np.full((1000, 1), 1e4, np.float32)), train).scale).all()


def test_mean_and_deviation_are_those_of_all_blocks(monkeypatch):
    monkeypatch.setattr(standardise, "ROWS_AT_ONCE", 256)
    X = Noted((3e3 + np.random.default_rng(0).standard_normal((1000, 3))).astype(np.float32))
    scale = Standardiser(X, np.arange(1000)[::-1])
    np.testing.assert_allclose(scale.mean, X.array.astype(np.float64).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(scale.scale, X.array.astype(np.float64).std(axis=0), rtol=1e-5)
    assert max(X.reads) <= 256


def test_rows_that_are_given_stay_as_they_are():
    X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    before = X.copy()
    Standardiser(ArrayMatrix(X), np.arange(20))(X)
    assert np.array_equal(X, before)


@pytest.mark.parametrize(("width", "rows"), [(1, 1 << 14), (512, 1 << 14), (2048, 1 << 12), (10**6, 256)])
def test_wide_rows_are_read_fewer_at_a_time(width, rows):
    assert block_rows(width) == rows_at_once(ArrayMatrix(np.zeros((0, width), np.float32))) == rows
    assert block_rows(width, 1 << 20) <= rows


def test_what_is_read_at_a_time_can_be_told_without_pytorch():
    """A run that only extracts, or is refused, does not wait for it."""
    code = "import sys, probekit.cli, probekit.run, probekit.measure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
