"""Which tensors a spec's entries choose."""

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.components import Graph, Tap
from probekit.errors import SpecError
from probekit.spec.model import TapEntry
from probekit.taps import ChosenTap, choose_taps, matches

TAPS = [
    Tap("image", "Input", (3, 8, 8), "float32", "NCHW"),
    Tap("conv1", "Conv", (4, 8, 8), "float32", "NCHW"),
    Tap("relu1:in", "Relu", (4, 8, 8), "float32", "NCHW"),
    Tap("relu1", "Relu", (4, 8, 8), "float32"),
    Tap("relu2", "Relu", (4, 8, 8), "float32"),
    Tap("relu2#1", "Relu", (4, 8, 8), "float32"),
    Tap("lstm[0]", "LSTM", (5, 6), "float32", "NTC"),
    Tap("lstm[1]", "LSTM", (6,), "float32"),
    Tap("size", "Shape", (), "int64", untappable="no batch axis: it is a shape"),
    Tap("axes", "Constant", None, "int64", untappable="a constant"),
    Tap("logits", "Gemm", (10,), "float32", "NC"),
]
GRAPH = Graph(tuple(Tap(t.name, t.op, t.shape, t.dtype, t.layout, depth, t.untappable) for depth, t in enumerate(TAPS)))


def choose(*entries: Any, graph: Graph = GRAPH, max_taps: int = 1000) -> list[ChosenTap]:
    return choose_taps([TapEntry.model_validate(entry) for entry in entries], graph, max_taps)


def names(*entries: Any) -> list[str]:
    return [one.tap.name for one in choose(*entries)]


def labels(*entries: Any) -> list[str]:
    return [one.label for one in choose(*entries)]


def refused(*entries: Any, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        choose(*entries, **options)
    return [(problem.code, str(problem)) for problem in caught.value.problems]


# --- patterns


@functools.cache
def matches_slowly(pattern: str, name: str) -> bool:
    """A pattern's meaning, letter by letter."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(matches_slowly(pattern[1:], name[start:]) for start in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and matches_slowly(pattern[1:], name[1:])


@settings(deadline=None, max_examples=300)
@given(st.text("ab[]!^-.?*\n", max_size=6), st.text("ab[]!^-.\n", max_size=8))
def test_only_star_and_question_mark_are_special(pattern: str, name: str) -> None:
    assert matches(pattern, name) == matches_slowly(pattern, name)


@settings(deadline=None)
@given(st.text(max_size=10))
def test_every_name_without_special_letters_matches_itself(name: str) -> None:
    assert matches(name.replace("*", "?"), name)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "relu:in", False),
        ("relu*", "relu#1:in[0]", False),
        ("*:in", "relu:in", True),
        ("*:in*", "relu#1:in[0]", True),
        ("*", "model/dense:input", True),
        ("dense:*", "dense:int8_scale", True),
    ],
)
def test_a_pattern_reaches_what_a_module_takes_only_when_it_says_so(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_a_long_hostile_pattern_is_answered() -> None:
    assert not matches("*a" * 100 + "b", "a" * 1000)


# --- what is chosen


def test_a_star_takes_all_that_can_be_tapped_in_execution_order() -> None:
    expected = ["image", "conv1", "relu1", "relu2", "relu2#1", "lstm[0]", "lstm[1]", "logits"]
    assert names("*") == expected
    assert all(not one.exact for one in choose("*"))


def test_taps_come_in_execution_order_whatever_order_the_entries_have() -> None:
    assert names("logits", "conv1", "relu?") == ["conv1", "relu1", "relu2", "logits"]


def test_an_exact_name_wins_over_its_reading_as_a_pattern() -> None:
    graph = Graph((Tap("a*", "Add", (1,), "float32"), Tap("ab", "Add", (1,), "float32", depth=1)))
    (chosen,) = choose("a*", graph=graph)
    assert (chosen.tap.name, chosen.exact) == ("a*", True)


def test_brackets_in_a_name_are_no_pattern() -> None:
    assert names("lstm[0]") == ["lstm[0]"]
    assert names("lstm[*]") == ["lstm[0]", "lstm[1]"]


def test_the_first_call_may_be_named_with_its_number() -> None:
    assert names("relu2#0", "relu2#1") == ["relu2", "relu2#1"]


def test_a_tensor_whose_own_name_ends_in_the_first_calls_number_is_found() -> None:
    graph = Graph((Tap("a", "Add", (1,), "float32"), Tap("a#0", "Add", (1,), "float32", depth=1)))
    assert [one.tap.name for one in choose("a#0", graph=graph)] == ["a#0"]


def test_input_stands_for_the_models_inputs() -> None:
    assert names("input") == ["image"]
    assert choose("input")[0].exact


def test_a_tensor_called_input_wins_over_the_models_inputs() -> None:
    graph = Graph((Tap("image", "Input", (1,), "float32"), Tap("input", "Add", (1,), "float32", depth=1)))
    assert [one.tap.name for one in choose("input", graph=graph)] == ["input"]


def test_operators_choose_and_leave_out_what_modules_take() -> None:
    assert names({"op": "Relu"}) == ["relu1", "relu2", "relu2#1"]
    assert names({"op": ["Conv", "Gemm"]}) == ["conv1", "logits"]
    assert names({"op": "Relu", "match": "*1"}) == ["relu1", "relu2#1"]
    assert [one.exact for one in choose({"op": ["Conv", "Gemm"]})] == [False, False]


def test_a_tap_that_one_entry_names_and_also_matches_counts_as_named() -> None:
    chosen = {one.tap.name: one.exact for one in choose({"match": ["relu*", "relu2"]})}
    assert chosen == {"relu1": False, "relu2": True, "relu2#1": False}


def test_the_first_entry_that_takes_a_tensor_decides() -> None:
    one, two = choose({"match": "relu1", "as": "mine", "reductions": ["pool"]}, {"match": "relu?", "layout": "NCHW"})
    assert (one.label, one.reductions, one.tap.layout) == ("mine", ("pool",), "")
    assert (two.label, two.reductions, two.tap.layout) == ("relu2", None, "NCHW")


def test_a_label_is_filled_in() -> None:
    assert labels({"match": "relu*", "as": "r{i}"}) == ["r1", "r2", "r3"]
    assert labels({"op": "Conv", "as": "{op}-{name}-{i}"}) == ["Conv-conv1-1"]


def test_a_tap_that_two_patterns_of_an_entry_match_is_counted_once() -> None:
    assert labels({"match": ["relu1", "relu*"], "as": "r{i}"}) == ["r1", "r2", "r3"]


def test_a_given_layout_replaces_the_graphs() -> None:
    (chosen,) = choose({"match": "lstm[0]", "layout": "NCT"})
    assert chosen.tap.layout == "NCT"


# --- what is refused


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        ("conv", "PK-M26", "taps[0]: the model has no tensor 'conv'; did you mean 'conv1'?"),
        (
            "zzz",
            "PK-M26",
            (
                "taps[0]: the model has no tensor 'zzz'; "
                "tensors: conv1, image, logits, lstm[0], lstm[1], relu1, relu1:in, relu2, relu2#1"
            ),
        ),
        (
            "size",
            "PK-M28",
            "taps[0]: 'size' cannot be tapped: no batch axis: it is a shape; see: probekit taps SPEC",
        ),
        (
            "*xes",
            "PK-M28",
            "taps[0]: '*xes' matches only what cannot be tapped: 'axes': a constant; see: probekit taps SPEC",
        ),
        (
            "logit?s",
            "PK-Y36",
            (
                "taps[0]: tap pattern 'logit?s' matches nothing; "
                "nearest: 'logits', 'lstm[1]', 'lstm[0]', 'relu1:in', 'relu2'"
            ),
        ),
        (
            {"op": "Conf"},
            "PK-Y36",
            "taps[0].op: no tensor that can be tapped comes from 'Conf'; did you mean 'Conv'?",
        ),
        (
            {"op": "Conf", "match": "*"},
            "PK-Y36",
            "taps[0].op: no tensor that can be tapped comes from 'Conf'; did you mean 'Conv'?",
        ),
        (
            {"op": ["Shape", "Constant"]},
            "PK-Y36",
            (
                "taps[0].op: no tensor that can be tapped comes from 'Shape', 'Constant'; "
                "operators: Conv, Gemm, Input, LSTM, Relu"
            ),
        ),
        (
            {"op": "Conv", "match": "relu1"},
            "PK-Y29",
            "taps[0]: 'relu1' comes from 'Relu', not from 'Conv'; leave match: or op: out",
        ),
        (
            {"match": "lstm[1]", "layout": "NTC"},
            "PK-Y29",
            "taps[0].layout: layout NTC has 3 axes, 'lstm[1]' has 2",
        ),
        (
            {"match": "relu?", "as": "r"},
            "PK-Y27",
            "taps: 'relu1' and 'relu2' would both be called 'r'; put {i} into as:",
        ),
    ],
)
def test_an_entry_is_refused(entry: Any, code: str, message: str) -> None:
    assert refused(entry) == [(code, message)]


def test_too_many_tensors_are_refused() -> None:
    message = "taps: 8 tensors are chosen, over max_taps 7; narrow the patterns, or raise max_taps"
    assert refused("*", max_taps=7) == [("PK-Y36", message)]
    assert len(choose("*", max_taps=8)) == 8


def test_all_entries_are_told_of_at_once() -> None:
    assert [code for code, _ in refused("conv", "size", {"op": "Conf"}, "logits")] == ["PK-M26", "PK-M28", "PK-Y36"]


def test_a_name_in_a_model_without_tensors_is_refused() -> None:
    message = "taps[0]: the model has no tensor 'a'; tensors: none"
    assert refused("a", graph=Graph(())) == [("PK-M26", message)]
