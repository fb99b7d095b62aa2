"""A run of a few rows with two batch sizes: what shapes the taps have, and which axis of each is the batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from probekit.components import Examples, Tap
from probekit.errors import InputError, Problem
from probekit.features.runner import Runner
from probekit.features.trial import Trial, try_taps
from probekit.taps import ChosenTap

Functions = dict[str, Callable[[Any], Any]]


def chosen(name: str, *, exact: bool = False, layout: str = "") -> ChosenTap:
    return ChosenTap(Tap(name, "Numpy", None, "", layout), name, None, exact)


ODD: Functions = {
    "good": lambda x: x,
    "image": lambda x: np.zeros((len(x), 4, 5, 6)),
    "half": lambda x: x.astype(np.float16),
    "truth": lambda x: x > 0,
    "growing": lambda x: np.zeros((len(x), 4, len(x) + 1)),
    "turned": lambda x: x.T,
    "time_first": lambda x: np.zeros((7, len(x), 4)),
    "constant": lambda _: np.zeros((2, 3)),
    "three": lambda _: np.zeros((3, 3)),
    "scalar": lambda _: np.ones(()),
    "square": lambda x: np.zeros((len(x), len(x))),
    "nonzero": lambda x: np.zeros((len(x) + 1, 2)),
    "losing": lambda x: np.zeros((2, 3)) if len(x) == 2 else np.zeros((3,)),
    "text": lambda x: np.array(["a"] * len(x)),
    "complex": lambda x: x.astype(np.complex128),
    "objects": lambda x: np.array([None] * len(x)),
    "sequence": lambda x: [x, x],
    "nothing": lambda _: None,
}
REASONS = {
    "constant": "no batch axis: (2, 3) and (2, 3) for batches of 2 and 3",
    "three": "no batch axis: (3, 3) and (3, 3) for batches of 2 and 3",
    "scalar": "no batch axis: () and () for batches of 2 and 3",
    "nonzero": "no batch axis: (3, 2) and (4, 2) for batches of 2 and 3",
    "losing": "its number of axes changes: (2, 3) and (3,) for batches of 2 and 3",
    "text": "its values are <U1, not real numbers",
    "complex": "its values are complex128, not real numbers",
    "objects": "its values are object, not real numbers",
    "sequence": "its values are list, not real numbers",
    "nothing": "its values are NoneType, not real numbers",
}


@pytest.fixture
def tried(numpy_model, rows_of) -> Callable[..., Trial]:
    def run(functions: Functions, taps: Sequence[ChosenTap], count: int = 4, fixed: int | None = None) -> Trial:
        runner = Runner(numpy_model(functions, fixed)[0], Examples({}, {"x": rows_of(count)}))
        return try_taps(runner, taps, np.arange(count))

    return run


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_trial_keeps_what_follows_the_batch_however_few_the_rows(tried, count: int) -> None:
    trial = tried(ODD, [chosen(name) for name in ODD], count)
    assert trial.skipped == REASONS
    found = [(one.tap.name, one.tap.shape, one.tap.dtype, one.tap.layout, one.tap.batch_axis) for one in trial.taps]
    assert found == [
        ("good", (3,), "float32", "NC", 0),
        ("image", (4, 5, 6), "float64", "", 0),
        ("half", (3,), "float16", "NC", 0),
        ("truth", (3,), "bool", "NC", 0),
        ("growing", (4, None), "float64", "", 0),
        ("turned", (3,), "float32", "NC", 1),
        ("time_first", (7, 4), "float64", "", 1),
        ("square", (None,), "float64", "NC", 0),
    ]


def test_a_trial_keeps_a_layout_that_fits_the_shape_it_saw(tried) -> None:
    asked = [chosen("image", layout="NCHW"), chosen("good", layout="NCHW")]
    assert [one.tap.layout for one in tried(ODD, asked).taps] == ["NCHW", "NC"]


def test_a_stated_layout_says_which_axis_is_the_batch_and_is_told_with_it_in_front(tried) -> None:
    (one,) = tried(ODD, [chosen("time_first", layout="TNC")]).taps
    assert (one.tap.layout, one.tap.shape, one.tap.batch_axis) == ("NTC", (7, 4), 1)


def test_a_sequence_of_the_trials_length_is_told_from_the_batch(tried) -> None:
    """Two steps for two examples, and two for three: only the second axis follows."""
    (one,) = tried({"t": lambda x: np.zeros((2, len(x), 4))}, [chosen("t")]).taps
    assert (one.tap.shape, one.tap.batch_axis) == ((2, 4), 1)


@pytest.mark.parametrize(
    ("shape", "layout", "axis"),
    [((6, 5, 4), "", 0), ((5, 6, 4), "TNC", 1), ((6, 6, 4), "TNC", 1), ((6, 6, 4), "", 0)],
)
def test_a_batch_of_fixed_size_takes_the_axis_that_is_stated_else_the_first(
    tried, shape: tuple[int, ...], layout: str, axis: int
) -> None:
    (one,) = tried({"t": lambda _: np.zeros(shape)}, [chosen("t", layout=layout)], fixed=6).taps
    assert (one.tap.batch_axis, one.tap.shape) == (axis, shape[:axis] + shape[axis + 1 :])


@pytest.mark.parametrize(("shape", "which"), [((5, 6, 4), "axis 1"), ((5, 6, 6), "several of its axes")])
def test_a_batch_of_fixed_size_that_could_be_another_axis_is_refused_with_the_reason(
    tried, shape: tuple[int, ...], which: str
) -> None:
    trial = tried({"good": lambda x: x, "t": lambda _: np.zeros(shape)}, [chosen("good"), chosen("t")], fixed=6)
    assert trial.skipped == {"t": f"{which} could be the batch: {shape} for batches of 6; a layout: would tell"}


def test_taps_that_were_asked_for_by_name_are_refused_all_at_once(tried, refused) -> None:
    asked = [chosen("good"), chosen("constant", exact=True), chosen("three"), chosen("text", exact=True)]
    assert refused(lambda: tried(ODD, asked)) == [
        ("PK-M28", f"taps: '{name}' cannot be tapped: {REASONS[name]}") for name in ("constant", "text")
    ]


def test_a_trial_that_leaves_nothing_is_refused(tried, refused) -> None:
    ((code, text),) = refused(lambda: tried(ODD, [chosen("constant"), chosen("three")]))
    assert code == "PK-M28"
    assert text.startswith("taps: no chosen tensor can be tapped: ")
    assert REASONS["constant"] in text


def test_a_trial_of_a_fixed_batch_runs_it_once_in_its_size(numpy_model, rows_of) -> None:
    backend, seen = numpy_model({"good": lambda x: x, "other": lambda _: np.zeros((2, 3))}, fixed=6)
    trial = try_taps(Runner(backend, Examples({}, {"x": rows_of(4)})), [chosen("good"), chosen("other")], np.arange(4))
    assert [one.shape for one in seen] == [(6, 3)]
    assert [one.tap.name for one in trial.taps] == ["good"]
    assert trial.skipped == {"other": "no batch axis: (2, 3) for batches of 6"}


def test_a_trial_leaves_out_rows_that_cannot_be_read(numpy_model, rows_of) -> None:
    class Torn(Examples):
        def read(self, rows: Any) -> Any:
            if min(rows) < 5:
                raise InputError(Problem("PK-L18", "torn"))
            return super().read(rows)

    backend, seen = numpy_model({"good": lambda x: x})
    runner = Runner(backend, Torn({}, {"x": rows_of(20)}), skip_bad=True)
    try_taps(runner, [chosen("good")], np.arange(20))
    for one, rows in zip(seen, ([5, 6], [5, 6, 7]), strict=True):
        np.testing.assert_array_equal(one, rows_of(20)[rows])
