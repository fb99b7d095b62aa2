"""The plugin guide: made from the code, with every hook and base class, and files as they are."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from probekit import Backend, hookspecs
from probekit.authoring.guide import TEMPLATE, base_classes, hooks_of, lacking, markdown, plugin_guide
from probekit.authoring.skeleton import TITLES, Skeleton, noun
from probekit.components import BASE_CLASSES

ROOT = Path(__file__).parents[2]
GUIDE = plugin_guide(ROOT)


def test_the_page_in_the_repository_is_made_from_the_code():
    page = (ROOT / "docs" / "plugin_guide.md").read_text(encoding="utf-8")
    assert page == GUIDE, "type: python -m probekit.authoring.guide > docs/plugin_guide.md"


def test_every_hook_and_every_method_is_documented():
    assert lacking() == []


def test_a_hook_or_method_without_documentation_is_found(monkeypatch):
    monkeypatch.setattr(hookspecs.find, "__doc__", None)
    monkeypatch.setattr(Backend.graph, "__doc__", "")

    @hookspecs.hookspec
    def on_coffee():
        """Not in the guide."""

    monkeypatch.setattr(hookspecs, "on_coffee", on_coffee, raising=False)
    assert set(lacking()) == {"find", "Backend.graph", "on_coffee"}


@pytest.mark.parametrize("hook", hookspecs.hook_names())
def test_every_hook_has_its_docs_an_example_and_who_uses_it(hook):
    category = next(one for one in TITLES if hook in hooks_of(one))
    chapter = GUIDE.split(f"\n## {noun(category).capitalize()}s\n")[1].split("\n## ")[0]
    section = chapter.split(f"\n### Hook `{hook}`\n")[1]
    assert f"def {hook}(" in section.split("```")[1]
    assert markdown(getattr(hookspecs, hook).__doc__) in section
    assert re.search(r"^Who uses it: \S", chapter, flags=re.MULTILINE)
    skeleton = Skeleton("probekit-mine", category)
    example = skeleton.render(f"{category}.py")
    assert f"@hookimpl\ndef {hook}(" in example
    assert f"```python\n{example}```" in chapter
    assert f"```python\n{skeleton.render(f'test_{category}.py')}```" in chapter


@pytest.mark.parametrize("base", [base for category in TITLES for base in base_classes(category)])
def test_every_base_class_has_its_methods(base):
    section = GUIDE.split(f"\n### Base class `{base.__name__}`\n")[1].split("\n### ")[0]
    for name in base.__abstractmethods__ & set(vars(base)):
        assert f"To write: `{name}`\n\n```python\ndef {name}(" in section


def test_the_base_classes_are_those_that_there_are():
    told = [base for category in TITLES for base in base_classes(category)]
    assert set(BASE_CLASSES.values()) <= set(told)
    assert {"LearnedReduction", "LabelControl", "ModelControl"} <= {base.__name__ for base in told}


def test_the_template_is_included_file_by_file():
    for name in ("probekit_toy/backend.py", "probekit_toy/data.py", "pyproject.toml", "tests/test_toy.py"):
        text = (ROOT / TEMPLATE / name).read_text(encoding="utf-8")
        assert f"### `{name}`\n\n```{'toml' if name.endswith('toml') else 'python'}\n{text}```\n" in GUIDE


def test_it_names_the_plugins_of_this_repository():
    for file in (ROOT / "plugins").glob("*/pyproject.toml"):
        points = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["entry-points"]["probekit"]
        for point in points:
            assert re.search(rf"\[{file.parent.name}\]\(\S+\) \([^)]*`{point.partition('.')[2]}`", GUIDE)


def test_every_python_block_is_python():
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) > 20
    for block in blocks:
        ast.parse(f"{block.rstrip()}: ..." if re.fullmatch(r"def [^\n]*\n", block) else block)


def test_docstrings_become_markdown():
    text = """Return ``x`` of :meth:`open`.

    Args:
        a, b: two, of
            which one counts.

    Raises:
        InputError: ``PK-1``, it is bad.

    Returns:
        all of
        it.
    """
    assert markdown(text) == (
        "Return `x` of `open`.\n\nArgs:\n\n- `a, b`: two, of\n  which one counts.\n\nRaises:\n\n"
        "- `InputError`: `PK-1`, it is bad.\n\nReturns:\n\nall of\nit."
    )
