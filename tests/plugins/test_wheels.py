"""probekit and its plugins as wheels: every file is in them, and what is installed from them works."""

import configparser
import email
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "probekit-platform": ROOT, "probekit-openvino": ROOT / "plugins" / "probekit-openvino",
    "probekit-toy": ROOT / "plugins" / "probekit-toy",
}  # fmt: skip


def run(*arguments, **options):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The wheel of each distribution, built from its source."""
    found = {}
    for name, source in SOURCES.items():
        folder = tmp_path_factory.mktemp(name)
        run("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
        (found[name],) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheels, tmp_path_factory):
    """A folder into which the plugins' wheels are installed."""
    folder = tmp_path_factory.mktemp("site")
    plugins = [path for name, path in wheels.items() if name != "probekit-platform"]
    run("-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", folder, *plugins)
    return folder


@pytest.mark.parametrize("name", SOURCES)
def test_a_wheel_holds_the_package_and_says_what_the_project_says(wheels, name):
    project = tomllib.loads((SOURCES[name] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = "probekit" if name == "probekit-platform" else name.replace("-", "_")
    files = [
        path for path in (SOURCES[name] / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    with zipfile.ZipFile(wheels[name]) as wheel:
        (info,) = {one.partition("/")[0] for one in wheel.namelist() if ".dist-info/" in one}
        packed = {one for one in wheel.namelist() if not one.startswith(info)}
        assert packed == {path.relative_to(SOURCES[name]).as_posix() for path in files}
        for path in files:
            assert wheel.read(path.relative_to(SOURCES[name]).as_posix()) == path.read_bytes()
        told = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        points = configparser.ConfigParser(delimiters="=")
        points.optionxform = str
        points.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    assert (told["Name"], told["License-Expression"]) == (name, project["license"])
    assert {one.partition(" ")[0] for one in told["Requires-Python"].split(",")} == {project["requires-python"]}
    assert told.get_payload().strip() == (SOURCES[name] / project["readme"]).read_text(encoding="utf-8").strip()
    assert len(told.get_all("Requires-Dist")) >= len(project["dependencies"])
    declared = dict(project.get("entry-points", {}))
    declared |= {"console_scripts": project["scripts"]} if "scripts" in project else {}
    assert {group: dict(points[group]) for group in points.sections()} == declared


@pytest.mark.parametrize("name", ["probekit-openvino", "probekit-toy"])
def test_what_is_installed_from_a_wheel_works(site, need, name):
    need(name == "probekit-toy" or find_spec("openvino") is not None, "pip install ./plugins/probekit-openvino")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    environ.pop("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", None)
    listed = json.loads(run("-m", "probekit", "plugins", name, "--load", "--json", env=environ))
    project = tomllib.loads((SOURCES[name] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = {f"{one['category']}.{one['kind']}": one["module"] for one in listed}
    assert points == project["entry-points"]["probekit"]
    assert {(one["status"], one["release"]) for one in listed} == {("works", project["version"])}
    code = f"import importlib; [print(importlib.import_module(one).__file__) for one in {sorted(points.values())}]"
    assert all(Path(line).is_relative_to(site) for line in run("-c", code, env=environ).splitlines())
