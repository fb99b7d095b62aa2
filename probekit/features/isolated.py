"""Extraction in a process of its own: a crash of the model's runtime costs one row range; its memory is given back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit.features.digests import RowDigests
from probekit.features.extraction import Extraction, StopRequest
from probekit.features.runner import Runner
from probekit.isolation import Link, in_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from probekit.components import Dataset


@dataclass
class _Task:
    """An extraction as plain values, from which the child makes it again."""

    dataset: Dataset
    digests: dict[tuple[str, ...], Any]
    skip_bad: bool
    backend: Any
    fields: dict[str, Any]
    lock_timeout: float | None


def extract_in_child(
    extraction: Extraction,
    dataset: Dataset,
    tell: Callable[[str, int, int], None],
    stop: StopRequest,
    say: Callable[[str], None],
    lock_timeout: float | None = None,
) -> float:
    """Do as :meth:`Extraction.run` does, in a child process; arguments as there.

    Args:
        extraction: what is asked; it sees what the child wrote afterwards.
        dataset: opened anew in the child.
        tell: called with (stage, rows done, rows to do).
        stop: looked at after each row range.
        say: told who is waited for.
        lock_timeout: seconds to wait for another process.

    Raises:
        InputError: ``PK-M48``, native code crashed. And what :meth:`Extraction.run` raises.
        MachineError: ``PK-R04``, the system killed the child.
    """
    extraction.refresh()
    if not extraction.jobs():
        return 0.0
    runner = extraction.runner
    names = ("name", "wanted", "labels", "rows", "store", "dtype", "positions", "workers")
    fields = {name: getattr(extraction, name) for name in names}
    task = _Task(dataset, runner.known.to_plain(), runner.skip_bad, runner.backend, fields, lock_timeout)

    def listen(kind: str, *values: Any) -> None:
        (tell if kind == "progress" else say)(*values)

    seconds: float = in_child(_extract, (task,), stop, listen, f"extracting features of {extraction.name!r}")
    extraction.refresh()
    return seconds


def _extract(link: Link, task: _Task) -> float:
    """Make the extraction again and run it: what the child does."""
    examples = task.dataset.open()
    digests = RowDigests(examples, task.digests)
    runner = Runner(task.backend, examples, digests, skip_bad=task.skip_bad)
    extraction = Extraction(runner=runner, **task.fields)
    stop = link.stop
    assert isinstance(stop, StopRequest)  # noqa: S101 - its type was given to the child
    return extraction.run(
        lambda stage, done, total: link.tell("progress", stage, done, total),
        stop,
        lambda text: link.tell("say", text),
        task.lock_timeout,
    )
