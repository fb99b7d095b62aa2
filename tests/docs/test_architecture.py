"""The page on architecture names every module, layer and hook, and nothing that is not there."""

import re
import tomllib
from pathlib import Path

import pytest

from probekit import hookspecs
from probekit.plugins import FINDING, FINDINGS, LISTENER

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "probekit"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return what stands below a heading of the second level."""
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def told_modules() -> list[str]:
    """Return the modules of the table of layers, from top to bottom."""
    cells = re.findall(r"^\|[^|]*\|([^|]*)\|[^|]*\|$", section("Layers"), flags=re.MULTILINE)
    told = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return [
        name for one in told for name in ([f"findings/{it}" for it in FINDINGS] if one == "findings/NAME" else [one])
    ]


def modules() -> set[str]:
    """Return every module but the packages' own files."""
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {path.as_posix() for path in paths if path.name != "__init__"}


def test_every_module_has_a_row_and_every_row_a_module():
    told = told_modules()
    assert sorted(told) == sorted(set(told))
    assert set(told) == modules()


def test_layers_stand_in_the_order_of_the_contract():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    assert list(dict.fromkeys(name.split("/")[0] for name in told_modules())) == contract["layers"]


@pytest.mark.parametrize("hook", [name for name, one in vars(hookspecs).items() if hasattr(one, "probekit_spec")])
def test_every_hook_is_told(hook):
    table = re.findall(r"^\|([^|]*)\|", section("Plugins and hooks"), flags=re.MULTILINE)
    assert hook in re.findall(r"`(\w+)", " ".join(table))


@pytest.mark.parametrize("category", [*hookspecs.REGISTER_HOOKS, FINDING, LISTENER])
def test_every_category_of_entry_points_is_told(category):
    assert re.search(rf"`{category}\.\w*`", section("Plugins and hooks"))
