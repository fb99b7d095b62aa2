"""The hooks that a run calls: only those of plugins that are required, and what a broken one costs."""

import sys
import warnings
from importlib.metadata import version
from typing import get_args

import pytest

from probekit import MachineError, Plugins
from probekit.errors import ProbekitWarning
from probekit.plugins import CORE, SEVERITIES, RunHooks
from probekit.results import GraphRecord, RunResult, Severity


def all_hooks() -> RunHooks:
    """Return the hooks of a run that requires every plugin."""
    plugins = Plugins()
    return RunHooks(plugins, {one.name for one in plugins.providers})


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
    hooks = all_hooks()
    hooks.emit("on_run_start", spec="too early")
    hooks.load()
    hooks.load()
    hooks.emit("on_run_start", spec="s")
    hooks.emit("on_probe_fitted", probe="nobody listens")
    hooks.emit("on_run_end", result="r")
    assert sys.modules["pk_ear"].heard == [("start", "s"), ("end", "r")]
    assert [p.kind for p in hooks.plugins.loaded()] == ["ear"]


def test_a_listener_that_raises_is_a_warning_that_names_it_and_the_others_hear_on(site):
    site.add("pk-ear", {"listener.ear": "pk_ear"}, {"pk_ear": LISTENERS})
    loud = LISTENERS.replace('heard.append(("start", spec))', 'raise ValueError("too loud")')
    site.add("pk-loud", {"listener.loud": "pk_loud"}, {"pk_loud": loud}, "0.2")
    hooks = all_hooks()
    hooks.load()
    with pytest.warns(ProbekitWarning) as told:
        hooks.emit("on_run_start", spec="s")
    assert [str(one.message) for one in told] == [
        "on_run_start of plugin pk-loud 0.2: pk_loud raised ValueError: too loud"
    ]
    assert sys.modules["pk_ear"].heard == [("start", "s")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hooks.emit("on_run_end", result="r")
    assert sys.modules["pk_loud"].heard == [("end", "r")]


def test_a_listener_that_cannot_be_imported_is_a_warning_that_names_it(site):
    site.add("pk-mute", {"listener.mute": "pk_mute"}, {"pk_mute": "raise OSError('no sound')\n"})
    site.add("pk-ear", {"listener.ear": "pk_ear"}, {"pk_ear": LISTENERS})
    hooks = all_hooks()
    with pytest.warns(ProbekitWarning) as told:
        hooks.load()
    assert [str(one.message) for one in told] == [
        "listener 'mute' is left out: plugin pk-mute 1.0 (pk_mute) cannot be imported: OSError: no sound; "
        "type: pip install --upgrade pk-mute"
    ]
    hooks.emit("on_run_end", result="r")
    assert sys.modules["pk_ear"].heard == [("end", "r")]


def test_only_what_is_required_is_imported_hears_and_finds(site, result):
    site.add("pk-ear", {"listener.ear": "pk_ear", "finding.wide": "pk_ear"}, {"pk_ear": LISTENERS + FIND})
    site.add("pk-other", {"listener.other": "pk_other", "finding.deep": "pk_deep"}, {
        "pk_other": LISTENERS, "pk_deep": "raise SystemError\n",
    })  # fmt: skip
    plugins = Plugins()
    hooks = RunHooks(plugins, {"pk-ear"})
    hooks.load()
    hooks.emit("on_run_end", result="r")
    assert [one.kind for one in hooks.findings(result)] == ["wide"]
    assert sys.modules["pk_ear"].heard == [("end", "r")]
    assert {"pk_other", "pk_deep"} & set(sys.modules) == set()
    # The next run of this process does not require it: that it is loaded gives it no part.
    others = RunHooks(plugins)
    others.load()
    others.emit("on_run_end", result="again")
    assert others.findings(result) == []
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
        assert all_hooks().findings(result) == []
    return [str(one.message) for one in told]


def test_a_plugin_finds_beside_the_built_in_findings(site, result):
    site.add("pk-find", {"finding.wide": "pk_find"}, {"pk_find": FIND})
    hooks = all_hooks()
    assert hooks.plugins.loaded() == []
    hooks.load()
    assert [str(provider) for provider in hooks.plugins.loaded()] == ["pk-find 1.0 (pk_find)"]
    (found,) = hooks.findings(result)
    assert (found.kind, found.sentence) == ("wide", "The run r.")


def test_findings_come_by_severity_and_then_as_they_were_found(site, result):
    kinds = {"info": "a", "problem": "b", "notice": "c", "warning": "d"}
    lines = [f"one({kind!r}, {severity!r})" for severity, kind in [*kinds.items(), *reversed(kinds.items())]]
    text = FIND.replace("def find", "def unused").replace("@hookimpl", "")
    text += "one = lambda kind, severity: FindingRecord(kind=kind, severity=severity, sentence=kind)\n"
    text += f"@hookimpl\ndef find(result):\n    return [{', '.join(lines)}]\n"
    site.add("pk-find", {f"finding.{kind}": "pk_find" for kind in "abcd"}, {"pk_find": text})
    site.add("pk-last", {"finding.wide": "pk_last"}, {"pk_last": FIND})
    found = all_hooks().findings(result)
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
        all_hooks().load()
    provider = next(p for p in Plugins().providers if p.distribution == "pk-bad")
    with pytest.raises(MachineError) as refused:
        Plugins().check(provider)
    assert str(refused.value) == message


def test_of_two_findings_with_one_name_the_first_counts(site, result):
    site.add("pk-one", {"finding.wide": "pk_one"}, {"pk_one": FIND})
    site.add("pk-two", {"finding.wide": "pk_two", "finding.gain": "pk_two"}, {"pk_two": "raise SystemError\n"})
    with pytest.warns(ProbekitWarning) as told:
        assert [one.kind for one in all_hooks().findings(result)] == ["wide"]
    core, one = f"{CORE} {version(CORE)} (probekit.findings.gain)", "pk-one 1.0 (pk_one)"
    assert sorted(str(one.message) for one in told) == [
        f"finding 'gain' is left out: pk-two 1.0 (pk_two) has the name of {core}; type: pip uninstall pk-two",
        f"finding 'wide' is left out: pk-two 1.0 (pk_two) has the name of {one}; type: pip uninstall pk-two",
    ]
    assert "pk_two" not in sys.modules
