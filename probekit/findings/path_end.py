"""Probes whose best λ is the last one of its path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.findings.series import series_of
from probekit.findings.wording import counted, listing
from probekit.hookspecs import hookimpl
from probekit.probes.linear import LEAST, MOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the probes whose λ on valid is best at an end of its path, where a better one may lie beyond."""
    found = []
    for series in series_of(result):
        for end in ("smallest", "largest"):
            probes = [probe for probe in series.ranked if probe.fit is not None and probe.fit.end == end]
            if probes:
                found.append(_told(series, end, probes))
    return found


def _told(series: Series, end: str, probes: list[ProbeResult]) -> FindingRecord:
    # A probe that learns nothing is best with as large a penalty as there is.
    learnt = end == "smallest" or any(probe.beats(series.baseline) for probe in probes)
    severity: Severity = "notice" if learnt else "info"
    what = "probe" if series.several else "tap"
    places = listing([f"{series.place(probe)}{_penalty(end, probe)}" for probe in probes])
    text = f"the best λ for {series.asked} is the {end} of its path at {counted(len(probes), what)}, {places}"
    further = _try(series, end) if learnt else []
    typed = f": give the probe penalty: [{', '.join(f'{penalty:.12g}' for penalty in further)}]" if further else ""
    text += f"; a better one may lie beyond{typed}." if learnt else ", where nothing is learnt."
    return series.say(
        "path_end",
        severity,
        text,
        probes,
        end=end,
        penalty=further,
        probes=[
            {
                "tap": probe.tap,
                "reduction": probe.reduction,
                "penalty": _chosen(end, probe),
                "grown": None if probe.fit is None else probe.fit.grown,
            }
            for probe in probes
        ],
    )


def _try(series: Series, end: str) -> list[float]:
    """Return the λ to write into the spec, the largest first; empty where none may lie further out.

    A spec's ``penalty`` is for all probes of a kind, so that these are all λ that any of them tried, and two more at
    each end at which one of them learnt something: no probe loses its own λ, and one list serves all findings.
    """
    kind = [probe for probe in series.result.probes if probe.probe == series.probes[0].probe]
    tried = {penalty for probe in kind for penalty in _tried(probe)}
    if not tried:
        return []
    ends = {end} | {
        probe.fit.end
        for probe in kind
        if probe.fit is not None and probe.fit.end is not None and probe.control is None
        and probe.certificate.status != "missed"
        and (probe.fit.end == "smallest" or probe.beats(series.result.baseline(probe.factor)))
    }  # fmt: skip
    added = {"smallest": [min(tried) / 10, min(tried) / 100], "largest": [max(tried) * 10, max(tried) * 100]}
    further = {one: [float(f"{penalty:.12g}") for penalty in added[one]] for one in ends}
    further = {one: [penalty for penalty in some if LEAST <= penalty <= MOST] for one, some in further.items()}
    return sorted(tried.union(*further.values()), reverse=True) if further[end] else []


def _tried(probe: ProbeResult) -> Iterator[float]:
    """Give every λ that a probe tried, as far as the result has them."""
    if probe.penalty is not None:
        yield probe.penalty
    if probe.fit is not None:
        yield from probe.fit.label_penalties
        yield from (point.penalty for point in probe.fit.path)


def _chosen(end: str, probe: ProbeResult) -> float | None:
    """Return the λ at the end: of yes/no labels the outermost of theirs."""
    labels = [] if probe.fit is None else probe.fit.label_penalties
    penalties = [one for one in (probe.penalty, *labels) if one is not None]
    return (min if end == "smallest" else max)(penalties, default=None)


def _penalty(end: str, probe: ProbeResult) -> str:
    penalty = _chosen(end, probe)
    return "" if penalty is None else f" (λ = {penalty:.3g})"
