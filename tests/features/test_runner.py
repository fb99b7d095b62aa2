"""What a model is fed: batches, padding, masks, rows that cannot be read, and threads that read ahead."""

import threading
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.components import Backend, Examples, Graph, InputBinding, IntArray, ModelInput
from probekit.errors import InputError, Problem
from probekit.features.runner import Runner, ahead


class Declared(Backend):
    """A model of which only its inputs are known."""

    kind: Literal["declared"] = "declared"
    declared: dict[str, list[int | None]]

    def signature(self) -> tuple[ModelInput, ...]:
        return tuple(ModelInput(name, tuple(shape), "float32") for name, shape in self.declared.items())

    def graph(self, example: Any = None) -> Graph:
        return Graph(())

    def open(self, taps: Any) -> Any:
        raise AssertionError("nothing is run")

    def fingerprint(self) -> str:
        return ""


class Fragile(Examples):
    """Some of its rows cannot be read."""

    def __init__(self, x: Any, bad: Any, **columns: Any) -> None:
        super().__init__(columns, {"x": x})
        self.bad = set(bad)

    def read(self, rows: IntArray) -> Any:
        broken = sorted(self.bad & set(rows.tolist()))
        if broken:
            raise InputError(*(Problem("PK-L18", f"row {row} is torn") for row in broken))
        return super().read(rows)


# --- batches ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 30), st.none() | st.integers(1, 12), st.integers(1, 12), st.integers(0, 3))
def test_batches_hold_the_rows_asked_in_order_filled_up_where_the_size_is_fixed(
    numpy_model, rows_of, count: int, fixed: int | None, batch_size: int, workers: int
) -> None:
    x = rows_of(40)
    runner = Runner(numpy_model({}, fixed, batch_size)[0], Examples({}, {"x": x}))
    order = np.random.default_rng(count).permutation(40)[:count]
    size = runner.batch_size
    assert size == (fixed or batch_size)
    parts = [order[start : start + size] for start in range(0, count, size)]
    batches = list(runner.batches(parts, workers=workers))
    assert [batch.rows.tolist() for batch in batches] == [part.tolist() for part in parts]
    for part, batch in zip(parts, batches, strict=True):
        filled = np.concatenate([part, np.full((fixed or 0) - len(part) if fixed else 0, part[-1])])
        np.testing.assert_array_equal(batch.feed["x"], x[filled])
        assert batch.bad == {}


def test_the_example_for_the_graph_holds_two_rows_or_as_many_as_the_model_fixes(numpy_model, rows_of) -> None:
    examples = Examples({}, {"x": rows_of(9)})
    for fixed, size in ((None, 2), (1, 1), (5, 5), (12, 12)):
        runner = Runner(numpy_model({}, fixed)[0], examples)
        assert runner.example(np.arange(9))["x"].shape == (size, 3)
    np.testing.assert_array_equal(runner.example(np.array([3]))["x"], rows_of(9)[[3] * 12])


@pytest.mark.parametrize(
    ("declared", "constant", "fixed"),
    [
        ({"x": [None, 3]}, [], None),
        ({"x": [7, 3]}, [], 7),
        ({"x": [None, 3], "y": [7, 3]}, [], 7),
        ({"state": [2, 7, 8], "x": [7, 3]}, ["state"], 7),
        ({"state": [2, None, 8], "x": [None, 3]}, ["state"], None),
        ({"rate": [], "x": [7, 3]}, ["rate"], 7),
    ],
)
def test_the_batch_size_that_a_model_fixes_is_that_of_what_the_dataset_feeds(
    rows_of, declared: dict[str, list[int | None]], constant: list[str], fixed: int | None
) -> None:
    bindings = {name: InputBinding(value=0) for name in constant}
    examples = Examples({}, {"x": rows_of(3), "y": rows_of(3)})
    assert Runner(Declared(declared=declared, inputs=bindings), examples).fixed_batch == fixed


def test_an_input_that_nothing_feeds_is_named(refused, rows_of) -> None:
    backend = Declared(declared={"x": [None, 3], "mask": [None, 3]})
    what = "model.inputs: the model's inputs 'mask' are fed nothing; the dataset has 'x', 'id'; "
    what += "type: inputs: {mask: {column: ...}}"
    assert refused(lambda: Runner(backend, Examples({}, {"x": rows_of(3)}))) == [("PK-M22", what)]


# --- masks ------------------------------------------------------------------------------------------------------------

MASK = np.array([[1, 1, 0], [1, 0, 0], [2, 2, 2], [0, 0, 0]])


@pytest.mark.parametrize("where", ["input", "column"])
def test_a_mask_is_an_input_or_a_column_and_keeps_what_is_not_zero(numpy_model, rows_of, where: str) -> None:
    x = rows_of(4)
    examples = Examples({"mask": MASK}, {"x": x}) if where == "column" else Examples({}, {"x": x, "mask": MASK})
    runner = Runner(numpy_model({})[0], examples)
    rows = np.array([3, 0])
    np.testing.assert_array_equal(runner.read(rows, ["mask"]).masks["mask"], MASK[rows] != 0)
    np.testing.assert_array_equal(runner.masks(rows, ["mask"])["mask"], MASK[rows] != 0)


def test_masks_are_filled_up_with_the_batch(numpy_model, rows_of) -> None:
    runner = Runner(numpy_model({}, fixed=4)[0], Examples({"mask": MASK}, {"x": rows_of(4)}))
    np.testing.assert_array_equal(runner.read(np.array([2, 1]), ["mask"]).masks["mask"], MASK[[2, 1, 1, 1]] != 0)


def test_a_mask_that_is_not_there_is_named_with_the_nearest(numpy_model, rows_of, refused) -> None:
    runner = Runner(numpy_model({})[0], Examples({"mask": MASK}, {"x": rows_of(4)}))
    assert refused(lambda: runner.masks(np.arange(2), ["maks"])) == [
        ("PK-L16", "no mask 'maks' in the data; did you mean 'mask'?")
    ]


@pytest.mark.parametrize(
    ("mask", "seen"),
    [(np.ones(4), "(4,) and float64"), (np.full((4, 3), "x"), "(4, 3) and <U1")],
    ids=["one number an example", "text"],
)
def test_a_mask_that_is_none_is_refused_with_what_it_is(numpy_model, rows_of, refused, mask: Any, seen: str) -> None:
    runner = Runner(numpy_model({})[0], Examples({"mask": mask}, {"x": rows_of(4)}))
    what = f"the mask 'mask' has shape {seen} values; a mask has one number per example and position"
    assert refused(lambda: runner.masks(np.arange(4), ["mask"])) == [("PK-M54", what)]


def test_a_mask_that_is_no_input_is_part_of_what_identifies_a_row(numpy_model, rows_of) -> None:
    other = MASK.copy()
    other[1, 2] = 1
    first, second = (Runner(numpy_model({})[0], Examples({"m": m}, {"x": rows_of(4)})) for m in (MASK, other))
    rows = np.arange(4)
    assert (first.digests(rows) == second.digests(rows)).all()
    changed = (first.digests(rows, ["m"]) != second.digests(rows, ["m"])).any(axis=1)
    assert changed.tolist() == [False, True, False, False]


# --- rows that cannot be read -----------------------------------------------------------------------------------------


def test_a_row_that_cannot_be_read_is_refused(numpy_model, rows_of, refused) -> None:
    runner = Runner(numpy_model({})[0], Fragile(rows_of(9), {4}))
    assert refused(lambda: runner.read(np.arange(3, 6))) == [("PK-L18", "row 4 is torn")]


def test_rows_that_cannot_be_read_are_left_out_with_the_reason(numpy_model, rows_of) -> None:
    runner = Runner(numpy_model({})[0], Fragile(rows_of(9), {4, 5}), skip_bad=True)
    batch = runner.read(np.array([6, 5, 4, 3]))
    assert batch.rows.tolist() == [6, 3]
    assert batch.bad == {5: "row 5 is torn", 4: "row 4 is torn"}
    np.testing.assert_array_equal(batch.feed["x"], rows_of(9)[[6, 3]])


def test_a_batch_without_a_readable_row_is_empty(numpy_model, rows_of) -> None:
    batch = Runner(numpy_model({}, fixed=4)[0], Fragile(rows_of(9), {4, 5}), skip_bad=True).read(np.array([4, 5]))
    assert (batch.rows.tolist(), dict(batch.feed), sorted(batch.bad)) == ([], {}, [4, 5])


def test_the_masks_of_a_batch_leave_the_same_rows_out(numpy_model, rows_of) -> None:
    runner = Runner(numpy_model({})[0], Fragile(rows_of(4), {1}, mask=MASK), skip_bad=True)
    np.testing.assert_array_equal(runner.read(np.arange(4), ["mask"]).masks["mask"], MASK[[0, 2, 3]] != 0)


def test_the_example_for_the_graph_leaves_out_what_cannot_be_read(numpy_model, rows_of) -> None:
    runner = Runner(numpy_model({})[0], Fragile(rows_of(9), range(6)), skip_bad=True)
    np.testing.assert_array_equal(runner.example(np.arange(9))["x"], rows_of(9)[[6, 7]])


def test_data_without_a_readable_row_is_refused(numpy_model, rows_of, refused) -> None:
    runner = Runner(numpy_model({})[0], Fragile(rows_of(9), range(9)), skip_bad=True)
    assert refused(lambda: runner.example(np.arange(9))) == [("PK-L18", "no example of 9 can be read")]


def test_rows_of_different_sizes_beside_a_bad_one_are_refused(numpy_model, refused) -> None:
    class Uneven(Fragile):
        def read(self, rows: IntArray) -> Any:
            super().read(rows)
            return {"x": np.zeros((len(rows), 2 + int(rows[0])), np.float32)}

    runner = Runner(numpy_model({})[0], Uneven(np.zeros((3, 3)), {1}), skip_bad=True)
    ((code, text),) = refused(lambda: runner.read(np.arange(3)))
    assert code == "PK-M20"
    assert text.startswith("examples of different sizes in one batch: ")


# --- reading ahead ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_their_tasks_whoever_is_first(workers: int) -> None:
    late = threading.Event()

    def read(task: int) -> int:
        if task == 0 and workers > 1:
            late.wait(30)  # the first task ends after the second one has
        late.set()
        return task * task

    assert list(ahead(read, range(20), workers)) == [n * n for n in range(20)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_is_raised_in_the_place_of_its_task(workers: int) -> None:
    def read(task: int) -> int:
        if task == 5:
            raise KeyError(task)
        return task

    results = ahead(read, range(20), workers)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(KeyError, match="5"):
        next(results)


@pytest.mark.parametrize(("workers", "most"), [(0, 1), (1, 3), (3, 4)])
def test_no_more_is_read_ahead_than_a_few_batches(workers: int, most: int) -> None:
    taken = []

    def tasks() -> Any:
        for task in range(50):
            taken.append(task)
            yield task

    for done, _ in enumerate(ahead(lambda task: task, tasks(), workers)):
        assert len(taken) <= done + most


@pytest.mark.parametrize("workers", [1, 3])
def test_who_stops_early_leaves_no_thread_behind(workers: int) -> None:
    before = threading.active_count()
    results = ahead(lambda task: task, range(1000), workers)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_the_next_batch_is_read_while_the_model_computes() -> None:
    reading = threading.Event()
    results = ahead(lambda task: reading.set() if task == 1 else None, range(9), 1)
    next(results)
    assert reading.wait(30)  # nobody has asked for the second one
