"""Every spec that is shipped is valid on a machine with none of its data, and some page tells of it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WARNINGS = {
    "PK-M47": re.compile(r"^ *factory: \./", re.MULTILINE),
    "PK-Y33": re.compile(r"^[^#\n]*\$\{\w+\}", re.MULTILINE),
}
"""What a run would refuse, and where a spec has it: a factory that is not trusted, a variable without a default."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The specs without anything that a command makes or fetches, nor the networks that are shipped beside them."""
    folder = tmp_path_factory.mktemp("bare") / "specs"
    folder.mkdir()
    for path in SPECS:
        shutil.copy(path, folder)
    return folder


def validate(folder, *names):
    """Run the command with no variable set but those that Python needs."""
    command = [sys.executable, "-m", "probekit", "validate", *names]
    unset = {"PATH": "", "HOME": str(folder), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=unset, capture_output=True, text=True, check=False, timeout=120)


def test_every_spec_is_valid_without_data_models_and_variables(bare):
    names = [path.name for path in SPECS]
    assert names
    assert sorted(entry.name for entry in bare.iterdir()) == names
    done = validate(bare, *names)
    assert (done.returncode, done.stdout) == (0, f"{len(names)} specs are valid\n"), done.stderr
    warned = {re.fullmatch(r"warning (PK-\w+) .*?([\w-]+\.yaml):\d+.*", line) for line in done.stderr.splitlines()}
    assert None not in warned, done.stderr
    texts = {path.name: path.read_text(encoding="utf-8") for path in SPECS}
    expected = {(code, name) for code, where in WARNINGS.items() for name in names if where.search(texts[name])}
    assert {(match[1], match[2]) for match in warned if match} == expected


def test_a_spec_with_a_mistake_is_found_among_them(bare):
    # What the test above relies on.
    name = "digits.yaml"
    wrong = bare / "wrong.yaml"
    wrong.write_text((bare / name).read_text(encoding="utf-8").replace("kind: pool", "kind: pol"), encoding="utf-8")
    try:
        done = validate(bare, name, wrong.name)
    finally:
        wrong.unlink()
    assert done.returncode == 2
    assert "wrong.yaml" in done.stderr


@pytest.mark.parametrize("name", [path.name for path in SPECS])
def test_some_page_tells_of_every_spec(name):
    mention = re.compile(rf"(?<![\w-]){re.escape(f'specs/{name}')}(?![\w-])")
    assert any(mention.search(page.read_text(encoding="utf-8")) for page in PAGES)


def test_every_spec_that_a_page_names_is_there():
    # Also of commands in which a line of text ends.
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"(?<![\w/.])specs/([\w-]+\.yaml)", page.read_text(encoding="utf-8"))
    }
    assert {name for _, name in named} - {path.name for path in SPECS} == set(), named
