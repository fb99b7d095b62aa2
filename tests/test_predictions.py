"""Predictions: in memory as in the file, row by row."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from probekit.errors import InputError
from probekit.predictions import (
    FILE,
    OutputIdentity,
    Predictions,
    control_label_name,
    identity_of,
    label_name,
    load_predictions,
    text_tensor,
)
from probekit.results import CertificateRecord, ProbeIdentity, ProbeResult

WHOSE = {
    "model": "m", "checkpoint": "late", "tap": "t", "reduction": "r", "factor": "f", "probe": "p", "control": None,
    "seed": 0,
}  # fmt: skip
OWN = {"model": "m", "checkpoint": "late", "output": "logits", "factor": "f"}


def fields(**changes):
    """Return the predictions of five feature rows."""
    return {
        "ids": np.array(["a", "a", "b", "ü", "ü"], dtype=object), "groups": None,
        "parts": {"train": np.array([0, 1]), "valid": np.array([2]), "test": np.array([3, 4])},
        "labels": {"f": np.array([0, 1, 0, -1, 1])}, "predictions": {"0": np.array([0, 0, 0, 1, 1])},
        "losses": {"0": np.array([0.5, 1.0, 0.25, np.nan, 2.0])}, "keys": {"0": WHOSE},
    } | changes  # fmt: skip


def written(folder, **changes):
    """Write them; return the tensors and the facts."""
    Predictions.of(**fields(**changes)).write(folder / FILE)
    with safe_open(folder / FILE, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["probekit"])  # noqa: SIM118


def assert_same(one, other):
    assert (one.splits, one.over) == (other.splits, other.over)
    pairs = [
        (getattr(one, name), getattr(other, name))
        for name in ("ids", "groups", "positions", "split", "units", "members")
    ]
    for name in ("labels", "predicted", "losses"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert list(mine) == list(theirs) if name != "labels" else mine.keys() == theirs.keys()
        pairs += [(mine[key], theirs[key]) for key in mine]
    for mine, theirs in pairs:
        if mine is None or theirs is None:
            assert mine is theirs
            continue
        assert mine.dtype.kind == theirs.dtype.kind
        assert mine.dtype == theirs.dtype or mine.dtype.kind == "U"
        np.testing.assert_array_equal(mine, theirs)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_predictions_come_back_row_by_row(tmp_path):
    tensors, facts = written(tmp_path)
    assert sorted(tensors) == ["id", "label.f", "loss.0", "predicted.0", "split"]
    assert [bytes(row).rstrip(b"\0").decode() for row in tensors["id"]] == ["a", "a", "b", "ü", "ü"]
    assert [facts["splits"][number] for number in tensors["split"]] == ["train", "train", "valid", "test", "test"]
    assert tensors["label.f"].tolist() == [0, 1, 0, -1, 1]
    assert tensors["predicted.0"].tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(tensors["loss.0"], np.array([0.5, 1.0, 0.25, np.nan, 2.0], dtype=np.float32))
    assert (facts["schema_version"], facts["predictions"]) == (1, {"0": WHOSE})


def test_answers_and_numbers_come_back_in_their_own_types(tmp_path):
    answers, numbers = np.array([[0, 1], [1, 1], [0, 0], [-1, -1], [1, 0]]), np.array([0.5, 1, 2, np.nan, 4])
    tensors, _ = written(
        tmp_path,
        labels={"tags": answers, "snr": numbers},
        predictions={"0": answers, "1": numbers.astype(np.float32)},
        losses={"0": np.zeros((5, 2)), "1": numbers},
        keys={"0": WHOSE | {"factor": "tags"}, "1": WHOSE | {"factor": "snr"}},
    )
    assert (tensors["label.tags"].dtype, tensors["label.tags"].tolist()) == (np.int32, answers.tolist())
    assert tensors["loss.0"].shape == (5, 2)
    for name in ("label.snr", "predicted.1", "loss.1"):
        np.testing.assert_array_equal(tensors[name], numbers.astype(np.float32))


def test_where_rows_are_positions_each_rows_position_is_told(tmp_path):
    tensors, _ = written(tmp_path, positions=np.array([0, 3, 7, 0, 1]))
    assert (tensors["position"].tolist(), tensors["position"].dtype) == ([0, 3, 7, 0, 1], np.int32)


def test_groups_stand_beside_their_rows(tmp_path):
    tensors, _ = written(tmp_path, groups=np.array(["g", "g", "h", "", "k"]))
    assert [bytes(row).rstrip(b"\0").decode() for row in tensors["group"]] == ["g", "g", "h", "", "k"]


def test_the_same_predictions_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, positions=np.arange(5))
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9), max_size=20))
def test_text_comes_back_from_bytes(values):
    tensor = text_tensor(np.array(values, dtype=object))
    assert tensor.dtype == np.uint8
    assert [bytes(row).rstrip(b"\0").decode() for row in tensor] == values


# --- from the file and from memory ------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.floats(-1e6, 1e6) | st.just(float("nan"))


@st.composite
def runs(draw):
    """Draw what a run of a few rows holds: some factors of any task, one of them controlled, and a model's output."""
    count = draw(st.integers(0, 8))
    rows = np.arange(count)
    split = np.array(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)), dtype=int)
    texts = st.lists(TEXTS, min_size=count, max_size=count).map(lambda some: np.array(some, dtype=object))
    labels, predictions, losses, keys = {}, {}, {}, {}
    for factor in draw(st.lists(st.sampled_from(["f", "g.h", "ü"]), unique=True)):
        task = draw(st.sampled_from(["classes", "multilabel", "number"]))
        control = draw(st.none() | st.just("control_task by word"))
        shape = (count, 3) if task == "multilabel" else (count,)
        size = int(np.prod(shape))

        def some(values, shape=shape, size=size):
            return np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype=float).reshape(shape)

        key = str(len(keys))
        keys[key] = WHOSE | {"factor": factor, "control": control, "seed": 3}
        labels[label_name(factor, control, 3)] = some(NUMBERS if task == "number" else st.integers(-1, 2))
        predictions[key] = some(NUMBERS if task == "number" else st.integers(0, 2))
        if task != "number":
            labels[label_name(factor, control, 3)] = labels[label_name(factor, control, 3)].astype(int)
            predictions[key] = predictions[key].astype(int)
        losses[key] = some(NUMBERS)
    if draw(st.booleans()):
        keys[str(len(keys))] = OWN
        predictions[str(len(predictions))] = rows % 2
    return {
        "ids": draw(texts), "groups": draw(st.none() | texts), "labels": labels, "predictions": predictions,
        "parts": {name: np.flatnonzero(split == number) for number, name in enumerate(["train", "valid", "held out"])},
        "losses": losses, "keys": keys, "positions": draw(st.none() | st.just(rows * 2)),
    }  # fmt: skip


@given(runs())
def test_what_is_loaded_is_what_was_in_memory(tmp_path_factory, run):
    folder = tmp_path_factory.mktemp("run")
    held = Predictions.of(**run)
    held.write(folder / FILE)
    assert_same(held, load_predictions(folder))


def test_a_run_is_found_by_its_name_as_text_too(tmp_path):
    written(tmp_path)
    assert_same(load_predictions(str(tmp_path)), Predictions.of(**fields()))


def test_predictions_and_losses_are_found_by_whose_they_are():
    held = Predictions.of(
        **fields(keys={"0": WHOSE, "1": OWN}, predictions={"0": np.array([0, 0, 0, 1, 1]), "1": np.arange(5) - 1})
    )
    error = dict.fromkeys(("train", "valid", "test"), 0.5)
    result = ProbeResult(
        **WHOSE, scores={"error": error}, primary="error", error=error, penalty=1.0, features_raw=1, features_used=1,
        rows={}, seconds=0.0,
        certificate=CertificateRecord(status="missed", gap=None, of_chance=None, of_objective=None),
    )  # fmt: skip
    assert identity_of(result) == ProbeIdentity(**WHOSE)
    assert held.predicted[identity_of(result)].tolist() == [0, 0, 0, 1, 1]
    assert held.losses[ProbeIdentity(**WHOSE)][:3].tolist() == [0.5, 1.0, 0.25]
    assert held.predicted[OutputIdentity(**OWN)].tolist() == [-1, 0, 1, 2, 3]
    assert OutputIdentity(**OWN) not in held.losses


def test_two_predictions_of_one_probe_are_refused():
    both = {"0": np.zeros(5, int), "1": np.zeros(5, int)}
    with pytest.raises(ValueError, match="two predictions are of one probe"):
        Predictions.of(**fields(keys={"0": WHOSE, "1": WHOSE}, predictions=both, losses=both))


@pytest.mark.parametrize("key", [{"model": "m"}, WHOSE | {"more": 1}, {}])
def test_a_key_that_is_no_identity_is_refused(key):
    with pytest.raises(ValueError, match="validation error"):
        Predictions.of(**fields(keys={"0": key}))


# --- rows and units ---------------------------------------------------------------------------------------------------


def test_the_rows_of_a_split_are_those_with_a_label():
    answers, numbers = np.array([[0, 1], [1, 1], [0, 0], [-1, -1], [1, 0]]), np.array([0.5, 1, np.nan, np.nan, 4])
    shuffled = np.array([1, -1, 0, 1, 0])
    name = control_label_name("f", "shuffled_labels", 2)
    held = Predictions.of(
        **fields(labels={"f": np.array([0, 1, 0, -1, 1]), "t": answers, "n": numbers, name: shuffled})
    )
    found = {(split, factor): held.rows(split, factor).tolist() for split in held.splits for factor in ("f", "t", "n")}
    assert found == {
        ("train", "f"): [0, 1], ("valid", "f"): [2], ("test", "f"): [4],
        ("train", "t"): [0, 1], ("valid", "t"): [2], ("test", "t"): [4],
        ("train", "n"): [0, 1], ("valid", "n"): [], ("test", "n"): [4],
    }  # fmt: skip
    assert held.rows("train", "f", "shuffled_labels", 2).tolist() == [0]
    assert held.codes("f", "shuffled_labels", 2).tolist() == shuffled.tolist()
    assert [held.task(factor) for factor in ("f", "t", "n")] == ["classes", "multilabel", "number"]
    with pytest.raises(KeyError):
        held.rows("train", "f", "shuffled_labels", 1)
    with pytest.raises(ValueError, match="not in tuple"):
        held.rows("held out", "f")


def test_rows_of_several_splits_are_in_each_of_them(tmp_path):
    parts = {"train": np.array([0, 1, 2]), "valid": np.array([0, 1, 2]), "test": np.array([1, 3, 4])}
    tensors, _ = written(tmp_path, parts=parts)
    assert tensors["member"].tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 1]]
    for held in (load_predictions(tmp_path), Predictions.of(**fields(parts=parts))):
        found = {split: held.rows(split, "f").tolist() for split in parts}
        assert found == {"train": [0, 1, 2], "valid": [0, 1, 2], "test": [1, 4]}
    save_file({**tensors, "member": tensors["member"][:, :2]}, tmp_path / FILE, {"probekit": _facts(tmp_path)})
    with pytest.raises(InputError, match="member has shape"):
        load_predictions(tmp_path)


def _facts(folder):
    with safe_open(folder / FILE, framework="numpy") as file:
        return file.metadata()["probekit"]


def test_the_first_test_split_is_the_first_that_is_neither_train_nor_valid():
    order = ["near", "train", "far", "valid"]
    held = Predictions.of(**fields(parts={name: np.array([number]) for number, name in enumerate(order)}))
    assert held.first_test == "near"


@pytest.mark.parametrize(
    ("groups", "units", "over"),
    [
        (None, [0, 0, 1, 2, 2], "examples"),
        (["a", "a", "b", "ü", "ü"], [0, 0, 1, 2, 2], "examples"),  # where rows are positions of examples
        (["h", "g", "g", "", "h"], [2, 1, 1, 0, 2], "groups"),
        ([3.0, 3.0, 1.0, 1.0, 2.0], [2, 2, 0, 0, 1], "groups"),
    ],
)
def test_rows_of_one_group_are_one_unit_and_else_those_of_one_example(groups, units, over):
    held = Predictions.of(**fields(groups=None if groups is None else np.array(groups)))
    assert (held.units.tolist(), held.over) == (units, over)


# --- files that cannot be read ----------------------------------------------------------------------------------------


def refused(folder):
    with pytest.raises(InputError) as caught:
        load_predictions(folder)
    (problem,) = caught.value.problems
    assert problem.code == "PK-X18"
    assert problem.hint
    return str(problem)


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_predictions_says_what_to_name(tmp_path, made):
    folder = tmp_path if made else tmp_path / "none"
    text = refused(folder)
    assert text.startswith(f"no predictions: there is no '{folder / FILE}'; name a run directory")


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_file_that_was_cut_off_is_refused(tmp_path, size):
    written(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:size])
    assert "is damaged or of another version" in refused(tmp_path)


def _without(name):
    return lambda tensors, facts: tensors.pop(name)


DAMAGES = {
    "no tensor of the ids": (_without("id"), "there is no tensor 'id'"),
    "no tensor of a loss": (_without("loss.0"), "there is no tensor 'loss.0'"),
    "one row less": (lambda t, f: t.update({"label.f": t["label.f"][1:]}), "label.f has 4 rows, split has 5"),
    "a split too many": (lambda t, f: t.update(split=np.array([0, 1, 2, 3, 0], np.uint8)), "row 3 is in no split"),
    "ids that are numbers": (lambda t, f: t.update(id=np.arange(5)), "text of type int64"),
    "ids of no bytes": (lambda t, f: t.update(id=np.zeros((5, 0), np.uint8)), "text of type uint8 and shape (5, 0)"),
    "ids that are no text": (lambda t, f: t.update(id=np.full((5, 2), 255, np.uint8)), "codec can't decode"),
    "another version": (lambda t, f: f.update(schema_version=2), "validation error"),
    "a probe without a tap": (lambda t, f: f["predictions"]["0"].pop("tap"), "validation error"),
    "two of one probe": (lambda t, f: f["predictions"].update({"1": WHOSE}), "there is no tensor 'predicted.1'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_does_not_fit_together_is_refused(tmp_path, damage):
    tensors, facts = written(tmp_path)
    change, reason = DAMAGES[damage]
    change(tensors, facts)
    save_file(tensors, tmp_path / FILE, {"probekit": json.dumps(facts)})
    assert reason in refused(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"other": "{}"}, {"probekit": "{"}, {"probekit": "[]"}])
def test_a_file_without_its_facts_is_refused(tmp_path, metadata):
    written(tmp_path)
    save_file(load_file(tmp_path / FILE), tmp_path / FILE, metadata)
    refused(tmp_path)


def test_a_folder_in_the_place_of_the_file_is_no_file(tmp_path):
    (tmp_path / FILE).mkdir()
    assert "no predictions" in refused(tmp_path)


# --- as a run holds them ----------------------------------------------------------------------------------------------


def test_groups_of_a_question_are_those_of_its_predictions():
    from probekit.components import Examples, Labels, Target
    from probekit.data.question import Question

    places = {"train": np.array([0, 1, 2]), "valid": np.array([3]), "test": np.array([4, 5])}
    columns = {"id": np.array(["x", "y", "z"]), "who": np.array([2, 1, 2])}
    codes = np.array([0, 1, 0, 1, 0, 1])
    target = Target("f", ("no", "yes"), codes, places["train"], places["valid"])
    question = Question(
        Examples(columns, {}), {"f": Labels(target.classes, codes)}, {}, np.arange(3), [target],
        owners=np.array([0, 0, 1, 1, 2, 2]), positions=np.array([0, 1, 0, 1, 0, 1]), places=places, group="who",
    )  # fmt: skip
    measured = SimpleNamespace(predicted={"0": codes}, losses={"0": codes * 0.5}, keys={"0": WHOSE})
    held = Predictions.of(
        question.column("id"), question.column("who"), question.places, {"f": codes}, measured.predicted,
        measured.losses, measured.keys, question.positions,
    )  # fmt: skip
    np.testing.assert_array_equal(held.units[:, None] == held.units, question.units[:, None] == question.units)
    for split in places:
        np.testing.assert_array_equal(held.rows(split, "f"), question.within(split, target))
