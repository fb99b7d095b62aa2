"""What can be tapped in a model, in execution order, and what feeds what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.errors import InputError, Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


@dataclass(frozen=True)
class Tap:
    """One named intermediate tensor.

    Args:
        name: the ONNX tensor's own name, or ``module``, ``module#1`` (second call), ``module:in``, ``module[0]``,
            ``module[key]`` of an eager framework.
        op: the operator or module class that produces it; ``Input`` for the model's inputs.
        shape: without the batch axis; None for an axis whose size is not known before a run; None as a whole when
            nothing is known.
        dtype: NumPy's name of it, or the runtime's where NumPy has none.
        layout: one letter an axis, batch axis included (``NCHW``, ``NTC`` ...); empty where it is not certain.
        depth: position in execution order, from 0.
        untappable: why it cannot be tapped; empty when it can.
        batch_axis: the axis that ``shape`` leaves out; the N of ``layout``.
    """

    name: str
    op: str
    shape: tuple[int | None, ...] | None
    dtype: str
    layout: str = ""
    depth: int = 0
    untappable: str = ""
    batch_axis: int = 0


@dataclass(frozen=True)
class Graph:
    """Everything that can be tapped in a model, in execution order, and what feeds what.

    Args:
        taps: in execution order.
        edges: pairs of tap names; a pair (a, b) says that b is computed from a.
        outputs: names of the taps that are the model's own outputs, the main one first.
    """

    taps: tuple[Tap, ...]
    edges: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()

    def tap(self, name: str) -> Tap | None:
        """Return the tap called ``name``, None when there is none."""
        return next((tap for tap in self.taps if tap.name == name), None)

    def require(self, names: Sequence[str]) -> None:
        """Refuse names that are no taps; a backend's ``open`` begins with it.

        Raises:
            InputError: ``PK-M26``, by name, with the nearest tap.
        """
        require_taps(names, [tap.name for tap in self.taps])

    def contract(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return the pairs (a, b) out of ``names`` with a path from a to b that passes no other of them."""
        wanted = set(names)
        sources: dict[str, list[str]] = {}
        for a, b in self.edges:
            sources.setdefault(b, []).append(a)
        reach: dict[str, frozenset[str]] = {}
        edges = []
        for tap in self.taps:
            before = frozenset().union(
                *({a} if a in wanted else reach.get(a, frozenset()) for a in sources.get(tap.name, ()))
            )
            reach[tap.name] = before
            if tap.name in wanted:
                edges += [(a, tap.name) for a in sorted(before)]
        return edges


def require_taps(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that are not among the known taps.

    Raises:
        InputError: ``PK-M26``, by name, with the nearest tap.
    """
    absent = [name for name in names if name not in known]
    if absent:
        raise InputError(
            *(Problem("PK-M26", f"the model has no tensor {one!r}", nearest(one, known, "tensors")) for one in absent)
        )


@dataclass(frozen=True)
class ModelInput:
    """One input of a model.

    Args:
        name: as the model calls it.
        shape: batch axis included where there is one; None for an axis of any size.
        dtype: NumPy's name of it.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str | None


LAYOUTS = ("NC", "NCHW", "NHWC", "NCDHW", "NCT", "NTC", "TNC")
