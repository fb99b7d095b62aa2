"""Probes that fit the training rows far better than the valid rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.findings.differences import unpaired
from probekit.findings.series import series_of
from probekit.findings.wording import points
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.differences import Difference
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity

FAR = 0.1
"""A gap is told where it is surely larger than this share of what chance errs."""
VERY_FAR = 0.5
"""It is a warning where it is surely larger than this."""


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Name the taps whose gap between train and valid is surely larger than a tenth of the baseline's error.

    Surely: the lower end of the 95 % interval of the gap, made from those of both metrics, is.
    """
    found = []
    for series in series_of(result):
        gaps = [(probe, unpaired(probe, probe, "train", "valid")) for probe in series.ranked]
        whole = 1 - _valid_baseline(series) if series.metric == "r2" else _valid_baseline(series)
        far = [(probe, gap) for probe, gap in gaps if gap.low is not None and whole > 0 and gap.low > FAR * whole]
        if far:
            found.append(_told(series, far, whole))
    return found


def _valid_baseline(series: Series) -> float:
    return series.result.baseline(series.factor, "valid")


def _told(series: Series, far: list[tuple[ProbeResult, Difference]], whole: float) -> FindingRecord:
    worst, gap = max(far, key=lambda one: one[1].value)
    scores, rows = worst.headline(), worst.rows["train"]
    severity: Severity = "warning" if gap.low is not None and gap.low > VERY_FAR * whole else "notice"
    count = f"{len(far):,} of {len(series.ranked):,} probes for {series.asked}"
    size = f"{points(gap.value, series.metric)}, {gap.sure(series.metric)}"
    text = (
        f"{count} {'fits' if len(far) == 1 else 'fit'} the training rows far better than valid, most of all at "
        f"{series.place(worst)}: {series.measured} {series.shown(scores['train'])} on train, "
        f"{series.shown(scores['valid'])} on valid (gap {size}), with {worst.features_used:,} features for {rows:,} "
        "training rows."
    )
    evidence = {
        "tap": worst.tap,
        "reduction": worst.reduction,
        "train": scores["train"],
        "valid": scores["valid"],
        "gap": gap.evidence(),
        "features": worst.features_used,
        "rows": rows,
    }
    about = [probe for probe, _ in far]
    return series.say("overfitting", severity, text, about, probes=len(series.ranked), far=len(far), worst=evidence)
