"""How files that cannot be read are told, and names that a terminal would obey."""

import doctest
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit import InputError, MachineError, Problem, errors, reading_file
from probekit.errors import clean, json_text

# What a terminal or a page obeys: controls, surrogates, separators of lines, what changes the direction of text.
OBEYED = [chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) in {"Cc", "Cs", "Zl", "Zp"}]
OBEYED += [
    chr(code)
    for code in range(0x10000)
    if unicodedata.bidirectional(chr(code)) in {"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
]


def test_a_file_that_is_there_is_given_as_a_path(tmp_path):
    (tmp_path / "net.bin").write_bytes(b"net")
    with reading_file(str(tmp_path / "net.bin")) as file:
        assert file.read_bytes() == b"net"


@pytest.mark.parametrize("name", ["nett.bin", "net.bim", "folder"])
def test_an_absent_file_is_told_with_the_nearest_name(tmp_path, name):
    (tmp_path / "net.bin").write_bytes(b"net")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as refused, reading_file(tmp_path / name, "model.weights"):
        raise AssertionError("it is not there")
    (problem,) = refused.value.problems
    assert (problem.code, problem.field, problem.what) == (
        "PK-M01",
        "model.weights",
        f"no file {str(tmp_path / name)!r}",
    )
    assert problem.hint == ("there: net.bin" if name == "folder" else "did you mean 'net.bin'?")


def test_what_a_reader_raises_is_told_on_one_line(tmp_path):
    (tmp_path / "net.bin").write_bytes(b"net")
    with pytest.raises(InputError) as refused, reading_file(tmp_path / "net.bin"):
        raise ValueError("not\n  a net")
    assert str(refused.value) == (
        f"model.path: {str(tmp_path / 'net.bin')!r} cannot be read: ValueError: not a net; export or copy it again"
    )
    assert refused.value.problems[0].code == "PK-M02"
    assert isinstance(refused.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "error", [MachineError(Problem("PK-E02", "no device")), MemoryError("full"), KeyboardInterrupt()]
)
def test_what_is_no_fault_of_the_file_goes_out_as_it_is(tmp_path, error):
    (tmp_path / "net.bin").write_bytes(b"net")
    with pytest.raises(type(error)) as raised, reading_file(tmp_path / "net.bin"):
        raise error
    assert raised.value is error


WHOLE = st.text(
    st.sampled_from([sign for sign in OBEYED if not "\ud800" <= sign <= "\udfff"] + ["a", '"', "\\"]), max_size=8
)
NAMES = st.text(st.one_of(st.sampled_from(OBEYED), st.sampled_from('a\\"é工😀')), max_size=8)


@given(NAMES)
def test_nothing_of_a_name_is_obeyed(name):
    assert not set(OBEYED) & set(clean(name))
    assert len(clean(name)) == sum(6 if sign in OBEYED else 1 for sign in name)


# Halves of a surrogate pair are no text that a file can hold, and JSON cannot tell two of them from what they make.
@given(st.dictionaries(WHOLE, st.lists(st.text() | WHOLE), max_size=3))
def test_json_is_exact_and_nothing_of_it_is_obeyed(values):
    text = json_text(values)
    assert json.loads(text) == values
    assert set(OBEYED) & set(text) <= {"\n"}


def test_json_is_strict():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text([float("nan")])


def test_the_examples_of_the_docstrings_hold():
    assert doctest.testmod(errors).failed == 0
