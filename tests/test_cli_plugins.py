"""``probekit plugins``, and what a plugin costs the other commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from probekit.cli_new_plugin import KINDS

ROOT = Path(__file__).parents[1]

SPEC = """\
probekit: 1
model: {{kind: onnx, path: a.onnx}}
data: {{kind: digits}}
labels: {{digit: {{kind: column, column: label}}}}
reduction: {{kind: {kind}}}
"""


def probekit(folder: Path, *arguments: str, disable: bool = False) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{ROOT}"}
    environ.pop("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", None)
    environ |= {"PROBEKIT_DISABLE_PLUGIN_AUTOLOAD": "1"} if disable else {}
    return subprocess.run(
        [sys.executable, "-m", "probekit", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environ,
        check=False,
    )


@pytest.fixture
def folder(tmp_path, distributions):
    site = distributions.Site(tmp_path / "site")
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": distributions.GOOD + "print('IMPORTED')\n"})
    site.add(
        "pk-bad", {"reduction.bad": "pk_bad", "listener.bad": "pk_bad"}, {"pk_bad": "raise OSError('broken')\n"}, "2.1"
    )
    for kind in ("good", "bad", "pool"):
        (tmp_path / f"{kind}.yaml").write_text(SPEC.format(kind=kind))
    return tmp_path


BROKEN = "plugin pk-bad 2.1 (pk_bad) cannot be imported: OSError: broken; type: pip install --upgrade pk-bad"


def test_a_broken_plugin_costs_only_the_spec_that_needs_it(folder):
    done = probekit(folder, "validate", "bad.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (4, "", f"error PK-G02 {BROKEN}\n")
    done = probekit(folder, "validate", "pool.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 spec is valid\n", "")
    done = probekit(folder, "validate", "good.yaml")
    assert (done.returncode, done.stdout) == (0, "IMPORTED\n1 spec is valid\n")


def test_a_run_and_a_schema_that_need_a_broken_plugin_end_with_4(folder):
    for command in (["run", "bad.yaml"], ["schema"]):
        done = probekit(folder, *command)
        assert (done.returncode, done.stderr) == (4, f"error PK-G02 {BROKEN}\n")
    assert not (folder / "runs").exists()


def test_a_wrong_spec_is_told_before_a_broken_machine(folder):
    (folder / "wrong.yaml").write_text(SPEC.format(kind="pool") + "tapz: []\n")
    done = probekit(folder, "validate", "bad.yaml", "wrong.yaml", "pool.yaml")
    assert done.returncode == 2
    assert [line.split()[1] for line in done.stderr.splitlines()] == ["PK-G02", "PK-Y03"]


def test_the_list_of_plugins_imports_nothing_unless_it_is_asked_to(folder):
    listed = probekit(folder, "plugins")
    assert listed.returncode == 0
    assert "IMPORTED" not in listed.stdout
    assert "reduction  good         pk-good 1.0  pk_good\n" in listed.stdout
    assert "listener   bad          pk-bad 2.1  pk_bad\n" in listed.stdout
    loaded = probekit(folder, "plugins", "--load")
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert "IMPORTED" in loaded.stdout
    assert "reduction  good         pk-good 1.0  pk_good  works\n" in loaded.stdout
    assert f"reduction  bad          pk-bad 2.1  pk_bad  {BROKEN}\n" in loaded.stdout
    assert f"listener   bad          pk-bad 2.1  pk_bad  {BROKEN}\n" in loaded.stdout


# --- trust ------------------------------------------------------------------------------------------------------------

MARK = "from pathlib import Path\n(Path(__file__).parent / 'imported').open('a').write(__name__ + ' ')\n"
COMMANDS = [
    ["--help"], ["run", "--help"], ["--version"], ["plugins"], ["plugins", "--json"], ["plugins", "pk-marked"],
    ["validate", "pool.yaml"], ["validate", "requires.yaml"], ["cache", "ls"],
]  # fmt: skip


@pytest.fixture
def marked(folder, distributions):
    """A plugin of every category whose import leaves a mark."""
    text = MARK + distributions.GOOD.replace('"good"', '"marked"')
    points = {f"{category}.marked": "pk_marked" for category in KINDS}
    distributions.Site(folder / "site").add("pk-marked", points, {"pk_marked": text})
    (folder / "requires.yaml").write_text(SPEC.format(kind="pool") + "plugins: [pk-marked >= 1]\n")
    (folder / "names.yaml").write_text(SPEC.format(kind="marked"))
    return folder


def imported(folder: Path) -> bool:
    return (folder / "site" / "imported").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_is_imported_that_is_not_named(marked, command):
    done = probekit(marked, *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert not imported(marked)


@pytest.mark.parametrize("command", [["validate", "names.yaml"], ["plugins", "pk-marked", "--load"], ["schema"]])
def test_what_is_named_is_imported(marked, command):
    probekit(marked, *command, *(["--no-plugin", "pk-bad"] if command == ["schema"] else []))
    assert imported(marked)


@pytest.mark.parametrize("off", ["--no-plugin", "variable"])
@pytest.mark.parametrize("command", [["validate"], ["run"], ["plan"], ["taps"]])
def test_what_is_switched_off_is_not_imported_and_the_spec_says_what_it_lacks(marked, command, off):
    arguments = [*command, "names.yaml"]
    if off == "--no-plugin":
        arguments += ["--no-plugin", "PK_Marked"]
        by = "by --no-plugin pk-marked"
    else:
        by = "by PROBEKIT_DISABLE_PLUGIN_AUTOLOAD"
    done = probekit(marked, *arguments, disable=off == "variable")
    assert done.returncode == 2
    assert f"kind 'marked' is pk-marked's, which is switched off {by}; switch it on again" in done.stderr
    assert not imported(marked)
    done = probekit(marked, *command, "requires.yaml", *arguments[2:], disable=off == "variable")
    assert done.returncode == 4
    what = f"requires.yaml:6:11: plugins[0]: the required plugin 'pk-marked' is switched off {by}"
    assert done.stderr == f"error PK-G05 {what}; switch it on again\n"
    assert not imported(marked)


@pytest.mark.parametrize("option", ["-p", "--plugin"])
def test_what_is_named_is_used_though_the_variable_switches_all_off(marked, option):
    done = probekit(marked, "validate", "requires.yaml", option, "PK_Marked", disable=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 spec is valid\n", "")
    assert not imported(marked)
    done = probekit(marked, "validate", "good.yaml", option, "PK_Marked", disable=True)
    assert done.returncode == 2
    assert "kind 'good' is pk-good's, which is switched off by PROBEKIT_DISABLE_PLUGIN_AUTOLOAD" in done.stderr
    listed = probekit(marked, "plugins", "pk-marked", "pk-good", option, "pk-marked", disable=True)
    assert "reduction  good         pk-good 1.0  pk_good  switched off by PROBEKIT_DISABLE" in listed.stdout
    assert "reduction  marked       pk-marked 1.0  pk_marked\n" in listed.stdout
    assert not imported(marked)
    wrong = probekit(marked, "validate", "pool.yaml", option, "pk-market")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error PK-Y41 -p: no plugin 'pk-market' is installed; did you mean 'pk-marked'?")


def test_the_list_says_what_is_switched_off_and_can_be_of_some_alone(folder):
    listed = probekit(folder, "plugins", "--load", "--no-plugin", "pk-bad")
    assert "reduction  bad          pk-bad 2.1  pk_bad  switched off by --no-plugin pk-bad\n" in listed.stdout
    assert "reduction  good         pk-good 1.0  pk_good  works\n" in listed.stdout
    some = probekit(folder, "plugins", "PK_bad")
    assert [line.split()[:2] for line in some.stdout.splitlines()] == [["listener", "bad"], ["reduction", "bad"]]
    wrong = probekit(folder, "plugins", "pk-bat")
    assert (wrong.returncode, wrong.stderr) == (
        2, "error PK-Y41 no plugin 'pk-bat' is installed; did you mean 'pk-bad'?\n"
    )  # fmt: skip
    wrong = probekit(folder, "validate", "pool.yaml", "--no-plugin", "pk-bat")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error PK-Y41 --no-plugin: no plugin 'pk-bat' is installed; did you mean 'pk-bad'?")


def test_a_schema_can_be_had_beside_a_broken_plugin(folder):
    done = probekit(folder, "schema", "--no-plugin", "pk-bad")
    assert (done.returncode, done.stderr) == (0, "")
    assert "reduction.good" in done.stdout
