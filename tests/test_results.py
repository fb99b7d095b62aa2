"""Saving and loading results."""

import json
import os
from dataclasses import asdict, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors import safe_open

from probekit.components import FitFacts, PathPoint
from probekit.results import (
    CertificateRecord,
    FitRecord,
    GraphRecord,
    PathPointRecord,
    RunResult,
    text_tensor,
    write_file,
    write_predictions,
)


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


def written(path, **changes):
    """Write the predictions of five feature rows; return the tensors and the facts."""
    fields = {
        "ids": np.array(["a", "a", "b", "ü", "ü"], dtype=object), "groups": None,
        "parts": {"train": np.array([0, 1]), "valid": np.array([2]), "test": np.array([3, 4])},
        "labels": {"f": np.array([0, 1, 0, -1, 1])}, "predictions": {"0": np.array([0, 0, 0, 1, 1])},
        "losses": {"0": np.array([0.5, 1.0, 0.25, np.nan, 2.0])},
        "keys": {"0": {"model": "m", "checkpoint": "late", "tap": "t"}},
    }  # fmt: skip
    write_predictions(path, **{**fields, **changes})
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["probekit"])  # noqa: SIM118


def test_predictions_come_back_row_by_row(tmp_path):
    tensors, facts = written(tmp_path / "p.safetensors")
    assert sorted(tensors) == ["id", "label.f", "loss.0", "predicted.0", "split"]
    assert [bytes(row).rstrip(b"\0").decode() for row in tensors["id"]] == ["a", "a", "b", "ü", "ü"]
    assert [facts["splits"][number] for number in tensors["split"]] == ["train", "train", "valid", "test", "test"]
    assert tensors["label.f"].tolist() == [0, 1, 0, -1, 1]
    assert tensors["predicted.0"].tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(tensors["loss.0"], np.array([0.5, 1.0, 0.25, np.nan, 2.0], dtype=np.float32))
    assert facts["predictions"] == {"0": {"model": "m", "checkpoint": "late", "tap": "t"}}


def test_answers_and_numbers_come_back_in_their_own_types(tmp_path):
    answers, numbers = np.array([[0, 1], [1, 1], [0, 0], [-1, -1], [1, 0]]), np.array([0.5, 1, 2, np.nan, 4])
    tensors, _ = written(
        tmp_path / "p.safetensors",
        labels={"tags": answers, "snr": numbers},
        predictions={"0": answers, "1": numbers.astype(np.float32)},
        losses={"0": np.zeros((5, 2)), "1": numbers},
    )
    assert (tensors["label.tags"].dtype, tensors["label.tags"].tolist()) == (np.int32, answers.tolist())
    assert tensors["loss.0"].shape == (5, 2)
    for name in ("label.snr", "predicted.1", "loss.1"):
        np.testing.assert_array_equal(tensors[name], numbers.astype(np.float32))


def test_the_record_of_a_fit_has_the_fields_of_its_facts():
    path = (PathPoint(0.1, 1.0, None, "proven", 0.5, None),)
    facts = FitFacts(path=path, label_penalties=(0.1, 1.0), end="largest", notes=("best epoch 3",))
    record = FitRecord.model_validate(asdict(facts))
    assert set(FitRecord.model_fields) == {one.name for one in fields(FitFacts)}
    assert set(PathPointRecord.model_fields) == {one.name for one in fields(PathPoint)}
    assert record.model_dump() == {**asdict(facts), "path": [asdict(facts.path[0])]} | {
        "label_penalties": [0.1, 1.0],
        "arithmetic": ["float32"],
        "notes": ["best epoch 3"],
    }


def test_where_rows_are_positions_each_rows_position_is_told(tmp_path):
    tensors, _ = written(tmp_path / "p.safetensors", positions=np.array([0, 3, 7, 0, 1]))
    assert (tensors["position"].tolist(), tensors["position"].dtype) == ([0, 3, 7, 0, 1], np.int32)


def test_groups_stand_beside_their_rows(tmp_path):
    tensors, _ = written(tmp_path / "p.safetensors", groups=np.array(["g", "g", "h", "", "k"]))
    assert [bytes(row).rstrip(b"\0").decode() for row in tensors["group"]] == ["g", "g", "h", "", "k"]


def test_the_same_predictions_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        written(tmp_path / name, positions=np.arange(5))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9), max_size=20))
def test_text_comes_back_from_bytes(values):
    tensor = text_tensor(np.array(values, dtype=object))
    assert tensor.dtype == np.uint8
    assert [bytes(row).rstrip(b"\0").decode() for row in tensor] == values
