"""The plugin holds to probekit's contract: the conformance kit, with what it needs to be given."""

import numpy as np
import pytest
from probekit_toy.backend import ToyBackend
from probekit_toy.data import BlobsDataset, ParityFactor

from probekit.testing import BackendConformance, DatasetConformance, LabelFactorConformance


def write_net(path, change=0.0):
    rng = np.random.default_rng(1)
    arrays = {
        "w0": rng.standard_normal((8, 16)), "b0": rng.standard_normal(16) + change,
        "w1": rng.standard_normal((16, 4)), "b1": rng.standard_normal(4),
    }  # fmt: skip
    np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})
    return str(path)


class TestToyBackend(BackendConformance):
    @pytest.fixture
    def backend(self, tmp_path):
        return ToyBackend(path=write_net(tmp_path / "net.npz"))

    @pytest.fixture
    def batch(self):
        return {"x": np.random.default_rng(2).standard_normal((6, 8)).astype(np.float32)}

    @pytest.fixture
    def other_weights(self, tmp_path):
        return ToyBackend(path=write_net(tmp_path / "other.npz", change=0.5))


class TestBlobsDataset(DatasetConformance):
    @pytest.fixture
    def dataset(self):
        return BlobsDataset(examples=30)


class TestParityFactor(LabelFactorConformance):
    @pytest.fixture
    def factor(self):
        return ParityFactor()

    @pytest.fixture
    def columns(self):
        return {"label": np.arange(7)}
