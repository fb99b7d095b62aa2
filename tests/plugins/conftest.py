"""Distributions beside the installed ones."""

import importlib
import sys

import pytest


@pytest.fixture
def site(tmp_path, monkeypatch, distributions):
    """Distributions beside the installed ones, in this process; what they import is forgotten afterwards."""
    folder = tmp_path / "site"
    made = distributions.Site(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("PROBEKIT_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    before = set(sys.modules)
    yield made
    for module in set(sys.modules) - before:
        if (folder / module.split(".")[0]).exists() or (folder / f"{module}.py").exists():
            del sys.modules[module]
    importlib.invalidate_caches()
