"""What the tests of datasets share: errors as text, and real data that may be absent."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from probekit.errors import UserError

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]
Needs = Callable[[Path, str], Path]


@pytest.fixture
def refused() -> Refused:
    """Return a function that runs another and gives the (code, message) of each problem that it raises."""

    def run(action: Callable[[], object]) -> list[tuple[str, str]]:
        with pytest.raises(UserError) as caught:
            action()
        return [(problem.code, str(problem)) for problem in caught.value.problems]

    return run


@pytest.fixture
def needs() -> Needs:
    """Return a function from a path and the command that fetches it to the path; without the data it skips the test.

    Where the variable CI is set, it fails the test.
    """

    def find(path: Path, command: str) -> Path:
        if not path.exists():
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {path}; type: {command}")
        return path

    return find


@pytest.fixture
def fashion_mnist(needs: Needs) -> Path:
    """Return the folder of Debian's package of Fashion-MNIST."""
    return needs(Path("/usr/share/datasets/fashion-mnist"), "apt-get install dataset-fashion-mnist")
