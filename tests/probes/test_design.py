"""The products of a design, held or read block by block, against NumPy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.components import ArrayMatrix
from probekit.probes import design as design_module
from probekit.probes.design import InMemory, Streamed

KINDS = ["held", "read"]


def made(kind, X, rows_at_once=5):
    """Return a design of float32 rows."""
    if kind == "held":
        return InMemory(torch.from_numpy(X.copy()))
    return Streamed(lambda start, stop: X[start:stop].copy(), X.shape, rows_at_once=rows_at_once)


@st.composite
def problems(draw):
    """Give rows, a block size, and a matrix that turns the rows or None."""
    rows, features, axes = (draw(st.integers(1, most)) for most in (12, 6, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.standard_normal((rows, features)).astype(np.float32)
    vectors = rng.standard_normal((features, axes)) if draw(st.booleans()) else None
    return X, draw(st.integers(1, 14)), vectors, rng


def expected(X, vectors):
    return X.astype(np.float64) if vectors is None else X.astype(np.float64) @ vectors


def turned(one, vectors):
    return one if vectors is None else one.turned(torch.from_numpy(vectors))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(deadline=None, max_examples=40)
@given(problem=problems(), count=st.integers(1, 4))
def test_the_products_are_those_of_the_whole_matrix(kind, dtype, problem, count):
    X, rows_at_once, vectors, rng = problem
    one, truth = turned(made(kind, X, rows_at_once), vectors).to(dtype), expected(X, vectors)
    weights, residuals = rng.standard_normal((count, truth.shape[1])), rng.standard_normal((count, len(X)))
    assert (one.shape, one.dtype, len(one), one.numel()) == (truth.shape, dtype, len(X), truth.size)
    for product, wanted in [
        (one.times(torch.from_numpy(weights).to(dtype)), weights @ truth.T),
        (one.back(torch.from_numpy(residuals).to(dtype)), residuals @ truth),
    ]:
        assert product.dtype == dtype
        np.testing.assert_allclose(product.numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(problem=problems())
def test_the_blocks_are_all_rows_in_order(kind, problem):
    X, rows_at_once, vectors, _ = problem
    blocks = list(turned(made(kind, X, rows_at_once), vectors).blocks())
    np.testing.assert_allclose(torch.cat(blocks).numpy(), expected(X, vectors), rtol=1e-4, atol=1e-4)
    if kind == "read":
        assert all(len(block) == rows_at_once for block in blocks[:-1])
        assert 1 <= len(blocks[-1]) <= rows_at_once


def test_the_blocks_of_held_rows_are_bounded_too(monkeypatch):
    monkeypatch.setattr(design_module, "ROWS_AT_ONCE", 4)
    assert [len(block) for block in made("held", np.ones((10, 2), np.float32)).blocks()] == [4, 4, 2]


@settings(deadline=None, max_examples=30)
@given(problem=problems(), more=st.integers(1, 4))
def test_turning_twice_is_turning_by_the_product(problem, more):
    X, rows_at_once, vectors, rng = problem
    first = np.eye(X.shape[1]) if vectors is None else vectors
    second = rng.standard_normal((first.shape[1], more))
    for kind in KINDS:
        one = made(kind, X, rows_at_once).turned(torch.from_numpy(first)).turned(torch.from_numpy(second))
        assert one.shape == (len(X), more)
        found = torch.cat(list(one.blocks())).numpy()
        np.testing.assert_allclose(found, expected(X, first @ second), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(problem=problems(), rows=st.integers(1, 20), seed=st.integers(0, 99))
def test_a_sample_is_that_many_different_rows_and_the_same_for_the_same_seed(kind, problem, rows, seed):
    X, rows_at_once, _, _ = problem
    one = made(kind, X, rows_at_once)
    first, again = (one.sample(rows, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(first, again)
    assert len(first) == min(rows, len(X))
    left = X.tolist()
    for row in first.tolist():
        left.remove(row)  # fails where a row comes twice


def test_both_kinds_sample_the_same_rows():
    X = np.arange(60, dtype=np.float32).reshape(20, 3)
    held, read = (made(kind, X).sample(8, torch.Generator().manual_seed(3)) for kind in KINDS)
    assert sorted(held.tolist()) == read.tolist()


def test_a_sample_of_turned_rows_is_turned():
    X = np.arange(60, dtype=np.float32).reshape(20, 3)
    vectors = torch.tensor([[2.0], [0.0], [0.0]], dtype=torch.float64)
    for kind in KINDS:
        sample = made(kind, X).turned(vectors).sample(20, torch.Generator().manual_seed(0))
        assert sorted(sample[:, 0].tolist()) == (2 * X[:, 0]).tolist()


def test_wide_rows_are_sampled_fewer_at_a_time(monkeypatch):
    X = np.ones((2000, 4), dtype=np.float32)
    monkeypatch.setattr(design_module, "_SAMPLE_BYTES", 600 * 4 * 4)
    assert len(made("read", X, 100).sample(1000, torch.Generator())) == 600
    monkeypatch.setattr(design_module, "_SAMPLE_BYTES", 0)
    assert len(made("read", X, 100).sample(1000, torch.Generator())) == 512


def test_rows_are_read_once_a_pass_and_nothing_is_kept():
    X, reads = np.ones((10, 2), dtype=np.float32), []

    def read(start, stop):
        reads.append((start, stop))
        return X[start:stop].copy()

    one = Streamed(read, X.shape, rows_at_once=4).to(torch.float64).turned(torch.eye(2, dtype=torch.float64))
    assert reads == []
    one.times(torch.ones(1, 2, dtype=torch.float64))
    one.back(torch.ones(1, 10, dtype=torch.float64))
    assert reads == [(0, 4), (4, 8), (8, 10)] * 2


def test_the_same_dtype_copies_nothing():
    one = made("held", np.ones((3, 2), dtype=np.float32))
    assert one.to(torch.float32) is one


# --- features that are held


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(0, 12), features=st.integers(1, 4), at_once=st.integers(1, 14), data=st.data())
def test_held_features_are_read_as_the_array_is_indexed(rows, features, at_once, data):
    array = np.random.default_rng(0).standard_normal((rows, features)).astype(np.float32)
    matrix = ArrayMatrix(array)
    some = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=6) if rows else st.just([])), dtype=np.int64)
    start, stop = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 12))
    assert matrix.shape == (rows, features)
    assert matrix.read(some).tolist() == array[some].tolist()
    assert matrix.read(slice(start, stop)).tolist() == array[start:stop].tolist()
    blocks = list(matrix.blocks(at_once))
    assert [row for block in blocks for row in block.tolist()] == array.tolist()
    assert all(len(block) <= at_once for block in blocks)


def test_held_features_become_an_array_without_a_copy_unless_one_is_asked_for():
    array = np.ones((3, 2), dtype=np.float32)
    matrix = ArrayMatrix(array)
    assert np.shares_memory(np.asarray(matrix), array)
    assert not np.shares_memory(np.array(matrix), array)
    assert np.asarray(matrix, dtype=np.float64).dtype == np.float64
