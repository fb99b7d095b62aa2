"""What must fit together across a spec's sections. The checks read the plain tree, so that one section's fault does
not hide another's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probekit.errors import Problem, nearest
from probekit.spec.model import NOT_BUILT_YET

if TYPE_CHECKING:
    from collections.abc import Iterator

Tree = dict[str, Any]


def check_tree(tree: Tree) -> list[Problem]:
    """Return the problems of a spec's plain tree that no single section can see."""
    return [
        problem
        for check in (_version, _not_built_yet, _singular, _taps, _references, _tap_ids)
        for problem in check(tree)
    ]


def _version(tree: Tree) -> Iterator[Problem]:
    from probekit import __version__

    version = tree.get("probekit")
    if isinstance(version, int) and not isinstance(version, bool) and version != 1:
        what = f"written for version {version} of the format; this is probekit {__version__}, which reads version 1"
        yield Problem("PK-Y32", what, "type: pip install --upgrade probekit-platform", "probekit")


def _not_built_yet(tree: Tree) -> Iterator[Problem]:
    for key, meaning in NOT_BUILT_YET.items():
        if tree.get(key):
            yield Problem("PK-Y37", f"{meaning}: not built yet", "leave the key out", key)
    for field, backend in _mappings(tree, "model"):
        if "checkpoints" in backend:
            yield Problem("PK-Y37", "several checkpoints: not built yet", "leave the key out", f"{field}.checkpoints")


def _singular(tree: Tree) -> Iterator[Problem]:
    for key in ("model", "reduction", "probe"):
        if tree.get(key) is not None and tree.get(f"{key}s") is not None:
            yield Problem("PK-Y29", f"'{key}' and '{key}s' are two ways to say one thing", "keep one", f"{key}s")
    if tree.get("model") is None and tree.get("models") is None:
        yield Problem("PK-Y38", "needs 'model:'")


def _mappings(tree: Tree, key: str) -> Iterator[tuple[str, Tree]]:
    """Give the entries of ``key`` and of its plural that are mappings, with their fields."""
    one, several = tree.get(key), tree.get(f"{key}s")
    if isinstance(one, dict):
        yield key, one
    if isinstance(several, dict):
        yield from ((f"{key}s.{name}", value) for name, value in several.items() if isinstance(value, dict))


def _entries(tree: Tree) -> Iterator[tuple[str, Any]]:
    taps = tree.get("taps")
    if isinstance(taps, list):
        yield from ((f"taps[{index}]", entry) for index, entry in enumerate(taps))


def _taps(tree: Tree) -> Iterator[Problem]:
    for field, entry in _entries(tree):
        patterns = entry.get("match") if isinstance(entry, dict) else entry
        if isinstance(entry, dict) and not entry.get("match") and not entry.get("op"):
            yield Problem("PK-Y29", "needs 'match:' or 'op:'", field=field)
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            if isinstance(pattern, str) and pattern.startswith("re:"):
                yield Problem("PK-Y35", f"{pattern!r}: there are no regular expressions", "use * and ?", field)


def _references(tree: Tree) -> Iterator[Problem]:
    factors = tree.get("labels") if isinstance(tree.get("labels"), dict) else None
    wanted: list[tuple[str, Any]] = []
    splits = tree.get("splits")
    if isinstance(splits, dict):
        wanted.append(("splits.stratify", splits.get("stratify")))
    for field, backend in _mappings(tree, "model"):
        output = backend.get("output")
        if isinstance(output, dict):
            wanted.append((f"{field}.output.factor", output.get("factor")))
    for field, name in wanted:
        if factors is not None and isinstance(name, str) and name not in factors:
            yield Problem("PK-Y26", f"no label factor {name!r}", f"{nearest(name, factors)} (in 'labels')", field)
    several = tree.get("reductions")
    known = list(several) if isinstance(several, dict) else ["default"]
    for field, entry in _entries(tree):
        names = entry.get("reductions") if isinstance(entry, dict) else None
        for name in names if isinstance(names, list) else []:
            if isinstance(name, str) and name not in known:
                hint = f"{nearest(name, known)} (in 'reductions')"
                yield Problem("PK-Y26", f"no reduction {name!r}", hint, f"{field}.reductions")


def _tap_ids(tree: Tree) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for field, entry in _entries(tree):
        name = entry.get("as", entry.get("match")) if isinstance(entry, dict) else entry
        if not isinstance(name, str) or "{" in name:
            continue
        if name in seen:
            yield Problem("PK-Y27", f"tap {name!r} stands twice, the first time as {seen[name]}", "keep one", field)
        seen.setdefault(name, field)
