"""A part of a result: some taps, factors, models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.errors import Problem, SpecError, nearest
from probekit.findings.differences import ends_of
from probekit.results import GraphRecord
from probekit.taps import matches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.results import FindingRecord, ProbeResult, RunResult

FIELDS = ("tap", "factor", "model", "checkpoint", "reduction", "probe")
"""What a selection may name: the parts of a probe's identity."""


def select(result: RunResult, wanted: Mapping[str, Sequence[str]]) -> RunResult:
    """Return the part of a result that is asked for, with a warning that says so.

    What was computed over the whole run stays as it was: findings, adjusted p-values. The best probe is that of the
    part.

    Args:
        result: the whole.
        wanted: per part of the identity (:data:`FIELDS`) the names that are kept; an exact name wins, in a pattern
            ``*`` and ``?`` are special. A tap may also be given by the tensor's own name. A vector has nothing to
            reduce and is kept under any reduction. No names keep all.

    Raises:
        SpecError: ``PK-X43``, no probe has such a name, or none has all of them.
    """
    wanted = {field: list(names) for field, names in wanted.items() if names}
    if not wanted:
        return result
    problems: list[Problem] = []
    kept: dict[str, set[str]] = {}
    for field, patterns in wanted.items():
        known = list(
            dict.fromkeys(str(getattr(one, field)) for one in result.probes if getattr(one, field) is not None)
        )
        aliases = {tap.name: tap.tap for tap in result.graph.taps} if field == "tap" else {}
        kept[field] = set()
        for pattern in patterns:
            hits = [pattern] if pattern in known else [name for name in known if matches(pattern, name)]
            hits = hits or [label for name, label in aliases.items() if name == pattern and label in known]
            kept[field].update(hits)
            if not hits:
                hint = nearest(pattern.replace("*", "").replace("?", ""), known, f"{field}s")
                problems.append(
                    Problem("PK-X43", f"no probe of this run has the {field} {pattern!r}", hint, f"--{field}")
                )
    probes = [one for one in result.probes if all(_is_kept(one, field, names) for field, names in kept.items())]
    told = ", ".join(f"{field} {pattern}" for field, patterns in wanted.items() for pattern in patterns)
    if not problems and not probes:
        problems.append(Problem("PK-X43", f"no probe of this run has all of: {told}", "leave one of them out"))
    if problems:
        raise SpecError(*problems)
    return _only(result, probes, f"this view shows {len(probes)} of {len(result.probes)} probes: {told}")


def _is_kept(probe: ProbeResult, field: str, names: set[str]) -> bool:
    """Return whether a probe has one of the names; that of a vector belongs to every reduction."""
    return getattr(probe, field) in names or (field == "reduction" and probe.vector)


def _only(result: RunResult, probes: list[ProbeResult], remark: str) -> RunResult:
    """Return a result with these probes and what belongs to them."""
    models = {(one.model, one.checkpoint, one.factor) for one in probes}
    places = {(one.model, one.checkpoint, one.reduction, one.factor, one.probe, one.tap) for one in probes}
    taps = {(one.model, one.tap) for one in probes}
    return result.model_copy(
        update={
            "probes": probes,
            "model": [one for one in result.model if (one.model, one.checkpoint, one.factor) in models],
            "graph": _graph(result.graph, taps),
            "comparisons": [
                one for one in result.comparisons
                if {(one.model, one.checkpoint, reduction, one.factor, one.probe, tap)
                    for tap, reduction in ends_of(one)} <= places
            ],
            "contrasts": [
                one for one in result.contrasts
                if {(one.model, one.checkpoint, reduction, one.factor, one.probe, tap)
                    for reduction, tap in ((one.reduction, one.tap), (one.other_reduction, one.other_tap))
                    if tap is not None} <= places
            ],
            **{
                key: [
                    one for one in getattr(result, key)
                    if (one.model, one.checkpoint, one.reduction, one.factor, one.probe, one.tap) in places
                ]
                for key in ("information", "twins", "spreads")
            },
            "findings": [one for one in result.findings if _concerns(one, probes)],
            "provenance": {**result.provenance, "warnings": [remark, *result.provenance["warnings"]]},
        }
    )  # fmt: skip


def _graph(graph: GraphRecord, kept: set[tuple[str, str]]) -> GraphRecord:
    """Return the graph of some taps: an edge leads over what is left out."""
    after: dict[tuple[str, str], list[str]] = {}
    for model, a, b in graph.edges:
        after.setdefault((model, a), []).append(b)
    edges: list[list[str]] = []
    for model, tap in [(one.model, one.tap) for one in graph.taps if (one.model, one.tap) in kept]:
        ahead, seen = list(reversed(after.get((model, tap), []))), set()
        while ahead:
            reached = ahead.pop()
            if reached in seen:
                continue
            seen.add(reached)
            if (model, reached) in kept:
                edges.append([model, tap, reached])
            else:
                ahead += reversed(after.get((model, reached), []))
    return GraphRecord(taps=[one for one in graph.taps if (one.model, one.tap) in kept], edges=edges)


def _concerns(finding: FindingRecord, probes: Sequence[ProbeResult]) -> bool:
    """Return whether a finding is about one of these probes."""
    for field in ("model", "checkpoint", "factor", "reduction", "probe"):
        about = getattr(finding, field)
        if about is not None and about not in {getattr(one, field) for one in probes}:
            return False
    return not finding.taps or bool(set(finding.taps) & {one.tap for one in probes})
