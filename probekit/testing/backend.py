"""The conformance of backends: the fixtures that an author gives, and all checks together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from probekit.testing.backend_features import FeatureChecks
from probekit.testing.backend_graph import GraphChecks
from probekit.testing.backend_identity import IdentityChecks
from probekit.testing.backend_refusals import RefusalChecks
from probekit.testing.backend_taps import TapChecks
from probekit.testing.component import ComponentConformance
from probekit.testing.fed import FedBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from probekit.components import Array, Backend
    from probekit.sections import Component


class BackendConformance(GraphChecks, TapChecks, FeatureChecks, IdentityChecks, RefusalChecks, ComponentConformance):
    """What a backend must hold to. Give ``backend`` and ``batch``, and as much of the rest as there is.

    Example:
        ::

            class TestMyBackend(BackendConformance):
                @pytest.fixture
                def backend(self):
                    return MyBackend(path=str(MODEL))

                @pytest.fixture
                def batch(self):
                    rng = np.random.default_rng(0)
                    return {"image": rng.random((6, 1, 28, 28), dtype=np.float32)}
    """

    @pytest.fixture
    def backend(self) -> Backend:
        """The model, as a spec would configure it. Small is good: it is opened some hundred times."""
        raise NotImplementedError("override the fixture 'backend'")

    @pytest.fixture
    def batch(self) -> Mapping[str, Array]:
        """The inputs of four or more examples, all different, as a dataset gives them: {name: (examples, ...)}."""
        raise NotImplementedError("override the fixture 'batch'")

    @pytest.fixture
    def taps(self) -> Sequence[str] | None:
        """The names of the taps to look at, where all of them would take too long; default: all."""
        return None

    @pytest.fixture
    def other_weights(self) -> Backend | None:
        """The same model with one weight changed, so that some tap changes; default: what asks for it is skipped."""
        return None

    @pytest.fixture
    def checkpoint(self) -> str | None:
        """A file with other parameters of the same model, for ``with_checkpoint``; default: skipped."""
        return None

    @pytest.fixture
    def weights(self) -> Callable[[], Mapping[str, Array]] | None:
        """A function that reads the weights and buffers that the model holds now, where they are not only in files;
        default: the files that the backend's fields name are compared.
        """
        return None

    @pytest.fixture
    def component(self, backend: Backend) -> Component:
        """The backend."""
        return backend

    @pytest.fixture
    def fed(self, backend: Backend, batch: Mapping[str, Array], taps: Sequence[str] | None) -> FedBackend:
        """The backend with its batch."""
        return FedBackend(backend, batch, taps)
