"""What the best tap gains over knowing no features at all, and over the model's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probekit.findings.differences import score_of
from probekit.findings.series import series_of
from probekit.findings.wording import points
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.findings.series import Series
    from probekit.results import FindingRecord, ProbeResult, RunResult, Severity


@hookimpl
def find(result: RunResult) -> list[FindingRecord]:
    """Say by how much the best tap is better than chance and than the input; warn where that is not shown."""
    return [_gain(series, series.best) for series in series_of(result) if series.best is not None]


def _gain(series: Series, best: ProbeResult) -> FindingRecord:
    test, baseline = best.headline()["test"], series.baseline
    over_chance = test - baseline if series.metric == "r2" else baseline - test
    evidence: dict[str, Any] = {"baseline": baseline, "test": test, "over_chance": over_chance}
    shown = series.above_chance(best)
    if shown is None:
        shown = best.beats(baseline)
    if not shown:
        text = (
            f"no tap is shown to do better than chance for {series.asked}: the one chosen on valid, "
            f"{series.place(best)}, has {series.reached(best)}; chance is {series.chance}."
        )
        known = series.answer(best) == "yes"
        if known:
            text += " Its probabilities do tell something, only not enough to change the answer."
        return series.say("gain", "notice" if known else "warning", text, [best], **evidence)
    text = (
        f"for {series.asked}, the {series.measured} at {series.place(best)} is {points(over_chance, series.metric)} "
        f"better than {series.chance}"
    )
    first = series.best_at(series.paths.inputs)
    if first is None:
        return series.say("gain", "info", f"{text}.", [best], **evidence)
    severity: Severity = "info"
    if first is best:
        severity = "notice"
        text += "; that is the model's input, and no later tap does better on valid."
        return series.say("gain", severity, text, [best], **evidence)
    difference = series.advantage(best, first)
    evidence["input"] = {
        "tap": first.tap,
        "reduction": first.reduction,
        **score_of(first),
        "over_input": difference.evidence(),
    }
    gained = points(difference.value, series.metric)
    compared = f"the input, {series.place(first)} ({series.shown(first.headline()['test'])})"
    if difference.low is not None and not difference.better:
        severity = "notice"
        text += f", but not shown to be better than {compared}: {gained}, {difference.sure(series.metric)}."
    else:
        text += f", and {gained} better than {compared}; {difference.sure(series.metric)}."
    return series.say("gain", severity, text, [first, best], **evidence)
