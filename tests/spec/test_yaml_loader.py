"""The spec loader against the faults Y01 to Y25: each message is compared whole."""

import json
import math
import os
import pathlib
import re
import socket
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.errors import Problem, SpecError
from probekit.spec.yaml_loader import load, parse_value, read_text
from probekit.spec.yaml_places import Document, Place
from probekit.spec.yaml_reader import MAX_BYTES
from probekit.spec.yaml_scalars import parse_scalar


def refused(text: str) -> list[tuple[str, str]]:
    problems = problems_of(lambda: load(text, "spec.yaml"))
    assert problems
    return [(problem.code, str(problem)) for problem in problems]


TAG_HINT = "remove it, or quote text that begins with '!'"
KEY_HINT = "write text, in quotes if need be"
EMPTY = "spec.yaml:1:1: the spec is empty; begin with a key, such as model:"
NOT_FINITE = "is not a finite number; quote it if text is meant"
HERE = "cannot stand here; check the quotes, brackets and indentation here"
ESCAPE = "begins no valid escape in double quotes; use single quotes"
NO_CHARACTER = "is not allowed; remove it or write an escape in double quotes"

FAULTS = [
    # syntax that no other code covers
    ("a: 1\nfoo\nb: 2\n", "PK-Y00", "spec.yaml:2:1: no ':' follows 'foo'; write key: value"),
    ("a: @b\n", "PK-Y00", "spec.yaml:1:4: unquoted text cannot begin with @; quote it: '@b'"),
    ("a:\n  b: 1\n c: 2\n", "PK-Y00", f"spec.yaml:3:2: 'c:' {HERE}"),
    ("a: b\n  c: d\n", "PK-Y00", f"spec.yaml:2:4: ':' {HERE}"),
    ("a: 'it's'\n", "PK-Y00", f'spec.yaml:1:8: "s\'" {HERE}'),
    ("a: [1,,2]\n", "PK-Y00", f"spec.yaml:1:7: ',2]' {HERE}"),
    ("a: - b\n", "PK-Y00", f"spec.yaml:1:4: '-' {HERE}"),
    ("a: |\n     \n  b\n", "PK-Y00", f"spec.yaml:3:3: 'b' {HERE}"),
    ("a: |x\n b\n", "PK-Y00", f"spec.yaml:1:5: 'x' {HERE}"),
    # tabs
    ("a:\n\tb: 1\n", "PK-Y01", "spec.yaml:2:1: YAML forbids tabs for indentation; use spaces"),
    ("a: [\n \t1]\n", "PK-Y01", "spec.yaml:2:2: YAML forbids tabs for indentation; use spaces"),
    ("a:\tb\n", "PK-Y01", "spec.yaml:1:3: YAML forbids tabs between values; use spaces"),
    # duplicate keys
    ("a: 1\nb: 2\na: 3\n", "PK-Y02", "spec.yaml:3:1: duplicate key 'a', first in line 1; keep one of them"),
    ('1: a\n"1": b\n', "PK-Y02", "spec.yaml:2:1: duplicate key '1', first in line 1; keep one of them"),
    ("b:\n- {x: 1,\n   x: 2}\n", "PK-Y02", "spec.yaml:3:4: duplicate key 'x', first in line 2; keep one of them"),
    # infinity and not-a-number
    ("a: .nan\n", "PK-Y06", f"spec.yaml:1:4: '.nan' {NOT_FINITE}"),
    ("a: .inf\n", "PK-Y06", f"spec.yaml:1:4: '.inf' {NOT_FINITE}"),
    ("a: [-.INF]\n", "PK-Y06", f"spec.yaml:1:5: '-.INF' {NOT_FINITE}"),
    ("a: 1e999\n", "PK-Y06", f"spec.yaml:1:4: '1e999' {NOT_FINITE}"),
    # patterns that YAML reads as aliases or anchors
    ("a: *relu*\n", "PK-Y08", "spec.yaml:1:4: unquoted '*relu*' is read as an alias; quote it: '*relu*'"),
    ("a: [*.relu, b]\n", "PK-Y08", "spec.yaml:1:5: unquoted '*.relu' is read as an alias; quote it: '*.relu'"),
    ("*: flatten\n", "PK-Y08", "spec.yaml:1:1: unquoted '*' is read as an alias; quote it: '*'"),
    ("a: &b* # x\n", "PK-Y08", "spec.yaml:1:4: unquoted '&b*' is read as an anchor; quote it: '&b*'"),
    ("a: *relu\n", "PK-Y08", "spec.yaml:1:4: alias *relu names no anchor before it; quote it: '*relu'"),
    ("a: [*x, 1]\n", "PK-Y08", "spec.yaml:1:5: alias *x names no anchor before it; quote it: '*x'"),
    # escapes
    ('a: "\\d+"\n', "PK-Y09", f"spec.yaml:1:5: \\d {ESCAPE}: '\\d+'"),
    ('a: "it\'s C:\\Users"\n', "PK-Y09", f"spec.yaml:1:12: \\U {ESCAPE}: 'it''s C:\\Users'"),
    ('a: "\\d\n', "PK-Y09", f"spec.yaml:1:5: \\d {ESCAPE}"),
    ('a: "\\UFFFFFFFF"\n', "PK-Y09", "spec.yaml:1:7: a number is out of range here; use single quotes"),
    # a second ': '
    ("a: b: c\n", "PK-Y10", "spec.yaml:1:5: 'b: c' holds ': ', which needs quotes; quote it: 'b: c'"),
    ("a: {b: c: d}\n", "PK-Y10", "spec.yaml:1:9: 'c: d' holds ': ', which needs quotes; quote it: 'c: d'"),
    # what is opened and never closed
    ("a: 1\nb: [1, 2\nc: 3\n", "PK-Y11", "spec.yaml:2:4: the '[' opened here is never closed; add ']'"),
    ("a: [1,\nb:\n  - c\n", "PK-Y11", "spec.yaml:1:4: the '[' opened here is never closed; add ']'"),
    ("a: {x: [1}\n", "PK-Y11", "spec.yaml:1:8: the '[' opened here is never closed; add ']'"),
    ("a: {x: 1", "PK-Y11", "spec.yaml:1:4: the '{' opened here is never closed; add '}'"),
    ("a: 1\nb: 'x\nc: 3\n", "PK-Y11", "spec.yaml:2:4: the ' opened here is never closed; add the closing '"),
    (
        'a: "foo\nb: "bar"\n',
        "PK-Y11",
        'spec.yaml:1:4: the " opened here closes only in line 2, before other text; add the closing "',
    ),
    # merge keys, aliases, depth
    ("a: &a {}\nb: {<<: *a}\n", "PK-Y12", "spec.yaml:2:5: merge keys (<<) are not allowed; write the keys out"),
    ("a: &a [*a]\n", "PK-Y14", "spec.yaml:1:8: alias *a stands inside the value that it names; write the value out"),
    ("[" * 3000, "PK-Y15", "spec.yaml:1:41: this is nested deeper than 40 levels"),
    ("- " * 3000, "PK-Y15", "spec.yaml:1:81: this is nested deeper than 40 levels"),
    # sizes
    (
        "#" * (MAX_BYTES + 1),
        "PK-Y16",
        "spec.yaml:1:1: 1,048,577 bytes are more than the 1,048,576 of a spec; keep data in files of their own",
    ),
    # tags
    (
        "a: !!python/object/apply:os.system [ls]\n",
        "PK-Y17",
        "spec.yaml:1:4: tag !!python/object/apply:os.system is not allowed; a spec runs no code; remove the tag",
    ),
    ("a: &x !include b.yaml\n", "PK-Y18", f"spec.yaml:1:4: tag !include is not allowed; {TAG_HINT}"),
    ("a: !!str 1\n", "PK-Y18", f"spec.yaml:1:4: tag !!str is not allowed; {TAG_HINT}"),
    ("!!map {a: 1}\n", "PK-Y18", f"spec.yaml:1:1: tag !!map is not allowed; {TAG_HINT}"),
    ("a: ! b\n", "PK-Y18", f"spec.yaml:1:4: tag ! is not allowed; {TAG_HINT}"),
    ("a: !x!y z\n", "PK-Y18", f"spec.yaml:1:4: tag !x!y is not allowed; {TAG_HINT}"),
    ("a: !<foo z\n", "PK-Y18", f"spec.yaml:1:4: tag !<foo is not allowed; {TAG_HINT}"),
    # documents
    ("a: 1\n---\nb: 2\n", "PK-Y19", "spec.yaml:2:1: a second document begins here; keep one per file"),
    ("", "PK-Y20", EMPTY),
    ("# only\n# comments\n", "PK-Y20", EMPTY),
    ("---\n", "PK-Y20", EMPTY),
    (
        "# x\n- a\n",
        "PK-Y21",
        "spec.yaml:2:1: the top level must be a mapping, but is a list; begin with a key, such as model:",
    ),
    (
        "hello\n",
        "PK-Y21",
        "spec.yaml:1:1: the top level must be a mapping, but is 'hello'; begin with a key, such as model:",
    ),
    # characters
    ("a: 1\nb: x\0y\n", "PK-Y22", f"spec.yaml:2:5: character U+0000 {NO_CHARACTER}"),
    ("a: \x1b[0m\n", "PK-Y22", f"spec.yaml:1:4: character U+001B {NO_CHARACTER}"),
    ("a: 'x\u2028y'\n", "PK-Y22", f"spec.yaml:1:6: character U+2028 {NO_CHARACTER}"),
    ("a: \ufeff1\n", "PK-Y22", f"spec.yaml:1:4: character U+FEFF {NO_CHARACTER}"),
    ("a: \ud800\n", "PK-Y22", f"spec.yaml:1:4: character U+D800 {NO_CHARACTER}"),
    ('a: "\\ud800"\n', "PK-Y22", "spec.yaml:1:4: '\\ud800' holds half a character; write both escapes"),
    # integers
    (
        "a: " + "1" * 5000 + "\n",
        "PK-Y23",
        f"spec.yaml:1:4: '{'1' * 40}...' has 5,000 digits, more than 19; quote it if text is meant",
    ),
    # keys that are no text
    ("[a]: 1\n", "PK-Y24", f"spec.yaml:1:1: a list cannot be a key; {KEY_HINT}"),
    ("? {a: 1}\n: 1\n", "PK-Y24", f"spec.yaml:1:3: a mapping cannot be a key; {KEY_HINT}"),
    ("a: &a b\n*a : 1\n", "PK-Y24", f"spec.yaml:2:1: an alias cannot be a key; {KEY_HINT}"),
    ("?\n: 1\n", "PK-Y24", f"spec.yaml:1:2: nothing cannot be a key; {KEY_HINT}"),
]


@pytest.mark.parametrize(("text", "code", "message"), FAULTS)
def test_one_fault_gives_one_whole_message(text: str, code: str, message: str) -> None:
    assert refused(text) == [(code, message)]


def test_all_structural_problems_are_named_at_once() -> None:
    text = "a: !x 1\na: 2\nb: .nan\n[c]: {d: 1, d: 2}\ne: *f\ng: [1\n"
    assert [code for code, _ in refused(text)] == ["PK-Y18", "PK-Y02", "PK-Y06", "PK-Y24", "PK-Y02", "PK-Y08", "PK-Y11"]
    assert len(refused("a: .nan\n" * 1000)) == 100


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_and_byte_order_mark_do_not_move_places(ending: str) -> None:
    text = "\ufeff" + ending.join(["a: 1", "b:", "  c: text", ""])
    document = load(text, "spec.yaml")
    assert document.value == {"a": 1, "b": {"c": "text"}}
    assert document.values["b", "c"] == Place(3, 6)
    assert refused(text + "a: 2") == [("PK-Y02", "spec.yaml:4:1: duplicate key 'a', first in line 1; keep one of them")]


def test_merge_key_bomb_is_refused() -> None:  # Y12
    bomb = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 25))
    problems = refused(bomb)
    assert problems[0] == ("PK-Y12", "spec.yaml:2:10: merge keys (<<) are not allowed; write the keys out")
    assert problems[-1][0] == "PK-Y13"


def test_billion_laughs_is_refused() -> None:  # Y13
    levels = (f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    hint = "keep data in files of their own"
    assert refused("b0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(levels)) == [
        ("PK-Y13", f"spec.yaml:5:25: alias *a3 is beyond the 50,000 values of a spec; {hint}")
    ]


def test_aliases_are_counted() -> None:  # Y13
    assert len(load("a: &a 1\nb: [" + "*a, " * 200 + "]\n", "spec.yaml").value["b"]) == 200
    assert refused("a: &a 1\nb: [" + "*a, " * 201 + "]\n") == [
        ("PK-Y13", "spec.yaml:2:805: more than 200 aliases; write the values out")
    ]


def test_depth_counts_through_aliases() -> None:  # Y15
    levels = "a1: &a1 []\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(2, 60))
    assert refused(levels) == [("PK-Y15", "spec.yaml:40:12: this is nested deeper than 40 levels")]
    assert load("a: " + "[" * 39 + "]" * 39, "spec.yaml").value["a"]


def test_values_are_counted() -> None:  # Y16
    # 1 mapping, 49 + 1 times a list of 998 and its items, 1 list, 48 values: 50,000
    text = "a: &a [" + "1, " * 998 + "]\nb: [" + "*a, " * 49 + "1, " * 48 + "]\n"
    assert len(load(text, "spec.yaml").value["b"]) == 97
    hint = "keep data in files of their own"
    assert refused(text + "c: 1\n") == [
        ("PK-Y16", f"spec.yaml:3:4: this value is beyond the 50,000 values of a spec; {hint}")
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Y05
        ("1e-3", 1e-3),
        ("1.0e-3", 1e-3),
        ("-1E+2", -100.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("0", 0),
        ("-17", -17),
        ("+17", 17),
        ("9" * 19, 10**19 - 1),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("", None),
        # Y06: the bare words are text in YAML 1.2
        *((word, word) for word in ("NaN", "nan", "inf", "Infinity", "-inf", "+.nan")),
        # Y07
        *((word, word) for word in ("yes", "no", "on", "off", "y", "1:30", "2024-01-01", "1_000")),
        *((word, word) for word in ("010", "-010", "00", "01.5", "0x1F", "0o17", "0b1", "=", "1e", ".", "-", "1٣")),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    read = load(f"a: {text}\n", "spec.yaml").value["a"] if text != "-" else value
    for found in (parse_scalar(text), read):
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize("text", ['"1"', "'true'", '"null"', "'.nan'", '"' + "1" * 5000 + '"', "|-\n 1"])
def test_quoted_scalars_are_text(text: str) -> None:
    assert isinstance(load(f"a: {text}\n", "spec.yaml").value["a"], str)


def test_keys_are_text() -> None:  # Y24
    text = "1: a\ntrue: b\nnull: c\n1.0: d\n'<<': e\n.nan: f\n"
    assert list(load(text, "spec.yaml").value) == ["1", "true", "null", "1.0", "<<", ".nan"]


def test_places() -> None:
    document = load("model:\n  path: m.onnx\ntaps:\n  - id: a\n    pool: {to: 4}\n  - b\n", "spec.yaml")
    assert document.keys["model", "path"] == Place(2, 3)
    assert document.values["model", "path"] == Place(2, 9)
    assert document.keys["taps", 1] == document.values["taps", 1] == Place(6, 5)
    assert document.place(()) == Place(1, 1)
    assert document.place(("model", "missing", 3)) == Place(1, 1)
    assert document.place(("model", "path", "x")) == Place(2, 9)
    assert document.place(("taps",)) == Place(4, 3)
    assert document.place(("taps", 0, "pool")) == Place(5, 5)
    assert document.place(("taps", 9)) == Place(4, 3)
    assert Document("spec.yaml", {}, {}, {}).place(("a",)) == Place(1, 1)


def test_aliases_are_copies_at_the_place_of_their_use() -> None:
    document = load("a: &a {x: &x [1, 2]}\nb: *a\nc: [*a, *x]\n", "spec.yaml")
    assert document.value == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": [{"x": [1, 2]}, [1, 2]]}
    document.value["a"]["x"].append(3)
    assert document.value["b"] == document.value["c"][0] == {"x": [1, 2]}
    assert document.value["c"][1] == [1, 2]
    assert document.place(("a", "x", 1)) == Place(1, 18)
    assert document.place(("b", "x", 1)) == document.keys["b", "x"] == Place(2, 4)
    assert document.place(("b",)) == Place(2, 1)
    assert document.place(("c", 0, "x")) == Place(3, 5)
    assert load("a: &k v\n&k b: *k\n", "spec.yaml").value == {"a": "v", "b": "b"}


def test_values_of_settings() -> None:
    assert parse_value("[1, {a: no}]") == [1, {"a": "no"}]
    assert parse_value("1e-3") == 1e-3
    assert parse_value("'1'") == "1"
    assert parse_value(" ") is None


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("*relu*", "PK-Y08", "unquoted '*relu*' is read as an alias; quote it: '*relu*'"),
        ("{a: 1, a: 2}", "PK-Y02", "duplicate key 'a', first in line 1; keep one of them"),
        (".inf", "PK-Y06", f"'.inf' {NOT_FINITE}"),
    ],
)
def test_settings_are_refused_without_a_file(text: str, code: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_value(text)
    (problem,) = caught.value.problems
    assert (problem.code, str(problem), problem.line) == (code, message, 1)


@pytest.mark.parametrize("text", ["a: b", "- a", "-", "|", ">", "# a", "---"])
def test_settings_are_no_blocks(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_value(text)
    hint = "quote it if text is meant; lists and mappings need [...] and {...}"
    assert [str(p) for p in caught.value.problems] == [f"{text!r} is syntax of YAML, not a value; {hint}"]


def unread(path: pathlib.Path) -> tuple[str, str]:
    with pytest.raises(SpecError) as caught:
        read_text(path, "shown")
    (problem,) = caught.value.problems
    return problem.code, str(problem)


def test_text_of_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "spec.YML"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\n")
    assert read_text(path, "shown") == "a: é\r\n"
    path.write_bytes(b"#" * MAX_BYTES)
    assert len(read_text(path, "shown")) == MAX_BYTES


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\r\nb: \xc3\xa9\xff\n", "shown:2:5: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("\ufeffa: 1".encode("utf-16-le"), "shown:1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
    ],
)
def test_other_encodings_are_refused(tmp_path: pathlib.Path, data: bytes, message: str) -> None:  # Y22
    path = tmp_path / "spec.yaml"
    path.write_bytes(data)
    assert unread(path) == ("PK-Y22", message)


def test_large_files_are_refused(tmp_path: pathlib.Path) -> None:  # Y16
    path = tmp_path / "spec.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    hint = "keep data in files of their own"
    assert unread(path) == ("PK-Y16", f"shown: 1,099,511,627,776 bytes are more than the 1,048,576 of a spec; {hint}")


def test_what_is_no_file_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:  # Y25
    (tmp_path / "digits.yaml").write_text("a: 1\n")
    (tmp_path / "spec.json").write_text("{}")
    assert unread(tmp_path) == ("PK-Y25", "shown: this is a folder, not a file; name a .yaml file")
    assert unread(tmp_path / "digit.yaml") == ("PK-Y25", "shown: no such file; did you mean 'digits.yaml'?")
    assert unread(tmp_path / "x.yaml") == ("PK-Y25", "shown: no such file; specs in this folder: digits.yaml")
    assert unread(pathlib.Path("no", "x.yaml")) == ("PK-Y25", "shown: no such file, as there is no folder 'no'")
    ending = "shown: a spec ends in .yaml or .yml, not in '.json'; rename the file"
    assert unread(tmp_path / "spec.json") == ("PK-Y25", ending)
    assert unread(tmp_path / "x\0.yaml") == ("PK-Y25", "shown: the file cannot be read: embedded null byte")
    inside = tmp_path / "digits.yaml" / "x.yaml"
    assert unread(inside) == ("PK-Y25", "shown: the file cannot be read: not a directory")

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", forbidden)
    denied = "shown: the file cannot be read: permission denied"
    assert unread(tmp_path / "digits.yaml") == ("PK-Y25", denied)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_special_files_are_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:  # Y25
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    os.mkfifo("fifo.yaml")
    assert unread(pathlib.Path("fifo.yaml")) == (
        "PK-Y25",
        "shown: this is a pipe (FIFO), not a file; name a .yaml file",
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.yaml")
        assert unread(pathlib.Path("socket.yaml")) == (
            "PK-Y25",
            "shown: this is a socket, not a file; name a .yaml file",
        )
    assert unread(pathlib.Path("/dev/null")) == ("PK-Y25", "shown: this is a device, not a file; name a .yaml file")


WORDS = st.text(max_size=40)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(1 - 10**19, 10**19 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=5), max_leaves=30
)


def exactly(value: object) -> object:
    """Make 1, 1.0 and True, and 0.0 and -0.0, differ."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return type(value), value, isinstance(value, float) and math.copysign(1, value)


@settings(deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=5), st.sampled_from([(", ", ": "), (",", ":")]))
def test_json_is_read_as_it_was_written(value: dict[str, object], separators: tuple[str, str]) -> None:
    document = load(json.dumps(value, separators=separators), "spec.yaml")
    assert exactly(document.value) == exactly(value)
    assert document.keys.keys() == document.values.keys()


YAML_PIECES = st.lists(
    st.sampled_from(
        [*"abc:-?[]{},&*!|>'\"%@`#~<.019 \n\t\\\r", ": ", "\n  ", "- ", "&a ", "*a", "<<: ", "---\n", "\\U"]
    )
    | st.characters(),
    max_size=60,
).map("".join)


def problems_of(read: Callable[[], object]) -> tuple[Problem, ...]:
    try:
        found = read()
    except SpecError as error:
        return error.problems
    return found.problems if isinstance(found, Document) else ()


@settings(deadline=None)
@given(YAML_PIECES | st.text())
def test_any_text_is_read_or_refused_with_places(text: str) -> None:
    for problem in problems_of(lambda: load(text, "spec.yaml")):
        assert re.fullmatch(r"spec.yaml:[1-9]\d*:[1-9]\d*: .+", str(problem))
        assert re.fullmatch(r"PK-Y\d\d", problem.code)


@settings(deadline=None)
@given(YAML_PIECES)
def test_any_setting_is_read_or_refused_with_places(text: str) -> None:
    assert all(problem.line and problem.column for problem in problems_of(lambda: parse_value(text)))
