"""Digests of contents: equal for equal contents, wherever they lie, and for nothing else."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from probekit import content_digest
from probekit.backends import digests

ARRAYS = hnp.arrays(
    st.sampled_from(["<f4", ">f4", "<i8", "|b1", "|u1", "<U3", "|S2"]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=3),
)
PARTS = st.lists(st.one_of(ARRAYS, st.binary(max_size=4), st.text(max_size=4)), max_size=3)


def content(part):
    """Return what a part is, as Python compares it."""
    if isinstance(part, np.ndarray):
        little = part.astype(part.dtype.newbyteorder("<"))
        return little.dtype.str, part.shape, little.tobytes()
    return type(part), part


@given(PARTS, PARTS)
def test_two_lists_have_one_digest_only_if_their_contents_are_equal(one, other):
    same = [content(part) for part in one] == [content(part) for part in other]
    assert (content_digest(*one) == content_digest(*other)) == same


@given(ARRAYS)
def test_neither_the_order_of_bytes_nor_of_axes_in_memory_counts(array):
    swapped = array.astype(array.dtype.newbyteorder())
    assert (
        content_digest(array)
        == content_digest(swapped)
        == content_digest(np.asfortranarray(array).reshape(array.shape))
    )


def test_a_file_counts_by_what_it_holds(tmp_path: Path):
    for name, text in (("a", b"same"), ("b", b"same"), ("c", b"other")):
        (tmp_path / name).write_bytes(text)
    a, b, c = (content_digest(tmp_path / name) for name in "abc")
    assert a == b != c
    assert len(a) == 32
    assert a not in (content_digest(b"same"), content_digest("same"), content_digest(str(tmp_path / "a")))


def test_where_one_part_ends_counts():
    assert (
        len({content_digest("ab", "c"), content_digest("a", "bc"), content_digest("abc"), content_digest("c", "ab")})
        == 4
    )


def test_objects_are_refused():
    with pytest.raises(TypeError, match="dtype object has no content"):
        content_digest(np.array([object()]))


def test_the_examples_of_the_docstrings_hold():
    assert doctest.testmod(digests).failed == 0
