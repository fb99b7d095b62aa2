"""How much memory a run may take."""

from __future__ import annotations

from pathlib import Path

SHARE = 0.8
"""Of what is free, what a run takes where the spec does not say."""
LEAST = 256 << 20
"""A run is never given less, in bytes."""


def available_memory() -> int | None:
    """Return the bytes that this process may still take, by the kernel and the container; None where unknown."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
            limits.append(int(limit) - used)
    except (OSError, ValueError):
        pass
    return min(limits) if limits else None


def memory_budget(asked: int | None) -> int:
    """Return the bytes that features may take while probes are fitted.

    Args:
        asked: the spec's ``memory``, in bytes; None: a share of what is free, 4 GiB where that is unknown.
    """
    free = available_memory()
    usual = int(SHARE * free) if free is not None else 4 << 30
    return max(usual if asked is None else asked, LEAST)
