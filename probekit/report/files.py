"""The ``csv`` and ``json`` reports."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, ClassVar, Literal

from probekit.components import Report
from probekit.hookspecs import hookimpl

if TYPE_CHECKING:
    from probekit.results import RunResult


class CsvReport(Report):
    """One line per probe, for a spreadsheet."""

    kind: Literal["csv"] = "csv"
    filename: ClassVar[str | None] = "results.csv"

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:  # noqa: ARG002 - no terminal
        """Return the table; a cell that a spreadsheet would run as a formula begins with an apostrophe."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        metrics = sorted({(metric, split) for p in result.probes for metric, by in p.scores.items() for split in by})
        splits = list(dict.fromkeys(split for p in result.probes for split in p.rows))
        identity = ["model", "checkpoint", "tap", "reduction", "factor", "probe", "control", "seed"]
        numbers = ["penalty", "features_raw", "features_used", "seconds"]
        writer.writerow(
            [
                *identity,
                *(f"{m}.{s}" for m, s in metrics),
                *numbers,
                *(f"rows.{s}" for s in splits),
                "certificate",
                "gap",
            ]
        )
        for p in result.probes:
            cells = [getattr(p, name) for name in identity]
            cells += [p.scores.get(metric, {}).get(split) for metric, split in metrics]
            cells += [getattr(p, name) for name in numbers]
            cells += [p.rows.get(split) for split in splits]
            writer.writerow([_inert(cell) for cell in [*cells, p.certificate.status, p.certificate.gap]])
        return stream.getvalue()


def _inert(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


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
