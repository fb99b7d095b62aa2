"""The table of contents for the author of a plugin: every public name is there, is documented and comes when used."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import probekit

SOURCE = Path(probekit.__file__).read_text(encoding="utf-8")


def lazy_names() -> set[str]:
    return {name for names in probekit._HOMES.values() for name in names} | set(probekit._MODULES)


def test_all_is_the_lazy_table_and_sorted():
    assert set(probekit.__all__) == lazy_names()
    assert sorted(probekit.__all__) == probekit.__all__
    assert len(set(probekit.__all__)) == len(probekit.__all__)


def test_no_name_has_two_homes():
    assert sum(map(len, probekit._HOMES.values())) + len(probekit._MODULES) == len(lazy_names())


def test_no_name_is_that_of_a_module():
    """An import of ``probekit.NAME`` would put the module in the place of the name."""
    folder = Path(probekit.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    assert modules & set(probekit.__all__) == set(probekit._MODULES)


def test_type_checkers_are_told_the_same_homes():
    """The imports under TYPE_CHECKING are what editors and mypy see; the table is what runs."""
    tree = ast.parse(SOURCE)
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    told = {
        node.module.removeprefix("probekit."): {alias.name for alias in node.names}
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    assert told.pop("probekit") == set(probekit._MODULES)
    assert told == {home: set(names) for home, names in probekit._HOMES.items()}


@pytest.mark.parametrize("name", probekit.__all__)
def test_a_public_name_is_there_and_documented(name):
    public = getattr(probekit, name)
    if name in ("SpecPath", "FittedReduction"):  # aliases of types; a docstring stands below them in the source
        file = Path(inspect.getfile(sys.modules[f"probekit.{probekit._HOME_OF[name]}"]))
        files = sorted(file.parent.glob("*.py")) if file.name == "__init__.py" else [file]
        home = "\n".join(one.read_text(encoding="utf-8") for one in files)
        assert home.split(f"\n{name} = ")[1].split("\n")[1].startswith('"""')
        return
    assert inspect.getdoc(public), name
    if inspect.isclass(public) or inspect.isfunction(public):
        assert public.__name__ == name
        # The docstring is its own, not one that it inherits or that dataclasses or pydantic make.
        assert public.__doc__
        assert not public.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("name", [name for name in probekit.__all__ if inspect.isclass(getattr(probekit, name))])
def test_every_public_method_of_a_public_class_is_documented(name):
    public = getattr(probekit, name)
    if public.__module__.startswith("probekit."):
        methods = {n: m for n, m in vars(public).items() if inspect.isfunction(m) and not n.startswith("_")}
        assert [n for n, method in methods.items() if not inspect.getdoc(method)] == []


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match=r"module 'probekit' has no attribute 'Bakcend'"):
        probekit.Bakcend  # noqa: B018
    with pytest.raises(ImportError):
        exec("from probekit import nothing_of_this_name")


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys, probekit; print([m for m in sys.modules if m.startswith('probekit.') or m in ('numpy', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert version("probekit-platform") == probekit.__version__
