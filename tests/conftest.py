"""What every test may need: the specs' folder, a feature store that is no user's, and data that a machine may lack."""

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
    # As many workers as cores, and each with as many threads, would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _no_users_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep features in a temporary folder that all tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBEKIT_STORE", str(tmp_path_factory.mktemp("features")))
        yield


@pytest.fixture
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a test a feature store of its own, which is empty."""
    path = tmp_path / "own-store"
    monkeypatch.setenv("PROBEKIT_STORE", str(path))
    return path


def _beside(name: str) -> Any:
    """Return a module beside this one; tests are no package, so that none of them can be imported by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kill_harness() -> Any:
    """The module of that name."""
    return _beside("kill_harness")


@pytest.fixture(scope="session")
def distributions() -> Any:
    """The module of that name."""
    return _beside("distributions")


@pytest.fixture(scope="session")
def browser(need: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium without a network."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    need(None not in (chromium, chromedriver), "apt-get install chromium chromium-driver")
    with _beside("browser").started(chromium, chromedriver, tmp_path_factory.mktemp("browser")) as started:
        yield started


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


@pytest.fixture
def main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process; return (exit code, stdout, stderr)."""
    from probekit import cli

    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(cli.tempfile, "tempdir", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probekit", *arguments])
        with warnings.catch_warnings():  # as without pytest: what warns is shown and goes on
            warnings.simplefilter("default")
            try:
                cli.main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            else:
                code = 0
        return (code, *capsys.readouterr())

    return run


@dataclass
class Pass:
    """One opening of a model for features.

    Args:
        kind: of its backend.
        taps: that it gives, one per feature matrix.
        fed: examples of each call.
    """

    kind: str
    taps: list[str]
    fed: list[int] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Examples beside those of the check: two calls over the first batch, before all others."""
        return sum(self.fed[2:])


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Pass]:
    """Every pass over a model, ONNX or torch, from now on."""
    from probekit.backends.onnx import OnnxBackend
    from probekit.backends.torch import TorchBackend

    found: list[Pass] = []

    def spy(backend: Any) -> None:
        usual = backend.open_reduced

        @contextmanager
        def open_reduced(self: Any, wanted: Sequence[Any]) -> Iterator[Any]:
            one = Pass(self.kind, [each.tap.name for each in wanted])
            found.append(one)
            with usual(self, wanted) as run:

                def counted(feed: Any, masks: Any) -> Any:
                    one.fed.append(len(next(iter(feed.values()))))
                    return run(feed, masks)

                yield counted

        monkeypatch.setattr(backend, "open_reduced", open_reduced)

    spy(OnnxBackend)
    spy(TorchBackend)
    return found
