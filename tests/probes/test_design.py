"""Training rows that are held, and such that are read in every pass."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from probekit.components import ArrayMatrix
from probekit.probes.design import Held, Streamed, hold, is_worth_holding
from probekit.probes.standardise import Standardiser


class Noted(ArrayMatrix):
    """Notes which rows are read, and waits where it is asked to."""

    def __init__(self, array):
        super().__init__(array)
        self.reads = []

    def read(self, rows):
        self.reads.append(np.asarray(rows).tolist())
        return super().read(rows)

    def blocks(self, rows_at_once=8192, rows=None):
        for start in range(0, len(rows), rows_at_once):
            yield self.read(rows[start : start + rows_at_once])


def streamed(X, train=None, most=None):
    matrix = Noted(X)
    train = np.arange(len(X)) if train is None else train
    scale = Standardiser(ArrayMatrix(X), train)
    return Streamed(matrix, train, scale, most=most), matrix, scale


@st.composite
def problems(draw):
    rows, features = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    X = np.random.default_rng(draw(st.integers(0, 99))).standard_normal((rows, features)).astype(np.float32)
    train = np.array(sorted(draw(st.sets(st.integers(0, rows - 1), min_size=1))))
    return X, train, draw(st.integers(1, 50)), draw(st.integers(1, 50))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@settings(deadline=None, max_examples=40)
@given(problem=problems())
def test_blocks_are_all_rows_in_order(dtype, problem):
    X, train, at_once, most = problem
    one, matrix, scale = streamed(X, train, most)
    truth = torch.from_numpy(scale(X[train]))
    for design, limit in ((one, min(at_once, most)), (Held(truth), at_once)):
        blocks = list(design.blocks(dtype, at_once))
        assert {block.dtype for block in blocks} == {dtype}
        assert all(len(block) == limit for block in blocks[:-1])
        assert torch.equal(torch.cat(blocks), truth.to(dtype))
        assert (design.shape, len(design), design.numel()) == (truth.shape, len(train), truth.numel())
    assert [row for rows in matrix.reads for row in rows] == train.tolist()


@settings(deadline=None, max_examples=40)
@given(problem=problems(), data=st.data())
def test_some_rows_are_those_of_the_whole(problem, data):
    X, train, _, most = problem
    one, matrix, scale = streamed(X, train, most)
    rows = torch.tensor(sorted(data.draw(st.sets(st.integers(0, len(train) - 1), min_size=1))))
    truth = torch.from_numpy(scale(X[train]))
    assert torch.equal(one.gather(rows), truth[rows])
    assert torch.equal(Held(truth).gather(rows), truth[rows])
    assert torch.equal(Held(truth.double()).gather(rows), truth[rows])
    assert max(map(len, matrix.reads)) <= most


@settings(deadline=None, max_examples=20)
@given(problem=problems())
def test_what_is_held_is_what_was_read(problem):
    X, train, _, most = problem
    one, matrix, scale = streamed(X, train, most)
    assert torch.equal(hold(one).X, torch.from_numpy(scale(X[train])))
    assert sum(map(len, matrix.reads)) == len(train)


def test_a_half_width_copy_is_kept_until_it_is_released():
    one = Held(torch.randn(10, 3, generator=torch.Generator().manual_seed(0)))
    first, again = (next(one.blocks(torch.bfloat16, 10)) for _ in range(2))
    assert first.data_ptr() == again.data_ptr()
    assert next(one.blocks(torch.float32, 10)).data_ptr() == one.X.data_ptr()
    one.release()
    assert torch.equal(next(one.blocks(torch.bfloat16, 10)), first)


@settings(deadline=None, max_examples=40)
@given(problem=problems(), mean=st.sampled_from([0.0, 2.0, -20.0]), seed=st.integers(0, 99))
def test_products_with_rows_as_they_are_become_those_with_standardised_rows(problem, mean, seed):
    X, train, at_once, most = problem
    X = X + np.float32(mean)
    one, matrix, scale = streamed(X, train, most)
    assume(scale.is_mild)  # few rows may lie far closer to each other than to 0
    truth = torch.from_numpy(scale(X[train])).double()
    rng = np.random.default_rng(seed)
    W = torch.from_numpy(rng.standard_normal((3, X.shape[1]))).float()
    R = torch.from_numpy(rng.standard_normal((3, len(train)))).float()
    units = one.own_units(torch.float32)
    blocks = list(one.own_blocks(at_once))
    assert all(len(block) <= min(at_once, most) for block in blocks)
    own = torch.cat(blocks)
    assert torch.equal(own, torch.from_numpy(X[train]))
    weights, added = units.weights(W)
    torch.testing.assert_close((own @ weights.T + added).double(), truth @ W.double().T, atol=1e-3, rtol=1e-3)
    found = units.gradient(R @ own, R.sum(dim=1))
    torch.testing.assert_close(found.double(), R.double() @ truth, atol=1e-3, rtol=1e-3)
    assert [row for rows in matrix.reads for row in rows] == train.tolist()


def test_rows_far_from_nought_and_products_of_other_dtypes_are_standardised_first():
    X = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    near, _, _ = streamed(X)
    assert near.own_units(torch.float32) is not None
    assert near.own_units(torch.bfloat16) is None
    assert near.own_units(torch.float64) is None
    for far in (X + 100 * (np.arange(3) == 1).astype(np.float32), X * 1e-13, X * 1e30):
        assert streamed(far.astype(np.float32))[0].own_units(torch.float32) is None
    assert Held(torch.from_numpy(X)).own_units(torch.float32) is None


def test_memory_that_must_not_be_written_to_is_multiplied_where_it_lies():
    X = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    X.flags.writeable = False
    one = Streamed(ArrayMatrix(X), np.arange(50), Standardiser(ArrayMatrix(X), np.arange(50)))
    blocks = list(one.own_blocks(20))
    assert blocks[0].data_ptr() == X.ctypes.data
    address, values = X.ctypes.data, X.copy()
    del X, one
    gc.collect()
    assert blocks[0].data_ptr() == address
    assert np.array_equal(torch.cat(blocks).numpy(), values)


def test_what_a_read_raises_ends_the_pass():
    class Failing(ArrayMatrix):
        def blocks(self, rows_at_once=8192, rows=None):
            yield self.array[:rows_at_once]
            raise OSError("the disk is gone")

    X = np.random.default_rng(0).standard_normal((100, 2)).astype(np.float32)
    one = Streamed(Failing(X), np.arange(100), Standardiser(ArrayMatrix(X), np.arange(100)), most=10)
    for blocks in (one.blocks(torch.float32, 10), one.own_blocks(10)):
        next(blocks)
        with pytest.raises(OSError, match="the disk is gone"):
            next(blocks)


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
    for rows_asked in (None, some):
        blocks = list(matrix.blocks(at_once, rows_asked))
        truth = array if rows_asked is None else array[rows_asked]
        assert [row for block in blocks for row in block.tolist()] == truth.tolist()
        assert all(len(block) <= at_once for block in blocks)


def test_held_features_become_an_array_without_a_copy_unless_one_is_asked_for():
    array = np.ones((3, 2), dtype=np.float32)
    matrix = ArrayMatrix(array)
    assert np.shares_memory(np.asarray(matrix), array)
    assert not np.shares_memory(np.array(matrix), array)
    assert np.asarray(matrix, dtype=np.float64).dtype == np.float64


def test_rows_of_the_store_are_held_on_a_gpu_alone():
    held, stored = ArrayMatrix(np.zeros((2, 2), np.float32)), object()
    assert is_worth_holding(held, torch.device("cpu"))
    assert not is_worth_holding(stored, torch.device("cpu"))
    assert is_worth_holding(stored, torch.device("cuda"))
    assert is_worth_holding(stored, torch.device("mps"))
