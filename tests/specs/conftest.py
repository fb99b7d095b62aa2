"""Runs on real models that several modules look at."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from probekit import Plugins, load_spec, run_spec

SETTINGS = (
    "probe={kind: linear, penalty: [0.1, 0.01]}",
    "taps=[{match: input, as: bytes}, {op: GlobalMaxPool, as: max}]",
    "reports=[json]",
)


@pytest.fixture(scope="session")
def magika(specs: Path, need: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The spec of a file classifier, loaded, at two of its taps; and the outcome of its run."""
    need(find_spec("magika") is not None, "pip install --no-deps magika==1.0.3")
    folder = tmp_path_factory.mktemp("magika")
    script = specs / "models" / "magika_arrays.py"
    command = [sys.executable, script, "--out", folder / "data", "--per-extension", "30"]
    subprocess.run(command, check=True, capture_output=True)
    plugins = Plugins()
    loaded = load_spec(specs / "magika.yaml", plugins, SETTINGS, environ={"MAGIKA_DATA": str(folder / "data")})
    return loaded, run_spec(loaded, plugins, folder / "run")


@pytest.fixture(scope="session")
def mnist(specs: Path, need: Callable[[bool, str], None]) -> Path:
    """The folder with MNIST, and with the ink and slant of its images."""
    folder = Path(os.environ.get("MNIST", specs / "data" / "mnist"))
    need((folder / "columns.csv").is_file(), "python specs/models/mnist_idx.py")
    return folder


@pytest.fixture(scope="session")
def cut_checkpoints(specs: Path, mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's convnet before training, and after one epoch over 3,000 images."""
    folder = tmp_path_factory.mktemp("mnist_convnet")
    script = specs / "models" / "mnist_convnet.py"
    command = [sys.executable, script, "--data", mnist, "--out", folder, "--rows", "3000", "--epochs", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return folder
