"""What a spec requires: versions by the rules of packages, and the kinds that are left without them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.version import Version

from probekit import Plugins, __version__
from probekit.errors import UnknownKindError
from probekit.plugins import CORE, Provider, SpecPlugins, installed_providers
from probekit.plugins.required import unmet

OWN = installed_providers(autoload=False)


def there(release: str, name: str = "Pk_One") -> Plugins:
    """Return what is there when a plugin has a version."""
    return Plugins([*OWN, Provider("reduction", "good", "pk_one", name, release)])


@given(
    there_=st.tuples(*[st.integers(0, 3)] * 3), asked=st.tuples(*[st.integers(0, 3)] * 3),
    operator=st.sampled_from([">=", "<=", ">", "<", "==", "!="]),
)  # fmt: skip
def test_versions_of_three_numbers_are_compared_as_their_numbers(there_, asked, operator):
    release, wanted = (".".join(map(str, one)) for one in (there_, asked))
    holds = {
        ">=": there_ >= asked, "<=": there_ <= asked, ">": there_ > asked, "<": there_ < asked, "==": there_ == asked,
        "!=": there_ != asked,
    }[operator]  # fmt: skip
    problem = unmet(Requirement(f"pk-one {operator} {wanted}"), there(release))
    assert (problem is None) == holds
    if problem is not None:
        assert problem.code == "PK-G06"
        assert problem.what == f"Pk_One {release} is installed, but the spec requires 'pk-one{operator}{wanted}'"
        assert problem.hint == f"type: pip install 'pk-one{operator}{wanted}'"


@pytest.mark.parametrize(
    ("asked", "release", "met"),
    [
        ("pk.one", "1.0", True),
        ("PK__one>=1,<2", "1.9", True),
        ("pk-one>=1,<2", "2.0", False),
        ("pk-one~=1.4", "1.9", True),
        ("pk-one==1.*", "1.2rc1", True),  # a pre-release that is installed counts
        ("pk-one>=1.2", "1.2rc1", False),
        ("pk-one", "?", True),
        ("pk-one>=0", "?", False),
    ],
)
def test_a_requirement_is_read_as_pip_reads_it(asked, release, met):
    assert (unmet(Requirement(asked), there(release)) is None) == met


def test_probekit_itself_can_be_required():
    assert unmet(Requirement(f"{CORE}=={__version__}"), Plugins(OWN)) is None
    later = f"{CORE}>{Version(__version__).major + 1}"
    problem = unmet(Requirement(later), Plugins(OWN))
    assert (problem.code, problem.hint) == ("PK-G06", f"type: pip install --upgrade '{later}'")


@pytest.mark.parametrize(
    ("asked", "what", "hint"),
    [
        ("pk-two>=3", "the required plugin 'pk-two' is not installed", "type: pip install 'pk-two>=3'"),
        (
            "pk-onne", "the required plugin 'pk-onne' is not installed",
            "did you mean 'Pk_One'? or type: pip install 'pk-onne'",
        ),
        (
            "probekit-toy", "the required plugin 'probekit-toy' is not installed",
            "type: pip install ./plugins/probekit-toy  (in probekit's source folder)",
        ),
        (
            "numpy", "'numpy' is installed, but is no plugin: it has no entry point in the group 'probekit'",
            "leave it out",
        ),
    ],
)  # fmt: skip
def test_an_absent_plugin_is_told_with_what_to_type(asked, what, hint, monkeypatch):
    monkeypatch.setattr("probekit.plugins.required._is_installed", lambda name: name == "numpy")
    problem = unmet(Requirement(asked), there("1.0"))
    assert (problem.code, problem.what, problem.hint) == ("PK-G05", what, hint)


def test_a_plugin_that_is_switched_off_is_told_with_what_did_it(site, distributions, monkeypatch):
    site.add("pk-good", {"reduction.good": "pk_good"}, {"pk_good": distributions.GOOD})
    wanted = Requirement("pk-good")
    assert unmet(wanted, Plugins()) is None
    assert unmet(wanted, Plugins(without=["pk-good"])).what == (
        "the required plugin 'pk-good' is switched off by --no-plugin pk-good"
    )
    monkeypatch.setenv("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert unmet(wanted, Plugins()).what.endswith("is switched off by PROBEKIT_DISABLE_PLUGIN_AUTOLOAD")


def test_a_plugin_of_another_version_is_not_imported(site):
    site.add("pk-bad", {"reduction.good": "pk_bad"}, {"pk_bad": "raise SystemError\n"})
    known = SpecPlugins(Plugins(), [Requirement("pk-bad>=2")])
    assert "good" not in known.kinds("reduction")
    with pytest.raises(UnknownKindError) as unknown:
        known.find("reduction", "good")
    assert unknown.value.code == "PK-G05"
    assert unknown.value.what == "no plugin provides kind 'good' while 'pk-bad' cannot be used"
    assert known.find("reduction", "pool").kind_name() == "pool"


def test_of_two_that_claim_a_kind_the_required_one_is_meant(site, distributions):
    site.add("pk-one", {"reduction.good": "pk_one"}, {"pk_one": distributions.GOOD})
    site.add("pk-two", {"reduction.good": "pk_two"}, {"pk_two": distributions.GOOD})
    known = SpecPlugins(Plugins(), [Requirement("PK_two>=1")])
    assert known.find("reduction", "good").__module__ == "pk_two"


def test_of_two_that_claim_a_kind_the_one_that_the_command_line_names_is_meant(site, distributions):
    site.add("pk-one", {"reduction.good": "pk_one"}, {"pk_one": distributions.GOOD})
    site.add("pk-two", {"reduction.good": "pk_two"}, {"pk_two": distributions.GOOD})
    assert SpecPlugins(Plugins(named=["pk-two"]), []).find("reduction", "good").__module__ == "pk_two"
