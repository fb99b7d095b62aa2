"""A result without the paths and the names of who ran it."""

from __future__ import annotations

import getpass
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from probekit.results import RunResult

_KEPT = {"labels", "packages", "plugins", "probekit", "python", "started", "seeds", "rows", "splits", "seconds"}
"""What the provenance holds without any path; classes may look like one."""
_NOBODY = {
    "admin", "data", "default", "guest", "home", "host", "localhost", "model", "nobody", "probekit", "root", "runner",
    "test", "train", "ubuntu", "user", "users", "valid", "work",
}  # fmt: skip
"""Account names that tell of nobody, and would be found in any spec."""
_START = r"(?:/(?=[\w.~@+-])|~[\w.-]+[/\\]|[A-Za-z]:[/\\]|\\\\(?=\w))"
_QUOTED = re.compile(rf"""(['"])({_START}[^'"\n]*)\1""")
_BARE = re.compile(rf"""(?<![\w.~/\\<*?)\]}}…])(?:file:/*(?=/))?{_START}[^\s'"`<>|,;(){{}}]*""")
_ABSOLUTE = re.compile(rf"{_START}[^\n]*")
_SEPARATORS = r"[/\\]+"
_STOPS = re.compile(r"""[\s'"`<>|,;(){}]""")
_HOME = re.compile(r"(?<![\w.])(?:(?:/home/|/Users/|[A-Za-z]:[/\\]+Users[/\\]+)([^/\\\s'\":;,]+)|~([\w.-]+)(?=[/\\]))")
_ACCOUNT = re.compile(r"(?<=://)[^/@\s]+@")


def redact(result: RunResult) -> RunResult:
    """Return a result whose provenance, findings and remarks hold no absolute path, user or host.

    Of a path its last part is left, as ``…/NAME``. Users are those of home folders that are named, and who runs this;
    their names become ``USER`` where they stand as words. The names of taps, factors, classes, models and files stay,
    and so do digests: that of the spec is of its whole text.

    Args:
        result: it is not changed.
    """
    clear = _Redaction(result)
    provenance = {
        key: value if key in _KEPT else clear.value(value) for key, value in result.provenance.items()
    } | {"redacted": True}  # fmt: skip
    probes = [
        one
        if one.fit is None
        else one.model_copy(
            update={
                "fit": one.fit.model_copy(
                    update={"reason": clear.value(one.fit.reason), "notes": clear.value(one.fit.notes)}
                )
            }
        )
        for one in result.probes
    ]
    findings = [
        one.model_copy(update={"sentence": clear.value(one.sentence), "evidence": clear.value(one.evidence)})
        for one in result.findings
    ]
    return result.model_copy(update={"provenance": provenance, "probes": probes, "findings": findings})


class _Redaction:
    """What is cleared from every text of one result."""

    def __init__(self, result: RunResult) -> None:
        self._names = [name for name in _names(result) if name.startswith(("/", "~", "\\")) or name[1:2] == ":"]
        texts = [text for key, value in result.provenance.items() if key not in _KEPT for text in _texts(value)]
        texts += [text for one in result.findings for text in (one.sentence, *_texts(one.evidence))]
        # In running text nothing tells where a path with a space ends; those that stand alone elsewhere are known.
        whole = {text for text in _scalars(result) if _ABSOLUTE.fullmatch(text) and _STOPS.search(text)}
        self._whole = sorted(whole - set(self._names), key=lambda text: (-len(text), text))
        users = {user for text in texts for pair in _HOME.findall(text) for user in pair} | set(_who())
        users = {user for user in users if len(user) > 2 and user.lower() not in _NOBODY} - set(_names(result))
        joined = "|".join(re.escape(user) for user in sorted(users, key=lambda user: (-len(user), user)))
        self._users = re.compile(rf"(?<!\w)(?:{joined})(?!\w)") if users else None

    def value(self, value: Any) -> Any:
        """Return a value whose texts are cleared, keys of mappings among them."""
        if isinstance(value, dict):
            return {self.value(key): self.value(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for path in self._whole:
            text = text.replace(path, _last(path))
        text = _QUOTED.sub(lambda found: f"{found[1]}{self._path(found[2])}{found[1]}", text)
        text = _BARE.sub(lambda found: self._path(found[0]), text)
        text = _ACCOUNT.sub("", text)
        return text if self._users is None else self._users.sub("USER", text)

    def _path(self, text: str) -> str:
        return text if self._is_name(text) else _last(text)

    def _is_name(self, text: str) -> bool:
        """Return whether a text is the name of a tensor, the beginning of some, or a pattern of them."""
        stem = re.split(r"[*?]", text)[0]
        if stem != text:
            return len(stem) > 1 and any(name.startswith(stem) for name in self._names)
        stems = {text.rstrip(":."), text.rstrip(":.]")}
        return any(name == stem or name.startswith(f"{stem}/") for name in self._names for stem in stems)


def _last(path: str) -> str:
    """Return the last part of a path, behind an ellipsis; nothing of a home folder.

    >>> _last("/home/ann/spec.yaml"), _last("/home/ann")
    ('…/spec.yaml', '…')
    """
    path = path.rstrip("/\\")
    return "…" if _HOME.fullmatch(path) else f"…/{re.split(_SEPARATORS, path)[-1]}"


def _names(result: RunResult) -> Iterator[str]:
    """Give the names that are the model's and the data's own."""
    for probe in result.probes:
        yield from (probe.model, probe.tap, probe.reduction, probe.factor, probe.probe, *probe.by_label)
    for tap in result.graph.taps:
        yield from (tap.tap, tap.name)
    for facts in result.provenance["labels"].values():
        yield from map(str, facts.get("classes") or ())
    for facts in result.provenance["models"].values():
        yield from facts.get("passed_over") or ()


def _texts(value: Any) -> Iterator[str]:
    """Give every text of plain values, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(key)
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _scalars(result: RunResult) -> Iterator[str]:
    """Give the texts that are one value each: of the spec, its settings and the models' sections."""
    spec = result.provenance["spec"]
    yield str(spec.get("file"))
    yield from (str(setting).partition("=")[2] for setting in spec.get("settings") or ())
    yield from _texts(result.provenance.get("store"))
    for facts in result.provenance["models"].values():
        yield from _texts(facts.get("backend"))
    try:
        for event in yaml.parse(str(spec.get("text")), yaml.SafeLoader):
            if isinstance(event, yaml.ScalarEvent):
                yield event.value
    except yaml.YAMLError:
        return


def _who() -> Iterator[str]:
    """Give the names of who runs this, and of the machine."""
    for ask in _ASKED:
        try:
            yield ask()
        except (OSError, KeyError, ImportError, RuntimeError):
            continue


_ASKED: tuple[Callable[[], str], ...] = (getpass.getuser, lambda: Path.home().name, platform.node)
