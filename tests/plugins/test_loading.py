"""Plugins as distributions on disk: found by their metadata, imported when needed, named when they are broken."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from probekit import Backend, MachineError, Plugins, Reduction
from probekit.errors import SpecError, UnknownKindError
from probekit.hookspecs import REGISTER_HOOKS
from probekit.plugins import BUILT_IN, CORE, FINDING, FINDINGS, FIRST_PARTY, LISTENER, installed_providers
from probekit.plugins.loading import DISABLE

ROOT = Path(__file__).parents[2]

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
    plugins = Plugins()
    assert {p.distribution for p in plugins.providers} == {CORE}
    assert next(by for one, by in plugins.off.items() if one.kind == "good") == f"by {DISABLE}"


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
        "type: pip uninstall pk-two, or add --no-plugin pk-two"
    )
    assert broken() == [("PK-G01", message)]
    assert "pk_one" not in sys.modules


def test_of_two_claims_the_one_that_is_meant_counts(site):
    site.add("pk-one", {"reduction.good": "pk_one"}, {"pk_one": GOOD})
    site.add("PK_Two", {"reduction.good": "pk_two"}, {"pk_two": GOOD})
    assert Plugins().find("reduction", "good", {"pk-two"}).__module__ == "pk_two"
    assert Plugins(without=["pk.two"]).find("reduction", "good").__module__ == "pk_one"
    with pytest.raises(MachineError, match="claimed by pk-one"):
        Plugins().find("reduction", "good", {"pk-two", "pk-one"})


def test_a_built_in_kind_is_probekits_own_whoever_claims_it(site):
    site.add("pk-pool", {"reduction.pool": "pk_pool"}, {"pk_pool": "raise SystemError\n"})
    plugins = Plugins()
    assert plugins.find("reduction", "pool").__module__ == "probekit.reductions.data_free"
    assert plugins.find("reduction", "pool", {"pk-pool"}).__module__ == "probekit.reductions.data_free"
    own, other = (one for one in plugins.providers if one.kind == "pool")
    plugins.check(own)
    with pytest.raises(MachineError) as refused:
        plugins.check(other)
    assert str(refused.value) == (
        f"reduction kind 'pool' is claimed by {own} and by pk-pool 1.0 (pk_pool); "
        "type: pip uninstall pk-pool, or add --no-plugin pk-pool"
    )


def test_what_is_switched_off_is_not_there_and_says_so(site):
    site.add("Pk_Good", {"reduction.good": "pk_good"}, {"pk_good": GOOD})
    plugins = Plugins(without=["pk.good"])
    assert "good" not in plugins.kinds("reduction")
    assert [str(one) for one in plugins.off] == ["Pk_Good 1.0 (pk_good)"]
    with pytest.raises(UnknownKindError) as unknown:
        plugins.find("reduction", "good")
    assert unknown.value.what == "kind 'good' is Pk_Good's, which is switched off by --no-plugin Pk_Good"
    assert "pk_good" not in sys.modules


def test_a_misspelt_name_switches_nothing_off(site):
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": GOOD})
    with pytest.raises(SpecError) as refused:
        Plugins(without=["pk-goood", "probekit-platform"])
    first, second = refused.value.problems
    assert (first.code, str(first)) == (
        "PK-Y41", "--no-plugin: no plugin 'pk-goood' is installed; did you mean 'pk-good'?"
    )  # fmt: skip
    assert second.what == "--no-plugin: no plugin 'probekit-platform' is installed"


def test_what_is_named_is_there_though_the_variable_leaves_all_others_out(site, monkeypatch):
    site.add("Pk_Good", {"reduction.good": "pk_good"}, {"pk_good": GOOD})
    site.add("pk-other", {"reduction.other": "pk_other"}, {"pk_other": GOOD})
    monkeypatch.setenv("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = Plugins(named=["pk.good"])
    assert plugins.named == ("pk-good",)
    assert [one.distribution for one in plugins.providers if not one.built_in] == ["Pk_Good"]
    assert "pk-other" in {one.distribution for one in plugins.off}
    assert "pk_good" not in sys.modules
    assert plugins.find("reduction", "good").kind_name() == "good"


def test_a_name_that_cannot_be_used_is_told(site):
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": GOOD})
    with pytest.raises(SpecError) as refused:
        Plugins(named=["pk-goood", "PK_good"], without=["pk-good"])
    assert [(one.code, str(one)) for one in refused.value.problems] == [
        ("PK-Y41", "-p: no plugin 'pk-goood' is installed; did you mean 'pk-good'?"),
        ("PK-Y41", "-p and --no-plugin both name 'pk-good'; leave one out"),
    ]


@pytest.mark.parametrize(("hook", "category"), [("on_run_end(result)", "listener"), ("find(result)", "finding")])
def test_a_hook_that_no_entry_point_declares_is_told(site, hook, category):
    text = GOOD + f"@hookimpl\ndef {hook}:\n    return []\n"
    site.add("pk-shy", {"reduction.good": "pk_shy"}, {"pk_shy": text})
    name = hook.split("(")[0]
    [(code, message)] = broken()
    assert code == "PK-G04"
    assert message == (
        f"plugin pk-shy 1.0 (pk_shy) implements {name!r}, but has no entry point '{category}.NAME'; "
        f'declare it: "{category}.NAME" = "pk_shy"'
    )


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
        "CATEGORY.KIND, with one of backend, dataset, factor, reduction, probe, control, report, executor, listener, "
        "finding"
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


def test_the_base_classes_are_what_the_hooks_promise():
    from probekit.components import BASE_CLASSES

    assert set(BASE_CLASSES) == set(REGISTER_HOOKS)
    assert LISTENER not in REGISTER_HOOKS
    assert BASE_CLASSES["backend"] is Backend
