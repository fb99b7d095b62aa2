"""Extraction against NumPy over all rows at once: what is extracted, kept, never extracted again, and refused."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.components import Examples, IntArray, Tap, Wanted
from probekit.errors import InputError, MachineError, ProbekitWarning, Problem
from probekit.features import plan
from probekit.features.extraction import Extraction, Interrupted, StopRequest
from probekit.features.runner import Runner
from probekit.steps import BatchFirst, Flatten, Max, Mean, Positions, Take
from probekit.store.feature_store import FeatureStore

IMAGE: dict[str, Callable[[Any], Any]] = {
    "wide": lambda x: np.stack([x, 2 * x, x * x], axis=2).reshape(len(x), 3, 3, 1),
    "narrow": lambda x: x[:, :2].astype(np.float64),
    "logits": np.sin,
}
INPUT = Wanted(Tap("x", "Input", (3,), "float32"), (Flatten(),), 3)


def by_hand(x: Any) -> list[Any]:
    """What POOLED, FLAT and NARROW are of rows."""
    wide = IMAGE["wide"](x)
    return [wide.mean(axis=(2, 3)), wide.reshape(len(x), 9), x[:, :2]]


@pytest.fixture(scope="module")
def image(wanted) -> list[Wanted]:
    """A tap under two reductions, and another one."""
    return [
        wanted("wide", (3, 3, 1), (Mean((2, 3)), Flatten()), 3),
        wanted("wide", (3, 3, 1), (Flatten(),), 9),
        wanted("narrow", (2,), (Flatten(),), 2),
    ]


def opened(path: Path) -> FeatureStore:
    store = FeatureStore(path, durability="fast")
    store.prepare()
    return store


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return opened(tmp_path / "store")


def extraction(backend: Any, wanted: Sequence[Wanted], x: Any, store: FeatureStore, **more: Any) -> Extraction:
    """Ask for features of some rows; ``x`` are arrays, or opened examples."""
    examples = x if isinstance(x, Examples) else Examples({}, {"x": x})
    rows = more.pop("rows", np.arange(len(examples)))
    runner = Runner(backend, examples, skip_bad=more.pop("skip_bad", False))
    labels = [f"{one.tap.name} {number}" for number, one in enumerate(wanted)]
    return Extraction("m", runner, wanted, labels, np.asarray(rows), store, **more)


def run_over(seen: list[Any]) -> int:
    """Return how many rows a model was fed, beside those of the check of the first batch; forget them."""
    rows = sum(map(len, seen[2:]))
    seen.clear()
    return rows


# --- what is extracted ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 30), st.integers(1, 12), st.none() | st.integers(1, 12), st.integers(1, 20), st.integers(0, 2),
    st.randoms(use_true_random=False),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::probekit.errors.ProbekitWarning")  # a fixed size below batch_size is told
def test_features_are_those_of_all_rows_at_once(
    numpy_model, rows_of, image, count: int, batch_size: int, fixed: int | None, most: int, workers: int, random: Any
) -> None:
    x = rows_of(40)
    order = np.array(random.sample(range(40), count))
    backend, seen = numpy_model(IMAGE, fixed, batch_size)
    told: list[tuple[str, int, int]] = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MOST_ROWS", most)
        asked = extraction(backend, image, x, opened(Path(folder)), rows=order, workers=workers)
        asked.run(lambda *step: told.append(step))
        for number, truth in enumerate(by_hand(x[order])):
            matrix = asked.matrix(number)
            assert matrix.shape == truth.shape
            np.testing.assert_allclose(np.asarray(matrix), truth, rtol=1e-6, atol=1e-6)
            assert (matrix.counts == 1).all()
    size = fixed or batch_size
    assert {len(one) for one in seen[2:]} <= ({size} if fixed else set(range(1, size + 1)))
    assert told[-1] == ("m: forward", count, count)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


def test_the_same_row_twice_has_the_same_features(numpy_model, rows_of, image, store) -> None:
    x = rows_of(3)
    asked = extraction(numpy_model(IMAGE)[0], image, x, store, rows=[2, 0, 2])
    asked.run()
    np.testing.assert_allclose(np.asarray(asked.matrix(1)), by_hand(x[[2, 0, 2]])[1], rtol=1e-6)


def test_a_model_for_one_example_is_run_row_by_row_with_a_warning(numpy_model, rows_of, image, store) -> None:
    backend, seen = numpy_model(IMAGE, fixed=1, batch_size=64)
    asked = extraction(backend, image, rows_of(3), store)
    with pytest.warns(ProbekitWarning, match="^the model takes exactly 1 examples at a time, not batch_size 64$"):
        asked.run()
    assert {len(one) for one in seen} == {1}
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), by_hand(rows_of(3))[0], rtol=1e-6)


def test_what_is_wanted_twice_is_extracted_once(numpy_model, rows_of, image, store) -> None:
    asked = extraction(numpy_model(IMAGE)[0], [image[0], image[2], image[0]], rows_of(5), store)
    asked.run()
    assert len(store.entries()) == 2
    for number, truth in enumerate([0, 2, 0]):
        np.testing.assert_allclose(np.asarray(asked.matrix(number)), by_hand(rows_of(5))[truth], rtol=1e-6)


def test_a_time_first_tap_is_reduced_along_its_steps(numpy_model, rows_of, wanted, store) -> None:
    """As an LSTM of PyTorch gives it: (steps, examples, channels)."""
    backend, _ = numpy_model({"lstm": lambda x: np.stack([x, 3 * x])})
    asked = extraction(backend, [wanted("lstm", (2, 3), (BatchFirst(1), Mean((1,))), 3)], rows_of(9), store)
    asked.run()
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), 2 * rows_of(9), rtol=1e-6)


def test_how_far_a_second_pass_is_apart_is_kept_with_the_features(numpy_model, rows_of, image, store) -> None:
    def twice() -> Extraction:
        return extraction(backend, image, rows_of(5), store)

    backend, _ = numpy_model(IMAGE)
    twice().run()
    assert twice().checks() == {"second_pass": {"wide": 0.0, "narrow": 0.0}}


# --- what is not extracted again --------------------------------------------------------------------------------------


@pytest.fixture
def filled(numpy_model, rows_of, image, store) -> SimpleNamespace:
    """A store that holds the pooled and the narrow tap of 20 rows, and what was fed since then."""
    backend, seen = numpy_model(IMAGE)
    extraction(backend, [image[0], image[2]], rows_of(20), store).run()
    assert run_over(seen) == 20
    return SimpleNamespace(backend=backend, seen=seen, x=rows_of(20), wanted=[image[0], image[2]], store=store)


def again(filled: SimpleNamespace, **changes: Any) -> Extraction:
    """Ask as ``filled`` did, with changes, and see that the features are right."""
    to = {**vars(filled), **changes}
    more = {name: value for name, value in changes.items() if name not in vars(filled)}
    asked = extraction(to["backend"], to["wanted"], to["x"], to["store"], **more)
    asked.run()
    return asked


def test_a_second_run_runs_no_model(filled) -> None:
    np.testing.assert_allclose(np.asarray(again(filled).matrix(0)), by_hand(filled.x)[0], rtol=1e-6)
    assert filled.seen == []


@pytest.mark.parametrize("rows", [[3, 1, 2], list(range(20))[::-1], [5, 5]], ids=["some", "reversed", "one twice"])
def test_other_rows_of_the_same_data_run_no_model(filled, rows: list[int]) -> None:
    asked = again(filled, rows=rows)
    assert filled.seen == []
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), by_hand(filled.x[rows])[0], rtol=1e-6)


@pytest.mark.parametrize("change", [{"batch_size": 7}, {"output": None}], ids=str)
def test_another_way_of_running_the_model_runs_no_model(filled, change: dict[str, Any]) -> None:
    again(filled, backend=filled.backend.model_copy(update=change))
    assert filled.seen == []


def test_a_store_that_was_moved_is_the_same_store(filled, tmp_path) -> None:
    moved = tmp_path / "elsewhere" / "with spaces and ä"
    moved.parent.mkdir()
    shutil.move(filled.store.root, moved)
    again(filled, store=opened(moved))
    assert filled.seen == []


def test_a_new_reduction_of_a_tap_is_extracted_alone(filled, image) -> None:
    before = {entry.key for entry in filled.store.entries()}
    asked = extraction(filled.backend, image, filled.x, filled.store)
    assert [job.sets for job in asked.jobs()] == [(1,)]
    asked.run()
    assert run_over(filled.seen) == 20
    assert len({entry.key for entry in filled.store.entries()} - before) == 1
    for number, truth in enumerate(by_hand(filled.x)):
        np.testing.assert_allclose(np.asarray(asked.matrix(number)), truth, rtol=1e-6)


def test_a_row_that_changed_is_extracted_alone(filled) -> None:
    x = filled.x.copy()
    x[7] += 1
    asked = again(filled, x=x)
    np.testing.assert_array_equal(np.concatenate(filled.seen[2:]), x[[7]])
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), by_hand(x)[0], rtol=1e-6)


def test_rows_that_were_added_are_extracted_alone(filled, rows_of) -> None:
    again(filled, x=np.concatenate([filled.x, rows_of(3, seed=1)]))
    assert run_over(filled.seen) == 3


def test_other_weights_are_extracted_again(filled, numpy_model) -> None:
    other, seen = numpy_model(IMAGE)
    again(filled, backend=other)
    assert run_over(seen) == 20


def test_another_dtype_on_disk_is_extracted_again(filled) -> None:
    asked = again(filled, dtype="bfloat16")
    assert run_over(filled.seen) == 20
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), by_hand(filled.x)[0], rtol=2**-8)


def test_a_models_input_is_read_without_the_model_and_shared_with_others(numpy_model, rows_of, store) -> None:
    x = rows_of(9)
    for _ in range(2):
        backend, seen = numpy_model({})
        asked = extraction(backend, [INPUT], x, store)
        asked.run()
        np.testing.assert_array_equal(np.asarray(asked.matrix(0)), x)
        assert seen == []
    assert [(entry.rows, entry.ranges) for entry in store.entries()] == [(9, 1)]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_shard_is_extracted_again_with_the_tap_that_it_was_extracted_with(filled, image) -> None:
    """Another set of taps is another graph, with other last bits."""
    shards = sorted(filled.store.root.glob("features/*/*/*.safetensors"))
    flip_a_bit(shards[0])
    asked = extraction(filled.backend, filled.wanted, filled.x, opened(filled.store.root))
    with pytest.warns(ProbekitWarning, match=r"are damaged: .*; its 20 examples are extracted again"):
        jobs = asked.jobs()
    assert [(job.sets, len(job.rows)) for job in jobs] == [((0, 1), 20)]
    asked.run()
    assert run_over(filled.seen) == 20
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), by_hand(filled.x)[0], rtol=1e-6)


# --- when it ends early -----------------------------------------------------------------------------------------------


@pytest.fixture
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of 8 examples."""
    monkeypatch.setattr(plan, "MOST_ROWS", 8)


@pytest.mark.usefixtures("short_ranges")
def test_a_request_to_stop_is_heeded_after_the_range_and_the_next_run_goes_on(
    numpy_model, rows_of, image, store
) -> None:
    backend, seen = numpy_model(IMAGE)
    stop = StopRequest()
    heeded = []

    def tell(_: str, done: int, total: int) -> None:
        heeded.append(stop.heeded)
        stop.asked = done >= 12  # in the middle of the second range

    with pytest.raises(Interrupted):
        extraction(backend, image, rows_of(40), store).run(tell, stop)
    assert set(heeded) == {True}
    assert not stop.heeded
    assert run_over(seen) == 16
    asked = extraction(backend, image, rows_of(40), store)
    assert [job.rows[0] for job in asked.jobs()] == [16, 24, 32]
    asked.run()
    assert run_over(seen) == 24
    np.testing.assert_allclose(np.asarray(asked.matrix(1)), by_hand(rows_of(40))[1], rtol=1e-6)


@pytest.mark.usefixtures("short_ranges")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_row_that_cannot_be_read_costs_its_range_only(numpy_model, rows_of, image, store, workers: int) -> None:
    backend, _ = numpy_model(IMAGE)
    torn = Torn(rows_of(40), {30})
    asked = extraction(backend, image, torn, store, workers=workers)
    with pytest.raises(InputError, match="row 30 is torn"):
        asked.run()
    torn.bad.clear()
    assert [job.rows[0] for job in extraction(backend, image, torn, store).jobs()] == [24, 32]


def test_who_does_not_wait_is_told_that_another_extracts(numpy_model, rows_of, image, store) -> None:
    backend, seen = numpy_model(IMAGE)
    asked = extraction(backend, image, rows_of(5), store)
    with store.lock(f"numpy:{backend.fingerprint()}", waiting=print), pytest.raises(MachineError) as caught:
        asked.run(lock_timeout=0)
    assert [problem.code for problem in caught.value.problems] == ["PK-R09"]
    assert seen == []


def test_what_another_process_wrote_meanwhile_is_not_extracted(numpy_model, rows_of, image, store) -> None:
    backend, seen = numpy_model(IMAGE)
    asked = extraction(backend, image, rows_of(5), store)
    extraction(backend, image, rows_of(5), store).run()
    assert run_over(seen) == 5
    asked.run()
    assert seen == []
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), by_hand(rows_of(5))[0], rtol=1e-6)


def test_a_disk_that_is_too_small_is_told_before_the_model_runs(
    numpy_model, rows_of, wanted, store, monkeypatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 << 30))
    backend, seen = numpy_model(IMAGE)
    asked = extraction(backend, [wanted("wide", (2**28,), (Flatten(),), 2**28)], rows_of(8), store)
    what = f"the features take 8.0 GiB, 3.0 GiB are free in {store.root}"
    with pytest.raises(MachineError, match=what):
        asked.run()
    assert seen == []


# --- rows that cannot be read -----------------------------------------------------------------------------------------


class Torn(Examples):
    """Some of its rows cannot be read; it counts how often each one is tried."""

    def __init__(self, x: Any, bad: Any, **columns: Any) -> None:
        super().__init__(columns, {"x": x})
        self.bad = set(bad)
        self.tried: list[int] = []

    def read(self, rows: IntArray) -> Any:
        self.tried += rows.tolist()
        broken = sorted(self.bad & set(rows.tolist()))
        if broken:
            raise InputError(*(Problem("PK-L18", f"row {row} is torn") for row in broken))
        return super().read(rows)

    def digests(self, rows: IntArray) -> list[bytes]:
        return [self._inputs["x"][row].tobytes().ljust(16, b"\0")[:16] for row in rows]


@pytest.mark.usefixtures("short_ranges")
@pytest.mark.parametrize("fixed", [None, 4])
@pytest.mark.parametrize("bad", [{3, 17}, {8, 9, 10, 11}, set(range(8, 16))], ids=["some", "a batch", "a range"])
def test_rows_that_cannot_be_read_are_left_out_and_named_with_the_reason(
    numpy_model, rows_of, image, store, bad: set[int], fixed: int | None
) -> None:
    x = rows_of(20)
    asked = extraction(numpy_model(IMAGE, fixed)[0], image, Torn(x, bad), store, skip_bad=True)
    asked.run()
    assert asked.bad() == {row: f"row {row} is torn" for row in sorted(bad)}
    good = np.setdiff1d(np.arange(20), sorted(bad))
    for number, truth in enumerate(by_hand(x[good])):
        matrix = asked.matrix(number)
        np.testing.assert_allclose(np.asarray(matrix), truth, rtol=1e-6, atol=1e-6)
        assert matrix.counts.tolist() == [int(row not in bad) for row in range(20)]


def test_a_row_that_could_not_be_read_is_not_tried_again(numpy_model, rows_of, image, store) -> None:
    backend, seen = numpy_model(IMAGE)
    torn = Torn(rows_of(20), {3, 17})
    extraction(backend, image, torn, store, skip_bad=True).run()
    torn.tried.clear()
    seen.clear()
    asked = extraction(backend, image, torn, store, skip_bad=True)
    asked.run()
    assert sorted(asked.bad()) == [3, 17]
    assert (torn.tried, seen) == ([], [])


# --- rows that are positions ------------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Any], Any]] = {
    "steps": lambda x: np.stack([x, 2 * x, 3 * x, 4 * x], axis=1),
    "logits": np.sin,
}
MASK = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("fixed", [None, 4], ids=["any batch", "batches of 4"])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("mask", ["mask", None], ids=["mask", "no mask"])
@pytest.mark.filterwarnings("ignore:the model takes exactly")
def test_every_position_is_a_row_in_the_order_of_examples_and_positions(
    numpy_model, rows_of, wanted, store, mask: str | None, batch_size: int, fixed: int | None
) -> None:
    x = rows_of(5)
    program = (Positions((1,), mask), Flatten())
    asked = extraction(
        numpy_model(STEPS, fixed, batch_size)[0], [wanted("steps", (4, 3), program, 3)],
        Examples({"mask": MASK}, {"x": x}), store, positions=4,
    )  # fmt: skip
    asked.run()
    kept = MASK != 0 if mask else np.ones_like(MASK, bool)
    truth = [x[row] * (step + 1) for row, step in zip(*np.nonzero(kept), strict=True)]
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), truth, rtol=1e-6)
    assert asked.matrix(0).counts.tolist() == kept.sum(axis=1).tolist()


def test_a_tap_of_examples_beside_one_of_positions_keeps_one_row_each(numpy_model, rows_of, wanted, store) -> None:
    x = rows_of(5)
    both = [wanted("steps", (4, 3), (Positions((1,), "mask"), Flatten()), 3), wanted("logits", (3,), (Flatten(),), 3)]
    asked = extraction(numpy_model(STEPS)[0], both, Examples({"mask": MASK}, {"x": x}), store, positions=4)
    asked.run()
    assert asked.matrix(0).shape == (int((MASK != 0).sum()), 3)
    np.testing.assert_allclose(np.asarray(asked.matrix(1)), np.sin(x), rtol=1e-6)


def test_rows_that_cannot_be_read_have_no_positions(numpy_model, rows_of, wanted, store) -> None:
    x = rows_of(5)
    tap = wanted("steps", (4, 3), (Positions((1,), None), Flatten()), 3)
    asked = extraction(numpy_model(STEPS)[0], [tap], Torn(x, {1}), store, positions=4, skip_bad=True)
    asked.run()
    assert asked.matrix(0).counts.tolist() == [4, 0, 4, 4, 4]
    assert sorted(asked.bad()) == [1]
    np.testing.assert_allclose(np.asarray(asked.matrix(0)), [x[r] * (s + 1) for r in (0, 2, 3, 4) for s in range(4)])


def test_another_mask_extracts_the_examples_whose_mask_it_changes(numpy_model, rows_of, wanted, store) -> None:
    backend, seen = numpy_model(STEPS)
    tap = wanted("steps", (4, 3), (Positions((1,), "mask"), Flatten()), 3)

    def run(mask: Any) -> None:
        extraction(backend, [tap], Examples({"mask": mask}, {"x": rows_of(5)}), store, positions=4).run()

    run(MASK)
    assert run_over(seen) == 5
    other = MASK.copy()
    other[2, 0] = 0
    run(other)
    np.testing.assert_array_equal(np.concatenate(seen[2:]), rows_of(5)[[2]])


# --- what is refused --------------------------------------------------------------------------------------------------


def holes(x: Any, value: float, rows: list[int], dtype: Any = np.float32) -> Callable[[Any], Any]:
    """Return a tap with two bad values in some rows."""
    bad = {x[row].tobytes() for row in rows}
    return lambda batch: np.array(
        [[value, 1.0, value] if row.tobytes() in bad else [0.0, 1.0, 2.0] for row in batch], dtype
    )


def test_values_that_are_not_finite_are_counted_with_the_first_examples_of_every_tap(
    numpy_model, rows_of, wanted, store, refused
) -> None:
    x = rows_of(8)
    functions = {
        "nan": holes(x, np.nan, [0, 2, 3, 4, 5, 7]),
        "fine": holes(x, 1e30, [1]),
        "half": holes(x, np.inf, [6], np.float16),
        "huge": holes(x, -1e300, [5], np.float64),
    }
    every = [wanted(name, (3,), (Flatten(),), 3, "float16" if name == "half" else "float32") for name in functions]
    asked = extraction(numpy_model(functions)[0], every, x, store)
    asked.run()
    ids = np.array([f"img{i}" for i in range(8)])
    first = "'img0', 'img2', 'img3', 'img4', 'img5'"
    leave, export = "leave the tap or the examples out", "export the model in float32"
    bad = "NaN or infinite values in"
    assert refused(lambda: asked.refuse_non_finite(ids)) == [
        ("PK-M39", f"tap 'nan 0' has 12 {bad} 6 of 8 examples, the first: {first}; {leave}"),
        ("PK-M39", f"tap 'half 2' has 2 {bad} 1 of 8 examples, the first: 'img6'; {export}"),
        ("PK-M39", f"tap 'huge 3' has 2 {bad} 1 of 8 examples, the first: 'img5'; {leave}"),
    ]


def test_values_that_are_not_finite_in_examples_that_are_not_asked_are_no_fault(
    numpy_model, rows_of, wanted, store
) -> None:
    x = rows_of(8)
    backend, _ = numpy_model({"t": holes(x, np.nan, [5])})
    tap = wanted("t", (3,), (Flatten(),), 3)
    extraction(backend, [tap], x, store).run()
    extraction(backend, [tap], x, store, rows=[0, 1, 2]).refuse_non_finite(np.arange(3))


def test_values_of_a_position_that_are_not_finite_are_told_by_their_example(
    numpy_model, rows_of, wanted, store, refused
) -> None:
    x = rows_of(4)
    x[2] = np.nan
    tap = wanted("steps", (4, 3), (Positions((1,), None), Flatten()), 3)
    asked = extraction(numpy_model(STEPS)[0], [tap], x, store, positions=4)
    asked.run()
    ((code, text),) = refused(lambda: asked.refuse_non_finite(np.array(list("abcd"))))
    assert code == "PK-M39"
    assert "has 12 NaN or infinite values in 1 of 4 examples, the first: 'c'" in text


@settings(deadline=None, max_examples=25)
@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_the_report_of_values_that_are_not_finite_counts_them_exactly(
    numpy_model, wanted, places: set[tuple[int, int]], value: float
) -> None:
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    bad = {float(x[row, column]) for row, column in places}
    functions = {"t": lambda batch: np.where(np.isin(batch, list(bad)), value, batch).astype(np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        asked = extraction(numpy_model(functions)[0], [wanted("t", (3,), (Flatten(),), 3)], x, opened(Path(folder)))
        asked.run()
        with pytest.raises(InputError) as caught:
            asked.refuse_non_finite(np.arange(10).astype(str))
    rows = sorted({row for row, _ in places})
    what = f"tap 't 0' has {len(places)} NaN or infinite values in {len(rows)} of 10 examples, "
    assert caught.value.problems[0].what == what + f"the first: {', '.join(repr(str(row)) for row in rows[:5])}"


def test_a_tap_that_changes_its_size_is_refused(numpy_model, rows_of, wanted, store, refused) -> None:
    functions = {"t": lambda x: np.zeros((len(x), 4 if len(x) == 4 else 5), np.float32)}
    what = "tap 't 0' changes its size: 4 features in the first rows, shape (2, 5) for 2 examples later; "
    what += "give the dataset inputs of one size"
    tap = wanted("t", (4,), (Flatten(),), 4)
    assert refused(extraction(numpy_model(functions)[0], [tap], rows_of(6), store).run) == [("PK-M20", what)]
    extraction(numpy_model(functions)[0], [tap], rows_of(8), store).run()


@pytest.mark.parametrize("shape", [(1, 4), (3, 4)])
def test_a_tap_that_loses_its_batch_axis_is_refused_and_never_spread_over_the_rows(
    numpy_model, rows_of, wanted, store, refused, shape: tuple[int, ...]
) -> None:
    backend, _ = numpy_model({"t": lambda _: np.ones(shape, np.float32)})
    ((code, text),) = refused(extraction(backend, [wanted("t", (4,), (Flatten(),), 4)], rows_of(8), store).run)
    assert code == "PK-M20"
    assert f"shape {shape} for 4 examples" in text


def test_a_model_whose_passes_differ_is_refused(numpy_model, rows_of, wanted, store, refused) -> None:
    rng = np.random.default_rng(0)
    functions = {
        "still": lambda x: x,
        "drawn": lambda x: (x + rng.normal(size=x.shape)).astype(np.float32),
        "rounding": lambda x: (x * (1 + 1e-6 * rng.normal(size=x.shape))).astype(np.float32),
    }
    every = [wanted(name, (3,), (Flatten(),), 3) for name in functions]
    asked = extraction(numpy_model(functions)[0], every, rows_of(8), store)
    ((code, text),) = refused(asked.run)
    assert code == "PK-M37"
    assert text.startswith("model: two passes over the same examples differ at 'drawn', by up to ")
    assert store.entries() == []


def test_a_tap_whose_passes_differ_under_one_of_its_reductions_is_refused(
    numpy_model, rows_of, wanted, store, refused
) -> None:
    rng = np.random.default_rng(0)
    backend, _ = numpy_model({"t": lambda x: np.stack([rng.normal(size=len(x)), x[:, 0]], axis=1).astype(np.float32)})
    both = [wanted("t", (2,), (Take(np.array([one])),), 1) for one in (0, 1)]
    assert [code for code, _ in refused(extraction(backend, both, rows_of(8), store).run)] == ["PK-M37"]


def test_a_difference_without_bound_is_kept_as_none(numpy_model, rows_of, image, store, monkeypatch) -> None:
    backend, _ = numpy_model(IMAGE)
    told = {"against_unoptimised": {"wide": np.inf, "narrow": 0.5}, "output_against_untapped": np.nan}
    monkeypatch.setattr(type(backend), "compare", lambda *_: told)
    asked = extraction(backend, image, rows_of(8), store)
    asked.run()
    assert asked.checks() == {
        "second_pass": {"wide": 0.0, "narrow": 0.0},
        "against_unoptimised": {"wide": None, "narrow": 0.5},
        "output_against_untapped": None,
    }


@pytest.mark.usefixtures("short_ranges")
def test_of_several_passes_the_largest_difference_is_told(numpy_model, rows_of, image, store, monkeypatch) -> None:
    backend, _ = numpy_model(IMAGE)
    told = iter([0.5, np.inf, 0.25])
    monkeypatch.setattr(type(backend), "compare", lambda *_: {"a": {"wide": next(told)}, "b": 0.5})
    for count in (8, 16, 24):
        extraction(backend, image, rows_of(count), store).run()
    assert extraction(backend, image, rows_of(8), store).checks()["a"] == {"wide": 0.5}
    assert extraction(backend, image, rows_of(24), store).checks()["a"] == {"wide": None}


def test_what_is_not_finite_in_both_passes_is_no_difference(numpy_model, rows_of, wanted, store) -> None:
    functions = {"t": lambda x: np.full((len(x), 2), [np.nan, np.inf], np.float32)}
    asked = extraction(numpy_model(functions)[0], [wanted("t", (2,), (Flatten(),), 2)], rows_of(8), store)
    asked.run()
    assert asked.checks() == {"second_pass": {"t": 0.0}}


def test_an_extreme_value_that_is_finite_is_kept(numpy_model, rows_of, wanted, store) -> None:
    backend, _ = numpy_model({"t": lambda x: np.full((len(x), 2, 3), 3e38, np.float32)})
    asked = extraction(backend, [wanted("t", (2, 3), (Max((2,)),), 2)], rows_of(8), store)
    asked.run()
    asked.refuse_non_finite(np.arange(8))
    np.testing.assert_array_equal(np.asarray(asked.matrix(0)), np.full((8, 2), 3e38, np.float32))


def test_a_value_that_the_disks_dtype_cannot_hold_is_refused_and_nothing_is_written(
    numpy_model, rows_of, wanted, store, refused
) -> None:
    backend, _ = numpy_model({"t": lambda x: np.full((len(x), 2), 70_000, np.float32)})
    tap = wanted("t", (2,), (Flatten(),), 2)
    ((code, text),) = refused(extraction(backend, [tap], rows_of(8), store, dtype="float16").run)
    assert code == "PK-M40"
    assert "'t 0'" in text
    assert store.entries() == []
    extraction(backend, [tap], rows_of(8), store, dtype="bfloat16").run()


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "item"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_the_bytes_on_disk_are_known_beforehand(numpy_model, rows_of, image, store, dtype: Any, item: int) -> None:
    asked = extraction(numpy_model(IMAGE)[0], image, rows_of(20), store, dtype=dtype)
    needed = asked.bytes_on_disk(asked.jobs())
    assert needed == 20 * (3 + 9 + 2) * item
    asked.run()
    head = 8 + 1000  # of each shard
    assert needed <= sum(entry.bytes for entry in store.entries()) <= needed + 3 * head
    assert asked.bytes_on_disk(asked.jobs()) == 0


def test_a_timed_pass_keeps_nothing(numpy_model, rows_of, image, store) -> None:
    backend, seen = numpy_model(IMAGE)
    asked = extraction(backend, image, rows_of(20), store)
    with asked.timed([0, 2], np.arange(4)) as run:
        run()
    assert [len(one) for one in seen] == [4]
    assert store.entries() == []
