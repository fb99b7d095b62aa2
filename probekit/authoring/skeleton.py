"""Skeletons of plugins: small distributions that work, with tests that pass as written."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import InvalidName, canonicalize_name

from probekit.errors import MachineError, Problem, SpecError

if TYPE_CHECKING:
    from pathlib import Path

TITLES = {
    "backend": "A backend",
    "dataset": "A dataset",
    "factor": "A label factor",
    "reduction": "A reduction",
    "probe": "A probe",
    "control": "A control",
    "report": "A report",
    "executor": "An executor",
    "finding": "A finding",
    "listener": "A listener",
}
"""What a skeleton can be of, by the category as entry points spell it."""

_IN_A_SPEC = {
    "backend": "model: {{kind: {kind}, path: model.npz}}",
    "dataset": "data: {{kind: {kind}}}",
    "factor": "labels: {{parity: {{kind: {kind}, column: label}}}}",
    "reduction": "reduction: {{kind: {kind}}}",
    "probe": "probe: {{kind: {kind}}}",
    "control": "controls: [{kind}]",
    "report": "reports: [terminal, {kind}]",
    "executor": "executor: {{kind: {kind}}}",
    "finding": "plugins: [{name}]",
    "listener": "plugins: [{name}]",
}
_PREFIX = "probekit-"


def noun(category: str) -> str:
    """Return what a category's things are called.

    >>> noun("factor"), noun("executor")
    ('label factor', 'executor')
    """
    return TITLES[category].partition(" ")[2]


@dataclass(frozen=True)
class Skeleton:
    """A plugin before it is written.

    Args:
        name: the distribution's.
        category: one of :data:`TITLES`.
    """

    name: str
    category: str

    @property
    def package(self) -> str:
        """The importable name: the distribution's in normal form, with ``_`` for ``-``."""
        return str(canonicalize_name(self.name)).replace("-", "_")

    @property
    def kind(self) -> str:
        """What specs call it: the package's name without ``probekit_``."""
        return self.package.removeprefix(_PREFIX.replace("-", "_"))

    @property
    def cls(self) -> str:
        """The class's name."""
        words = "".join(word[:1].upper() + word[1:] for word in self.kind.split("_"))
        return f"{words}{self.category.title()}"

    @property
    def code(self) -> str:
        """What the codes of its problems begin with: letters of its own."""
        letters = re.sub(r"[^A-Z]", "", self.kind.upper())
        return letters if len(letters) > 1 and letters != "PK" else f"{letters}PLUGIN"

    def files(self) -> dict[str, str]:
        """Return its files by their paths below its folder."""
        modules = {"__init__": "__init__", self.category: self.category}
        return {
            "pyproject.toml": self.render("pyproject.toml"),
            "README.md": self.render("README.md"),
            **{f"{self.package}/{name}.py": self.render(f"{file}.py") for name, file in modules.items()},
            f"tests/test_{self.category}.py": self.render(f"test_{self.category}.py"),
        }

    def render(self, template: str) -> str:
        """Return one file's text, from the template of that name."""
        import jinja2

        from probekit import __version__

        made = jinja2.Environment(
            loader=jinja2.PackageLoader("probekit.authoring"), undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True, autoescape=False,  # noqa: S701 - Python, TOML and Markdown, of checked names
        )  # fmt: skip
        line = _IN_A_SPEC[self.category].format(name=self.name, kind=self.kind)
        return made.get_template(f"{template}.j2").render(
            name=self.name, category=self.category, package=self.package, kind=self.kind, cls=self.cls, code=self.code,
            title=TITLES[self.category], use=f"In a spec: `{line}`.", probekit=__version__,
        )  # fmt: skip


def write_skeleton(name: str, category: str, folder: Path) -> list[Path]:
    """Write a skeleton into a new folder and return its files.

    Args:
        name: of the distribution.
        category: one of :data:`TITLES`.
        folder: to make; its parent must be there.

    Raises:
        SpecError: ``PK-Y42``, the name cannot be taken, or the folder is there; nothing is written then.
        MachineError: ``PK-R13``, the folder cannot be written.
    """
    skeleton = checked(name, category)
    files = {folder / path: text for path, text in skeleton.files().items()}
    try:
        folder.mkdir()
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except FileExistsError as error:
        what = f"{str(folder)!r} is there already, and is not overwritten"
        raise SpecError(Problem("PK-Y42", what, "name another folder with -o")) from error
    except OSError as error:
        what = f"cannot write to {str(folder)!r}: {error.strerror}"
        raise MachineError(Problem("PK-R13", what, "name another folder with -o")) from error
    return list(files)


def checked(name: str, category: str) -> Skeleton:
    """Return the skeleton of a name that can be taken.

    Raises:
        SpecError: ``PK-Y42``, it is no name of a distribution, its module or class cannot be called so, or a module or
            kind of that name is there.
    """
    from probekit.plugins import Plugins

    try:
        canonicalize_name(name, validate=True)
    except InvalidName as error:
        meant = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "mine"
        what = f"{name!r} is no name of a distribution: it has letters, digits, and . _ - between them"
        raise SpecError(Problem("PK-Y42", what, f"did you mean {_prefixed(meant)!r}?")) from error
    skeleton = Skeleton(name, category)
    package, kind = skeleton.package, skeleton.kind
    other = f"take another name, such as {_prefixed('my-' + kind.replace('_', '-'))!r}"
    if not package.isidentifier() or keyword.iskeyword(package) or not kind or not kind[0].isalpha():
        what = f"{name!r} gives the module {package!r} and the kind {kind!r}, which Python cannot call so"
        raise SpecError(Problem("PK-Y42", what, other))
    if package in sys.stdlib_module_names or package in dir(builtins) or _is_there(package):
        raise SpecError(Problem("PK-Y42", f"{name!r} gives the module {package!r}, which is there already", other))
    claimed = next((one for one in Plugins().providers if (one.category, one.kind) == (category, kind)), None)
    if claimed is not None:
        raise SpecError(Problem("PK-Y42", f"{category} kind {kind!r} is {claimed.distribution}'s", other))
    return skeleton


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return True


def _prefixed(name: str) -> str:
    return name if name.startswith(_PREFIX) else f"{_PREFIX}{name}"
