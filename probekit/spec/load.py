"""From a spec file to a validated spec, with every problem of the file at once and each at its place."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from probekit.errors import MachineError, Problem, SpecError, UserError, described
from probekit.plugins import SpecPlugins
from probekit.sections import SpecContext
from probekit.spec import yaml_loader
from probekit.spec.checks import check_tree
from probekit.spec.messages import Found, found, problems_of
from probekit.spec.model import DEFAULTS, Spec
from probekit.spec.requirements import requirements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.plugins import Plugins
    from probekit.spec import yaml_places


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
        places: where the spec's fields stand.
    """

    spec: Spec
    file: str
    text: str
    settings: tuple[str, ...]
    digest: str
    places: Places = field(repr=False)

    def placed(self, problem: Problem) -> Problem:
        """Return a problem that was found later with the place of its field, where the spec or a setting holds it."""
        path = tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", problem.field))
        if problem.file or not path or not self.places.holds(path[:1]):
            return problem
        return self.places.of(Found(path, problem))


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
    plugins: Plugins,
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
        MachineError: a plugin that the spec requires is absent or has another version, and the rest is right; or a
            plugin that it names is broken.
    """
    checked = check_spec(path, plugins, settings, trust_code=trust_code, environ=environ)
    if checked.loaded is None:
        raise refusal(checked.problems)(*checked.problems)
    return checked.loaded


def refusal(problems: Sequence[Problem]) -> type[UserError]:
    """Return the error of these problems: the machine's where it lacks plugins and nothing else is wrong."""
    return MachineError if all(one.code.startswith("PK-G") for one in problems) else SpecError


def check_spec(
    path: str | Path,
    plugins: Plugins,
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
    overrides, problems = _apply(tree, settings)
    places = Places(document, overrides)
    filled = _with_defaults(tree, Path(path).stem)
    required = requirements(filled.get("plugins"))
    known = SpecPlugins(plugins, list(required.values()))
    context = SpecContext(known, Path(path).resolve().parent, dict(os.environ if environ is None else environ))
    spec, wrong = _validated(filled, context)
    if any(one.problem.code == "PK-Y33" for one in wrong):
        # A variable that is not set must not hide what else is wrong with its section.
        spec, more = _validated(filled, replace(context, lenient=True))
        wrong += more
    wrong += check_tree(tree, places.line)
    for key, one in required.items():
        problem = known.unmet.get(str(one))
        if problem is not None:
            wrong.append(found(("plugins", key), problem.code, problem.what, problem.hint))
    if spec is not None and not trust_code:
        wrong += _untrusted(spec)
    # What the loader refused stands in the tree as something else; that must not make it wrong once more.
    refused = [(problem.line, problem.column) for problem in document.problems]
    holes = [path for path, place in document.values.items() if (place.line, place.column) in refused]
    wrong = [one for one in wrong if not any(hole[: len(one.path)] == one.path for hole in holes)]
    problems += [*document.problems, *map(places.of, wrong)]
    if problems or spec is None:
        ordered = sorted(set(problems), key=lambda p: (p.file, p.line, p.column, str(p)))
        return CheckedSpec(None, tuple(ordered))
    digest = hashlib.blake2b("\0".join([text, *settings]).encode(), digest_size=16).hexdigest()
    return CheckedSpec(LoadedSpec(spec, file, text, tuple(settings), digest, places), ())


def _validated(filled: Mapping[str, Any], context: SpecContext) -> tuple[Spec | None, list[Found]]:
    try:
        return Spec.model_validate(filled, context=context), []
    except ValidationError as error:
        return None, problems_of(error.errors(include_url=False), filled, context.plugins)


def _apply(tree: dict[str, Any], settings: Sequence[str]) -> tuple[dict[yaml_places.Path, str], list[Problem]]:
    """Change single values; return the settings, as the user wrote them, by the path that each changed."""
    changed: dict[yaml_places.Path, str] = {}
    problems: list[Problem] = []
    for setting in settings:
        shown = f"--set {setting}"
        try:
            path = _set(tree, setting)
        except SpecError as error:
            problems += (problem.at(shown) for problem in error.problems)
        else:
            changed.pop(path, None)
            changed[path] = shown
    return changed, problems


def _set(tree: dict[str, Any], setting: str) -> yaml_places.Path:
    name, equals, text = setting.partition("=")
    *parents, last = re.sub(r"\[([0-9]+)\]", r".\1", name).split(".")
    if not equals or not all([*parents, last]):
        raise SpecError(Problem("PK-Y39", "is no setting", "write --set KEY=VALUE, such as splits.seed=1"))
    value = yaml_loader.parse_value(text)
    path: yaml_places.Path = ()
    node: Any = tree
    for part in parents:
        key = _key(node, part, path)
        if isinstance(node, dict) and node.get(key) is None:
            # What is absent begins as its default, so that one of its values can be set.
            node[key] = copy.deepcopy(DEFAULTS.get(part, {})) if not path else {}
        node, path = node[key], (*path, key)
    key = _key(node, last, path)
    if value is None and isinstance(node, dict):
        node.pop(key, None)
    else:
        node[key] = value
    return (*path, key)


def _key(node: Any, part: str, path: yaml_places.Path) -> Any:
    if isinstance(node, list) and (not re.fullmatch("[0-9]{1,9}", part) or int(part) >= len(node)):
        raise SpecError(Problem("PK-Y39", f"{part!r} is no position in a list of {len(node)}", "the first one is 0"))
    if not isinstance(node, list | dict):
        outer = ".".join(map(str, path))
        raise SpecError(
            Problem("PK-Y39", f"{outer!r} is {described(node)} and has no keys", f"write --set {outer}=VALUE")
        )
    return int(part) if isinstance(node, list) else part


@dataclass(frozen=True)
class Places:
    """Where things stand: in the file or in a setting.

    Args:
        document: the file.
        overrides: settings by the path that each changed.
    """

    document: yaml_places.Document
    overrides: Mapping[yaml_places.Path, str]

    def of(self, found: Found) -> Problem:
        """Return the problem with its place."""
        setting = self._setting(found.path)
        if setting:
            return found.problem.at(setting)
        keys = self.document.keys
        place = keys[found.path] if found.at_key and found.path in keys else self.document.place(found.path)
        return found.problem.at(self.document.file, place.line, place.column)

    def holds(self, path: yaml_places.Path) -> bool:
        """Say whether the file or a setting holds a path."""
        return path in self.document.values or bool(self._setting(path))

    def line(self, path: yaml_places.Path) -> str:
        """Say in which line a path stands."""
        return self._setting(path) or f"line {self.document.place(path).line}"

    def _setting(self, path: yaml_places.Path) -> str:
        known = next(end for end in range(len(path), -1, -1) if path[:end] in self.document.values)
        made = path[: known + 1]  # the first part that the file does not hold
        for changed, setting in reversed(list(self.overrides.items())):
            if path[: len(changed)] == changed or (known < len(path) and changed[: len(made)] == made):
                return setting
        return ""


def _with_defaults(tree: dict[str, Any], stem: str) -> dict[str, Any]:
    absent = {key: value for key, value in DEFAULTS.items() if key not in tree and f"{key}s" not in tree}
    return {"name": re.sub(r"[^A-Za-z0-9._-]", "-", stem)[:80], **absent, **tree}


def _untrusted(spec: Spec) -> list[Found]:
    hint = "if you trust it, add --trust-code to the command"
    return [
        found(path, "PK-M47", f"runs the code {code!r}", hint)
        for path, component in spec.components().items()
        if (code := component.code_to_trust()) is not None
    ]
