"""Extraction against NumPy over all rows at once: trial, batches, padding, what is refused, and how much memory."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.features import extraction as features
from probekit.components import Backend, Examples, Graph, InputBinding, ModelInput, Tap, TapFunction
from probekit.errors import InputError, MachineError, ProbekitWarning, SpecError, UserError
from probekit.features.extraction import Extracted, Runner, available_memory, extract, try_taps
from probekit.reductions.assign import FeatureSet
from probekit.steps import Flatten, Max, Mean, Program
from probekit.taps import ChosenTap

RNG = np.random.default_rng(0)
Functions = dict[str, Callable[[Any], Any]]


class NumpyBackend(Backend):
    """A model made of NumPy functions of its input ``x``, as a plugin's author would write it."""

    kind: Literal["numpy"] = "numpy"
    names: list[str]
    fixed: int | None = None
    pickled: int

    def signature(self) -> tuple[ModelInput, ...]:
        return (ModelInput("x", (self.fixed, 3), "float32"),)

    def graph(self, example: Any = None) -> Graph:
        return Graph(tuple(Tap(name, "Numpy", None, "", depth=i) for i, name in enumerate(self.names)))

    @contextmanager
    def open(self, taps: Sequence[str]) -> Iterator[TapFunction]:
        functions, seen = MODELS[self.pickled]

        def run(feed: Any) -> dict[str, Any]:
            seen.append(feed["x"].copy())
            if self.fixed is not None and len(feed["x"]) != self.fixed:
                raise AssertionError(f"fed {len(feed['x'])} examples")
            return {name: functions[name](feed["x"]) for name in taps}

        yield run

    def fingerprint(self) -> str:
        return "numpy"


MODELS: list[tuple[Functions, list[Any]]] = []


def model(functions: Functions, fixed: int | None = None, batch_size: int = 4) -> tuple[NumpyBackend, list[Any]]:
    """Return a backend and the list of all that it is fed."""
    MODELS.append((functions, []))
    made = NumpyBackend(names=list(functions), fixed=fixed, batch_size=batch_size, pickled=len(MODELS) - 1)
    return made, MODELS[-1][1]


def rows_of(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 3), dtype=np.float32)


def chosen(name: str, *, exact: bool = False, layout: str = "") -> ChosenTap:
    return ChosenTap(Tap(name, "Numpy", None, "", layout), name, None, exact)


def feature_set(name: str, shape: tuple[int, ...], program: Program, width: int, dtype: str = "float32") -> FeatureSet:
    raw = int(np.prod(shape))
    return FeatureSet(Tap(name, "Numpy", shape, dtype), name, "some", program, raw, width)


def problems(call: Callable[[], Any]) -> list[tuple[str, str]]:
    with pytest.raises(UserError) as caught:
        call()
    return [(problem.code, str(problem)) for problem in caught.value.problems]


IMAGE = {
    "wide": lambda x: np.stack([x, 2 * x, x * x], axis=2).reshape(len(x), 3, 3, 1),
    "narrow": lambda x: x[:, :2].astype(np.float64),
    "logits": np.sin,
}
SETS = [
    feature_set("wide", (3, 3, 1), (Mean((2, 3)), Flatten()), 3),
    feature_set("wide", (3, 3, 1), (Flatten(),), 9),
    feature_set("narrow", (2,), (Flatten(),), 2),
]


def by_hand(x: Any) -> list[Any]:
    wide = IMAGE["wide"](x)
    return [wide.mean(axis=(2, 3)), wide.reshape(len(x), 9), x[:, :2]]


# --- batches ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 12), st.none() | st.integers(1, 12), st.randoms(use_true_random=False)
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::probekit.errors.ProbekitWarning")  # a fixed size below batch_size is told
def test_features_output_and_digests_are_those_of_all_rows_at_once(
    count: int, batch_size: int, fixed: int | None, random: Any
) -> None:
    x = rows_of(40)
    order = np.array(random.sample(range(40), count))
    backend, seen = model(IMAGE, fixed, batch_size)
    told: list[tuple[int, int]] = []
    found = extract(
        Runner(backend, Examples({}, {"x": x})), SETS, order, "logits", lambda done, total: told.append((done, total))
    )
    for matrix, truth in zip(found.features, by_hand(x[order]), strict=True):
        assert matrix.dtype == np.float32
        np.testing.assert_allclose(matrix, truth, rtol=1e-6, atol=1e-6)
    assert found.output is not None
    np.testing.assert_array_equal(found.output, np.sin(x[order]))
    single = extract(Runner(model(IMAGE, None, 1)[0], Examples({}, {"x": x})), SETS, np.arange(40)).digests
    assert len(set(single)) == 40
    assert found.digests == [single[row] for row in order]
    size = fixed or batch_size
    assert [len(one) for one in seen] == (
        [fixed] * -(-count // size) if fixed else [min(size, count - start) for start in range(0, count, size)]
    )
    assert told[-1] == (count, count)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_last_batch_is_padded_with_its_last_row_where_the_model_fixes_the_size() -> None:
    x = rows_of(6)
    backend, seen = model(IMAGE, fixed=4, batch_size=4)
    extract(Runner(backend, Examples({}, {"x": x})), SETS, np.arange(6))
    np.testing.assert_array_equal(seen[0], x[:4])
    np.testing.assert_array_equal(seen[1], x[[4, 5, 5, 5]])


def test_the_same_rows_twice_are_the_same_features_and_digests() -> None:
    x = rows_of(3)
    found = extract(Runner(model(IMAGE)[0], Examples({}, {"x": x})), SETS, np.array([2, 0, 2]))
    assert found.digests[0] == found.digests[2] != found.digests[1]
    np.testing.assert_array_equal(found.features[0][0], found.features[0][2])


def test_a_model_for_one_example_is_run_row_by_row_with_a_warning() -> None:
    backend, seen = model(IMAGE, fixed=1, batch_size=64)
    text = "^the model takes exactly 1 examples at a time, not batch_size 64$"
    with pytest.warns(ProbekitWarning, match=text):
        found = extract(Runner(backend, Examples({}, {"x": rows_of(3)})), SETS, np.arange(3))
    assert [len(one) for one in seen] == [1, 1, 1]
    np.testing.assert_allclose(found.features[0], by_hand(rows_of(3))[0], rtol=1e-6)


def test_the_example_for_the_graph_holds_two_rows_or_as_many_as_the_model_fixes() -> None:
    examples = Examples({}, {"x": rows_of(9)})
    for fixed, size in ((None, 2), (1, 1), (5, 5), (12, 12)):
        runner = Runner(model(IMAGE, fixed)[0], examples)
        assert runner.example(np.arange(9))["x"].shape == (size, 3)
    np.testing.assert_array_equal(runner.example(np.array([3]))["x"], rows_of(9)[[3] * 12])


class Inputs(NumpyBackend):
    declared: dict[str, list[int | None]]

    def signature(self) -> tuple[ModelInput, ...]:
        return tuple(ModelInput(name, tuple(shape), "float32") for name, shape in self.declared.items())


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
    declared: dict[str, list[int | None]], constant: list[str], fixed: int | None
) -> None:
    bindings = {name: InputBinding(value=0) for name in constant}
    examples = Examples({}, {"x": rows_of(3), "y": rows_of(3)})
    backend = Inputs(names=[], pickled=0, declared=declared, inputs=bindings)
    assert Runner(backend, examples).fixed_batch == fixed


def test_an_input_that_nothing_feeds_is_named() -> None:
    backend = Inputs(names=[], pickled=0, declared={"x": [None, 3], "mask": [None, 3]})
    what = "model.inputs: the model's inputs 'mask' are fed nothing; the dataset has 'x', 'id'; "
    what += "type: inputs: {mask: {column: ...}}"
    assert problems(lambda: Runner(backend, Examples({}, {"x": rows_of(3)}))) == [("PK-M22", what)]


# --- trial -----------------------------------------------------------------------------------------------------------

ODD: Functions = {
    "good": lambda x: x,
    "image": lambda x: np.zeros((len(x), 4, 5, 6)),
    "half": lambda x: x.astype(np.float16),
    "truth": lambda x: x > 0,
    "growing": lambda x: np.zeros((len(x), 4, len(x) + 1)),
    "constant": lambda _: np.zeros((2, 3)),
    "three": lambda _: np.zeros((3, 3)),
    "turned": lambda x: x.T,
    "scalar": lambda _: np.ones(()),
    "text": lambda x: np.array(["a"] * len(x)),
    "complex": lambda x: x.astype(np.complex128),
    "objects": lambda x: np.array([None] * len(x)),
    "sequence": lambda x: [x, x],
    "nothing": lambda _: None,
}
REASONS = {
    "constant": "no batch axis: shape (2, 3) for a batch of 3",
    "three": "no batch axis: shape (3, 3) for a batch of 2",
    "turned": "no batch axis: shape (3, 2) for a batch of 2",
    "scalar": "no batch axis: shape () for a batch of 2",
    "text": "its values are <U1, not real numbers",
    "complex": "its values are complex128, not real numbers",
    "objects": "its values are object, not real numbers",
    "sequence": "its values are list, not real numbers",
    "nothing": "its values are NoneType, not real numbers",
}


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_trial_keeps_what_follows_the_batch_however_few_the_rows(count: int) -> None:
    runner = Runner(model(ODD)[0], Examples({}, {"x": rows_of(count)}))
    trial = try_taps(runner, [chosen(name) for name in ODD], np.arange(count))
    assert trial.skipped == REASONS
    assert [(one.tap.name, one.tap.shape, one.tap.dtype, one.tap.layout) for one in trial.taps] == [
        ("good", (3,), "float32", "NC"),
        ("image", (4, 5, 6), "float64", ""),
        ("half", (3,), "float16", "NC"),
        ("truth", (3,), "bool", "NC"),
        ("growing", (4, None), "float64", ""),
    ]


def test_a_trial_keeps_a_layout_that_fits_the_shape_it_saw() -> None:
    runner = Runner(model(ODD)[0], Examples({}, {"x": rows_of(4)}))
    asked = [chosen("image", layout="NCHW"), chosen("good", layout="NCHW")]
    assert [one.tap.layout for one in try_taps(runner, asked, np.arange(4)).taps] == ["NCHW", "NC"]


def test_taps_that_were_asked_for_by_name_are_refused_all_at_once() -> None:
    runner = Runner(model(ODD)[0], Examples({}, {"x": rows_of(4)}))
    asked = [chosen("good"), chosen("constant", exact=True), chosen("three"), chosen("text", exact=True)]
    with pytest.raises(SpecError):
        try_taps(runner, asked, np.arange(4))
    assert problems(lambda: try_taps(runner, asked, np.arange(4))) == [
        ("PK-M28", f"taps: '{name}' cannot be tapped: {REASONS[name]}") for name in ("constant", "text")
    ]


def test_a_trial_that_leaves_nothing_is_refused() -> None:
    runner = Runner(model(ODD)[0], Examples({}, {"x": rows_of(4)}))
    ((code, text),) = problems(lambda: try_taps(runner, [chosen("constant"), chosen("three")], np.arange(4)))
    assert code == "PK-M28"
    assert text.startswith("taps: no chosen tensor can be tapped: ")
    assert REASONS["constant"] in text


def test_a_trial_of_a_fixed_batch_runs_it_once_in_its_size() -> None:
    backend, seen = model({"good": lambda x: x, "other": lambda _: np.zeros((2, 3))}, fixed=6)
    trial = try_taps(Runner(backend, Examples({}, {"x": rows_of(4)})), [chosen("good"), chosen("other")], np.arange(4))
    assert [one.shape for one in seen] == [(6, 3)]
    assert [one.tap.name for one in trial.taps] == ["good"]
    assert trial.skipped == {"other": "no batch axis: shape (2, 3) for a batch of 6"}


# --- what is refused -------------------------------------------------------------------------------------------------


def extracted(functions: Functions, sets: Sequence[FeatureSet], count: int = 8, **more: Any) -> Extracted:
    ids = np.array([f"img{i}" for i in range(count)])
    return extract(
        Runner(model(functions)[0], Examples({"id": ids}, {"x": rows_of(count)})), sets, np.arange(count), **more
    )


def test_values_that_are_not_finite_are_counted_with_the_first_examples_of_every_tap() -> None:
    x = rows_of(8)

    def holes(value: float, rows: list[int], dtype: Any = np.float32) -> Callable[[Any], Any]:
        bad = {x[row].tobytes() for row in rows}
        return lambda batch: np.array(
            [[value, 1.0, value] if row.tobytes() in bad else [0.0, 1.0, 2.0] for row in batch], dtype
        )

    functions = {
        "nan": holes(np.nan, [0, 2, 3, 4, 5, 7]),
        "fine": holes(1e30, [1]),
        "half": holes(np.inf, [6], np.float16),
        "huge": holes(-1e300, [5], np.float64),
    }
    sets = [feature_set(name, (3,), (Flatten(),), 3, "float16" if name == "half" else "float32") for name in functions]
    first = "'img0', 'img2', 'img3', 'img4', 'img5'"
    leave, again = "leave the tap or the examples out", "export the model in float32"
    bad = "NaN or infinite values in"
    assert problems(lambda: extracted(functions, sets)) == [
        ("PK-M39", f"tap 'nan' under 'some' has 12 {bad} 6 of 8 examples, the first: {first}; {leave}"),
        ("PK-M39", f"tap 'half' under 'some' has 2 {bad} 1 of 8 examples, the first: 'img6'; {again}"),
        ("PK-M39", f"tap 'huge' under 'some' has 2 {bad} 1 of 8 examples, the first: 'img5'; {leave}"),
    ]


@settings(deadline=None, max_examples=40)
@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_the_report_of_values_that_are_not_finite_counts_them_exactly(
    places: set[tuple[int, int]], value: float
) -> None:
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    bad = {float(x[row, column]) for row, column in places}
    functions = {"t": lambda batch: np.where(np.isin(batch, list(bad)), value, batch).astype(np.float32)}
    runner = Runner(model(functions)[0], Examples({}, {"x": x}))
    with pytest.raises(InputError) as caught:
        extract(runner, [feature_set("t", (3,), (Flatten(),), 3)], np.arange(10))
    rows = sorted({row for row, _ in places})
    what = f"tap 't' under 'some' has {len(places)} NaN or infinite values in {len(rows)} of 10 examples, "
    assert caught.value.problems[0].what == what + f"the first: {', '.join(repr(str(row)) for row in rows[:5])}"


def test_a_tap_that_changes_its_size_is_refused() -> None:
    functions = {"t": lambda x: np.zeros((len(x), 4 if len(x) == 4 else 5))}
    what = "tap 't' changes its size: (4,) in the first rows, (5,) later; give the dataset inputs of one size"
    sets = [feature_set("t", (4,), (Flatten(),), 4)]
    assert problems(lambda: extracted(functions, sets, count=6)) == [("PK-M20", what)]
    assert extracted(functions, sets, count=8).features[0].shape == (8, 4)


@pytest.mark.parametrize("shape", [(), (1, 4), (3, 4)])
def test_a_tap_or_output_that_loses_its_batch_axis_is_refused_and_never_spread_over_the_rows(
    shape: tuple[int, ...],
) -> None:
    functions = {"t": lambda _: np.ones(shape, np.float32), "good": lambda x: x}
    what = f"tap 't' has shape {shape} for a batch of 4: it has no batch axis; leave it out"
    sets = [feature_set("t", (4,), (Flatten(),), 4)]
    assert problems(lambda: extracted(functions, sets)) == [("PK-M28", what)]
    good = [feature_set("good", (3,), (Flatten(),), 3)]
    assert problems(lambda: extracted(functions, good, output="t")) == [("PK-M28", what)]


def test_an_extreme_value_that_is_finite_is_kept() -> None:
    functions = {"t": lambda x: np.full((len(x), 2, 3), 3e38, np.float32)}
    found = extracted(functions, [feature_set("t", (2, 3), (Max((2,)),), 2)])
    np.testing.assert_array_equal(found.features[0], np.full((8, 2), 3e38, np.float32))


# --- memory ----------------------------------------------------------------------------------------------------------


def test_features_that_do_not_fit_are_refused_before_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "available_memory", lambda: 3 * 2**30)
    backend, seen = model(IMAGE)
    runner = Runner(backend, Examples({}, {"x": rows_of(8)}))
    sets = [feature_set("wide", (2**28,), (Flatten(),), 2**28)]
    what = "features of 8 examples take 8.0 GiB, 3.0 GiB are free; "
    what += "use fewer taps, {kind: pool}, or {kind: subset, features: 1000}"
    with pytest.raises(MachineError):
        extract(runner, sets, np.arange(8))
    assert problems(lambda: extract(runner, sets, np.arange(8))) == [("PK-R03", what)]
    assert seen == []


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 20), st.integers(-1, 1))
def test_the_refusal_counts_all_matrices_and_two_more_of_the_largest(widths: list[int], count: int, spare: int) -> None:
    functions: Functions = {f"t{i}": lambda x, w=width: np.zeros((len(x), w)) for i, width in enumerate(widths)}
    sets = [feature_set(f"t{i}", (width,), (Flatten(),), width) for i, width in enumerate(widths)]
    needed = 4 * count * (sum(widths) + 2 * max(widths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "available_memory", lambda: needed + spare)
        if spare < 0:
            with pytest.raises(MachineError):
                extracted(functions, sets, count)
        else:
            assert [one.shape for one in extracted(functions, sets, count).features] == [(count, w) for w in widths]


def test_where_the_free_memory_is_not_known_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "available_memory", lambda: None)
    assert extracted(IMAGE, SETS).features[1].shape == (8, 9)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8 kB\nSwap: 1 kB\n"}, 8192),
        ({"/proc/meminfo": "MemAvailable: 8 kB\n", "/sys/fs/cgroup/memory.max": "max\n"}, 8192),
        (
            {
                "/proc/meminfo": "MemAvailable: 8 kB\n", "/sys/fs/cgroup/memory.max": "5000\n",
                "/sys/fs/cgroup/memory.current": "1500\n",
            },
            3500,
        ),
        (
            {
                "/proc/meminfo": "MemAvailable: 8 kB\n", "/sys/fs/cgroup/memory.max": "99999\n",
                "/sys/fs/cgroup/memory.current": "1\n",
            },
            8192,
        ),
        ({"/proc/meminfo": "strange\n"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_free_memory_is_the_lesser_of_the_kernels_and_the_containers(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int | None
) -> None:
    def read(path: pathlib.Path, **_: Any) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(pathlib.Path, "read_text", read)
    assert available_memory() == free
