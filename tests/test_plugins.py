"""Plugins as distributions on disk: found by their metadata, imported when needed, named when they are broken."""

import importlib
import os
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest

from probekit import Backend, MachineError, Plugins, Reduction
from probekit.errors import ProbekitWarning, UnknownKindError
from probekit.hookspecs import REGISTER_HOOKS
from probekit.plugins import (
    BUILT_IN,
    CORE,
    FINDING,
    FINDINGS,
    FIRST_PARTY,
    LISTENER,
    SEVERITIES,
    installed_providers,
)
from probekit.results import GraphRecord, RunResult, Severity

ROOT = Path(__file__).parents[1]

REDUCTION = """\
from typing import Literal
from probekit import Reduction, hookimpl

class {name}(Reduction):
    "A reduction."
    kind: Literal["{kind}"] = "{kind}"

    def program(self, tap):
        return ()

"""
GOOD = REDUCTION.format(name="Good", kind="good") + "@hookimpl\ndef register_reductions():\n    return [Good]\n"


class Site:
    """A folder on sys.path with distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, points: dict[str, str], modules: dict[str, str], release: str = "1.0") -> None:
        info = self.folder / f"{name.replace('-', '_')}-{release}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")
        lines = [f"{point} = {module}" for point, module in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[probekit]", *lines, ""]))
        for module, text in modules.items():
            (self.folder / f"{module}.py").write_text(text)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Distributions beside the installed ones, in this process; what they import is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    before = set(sys.modules)
    yield Site(folder)
    for module in set(sys.modules) - before:
        if (folder / f"{module}.py").exists():
            del sys.modules[module]
    importlib.invalidate_caches()


def broken(kind: str = "good", category: str = "reduction") -> list[tuple[str, str]]:
    """Return the problems of looking a kind up, as (code, whole message)."""
    with pytest.raises(MachineError) as refused:
        Plugins().find(category, kind)
    return [(problem.code, str(problem)) for problem in refused.value.problems]


# --- finding ----------------------------------------------------------------------------------------------------------


def test_kinds_are_known_from_metadata_without_an_import(site):
    site.add("pk-good", {"reduction.good": "pk_good", "listener.log": "pk_good"}, {"pk_good": "raise SystemError\n"})
    plugins = Plugins()
    assert "good" in plugins.kinds("reduction")
    assert "log" not in plugins.kinds("reduction")
    assert "pk_good" not in sys.modules
    provider = next(p for p in plugins.providers if p.kind == "good")
    assert str(provider) == "pk-good 1.0 (pk_good)"
    assert plugins.loaded() == []


def test_a_kind_is_imported_when_it_is_looked_up(site):
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": GOOD})
    plugins = Plugins()
    found = plugins.find("reduction", "good")
    assert issubclass(found, Reduction)
    assert found.kind_name() == "good"
    assert plugins.find("reduction", "good") is found
    assert [(p.distribution, p.kind) for p in plugins.loaded()] == [("pk-good", "good")]


def test_one_module_may_provide_several_kinds(site):
    text = GOOD.replace("return [Good]", "return [Good, Fine]")
    text = REDUCTION.format(name="Fine", kind="fine") + text
    site.add("pk-two", {"reduction.good": "pk_two", "reduction.fine": "pk_two"}, {"pk_two": text})
    plugins = Plugins()
    assert plugins.find("reduction", "fine").kind_name() == "fine"
    assert plugins.find("reduction", "good").kind_name() == "good"


def test_a_variable_leaves_all_plugins_out(site, monkeypatch):
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": GOOD})
    assert any(p.distribution != CORE for p in Plugins().providers)
    monkeypatch.setenv("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert {p.distribution for p in Plugins().providers} == {CORE}


def test_the_built_in_kinds_come_first_and_are_what_their_modules_register():
    providers = installed_providers()
    assert [f"{p.category}.{p.kind}" for p in providers[: len(BUILT_IN)]] == list(BUILT_IN)
    assert {p.release for p in providers[: len(BUILT_IN)]} == {version(CORE)}
    plugins = Plugins(installed_providers(autoload=False))
    registered = {f"finding.{name}" for name in FINDINGS}
    for provider in plugins.providers:
        if provider.category == FINDING:
            plugins.check(provider)
            continue
        assert plugins.find(provider.category, provider.kind).category == provider.category
        registered |= {f"{category}.{kind}" for category, kind in plugins._classes[provider.module]}
    assert registered == set(BUILT_IN)


def test_the_toy_plugin_is_what_the_table_of_first_parties_says():
    toys = {f"{p.category}.{p.kind}" for p in installed_providers() if p.distribution == "probekit-toy"}
    assert toys == {name for name, place in FIRST_PARTY.items() if place == "./plugins/probekit-toy"}
    assert (ROOT / "plugins" / "probekit-toy" / "pyproject.toml").is_file()


def test_a_half_removed_distribution_costs_nothing(site):
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": GOOD})
    (site.folder / "pk_good-1.0.dist-info" / "METADATA").unlink()
    plugins = Plugins()
    assert plugins.find("reduction", "pool").kind_name() == "pool"
    assert [str(p) for p in plugins.providers if p.kind == "good"] == ["(no name) ? (pk_good)"]


# --- kinds that are not there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what", "hint", "code"),
    [
        ("reduction.polo", "no plugin provides kind 'polo'", "did you mean 'pool'? installed: {kinds}", "PK-Y31"),
        ("reduction.XYZ", "no plugin provides kind 'XYZ'", "installed: {kinds}", "PK-Y31"),
        ("reduction.", "no plugin provides kind ''", "installed: {kinds}", "PK-Y31"),
        (
            "backend.toy",
            "no installed plugin provides kind 'toy'",
            "type: pip install ./plugins/probekit-toy  (in probekit's source folder)",
            "PK-Y31",
        ),
    ],
)
def test_an_unknown_kind_is_answered_with_what_there_is(name, what, hint, code):
    plugins = Plugins(installed_providers(autoload=False))
    category, _, kind = name.partition(".")
    with pytest.raises(UnknownKindError) as unknown:
        plugins.find(category, kind)
    expected = hint.format(kinds=", ".join(plugins.kinds(category)))
    assert (unknown.value.what, unknown.value.hint, unknown.value.code) == (what, expected, code)


def test_every_kind_of_the_tables_is_of_a_category():
    assert {name.split(".")[0] for name in [*BUILT_IN, *FIRST_PARTY]} <= {*REGISTER_HOOKS, FINDING}


# --- broken plugins ---------------------------------------------------------------------------------------------------


def test_a_kind_that_is_claimed_twice_names_both_distributions(site):
    site.add("pk-one", {"reduction.good": "pk_one"}, {"pk_one": GOOD}, "0.3")
    site.add("pk-two", {"reduction.good": "pk_two"}, {"pk_two": GOOD}, "1.2rc1")
    message = (
        "reduction kind 'good' is claimed by pk-one 0.3 (pk_one) and by pk-two 1.2rc1 (pk_two); "
        "type: pip uninstall pk-two"
    )
    assert broken() == [("PK-G01", message)]
    assert "pk_one" not in sys.modules


def test_a_plugin_that_claims_a_built_in_kind_is_named(site):
    site.add("pk-pool", {"reduction.pool": "pk_pool"}, {"pk_pool": GOOD})
    [(code, message)] = broken("pool")
    assert code == "PK-G01"
    assert message.endswith("and by pk-pool 1.0 (pk_pool); type: pip uninstall pk-pool")
    assert f"claimed by {CORE} " in message


UPGRADE = "type: pip install --upgrade pk-bad"
BAD = [
    # what an import does
    (
        "raise RuntimeError('no\\nlibrary')",
        "PK-G02",
        rf"plugin pk-bad 2.1 (pk_bad) cannot be imported: RuntimeError: no\nlibrary; {UPGRADE}",
    ),
    (
        "import no_module_of_this_name",
        "PK-G02",
        "plugin pk-bad 2.1 (pk_bad) cannot be imported: ModuleNotFoundError: No module named "
        f"'no_module_of_this_name'; {UPGRADE}",
    ),
    ("import sys; sys.exit(0)", "PK-G02", f"plugin pk-bad 2.1 (pk_bad) cannot be imported: SystemExit: 0; {UPGRADE}"),
    # hooks that do not fit
    (
        GOOD.replace("register_reductions", "register_reduction"),
        "PK-G03",
        "plugin pk-bad 2.1 (pk_bad) implements 'register_reduction', which is no hook; "
        "did you mean 'register_reductions'?",
    ),
    (
        GOOD.replace("register_reductions()", "register_reductions(manager)"),
        "PK-G03",
        "plugin pk-bad 2.1 (pk_bad) does not fit the hooks: Argument(s) {'manager'} are declared in the hookimpl but "
        "can not be found in the hookspec",
    ),
    # hooks that return something else
    (
        GOOD.replace("return [Good]", "return 1 / 0"),
        "PK-G02",
        "register_reductions of plugin pk-bad 2.1 (pk_bad) raised ZeroDivisionError: division by zero",
    ),
    (
        GOOD.replace("return [Good]", "return Good"),
        "PK-G02",
        "register_reductions of plugin pk-bad 2.1 (pk_bad) raised TypeError: 'ModelMetaclass' object is not iterable",
    ),
    (
        GOOD.replace("return [Good]", "return [3]"),
        "PK-G04",
        "register_reductions of plugin pk-bad 2.1 (pk_bad) returns 3, which is no reduction",
    ),
    (
        GOOD.replace("register_reductions", "register_probes"),
        "PK-G04",
        "register_probes of plugin pk-bad 2.1 (pk_bad) returns Good, which is no probe",
    ),
    (
        GOOD.replace("def program", "def prorgam"),
        "PK-G04",
        "register_reductions of plugin pk-bad 2.1 (pk_bad) returns Good, which lacks program",
    ),
    (
        GOOD.replace('    kind: Literal["good"] = "good"\n', ""),
        "PK-G04",
        "register_reductions of plugin pk-bad 2.1 (pk_bad) returns Good, which lacks a kind: Literal[...]",
    ),
    # metadata and module disagree
    (
        GOOD.replace('"good"', '"godo"'),
        "PK-G04",
        "pk-bad 2.1 (pk_bad) declares reduction.good, but its register_reductions does not return it; "
        "did you mean 'godo'?",
    ),
    (
        GOOD.replace("return [Good]", "return None"),
        "PK-G04",
        "pk-bad 2.1 (pk_bad) declares reduction.good, but its register_reductions does not return it; it returns: none",
    ),
    (
        "",
        "PK-G04",
        "pk-bad 2.1 (pk_bad) declares reduction.good, but its register_reductions does not return it; it returns: none",
    ),
]


@pytest.mark.parametrize(("text", "code", "message"), BAD, ids=[message[20:90] for _, _, message in BAD])
def test_a_broken_plugin_is_named_and_costs_nothing_until_it_is_needed(site, text, code, message):
    site.add("pk-bad", {"reduction.good": "pk_bad"}, {"pk_bad": text}, "2.1")
    plugins = Plugins()
    assert plugins.find("reduction", "pool").kind_name() == "pool"
    assert broken() == [(code, message)]


@pytest.mark.parametrize("text", [text for text, _, _ in BAD], ids=range(len(BAD)))
def test_a_broken_plugin_is_told_the_same_when_it_is_looked_up_again(site, text):
    """A first failure must not leave half a plugin behind, which would make the second one a fault of probekit."""
    site.add("pk-bad", {"reduction.good": "pk_bad", "reduction.good2": "pk_bad"}, {"pk_bad": text}, "2.1")
    plugins = Plugins()
    told = []
    for _ in range(2):
        with pytest.raises(MachineError) as refused:
            plugins.find("reduction", "good")
        told.append(str(refused.value))
    assert told[0] == told[1]
    with pytest.raises(MachineError, match=r"pk-bad 2\.1"):
        plugins.find("reduction", "good2")
    assert plugins.find("reduction", "pool").kind_name() == "pool"


def test_every_misspelt_hook_is_told(site):
    text = (
        GOOD.replace("def register_reductions", "def register_redutcions")
        + "\n@hookimpl\ndef on_run_stop(result):\n    pass\n"
    )
    site.add("pk-bad", {"reduction.good": "pk_bad"}, {"pk_bad": text})
    assert sorted(broken()) == [
        (
            "PK-G03",
            "plugin pk-bad 1.0 (pk_bad) implements 'on_run_stop', which is no hook; did you mean 'on_run_start'?",
        ),
        (
            "PK-G03",
            "plugin pk-bad 1.0 (pk_bad) implements 'register_redutcions', which is no hook; "
            "did you mean 'register_reductions'?",
        ),
    ]


@pytest.mark.parametrize("point", ["openvino", "backends.x", "reduction.", "finding."])
def test_an_entry_point_that_is_no_kind_is_told_only_when_it_is_checked(site, point):
    site.add("pk-bad", {point: "pk_bad"}, {"pk_bad": "raise SystemError\n"})
    plugins = Plugins()
    assert "" not in plugins.kinds("reduction")
    provider = next(p for p in plugins.providers if p.distribution == "pk-bad")
    with pytest.raises(MachineError) as refused:
        plugins.check(provider)
    assert str(refused.value) == (
        f"pk-bad 1.0 (pk_bad) declares '{point.rstrip('.')}', which is no kind; its entry point is to be "
        "CATEGORY.KIND, with one of backend, dataset, factor, reduction, probe, control, report, listener, finding"
    )
    assert "pk_bad" not in sys.modules


def test_checking_tells_what_works_and_what_does_not(site):
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": GOOD})
    site.add("pk-bad", {"reduction.bad": "pk_bad", "listener.bad": "pk_bad"}, {"pk_bad": "raise RuntimeError\n"})
    plugins = Plugins()
    works = {}
    for provider in plugins.providers:
        try:
            plugins.check(provider)
        except MachineError:
            works[f"{provider.category}.{provider.kind}"] = False
        else:
            works[f"{provider.category}.{provider.kind}"] = True
    assert [name for name, fine in works.items() if not fine] == ["listener.bad", "reduction.bad"]
    assert works["reduction.good"]
    assert set(BUILT_IN) <= set(works)


# --- listeners --------------------------------------------------------------------------------------------------------

LISTENERS = """\
from probekit import hookimpl

heard = []

@hookimpl
def on_run_start(spec):
    heard.append(("start", spec))

@hookimpl
def on_run_end(result):
    heard.append(("end", result))
"""


def test_a_listener_hears_the_events_in_order(site):
    site.add("pk-ear", {"listener.ear": "pk_ear"}, {"pk_ear": LISTENERS})
    plugins = Plugins()
    plugins.emit("on_run_start", spec="too early")
    plugins.load_listeners()
    plugins.load_listeners()
    plugins.emit("on_run_start", spec="s")
    plugins.emit("on_probe_fitted", probe="nobody listens")
    plugins.emit("on_run_end", result="r")
    assert sys.modules["pk_ear"].heard == [("start", "s"), ("end", "r")]
    assert [p.kind for p in plugins.loaded()] == ["ear"]


def test_a_listener_that_raises_is_a_warning_that_names_it_and_the_others_hear_on(site):
    site.add("pk-ear", {"listener.ear": "pk_ear"}, {"pk_ear": LISTENERS})
    loud = LISTENERS.replace('heard.append(("start", spec))', 'raise ValueError("too loud")')
    site.add("pk-loud", {"listener.loud": "pk_loud"}, {"pk_loud": loud}, "0.2")
    plugins = Plugins()
    plugins.load_listeners()
    with pytest.warns(ProbekitWarning) as told:
        plugins.emit("on_run_start", spec="s")
    assert [str(one.message) for one in told] == [
        "on_run_start of plugin pk-loud 0.2: pk_loud raised ValueError: too loud"
    ]
    assert sys.modules["pk_ear"].heard == [("start", "s")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugins.emit("on_run_end", result="r")
    assert sys.modules["pk_loud"].heard == [("end", "r")]


def test_a_listener_that_cannot_be_imported_is_a_warning_that_names_it(site):
    site.add("pk-mute", {"listener.mute": "pk_mute"}, {"pk_mute": "raise OSError('no sound')\n"})
    site.add("pk-ear", {"listener.ear": "pk_ear"}, {"pk_ear": LISTENERS})
    plugins = Plugins()
    with pytest.warns(ProbekitWarning) as told:
        plugins.load_listeners()
    assert [str(one.message) for one in told] == [
        "listener 'mute' is left out: plugin pk-mute 1.0 (pk_mute) cannot be imported: OSError: no sound; "
        "type: pip install --upgrade pk-mute"
    ]
    plugins.emit("on_run_end", result="r")
    assert sys.modules["pk_ear"].heard == [("end", "r")]


# --- findings ---------------------------------------------------------------------------------------------------------

FIND = """\
from probekit import hookimpl
from probekit.results import FindingRecord

@hookimpl
def find(result):
    return [FindingRecord(kind="wide", severity="notice", sentence=f"The run {result.name}.")]
"""


@pytest.fixture
def result():
    """A result in which no built-in finding finds anything."""
    return RunResult(name="r", probes=[], model=[], graph=GraphRecord(taps=[], edges=[]), provenance={})


def left_out(result: RunResult) -> list[str]:
    """Return what is warned of when findings are collected, none being found."""
    with pytest.warns(ProbekitWarning) as told:
        assert Plugins().findings(result) == []
    return [str(one.message) for one in told]


def test_a_plugin_finds_beside_the_built_in_findings(site, result):
    site.add("pk-find", {"finding.wide": "pk_find"}, {"pk_find": FIND})
    plugins = Plugins()
    assert plugins.loaded() == []
    plugins.load_findings()
    assert [str(provider) for provider in plugins.loaded()] == ["pk-find 1.0 (pk_find)"]
    (found,) = plugins.findings(result)
    assert (found.kind, found.sentence) == ("wide", "The run r.")


def test_findings_come_by_severity_and_then_as_they_were_found(site, result):
    kinds = {"info": "a", "problem": "b", "notice": "c", "warning": "d"}
    lines = [f"one({kind!r}, {severity!r})" for severity, kind in [*kinds.items(), *reversed(kinds.items())]]
    text = FIND.replace("def find", "def unused").replace("@hookimpl", "")
    text += "one = lambda kind, severity: FindingRecord(kind=kind, severity=severity, sentence=kind)\n"
    text += f"@hookimpl\ndef find(result):\n    return [{', '.join(lines)}]\n"
    site.add("pk-find", {f"finding.{kind}": "pk_find" for kind in "abcd"}, {"pk_find": text})
    site.add("pk-last", {"finding.wide": "pk_last"}, {"pk_last": FIND})
    found = Plugins().findings(result)
    assert [one.kind for one in found] == ["b", "b", "d", "d", "c", "c", "wide", "a", "a"]


def test_the_order_of_severities_is_that_of_the_records():
    assert tuple(reversed(get_args(Severity))) == SEVERITIES


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('too deep')", "raised ValueError: too deep"),
        ("return [3]", "returns no list of FindingRecord: Input should be "),
        ("return 3", "returns no list of FindingRecord: Input should be a valid list"),
        (
            "return [FindingRecord(kind='wide', severity='bad', sentence='')]",
            "returns no list of FindingRecord: Input ",
        ),
        ("return [FindingRecord(kind='wide', severity='info', sentence='', evidence={'x': object()})]", "raised "),
        (
            "return [FindingRecord(kind='wid', severity='info', sentence='')]",
            "returns a finding 'wid', which its entry points do not declare; did you mean 'wide'?",
        ),
        (
            "return [FindingRecord(kind='best_tap', severity='info', sentence='')]",
            "returns a finding 'best_tap', which its entry points do not declare; declared: wide",
        ),
    ],
)
def test_a_finding_that_fails_is_a_warning_that_names_it(site, result, body, message):
    text = FIND.replace(FIND.split("def find(result):\n    ")[1], body + "\n")
    site.add("pk-bad", {"finding.wide": "pk_bad"}, {"pk_bad": text}, "2.1")
    (told,) = left_out(result)
    assert told.startswith(f"finding 'wide' is left out: find of plugin pk-bad 2.1 (pk_bad) {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "raise OSError('no eyes')",
            "plugin pk-bad 1.0 (pk_bad) cannot be imported: OSError: no eyes; type: pip install --upgrade pk-bad",
        ),
        (
            FIND.replace("def find", "def fnid"),
            "plugin pk-bad 1.0 (pk_bad) implements 'fnid', which is no hook; did you mean 'find'?",
        ),
        (FIND.replace("@hookimpl", ""), "pk-bad 1.0 (pk_bad) declares finding.wide, but has no hook 'find'"),
    ],
)
def test_a_finding_that_cannot_be_loaded_is_a_warning_that_names_it(site, result, text, message):
    site.add("pk-bad", {"finding.wide": "pk_bad"}, {"pk_bad": text})
    assert left_out(result) == [f"finding 'wide' is left out: {message}"]
    with pytest.warns(ProbekitWarning, match="finding 'wide' is left out"):
        Plugins().load_findings()
    provider = next(p for p in Plugins().providers if p.distribution == "pk-bad")
    with pytest.raises(MachineError) as refused:
        Plugins().check(provider)
    assert str(refused.value) == message


def test_of_two_findings_with_one_name_the_first_counts(site, result):
    site.add("pk-one", {"finding.wide": "pk_one"}, {"pk_one": FIND})
    site.add("pk-two", {"finding.wide": "pk_two", "finding.gain": "pk_two"}, {"pk_two": "raise SystemError\n"})
    with pytest.warns(ProbekitWarning) as told:
        assert [one.kind for one in Plugins().findings(result)] == ["wide"]
    core, one = f"{CORE} {version(CORE)} (probekit.findings.gain)", "pk-one 1.0 (pk_one)"
    assert sorted(str(one.message) for one in told) == [
        f"finding 'gain' is left out: pk-two 1.0 (pk_two) has the name of {core}; type: pip uninstall pk-two",
        f"finding 'wide' is left out: pk-two 1.0 (pk_two) has the name of {one}; type: pip uninstall pk-two",
    ]
    assert "pk_two" not in sys.modules


# --- through the command line -----------------------------------------------------------------------------------------

SPEC = """\
probekit: 1
model: {{kind: onnx, path: a.onnx}}
data: {{kind: digits}}
labels: {{digit: {{kind: column, column: label}}}}
reduction: {{kind: {kind}}}
"""


def probekit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(folder / "site")}
    environ.pop("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", None)
    return subprocess.run(
        [sys.executable, "-m", "probekit", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environ,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site")
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": GOOD + "print('IMPORTED')\n"})
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


def test_the_base_classes_are_what_the_hooks_promise():
    from probekit.components import BASE_CLASSES

    assert set(BASE_CLASSES) == set(REGISTER_HOOKS)
    assert LISTENER not in REGISTER_HOOKS
    assert BASE_CLASSES["backend"] is Backend
