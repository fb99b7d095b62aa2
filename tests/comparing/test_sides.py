"""Which runs, models, checkpoints and taps are meant."""

import numpy as np
import pytest

from probekit.comparing.sides import Side, called, choose, load_run, taps_given
from probekit.errors import InputError, SpecError

CODES = np.array([0, 1, 1, 0])


def run_of(runs, *variants, **changes):
    """Return a run with these models and checkpoints."""
    probes = [runs.said("t", CODES, model=model, checkpoint=step) for model, step in variants]
    return runs(probes, {"f": CODES}, **changes)


@pytest.mark.parametrize(
    ("first", "second", "options", "expected"),
    [
        ([("a", None)], [("b", None)], {}, (("a", None), ("b", None))),
        ([("a", None)], [("a", None), ("b", None)], {}, (("a", None), ("a", None))),
        ([("a", None)], [("a", None), ("b", None)], {"model": "a:b"}, (("a", None), ("b", None))),
        ([("a", "1"), ("a", "2")], [("a", "2"), ("a", "3")], {}, (("a", "2"), ("a", "2"))),
        ([("a", "1"), ("a", "2")], [("a", "2"), ("a", "3")], {"checkpoint": "1:3"}, (("a", "1"), ("a", "3"))),
        ([("a", None)], [("a", "1"), ("a", "2")], {"checkpoint": "2"}, (("a", None), ("a", "2"))),
        ([("a", "1")], [("a", None)], {}, (("a", "1"), ("a", None))),
        ([("a", "x:y")], [("a", "x:y"), ("a", "z")], {"checkpoint": "x:y:z"}, (("a", "x:y"), ("a", "z"))),
    ],
)
def test_what_two_runs_are_compared_by(runs, first, second, options, expected):
    assert choose(run_of(runs, *first), run_of(runs, *second), **options) == expected


@pytest.mark.parametrize(
    ("variants", "options", "expected"),
    [
        ([("float", None), ("int8", None)], {}, (("float", None), ("int8", None))),
        ([("float", None), ("int8", None)], {"model": "int8:float"}, (("int8", None), ("float", None))),
        ([("a", "1"), ("a", "2")], {}, (("a", "1"), ("a", "2"))),
        ([("a", "1"), ("a", "2"), ("a", "3")], {"checkpoint": "1:3"}, (("a", "1"), ("a", "3"))),
        ([("a", "1"), ("b", "1")], {}, (("a", "1"), ("b", "1"))),
    ],
)
def test_what_one_run_is_compared_by(runs, variants, options, expected):
    run = run_of(runs, *variants)
    assert choose(run, run, **options) == expected


@pytest.mark.parametrize(
    ("variants", "options", "text"),
    [
        ([("a", None)], {}, "would be compared with itself"),
        (
            [("a", None), ("b", None), ("c", None)],
            {},
            "which models are compared is not clear: there are 'a', 'b', 'c'",
        ),
        ([("a", "1"), ("a", "2"), ("a", "3")], {}, "name two with --checkpoint A:B"),
        ([("float", None), ("int8", None)], {"model": "flaot:int8"}, "did you mean 'float'"),
        ([("float", None), ("int8", None)], {"model": "float:int4"}, "the second run has no model 'int4'"),
        ([("a", None), ("b", None)], {"checkpoint": "1:2"}, "the models have no checkpoints"),
        ([("a", "1"), ("a", "2")], {"checkpoint": "1:1"}, "would be compared with itself"),
    ],
)
def test_what_is_not_clear_is_refused(runs, variants, options, text):
    run = run_of(runs, *variants)
    with pytest.raises(SpecError, match=text) as caught:
        choose(run, run, **options)
    assert caught.value.problems[0].code == "PK-X31"


def test_checkpoints_of_one_side_alone(runs):
    bare, many = run_of(runs, ("a", None)), run_of(runs, ("a", "1"), ("a", "2"))
    with pytest.raises(SpecError, match="which checkpoint is compared is not clear"):
        choose(bare, many)
    with pytest.raises(SpecError, match="no checkpoint '3'"):
        choose(bare, many, checkpoint="3")


def test_what_sides_are_called(runs):
    one, other = run_of(runs, ("a", None), name="before"), run_of(runs, ("a", None), ("b", "9"), name="after")
    assert called(Side(one, ("a", None), "test"), Side(other, ("a", None), "test")) == ("before", "after")
    assert called(Side(one, ("a", None), "test"), Side(other, ("b", "9"), "test")) == ("before a", "after b 9")
    same = run_of(runs, ("a", None), name="before")
    names = called(Side(one, ("a", None), "test"), Side(same, ("a", None), "test"))
    assert names == ("run1", "run3")


def test_taps_are_named_as_in_the_results_or_by_their_tensors():
    first, second = {"relu1": "relu", "a=b": "x"}, {"act": "relu_q", "c": "y=z"}
    assert taps_given(["relu1=act"], first, second) == {"relu1": "act"}
    assert taps_given(["relu=relu_q"], first, second) == {"relu1": "act"}
    assert taps_given(["a=b=y=z"], first, second) == {"a=b": "c"}


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["relu1"], ["--map relu1: is no pair of taps; write --map TAP_A=TAP_B"]),
        (["relu2=act"], ["--map relu2=act: the first run has no probed tap 'relu2'; did you mean 'relu1'?"]),
        (["relu1=atc"], ["--map relu1=atc: the second run has no probed tap 'atc'; did you mean 'act'?"]),
        (["relu1=act", "relu=c"], ["--map relu=c: the tap 'relu1' is named twice"]),
        (["relu1=act", "conv=act"], ["--map conv=act: the tap 'act' is named twice"]),
        (["x=act", "y"], ["first run has no probed tap 'x'", "is no pair"]),
    ],
)
def test_taps_that_are_not_there_are_refused_all_at_once(texts, told):
    first, second = {"relu1": "relu", "conv": "conv"}, {"act": "act_q", "c": "y"}
    with pytest.raises(SpecError) as caught:
        taps_given(texts, first, second)
    assert [problem.code for problem in caught.value.problems] == ["PK-X35"] * len(told)
    for problem, text in zip(caught.value.problems, told, strict=True):
        assert text in str(problem)


def test_a_folder_that_is_no_run(runs, tmp_path):
    with pytest.raises(InputError):
        load_run(tmp_path / "nothing")
    folder = runs.write([runs.said("t", CODES)], {"f": CODES})
    assert load_run(folder / "results.json").result.name == "made"
    (folder / "predictions.safetensors").unlink()
    with pytest.raises(InputError) as caught:
        load_run(folder)
    assert caught.value.problems[0].code == "PK-X18"


def test_results_of_another_run_than_the_predictions(runs):
    one, other = (runs.write([runs.said(tap, CODES)], {"f": CODES}) for tap in ("t", "u"))
    (one / "results.json").write_bytes((other / "results.json").read_bytes())
    with pytest.raises(InputError, match="are of two runs: only the results have 'f' at 'u'") as caught:
        load_run(one)
    assert caught.value.problems[0].code == "PK-X30"


def test_a_run_without_probes(runs):
    with pytest.raises(InputError, match="has no probe"):
        runs([], {"f": CODES})


def test_the_test_split(runs):
    run = runs([runs.said("t", CODES)], {"f": CODES}, tests={"near": [0, 1], "far": [2, 3]})
    assert run.split(None) == "near"
    assert run.split("far") == "far"
    with pytest.raises(SpecError, match="has no test split 'fra'; did you mean 'far'"):
        run.split("fra")
    with pytest.raises(SpecError, match="has no test split 'valid'; test splits: far, near"):
        run.split("valid")


def test_a_redacted_run_tells_no_absolute_path(runs):
    spec = "probekit: 1\nmodel: {kind: onnx, path: /home/ann/nets/m.onnx}\n"
    folder = runs.write([runs.said("t", CODES)], {"f": CODES}, text=spec)
    run = load_run(folder, redact=True)
    assert run.directory == f"…/{folder.name}"
    assert "/home/ann" not in run.result.to_json()
    assert "…/m.onnx" in run.result.provenance["spec"]["text"]
    assert load_run(folder).directory == str(folder)
