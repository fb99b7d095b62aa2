"""The label factor of yes/no labels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from probekit.data.targets import read_labels
from probekit.data.yes_no import MultilabelFactor

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]


def columns(**values: Any) -> dict[str, Any]:
    arrays = {name: np.asarray(value) for name, value in values.items()}
    count = len(next(iter(arrays.values())))
    return {"id": np.array([f"x{n}" for n in range(count)]), **arrays}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, False], [1, 0]),
        (np.array([1, 0], dtype=np.uint8), [1, 0]),
        ([1.0, 0.0], [1, 0]),
        (["yes", "No"], [1, 0]),
        (["TRUE", " false "], [1, 0]),
        (["1", "0"], [1, 0]),
        (np.array([b"yes", b"no"]), [1, 0]),
        (np.array([True, False, None], dtype=object), [1, 0, -1]),
        (np.array(["yes", "no", ""], dtype=object), [1, 0, -1]),
        ([1.0, 0.0, np.nan], [1, 0, -1]),
    ],
)
def test_answers_are_read(values: Any, expected: list[int]) -> None:
    labels = MultilabelFactor(columns=["a"]).label(columns(a=values))
    assert (labels.task, labels.classes) == ("multilabel", ("a",))
    assert labels.codes[:, 0].tolist() == expected


def test_labels_keep_the_order_of_the_spec_and_one_missing_answer_takes_the_row() -> None:
    labels = MultilabelFactor(columns=["b", "a"]).label(columns(a=["yes", "", "no"], b=["no", "no", "yes"]))
    assert labels.classes == ("b", "a")
    assert labels.codes.tolist() == [[0, 1], [-1, -1], [1, 0]]
    assert labels.known().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["yes", "maybe", "no"], "'maybe' at example 'x1'"),
        (["yes", "a", "b", "a", "c"], "'a' at example 'x1' and 2 other values"),
        ([0, 1, 2], "'2' at example 'x2'"),
        ([0.0, 0.5, 1.0], "'0.5' at example 'x1'"),
        ([0.0, np.inf], "'inf' at example 'x1'"),
        (["nan", "yes"], "'nan' at example 'x0'"),
        (np.array(["2020-01-02"], dtype="datetime64[D]"), "'2020-01-02' at example 'x0'"),
        (np.array([[1], "yes"], dtype=object), "'[1]' at example 'x0'"),
    ],
)
def test_another_value_is_refused_with_its_first_example(values: Any, shown: str, refused: Refused) -> None:
    factor = MultilabelFactor(columns=["a"])
    hint = "write yes or no, true or false, 1 or 0; or use kind: column"
    message = f"column 'a' holds {shown}, which is neither yes nor no; {hint}"
    assert refused(lambda: factor.label(columns(a=values))) == [("PK-L25", message)]


def test_the_faults_of_all_columns_are_told_at_once(refused: Refused) -> None:
    factors = {"tags": MultilabelFactor(columns=["a", "absent", "b"])}
    problems = refused(lambda: read_labels(factors, columns(a=["yes", "x"], b=["z", "no"])))
    assert [code for code, _ in problems] == ["PK-L25", "PK-L16", "PK-L25"]
    assert all(message.startswith("labels.tags: ") for _, message in problems)


def test_missing_rows_are_refused_or_dropped(refused: Refused) -> None:
    given_columns = columns(a=["yes", "", "no"], b=["no", "no", "yes"])
    message = "labels.tags: 1 of 3 examples have no label, the first: 'x1'; mend them, or set missing: drop"
    factors = {"tags": MultilabelFactor(columns=["a", "b"])}
    assert refused(lambda: read_labels(factors, given_columns)) == [("PK-L06", message)]
    labels = read_labels({"tags": MultilabelFactor(columns=["a", "b"], missing="drop")}, given_columns)
    assert labels["tags"].known().tolist() == [True, False, True]


def test_columns_are_needed_once_each() -> None:
    for given_columns in ([], ["a", "b", "a"]):
        with pytest.raises(ValidationError):
            MultilabelFactor(columns=given_columns)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), st.sampled_from(["text", "number"]))
def test_any_answers_come_back(rows: list[tuple[bool, bool]], style: str) -> None:
    table = np.array(rows)
    written = np.where(table, "yes", "no") if style == "text" else table.astype(float)
    labels = MultilabelFactor(columns=["a", "b"]).label(columns(a=written[:, 0], b=written[:, 1]))
    assert labels.codes.tolist() == table.astype(int).tolist()
