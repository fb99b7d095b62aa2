"""The executor ``local``: processes of this machine. Others are plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from probekit.components import Executor
from probekit.errors import Problem, SpecError, listed
from probekit.hookspecs import hookimpl
from probekit.sections import runtime_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent import futures

    from probekit.components import MessageQueue


class LocalExecutor(Executor):
    """Processes of this machine, each of one thread. They end with the run."""

    kind: Literal["local"] = "local"
    processes: int | None = runtime_option(
        None, "how many; 1: every fit is made in the run's own process; default: as many as PyTorch would use threads",
        ge=1,
    )  # fmt: skip

    def workers(self) -> int:
        """Return the number of processes."""
        if self.processes is not None:
            return self.processes
        import torch

        return torch.get_num_threads()

    def start(self, initializer: Callable[..., object], initargs: tuple[Any, ...] = ()) -> futures.Executor:
        """Return a pool of processes; a lost one breaks it, and nothing hangs."""
        from loky import ProcessPoolExecutor
        from loky.backend import get_context

        pool: futures.Executor = ProcessPoolExecutor(
            self.workers(), context=get_context("loky"), initializer=initializer, initargs=initargs
        )
        return pool

    def stop(self, executor: Any, *, now: bool = False) -> None:
        """End the processes, with ``now`` in the middle of their tasks."""
        executor.shutdown(wait=True, kill_workers=now)

    def messages(self) -> MessageQueue:
        """Return a pipe."""
        from loky.backend import get_context

        queue: MessageQueue = get_context("loky").SimpleQueue()
        return queue


def with_processes(executor: Executor, processes: int) -> Executor:
    """Return an executor with another number of processes, for ``--processes``.

    Raises:
        SpecError: ``PK-Y43``, it has no key ``processes``, or takes no such number.
    """
    made = type(executor)
    said = f"--processes {processes}"
    if "processes" not in made.model_fields:
        keys = [name for name in made.model_fields if name != "kind"]
        hint = f"leave it out; its keys: {listed(keys)}" if keys else "leave it out"
        raise SpecError(Problem("PK-Y43", f"{said}: the executor {executor.kind!r} has no key 'processes'", hint))
    try:
        return made.model_validate({**executor.model_dump(), "processes": processes})
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        what = f"{said}: the executor {executor.kind!r} refuses it: {why[:1].lower()}{why[1:]}"
        raise SpecError(Problem("PK-Y43", what, "give another number")) from error


@hookimpl
def register_executors() -> list[type[Executor]]:
    """The executor of this module."""
    return [LocalExecutor]
