"""The plugin API changes only with an announcement: a page that lists it, and a line in the changelog."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

import probekit
from probekit import Section, hookspecs
from probekit.authoring import api

ROOT = Path(__file__).parents[2]

ANNOUNCE = """\
the plugin API is not what docs/plugin_api.md says. If that is meant:
1. if {version} was released, raise API_VERSION in probekit/hookspecs.py: the second number for what is new, the first
   one for what is changed or gone;
2. say in CHANGELOG.md what is new, changed or gone, in a line with: {line};
3. type: python -m probekit.authoring.api > docs/plugin_api.md"""


def announce() -> str:
    return ANNOUNCE.format(version=hookspecs.API_VERSION, line=api.announcement(api.listing()))


def test_the_page_in_the_repository_is_the_api():
    page = (ROOT / "docs" / "plugin_api.md").read_text(encoding="utf-8")
    assert page == api.page(), announce()


def test_the_changelog_announces_this_very_api():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert api.announcement(api.listing()) in changelog, announce()


def test_the_version_has_two_numbers():
    assert re.fullmatch(r"\d+\.\d+", probekit.API_VERSION)


# --- what counts as a change ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A record."""

    name: str
    sizes: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)


class Options(Section):
    """Options."""

    size: int = Field(3, description="how large")
    title: str = Field(description="what it is called")
    names: list[str] = Field(default_factory=list, description="all")


class Thing:
    """A thing."""

    category: ClassVar[str] = "thing"

    def __init__(self, a: int, *, b: str = "x") -> None:
        """Make it."""

    def go(self, *rows: int, fast: bool = False, **more: str) -> "list[int]":
        """Go."""

    @property
    def size(self) -> int:
        """Its size."""


def test_fields_and_signatures_are_listed_with_types_and_defaults(monkeypatch):
    monkeypatch.setattr(api, "_OWN", "")  # so that what stands here counts
    assert api.members(Record) == [
        "name: str", "sizes: tuple[int, ...] = ()", "notes: list[str] = ...",
    ]  # fmt: skip
    assert api.members(Options) == ["size: int = 3", "title: str", "names: list[str] = ..."]
    assert api.members(Thing) == [
        "category: ClassVar[str] = 'thing'",
        "def __init__(self, a: int, *, b: str = 'x') -> None",
        "def go(self, *rows: int, fast: bool = False, **more: str) -> list[int]",
        "size: int  # property",
    ]


def wider(self, example=None, more=None):
    """Take one more argument."""


CHANGES = {
    "a method more": lambda patch: patch.setattr(probekit.Backend, "extra", wider, raising=False),
    "another signature": lambda patch: patch.setattr(probekit.Backend, "graph", wider),
    "a method less": lambda patch: patch.delattr(probekit.Examples, "digests"),
    "a name less": lambda patch: patch.setattr(probekit, "__all__", [n for n in probekit.__all__ if n != "Tap"]),
    "another default": lambda patch: patch.setattr(probekit.Report.render, "__defaults__", (100, False)),
    "a hook less": lambda patch: patch.delattr(hookspecs, "on_run_end"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_changes_the_digest(change, monkeypatch):
    before = api.digest(api.listing())
    for name in ("graph", "extra", "digests"):  # functions of this file count as probekit's own
        monkeypatch.setattr(wider, "__module__", f"probekit.{name}")
    CHANGES[change](monkeypatch)
    assert api.digest(api.listing()) != before


def test_records_that_a_hook_passes_on_are_listed_with_their_fields():
    text = api.listing()
    for name, line in {
        "ProbeResult": "    certificate: CertificateRecord",
        "GraphRecord": "    edges: list[list[str]]",
        "CertificateRecord": "    gap: float | None",
        "Splits": "    seed: int = 0",
    }.items():
        entry = text.split(f"### `{name}`\n")[1].split("### ")[0]
        assert f"\n{line}" in entry


def test_nothing_in_the_list_depends_on_the_machine():
    assert not re.search(r"0x[0-9a-f]{6}|<function|<object|/(tmp|home|usr|work)/", api.page())
