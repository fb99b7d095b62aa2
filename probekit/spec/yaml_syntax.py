"""What a syntax error of PyYAML means, and what to type instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from probekit.spec.yaml_places import Place, end_of, place_of
from probekit.spec.yaml_scalars import cited, how_to_quote

if TYPE_CHECKING:
    from collections.abc import Sequence

_IN_DOUBLE_QUOTES = re.compile(r'"((?:[^"\\\n]|\\[^"\n])*)"')

NO_TAG = "remove it, or quote text that begins with '!'"
Words = tuple[str, str, str, Place]
"""A problem's code, fact, hint and place."""


@dataclass(frozen=True)
class Read:
    """How far a text was read before an error.

    Args:
        text: all of it.
        last: the event before the error.
        opened: the index and place of each bracket that is not closed, the innermost last.
        flow: whether the error stands in brackets.
    """

    text: str
    last: yaml.Event | None
    opened: Sequence[tuple[int, Place]]
    flow: bool


def explain(error: yaml.MarkedYAMLError, read: Read) -> Words:
    """Return the words for a syntax error, as PyYAML raised it."""
    at: Any = error.problem_mark
    start: Any = error.context_mark or at
    said = f"{error.context}: {error.problem}"
    return _in_token(said, read.text, start, at, flow=read.flow) or _between_tokens(said, read, start, at)


def _in_token(said: str, text: str, start: Any, at: Any, *, flow: bool) -> Words | None:
    raw = raw_at(text, start.index, flow=flow, key=True)
    if "cannot start any token" in said and text[at.index] == "\t":
        where = "between values" if text[at.index - at.column : at.index].strip() else "for indentation"
        return "PK-Y01", f"YAML forbids tabs {where}", "use spaces", place_of(at)
    if "cannot start any token" in said:
        return "PK-Y00", f"unquoted text cannot begin with {text[at.index]}", how_to_quote(raw), place_of(at)
    if found := re.search("scanning an (alias|anchor)", said):
        return "PK-Y08", f"unquoted {cited(raw)} is read as an {found[1]}", how_to_quote(raw), place_of(start)
    if "double-quoted scalar" in said:
        escape = text.rfind("\\", 0, at.index + 1)
        what = f"{text[escape : escape + 2]} begins no valid escape in double quotes"
        whole = _IN_DOUBLE_QUOTES.match(text, start.index)
        return "PK-Y09", what, how_to_quote(whole[1] if whole else "", "use single quotes"), end_of(text[:escape])
    if "quoted scalar" in said:
        quote = text[start.index]
        return "PK-Y11", f"the {quote} opened here is never closed", f"add the closing {quote}", place_of(start)
    if re.search("(?:scanning|parsing) a tag|tag handle", said):
        return "PK-Y18", f"tag {word_at(text, start.index)} is not allowed", NO_TAG, place_of(start)
    return None


def _between_tokens(said: str, read: Read, start: Any, at: Any) -> Words:
    text, last = read.text, read.last
    colon = text.rfind(": ", at.index - at.column, at.index)
    if colon >= 0 and ("mapping values" in said or said.endswith("but got ':'")):
        raw = raw_at(text, colon + 2, flow=read.flow, key=False)
        return "PK-Y10", f"{cited(raw)} holds ': ', which needs quotes", how_to_quote(raw), place_of(at)
    if isinstance(last, yaml.ScalarEvent) and last.style in ("'", '"'):
        begin: Any = last.start_mark
        end: Any = last.end_mark
        if begin.line < end.line == at.line:
            what = f"the {last.style} opened here closes only in line {end.line + 1}, before other text"
            return "PK-Y11", what, f"add the closing {last.style}", place_of(begin)
    found = text[at.index : at.index + 1]  # nothing at the end
    if read.opened and found != ",":
        index, place = read.opened[-1]
        if found in "]}" or at.line + 1 != place.line:
            what = f"the '{text[index]}' opened here is never closed"
            return "PK-Y11", what, f"add '{']' if text[index] == '[' else '}'}'", place
    if "could not find expected ':'" in said:
        raw = raw_at(text, start.index, flow=read.flow, key=False)
        return "PK-Y00", f"no ':' follows {cited(raw)}", "write key: value", place_of(start)
    hint = "check the quotes, brackets and indentation here"
    return "PK-Y00", f"{cited(word_at(text, at.index))} cannot stand here", hint, place_of(at)


def word_at(text: str, index: int) -> str:
    """Return the word at an index, at most 40 characters of it."""
    return (text[index : index + 40].split("\n", 1)[0].split() or ["the end of the line"])[0]


def raw_at(text: str, index: int, *, flow: bool, key: bool) -> str:
    """Return the text from ``index`` on that was meant as one value, or as one key too."""
    stops = r"\s#" + (r"|[,\]}]" if flow else "") + (r"|:(?:\s|$)" if key else "")
    return re.split(stops, text[index:].split("\n", 1)[0], maxsplit=1)[0].strip()
