"""The plugin guide, made from the docstrings of hooks and base classes, the skeletons and the toy plugin.

``python -m probekit.authoring.guide`` prints ``docs/plugin_guide.md``; it is typed in the folder of probekit's source.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probekit import hookspecs
from probekit.authoring.api import plain, signature
from probekit.authoring.skeleton import TITLES, Skeleton, noun
from probekit.hookspecs import EVENT_HOOKS, FIND_HOOK, REGISTER_HOOKS
from probekit.plugins import BUILT_IN, FINDING, LISTENER

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATE = "plugins/probekit-toy"
_MADE = (
    "pyproject.toml",
    "probekit_toy/backend.py",
    "probekit_toy/data.py",
    "tests/toy.yaml",
    "tests/test_conformance.py",
    "tests/test_toy.py",
)
"""The files of the template that the guide includes."""
_LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml"}
_PASSED = {
    "backend": ("Tap", "Graph", "ModelInput", "Wanted"),
    "dataset": ("Examples",),
    "factor": ("Labels",),
    "probe": ("FeatureMatrix", "Target", "FittedProbe", "Certificate", "LinearMap"),
    "report": ("RunResult",),
    "executor": ("MessageQueue",),
    FINDING: ("FindingRecord", "RunResult"),
    LISTENER: ("Spec", "ProbeResult", "RunResult"),
}
"""What passes between a component of a category and probekit, beside arrays."""

_HEAD = """\
# Plugin guide

Made from the code by `python -m probekit.authoring.guide`: the docstrings are those of the hooks and base classes, the
examples are what `probekit new-plugin` writes and files of [`{template}`](../{template}), and all of them are tested.
[The plugin API](plugin_api.md) lists every name with its signature.

{contents}

## From an empty folder to a tested backend

```
probekit new-plugin probekit-mine --kind backend
cd probekit-mine
pip install -e '.[test]'
probekit plugins probekit-mine --load
pytest
```

The skeleton is a whole distribution: an entry point, a backend of some fifty lines that runs one dense layer in NumPy,
and tests that pass. Replace the layer by your runtime, one method at a time, and type `pytest` after each:

1. `_weights` and `path`: how your format is opened. Tell what is wrong with a file in the words of a
   `Problem`, with a code of your own letters; `absent_file` makes the one of a file that is not there.
2. `signature`: the names, shapes and dtypes of the inputs.
3. `graph`: every tensor that can be tapped, in execution order. Leave `layout` empty where you do not know the axes:
   a wrong layout pools the wrong axis and still gives numbers.
4. `open`: a function from one batch to activations, for just the taps that are asked.
5. `fingerprint`: a digest of weights and graph. Features are stored under it: if it misses a change, old features are
   used; if it changes with a path or a clock, nothing is found again.

The conformance kit, `probekit.testing`, then checks what probekit relies on: graph, taps, batch axis, dtypes,
determinism, reductions, masks, checkpoints, that the model stays as it was, fingerprints, pickling, errors, and that a
stopped extraction goes on with the same bytes. `pytest -rs` says which checks did not apply, and why. When they pass, a
spec with `model: {{kind: mine, path: ...}}` runs, and `probekit parity` compares its features with those of another
backend. What a runtime can do beyond that, such as reducing activations itself, are methods that may be overridden.

## What a plugin is

{about}

| entry point | gives | hooks |
|---|---|---|
{table}

One module may have several entry points. `probekit plugins` lists what is installed, `probekit plugins NAME --load`
imports one and says what is wrong with it.

- A kind is looked up when a spec names it. A built-in kind cannot be taken.
- A spec requires a plugin with `plugins: [probekit-mine >= 0.1]`. Findings and listeners are used only then, so that no
  run depends on what else is installed.
- The result holds the name, version and a digest of the files of every plugin that was imported.
- What a plugin raises is told with its distribution's name and version. A `UserError` such as `InputError` is for what
  the user can mend; anything else is the plugin's fault.
- A component is frozen and holds no lifetimes: what `open` opens, it closes. It pickles, because extraction has a
  process of its own.
- `version: ClassVar[int]` of a component is raised when the same fields come to mean other values.
- `probekit.API_VERSION` is {version}. Its first number rises when something is changed or gone.
"""


def plugin_guide(root: Path) -> str:
    """Return the guide, Markdown.

    Args:
        root: the folder of probekit's source, whose ``plugins`` it includes and names.
    """
    users = _users(root)
    titles = [*(f"{noun(one).capitalize()}s" for one in TITLES), "The template"]
    links = " · ".join(f"[{title.lower()}](#{title.lower().replace(' ', '-')})" for title in titles)
    rows = [f"| `{one}.NAME` | {noun(one)} | {', '.join(f'`{h}`' for h in hooks_of(one))} |" for one in TITLES]
    about = markdown(str(hookspecs.__doc__).split("\n\n", 1)[1])
    head = _HEAD.format(
        template=TEMPLATE, contents=links, about=about, table="\n".join(rows), version=hookspecs.API_VERSION
    )
    lines = [head.rstrip()]
    for category in TITLES:
        lines += ["", f"## {noun(category).capitalize()}s", *_category(category, users)]
    lines += [
        "",
        "## The template",
        "",
        f"[`{TEMPLATE}`](../{TEMPLATE}) brings a backend, a dataset and a label factor.",
    ]
    for name in _MADE:
        path = root / TEMPLATE / name
        lines += ["", f"### `{name}`", "", *_block(path.read_text(encoding="utf-8"), _LANGUAGES[path.suffix])]
    return "\n".join(lines) + "\n"


def hooks_of(category: str) -> list[str]:
    """Return the hooks that a module with an entry point of a category implements."""
    return {**{one: [hook] for one, hook in REGISTER_HOOKS.items()}, FINDING: [FIND_HOOK]}.get(
        category, list(EVENT_HOOKS)
    )


def base_classes(category: str) -> list[type]:
    """Return what a component of a category subclasses: its base class, and those below it that have a public name."""
    import probekit
    from probekit.components import BASE_CLASSES

    base = BASE_CLASSES.get(category)
    if base is None:
        return []
    public = [getattr(probekit, name) for name in probekit.__all__]
    return [base, *(one for one in public if inspect.isclass(one) and issubclass(one, base) and one is not base)]


def lacking() -> list[str]:
    """Return the hooks and the methods of base classes that have no documentation, or no part in this guide."""
    told = {hook for category in TITLES for hook in hooks_of(category)}
    found = [name for name in hookspecs.hook_names() if name not in told or not getattr(hookspecs, name).__doc__]
    for category in TITLES:
        for base in base_classes(category):
            found += [f"{base.__name__}.{name}" for name, one in _methods(base) if not inspect.getdoc(one)]
    return found


def _category(category: str, users: dict[str, list[str]]) -> Iterator[str]:
    for hook in hooks_of(category):
        function = getattr(hookspecs, hook)
        yield from ["", f"### Hook `{hook}`", "", *_block(signature(hook, function)), "", markdown(function.__doc__)]
    yield from ["", f"Who uses it: {'; '.join(users[category]) or 'nobody yet'}."]
    for base in base_classes(category):
        yield from _base(base)
    passed = _PASSED.get(category, ())
    if passed:
        links = ", ".join(f"[`{name}`](plugin_api.md#{name.lower()})" for name in passed)
        yield from ["", f"What passes between: {links}."]
    skeleton = Skeleton("probekit-mine", category)
    yield from ["", f"### Smallest {noun(category)} that works", ""]
    yield from [
        f"`probekit new-plugin probekit-mine --kind {category}` writes it into `{skeleton.package}/{category}.py`:",
        "",
    ]
    yield from _block(skeleton.render(f"{category}.py"))
    yield from ["", f"and its tests into `tests/test_{category}.py`:", ""]
    yield from _block(skeleton.render(f"test_{category}.py"))


def _base(base: type) -> Iterator[str]:
    yield from ["", f"### Base class `{base.__name__}`", "", markdown(base.__doc__)]
    own = {
        name: info for name, info in getattr(base, "model_fields", {}).items() if name in inspect.get_annotations(base)
    }
    if own:
        yield from ["", "Keys that every kind has:", ""]
        yield from (f"- `{name}`: {markdown(info.description)}" for name, info in own.items())
    abstract: frozenset[str] = getattr(base, "__abstractmethods__", frozenset())
    for wanted, title in ((True, "To write"), (False, "May be overridden")):
        methods = [(name, one) for name, one in _methods(base) if (name in abstract) == wanted]
        for name, one in methods:
            yield from ["", f"{title}: `{name}`", "", *_block(signature(name, one)), "", markdown(one.__doc__)]


def _methods(base: type) -> list[tuple[str, Any]]:
    """Return the public methods that a class itself declares."""
    found = []
    for name, member in vars(base).items():
        function = inspect.unwrap(getattr(member, "__func__", member))
        if inspect.isfunction(function) and not name.startswith("_") and function.__module__.startswith("probekit."):
            found.append((name, function))
    return found


def _users(root: Path) -> dict[str, list[str]]:
    """Return, by category, who provides kinds: probekit itself and the distributions beside it."""
    kinds: dict[str, list[tuple[str, str]]] = {"probekit itself": [_split(name) for name in BUILT_IN]}
    for file in sorted((root / "plugins").glob("*/pyproject.toml")):
        points = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["entry-points"]["probekit"]
        name = file.parent.name
        kinds[f"[{name}](../plugins/{name})"] = [_split(point) for point in points]
    return {
        category: [
            f"{who} ({', '.join(f'`{kind}`' for kind in own)})"
            for who, some in kinds.items()
            if (own := [kind for one, kind in some if one == category])
        ]
        for category in TITLES
    }


def _split(point: str) -> tuple[str, str]:
    category, _, kind = point.partition(".")
    return category, kind


def _block(text: str, language: str = "python") -> list[str]:
    return [f"```{language}", text.rstrip("\n"), "```"]


def markdown(docstring: str | None) -> str:
    """Return a docstring as Markdown: code spans, and the entries of its sections as a list."""
    lines: list[str] = []
    section = ""
    for line in plain(inspect.cleandoc(docstring or "")).split("\n"):
        if re.fullmatch(r"(Args|Raises|Returns|Yields):", line):
            section = line
            lines += [line, ""]
        elif section in ("Args:", "Raises:") and re.match(r"    \S", line):
            item = re.sub(r"^([\w, ]+): ", r"`\1`: ", line.strip())
            lines.append(f"- {item}")
        elif section in ("Args:", "Raises:") and line.strip():
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line.strip() if section else line)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(plugin_guide(Path()))
