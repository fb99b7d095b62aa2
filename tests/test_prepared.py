"""How many numbers a reduction holds."""

import numpy as np
import pytest

from probekit.components import LinearMap, Tap
from probekit.prepared import reduction_parameters
from probekit.reductions.assign import assign_reductions
from probekit.reductions.data_free import FlattenReduction, PoolReduction, ProjectReduction, SubsetReduction
from probekit.reductions.pca import PcaReduction
from probekit.taps import ChosenTap

TAP = Tap("relu", "Relu", (3, 4, 5), "float32", "NCHW", 0, batch_axis=0)


def of(reduction):
    (one,) = assign_reductions([ChosenTap(TAP, "relu", None, exact=True)], {"r": reduction}, 20_000)
    return one


@pytest.mark.parametrize(
    ("reduction", "held"),
    [
        (FlattenReduction(), 0),
        (PoolReduction(), 0),
        (SubsetReduction(features=7), 7),
        (SubsetReduction(features=60), 0),
        (ProjectReduction(features=7), 60 * 7),
    ],
)
def test_a_data_free_reduction_holds_its_indices_or_its_matrix(reduction, held):
    assert reduction_parameters(of(reduction), None) == held


def test_a_learned_one_holds_directions_and_offsets_beside_what_is_before_it():
    X = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    before = SubsetReduction(features=12)
    learned = PcaReduction(features=5, of=before)
    assert reduction_parameters(of(learned), learned.fit(X)) == 12 + 5 * 12 + 5


def test_one_that_keeps_all_features_holds_nothing():
    X = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32)
    learned = PcaReduction(features=60)
    assert reduction_parameters(of(learned), learned.fit(X)) == 0
    shifted = LinearMap(np.eye(60), np.ones(60))
    assert reduction_parameters(of(learned), shifted) == 60 * 60 + 60


def test_one_that_is_not_linear_does_not_tell():
    assert reduction_parameters(of(PcaReduction(features=5)), lambda X: X[:, :5] ** 2) is None
