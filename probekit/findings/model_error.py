"""The model's own predictions against the best probe of its taps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probekit.findings.differences import score_of
from probekit.findings.series import series_of
from probekit.findings.wording import named, points
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ModelResult, RunResult, Severity


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Compare the model's own predictions with the best probe; warn where they are no better than chance."""
    own = {(one.model, one.checkpoint, one.factor): one for one in result.model}
    found = []
    for series in series_of(result):
        first = series.probes[0]
        one = own.get((first.model, first.checkpoint, first.factor))
        if one is not None and one.primary == series.metric:
            found.append(_compared(series, one))
    return found


def _compared(series: Series, own: ModelResult) -> FindingRecord:
    best = series.best
    evidence: dict[str, Any] = {"output": own.output, **score_of(own), "baseline": series.baseline}
    text = f"the model's own output {named(own.output)} for {series.asked}: {series.reached(own)}"
    severity: Severity = "info"
    if series.above_chance(own) is False:
        severity = "warning"
        text += f", which is not shown to be better than {series.chance}; see which class each of its entries means"
    if best is None:
        return series.say("model_error", severity, f"{text}.", **evidence)
    difference = series.advantage(best, own)
    evidence["best"] = {
        "tap": best.tap,
        "reduction": best.reduction,
        **score_of(best),
        "better_than_model": difference.evidence(),
    }
    text += f"; the best probe, at {series.place(best)}: {series.reached(best)}. "
    seen = difference.turned() if difference.value < 0 else difference
    gap, sure = points(seen.value, series.metric), seen.sure(series.metric)
    if difference.low is None or not (difference.better or difference.worse):
        text += f"Which of them is better cannot be told (difference {gap}, {sure})."
    elif difference.better:
        severity = "warning" if severity == "warning" else "notice"
        text += f"The probe is better by {gap} ({sure})."
    else:
        text += f"The model is better by {gap} ({sure})."
    return series.say("model_error", severity, text, [best], **evidence)
