"""The gallery: what it quotes is what the runs said, what it names is there, and its script writes what it shows."""

import importlib.util
import io
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from probekit.plugins import Plugins
from probekit.results import FindingRecord
from probekit.spec import check_spec
from probekit.spec.load import SOFT

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCRIPT = DOCS / "gallery" / "make.py"
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")


def script():
    spec = importlib.util.spec_from_file_location("gallery_make", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look it up
    spec.loader.exec_module(module)
    return module


make = script()


def part(name: str) -> str:
    """Return the part of the page that shows a run's text."""
    link = make.files(name).text.relative_to(DOCS).as_posix()
    (found,) = [one for one in re.split(r"^## ", PAGE, flags=re.MULTILINE) if f"({link})" in one]
    return found


def test_the_folder_holds_what_the_script_writes_and_the_script():
    made = {path for name in make.ENTRIES for path in [make.files(name).text, *make.files(name).pictures()]}
    assert {path for path in (DOCS / "gallery").iterdir() if path.is_file()} == {SCRIPT, *made} - {make.README}
    assert make.README.is_file()


@pytest.mark.parametrize("name", make.ENTRIES)
def test_a_run_is_shown_with_its_pictures_and_its_command(name):
    text = part(name)
    shown = {(DOCS / link).resolve() for link in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)}
    assert shown == set(make.files(name).pictures())
    entry = make.ENTRIES[name]
    commands = [shlex.split(line) for line in re.findall(r"^probekit run .*$", text, flags=re.MULTILINE)]
    assert commands == [["probekit", "run", entry.spec, *entry.arguments]]


@pytest.mark.parametrize("name", make.ENTRIES)
def test_a_command_names_a_spec_that_is_there_and_values_that_it_takes(name):
    entry = make.ENTRIES[name]
    words = list(entry.arguments)
    settings = [after for word, after in pairwise(words) if word == "--set"]
    checked = check_spec(ROOT / entry.spec, Plugins(), settings, environ={})
    assert [str(problem) for problem in checked.problems if problem.code not in SOFT] == []


@pytest.mark.parametrize("name", make.ENTRIES)
def test_what_is_quoted_of_a_run_is_what_it_said(name):
    said = make.files(name).text.read_text(encoding="utf-8")
    quotes = [quote.removeprefix("> ") for quote in re.findall(r"^> .+$", part(name), flags=re.MULTILINE)]
    assert len(quotes) >= 3
    assert len(quotes) == len(re.findall(rf"^<!-- {name} .*-->$", part(name), flags=re.MULTILINE))
    assert [quote for quote in quotes if quote not in said] == []


@pytest.mark.parametrize("name", make.ENTRIES)
def test_a_text_tells_nothing_of_the_machine_that_it_comes_from(name):
    said = make.files(name).text.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.…*])/(?:tmp|home|root|work|Users)\b|[A-Z]:\\", said)


def test_pictures_are_small():
    pictures = [path for name in make.ENTRIES for path in make.files(name).pictures()]
    sizes = {path.name: path.stat().st_size for path in pictures}
    assert max(sizes.values()) < 150_000, sizes
    assert sum(sizes.values()) < 900_000, sizes
    for path in pictures:
        with Image.open(path) as image:
            assert make.WIDTH - 10 <= image.width <= make.WIDTH + 10


def test_the_readme_shows_the_picture_that_the_script_writes():
    link = make.README.relative_to(ROOT).as_posix()
    assert f"]({link})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_an_unknown_run_is_refused_with_those_there_are():
    asked = subprocess.run([sys.executable, SCRIPT, "digit"], capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert "no 'digit'; there is digits, fashion, magika, emoji" in asked.stderr


def finding(**fields):
    return FindingRecord(severity="info", **fields)


def test_quotes_are_made_anew_where_a_comment_asks_for_them():
    found = [
        finding(kind="losing", factor="size", reduction="mean", sentence="under mean"),
        finding(kind="losing", factor="size", reduction="max", sentence="relu *x* <b>"),
        finding(kind="gain", factor="size", sentence="a gain"),
    ]
    page = (
        "a\n<!-- magika losing size max -->\n> old\nb\n<!-- digits gain size -->\n> kept\n"
        "<!-- magika gain size -->\n> old\nc\n"
    )
    made = make.with_quotes(page, "magika", SimpleNamespace(findings=found))
    assert made.splitlines() == [
        "a", "<!-- magika losing size max -->", "> relu \\*x\\* &lt;b&gt;", "b", "<!-- digits gain size -->", "> kept",
        "<!-- magika gain size -->", "> a gain", "c",
    ]  # fmt: skip


def test_a_quote_that_a_run_no_longer_says_is_refused():
    with pytest.raises(SystemExit, match="<!-- magika losing text -->"):
        make.with_quotes("<!-- magika losing text -->\n> old\n", "magika", SimpleNamespace(findings=[]))


def test_a_picture_keeps_its_commonest_colours_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "ROOT", tmp_path)
    rng = np.random.default_rng(0)
    pixels = np.full((40, 60, 3), (246, 248, 250), np.uint8)
    pixels[:10] = (109, 10, 42)
    pixels[30:] = rng.integers(0, 256, (10, 60, 3))
    whole = io.BytesIO()
    Image.fromarray(pixels).save(whole, "PNG")
    make.write_picture(whole.getvalue(), tmp_path / "few.png")
    with Image.open(tmp_path / "few.png") as image:
        few = np.asarray(image.convert("RGB"))
    assert np.array_equal(few[:30], pixels[:30])
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 128
    assert np.abs(few[30:].astype(int) - pixels[30:]).max() < 128
