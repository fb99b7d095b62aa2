"""Skeletons of plugins: their tests pass as written, once they are installed; what cannot be written is told."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.authoring.skeleton import TITLES, Skeleton, checked, write_skeleton
from probekit.cli_new_plugin import KINDS
from probekit.errors import SpecError
from probekit.hookspecs import REGISTER_HOOKS, hook_names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Write, install and test a skeleton of each kind; return each test's outcome by kind and name."""
    folder = tmp_path_factory.mktemp("skeletons")
    for kind in TITLES:
        write_skeleton(f"probekit-new-{kind}", kind, folder / kind)
    site = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    paths = [str(folder / kind) for kind in TITLES]
    done = subprocess.run([*install, "--target", str(site), *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    environ["PROBEKIT_STORE"] = str(folder / "store")
    environ.pop("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", None)
    report = folder / "report.xml"
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "--rootdir"]
    told = subprocess.run(
        [*run, str(folder), "-W", "error", *(f"{path}/tests" for path in paths)],
        cwd=folder, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert report.is_file(), told.stdout + told.stderr
    found = {}
    for case in ET.parse(report).iter("testcase"):
        kind = next(kind for kind in TITLES if f"test_{kind}" in case.attrib["classname"].split("."))
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        text = "".join(child.text or child.attrib.get("message", "") for child in case)
        found.setdefault(kind, {})[case.attrib["name"]] = (outcome, text)
    return found


@pytest.mark.parametrize("kind", TITLES)
def test_the_tests_of_a_skeleton_pass_as_written(outcomes, kind):
    failed = {name: text for name, (outcome, text) in outcomes[kind].items() if outcome in ("failure", "error")}
    assert failed == {}
    assert sum(outcome == "passed" for outcome, _ in outcomes[kind].values()) >= 3


def test_there_is_a_skeleton_for_every_hook():
    hooks: set[str] = set()
    for kind in TITLES:
        text = Skeleton("probekit-mine", kind).render(f"{kind}.py")
        hooks |= {name for name in hook_names() if f"@hookimpl\ndef {name}(" in text}
    assert hooks == set(hook_names())
    assert set(TITLES) == set(KINDS) == {*REGISTER_HOOKS, "finding", "listener"}


@given(
    name=st.from_regex(r"[a-z][a-z0-9]{0,8}([-_.][a-z0-9]{1,8}){0,3}", fullmatch=True),
    kind=st.sampled_from(sorted(TITLES)),
)
def test_every_file_of_a_skeleton_is_whole(name, kind):
    skeleton = Skeleton(name, kind)
    files = skeleton.files()
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == name
    assert project["entry-points"]["probekit"] == {f"{kind}.{skeleton.kind}": f"{skeleton.package}.{kind}"}
    assert f"{skeleton.package}/{kind}.py" in files
    for path, text in files.items():
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        if path.endswith(".py") and skeleton.cls.isidentifier():
            compile(text, path, "exec")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("my plugin!", "backend", "no name of a distribution: it has letters, digits, and . _ - between them; "
         "did you mean 'probekit-my-plugin'?"),
        ("-x", "backend", "no name of a distribution"),
        ("3d", "backend", "gives the module '3d' and the kind '3d', which Python cannot call so"),
        ("probekit-3d", "backend", "gives the module 'probekit_3d' and the kind '3d', which Python cannot call so"),
        ("class", "backend", "gives the module 'class' and the kind 'class', which Python cannot call so"),
        ("json", "report", "gives the module 'json', which is there already"),
        ("numpy", "report", "gives the module 'numpy', which is there already"),
        ("probekit", "report", "gives the module 'probekit', which is there already"),
        ("probekit-pool", "reduction", "reduction kind 'pool' is probekit-platform's; take another name, such as "
         "'probekit-my-pool'"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_taken_is_told(tmp_path, name, kind, message):
    with pytest.raises(SpecError) as refused:
        write_skeleton(name, kind, tmp_path / "new")
    (problem,) = refused.value.problems
    assert problem.code == "PK-Y42"
    assert message in str(problem)
    assert not (tmp_path / "new").exists()


def test_the_name_of_another_category_is_free():
    assert checked("probekit-pool", "report").kind == "pool"


@pytest.mark.parametrize("there", ["folder", "file"])
def test_nothing_is_overwritten(tmp_path, there):
    path = tmp_path / "new"
    path.mkdir() if there == "folder" else path.write_text("mine")
    with pytest.raises(SpecError, match="is there already, and is not overwritten; name another folder with -o"):
        write_skeleton("probekit-new", "backend", path)
    assert list(path.iterdir()) == [] if there == "folder" else path.read_text() == "mine"


def test_the_command_writes_where_it_is_told_and_says_what_to_type(main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = main("new-plugin", "probekit-new", "--kind", "report")
    assert (code, err) == (0, "")
    *files, last = out.splitlines()
    assert last == "now type: pip install -e probekit-new && pytest probekit-new"
    assert sorted(files) == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert "probekit-new/probekit_new/report.py" in files
    assert main("new-plugin", "probekit-new", "--kind", "report")[0] == 2
    assert main("new-plugin", "probekit-new", "--kind", "report", "-o", "no/such/folder")[0] == 4
    code, _, err = main("new-plugin", "probekit-new", "--kind", "bakend")
    assert code == 2
    assert "'bakend' is not one of 'backend'" in err
