"""What stands at the top of the page and at its end: where a result comes from, its key numbers, its provenance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from probekit.findings.wording import shown
from probekit.report.page import plain_range

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from probekit.report.parts import Head
    from probekit.results import IntervalRecord, RunResult

TILED = 4
"""The most questions whose key numbers are shown as tiles; of more there is a table."""
_ELSEWHERE = {"spec", "warnings", "command"}
"""Parts of the provenance that the page shows elsewhere."""
_LISTED = 20
"""The most entries of a list or mapping that provenance shows."""


def origin(result: RunResult, asked: Sequence[Head]) -> Iterator[str]:
    """Give what stands below the title."""
    provenance = result.provenance
    yield f"probekit {provenance['probekit']}"
    yield _moment(str(provenance["started"]))
    yield f"spec {provenance['spec']['digest'][:12]}"
    yield _counted(len({(probe.model, probe.tap) for probe in result.probes}), "tap")
    classes = provenance["labels"][asked[0].table.factor]["classes"] if len(asked) == 1 else []
    if classes:
        yield _counted(len(classes), "class", "classes")
    splits = " / ".join(f"{count:,} {split}" for split, count in provenance["splits"].items())
    yield f"{splits} examples"


def _moment(text: str) -> str:
    """Return an ISO time as people write it.

    >>> _moment("2026-01-01T09:30:00+00:00")
    '2026-01-01 09:30 UTC'
    """
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(28.64), duration(521), duration(7500)
    ('28.6 s', '8 min 41 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def tiles(result: RunResult, asked: Sequence[Head]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Give the numbers of each question, with its name, where there are few; the wall time last."""
    time = (duration(float(result.provenance["seconds"]["total"])), "wall time")
    tiled = asked if len(asked) <= TILED else []
    for head in tiled:
        _, _, best, ends, model, chance, given, _ = _numbers(head)
        metric, own = head.table.metric, head.table.own
        beside = [f" ({ends})" if ends else "", _beside(None if own is None else own.interval(), metric)]
        beside.append(_beside(None if head.input is None else head.input.interval, metric))
        some = [(best, f"best probe {head.measured}{beside[0]}"), (model, f"model {head.measured}{beside[1]}")]
        some += [(chance, "chance"), (given, f"input {head.measured}{beside[2]}")]
        yield head.name, [tile for tile in some if tile[0]] + ([time] if len(tiled) == 1 else [])
    if len(tiled) != 1:
        yield "run", [time]


def _beside(interval: IntervalRecord | None, metric: str) -> str:
    return "" if interval is None else f" ({plain_range(interval, metric)})"


def overview(asked: Sequence[Head]) -> Iterator[tuple[str, str, str, str, str, str, str, int | None]]:
    """Give, for each question: name, best tap, its score and interval, model, chance, input, and the best's colour."""
    for head in asked:
        yield _numbers(head)


def _numbers(head: Head) -> tuple[str, str, str, str, str, str, str, int | None]:
    table, best = head.table, head.best
    own = "" if table.own is None else shown(table.own.headline()["test"], table.metric)
    given = "" if head.input is None else head.input.told(table.metric)
    chance = shown(table.baseline, table.metric)
    if best is None:
        return head.name, "none reached its optimum", "", "", own, chance, given, None
    ends = plain_range(best.interval, table.metric) if best.interval else ""
    return head.name, best.probe.tap, shown(best.scores["test"], table.metric), ends, own, chance, given, best.bin


def facts(provenance: Mapping[str, Any]) -> list[str]:
    """Return the provenance as lines, without the parts that have places of their own; plugins by distribution."""
    shown_facts = {name: value for name, value in provenance.items() if name not in _ELSEWHERE}
    kinds: dict[str, list[str]] = {}
    for plugin in provenance["plugins"]:
        kinds.setdefault(f"{plugin['distribution']} {plugin['version']}", []).append(plugin["kind"])
    return flat({**shown_facts, "plugins": {name: ", ".join(some) for name, some in kinds.items()}})


def flat(value: object, name: str = "") -> list[str]:
    """Return nested values as lines ``name.of.part: value``; of long lists and mappings the first few.

    >>> flat({"a": {"b": [1, 2]}, "c": None, "seconds": {"fitting": 2, "total": 3.5}})
    ['a.b: 1, 2', 'c: null', 'seconds: fitting 2, total 3.5']
    """
    if (
        isinstance(value, dict)
        and name
        and len(value) > 1
        and all(type(part) in {int, float} for part in value.values())
    ):
        return flat([f"{key} {_plain(part)}" for key, part in value.items()], name)
    if isinstance(value, dict):
        some = list(value.items())[:_LISTED]
        lines = [line for key, part in some for line in flat(part, f"{name}.{key}" if name else str(key))]
        return [*lines, *([f"{name}: {len(value) - _LISTED:,} more"] if len(value) > _LISTED else [])]
    if isinstance(value, list):
        if any(isinstance(part, dict) for part in value):
            return [f"{name}: {_inner(part)}" for part in value[:_LISTED]]
        more = [f"{len(value) - _LISTED:,} more"] if len(value) > _LISTED else []
        return [f"{name}: {', '.join([*map(_plain, value[:_LISTED]), *more])}"]
    return [f"{name}: {_plain(value)}"]


def _inner(value: object) -> str:
    return (
        ", ".join(f"{key} {_plain(part)}" for key, part in value.items()) if isinstance(value, dict) else _plain(value)
    )


def _plain(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
