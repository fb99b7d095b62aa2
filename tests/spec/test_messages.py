"""How pydantic's errors become a user's words: unions, choices, containers, nested sections, plugins' own checks."""

import dataclasses
import sys
import types
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator, model_validator

from probekit import Reduction, Section, hookimpl
from probekit.errors import Problem, UserError, described, listed, nearest, printable
from probekit.plugins import Plugins, Provider, installed_providers
from probekit.sections import SpecContext, fault, faults_below
from probekit.spec.messages import problems_of
from probekit.spec.model import DEFAULTS, Spec


class Part(Section):
    """A section inside a section."""

    size: int = Field(1, ge=1, le=9, description="how large")
    deeper: dict[str, list["Part"]] = Field(default_factory=dict, description="parts by name")


class ZooReduction(Reduction):
    """Every shape of field that a third party may declare."""

    kind: Literal["zoo"] = "zoo"
    part: Part | None = Field(None, description="one")
    parts: list[Part] | dict[str, Part] = Field(default_factory=list, description="several")
    inner: Annotated[Reduction, "a note"] | None = Field(None, description="unused")
    choice: Literal["one", "two", 3] | None = Field(None, description="some")
    number: int | float | None = Field(None, description="a number")
    flag: bool | Literal["maybe"] | None = Field(None, description="a flag")
    text: str | Part | None = Field(None, description="text or a part")
    even: int = Field(0, description="no odd number")
    other: int = Field(0, multiple_of=5, description="a multiple of five")
    short: str = Field("", max_length=3, description="three letters")
    pair: list[int] = Field(default_factory=lambda: [0, 0], min_length=2, max_length=2, description="two")
    aliased_: int = Field(0, alias="aliased", description="a key that is no name in Python")

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value

    @model_validator(mode="after")
    def _coded(self) -> "ZooReduction":
        if self.short == "odd":
            raise faults_below((("short",), fault("PK-Y29", "is odd", "be even")), (("even",), fault("PK-Y30", "too")))
        return self

    def program(self, tap):
        raise NotImplementedError


@hookimpl
def register_reductions():
    return [ZooReduction]


@pytest.fixture
def told(monkeypatch, tmp_path):
    """Return what is said of a spec whose reduction has the given fields, as (code, field, what, hint)."""
    module = types.ModuleType("zoo_plugin")
    module.register_reductions = register_reductions
    monkeypatch.setitem(sys.modules, "zoo_plugin", module)
    plugins = Plugins(
        [*installed_providers(autoload=False), Provider("reduction", "zoo", "zoo_plugin", "zoo-plugin", "1")]
    )

    def tell(**fields):
        tree = {
            **DEFAULTS,
            "probekit": 1,
            "name": "n",
            "model": {"kind": "onnx", "path": "a"},
            "data": {"kind": "digits"},
            "labels": {"d": {"kind": "column"}},
            "reduction": {"kind": "zoo", **fields},
        }
        try:
            Spec.model_validate(tree, context=SpecContext(plugins, tmp_path))
        except ValidationError as error:
            found = problems_of(error.errors(include_url=False), tree, plugins)
            return [(p.code, p.field.removeprefix("reduction."), p.what, p.hint) for _, p, _ in found]
        return []

    return tell


def test_nothing_is_told_of_what_is_right(told):
    assert told(part={"size": 3}, parts={"a": {"size": 1}}, choice=3, number=1.5, flag="maybe", aliased=3) == []


UNIONS = [
    ({"choice": "tow"}, "choice", "expected 'one', 'two' or 3, got text 'tow'", "did you mean 'two'?"),
    ({"choice": 4}, "choice", "expected 'one', 'two' or 3, got the number 4", ""),
    ({"choice": ["one"]}, "choice", "expected 'one', 'two' or 3, got a list [\"one\"]", ""),
    ({"number": "x"}, "number", "expected a number, got text 'x'", ""),
    ({"number": "10"}, "number", "expected a number, got text '10'", "write 10"),
    ({"flag": "no"}, "flag", "expected 'maybe', true or false, got text 'no'", "write false"),
    ({"flag": "mayb"}, "flag", "expected 'maybe', true or false, got text 'mayb'", "did you mean 'maybe'?"),
    ({"flag": 1}, "flag", "expected 'maybe', true or false, got the number 1", ""),
    ({"text": 3}, "text", "expected text or a mapping, got the number 3", "quote it: '3'"),
    ({"text": [1]}, "text", "expected text or a mapping, got a list [1]", ""),
    ({"parts": 3}, "parts", "expected a list or a mapping, got the number 3", ""),
    ({"part": 3}, "part", "expected a mapping, got the number 3", ""),
    ({"part": {"size": None}}, "part.size", "expected a whole number, got nothing", ""),
    ({"parts": [{"size": "x"}]}, "parts[0].size", "expected a whole number, got text 'x'", ""),
    ({"parts": {"a": {"size": "x"}}}, "parts.a.size", "expected a whole number, got text 'x'", ""),
    ({"parts": [3]}, "parts[0]", "expected a mapping, got the number 3", ""),
    ({"text": {"size": "x"}}, "text.size", "expected a whole number, got text 'x'", ""),
]


@pytest.mark.parametrize(("fields", "field", "what", "hint"), UNIONS, ids=[str(fields) for fields, *_ in UNIONS])
def test_a_wrong_type_is_told_once_with_all_that_is_allowed(told, fields, field, what, hint):
    assert told(**fields) == [("PK-Y04", field, what, hint)]


OTHERS = [
    ({"part": {"size": 0}}, "PK-Y30", "part.size", "must be at least 1, got 0"),
    ({"text": {"size": 10}}, "PK-Y30", "text.size", "must be at most 9, got 10"),
    ({"pair": [1]}, "PK-Y30", "pair", "must have at least 2 entries, got a list [1]"),
    ({"pair": [1, 2, 3]}, "PK-Y30", "pair", "must have at most 2 entries, got a list [1, 2, 3]"),
    ({"even": 3}, "PK-Y30", "even", "must be even, got the number 3"),
    ({"other": 3}, "PK-Y04", "other", "input should be a multiple of 5, got the number 3"),
    ({"short": "abcd"}, "PK-Y04", "short", "string should have at most 3 characters, got text 'abcd'"),
]


@pytest.mark.parametrize(("fields", "code", "field", "what"), OTHERS, ids=[str(fields) for fields, *_ in OTHERS])
def test_what_is_out_of_range_is_told_with_the_limit(told, fields, code, field, what):
    assert told(**fields) == [(code, field, what, "")]


def test_a_validator_can_place_several_faults_below_its_section(told):
    assert told(short="odd", even=2) == [("PK-Y29", "short", "is odd", "be even"), ("PK-Y30", "even", "too", "")]
    # A key that the spec does not give cannot be a place; the section is.
    assert told(short="odd")[1] == ("PK-Y30", "reduction", "too", "")


KEYS = "aliased, choice, even, flag, inner, kind, number, other, pair, part, parts, short, text"


@pytest.mark.parametrize(
    ("fields", "field", "hint"),
    [
        ({"colour": 1}, "colour", f"valid: {KEYS}"),
        ({"aliased_": 1}, "aliased_", "did you mean 'aliased'?"),
        ({"part": {"sise": 1}}, "part.sise", "did you mean 'size'?"),
        ({"parts": [{}, {"sise": 1}]}, "parts[1].sise", "did you mean 'size'?"),
        ({"parts": {"a": {"x": 1}}}, "parts.a.x", "valid: deeper, size"),
        ({"text": {"sise": 1}}, "text.sise", "did you mean 'size'?"),
        ({"part": {"deeper": {"a": [{"deeper": {"b": [{"sise": 2}]}}]}}}, "part.deeper.a[0].deeper.b[0].sise", None),
    ],
)
def test_an_unknown_key_is_answered_from_the_section_that_it_stands_in(told, fields, field, hint):
    what = f"unknown key {field.rpartition('.')[2]!r}"
    assert told(**fields) == [("PK-Y03", field, what, hint or "did you mean 'size'?")]


def test_several_faults_of_one_section_are_told_together(told):
    assert [(code, field) for code, field, _, _ in told(part={"sise": 3, "size": "x"}, even=1, number="x")] == [
        ("PK-Y04", "part.size"),
        ("PK-Y03", "part.sise"),
        ("PK-Y04", "number"),
        ("PK-Y30", "even"),
    ]


# --- the words that all messages share --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        (True, "true"),
        (False, "false"),
        (3, "the number 3"),
        (1e-3, "the number 0.001"),
        ("ten", "text 'ten'"),
        ("", "text ''"),
        ([], "an empty list"),
        ({}, "an empty mapping"),
        ([None, True, 1.5, "a"], 'a list [null, true, 1.5, "a"]'),
        ({"kind": "pöol"}, 'a mapping {"kind": "pöol"}'),
        ("x" * 100, f"text '{'x' * 56}..."),
        ([0] * 100, f"a list [{'0, ' * 18}0,..."),
        ({1, 2}, "set {1, 2}"),
    ],
)
def test_a_value_is_described_in_the_words_of_yaml(value, words):
    assert described(value) == words


@pytest.mark.parametrize(
    ("name", "choices", "words"),
    [
        ("tapz", ["taps", "model"], "did you mean 'taps'?"),
        ("TAPS", ["taps", "model"], "did you mean 'taps'?"),
        ("taps", ["TAPS", "model"], "did you mean 'TAPS'?"),
        ("xyz", ["taps", "model", "taps"], "valid: model, taps"),
        ("", ["b", "a"], "valid: a, b"),
        ("x", [], "valid: none"),
        ("zz", [f"k{n:02}" for n in range(29)], f"valid: {', '.join(f'k{n:02}' for n in range(24))} and 5 more"),
    ],
)
def test_the_nearest_choice_is_named_or_all_are_listed(name, choices, words):
    assert nearest(name, choices) == words


@given(st.text(max_size=6), st.lists(st.text(max_size=6), max_size=6))
def test_a_suggestion_is_always_one_of_the_choices(name, choices):
    said = nearest(name, choices)
    assert said.startswith("valid: ") or said in {f"did you mean {choice!r}?" for choice in choices}


def test_names_are_listed_up_to_a_number():
    assert listed(["a", "b", "c"], 2) == "'a', 'b' and 1 more"
    assert listed([1, 2]) == "'1', '2'"
    assert listed([]) == ""


def test_a_problem_reads_as_one_line_with_its_place():
    problem = Problem("PK-Y03", "unknown key 'x'", "remove it", "model.x")
    assert str(problem) == "model.x: unknown key 'x'; remove it"
    assert str(problem.at("a.yaml", 3, 7)) == "a.yaml:3:7: model.x: unknown key 'x'; remove it"
    assert str(problem.at("--set model.x=1")) == "--set model.x=1: model.x: unknown key 'x'; remove it"
    assert str(dataclasses.replace(problem, hint="", field="")) == "unknown key 'x'"
    assert str(Problem("PK-Y03", "two\nlines \x1b[2J \u202e", field="a\tb")) == r"a\tb: two\nlines \x1b[2J \u202e"
    assert str(UserError(problem, Problem("PK-Y04", "other"))) == "model.x: unknown key 'x'; remove it\nother"


@given(st.text(st.characters()))
def test_printable_text_is_printable_and_stays_as_it_is_if_it_was(text):
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    if text.isprintable():
        assert printable(text) == text


def test_half_a_character_can_be_printed():
    assert printable("a\udcff").encode() == rb"a\udcff"
