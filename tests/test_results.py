"""Saving and loading results."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probekit.results import CertificateRecord, GraphRecord, RunResult, text_tensor, write_file


def empty(**changes):
    fields = {"name": "n", "probes": [], "model": [], "graph": GraphRecord(taps=[], edges=[]), "provenance": {}}
    return RunResult(**{**fields, **changes})


def test_json_comes_back_equal():
    result = empty(provenance={"text": "ü \u2028 </script>"})
    assert RunResult.model_validate_json(result.to_json()) == result


def test_what_is_not_finite_becomes_null():
    text = empty(provenance={"x": float("nan"), "y": float("inf")}).to_json()
    saved = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert saved["provenance"] == {"x": None, "y": None}


def test_an_unknown_field_or_version_is_refused():
    with pytest.raises(ValidationError):
        RunResult.model_validate({**json.loads(empty().to_json()), "schema_version": 2})
    with pytest.raises(ValidationError):
        RunResult.model_validate({**json.loads(empty().to_json()), "more": 1})


def test_a_status_is_one_of_three():
    with pytest.raises(ValidationError):
        CertificateRecord(status="hoped", gap=None, of_chance=None, of_objective=None)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_file(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9), max_size=20))
def test_text_comes_back_from_bytes(values):
    tensor = text_tensor(np.array(values, dtype=object))
    assert tensor.dtype == np.uint8
    assert [bytes(row).rstrip(b"\0").decode() for row in tensor] == values
