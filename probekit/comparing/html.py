"""A comparison as one HTML file that opens anywhere, without a network; JavaScript only sorts its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.comparing.wording import how_tested, number, sections, shown_score, verdicts
from probekit.report.html import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.comparing.records import ComparisonResult, ProbeDifference, ScoreDifference
    from probekit.comparing.wording import Row, Section


def render(result: ComparisonResult) -> str:
    """Return the page; names enter it only through autoescape."""
    made = environment("probekit.comparing")
    made.filters |= {"number": number, "shown_score": shown_score}
    axes = {metric: _axis(result.differences, metric) for metric in ("error", "r2")}
    tables = [_table(section, axes[section.metric]) for section in sections(result.differences)]
    return made.get_template("comparison.html").render(result=result, tables=tables, verdicts=verdicts(result))


@dataclass(frozen=True)
class Bar:
    """A difference and its interval on the axis, each from 0 (left end) to 100.

    Args:
        zero: where no difference lies.
        point: the difference.
        low, high: the interval's ends; None where there is none.
    """

    zero: float
    point: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Table:
    """The differences of one factor and probe.

    Args:
        title: what it is about.
        metric: ``error`` or ``r2``.
        rows: in depth order, each with its bar.
        axis: the smallest and the largest difference of the axis, which all tables of the metric share.
        losses: whether any row has a cross-entropy.
        tested: of what kind intervals and tests are.
    """

    title: str
    metric: str
    rows: list[tuple[Row, Bar]]
    axis: tuple[float, float]
    losses: bool
    tested: str


def _axis(differences: Sequence[ProbeDifference], metric: str) -> tuple[float, float]:
    """Return the ends of the axis of a metric's differences, 0 on it."""
    ends = [end for one in differences if one.score.metric == metric for end in _ends(one.score)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    if high - low < 1e-9:
        low, high = -0.001, 0.001
    margin = 0.03 * (high - low)
    return low - margin, high + margin


def _table(section: Section, axis: tuple[float, float]) -> Table:
    scores = [one.score for one in section.differences]
    low, high = axis

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    bars = []
    for score in scores:
        found = score.interval
        ranges = (None, None) if found is None else (at(found.low), at(found.high))
        bars.append(Bar(at(0), at(score.difference), *ranges))
    rows, losses = list(zip(section.rows, bars, strict=True)), any(row.loss for row in section.rows)
    return Table(section.title, section.metric, rows, axis, losses, how_tested(scores))


def _ends(score: ScoreDifference) -> list[float]:
    ends = [] if score.interval is None else [score.interval.low, score.interval.high]
    return [score.difference, *ends]
