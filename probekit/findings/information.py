"""At which taps there is any information about a factor: yes, no, or cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.findings.series import series_of
from probekit.findings.wording import counted, listing, named, shown
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, InformationRecord, RunResult, Severity


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Count the answers of each factor, with the least sure one of each kind."""
    return [_answers(series) for series in series_of(result) if series.information]


def _answers(series: Series) -> FindingRecord:
    by_answer = {
        answer: [one for one in series.information if one.answer == answer] for answer in ("yes", "no", "cannot_tell")
    }
    yes, no, unsure = by_answer.values()
    most = [high for one in no if (high := _high(one)) is not None]
    parts = []
    if yes:
        least = max(one.p_adjusted for one in yes)
        gains = [one.of_chance for one in yes]
        parts.append(
            f"yes at {len(yes):,} ({_surest(least)} after Holm's correction; gain {shown(min(gains), 'error')} to "
            f"{shown(max(gains), 'error')} of what chance loses)"
        )
    if no:
        bound = f"; gain at most {shown(max(most), 'error')}" if most else ""
        parts.append(f"no at {len(no):,} ({_places(series, no)}{bound})")
    if unsure:
        parts.append(f"cannot tell at {len(unsure):,} ({_places(series, unsure)})")
    severity: Severity = "info" if yes else "notice"
    places = counted(len(series.information), "probe" if series.several else "tap")
    text = f"information about {series.asked} that a linear probe can use, of {places}: {'; '.join(parts)}."
    about = {(one.tap, one.reduction) for one in (*no, *unsure)}
    return series.say(
        "information",
        severity,
        text,
        [probe for probe in series.probes if (probe.tap, probe.reduction) in about],
        **{answer: len(some) for answer, some in by_answer.items()},
        largest_p_of_yes=max((one.p_adjusted for one in yes), default=None),
        largest_gain_of_no=max(most, default=None),
    )


def _high(one: InformationRecord) -> float | None:
    """Return the upper end of the gain as a share of what chance loses."""
    if one.interval is None or not one.gain:
        return None
    return one.interval.high * one.of_chance / one.gain


def _surest(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p at most {p:.2g}"


def _places(series: Series, some: list[InformationRecord]) -> str:
    return listing([f"{named(one.tap)} ({named(one.reduction)})" if series.several else named(one.tap) for one in some])
