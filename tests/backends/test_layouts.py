"""Axis layouts against NumPy: a layout is a row of letters, and a transposition moves letters as it moves axes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from probekit.backends.layouts import BY_RANK, permuted, propagate_layouts
from probekit.components import LAYOUTS

PERMUTATIONS = st.sampled_from(["NCT", "NCHW", "NCDHW"]).flatmap(
    lambda layout: st.tuples(st.just(layout), st.lists(st.permutations(range(len(layout))), min_size=1, max_size=5))
)


def moved(letters: str, permutation: tuple[int, ...]) -> str:
    """The letters after a transposition by NumPy: each axis has a length of its own."""
    shape = np.zeros(range(2, 2 + len(letters))).transpose(permutation).shape
    return "".join(letters[size - 2] for size in shape)


@given(PERMUTATIONS)
def test_a_layout_is_permuted_as_numpy_permutes_axes(case: tuple[str, list[list[int]]]) -> None:
    layout, (permutation, *_) = case
    assert permuted(layout, tuple(permutation)) == moved(layout, tuple(permutation))


@given(PERMUTATIONS, st.integers(0, 5))
def test_a_layout_known_anywhere_in_a_chain_of_transpositions_is_known_everywhere(
    case: tuple[str, list[list[int]]], known: int
) -> None:
    layout, permutations = case
    truth = [layout]
    for permutation in permutations:
        truth.append(moved(truth[-1], tuple(permutation)))
    names = [f"t{i}" for i in range(len(truth))]
    links = [(names[i], names[i + 1], tuple(permutation)) for i, permutation in enumerate(permutations)]
    place = known % len(truth)
    found = propagate_layouts({names[place]: truth[place]}, links, dict.fromkeys(names, len(layout)))
    assert found == dict(zip(names, truth, strict=True))


def test_a_link_without_a_permutation_keeps_the_axes_both_ways() -> None:
    links = [("a", "b", None), ("b", "c", None)]
    assert propagate_layouts({"b": "NCHW"}, links, {"a": 4, "b": 4, "c": 4}) == {"a": "NCHW", "b": "NCHW", "c": "NCHW"}


def test_a_tensor_of_another_rank_gets_no_layout() -> None:
    links = [("a", "bias", None), ("a", "unknown", None), ("a", "turned", (0, 2, 1))]
    assert propagate_layouts({"a": "NCHW"}, links, {"a": 4, "bias": 1, "turned": 3}) == {"a": "NCHW"}


def test_a_layout_known_by_definition_is_never_overwritten() -> None:
    found = propagate_layouts({"a": "NCT", "b": "NTC"}, [("a", "b", None), ("b", "c", None)], {"a": 3, "b": 3, "c": 3})
    assert (found["a"], found["b"]) == ("NCT", "NTC")


def test_a_loop_of_links_ends() -> None:
    links = [("a", "b", (0, 2, 1)), ("b", "a", (0, 2, 1))]
    assert propagate_layouts({"a": "NCT"}, links, {"a": 3, "b": 3}) == {"a": "NCT", "b": "NTC"}


def test_the_layouts_of_convolutions_are_layouts_of_the_vocabulary() -> None:
    assert {rank: len(layout) for rank, layout in BY_RANK.items()} == {3: 3, 4: 4, 5: 5}
    assert set(BY_RANK.values()) <= set(LAYOUTS)
