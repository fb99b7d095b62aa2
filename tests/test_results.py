"""Saving and loading results."""

import json
import os
from dataclasses import asdict, fields

import pytest
from pydantic import ValidationError

from probekit.components import FitFacts, PathPoint
from probekit.durable import write_file
from probekit.results import (
    CertificateRecord,
    FitRecord,
    GraphRecord,
    PathPointRecord,
    ProbeResult,
    RunResult,
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_bound_that_is_not_finite_is_null_and_the_result_can_be_read(value):
    certificate = CertificateRecord(status="missed", gap=value, of_chance=value, of_objective=None)
    probe = ProbeResult(
        model="m", checkpoint=None, tap="a", reduction="r", factor="f", probe="p", control=None, seed=0,
        primary="error", scores={"error": {"test": 0.1}}, error={"test": 0.1}, penalty=value,
        features_raw=1, features_used=1, rows={"test": 10}, certificate=certificate, seconds=0.1,
    )  # fmt: skip
    text = empty(probes=[probe]).to_json()
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    (again,) = RunResult.model_validate_json(text).probes
    assert again.certificate.gap is again.certificate.of_chance is again.penalty is None
    assert again.scores == probe.scores


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
