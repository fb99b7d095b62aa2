"""A check of parity as Markdown, for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.parity.wording import cosine, how_measured, sentences, share, verdict_of
from probekit.report.markdown import beginning, code, escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.parity.records import PairParity, ParityResult


def render(result: ParityResult) -> str:
    """Return Markdown with tables as GitHub has them; names are inert."""
    lines = [beginning(escape(how_measured(result))), ""]
    for pair in result.pairs:
        lines += [f"## {code(pair.other)} against {code(pair.reference)}", ""]
        lines += [f"**{'same' if pair.same else 'APART'}**", ""]
        lines += [line for one in sentences(pair, result.tolerance) for line in (beginning(escape(one)), "")]
        lines += [*_table(pair), ""]
        for name, taps in ((pair.reference, pair.reference_only), (pair.other, pair.other_only)):
            lines += [f"Only {code(name)} has {', '.join(map(code, taps))}.", ""] if taps else []
    lines += [line for note in result.notes for line in (f"> {beginning(escape(note))}", "")]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(pair: PairParity) -> Iterator[str]:
    yield "| tap | reduction | features | largest | median | cosine | verdict |"
    yield "|---|---|--:|--:|--:|--:|---|"
    for one in pair.taps:
        tap = code(one.tap) if one.tap == one.other else f"{code(one.tap)} = {code(one.other)}"
        numbers = [share(one.largest), share(one.median), cosine(one.cosine)] if not one.reason else [""] * 3
        cells = [tap, code(one.reduction), f"{one.features:,}", *numbers, escape(verdict_of(one))]
        yield f"| {' | '.join(cells)} |"
