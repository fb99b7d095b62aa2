"""From the spec's patterns to the tensors that are tapped, in execution order."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probekit.errors import Problem, SpecError, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Graph, Tap
    from probekit.spec import TapEntry

INPUT = "input"
"""In a spec, the model's inputs, whatever they are called there."""


@dataclass(frozen=True)
class ChosenTap:
    """A tensor to tap and what the spec says of it.

    Args:
        tap: the tensor; its layout is the spec's where it gives one.
        label: what results and reports call it.
        reductions: names of the reductions it asks for; None: every one that applies.
        exact: it was asked for by name, not by a pattern.
    """

    tap: Tap
    label: str
    reductions: tuple[str, ...] | None
    exact: bool


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern, in which only ``*`` and ``?`` are special, is the whole of ``name``.

    A pattern reaches what a module takes (``:in``, ``:in[0]``) only when it says so.

    >>> matches("layer?.*.relu", "layer1.0.relu"), matches("*", "relu:in"), matches("lstm[0]", "lstm[0]")
    (True, False, True)
    """
    if _is_taken(name) and ":in" not in pattern:
        return False
    return re.match(fnmatch.translate(pattern.replace("[", "[[]")), name) is not None


def _is_taken(name: str) -> bool:
    """Return whether a tap's name is that of what a module takes."""
    return re.search(r":in(\[|$)", name) is not None


def choose_taps(entries: Sequence[TapEntry], graph: Graph, max_taps: int) -> list[ChosenTap]:
    """Return what the spec's entries choose, in execution order; the first entry that names a tensor decides.

    A pattern or operator passes over what cannot be tapped; a name that cannot be tapped is refused.

    Raises:
        SpecError: all at once: ``PK-M26`` no such tensor, ``PK-M28`` it cannot be tapped, ``PK-Y36`` a pattern matches
            nothing, or too much is matched, ``PK-Y27`` two taps with one name.
    """
    chosen: dict[str, ChosenTap] = {}
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        field = f"taps[{index}]"
        found, faults = _match(entry, graph, field)
        problems += faults
        for number, (tap, exact) in enumerate(found, start=1):
            label = _label(entry, tap, number)
            axes = None if tap.shape is None else len(tap.shape) + 1
            if entry.layout is not None and axes not in (None, len(entry.layout)):
                what = f"layout {entry.layout} has {len(entry.layout)} axes, {tap.name!r} has {axes}"
                problems.append(Problem("PK-Y29", what, field=f"{field}.layout"))
            reductions = tuple(entry.reductions) if entry.reductions is not None else None
            told = replace(tap, layout=entry.layout or tap.layout)
            chosen.setdefault(tap.name, ChosenTap(told, label, reductions, exact))
    problems += _same_labels(chosen)
    if len(chosen) > max_taps:
        what = f"{len(chosen)} tensors are chosen, over max_taps {max_taps}"
        problems.append(Problem("PK-Y36", what, "narrow the patterns, or raise max_taps", "taps"))
    if problems:
        raise SpecError(*problems)
    return sorted(chosen.values(), key=lambda one: one.tap.depth)


def _match(entry: TapEntry, graph: Graph, field: str) -> tuple[list[tuple[Tap, bool]], list[Problem]]:
    """Return the taps of one entry, each with whether it was asked for by name, and what is wrong with the entry."""
    operators = _as_list(entry.op)
    pool = [tap for tap in graph.taps if not operators or (tap.op in operators and not _is_taken(tap.name))]
    usable = [tap for tap in pool if not tap.untappable]
    if entry.match is None and usable:
        return [(tap, False) for tap in usable], []
    if entry.match is None or (operators and not pool):
        known = sorted({tap.op for tap in graph.taps if not tap.untappable})
        what = f"no tensor that can be tapped comes from {listed(operators)}"
        return [], [Problem("PK-Y36", what, nearest(next(iter(operators), ""), known, "operators"), f"{field}.op")]
    found: dict[str, tuple[Tap, bool]] = {}
    problems: list[Problem] = []
    for pattern in _as_list(entry.match):
        named = [tap for tap in pool if tap.name == pattern]
        if not named:
            named = [tap for tap in pool if tap.name == pattern.replace("#0", "")]
        if not named and pattern == INPUT:
            named = [tap for tap in pool if tap.op == "Input"]
        if named:
            problems += [
                Problem("PK-M28", f"{tap.name!r} cannot be tapped: {tap.untappable}", "see: probekit taps SPEC", field)
                for tap in named
                if tap.untappable
            ]
            found |= {tap.name: (tap, True) for tap in named}  # those found before keep their places
            continue
        by_pattern = [tap for tap in usable if matches(pattern, tap.name)]
        if not by_pattern:
            other = graph.tap(pattern)
            problems.append(_nothing(pattern, pool, usable, field) if other is None else _other_op(other, entry, field))
        found |= {tap.name: (tap, False) for tap in by_pattern if tap.name not in found}
    return list(found.values()), problems


def _nothing(pattern: str, pool: Sequence[Tap], usable: Sequence[Tap], field: str) -> Problem:
    refused = [tap for tap in pool if matches(pattern, tap.name)]
    if refused:
        what = f"{pattern!r} matches only what cannot be tapped: {refused[0].name!r}: {refused[0].untappable}"
        return Problem("PK-M28", what, "see: probekit taps SPEC", field)
    names = [tap.name for tap in usable]
    if any(sign in pattern for sign in "*?"):
        import difflib

        plain = pattern.replace("*", "").replace("?", "")
        near = difflib.get_close_matches(plain, names, n=5, cutoff=0.0)
        return Problem("PK-Y36", f"tap pattern {pattern!r} matches nothing", f"nearest: {listed(near)}", field)
    return Problem("PK-M26", f"the model has no tensor {pattern!r}", nearest(pattern, names, "tensors"), field)


def _other_op(tap: Tap, entry: TapEntry, field: str) -> Problem:
    what = f"{tap.name!r} comes from {tap.op!r}, not from {listed(_as_list(entry.op))}"
    return Problem("PK-Y29", what, "leave match: or op: out", field)


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _label(entry: TapEntry, tap: Tap, number: int) -> str:
    if entry.as_ is None:
        return tap.name
    return entry.as_.replace("{i}", str(number)).replace("{name}", tap.name).replace("{op}", tap.op)


def _same_labels(chosen: dict[str, ChosenTap]) -> list[Problem]:
    names: dict[str, str] = {}
    problems = []
    for tap in chosen.values():
        if tap.label in names:
            what = f"{names[tap.label]!r} and {tap.tap.name!r} would both be called {tap.label!r}"
            problems.append(Problem("PK-Y27", what, "put {i} into as:", "taps"))
        names.setdefault(tap.label, tap.tap.name)
    return problems
