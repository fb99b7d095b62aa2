"""Principal components against NumPy's singular value decomposition."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from probekit.components import Tap
from probekit.errors import InputError
from probekit.plugins import Plugins
from probekit.reductions.data_free import PoolReduction, SubsetReduction
from probekit.reductions.pca import PcaReduction
from probekit.sections import SpecContext
from probekit.steps import Flatten, Mean, run_program

Array = npt.NDArray[np.float32]


def rows(count: int, width: int, seed: int = 0) -> Array:
    """Return rows whose directions have clearly different spreads."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    spread = 2.0 ** -np.arange(width)
    return (rng.normal(size=(count, width)) * spread @ turn + 5).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(count=st.integers(20, 60), width=st.integers(3, 8), kept=st.integers(1, 2), seed=st.integers(0, 2**32 - 1))
def test_the_components_are_those_of_the_singular_value_decomposition(
    count: int, width: int, kept: int, seed: int
) -> None:
    train, other = np.split(rows(count + 10, width, seed), [count])
    result = PcaReduction(features=kept).fit(train)(other)
    mean = train.astype(np.float64).mean(axis=0)
    directions = np.linalg.svd(train - mean, full_matrices=False)[2][:kept]
    expected = (other - mean) @ directions.T
    signs = np.sign((result * expected).sum(axis=0))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result * signs, expected, rtol=1e-2, atol=1e-3)


def test_what_is_fitted_does_not_depend_on_later_rows() -> None:
    train, other = rows(40, 6), rows(10, 6, seed=1)
    fitted = PcaReduction(features=2).fit(train)
    alone = fitted(other[:1])
    fitted(other * 100)
    np.testing.assert_allclose(fitted(other)[:1], alone, rtol=1e-5)


def test_the_same_seed_fits_the_same() -> None:
    train = np.random.default_rng(0).normal(size=(600, 700)).astype(np.float32)
    first, again = (PcaReduction(features=5, seed=3).fit(train)(train) for _ in range(2))
    assert first.tolist() == again.tolist()


def test_a_tap_with_fewer_features_keeps_all() -> None:
    train = rows(10, 4)
    for kept in (4, 5):
        np.testing.assert_array_equal(PcaReduction(features=kept).fit(train)(train), train)


def test_fewer_training_rows_than_components_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        PcaReduction(features=5).fit(rows(4, 8))
    message = "reduction.features: pca of 5 components needs as many training rows, got 4; set fewer features"
    assert [(problem.code, str(problem)) for problem in caught.value.problems] == [("PK-L14", message)]


def test_as_many_training_rows_as_components_are_enough() -> None:
    assert PcaReduction(features=5).fit(rows(5, 8))(rows(3, 8)).shape == (3, 5)


def test_the_features_are_flattened_unless_the_spec_names_a_reduction() -> None:
    tap = Tap("x", "Conv", (3, 4, 5), "float32", "NCHW")
    assert PcaReduction().program(tap) == (Flatten(),)
    assert PcaReduction(of=PoolReduction()).program(tap) == (Mean((2, 3)), Flatten())


def test_the_inner_reduction_is_looked_up_by_its_kind(tmp_path_factory: pytest.TempPathFactory) -> None:
    context = SpecContext(Plugins(), tmp_path_factory.getbasetemp(), {})
    written = {"kind": "pca", "features": 2, "of": {"kind": "subset", "features": 3}}
    pca = PcaReduction.model_validate(written, context=context)
    assert pca.of == SubsetReduction(features=3)
    values = np.ones((2, 4, 5), dtype=np.float32)
    assert run_program(pca.program(Tap("x", "Op", (4, 5), "float32")), values).shape == (2, 3)


def test_a_learned_reduction_within_another_is_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        PcaReduction(of=PcaReduction())
    assert [(error["type"], error["loc"], error["msg"], error["ctx"]["hint"]) for error in caught.value.errors()] == [
        ("PK-Y29", ("of",), "'pca' is learned itself", "name a data-free reduction, such as pool")
    ]
