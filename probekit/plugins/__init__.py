"""Which kinds exist, who provides them, the loading of a kind's module when a spec names it, and the calls of hooks.

The metadata of installed distributions answers which kinds exist; nothing is imported for that. The built-in
components are listed as strings and come in through the same hooks as anyone's.
"""

from __future__ import annotations

from probekit.plugins.built_in import BUILT_IN, CORE, FINDING, FINDINGS, FIRST_PARTY, GROUP, LISTENER, SEVERITIES
from probekit.plugins.calling import RunHooks
from probekit.plugins.loading import Plugins
from probekit.plugins.providers import Provider, installed_providers
from probekit.plugins.required import SpecPlugins

__all__ = [
    "BUILT_IN",
    "CORE",
    "FINDING",
    "FINDINGS",
    "FIRST_PARTY",
    "GROUP",
    "LISTENER",
    "SEVERITIES",
    "Plugins",
    "Provider",
    "RunHooks",
    "SpecPlugins",
    "installed_providers",
]
