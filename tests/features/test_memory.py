"""How much memory a run may take: the kernel's word, the container's, the spec's."""

import pathlib
from typing import Any

import pytest

from probekit.features import memory
from probekit.features.memory import available_memory, memory_budget


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8 kB\nSwap: 1 kB\n"}, 8192),
        ({"/proc/meminfo": "MemAvailable: 8 kB\n", "/sys/fs/cgroup/memory.max": "max\n"}, 8192),
        (
            {
                "/proc/meminfo": "MemAvailable: 8 kB\n", "/sys/fs/cgroup/memory.max": "5000\n",
                "/sys/fs/cgroup/memory.current": "1500\n",
            },
            3500,
        ),
        (
            {
                "/proc/meminfo": "MemAvailable: 8 kB\n", "/sys/fs/cgroup/memory.max": "99999\n",
                "/sys/fs/cgroup/memory.current": "1\n",
            },
            8192,
        ),
        ({"/proc/meminfo": "strange\n"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_free_memory_is_the_lesser_of_the_kernels_and_the_containers(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int | None
) -> None:
    def read(path: pathlib.Path, **_: Any) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(pathlib.Path, "read_text", read)
    assert available_memory() == free


@pytest.mark.parametrize(
    ("free", "asked", "budget"),
    [
        (10 << 30, None, 8 << 30),
        (None, None, 4 << 30),
        (10 << 30, 3 << 30, 3 << 30),
        (1 << 30, 3 << 30, 3 << 30),
        (1 << 20, None, 256 << 20),
        (10 << 30, 1, 256 << 20),
    ],
    ids=["a share", "unknown", "the spec's", "the spec's, above what is free", "no less", "no less, said the spec"],
)
def test_a_budget_is_the_specs_or_a_share_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int | None, asked: int | None, budget: int
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    assert memory_budget(asked) == budget
