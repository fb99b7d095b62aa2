"""What the kit lets an executor's workers do: functions of a module's top level, over plain data."""

from __future__ import annotations

import os
import platform
import signal
import time
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from probekit.components import Probe
from probekit.errors import ProbekitWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import FeatureMatrix, FitContext, FittedProbe, MessageQueue, Target

WARNING = "the kit warns"
_POLL_SECONDS = 0.01
_BEGUN: list[tuple[Any, ...]] = []
"""The arguments with which this process was initialized, call by call."""


@dataclass(frozen=True)
class Worker:
    """Which process a task was in.

    Args:
        host: the machine's name.
        pid: of the process.
        parent: the process that started it.
        begun: the arguments of each call of the initializer there.
        met: whether as many tasks as were to meet did.
    """

    host: str
    pid: int
    parent: int
    begun: tuple[tuple[Any, ...], ...] = ()
    met: bool = True

    def is_here(self) -> bool:
        """Return whether it is this very process."""
        return (self.host, self.pid) == (platform.node(), os.getpid())

    def is_child(self) -> bool:
        """Return whether this process started it."""
        return (self.host, self.parent) == (platform.node(), os.getpid())


def begin(*arguments: Any) -> None:
    """Initialize a worker."""
    _BEGUN.append(arguments)


def echo(value: Any, seconds: float = 0.0) -> Any:
    """Return a value after some time."""
    time.sleep(seconds)
    return value


def fail(error: Exception) -> None:
    """Raise an error."""
    raise error


def tell(messages: Sequence[Any]) -> None:
    """Put messages on the queue that is the initializer's only argument."""
    queue: MessageQueue = _BEGUN[-1][0]
    for message in messages:
        queue.put(message)


def die(host: str, pid: int) -> None:
    """End the process without a word, unless it is that one."""
    if (host, pid) == (platform.node(), os.getpid()):
        raise RuntimeError("the task is in the process that must not die")
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(1)


def meet(folder: str, count: int, seconds: float) -> Worker:
    """Wait until so many tasks are here at the same time."""
    Path(folder, uuid.uuid4().hex).touch()
    end = time.monotonic() + seconds
    while not (met := len([*Path(folder).iterdir()]) >= count) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return Worker(platform.node(), os.getpid(), os.getppid(), tuple(_BEGUN), met)


def wait_for(file: str, begun: str, seconds: float) -> None:
    """Leave word of the process in a file, then wait for another file."""
    whole = Path(f"{begun}.tmp")
    whole.write_text(f"{platform.node()}\n{os.getpid()}\n{os.getppid()}", encoding="utf-8")
    whole.replace(begun)
    end = time.monotonic() + seconds
    while not Path(file).exists() and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)


class WarningProbe(Probe):
    """Warns, and fits nothing."""

    kind: Literal["warning"] = "warning"

    def fit(
        self,
        features: FeatureMatrix,  # noqa: ARG002
        targets: Sequence[Target],  # noqa: ARG002
        context: FitContext | None = None,  # noqa: ARG002
    ) -> list[FittedProbe]:
        """Return no probe for no target."""
        warnings.warn(WARNING, ProbekitWarning, stacklevel=2)
        return []
