"""What every test may need: the specs' folder, and data that a machine may lack."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def specs() -> Path:
    """The folder of the runnable specs."""
    return Path(__file__).parents[1] / "specs"


@pytest.fixture(scope="session")
def need() -> Callable[[bool, str], None]:
    """Skip a test whose data is absent, naming the command that fetches it; in CI absence is a failure."""

    def check(there: bool, command: str) -> None:
        if not there and os.environ.get("CI"):
            pytest.fail(f"in CI this data must be there: {command}")
        if not there:
            pytest.skip(f"type: {command}")

    return check
