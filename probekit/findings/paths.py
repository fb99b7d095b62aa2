"""How the taps of a model hang together: what comes before and after, and which lead to its output."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from probekit.components import Graph, Tap
from probekit.results import inputs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from probekit.results import RunResult

    Edges = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Paths:
    """Taps and what feeds what.

    Args:
        order: the taps in depth order.
        edges: pairs (a, b) out of ``order``: a path leads from a to b that passes no other tap. Where the result has
            no edges of a model, each tap and the next.
        inputs: the taps that are the model's inputs.
        end: the model's own output where that is tapped, else the last tap; None without taps.
        main: the taps on the way to the end, itself included.
        known: whether the result has the edges.
    """

    order: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    inputs: frozenset[str]
    end: str | None
    main: frozenset[str]
    known: bool

    @cached_property
    def sources(self) -> Mapping[str, list[str]]:
        """From a tap to those that feed it."""
        return _neighbours(self.order, ((b, a) for a, b in self.edges))

    @cached_property
    def targets(self) -> Mapping[str, list[str]]:
        """From a tap to those that it feeds."""
        return _neighbours(self.order, self.edges)

    def after(self, taps: Iterable[str]) -> set[str]:
        """Return the taps that are computed from some of these, without these."""
        given = set(taps)
        return _reached(given, self.targets) - given

    def before(self, taps: Iterable[str]) -> set[str]:
        """Return the taps that some of these are computed from, without these."""
        given = set(taps)
        return _reached(given, self.sources) - given

    @cached_property
    def levels(self) -> Mapping[str, int]:
        """The number of taps before each tap on the longest path to it."""
        found: dict[str, int] = {}
        for tap in self.order:
            found[tap] = max((found.get(source, -1) for source in self.sources[tap]), default=-1) + 1
        return found

    def pieces(self, taps: Iterable[str]) -> list[list[str]]:
        """Return taps in groups that hang together by edges between them; groups and taps in depth order."""
        chosen = set(taps)
        order = [tap for tap in self.order if tap in chosen]
        inner = [(a, b) for a, b in self.edges if a in chosen and b in chosen]
        both = _neighbours(order, [*inner, *((b, a) for a, b in inner)])
        pieces: list[list[str]] = []
        seen: set[str] = set()
        for tap in order:
            if tap not in seen:
                piece = _reached({tap}, both)
                seen |= piece
                pieces.append([one for one in order if one in piece])
        return pieces

    def among(self, taps: Iterable[str]) -> Paths:
        """Return the paths between some of the taps: an edge where a path passes no other of them."""
        chosen = set(taps)
        order = tuple(tap for tap in self.order if tap in chosen)
        graph = Graph(tuple(Tap(tap, "", None, "") for tap in self.order), self.edges)
        main = self.main & chosen
        end = next((tap for tap in reversed(order) if tap in main), None)
        return Paths(order, tuple(graph.contract(order)), self.inputs & chosen, end, main, self.known)


def paths_of(result: RunResult, model: str) -> Paths:
    """Return how the taps of a model hang together."""
    records = sorted((one for one in result.graph.taps if one.model == model), key=lambda one: one.depth)
    probed = (one.tap for one in result.probes if one.model == model)
    order = tuple(dict.fromkeys([*(one.tap for one in records), *probed]))
    taps = set(order)
    edges = tuple(dict.fromkeys((a, b) for of, a, b in result.graph.edges if of == model and {a, b} <= taps and a != b))
    known = bool(edges)
    edges = edges or tuple(pairwise(order))
    inputs = inputs_of(result.graph, model)
    outputs = {one.output for one in result.model if one.model == model}
    end = next((one.tap for one in records if one.name in outputs), order[-1] if order else None)
    main = frozenset() if end is None else frozenset(_reached({end}, _neighbours(order, ((b, a) for a, b in edges))))
    return Paths(order, edges, inputs, end, main, known)


def _neighbours(taps: Iterable[str], pairs: Edges) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {tap: [] for tap in taps}
    for a, b in pairs:
        found[a].append(b)
    return found


def _reached(start: set[str], neighbours: Mapping[str, list[str]]) -> set[str]:
    found, waiting = set(start), list(start)
    while waiting:
        for other in neighbours[waiting.pop()]:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found
