"""What an unquoted scalar means in YAML 1.2, and how messages cite text of a spec."""

from __future__ import annotations

import math
import re

from probekit.errors import Problem, SpecError

MAX_DIGITS = 19

_WORDS = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    form: word == "true" for word in ("true", "false") for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_IF_TEXT = "quote it if text is meant"


def parse_scalar(text: str) -> str | int | float | bool | None:
    """Return what YAML 1.2 reads in an unquoted scalar; text with a leading zero (010, 0x1F, 0o17) stays text.

    Raises:
        SpecError: PK-Y06 infinity or not a number, PK-Y23 an integer of more than 19 digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if (digits := len(text.lstrip("+-"))) > MAX_DIGITS:
            what = f"{cited(text)} has {digits:,} digits, more than {MAX_DIGITS}"
            raise SpecError(Problem("PK-Y23", what, _IF_TEXT))
        return int(text)
    is_float = _FLOAT.fullmatch(text)
    if _NOT_FINITE.fullmatch(text) or (is_float and math.isinf(float(text))):
        raise SpecError(Problem("PK-Y06", f"{cited(text)} is not a finite number", _IF_TEXT))
    return float(text) if is_float else text


def cited(value: object) -> str:
    """Return a value as messages cite it; of long text the beginning."""
    return repr(f"{value[:40]}..." if isinstance(value, str) and len(value) > 60 else value)


def how_to_quote(raw: str, how: str = "quote it") -> str:
    """Return a hint that shows text in single quotes, unless it is empty or long."""
    doubled = raw.replace("'", "''")
    return f"{how}: '{doubled}'" if 0 < len(raw) <= 60 else how
