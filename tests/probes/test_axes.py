"""Principal axes and the inverse that they precondition with, against dense NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.components import ArrayMatrix
from probekit.probes import axes as axes_module
from probekit.probes.axes import Axes, sketch_rows
from probekit.probes.design import Held, Streamed
from probekit.probes.standardise import Standardiser


def rows_of(rng, rows, features, decay=1e-2):
    X = rng.standard_normal((rows, features)) * np.geomspace(1, decay, features)
    return (X - X.mean(axis=0)).astype(np.float32)


def held(X):
    return Held(torch.from_numpy(X))


def streamed(X):
    matrix = ArrayMatrix(X)
    return Streamed(matrix, np.arange(len(X)), Standardiser(matrix, np.arange(len(X))))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 40), features=st.integers(1, 40))
def test_exact_axes_turn_rows_without_changing_their_products(seed, rows, features):
    rng = np.random.default_rng(seed)
    X = rows_of(rng, rows, features)
    axes = Axes(held(X), 0.0)
    assert axes.kind == "exact"
    turn = axes.turn.numpy()
    np.testing.assert_allclose(turn.T @ turn, np.eye(turn.shape[1]), atol=1e-7)
    wide = X.astype(np.float64)
    truth = np.linalg.eigvalsh(wide.T @ wide / rows)[::-1][: len(axes.values)]
    np.testing.assert_allclose(axes.values.numpy()[::-1], truth.clip(0), atol=1e-6 * max(truth.max(), 1e-9))
    W = rng.standard_normal((3, turn.shape[1]))
    own = axes.back(torch.from_numpy(W)).numpy()
    np.testing.assert_allclose(axes.X.X.numpy() @ W.T, wide @ own.T, atol=1e-5)
    np.testing.assert_allclose((W**2).sum(axis=1), (own**2).sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize(("rows", "features"), [(60, 8), (8, 60)])
def test_negligible_axes_are_left_out(rows, features):
    X = rows_of(np.random.default_rng(0), rows, features)
    X[:, 4:] = X[:, :1]  # four axes, or a share of the last
    values = Axes(held(X), 0.0).values.numpy()
    least = values[:2].sum() * (1 + 1e-9)
    fewer = Axes(held(X), least)
    assert len(fewer.values) == len(values) - 2
    assert fewer.X.shape == (rows, len(values) - 2)
    assert len(Axes(held(X), 1e9).values) == 1


def test_constant_features_leave_one_axis_that_is_finite():
    for shape in ((30, 4), (4, 30)):
        axes = Axes(held(np.zeros(shape, np.float32)), 1e-12)
        assert axes.turn.isfinite().all()
        assert (axes.X.X == 0).all()


def solved(axes, rng, width):
    """Return what is solved, and the same by a dense inverse of the axes' model of XᵀX/N."""
    gradient = rng.standard_normal((2, 3, width))
    curvature, shift = rng.uniform(0.1, 1, (2, 3)), rng.uniform(0.01, 1, (2, 1))
    values = axes.values.numpy()
    if axes.leading is None:
        model = np.diag(values)
    else:
        U = axes.leading.numpy()
        model = U * values @ U.T + axes.rest * (np.eye(width) - U @ U.T)
    dense = np.empty_like(gradient)
    for head in range(2):
        for column in range(3):
            system = curvature[head, column] * model + shift[head, 0] * np.eye(width)
            dense[head, column] = np.linalg.solve(system, gradient[head, column])
    found = axes.solve(*(torch.from_numpy(part) for part in (gradient, curvature, shift)))
    return found.numpy(), dense


@pytest.mark.parametrize("kind", ["turned", "streamed", "sketch"])
def test_the_inverse_is_that_of_the_model(monkeypatch, kind):
    rng = np.random.default_rng(0)
    X = rows_of(rng, 300, 40)
    if kind == "sketch":
        monkeypatch.setattr(axes_module, "EXACT", 16)
        monkeypatch.setattr(axes_module, "SKETCH_RANK", 12)
    axes = Axes(streamed(X) if kind == "streamed" else held(X), 0.0)
    assert (axes.turn is not None) == (kind == "turned")
    assert axes.kind == ("sketch" if kind == "sketch" else "exact")
    found, dense = solved(axes, rng, 40)
    np.testing.assert_allclose(found, dense, rtol=1e-6, atol=1e-8)


def test_streamed_rows_have_the_axes_of_held_ones():
    X = rows_of(np.random.default_rng(0), 300, 20)
    one = streamed(X)
    by_reading = Axes(one, 0.0)
    in_memory = Axes(held(torch.cat(list(one.blocks(torch.float32, 300))).numpy()), 0.0)
    np.testing.assert_allclose(by_reading.values, in_memory.values, rtol=1e-6)
    assert by_reading.X is one
    assert by_reading.condition(0.1) == pytest.approx(in_memory.condition(0.1), rel=1e-3)


@pytest.mark.parametrize("make", [held, streamed])
def test_a_sketch_finds_the_leading_axes_and_the_mean_of_the_rest(monkeypatch, make):
    monkeypatch.setattr(axes_module, "EXACT", 16)
    monkeypatch.setattr(axes_module, "SKETCH_RANK", 40)
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((500, 6)) @ rng.standard_normal((6, 200))).astype(np.float32)
    X += 0.3 * rng.standard_normal(X.shape).astype(np.float32)
    rows = np.concatenate([block.numpy() for block in make(X).blocks(torch.float32, 500)]).astype(np.float64)
    axes = Axes(make(X), 0.0, seed=3)
    values = np.linalg.eigvalsh(rows.T @ rows / len(rows))[::-1]
    np.testing.assert_allclose(axes.values.numpy()[::-1][:6], values[:6], rtol=0.05)
    total = float(axes.values.sum()) + axes.rest * (200 - len(axes.values))
    assert total == pytest.approx(values.sum(), rel=1e-4)
    again = Axes(make(X), 0.0, seed=3)
    assert torch.equal(axes.leading, again.leading)
    assert not torch.equal(axes.leading, Axes(make(X), 0.0, seed=4).leading)


def test_both_kinds_of_rows_are_sketched_alike(monkeypatch):
    monkeypatch.setattr(axes_module, "EXACT", 16)
    monkeypatch.setattr(axes_module, "SKETCH_ROWS", 600)
    X = rows_of(np.random.default_rng(0), 700, 30)
    one = streamed(X)
    other = held(torch.cat(list(one.blocks(torch.float32, 700))).numpy())
    np.testing.assert_allclose(Axes(one, 0.0).values, Axes(other, 0.0).values, rtol=1e-6)


def test_a_sketch_of_rows_that_vary_in_few_directions_is_finite(monkeypatch):
    monkeypatch.setattr(axes_module, "EXACT", 4)
    X = np.repeat(rows_of(np.random.default_rng(0), 50, 1), 30, axis=1)
    for rows in (X, np.zeros_like(X)):
        axes = Axes(held(np.ascontiguousarray(rows)), 0.0)
        assert axes.values.isfinite().all()
        assert axes.leading.isfinite().all()
        assert (axes.values >= 0).all()


@pytest.mark.parametrize(("rows", "features", "most"), [(100, 10, 100), (10**6, 1000, 4096), (10**6, 10**5, 512)])
def test_wide_rows_are_sampled_fewer_at_a_time(rows, features, most):
    assert sketch_rows(rows, features) == most


def test_no_gram_matrix_is_made_beyond_the_exact_axes(monkeypatch):
    def refuse(X):
        raise AssertionError("F x F does not fit")

    monkeypatch.setattr(axes_module, "_gram", refuse)
    rng = np.random.default_rng(0)
    few = Axes(held(rows_of(rng, 60, 6000)), 0.0)
    assert (few.kind, few.X.shape[0]) == ("exact", 60)
    assert few.X.shape[1] <= 60
    assert Axes(held(rows_of(rng, 600, 1200)), 0.0).kind == "sketch"
    assert Axes(streamed(rows_of(rng, 60, 600)), 0.0).kind == "sketch"
