"""From a run directory to its result, and what to type where it is none."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from probekit.errors import InputError, Problem, described, nearest
from probekit.results import SCHEMA_VERSION, RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probekit.results import ModelResult, ProbeResult

FILE = "results.json"
_MOST = 3
"""Problems of one file that are told."""
_AGAIN = "restore the file, or run the spec again; what was extracted is in the store"
_PROVENANCE = (
    "command", "labels", "models", "packages", "plugins", "probekit", "seconds", "seeds", "spec", "splits", "started",
    "warnings",
)  # fmt: skip
"""What every run writes and every report may read."""


def open_run(run: str | Path) -> RunResult:
    """Return the result of a run directory, or of a ``results.json`` itself.

    Unlike :func:`probekit.results.load_result`, it says what is wrong with the file, where, and what to do.

    Args:
        run: the directory or the file.

    Raises:
        InputError: ``PK-X40`` it is no run, ``PK-X41`` the file is damaged, ``PK-X42`` a later version wrote it.
    """
    path = results_file(Path(run))
    data = _parsed(path)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        what = f"a later probekit wrote it: schema version {version}, where this one reads {SCHEMA_VERSION}"
        raise InputError(Problem("PK-X42", what, "type: pip install --upgrade probekit-platform", file=str(path)))
    try:
        result = RunResult.model_validate(data)
    except ValidationError as error:
        raise InputError(*_misfits(error, path)) from error
    lacks = list(_lacks(result))
    if lacks:
        raise InputError(*(Problem("PK-X41", text, _AGAIN, field, str(path)) for field, text in lacks[:_MOST]))
    return result


def results_file(run: Path) -> Path:
    """Return the file that holds a run's result.

    Raises:
        InputError: ``PK-X40``, there is none.
    """
    with contextlib.suppress(OSError):  # such as a name that is too long
        if run.is_file():
            return run
        if (run / FILE).is_file():
            return run / FILE
    raise InputError(_no_run(run))


def _no_run(run: Path) -> Problem:
    with contextlib.suppress(OSError):
        if (run / "fits").is_dir():
            what = f"the run in {str(run)!r} has no {FILE} yet: it is at work or was stopped"
            return Problem("PK-X40", what, "type the run's command again; it goes on where it was")
        if run.is_dir():
            there = _runs_in(run)
            hint = f"it holds the runs {', '.join(there[:5])}; name one" if there else "type: probekit run SPEC -o DIR"
            return Problem("PK-X40", f"{str(run)!r} is no run directory: it holds no {FILE}", hint)
    hint = nearest(run.name, _runs_in(run.parent), f"runs in {str(run.parent)!r}")
    return Problem("PK-X40", f"no run directory {str(run)!r}", hint)


def _runs_in(folder: Path) -> list[str]:
    """Return the names of the run directories in a folder, sorted."""
    with contextlib.suppress(OSError):
        return sorted(entry.name for entry in folder.iterdir() if (entry / FILE).is_file())
    return []


def _parsed(path: Path) -> Any:
    """Return the values of a JSON file.

    Raises:
        InputError: ``PK-X41``, with the line and the column where there is one.
    """

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    try:
        return json.loads(path.read_bytes().decode(), parse_constant=refuse)
    except OSError as error:
        problem = Problem("PK-X41", f"cannot be read: {error.strerror}", "make it readable", file=str(path))
    except UnicodeDecodeError as error:
        problem = Problem("PK-X41", f"byte {error.start} is no UTF-8", _AGAIN, file=str(path))
    except json.JSONDecodeError as error:
        problem = Problem(
            "PK-X41", f"no JSON from here on: {error.msg}", _AGAIN, "", str(path), error.lineno, error.colno
        )
    except (ValueError, RecursionError) as error:
        problem = Problem("PK-X41", f"no result: {error}", _AGAIN, file=str(path))
    raise InputError(problem)


def _misfits(error: ValidationError, path: Path) -> Iterator[Problem]:
    """Give what does not fit the records of a result."""
    for one in error.errors(include_url=False)[:_MOST]:
        field = ".".join(str(part) for part in one["loc"])
        text = f"{one['msg'][:1].lower()}{one['msg'][1:]}"
        if one["type"] not in {"missing", "extra_forbidden"}:
            text += f", here {described(one['input'])}"
        yield Problem("PK-X41", text, _AGAIN, field, str(path))


def _lacks(result: RunResult) -> Iterator[tuple[str, str]]:
    """Give, as a field and a text, what reports read and the records leave open."""
    for name in _PROVENANCE:
        if name not in result.provenance:
            yield f"provenance.{name}", "is not there"
    labels = result.provenance.get("labels")
    for factor in dict.fromkeys(probe.factor for probe in result.probes):
        facts = labels.get(factor) if isinstance(labels, dict) else None
        if not isinstance(facts, dict) or not {"rows", "baseline"} <= set(facts):
            yield f"provenance.labels.{factor}", "has no rows and baseline"
    scored: dict[str, Sequence[ProbeResult | ModelResult]] = {"probes": result.probes, "model": result.model}
    for kind, records in scored.items():
        for number, record in enumerate(records):
            splits = set(record.scores.get(record.primary, ()))
            if not {"train", "valid"} < splits:
                yield f"{kind}.{number}.scores", f"have no {record.primary} on train, valid and a test split"
