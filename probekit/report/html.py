"""The ``html`` report: one file that opens anywhere, without a network and without JavaScript."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Literal

from probekit.components import Report
from probekit.hookspecs import hookimpl
from probekit.report.page import clean, path_text, percent, shown, shown_range, tables

if TYPE_CHECKING:
    from probekit.results import RunResult


class HtmlReport(Report):
    """The page."""

    kind: Literal["html"] = "html"
    filename: ClassVar[str | None] = "report.html"

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:  # noqa: ARG002 - no terminal
        """Return the page; names enter it only through autoescape."""
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("probekit.report"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        environment.filters |= {
            "percent": percent, "clean": clean, "shown": shown, "shown_range": shown_range, "path_text": path_text,
        }  # fmt: skip
        facts = {key: result.provenance[key] for key in ("models", "labels", "splits", "seeds", "packages", "plugins")}
        return environment.get_template("report.html").render(
            result=result,
            provenance=result.provenance,
            tables=tables(result),
            facts=clean_json(facts),
            palette=PALETTE,
        )


# Worst to best, with the colour of the text on each.
PALETTE = (
    ("#6d0a2a", "#fff"), ("#8d182a", "#fff"), ("#ab2b2b", "#fff"), ("#c4482f", "#fff"), ("#d46736", "#000"),
    ("#df8740", "#000"), ("#e1a34a", "#000"), ("#dbbc55", "#000"), ("#c6d061", "#000"), ("#addd75", "#000"),
    ("#93e68c", "#000"),
)  # fmt: skip


def clean_json(value: object) -> str:
    """Return indented JSON in which control characters of any text are shown, not obeyed."""
    lines = json.dumps(value, indent=1, ensure_ascii=False, default=str).split("\n")
    return "\n".join(clean(line) for line in lines)


@hookimpl
def register_reports() -> list[type[Report]]:
    """The report of this module."""
    return [HtmlReport]
