"""What training gained: a model's probes against those of the same architecture with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probekit.components import RANDOM_WEIGHTS
from probekit.findings.differences import Difference
from probekit.findings.series import series_of
from probekit.findings.wording import listing, points
from probekit.hookspecs import hookimpl
from probekit.statistics.multiple import SIGNIFICANT

if TYPE_CHECKING:
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity, TwinRecord


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Say what training gained at the tap that is best on valid, and where no gain is shown.

    After Zhang and Bowman 2018, "Language modeling teaches you more than translation does" (BlackboxNLP). The
    differences are paired, and their p is corrected by Holm's method over the taps.
    """
    twins: dict[tuple[str | None, ...], list[TwinRecord]] = {}
    for one in result.twins:
        if one.control == RANDOM_WEIGHTS and not one.missed:
            twins.setdefault((one.model, one.checkpoint, one.factor, one.probe), []).append(one)
    found = []
    for series in series_of(result):
        first = series.probes[0]
        own = twins.get((first.model, first.checkpoint, first.factor, first.probe), [])
        by_place = {(one.tap, one.reduction): one for one in own}
        pairs = [(probe, by_place[key]) for probe in series.ranked if (key := (probe.tap, probe.reduction)) in by_place]
        if pairs:
            found.append(_told(series, pairs))
    return found


def _gained(one: TwinRecord) -> Difference:
    """Return by how much the trained model is better."""
    low, high = (None, None) if one.interval is None else (one.interval.low, one.interval.high)
    found = Difference(one.difference, low, high, paired=True)
    return found if one.metric == "r2" else found.turned()


def _sure(one: TwinRecord) -> bool:
    return one.p_adjusted is not None and one.p_adjusted < SIGNIFICANT and one.difference != 0


def _told(series: Series, pairs: list[tuple[ProbeResult, TwinRecord]]) -> FindingRecord:
    best = series.best_of(probe for probe, _ in pairs)
    main, twin = next(pair for pair in pairs if pair[0] is best)
    gained = _gained(twin)
    worse = [probe for probe, one in pairs if _sure(one) and _gained(one).value < 0]
    alike = [probe for probe, one in pairs if not _sure(one)]
    severity: Severity = "notice" if worse or alike else "info"
    where = f"for {series.asked} at {series.place(main)}"
    size = f"{points(gained.value, series.metric)} ({gained.sure(series.metric)})"
    if main in worse:
        severity = "warning"
        size = f"{points(-gained.value, series.metric)} ({gained.turned().sure(series.metric)})"
        text = f"random weights do better than the trained ones {where}, by {size}"
    elif main in alike:
        text = f"no gain from training is shown {where}: {size}"
    else:
        text = f"training gains {size} {where}"
    text += (
        f"; {series.measured} {series.shown(twin.trained)} with the trained weights, {series.shown(twin.twin)} with "
    )
    text += f"random ones, the mean of {len(twin.seeds)} draws" if len(twin.seeds) > 1 else "random ones"
    for said, some in (("random weights do better", worse), ("no gain is shown", alike)):
        others = [series.place(probe) for probe in some if probe is not main]
        text += f"; {said} at {len(others)} of {len(pairs)} places: {listing(others)}" if others else ""
    return series.say(
        "random_weights",
        severity,
        f"{text}.",
        [probe for probe, _ in pairs if probe in worse or probe in alike] or [main],
        compared=len(pairs),
        gains=len(pairs) - len(worse) - len(alike),
        not_shown=len(alike),
        random_is_better=len(worse),
        best=_evidence(main, twin, gained),
    )


def _evidence(probe: ProbeResult, twin: TwinRecord, gained: Difference) -> dict[str, Any]:
    return {
        "tap": probe.tap,
        "reduction": probe.reduction,
        "trained": twin.trained,
        "random_weights": twin.twin,
        "seeds": twin.seeds,
        "gain": gained.evidence(),
        "p_adjusted": twin.p_adjusted,
    }
