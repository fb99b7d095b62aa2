"""The model's own error, with its entries mapped to a factor's classes."""

import numpy as np
import pytest

from probekit.components import Labels, ModelOutput
from probekit.errors import InputError
from probekit.probes.model_scores import classes_of_output, number_of_output, predict, score_model


def labels(*classes):
    return Labels(classes, np.arange(len(classes)))


def told(**output):
    return ModelOutput(factor="f", **output)


def test_integers_are_the_entries_own_numbers():
    mapped = classes_of_output(told(), labels("0", "2"), 4)
    assert mapped.tolist() == [0, -1, 1, -1]


def test_sorted_is_the_factors_own_order():
    assert classes_of_output(told(classes="sorted"), labels("cat", "dog"), 2).tolist() == [0, 1]


def test_a_list_names_each_entry():
    assert classes_of_output(told(classes=["dog", "sky", "cat"]), labels("cat", "dog"), 3).tolist() == [1, -1, 0]


def test_a_file_names_one_class_a_line(tmp_path):
    (tmp_path / "names.txt").write_text("dog\n\ncat\n")
    output = told(classes_file=str(tmp_path / "names.txt"))
    assert classes_of_output(output, labels("cat", "dog"), 3).tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("output", "classes", "entries", "message"),
    [
        (told(), ("cat", "dog"), 2, "the classes 'cat', 'dog' are no positions in an output of 2 entries"),
        (told(), ("0", "7"), 5, "the classes '7' are no positions in an output of 5 entries"),
        (told(classes="sorted"), ("cat", "dog"), 3, "2 classes for an output of 3 entries"),
        (
            told(classes=["a", "b"]),
            ("cat", "dog"),
            2,
            "no class of the output 'a', 'b' is one of the factor's 'cat', 'dog'",
        ),
    ],
)
def test_classes_that_cannot_be_mapped_are_refused(output, classes, entries, message):
    with pytest.raises(InputError) as caught:
        classes_of_output(output, labels(*classes), entries)
    (problem,) = caught.value.problems
    assert (problem.code, problem.what, problem.field) == ("PK-L24", message, "model.output.classes")


def test_an_entry_of_no_class_is_a_wrong_prediction():
    output = np.array([[3, 1, 0], [0, 9, 1], [0, 1, 8]], dtype=np.float32)
    mapped = np.array([0, -1, 1])
    assert predict(output, mapped).tolist() == [0, -1, 1]
    scores = score_model(output, mapped, np.array([0, 1, 1]))
    assert scores["error"] == pytest.approx(1 / 3)
    assert scores["balanced_error"] == pytest.approx((0 + 1 / 2) / 2)


def test_several_entries_may_mean_one_class():
    output = np.eye(8, dtype=np.float32)
    mapped = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    codes = np.array([0, 0, 0, 0, 1, 1, 1, 0])
    assert score_model(output, mapped, codes)["error"] == pytest.approx(1 / 8)


def test_an_output_of_one_entry_is_a_number():
    assert number_of_output(np.array([[0.5], [2.0]], dtype=np.float32), "f").tolist() == [0.5, 2.0]


def test_what_an_argmax_does_not_tell_is_refused():
    with pytest.raises(InputError) as caught:
        number_of_output(np.zeros((2, 3), np.float32), "snr")
    assert caught.value.problems[0].what == "an output of 3 entries for the number 'snr'"
    with pytest.raises(InputError) as caught:
        classes_of_output(told(), Labels(("a", "b"), np.zeros((2, 2), int), "multilabel"), 2)
    assert caught.value.problems[0].what == "the factor 'f' has yes/no labels, which an argmax does not tell"
