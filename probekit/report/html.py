"""The ``html`` report: one file that opens anywhere, without a network and without JavaScript."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from probekit.components import Report
from probekit.errors import ProbekitWarning, clean
from probekit.findings.wording import shown
from probekit.hookspecs import hookimpl
from probekit.report.charts import ChartError, axis_top, depth_chart, inline, near_top, render
from probekit.report.control_tables import control_tables
from probekit.report.drawing import DrawnCell, draw
from probekit.report.heat_map import over_factors, over_training
from probekit.report.page import percent, shown_range
from probekit.report.parts import Evidence, best_by_tap, fold, heads, sayings
from probekit.report.summary import TILED, facts, origin, overview, tiles
from probekit.report.tap_details import details, details_note
from probekit.report.tap_table import grid, uneven
from probekit.report.vega import ACCENT, CIVIDIS, LINE, MUTED, PALETTE, TEXT
from probekit.report.wording import curves_note, interval_note, partial_note, tight, unbroken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import jinja2

    from probekit.report.drawing import Drawing
    from probekit.report.page import Table
    from probekit.report.parts import Head
    from probekit.report.tap_details import Details
    from probekit.report.vega import DepthChart
    from probekit.results import RunResult

__all__ = ["CIVIDIS", "PALETTE", "HtmlReport", "environment"]

_VERDICTS, _CHARTS, _DRAWN, _MULTIPLES = 6, 24, 6, 12
"""The most questions with a verdict that is not folded, with a chart, a drawing; checkpoints with a chart each."""
_LABEL_CELLS = 3000
"""The most cells of a table of yes/no labels."""


class HtmlReport(Report):
    """The page: verdict, findings, charts, the model drawn, tables, provenance."""

    kind: Literal["html"] = "html"
    filename: ClassVar[str | None] = "report.html"

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:  # noqa: ARG002 - no terminal
        """Return the page; a chart or drawing that cannot be made is left out with a line and a warning that say so."""
        asked, evidence = heads(result), Evidence(result)
        drawings, drawing_note = _drawings(result, asked)
        last = [(head, head.checkpoint, grid(result, head.table, evidence)) for head in asked]
        earlier = [
            (head, table.rows[0].probe.checkpoint, grid(result, table, evidence))
            for head in asked
            for table in head.moments[:-1]
        ]
        last_tables = [head.table for head in asked]
        return environment().get_template("report.html").render(
            result=result, provenance=result.provenance, asked=asked, evidence=evidence, verdicts=_VERDICTS,
            origin=list(origin(result, asked)), partial=partial_note(result), said=sayings(result, asked, evidence),
            tiles=list(tiles(result, asked)), overview=list(overview(asked)) if len(asked) > TILED else [],
            numbers=any(table.metric == "r2" for table in last_tables),
            missed=any(row.missed for table in last_tables for row in table.rows),
            notes={head.number: interval_note(row.interval for row in head.table.rows) for head in asked},
            lines={head.number: curves_note(head.table) for head in asked},
            figures=_figures(asked), drawings=drawings, drawing_note=drawing_note,
            training=[(head, over_training(head, evidence)) for head in asked if len(head.moments) > 1],
            several=len({probe.reduction for probe in result.probes if probe.control is None}) > 1,
            controls=[(head, some) for head in asked if (some := control_tables(result, head.table))],
            factors=over_factors(asked, evidence), grids=last, earlier=earlier,
            labelled=[table for table in last_tables if table.labels], label_cells=_LABEL_CELLS,
            details=_details(result, asked, evidence), details_note=details_note(result, evidence),
            confusions=any(probe.mistakes is not None for probe in result.probes),
            facts=facts(result.provenance),
            data=_data(result),
        )  # fmt: skip


def environment(package: str = "probekit.report") -> jinja2.Environment:
    """Return what renders a page: every value is cleaned and escaped, whatever a template does with it.

    A page extends ``base.html``, which brings the style, the script and a policy that allows nothing else.

    Args:
        package: whose templates there are beside those of reports.
    """
    import jinja2

    def cleaned(value: object) -> object:
        return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in {package: 0, "probekit.report": 0}]),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=cleaned,
    )  # fmt: skip
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.filters |= {
        "percent": percent,
        "range": functools.partial(shown_range, metric="error"),
        "unbroken": unbroken,
        "tight": tight,
    }
    source = (made.loader or jinja2.BaseLoader()).get_source(made, "page.js")[0]
    script = "\n".join(line.strip() for line in source.splitlines())
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    colours = {"text": TEXT, "muted": MUTED, "line": LINE, "accent": ACCENT}
    made.globals |= {
        "palette": PALETTE, "cividis": CIVIDIS, "chart_colours": colours, "policy": policy, "script": script,
    }  # fmt: skip
    return made


@dataclass(frozen=True)
class Figures:
    """The charts of a page as SVG, by the number of their question.

    Args:
        depth: error by depth.
        near: the same enlarged where most points lie near the foot, with the upper end of its axis.
        moments: of every checkpoint, with its name.
        note: what the page says of charts that it lacks.
    """

    depth: dict[int, str]
    near: dict[int, tuple[str, str]]
    moments: dict[int, list[tuple[str, str]]]
    note: str


def _figures(asked: Sequence[Head]) -> Figures:
    """Return the charts of the questions, drawn in one go."""
    made = Figures({}, {}, {}, "")
    top = axis_top(table for head in asked for table in head.moments)
    wanted: list[tuple[Head, Table, str, DepthChart]] = []
    for head in asked[:_CHARTS]:
        chart = depth_chart(head.table, top)
        wanted.append((head, head.table, "depth", chart))
        near = near_top(chart)
        if near is not None:
            wanted.append((head, head.table, "near", depth_chart(head.table, near)))
        if 1 < len(head.moments) <= _MULTIPLES:
            wanted += [(head, table, "moment", depth_chart(table, top, small=True)) for table in head.moments]
    try:
        drawn = [
            inline(svg, _told(head, table))
            for (head, table, *_), svg in zip(wanted, render([chart for *_, chart in wanted]), strict=True)
        ]
    except ChartError as error:
        warnings.warn(f"report.html has no charts: {error}", ProbekitWarning, stacklevel=2)
        return replace(made, note=f"The charts could not be drawn: {error}. The tables below hold the same numbers.")
    for (head, table, which, chart), svg in zip(wanted, drawn, strict=True):
        if which == "depth":
            made.depth[head.number] = svg
        elif which == "near":
            made.near[head.number] = (f"{100 * chart.top:g} %", svg)
        else:
            made.moments.setdefault(head.number, []).append((str(table.rows[0].probe.checkpoint), svg))
    more = len(asked) - _CHARTS
    return replace(
        made, note=f"{more} more questions have no chart; their numbers are in the tables." if more > 0 else ""
    )


def _told(head: Head, table: Table) -> str:
    """Return a chart as a sentence."""
    first, last = table.rows[0], table.rows[-1]
    moment = f" at checkpoint {first.probe.checkpoint}" if len(head.moments) > 1 else ""
    places = ", ".join(f"{row.told(table.metric)} at {row.probe.tap}" for row in (first, last))
    chance = shown(table.baseline, table.metric)
    return (
        f"Test {head.measured} for {table.factor} by depth{moment}: {places}; chance {chance}. The tables have it all."
    )


def _drawings(result: RunResult, asked: Sequence[Head]) -> tuple[list[tuple[Head, Drawing]], str]:
    """Return the model of each question, coloured by what was read off it, and what the page says of them."""
    made, note = [], ""
    several = len({probe.reduction for probe in result.probes if probe.control is None}) > 1
    for head in asked[:_DRAWN]:
        table = head.table
        cells = {
            tap: DrawnCell(
                "missed" if row.missed else row.told(table.metric),
                None if row.missed else row.share, None if row.missed else row.bin,
                ", ".join([
                    *([row.told(table.metric)] if several or row.missed else []),
                    *([row.probe.reduction] if several else []),
                ]),
                probed=True,
            )
            for tap, row in best_by_tap(table).items()
        }  # fmt: skip
        title = f"Test {head.measured} for {table.factor} at the taps of model {head.model}"
        try:
            drawing = draw(result.graph, head.model, cells, title, PALETTE)
        except Exception as error:
            note = f"The model could not be drawn: {type(error).__name__}: {error}."
            warnings.warn(f"report.html: {note}", ProbekitWarning, stacklevel=2)
            break
        if drawing is not None:
            made.append((head, drawing))
    if len(asked) > _DRAWN and not note:
        note = f"Drawn for the first {_DRAWN} of {len(asked)} questions."
    return made, note


def _details(result: RunResult, asked: Sequence[Head], evidence: Evidence) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return what is known of each tap, in depth order, by block."""
    records = {(one.model, one.tap): one for one in result.graph.taps}
    before: dict[tuple[str, str], list[str]] = {}
    for model, a, b in result.graph.edges:
        before.setdefault((model, b), []).append(a)
    probes: dict[tuple[str, str], list[Details]] = {}
    tests: dict[tuple[str, str], list[str]] = {}
    several = len({probe.reduction for probe in result.probes}) > 1
    for head in asked:
        unlike = uneven(result, head.table)
        for row in head.table.rows:
            place = (row.probe.model, row.probe.tap)
            title = " · ".join([*([head.name] if head.name else []), *([row.probe.reduction] if several else [])])
            probes.setdefault(place, []).append(details(row, evidence, title, uneven=unlike))
        for tap, row in best_by_tap(head.table).items():
            text = f"{head.name} {row.told(head.table.metric)}".strip()
            tests.setdefault((head.model, tap), []).append(text)
    models, dtypes = len({model for model, _ in evidence.taps}) > 1, len({one.dtype for one in result.graph.taps}) > 1
    views: dict[str, list[dict[str, Any]]] = {}
    for number, (model, tap) in enumerate(evidence.taps, 1):
        record = records.get((model, tap))
        what = [] if record is None else [
            *([record.name] if record.name != tap else []), record.op,
            "shape unknown" if record.shape is None else f"{tuple(record.shape)}", *([record.dtype] if dtypes else []),
            *([record.layout] if record.layout else []), f"depth {record.depth}",
        ]  # fmt: skip
        what += [f"from {', '.join(before[model, tap])}"] if (model, tap) in before else []
        name = f"{model} · {tap}" if models else tap
        head_text = f"{number} · {name} · {' · '.join(tests.get((model, tap), [])[:4])}"
        views.setdefault(model, []).append({
            "head": head_text, "anchor": evidence.anchor(tap, model), "what": " · ".join(what), "tap": tap,
            "probes": probes.get((model, tap), []),
        })  # fmt: skip
    return [block for some in views.values() for block in fold(some, lambda view: str(view["tap"]))]


def _data(result: RunResult) -> Mapping[str, Any]:
    """Return the probes of true labels, for programs that read the page; ``same`` has the columns that never vary."""
    names = [
        "model", "checkpoint", "tap", "reduction", "factor", "probe", "seed", "penalty", "features_raw",
        "features_used",
    ]  # fmt: skip
    lines: list[dict[str, Any]] = []
    for probe in (one for one in result.probes if one.control is None):
        scores, interval = probe.headline(), probe.interval()
        ends = {end: None if interval is None else float(f"{getattr(interval, end):.4g}") for end in ("low", "high")}
        line = {name: getattr(probe, name) for name in names} | scores | ends
        line = {name: _number(value) if isinstance(value, float) else value for name, value in line.items()}
        lines.append({**line, "metric": probe.primary, "certificate": probe.certificate.status})
    columns = list(lines[0]) if lines else []
    varying = [name for name in columns if any(line[name] != lines[0][name] for line in lines)]
    same = {name: lines[0][name] for name in columns if name not in varying}
    return {
        "name": result.name,
        "same": same,
        "columns": varying,
        "rows": [[x[name] for name in varying] for x in lines],
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


@hookimpl
def register_reports() -> list[type[Report]]:
    """The report of this module."""
    return [HtmlReport]
