"""Where a result comes from: versions, machine, plugins."""

from __future__ import annotations

import platform
import shlex
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from probekit.plugins import Plugins
    from probekit.spec import LoadedSpec

PACKAGES = (
    "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "pillow", "pydantic", "scikit-learn", "timm", "torch",
    "torchvision",
)  # fmt: skip
"""Whose versions may change a result."""


def reproduce_command(loaded: LoadedSpec) -> str:
    """Return what to type to run a spec again, quoted for a shell."""
    words = ["probekit", "run", loaded.file]
    for setting in loaded.settings:
        words += ["--set", setting]
    if any(component.code_to_trust() is not None for component in loaded.spec.components().values()):
        words.append("--trust-code")
    return shlex.join(words)


def environment(started: datetime, plugins: Plugins) -> dict[str, Any]:
    """Return versions, the platform, the time of the start and the plugins that were loaded."""
    from probekit import __version__

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    loaded = [
        {"kind": f"{p.category}.{p.kind}", "distribution": p.distribution, "version": p.release, "module": p.module}
        for p in plugins.loaded()
    ]
    return {
        "probekit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "plugins": loaded,
        "started": started.isoformat(timespec="seconds"),
    }
