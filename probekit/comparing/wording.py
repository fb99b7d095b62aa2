"""Numbers and names of a comparison as text, free of any format; and the verdict's sentences.

Differences of errors are in percentage points.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.findings.wording import shown
from probekit.report.wording import interval_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.comparing.records import ComparisonResult, ModelDifference, ProbeDifference, ScoreDifference
    from probekit.results import IntervalRecord

_TESTS = {"mcnemar_exact": "McNemar's exact test", "paired_bootstrap": "the paired bootstrap"}
_UNITS = {"error": " points", "r2": " in R²", "cross_entropy": " nats"}


def shown_score(value: float, metric: str) -> str:
    """Return a score: a share as % with two decimals, as its differences have; R² and nats with three.

    >>> shown_score(0.0123, "error"), shown_score(0.5, "cross_entropy")
    ('1.23 %', '0.500')
    """
    if metric == "error":
        return f"{100 * value:.2f} %"
    return f"{value:.3f}" if metric == "cross_entropy" else shown(value, metric)


def number(difference: float, metric: str) -> str:
    """Return a difference with its sign: of the error in percentage points, two decimals; else three decimals.

    A difference of nats too small for them has one digit and its power of ten.

    >>> number(0.0123, "error"), number(-0.0004, "r2"), number(0.0, "error"), number(0.00012, "cross_entropy")
    ('+1.23', '0.000', '0.00', '+1e-04')
    """
    if metric == "cross_entropy" and 0 < abs(difference) < 0.0005:
        return f"{difference:+.0e}"
    text = f"{100 * difference:+.2f}" if metric == "error" else f"{difference:+.3f}"
    return text[1:] if not text.strip("+-0.") else text


def shown_range(interval: IntervalRecord | None, metric: str) -> str:
    """Return an interval of a difference: ``+0.10 to +1.30``; empty where there is none."""
    return "" if interval is None else f"{number(interval.low, metric)} to {number(interval.high, metric)}"


def shown_p(p: float | None) -> str:
    """Return a p-value; empty where there is none.

    >>> shown_p(0.2), shown_p(0.00004), shown_p(1)
    ('0.200', '< 0.001', '1.000')
    """
    if p is None:
        return ""
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def how_tested(scores: Sequence[ScoreDifference]) -> str:
    """Return of what kind the intervals and the tests are, and over how many examples or groups."""
    tests = " and ".join(dict.fromkeys(_TESTS[score.test] for score in scores))
    intervals = interval_note(score.interval for score in scores)
    return f"{intervals}; p by {tests}" if intervals else f"p by {tests}"


def shown_difference(score: ScoreDifference) -> str:
    """Return a difference with its unit and its interval, where it has one."""
    text = f"{number(score.difference, score.metric)}{_UNITS[score.metric]}"
    if score.interval is None:
        return text
    return f"{text} ({100 * score.interval.level:g} % interval {shown_range(score.interval, score.metric)})"


def place_of(one: ProbeDifference, *, reductions: bool = False) -> str:
    """Return the tap, or both where their names differ; with the reduction where there are several."""
    tap = _one_or_both(one.first.tap, one.second.tap)
    return f"{tap} ({_one_or_both(one.first.reduction, one.second.reduction)})" if reductions else tap


def several_reductions(some: Sequence[ProbeDifference]) -> bool:
    """Return whether a tap's name alone does not tell which difference of one factor and probe is meant."""
    return len({one.first.tap for one in some}) < len(some)


def _one_or_both(first: str, second: str) -> str:
    return first if first == second else f"{first} / {second}"


@dataclass(frozen=True)
class Row:
    """A difference as text; empty where there is nothing to say.

    Args:
        of: the difference.
        place: the tap, with the reduction where the section has several.
        first, second: the score of each side.
        difference, interval, p: of the score.
        loss, loss_p: of the cross-entropy.
    """

    of: ProbeDifference
    place: str
    first: str
    second: str
    difference: str
    interval: str
    p: str
    loss: str
    loss_p: str


@dataclass(frozen=True)
class Section:
    """What a verdict is about: a factor and a kind of probe.

    Args:
        title: the factor, and the probe where the factor has several.
        rows: in depth order, at least one.
    """

    title: str
    rows: list[Row]

    @property
    def differences(self) -> list[ProbeDifference]:
        """Those of the rows."""
        return [row.of for row in self.rows]

    @property
    def metric(self) -> str:
        """``error`` or ``r2``."""
        return self.rows[0].of.score.metric


def sections(differences: Sequence[ProbeDifference]) -> list[Section]:
    """Return the differences by factor and probe, in their order."""
    groups: dict[tuple[str, str, str], list[ProbeDifference]] = {}
    for one in differences:
        groups.setdefault((one.first.factor, one.first.probe, one.second.probe), []).append(one)
    of_factor = Counter(factor for factor, _, _ in groups)
    return [
        Section(
            f"{factor} · {_one_or_both(first, second)}" if of_factor[factor] > 1 else factor,
            [_row(one, reductions=several_reductions(some)) for one in some],
        )
        for (factor, first, second), some in groups.items()
    ]


def _row(one: ProbeDifference, *, reductions: bool) -> Row:
    score, loss = one.score, one.loss
    return Row(
        of=one,
        place=place_of(one, reductions=reductions),
        first=shown_score(score.first, score.metric),
        second=shown_score(score.second, score.metric),
        difference=number(score.difference, score.metric),
        interval=shown_range(score.interval, score.metric),
        p=shown_p(score.p_adjusted),
        loss="" if loss is None else number(loss.difference, loss.metric),
        loss_p="" if loss is None else shown_p(loss.p_adjusted),
    )


def verdict_of(title: str, some: Sequence[ProbeDifference], first: str, second: str, unit: str) -> str:
    """Return one sentence about the taps of one factor and probe.

    Args:
        title: what it is about.
        some: in depth order.
        first: what the first side is called.
        second: what the second is called.
        unit: what one row is, in the plural.
    """
    judged = [one for one in some if not one.missed]
    if not judged:
        return f"{title}: no probe is at its optimum on both sides, so none is judged."
    rows = f"{judged[0].score.n:,} shared test {unit}"
    reductions = several_reductions(judged)
    worse = [one for one in judged if one.score.verdict() == "worse"]
    better = [one for one in judged if one.score.verdict() == "better"]
    parts = []
    if worse:
        worst = max(worse, key=lambda one: one.score.worsening())
        text = f"{second} is worse than {first} at {_of(worse, judged)}, most at {_both(worst, reductions=reductions)}"
        if len(worse) > 1:
            text += f", and first at {place_of(worse[0], reductions=reductions)}"
        parts.append(text)
    if better:
        best = min(better, key=lambda one: one.score.worsening())
        who = "it is" if worse else f"{second} is"
        than = "" if worse else f" than {first}"
        parts.append(f"{who} better{than} at {_of(better, judged)}, most at {_both(best, reductions=reductions)}")
    if not parts and not any(one.score.difference for one in judged):
        what = "R²" if judged[0].score.metric == "r2" else "error"
        parts.append(f"{second} has the same {what} as {first} at {'all ' if len(judged) > 1 else ''}{_taps(judged)}")
    elif not parts:
        largest = max(judged, key=lambda one: abs(one.score.difference))
        parts.append(f"{second} does not differ from {first} significantly at any of {_taps(judged)}")
        parts.append(f"the largest difference is at {_both(largest, reductions=reductions)}")
    return f"{title}: {'; '.join(parts)}. On {rows}.{_loss(judged, reductions=reductions)}"


def verdicts(result: ComparisonResult) -> list[str]:
    """Return the sentences that sum a comparison up: of each factor's probes, and of the models themselves."""
    lines = [line for one in result.factors for line in one.verdicts]
    return lines + [model_verdict(one, result.first.called, result.second.called) for one in result.models]


def model_verdict(one: ModelDifference, first: str, second: str) -> str:
    """Return one sentence about the models' own predictions of a factor."""
    score = one.score
    verdict = score.verdict()
    said = "does not differ significantly from" if verdict == "same" else f"is {verdict} than"
    values = f"{_values(score)}, {shown_difference(score)}"
    return f"{one.factor}, the models' own predictions: {second} {said} {first}: {values}."


def _loss(judged: Sequence[ProbeDifference], *, reductions: bool) -> str:
    with_loss = [(one, one.loss) for one in judged if one.loss is not None]
    worse = [(one, loss) for one, loss in with_loss if loss.verdict() == "worse"]
    better = [(one, loss) for one, loss in with_loss if loss.verdict() == "better"]
    parts: list[str] = []
    for verdict, some in (("worse", worse), ("better", better)):
        if some:
            one, loss = max(some, key=lambda pair: abs(pair[1].difference))
            place = place_of(one, reductions=reductions)
            count = f"{len(some)} of {_taps([one for one, _ in with_loss])}" if not parts else f"{len(some)}"
            parts.append(f"{verdict} at {count}, most at {place}: {shown_difference(loss)}")
    return f" In cross-entropy it is {'; '.join(parts)}." if parts else ""


def _of(some: Sequence[ProbeDifference], judged: Sequence[ProbeDifference]) -> str:
    return f"{len(some)} of {_taps(judged)}"


def _taps(some: Sequence[ProbeDifference]) -> str:
    what = "probe" if several_reductions(some) else "tap"
    return f"{len(some)} {what}{'' if len(some) == 1 else 's'}"


def _both(one: ProbeDifference, *, reductions: bool) -> str:
    return f"{place_of(one, reductions=reductions)}: {_values(one.score)}, {shown_difference(one.score)}"


def _values(score: ScoreDifference) -> str:
    return f"{shown_score(score.second, score.metric)} against {shown_score(score.first, score.metric)}"
