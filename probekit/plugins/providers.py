"""Who provides which kind, as the metadata of installed distributions tells it. Nothing is imported."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from probekit.plugins.built_in import BUILT_IN, CORE, GROUP


@dataclass(frozen=True)
class Provider:
    """One kind, as its distribution's metadata declares it.

    Args:
        category: ``backend``, ``dataset``, ``factor``, ``reduction``, ``probe``, ``control``, ``report``,
            ``executor``, ``listener`` or ``finding``.
        kind: the name that specs use.
        module: what is imported when it is needed.
        distribution: who provides it.
        release: the distribution's version.
    """

    category: str
    kind: str
    module: str
    distribution: str
    release: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.release} ({self.module})"

    @property
    def name(self) -> str:
        """The distribution's name in normal form, by which it is compared: lower case, ``-`` for ``_`` and ``.``."""
        return str(canonicalize_name(self.distribution))

    @property
    def built_in(self) -> bool:
        """Whether probekit itself provides it."""
        return self.name == CORE


def installed_providers(autoload: bool = True) -> list[Provider]:
    """Return all kinds that the metadata of installed distributions declares, the built-in ones first.

    Args:
        autoload: False leaves out every distribution but probekit's own.
    """
    from probekit import __version__

    providers = [
        Provider(category, kind, module, CORE, __version__)
        for (category, kind), module in ((name.split("."), module) for name, module in BUILT_IN.items())
    ]
    if not autoload:
        return providers
    found = {
        (*point.name.partition(".")[::2], point.value, point.dist.name or "(no name)", point.dist.version or "?")
        for point in importlib.metadata.entry_points(group=GROUP)
        if point.dist is not None
    }
    return providers + [Provider(*parts) for parts in sorted(found)]
