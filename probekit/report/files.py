"""The ``csv`` and ``json`` reports."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, ClassVar, Literal

from probekit.components import Report, is_control_task
from probekit.hookspecs import hookimpl
from probekit.mistakes import inert
from probekit.report.controls import control_cells, place_of
from probekit.report.page import path_text
from probekit.results import ProbeIdentity

if TYPE_CHECKING:
    from probekit.results import RunResult


class CsvReport(Report):
    """One line per probe, for a spreadsheet."""

    kind: Literal["csv"] = "csv"
    filename: ClassVar[str | None] = "results.csv"

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:  # noqa: ARG002 - no terminal
        """Return the table, one line a record.

        A cell that a spreadsheet would run as a formula begins with an apostrophe; control characters and direction
        overrides of names are shown as ``\\u202e``. ``results.json`` has the exact names.
        """
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        metrics = sorted({(metric, split) for p in result.probes for metric, by in p.scores.items() for split in by})
        splits = list(dict.fromkeys(split for p in result.probes for split in p.rows))
        ranges = sorted({(metric, split) for p in result.probes for metric, by in p.intervals.items() for split in by})
        labels = list(dict.fromkeys(name for p in result.probes for name in p.by_label))
        told = (one.intervals.get("error", {}) for p in result.probes for one in p.by_label.values())
        tests = list(dict.fromkeys(split for by_split in told for split in by_split))
        tasks = list(dict.fromkeys(p.control for p in result.probes if p.control and is_control_task(p.control)))
        beside = control_cells(result.probes)
        identity = list(ProbeIdentity.model_fields)
        numbers = ["penalty", "features_raw", "features_used", "parameters", "seconds"]
        numbers += ["reduction_parameters", "reduction_seconds"]
        fit = ["grown", "end", "heads", "passes", "preconditioner", "device", "streamed", "reason"]
        header = [
            *identity,
            *(f"{metric}.{split}" for metric, split in metrics),
            *numbers,
            *(f"rows.{split}" for split in splits),
            "certificate",
            "gap",
            "task",
            "primary",
            *(f"{metric}.{split}.{end}" for metric, split in ranges for end in ("low", "high")),
            *(f"{value}.{name}" for name in labels for value in (*(f"error.{split}" for split in splits), "penalty")),
            *(f"error.{split}.{name}.{end}" for name in labels for split in tests for end in ("low", "high")),
            "fit.path",
            *(f"fit.{name}" for name in fit),
            "fit.notes",
            *(f"selectivity.{name}" for name in tasks),
        ]
        writer.writerow(map(inert, header))
        for p in result.probes:
            cells = [getattr(p, name) for name in identity]
            cells += [p.scores.get(metric, {}).get(split) for metric, split in metrics]
            cells += [getattr(p, name) for name in numbers]
            cells += [p.rows.get(split) for split in splits]
            cells += [p.certificate.status, p.certificate.gap, p.task, p.primary]
            for metric, split in ranges:
                interval = p.intervals.get(metric, {}).get(split)
                cells += [interval and interval.low, interval and interval.high]
            for name in labels:
                label = p.by_label.get(name)
                cells += [label and label.scores["error"].get(split) for split in splits] + [label and label.penalty]
            for name in labels:
                found = p.by_label[name].intervals.get("error", {}) if name in p.by_label else {}
                cells += [getattr(found.get(split), end, None) for split in tests for end in ("low", "high")]
            cells += ["" if p.fit is None else path_text(p.fit.path)]
            cells += [None if p.fit is None else getattr(p.fit, name) for name in fit]
            cells += ["" if p.fit is None else "; ".join(p.fit.notes)]
            selectivity = {one.name: one.selectivity for one in beside.get(place_of(p), []) if p.control is None}
            cells += [selectivity.get(name) for name in tasks]
            writer.writerow(map(inert, cells))
        return stream.getvalue()


class JsonReport(Report):
    """The result itself, as it is saved."""

    kind: Literal["json"] = "json"
    filename: ClassVar[str | None] = "results.json"

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:  # noqa: ARG002 - no terminal
        """Return strict JSON."""
        return result.to_json()


@hookimpl
def register_reports() -> list[type[Report]]:
    """The reports of this module."""
    return [CsvReport, JsonReport]
