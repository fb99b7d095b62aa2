"""Which tap is compared with which."""

from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.comparing.alignment import align, names_in_common, nearest_names, stem

NAMES = st.text(st.sampled_from("ab/._1"), min_size=1, max_size=6)
TAPS = st.dictionaries(NAMES, NAMES, max_size=8)
SUFFIXES = ("_QuantizeLinear_Output", "_DequantizeLinear_Output", "_QuantizeLinear_Input", "_quantized")


def plain(*names):
    return {name: name for name in names}


def pairs(alignment):
    return [(one.first, one.second, one.how) for one in alignment.pairs]


@settings(max_examples=50)
@given(TAPS, TAPS)
def test_every_tap_is_in_one_pair_or_left_over(first, second):
    found = align(first, second)
    assert sorted([one.first for one in found.pairs] + found.first) == sorted(first)
    assert sorted([one.second for one in found.pairs] + found.second) == sorted(second)
    order = list(first)
    places = [order.index(one.first) for one in found.pairs]
    assert places == sorted(places)


@settings(max_examples=50)
@given(TAPS, TAPS)
def test_the_sides_can_be_exchanged(first, second):
    one = {(a, b, how) for a, b, how in pairs(align(first, second))}
    assert {(b, a, how) for a, b, how in pairs(align(second, first))} == one


@given(TAPS)
def test_equal_taps_are_aligned_by_name(taps):
    assert pairs(align(taps, taps)) == [(name, name, "name") for name in taps]


@given(st.lists(st.text("abc", min_size=1, max_size=4), unique=True, max_size=6), st.data())
def test_what_a_quantizer_renamed_is_found_again(names, data):
    renamed = [name + data.draw(st.sampled_from(SUFFIXES)) for name in names]
    found = align(plain(*names), plain(*renamed))
    assert pairs(found) == [(a, b, "renamed") for a, b in zip(names, renamed, strict=True)]


@settings(max_examples=50)
@given(TAPS, TAPS, st.data())
def test_what_is_given_comes_first(first, second, data):
    count = data.draw(st.integers(0, min(len(first), len(second))))
    given_pairs = dict(
        zip(
            data.draw(st.permutations(list(first)))[:count],
            data.draw(st.permutations(list(second)))[:count],
            strict=True,
        )
    )
    found = align(first, second, given_pairs)
    assert {one.first: one.second for one in found.pairs if one.how == "map"} == given_pairs


def test_tensors_with_other_names_in_the_results():
    assert pairs(align({"relu1": "relu"}, {"act_1": "relu"})) == [("relu1", "act_1", "tensor")]


def test_the_deepest_of_several_comes_after_all_rounding():
    second = plain("relu_QuantizeLinear_Input", "relu_DequantizeLinear_Output")
    found = align(plain("relu"), second)
    assert pairs(found) == [("relu", "relu_DequantizeLinear_Output", "renamed")]
    assert found.second == ["relu_QuantizeLinear_Input"]


def test_a_tap_of_the_same_name_is_taken_before_a_renamed_one():
    found = align(plain("relu"), plain("relu", "relu_DequantizeLinear_Output"))
    assert pairs(found) == [("relu", "relu", "name")]


def test_by_position_only_where_both_have_as_many():
    first = plain("layer1.relu", "layer2.relu", "head")
    assert pairs(align(first, plain("block1/relu", "block2/relu"))) == [
        ("layer1.relu", "block1/relu", "position"),
        ("layer2.relu", "block2/relu", "position"),
    ]
    assert pairs(align(first, plain("block1/relu", "block2/relu", "block3/relu"))) == []


def test_stems():
    assert stem("x_QuantizeLinear_Output_1") == "x"
    assert stem("x_quantized_DequantizeLinear_Output") == "x"
    assert stem("_quantized") == "_quantized"
    assert stem("quantized_x") == "quantized_x"


def test_the_nearest_names():
    assert nearest_names(["relu_1", "zzz"], ["relu_2", "conv"]) == ["relu_2", None]
    assert nearest_names(["a"], []) == [None]
    assert nearest_names(["relu"] * 60, ["relu1"]) == ["relu1"] * 50 + [None] * 10


def test_names_in_common():
    assert names_in_common(["pool", "max"], ["max", "pool"]) == [("pool", "pool"), ("max", "max")]
    assert names_in_common(["default"], ["pool"]) == [("default", "pool")]
    assert names_in_common(["default", "x"], ["pool"]) == []
