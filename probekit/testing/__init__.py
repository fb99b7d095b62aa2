"""The conformance kit: what every plugin must hold to, as test classes to subclass.

The author of a plugin subclasses the class of a category in a test module, overrides the fixtures that it names, and
runs pytest; each check is one test. For a backend::

    import numpy as np
    import pytest
    from probekit.testing import BackendConformance
    from my_plugin import MyBackend

    class TestMyBackend(BackendConformance):
        @pytest.fixture
        def backend(self):
            return MyBackend(path="tests/net.bin")

        @pytest.fixture
        def batch(self):
            return {"x": np.random.default_rng(0).random((6, 8), dtype=np.float32)}

What each class is given, beside what it makes itself:

============================ ================================ ====================================================
class                        must be given                    may be given
============================ ================================ ====================================================
``BackendConformance``       ``backend``, ``batch``           ``taps``, ``other_weights``, ``checkpoint``, ``weights``
``DatasetConformance``       ``dataset``
``LabelFactorConformance``   ``factor``, ``columns``
``ReductionConformance``     ``reduction``                    ``taps``
``ProbeConformance``         ``probe``                        ``problems``
``ControlConformance``       ``control``                      ``columns``, ``backend``
``ReportConformance``        ``report``                       ``result``, ``for_programs``
``ExecutorConformance``      ``executor``                     ``seconds``
``FindingConformance``       ``module``, ``kinds``            ``results``
``ListenerConformance``      ``module``
============================ ================================ ====================================================

A check that needs what is not given, or that does not apply, is skipped with the reason; ``pytest -rs`` shows them. A
check that fails says what it found, with its value, and what to do. Its docstring says what is asked for and why.

Every class but the last two also checks what any component must hold to: it is found by its kind, which needs the
plugin installed (``pip install -e .``), its fields are described, it is closed and frozen, it pickles, and its identity
leaves runtime options out. The components of probekit itself pass the same kit.

The kit needs pytest: ``pip install 'probekit-platform[testing]'``.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:
    raise ImportError("probekit.testing needs pytest; type: pip install 'probekit-platform[testing]'") from error

from probekit.testing.backend import BackendConformance
from probekit.testing.control import ControlConformance
from probekit.testing.dataset import DatasetConformance
from probekit.testing.executor import ExecutorConformance
from probekit.testing.label_factor import LabelFactorConformance
from probekit.testing.probe import ProbeConformance
from probekit.testing.reduction import ReductionConformance
from probekit.testing.report import FindingConformance, ListenerConformance, ReportConformance
from probekit.testing.results import empty_result, example_result

__all__ = [
    "BackendConformance",
    "ControlConformance",
    "DatasetConformance",
    "ExecutorConformance",
    "FindingConformance",
    "LabelFactorConformance",
    "ListenerConformance",
    "ProbeConformance",
    "ReductionConformance",
    "ReportConformance",
    "empty_result",
    "example_result",
]

del pytest
