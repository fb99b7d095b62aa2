"""What the tests of datasets share: errors as text, and real data that may be absent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from probekit.errors import UserError

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]


@pytest.fixture
def refused() -> Refused:
    """Return a function that runs another and gives the (code, message) of each problem that it raises."""

    def run(action: Callable[[], object]) -> list[tuple[str, str]]:
        with pytest.raises(UserError) as caught:
            action()
        return [(problem.code, str(problem)) for problem in caught.value.problems]

    return run


@pytest.fixture
def fashion_mnist(need: Callable[[bool, str], None]) -> Path:
    """Return the folder of Debian's package of Fashion-MNIST."""
    folder = Path("/usr/share/datasets/fashion-mnist")
    need(folder.is_dir(), "apt-get install dataset-fashion-mnist")
    return folder
