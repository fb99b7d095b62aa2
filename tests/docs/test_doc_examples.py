"""The documents: their examples are valid specs, their links lead somewhere."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from probekit.plugins import Plugins
from probekit.spec import check_spec, yaml_loader
from probekit.spec.load import SOFT

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
COMPLETE = "probekit: 1"
PART = "# part of a spec"

# What a part is put into: every required section, and nothing that refers to another.
BASE = {
    "probekit": 1,
    "model": {"kind": "onnx", "path": "model.onnx"},
    "data": {"kind": "digits"},
    "labels": {"digit": {"kind": "column"}},
}


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Return each fenced block in a language with the number of its first line."""
    found: list[tuple[int, str]] = []
    opened = 0
    lines = page.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.startswith("```"):
            if opened:
                if lines[opened - 1].removeprefix("```").strip() == language:
                    found.append((opened + 1, "\n".join(lines[opened : number - 1]) + "\n"))
                opened = 0
            else:
                opened = number
    assert not opened, f"{page.name}:{opened}: a block is never closed"
    return found


def examples(first_line: str) -> list:
    return [
        pytest.param(text, id=f"{page.name}:{number}")
        for page in PAGES
        for number, text in blocks(page, "yaml")
        if text.split("\n")[0].strip() == first_line
    ]


def refused(path: Path) -> list[str]:
    """Return the problems of a spec that stop more than a run."""
    return [str(problem) for problem in check_spec(path, Plugins(), environ={}).problems if problem.code not in SOFT]


@pytest.mark.parametrize("text", examples(COMPLETE))
def test_a_complete_example_is_a_valid_spec(text, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    assert not refused(path)


@pytest.mark.parametrize("text", examples(PART))
def test_a_part_is_valid_in_a_spec_that_lacks_only_it(text, tmp_path):
    part = yaml_loader.load(text, "part").value
    base = {key: value for key, value in BASE.items() if f"{key}s" not in part}
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(base | part), encoding="utf-8")
    assert not refused(path)


def test_the_tutorial_has_examples_and_marks_each_as_complete_or_as_a_part():
    found = blocks(ROOT / "docs" / "writing_a_spec.md", "yaml")
    assert found
    assert {text.split("\n")[0] for _, text in found} == {COMPLETE, PART}


def test_the_tutorial_shows_the_digits_spec_as_it_is():
    shown = next(text for _, text in blocks(ROOT / "docs" / "writing_a_spec.md", "yaml") if "name: digits" in text)
    spec = (ROOT / "specs" / "digits.yaml").read_text(encoding="utf-8")
    assert yaml_loader.load(shown, "tutorial").value == yaml_loader.load(spec, "spec").value


_LINK = re.compile(r"!?\[[^\]\n]*\]\(\s*<?([^)\s>]+)>?[^)\n]*\)")


def prose(page: Path) -> str:
    """Return a page's text without its blocks and code spans."""
    text = re.sub(r"^```.*?^```[^\n]*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors that the headings of a page get where Markdown is shown."""
    text = re.sub(r"^```.*?^```[^\n]*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def links() -> list:
    return [
        pytest.param(page, link, id=f"{page.name} to {link}")
        for page in PAGES
        for link in dict.fromkeys(_LINK.findall(prose(page)))
        if not re.match(r"[a-z][a-z0-9+.-]*:", link)
    ]


@pytest.mark.parametrize(("page", "link"), links())
def test_a_relative_link_leads_to_a_file_and_an_anchor(page, link):
    name, _, anchor = unquote(link).partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.exists(), f"{page.name}: no {name}"
    if anchor and target.suffix == ".md":
        assert anchor in anchors(target)
