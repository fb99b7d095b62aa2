"""Words and numbers for the sentences of findings, free of any report's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Task
    from probekit.results import IntervalRecord

LONGEST = 60
"""Characters of a name in a sentence; a longer one is shortened in its middle."""

SMALLEST = 5e-4
"""Of a difference that sentences tell: a smaller one would be printed as 0."""

NAMED = 3
"""How many things a sentence names before it counts the others."""

WITHOUT_FEATURES: dict[Task, str] = {
    "classes": "always saying the commonest class",
    "multilabel": "always giving each label's commoner answer",
    "number": "always saying the mean",
}
"""What is called chance."""

_TESTS = {"mcnemar_exact": "McNemar's exact test", "paired_bootstrap": "a paired bootstrap"}
_KINDS = {"wilson": "Wilson", "newcombe": "Newcombe", "percentile_bootstrap": "bootstrap"}


def named(name: str) -> str:
    """Return a name for a sentence: control characters shown, not obeyed, and at most ``LONGEST`` characters.

    >>> named("a\\x1b[31m")
    'a\\\\x1b[31m'
    >>> len(named("x" * 500))
    60
    """
    text = printable(name)
    if len(text) <= LONGEST:
        return text
    tail = LONGEST // 3
    return f"{text[: LONGEST - tail - 1]}…{text[-tail:]}"


def listing(texts: Sequence[str], most: int = NAMED) -> str:
    """Return texts as an enumeration, the first ``most`` and the number of the others.

    >>> listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c", "d", "e"])
    ('a', 'a and b', 'a, b, c and 2 more')
    """
    shown, more = list(texts[:most]), len(texts) - most
    if more > 0:
        shown.append(f"{more} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def taps_of(names: Sequence[str], most: int = NAMED) -> str:
    """Return taps by name.

    >>> taps_of(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return listing([named(name) for name in names], most)


def run_of(names: Sequence[str]) -> str:
    """Return a run of taps by its ends.

    >>> run_of(["a"]), run_of(["a", "b"]), run_of(["a", "b", "c"])
    ('a', 'a and b', 'a to c (3 taps)')
    """
    if len(names) < 3:
        return taps_of(names)
    return f"{named(names[0])} to {named(names[-1])} ({len(names):,} taps)"


def counted(count: int, what: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "tap"), counted(1200, "tap")
    ('1 tap', '1,200 taps')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def shown(value: float, metric: str) -> str:
    """Return a value of a primary metric: a share as %, R² with three decimals.

    >>> shown(0.0123, "error"), shown(0.98765, "r2"), shown(-0.0001, "r2")
    ('1.2 %', '0.988', '0.000')
    """
    if metric != "r2":
        return f"{_rounded(100 * value, 1)} %"
    return _rounded(value, 3) if abs(value) < 100 else f"{value:.3g}"


def points(value: float, metric: str) -> str:
    """Return the difference of two values of a metric, with its sign.

    >>> points(0.0123, "error"), points(-0.25, "r2"), points(-0.0001, "error")
    ('1.2 points', '-0.250', '0.0 points')
    """
    return shown(value, metric) if metric == "r2" else f"{_rounded(100 * value, 1)} points"


def _rounded(value: float, digits: int) -> str:
    # A sum with 0 turns -0 into 0.
    return f"{round(value, digits) + 0.0:.{digits}f}"


def interval_text(interval: IntervalRecord, metric: str, rows: int | None = None) -> str:
    """Return a score's interval with its kind, and with n where that is not the number of rows.

    >>> from probekit.results import IntervalRecord
    >>> interval_text(IntervalRecord(low=0.009, high=0.029, kind="wilson", over="examples", n=629), "error", 629)
    '95 % interval 0.9 % to 2.9 %, Wilson'
    >>> interval_text(IntervalRecord(low=0, high=1, kind="percentile_bootstrap", over="groups", n=40), "r2", 629)
    '95 % interval 0.000 to 1.000, bootstrap over 40 groups'
    """
    kind = _KINDS.get(interval.kind, printable(interval.kind.replace("_", " ")))
    over = "" if interval.n == rows and interval.over == "examples" else f" over {interval.n:,} {interval.over}"
    low, high = shown(interval.low, metric), shown(interval.high, metric)
    return f"{100 * interval.level:g} % interval {low} to {high}, {kind}{over}"


def chance_text(p: float) -> str:
    """Return a p-value.

    >>> chance_text(0.0312), chance_text(1e-9)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def tested_by(test: str) -> str:
    """Return by which test of pairs, as records name it.

    >>> tested_by("mcnemar_exact"), tested_by("sign_test")
    ("McNemar's exact test", 'sign test')
    """
    return _TESTS.get(test, printable(test.replace("_", " ")))


def sentence(whose: str, text: str) -> str:
    """Return a sentence that begins with whom it is about, where that is said.

    >>> sentence("", "the end."), sentence("model a", "the end.")
    ('The end.', 'Model a: the end.')
    """
    whole = f"{whose}: {text}" if whose else text
    return whole[:1].upper() + whole[1:]
