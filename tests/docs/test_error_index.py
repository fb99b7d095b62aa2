"""The index of problem codes has one paragraph for every code, and none for another."""

import re
from collections import Counter
from pathlib import Path

from probekit.errors import EXIT_CODES

ROOT = Path(__file__).parents[2]
INDEX = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def codes_of_the_source():
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "probekit").rglob("*.py"))]
    return {code for text in texts for code in re.findall(r"\bPK-[A-Z]\d+\b", text)}


def sections():
    """Return the text below each code's heading."""
    parts = re.split(r"^#+ +(.+)$", INDEX, flags=re.MULTILINE)[1:]
    return [(title, body.strip()) for title, body in zip(parts[::2], parts[1::2], strict=True)]


def headings():
    return [title for title, _ in sections() if title.startswith("PK-")]


def test_every_code_has_a_heading_and_every_heading_a_code():
    assert set(headings()) == codes_of_the_source()


def test_no_code_stands_twice():
    assert [code for code, count in Counter(headings()).items() if count > 1] == []


def test_every_code_has_a_paragraph():
    assert [title for title, body in sections() if title.startswith("PK-") and len(body) < 60] == []


def test_every_code_stands_under_its_letter_in_order():
    titles = [title for title, _ in sections()]
    letter, order = "", []
    for title in titles:
        if title.startswith("PK-"):
            assert title[3] == letter
            order.append(title)
        elif re.match(r"[A-Z]: ", title):
            letter = title[0]
    groups = list(dict.fromkeys(code[3] for code in order))
    assert order == sorted(order, key=lambda code: (groups.index(code[3]), int(code[4:])))


def test_every_exit_code_is_explained():
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", INDEX, flags=re.MULTILINE))
    assert rows == {str(code): meaning for code, meaning in EXIT_CODES.items()}
