"""Runs a function in a process of its own, so that a crash of native code costs that process alone.

What the function is given and what it returns is pickled. It may send messages while it works, and is told when the
user asks it to stop.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from probekit.errors import InputError, MachineError, ProbekitWarning, Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_POLL_SECONDS = 0.1
_DIES_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG."""


class CrashedError(Exception):
    """The function raised what is no user's error; the text is its traceback."""


class Stop(Protocol):
    """Whether the user asked to stop, and whether that is looked at soon."""

    asked: bool
    heeded: bool


@dataclass
class Link:
    """The function's way to speak with who waits for it.

    Args:
        stop: what the function looks at, to see whether it is asked to stop.
    """

    stop: Stop
    _send: Callable[[tuple[Any, ...]], None]

    def tell(self, *message: Any) -> None:
        """Send a message: plain values."""
        self._send(("tell", *message))


def in_child(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    stop: Stop,
    listen: Callable[..., None],
    doing: str,
) -> Any:
    """Return ``function(link, *arguments)`` of a new process; its warnings are given here.

    Args:
        function: of a module's top level.
        arguments: what it is given after its :class:`Link`.
        stop: passed on to the child when the user asks.
        listen: called with the values of each message.
        doing: what a message about a crash says was going on; the last message's text is added.

    Raises:
        UserError, KeyboardInterrupt: as the function raised them.
        InputError: ``PK-M48``, native code crashed.
        MachineError: ``PK-R04``, the system killed the process.
        CrashedError: the function raised something else.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_serve, args=(there, function, arguments, type(stop)), daemon=True)
    child.start()
    there.close()
    last: tuple[Any, ...] = ()
    told_to_stop = False
    stop.heeded = True
    try:
        while True:
            if stop.asked and not told_to_stop:
                told_to_stop = True
                here.send("stop")
            if not here.poll(_POLL_SECONDS):
                if child.is_alive() or here.poll(0):
                    continue
                break
            try:
                kind, *values = here.recv()
            except EOFError:
                break
            if kind == "tell":
                last = tuple(values)
                listen(*values)
            elif kind == "warn":
                warnings.warn(values[0], ProbekitWarning, stacklevel=2)
            elif kind == "return":
                return values[0]
            elif kind == "raise":
                raise values[0]
    finally:
        stop.heeded = False
        if child.is_alive() and sys.exc_info()[0] is not None:
            child.kill()
        child.join()
        here.close()
    if stop.asked:
        raise KeyboardInterrupt  # Ctrl-C reached the child before it could look away
    raise _death(child.exitcode or 0, doing, last)


def _death(code: int, doing: str, last: tuple[Any, ...]) -> UserError:
    after = f" after {' '.join(map(str, last))}" if last else ""
    kept = "what was written is kept; type the same command again"
    if code == -signal.SIGKILL:
        what = f"the system killed the process that was {doing}{after}: most often because memory ran out"
        return MachineError(Problem("PK-R04", what, f"set a smaller batch_size; {kept}", "model"))
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    what = f"native code crashed ({name}) in the process that was {doing}{after}"
    return InputError(Problem("PK-M48", what, f"leave taps out to find the one that does it; {kept}", "model"))


def _serve(link: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], stop_type: type[Stop]) -> None:
    """Run the function in the child and send what comes of it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    stop, sending = stop_type(), threading.Lock()

    def send(message: tuple[Any, ...]) -> None:
        with sending:
            link.send(message)

    def hear() -> None:
        try:
            while True:
                link.recv()
                stop.asked = True
        except (EOFError, OSError):
            os._exit(1)  # nobody waits any more

    threading.Thread(target=hear, daemon=True).start()

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, ProbekitWarning):
            send(("warn", str(message)))
        else:
            sys.stderr.write(f"{category.__name__}: {message}\n")

    warnings.simplefilter("always", ProbekitWarning)
    warnings.showwarning = show
    try:
        send(("return", function(Link(stop, send), *arguments)))
    except (UserError, KeyboardInterrupt, MemoryError) as error:
        send(("raise", error))
    except Exception:
        send(("raise", CrashedError(traceback.format_exc())))


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent is gone, even when the parent was killed; end if it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    parent: Any = multiprocessing.parent_process()
    if parent is None:
        return
    # loky's processes have no sentinel, and are direct children.
    if os.getppid() != parent.pid if parent.sentinel is None else not parent.is_alive():
        os._exit(1)  # it was gone before Linux was asked
