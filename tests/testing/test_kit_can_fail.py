"""Each check of the kit passes a component that is right and fails one that is wrong in what it asks for."""

import inspect
from pathlib import Path
from typing import Any

import bad_backends
import bad_components
import numpy_net
import pytest

import probekit.testing
from probekit.testing import BackendConformance

KITS = {name: one for name, one in vars(probekit.testing).items() if name.endswith("Conformance")}


def checks_of(kit: type) -> list[str]:
    return [name for name in dir(kit) if name.startswith("test_")]


def own_checks(kit: type) -> list[str]:
    """Return the checks of a category; those of any component are shown to fail on backends."""
    shared = set() if kit is BackendConformance else set(checks_of(probekit.testing.backend.ComponentConformance))
    return [name for name in checks_of(kit) if name not in shared]


def run_check(kit: type, name: str, given: dict[str, Any]) -> None:
    """Call a check as pytest would: with the kit's own fixtures where none is given."""
    made: dict[str, Any] = dict(given)

    def value_of(fixture: str) -> Any:
        if fixture not in made:
            function = inspect.getattr_static(kit, fixture)._get_wrapped_function()
            made[fixture] = function(kit(), **needed_by(function))
        return made[fixture]

    def needed_by(function: Any) -> dict[str, Any]:
        return {one: value_of(one) for one in list(inspect.signature(function).parameters)[1:]}

    check = getattr(kit, name)
    check(kit(), **needed_by(check))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the NumPy network be found by its kind, as an installed plugin is."""
    folder = tmp_path / "site" / "numpy_net-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy-net\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[probekit]\nbackend.numpy_net = numpy_net\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


def given_to(backend: type[numpy_net.NumpyNet], folder: Path) -> dict[str, Any]:
    path, other = numpy_net.write(folder / "net.npz"), numpy_net.write(folder / "other.npz", 0.5)
    made = backend(path=path)
    made.weights()
    (folder / "tmp").mkdir(exist_ok=True)
    return {
        "backend": made, "batch": numpy_net.examples(), "other_weights": backend(path=other), "checkpoint": other,
        "weights": lambda: numpy_net.LIVE[path], "tmp_path": folder / "tmp",
    }  # fmt: skip


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", checks_of(BackendConformance))
def test_a_right_backend_passes(name: str, tmp_path: Path) -> None:
    run_check(BackendConformance, name, given_to(numpy_net.NumpyNet, tmp_path))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "backend", "match"),
    [(name, backend, match) for name, some in bad_backends.BAD.items() for backend, match in some.items()],
)
def test_a_wrong_backend_fails(name: str, backend: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=match):
        run_check(BackendConformance, name, given_to(backend, tmp_path))


@pytest.mark.parametrize(
    ("kit", "name", "given"),
    [(one.kit, name, right) for one in bad_components.BAD for name in one.wrong for right in one.right],
)
def test_a_right_component_passes(kit: type, name: str, given: Any, tmp_path: Path) -> None:
    try:
        run_check(kit, name, {"tmp_path": tmp_path, **given(tmp_path)})
    except pytest.skip.Exception as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("kit", "name", "given", "match"),
    [
        (one.kit, name, given, match)
        for one in bad_components.BAD
        for name, some in one.wrong.items()
        for given, match in some.items()
    ],
)
def test_a_wrong_component_fails(kit: type, name: str, given: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=match):
        run_check(kit, name, {"tmp_path": tmp_path, **given(tmp_path)})


@pytest.mark.parametrize("kit", KITS.values(), ids=list(KITS))
def test_every_check_is_shown_to_fail(kit: type) -> None:
    tables = [one.wrong for one in bad_components.BAD if one.kit is kit]
    shown = set(bad_backends.BAD) if kit is BackendConformance else {name for table in tables for name in table}
    assert set(own_checks(kit)) == shown


@pytest.mark.parametrize("kit", KITS.values(), ids=list(KITS))
def test_every_check_says_what_it_asks_for(kit: type) -> None:
    for name in checks_of(kit):
        assert len(inspect.getdoc(getattr(kit, name)) or "") > 60, name


def test_what_is_not_given_is_skipped_with_a_reason(tmp_path: Path) -> None:
    given = given_to(numpy_net.NumpyNet, tmp_path) | {"other_weights": None, "checkpoint": None}
    for name in (
        "test_a_changed_weight_changes_the_fingerprint",
        "test_checkpoints_are_the_same_model_with_other_weights",
    ):
        with pytest.raises(pytest.skip.Exception, match="is given"):
            run_check(BackendConformance, name, given)
