"""The base class of executors: what makes small fits at the same time."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from probekit.sections import Component

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent import futures


class MessageQueue(Protocol):
    """Carries messages from an executor's workers to the run, in order, while tasks go on."""

    def put(self, message: Any, /) -> None:
        """Send a plain value."""

    def get(self) -> Any:
        """Return the next value; wait for it where there is none."""


class Executor(Component):
    """What makes small fits at the same time: processes of this machine, or workers on others.

    It changes no result, so that every key of it is a ``runtime_option``. A task is a function of a module's top level
    over plain data, both pickled; it may end its process. So a worker is another process than the run's, and is given
    one task at a time. A worker on another machine needs the same versions of probekit, its plugins, NumPy,
    scikit-learn and PyTorch, and the feature store and the run directory under the same paths. Bits are the same where
    the processor is, too. A fit that cannot be made there is made in the run's own process.
    """

    category: ClassVar[str] = "executor"

    @abstractmethod
    def workers(self) -> int:
        """Return how many tasks run at a time. With fewer than two, every fit is made in the run's own process.

        Called before the first pass over a model, so that what is not there is told before the work begins.

        Raises:
            UserError: such as a MachineError: the workers cannot be reached. A field that a problem names is a key of
                the section.
        """

    @abstractmethod
    def start(self, initializer: Callable[..., object], initargs: tuple[Any, ...] = ()) -> futures.Executor:
        """Return what runs tasks; workers may start when the first one is submitted.

        Pools of processes take both arguments themselves, mpi4py's ``MPIPoolExecutor`` too. A Dask client takes them by
        ``register_worker_callbacks`` and gives ``get_executor(pure=False)``: the same call twice is two tasks.

        A future gives what its own task returned, or raises what it raised. Where a worker dies, its future raises: a
        ``concurrent.futures.BrokenExecutor`` says that no further task can be run, after another error the next one
        can.

        Args:
            initializer: a function of a module's top level, called in each worker before its first task, also in one
                that joins later.
            initargs: its arguments, pickled; what :meth:`messages` returned is one of them.

        Raises:
            UserError: as for :meth:`workers`.
        """

    def stop(self, executor: futures.Executor, *, now: bool = False) -> None:
        """End what :meth:`start` returned, and every process that it started.

        By default ``shutdown`` is called, which waits for what runs unless ``now``. Override it where running tasks can
        be ended, or where more was opened than the executor.

        Args:
            executor: that :meth:`start` returned; tasks that did not begin are cancelled.
            now: the run was stopped or a worker was lost; what runs is of no use any more.
        """
        executor.shutdown(wait=not now)

    def messages(self) -> MessageQueue | None:
        """Return a new queue on which workers tell how far a fit is. It is pickled as one of ``initargs``.

        None, the default, where there is none: progress is then told when a fit ends.
        """
        return None

    def shares_memory(self) -> bool:
        """Return whether its workers take memory of this machine, as by default.

        Then as many fits at a time must fit into the spec's ``memory``; else each fit alone must.
        """
        return True
