"""What must fit together across a spec's sections. The checks read the plain tree, so that one section's fault does
not hide another's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probekit.errors import listed, nearest
from probekit.spec.messages import Found, found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from probekit.spec.messages import Path

Tree = dict[str, Any]


def check_tree(tree: Tree, where: Callable[[Path], str]) -> list[Found]:
    """Return the problems of a spec's plain tree that no single section can see.

    Args:
        tree: the spec, without defaults.
        where: says in which line a path stands.
    """
    return [*_singular(tree), *_factors(tree), *_controls(tree), *_reductions(tree), *_tap_ids(tree, where)]


def _singular(tree: Tree) -> Iterator[Found]:
    for key in ("model", "reduction", "probe"):
        if tree.get(key) is not None and tree.get(f"{key}s") is not None:
            what = f"'{key}' and '{key}s' are two ways to say one thing"
            yield found((f"{key}s",), "PK-Y29", what, "keep one", at_key=True)
    if tree.get("model") is None and tree.get("models") is None:
        yield found(("model",), "PK-Y38", "is missing", "write model: {kind: onnx, path: FILE.onnx}")


def _mappings(tree: Tree, key: str) -> Iterator[tuple[Path, Tree]]:
    """Give the entries of ``key`` and of its plural that are mappings, with their paths."""
    one, several = tree.get(key), tree.get(f"{key}s")
    if isinstance(one, dict):
        yield (key,), one
    if isinstance(several, dict):
        yield from (((f"{key}s", name), value) for name, value in several.items() if isinstance(value, dict))


def _entries(tree: Tree) -> Iterator[tuple[int, Any]]:
    taps = tree.get("taps")
    if isinstance(taps, list):
        yield from enumerate(taps)


def _factors(tree: Tree) -> Iterator[Found]:
    factors, splits = tree.get("labels"), tree.get("splits")
    wanted: list[tuple[Path, Any]] = []
    if isinstance(splits, dict):
        wanted.append((("splits", "stratify"), splits.get("stratify")))
    for path, backend in _mappings(tree, "model"):
        output = backend.get("output")
        if isinstance(output, dict):
            wanted.append(((*path, "output", "factor"), output.get("factor")))
    for path, name in wanted:
        if not isinstance(factors, dict) or not isinstance(name, str):
            continue
        if name not in factors:
            yield found(path, "PK-Y26", f"no label factor {name!r}", f"{nearest(name, factors)} (in 'labels')")
            continue
        kind = factors[name].get("kind") if isinstance(factors[name], dict) else None
        if kind in ("multilabel", "number") and path[-1] == "stratify":
            what = f"the factor {name!r} is a {kind}: it has no classes"
            yield found(path, "PK-L27", what, _without(factors, "multilabel", "number"))
        elif kind == "multilabel":
            what = f"the factor {name!r} is a multilabel: the model's argmax tells no yes/no labels"
            yield found(path, "PK-L24", what, _without(factors, "multilabel"))
        elif kind == "number":
            yield from _classes_of_a_number(tree, path, name)


def _classes_of_a_number(tree: Tree, path: Path, name: str) -> Iterator[Found]:
    for model, backend in _mappings(tree, "model"):
        if (*model, "output", "factor") == path:
            for key in ("classes", "classes_file"):
                if backend["output"].get(key) is not None:
                    what = f"the factor {name!r} is a number, which has no classes"
                    yield found((*path[:-1], key), "PK-Y29", what, "leave the key out", at_key=True)


def _without(factors: Tree, *kinds: str) -> str:
    fit = [name for name, one in factors.items() if isinstance(one, dict) and one.get("kind") not in kinds]
    return f"name another factor: {listed(fit)}, or leave the key out" if fit else "leave the key out"


def _controls(tree: Tree) -> Iterator[Found]:
    controls, factors = tree.get("controls"), tree.get("labels")
    if not isinstance(controls, list) or not isinstance(factors, dict):
        return
    for number, control in enumerate(controls):
        names = control.get("factors") if isinstance(control, dict) else None
        for position, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and name not in factors:
                hint = f"{nearest(name, factors)} (in 'labels')"
                yield found(("controls", number, "factors", position), "PK-Y26", f"no label factor {name!r}", hint)
    several = tree.get("models")
    models = list(several) if isinstance(several, dict) else ["default"]
    for number, control in enumerate(controls):
        names = control.get("models") if isinstance(control, dict) else None
        for position, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and name not in models:
                hint = f"{nearest(name, models)} (in 'models')"
                yield found(("controls", number, "models", position), "PK-Y26", f"no model {name!r}", hint)


def _reductions(tree: Tree) -> Iterator[Found]:
    several = tree.get("reductions")
    if several is not None and not isinstance(several, dict):
        return
    for index, entry in _entries(tree):
        names = entry.get("reductions") if isinstance(entry, dict) else None
        for position, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and name not in (several or ["default"]):
                hint = (
                    f"{nearest(name, several)} (in 'reductions')"
                    if several
                    else f"define it: reductions: {{{name}: ...}}"
                )
                yield found(("taps", index, "reductions", position), "PK-Y26", f"no reduction {name!r}", hint)


def _tap_ids(tree: Tree, where: Callable[[Path], str]) -> Iterator[Found]:
    seen: dict[str, str] = {}
    for index, entry in _entries(tree):
        name = entry.get("as", entry.get("match")) if isinstance(entry, dict) else entry
        if not isinstance(name, str) or "{" in name:
            continue
        # The same pattern may stand twice, each time for another operator.
        key = f"{name} {entry['op']}" if isinstance(entry, dict) and "op" in entry and "as" not in entry else name
        if key in seen:
            yield found(("taps", index), "PK-Y27", f"tap {name!r} stands twice, first in {seen[key]}", "keep one")
        seen.setdefault(key, where(("taps", index)))
