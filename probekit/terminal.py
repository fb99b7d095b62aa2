"""How the command line speaks while it works: width and colours, progress, and what Ctrl-C means."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from probekit.features.extraction import StopRequest


def terminal_size() -> tuple[int, bool]:
    """Return the terminal's width and whether it may have colours (NO_COLOR and FORCE_COLOR are heeded)."""
    interactive = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    colour = bool(os.environ.get("FORCE_COLOR")) or (interactive and not os.environ.get("NO_COLOR"))
    return shutil.get_terminal_size((100, 24)).columns, colour


def say(text: str) -> None:
    """Print a line for the user, above a live bar where there is one (click's echo would write into it)."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that tells how far a stage is: a live bar on a terminal, a line now and then elsewhere."""
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _live_progress() as live:
            yield live
    else:
        yield _plain_progress()


@contextmanager
def _live_progress() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    # What is said meanwhile is printed above the bar.
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=Console(stderr=True), redirect_stdout=False,
    )  # fmt: skip
    tasks: dict[str, tuple[TaskID, float]] = {}

    def live(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            for task in bar.task_ids:  # of a stage that is over; its last state stays on the terminal
                bar.remove_task(task)
            tasks[stage] = bar.add_task(stage, total=total, rate=""), time.monotonic()
            bar.start()
        task, begun = tasks[stage]
        if task in bar.task_ids:
            bar.update(task, completed=done, total=total, rate=_rate(done, time.monotonic() - begun))
        if done >= total:
            bar.stop()

    try:
        yield live
    finally:
        bar.stop()  # also on an error: the terminal's cursor is shown again


def _plain_progress() -> Callable[[str, int, int], None]:
    told: dict[str, tuple[int, float]] = {}

    def plain(stage: str, done: int, total: int) -> None:
        tenth, now = 10 * done // max(total, 1), time.monotonic()
        last, begun = told.get(stage, (-1, now))
        if last == tenth:
            return
        told[stage] = tenth, begun
        spent = now - begun
        left = f", {spent / done * (total - done):.0f} s left" if 0 < done < total and spent > 1 else ""
        rate = _rate(done, spent)
        say(f"{stage} {done:,} of {total:,}{f' ({rate}{left})' if rate else ''}")

    return plain


def _rate(done: int, seconds: float) -> str:
    """Return how many a second, or how long each takes; empty before that can be told."""
    if seconds <= 1 or not done:
        return ""
    return f"{done / seconds:,.0f}/s" if done > seconds else f"{seconds / done:.1f} s each"


@contextmanager
def stopping_after_range(request: StopRequest) -> Iterator[None]:
    """Let Ctrl-C ask a run to stop after its row range; a second one, or one outside of extraction, stops at once."""

    def on_interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal handlers are called
        if request.asked or not request.heeded:
            raise KeyboardInterrupt
        request.asked = True
        say("stopping after this row range; press Ctrl-C again to stop now")

    usual = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
