"""How the command line speaks while it works: width and colours, progress, and what Ctrl-C means."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from probekit.errors import printable
from probekit.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from probekit.features.extraction import StopRequest
    from probekit.progress import Tell


_SILENCE = 30.0
"""Seconds after which a step that takes long is told of again where there is no terminal."""


def terminal_size() -> tuple[int, bool]:
    """Return the terminal's width and whether it may have colours (NO_COLOR and FORCE_COLOR are heeded)."""
    interactive = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    colour = bool(os.environ.get("FORCE_COLOR")) or (interactive and not os.environ.get("NO_COLOR"))
    return shutil.get_terminal_size((100, 24)).columns, colour


def say(text: str) -> None:
    """Print a line for the user, above a live bar where there is one (click's echo would write into it)."""
    print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print text that is whole lines, with question marks for what the terminal's encoding lacks."""
    import click

    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "replace"), nl=False)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Tell]:
    """Give a function that tells how far a stage is: by a live bar on a terminal, else by a line each tenth or 30 s."""
    if quiet:
        yield silent
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _live_progress() as live:
            yield live
    else:
        yield _plain_progress()


@contextmanager
def _live_progress() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Detail(ProgressColumn):
        """Stands in one line, and is what a narrow terminal cuts: of all columns, only its own could wrap."""

        def render(self, task: Task) -> Text:
            return Text(task.fields["detail"], no_wrap=True, overflow="ellipsis")

    # What is said meanwhile is printed above the bar.
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(20, table_column=Column(no_wrap=True)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)), TextColumn("{task.fields[pace]}"), Detail(),
        console=Console(stderr=True), redirect_stdout=False,
    )  # fmt: skip
    tasks: dict[str, tuple[TaskID, float]] = {}

    def live(stage: str, done: int, total: int, detail: str = "", left: float | None = None) -> None:
        if stage not in tasks:
            for task in bar.task_ids:  # of a stage that is over; its last state stays on the terminal
                bar.remove_task(task)
            tasks[stage] = bar.add_task(stage, total=total, pace="", detail=""), time.monotonic()
            bar.start()
        task, begun = tasks[stage]
        if task in bar.task_ids:
            pace = _pace(done, total, time.monotonic() - begun, left)
            bar.update(task, completed=done, total=total, pace=pace, detail=printable(detail))
        if done >= total:
            bar.stop()

    try:
        yield live
    finally:
        bar.stop()  # also on an error: the terminal's cursor is shown again


def _plain_progress() -> Tell:
    told: dict[str, tuple[int, float, float]] = {}

    def plain(stage: str, done: int, total: int, detail: str = "", left: float | None = None) -> None:
        tenth, now = 10 * done // max(total, 1), time.monotonic()
        last, begun, said = told.get(stage, (-1, now, now))
        if last == tenth and now - said < _SILENCE:
            return
        told[stage] = tenth, begun, now
        pace = _pace(done, total, now - begun, left)
        text = f"{stage} {done:,} of {total:,}{f' ({pace})' if pace else ''}"
        say(f"{text}: {printable(detail)}" if detail else text)

    return plain


def _pace(done: int, total: int, spent: float, left: float | None) -> str:
    """Return how fast a stage is and how long it still takes; empty before that can be told.

    Args:
        done: steps that are finished.
        total: in all.
        spent: seconds so far.
        left: seconds, where they are known better than by the finished steps; the rate says nothing then.
    """
    if spent <= 1:
        return ""
    if left is not None:
        return f"{_for_people(left)} left" if done < total else ""
    if not done:
        return ""
    rate = _rate(done, spent)
    return f"{rate}, {_for_people(spent / done * (total - done))} left" if done < total else rate


def _for_people(seconds: float) -> str:
    """Return a time.

    >>> _for_people(99), _for_people(100), _for_people(3 * 3600)
    ('99 s', '2 min', '3.0 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def _rate(done: int, seconds: float) -> str:
    """Return how many a second, or how long each takes."""
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
