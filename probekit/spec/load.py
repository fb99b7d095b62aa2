"""From a spec file to a validated spec, with every problem of the file at once and each at its place."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from probekit.errors import Problem, SpecError, nearest
from probekit.sections import Component, SpecContext
from probekit.spec import yaml_loader
from probekit.spec.checks import check_tree
from probekit.spec.messages import problems_of
from probekit.spec.model import DEFAULT, DEFAULTS, Spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.sections import Lookup

SOFT = {"PK-Y33", "PK-M47"}
"""What stops a run but is only told by ``probekit validate``: an unset variable, code that is not trusted."""


@dataclass(frozen=True)
class LoadedSpec:
    """A validated spec and where it came from.

    Args:
        spec: the spec.
        file: as the user named it.
        text: the file's own text.
        settings: what ``--set`` changed, as the user wrote it.
        digest: blake2b of text and settings.
    """

    spec: Spec
    file: str
    text: str
    settings: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class CheckedSpec:
    """What a check of a spec found.

    Args:
        loaded: the spec; None when there are problems.
        problems: all of them, in the order of their places.
    """

    loaded: LoadedSpec | None
    problems: tuple[Problem, ...]


def load_spec(
    path: str | Path,
    plugins: Lookup,
    settings: Sequence[str] = (),
    *,
    trust_code: bool = False,
    environ: Mapping[str, str] | None = None,
) -> LoadedSpec:
    """Return a validated spec.

    Args:
        path: a .yaml or .yml file.
        plugins: finds the components that kinds name.
        settings: changes of single values, ``splits.seed=1``.
        trust_code: whether code that the spec names may run.
        environ: variables for ``${NAME}`` in paths; default: the process's.

    Raises:
        SpecError: with all problems of the file.
    """
    checked = check_spec(path, plugins, settings, trust_code=trust_code, environ=environ)
    if checked.loaded is None:
        raise SpecError(*checked.problems)
    return checked.loaded


def check_spec(
    path: str | Path,
    plugins: Lookup,
    settings: Sequence[str] = (),
    *,
    trust_code: bool = False,
    environ: Mapping[str, str] | None = None,
) -> CheckedSpec:
    """Return the spec, or every problem of it. Arguments as for :func:`load_spec`.

    Raises:
        SpecError: the file cannot be read or is no YAML.
    """
    file = str(path)
    text = yaml_loader.read_text(Path(path), file)
    document = yaml_loader.load(text, file)
    tree = copy.deepcopy(document.value)
    overrides = _apply(tree, settings)
    problems = check_tree(tree)
    filled = _with_defaults(tree, Path(path).stem)
    context = SpecContext(plugins, Path(path).resolve().parent, dict(os.environ if environ is None else environ))
    spec: Spec | None = None
    try:
        spec = Spec.model_validate(filled, context=context)
    except ValidationError as error:
        problems += problems_of(error.errors(include_url=False), filled, plugins)
    if spec is not None and not trust_code:
        problems += _untrusted(spec)
    placed = sorted(
        {_placed(p, document, overrides) for p in problems}, key=lambda p: (p.file, p.line, p.column, str(p))
    )
    if placed or spec is None:
        return CheckedSpec(None, tuple(sorted(placed, key=lambda p: (p.file, p.line, p.column, str(p)))))
    digest = hashlib.blake2b("\0".join([text, *settings]).encode(), digest_size=16).hexdigest()
    return CheckedSpec(LoadedSpec(spec, file, text, tuple(settings), digest), ())


def _apply(tree: dict[str, Any], settings: Sequence[str]) -> dict[str, str]:
    """Change single values; return the settings by the dotted path that they changed."""
    changed: dict[str, str] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        shown = f"--set {setting}"
        if not equals or not name:
            raise SpecError(
                Problem("PK-Y39", "is no setting", "write --set KEY=VALUE, such as splits.seed=1", file=shown)
            )
        try:
            value = yaml_loader.parse_value(text)
        except SpecError as error:
            raise SpecError(*(p.at(shown) for p in error.problems)) from None
        *parents, last = re.split(r"\.", name)
        node: Any = tree
        for key in parents:
            node = _child(node, key, shown)
        if isinstance(node, list):
            _child(node, last, shown)
            node[int(last)] = value
        elif value is None:
            node.pop(last, None)
        else:
            node[last] = value
        changed[name] = shown
    return changed


def _child(node: Any, key: str, shown: str) -> Any:
    if isinstance(node, list):
        if not key.isdigit() or int(key) >= len(node):
            raise SpecError(Problem("PK-Y39", f"{key!r} is no position in a list of {len(node)}", file=shown))
        return node[int(key)]
    child = node.get(key)
    if key not in node or child is None:
        child = node[key] = {}
    if not isinstance(child, dict | list):
        what = f"{key!r} is a single value and has no keys"
        raise SpecError(
            Problem("PK-Y39", what, nearest(key, [k for k in node if isinstance(node[k], dict)]), file=shown)
        )
    return child


def _with_defaults(tree: dict[str, Any], stem: str) -> dict[str, Any]:
    absent = {key: value for key, value in DEFAULTS.items() if key not in tree and f"{key}s" not in tree}
    return {"name": re.sub(r"[^A-Za-z0-9._-]", "-", stem)[:80], **absent, **tree}


def _untrusted(spec: Spec) -> list[Problem]:
    groups: list[tuple[str, Mapping[str, Component]]] = [
        ("model", spec.named_models()),
        ("labels", spec.labels),
        ("reduction", spec.named_reductions()),
        ("probe", spec.named_probes()),
    ]
    named: list[tuple[str, Component]] = [("data", spec.data)]
    for key, components in groups:
        plural = key if key == "labels" else f"{key}s"
        named += [(key if name == DEFAULT else f"{plural}.{name}", component) for name, component in components.items()]
    hint = "if you trust it, add --trust-code to the command"
    return [
        Problem("PK-M47", f"runs the code {code!r}", hint, field)
        for field, component in named
        if (code := component.code_to_trust()) is not None
    ]


def _placed(problem: Problem, document: yaml_loader.Document, overrides: Mapping[str, str]) -> Problem:
    if problem.file:
        return problem
    for name, shown in overrides.items():
        if problem.field == name or problem.field.startswith((f"{name}.", f"{name}[")):
            return problem.at(shown)
    path = tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", problem.field))
    place = document.place(path)
    return problem.at(document.file, place.line, place.column)
