"""Fits that fail lose only themselves, fits that were kept are not made again, and memory is planned before it is used.

The probes here are ridge regressions in closed form, and the question is one of a few rows.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from safetensors import safe_open

from probekit.components import (
    ArrayMatrix,
    Certificate,
    Examples,
    FitContext,
    FitProgress,
    FittedProbe,
    FittedReduction,
    LabelFactor,
    Labels,
    LearnedReduction,
    LinearMap,
    Probe,
    Tap,
    Target,
    Wanted,
)
from probekit.data.arrays import DigitsDataset
from probekit.data.factors import ColumnFactor
from probekit.data.question import Asked, Question
from probekit.data.splits import split_examples
from probekit.errors import InputError, MachineError, ProbekitWarning, Problem
from probekit.fits import FitJournal
from probekit.measure import Measurement
from probekit.prepared import COPIES
from probekit.progress import FittingProgress
from probekit.reductions.assign import FeatureSet
from probekit.reductions.data_free import FlattenReduction
from probekit.reductions.pca import PcaReduction
from probekit.spec import Spec
from probekit.spec.splits import Splits

COUNT = 60
RNG = np.random.default_rng(0)
X = RNG.standard_normal((COUNT, 4)).astype(np.float32)
FACTORS = {"left": (X[:, 0] > 0).astype(int), "right": (X[:, 1] + X[:, 2] > 0).astype(int)}
PARTS = np.resize(["train", "train", "valid", "test"], COUNT)


class Fitted(FittedProbe):
    """A linear map, proven."""

    certificate = Certificate("proven", 0.0, 0.0, 0.0)

    def __init__(self, linear: LinearMap, seconds: float) -> None:
        self.linear, self.penalty, self.seconds = linear, 1.0, seconds

    def logits(self, features: Any) -> Any:
        return self.linear(features)


class ClosedForm(Probe):
    """Ridge regression to the classes; ``before`` is called with what is to be fitted and may raise."""

    kind: Literal["closed_form"] = "closed_form"
    strength: float = 1.0

    def fit(self, features: Any, targets: Sequence[Target], context: FitContext | None = None) -> list[FittedProbe]:
        SCRIPT.fits.append([target.factor for target in targets])
        SCRIPT.before(features, targets, context)
        x = np.asarray(features).astype(np.float64)
        fitted: list[FittedProbe] = []
        for target in targets:
            rows = np.concatenate([x[target.train], np.ones((len(target.train), 1))], axis=1)
            y = np.eye(len(target.classes))[target.codes[target.train]]
            w = np.linalg.solve(rows.T @ rows + self.strength * np.eye(rows.shape[1]), rows.T @ y).T
            fitted.append(Fitted(LinearMap(w[:, :-1], w[:, -1]), float(len(SCRIPT.fits))))
        return SCRIPT.after(fitted)


SCRIPT = SimpleNamespace()
"""What the probes of a test do beside fitting, and what they were asked to fit."""


@pytest.fixture(autouse=True)
def _script() -> None:
    SCRIPT.fits, SCRIPT.before, SCRIPT.after = [], lambda *_: None, lambda fitted: fitted


def question() -> Question:
    columns = {"id": np.array([f"x{n}" for n in range(COUNT)]), "part": PARTS}
    examples = Examples(columns, {"x": X})
    labels = {name: Labels(("no", "yes"), codes) for name, codes in FACTORS.items()}
    factors: dict[str, LabelFactor] = {name: ColumnFactor() for name in labels}
    splits = Splits(column="part", train="train", valid="valid", test="test")
    spec = Spec(probekit=1, name="x", data=DigitsDataset(), labels=factors, splits=splits, reports=[])
    parts = split_examples(splits, columns, labels)
    return Asked(spec, examples, labels, parts, np.arange(COUNT)).question()


def feature_set(label: str, width: int = 4, reduction: str = "flat", learned: Any = None) -> FeatureSet:
    tap = Tap(label, "Relu", (width,), "float32", "NC")
    return FeatureSet(Wanted(tap, FlattenReduction().program(tap), width), label, reduction, width, learned)


SETS = [feature_set("a"), feature_set("b"), feature_set("c")]
MATRICES = [X, X[:, ::-1].copy(), np.tanh(X)]


class Site:
    """A question, and measurements of it that share a journal."""

    def __init__(self, folder: Path) -> None:
        self.question = question()
        self.folder = folder

    def measure(
        self,
        sets: Sequence[FeatureSet] = SETS,
        matrices: Sequence[Any] = MATRICES,
        probes: dict[str, Probe] | None = None,
        **more: Any,
    ) -> Measurement:
        """Fit everything; what is found so far stays in ``measured`` where a fit is interrupted."""
        self.measured = Measurement(self.question, FitJournal(self.folder, self.question.targets))
        found = [ArrayMatrix(one) if isinstance(one, np.ndarray) else one for one in matrices]
        list(self.measured.fit("m", None, sets, found.__getitem__, probes or {"ridge": ClosedForm()}, **more))
        return self.measured


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "fits")


def names(measured: Measurement) -> list[tuple[str, str]]:
    return [(one.tap, one.factor) for one in measured.scorer.probes]


def failing(error: BaseException, *, tap: Any = None, factor: str = "left") -> Callable[..., None]:
    """Return what raises where a factor is asked of a matrix of this width, and of any where there is none."""

    def before(features: Any, targets: Sequence[Target], context: Any) -> None:
        asked = factor in [target.factor for target in targets]
        if asked and (tap is None or np.array_equal(np.asarray(features), tap)):
            raise error

    return before


# --- a fit that fails -------------------------------------------------------------------------------------------------


def test_all_factors_are_fitted_at_once_where_that_works(site):
    measured = site.measure()
    assert SCRIPT.fits == [["left", "right"]] * 3
    assert names(measured) == [(tap, factor) for tap in "abc" for factor in FACTORS]
    assert measured.failures == []
    by_factor = {one.factor: one.error["test"] for one in measured.scorer.probes if one.tap == "a"}
    assert max(by_factor.values()) < 0.2


def test_a_factor_that_cannot_be_fitted_loses_only_itself(site):
    SCRIPT.before = failing(FloatingPointError("no luck"), tap=MATRICES[1])
    measured = site.measure()
    assert names(measured) == [("a", "left"), ("a", "right"), ("b", "right"), ("c", "left"), ("c", "right")]
    assert measured.failures == [
        "model m, tap b, reduction flat, probe ridge, factor left: FloatingPointError: no luck"
    ]
    assert SCRIPT.fits[1:4] == [["left", "right"], ["left"], ["right"]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_probe_whose_predictions_are_not_finite_is_a_fit_that_failed(site, value):
    def after(fitted: list[FittedProbe]) -> list[FittedProbe]:
        if len(SCRIPT.fits) == 2:  # that of the second tap
            fitted[0].linear.bias[1] = value
        return fitted

    SCRIPT.after = after
    measured = site.measure()
    assert names(measured) == [("a", "left"), ("a", "right"), ("b", "right"), ("c", "left"), ("c", "right")]
    (failure,) = measured.failures
    reason = "its cross entropy on train is inf" if value == -np.inf else "the probe predicts NaN or infinite values"
    assert failure == f"model m, tap b, reduction flat, probe ridge, factor left: ValueError: {reason}"


def test_what_is_fitted_beside_a_failure_is_what_is_fitted_without_one(site):
    whole = {(one.tap, one.factor): one for one in site.measure().scorer.probes}
    site.folder = site.folder / "other"
    SCRIPT.before = failing(ValueError("x"))
    for one in site.measure().scorer.probes:
        same = whole[one.tap, one.factor]
        assert (one.scores, one.error) == (same.scores, same.error)


def test_what_the_user_can_mend_is_told_without_its_class(site):
    SCRIPT.before = failing(InputError(Problem("PK-L14", "too few rows", "take more")), factor="right")
    assert site.measure(SETS[:1]).failures == [
        "model m, tap a, reduction flat, probe ridge, factor right: too few rows; take more"
    ]


def test_what_fails_only_at_once_is_told_and_lost_nothing(site):
    def before(features: Any, targets: Sequence[Target], context: Any) -> None:
        if len(targets) > 1:
            raise RuntimeError("too many")

    SCRIPT.before = before
    with pytest.warns(ProbekitWarning, match=r"all factors at once could not be fitted \(RuntimeError: too many\)"):
        measured = site.measure(SETS[:1])
    assert names(measured) == [("a", "left"), ("a", "right")]
    assert measured.failures == []


@pytest.mark.parametrize("error", [MemoryError("9 GiB"), MachineError(Problem("PK-R17", "gone")), KeyboardInterrupt()])
def test_what_no_fit_would_survive_ends_the_run(site, error):
    SCRIPT.before = failing(error, tap=MATRICES[1])
    with pytest.raises(type(error)):
        site.measure()
    assert names(site.measured) == [("a", "left"), ("a", "right")]
    assert site.measured.failures == []
    assert len(SCRIPT.fits) == 2


def test_a_probe_that_gives_too_few_fits_is_a_failure(site):
    SCRIPT.after = lambda fitted: fitted[1:]
    assert site.measure(SETS[:1]).failures == [
        f"model m, tap a, reduction flat, probe ridge, factor {name}: ValueError: 'closed_form' gave 0 fitted probes "
        "for 1 targets"
        for name in FACTORS
    ]


def test_a_fitted_probe_that_cannot_predict_is_a_failure(site):
    class Mute(Fitted):
        def logits(self, features: Any) -> Any:
            raise RuntimeError("mute")

    SCRIPT.after = lambda fitted: [Mute(fitted[0].linear, 0.0), *fitted[1:]]
    measured = site.measure(SETS[:1])
    assert names(measured) == [("a", "right")]
    assert measured.failures == ["model m, tap a, reduction flat, probe ridge, factor left: RuntimeError: mute"]


def test_a_fitted_probe_that_cannot_be_saved_is_a_failure(site):
    class Odd(Fitted):
        def logits(self, features: Any) -> Any:
            return features[:, :2]

    odd = Odd(LinearMap(np.ones((2, 7)), np.zeros(2)), 0.0)
    SCRIPT.after = lambda fitted: [odd, *fitted[1:]]
    measured = site.measure([feature_set("a", 4, "pca", PcaReduction(features=2))], [X])
    assert names(measured) == [("a", "right")]
    (failure,) = measured.failures
    assert failure.startswith("model m, tap a, reduction pca, probe ridge, factor left: ValueError: matmul")
    measured.scorer.saved.write(site.folder.parent / "p.safetensors", {}, {"per": "example", "mask": None})
    with safe_open(site.folder.parent / "p.safetensors", "numpy") as file:
        assert [one["factor"] for one in json.loads(file.metadata()["probekit"])["probes"]] == ["right"]


# --- controls and the model itself ------------------------------------------------------------------------------------


def missed(fitted: list[FittedProbe]) -> list[FittedProbe]:
    for one in fitted:
        one.certificate = Certificate("missed", 0.5)
    return fitted


def test_a_probe_that_fails_is_told_of(site):
    SCRIPT.after = missed
    with pytest.warns(ProbekitWarning) as told:
        site.measure([feature_set("a")], [np.zeros_like(X)])
    texts = [str(one.message) for one in told]
    where = "tap a (flat): the probe for left"
    assert f"{where} does no better than always saying the commonest class" in texts


def test_constant_features_are_a_fact_of_the_probe(site):
    with pytest.warns(ProbekitWarning):
        measured = site.measure(SETS[:2], [np.full_like(X, 3.5), X])
    assert [(one.tap, one.features_constant) for one in measured.scorer.probes if one.factor == "left"] == [
        (SETS[0].label, True), (SETS[1].label, False),
    ]  # fmt: skip


def test_of_a_control_nobody_is_told(site):
    SCRIPT.after = missed
    site.question.targets = [replace(one, control="shuffled_labels", seed=3) for one in site.question.targets]
    measured = site.measure([feature_set("a")], [np.zeros_like(X)])  # a warning is an error
    assert [(one.control, one.seed, one.certificate.status) for one in measured.scorer.probes] == [
        ("shuffled_labels", 3, "missed")
    ] * 2


def test_errors_have_intervals_over_examples_or_groups(site):
    probe = site.measure(SETS[:1]).scorer.probes[0]
    assert set(probe.intervals["error"]) == {"train", "valid", "test"}
    assert set(probe.intervals["balanced_error"]) == set(probe.intervals["auroc"]) == {"test"}
    error = probe.intervals["error"]["train"]
    assert (error.kind, error.over, error.n) == ("wilson", "examples", 30)
    site.question.group = "id"
    site.folder = site.folder / "other"
    assert site.measure(SETS[:1]).scorer.probes[0].intervals["error"]["test"].over == "groups"


# --- features that a reduction made -----------------------------------------------------------------------------------


class Scripted(LearnedReduction):
    """A learned reduction of a plugin: what it makes of the rows is a function by name."""

    kind: Literal["scripted"] = "scripted"
    what: str

    def program(self, tap: Tap) -> Any:
        return FlattenReduction().program(tap)

    def fit(self, features: Any) -> FittedReduction:
        return {
            "holes": lambda rows: np.where(np.arange(len(rows))[:, None] % 20 == 3, np.nan, rows[:, :2]),
            "huge": lambda rows: rows.astype(np.float64) * 1e300,
            "flat": lambda rows: rows[:, 0],
            "short": lambda rows: rows[:-1],
            "none": lambda rows: rows[:, :0],
            "fine": lambda rows: rows[:, :2].astype(np.float64),
        }[self.what]


def reduced(site: Site, reduction: LearnedReduction, values: Any = X) -> Measurement:
    sets = [feature_set("a", 4, "learned", reduction), SETS[1]]
    return site.measure(sets, [values, MATRICES[1]])


def test_nan_out_of_a_plugins_reduction_is_named_by_tap_count_and_first_example(site):
    measured = reduced(site, Scripted(what="holes"))
    assert measured.failures == [
        "model m, tap a, reduction learned: tap 'a' has 6 NaN or infinite values under 'learned' in 3 of 60 examples, "
        "the first: 'x3', 'x23', 'x43'; name a data-free reduction, or leave the tap or the examples out"
    ]
    assert names(measured) == [("b", "left"), ("b", "right")]


def test_values_too_large_for_float32_are_named_too(site):
    (failure,) = reduced(site, Scripted(what="huge")).failures
    assert (
        "tap 'a' has 240 NaN or infinite values under 'learned' in 60 of 60 examples, the first: 'x0', 'x1'" in failure
    )


def test_a_pca_that_overflows_loses_only_its_tap(site):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # as scikit-learn meets it
        measured = reduced(site, PcaReduction(features=2), X * np.float32(1e38))
    (failure,) = measured.failures
    assert failure.startswith("model m, tap a, reduction learned: ")
    assert names(measured) == [("b", "left"), ("b", "right")]


@pytest.mark.parametrize(("what", "shape"), [("flat", (60,)), ("short", (59, 4)), ("none", (60, 0))])
def test_a_reduction_that_loses_the_rows_is_a_failure(site, what, shape):
    (failure,) = reduced(site, Scripted(what=what)).failures
    assert f"'learned' made shape {shape} of (60, 4), not (rows, features)" in failure


def test_a_reduction_to_doubles_is_fitted_as_float32(site):
    seen = []
    SCRIPT.before = lambda features, *_: seen.append(features.array)
    assert reduced(site, Scripted(what="fine")).failures == []
    assert seen[0].dtype == np.float32
    np.testing.assert_array_equal(seen[0], X[:, :2])


# --- memory -----------------------------------------------------------------------------------------------------------


class Stored:
    """A matrix in a store, which becomes an array only as a whole."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape = array, array.shape

    def read(self, rows: Any) -> Any:
        return self.array[rows]

    def blocks(self, rows_at_once: int = 8192, rows: Any = None) -> Any:
        return ArrayMatrix(self.array).blocks(rows_at_once, rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.array, dtype=dtype)


@pytest.mark.parametrize(
    ("memory", "held", "left"),
    [
        (None, True, None),
        (COPIES * X.nbytes, True, (COPIES - 1) * X.nbytes),
        (COPIES * X.nbytes - 1, False, COPIES * X.nbytes - 1),
    ],
)
def test_a_fit_is_told_the_memory_that_is_left_beside_its_features(site, memory, held, left):
    seen = []
    SCRIPT.before = lambda features, _, context: seen.append((type(features) is ArrayMatrix, context.memory))
    site.measure(SETS[:1], [Stored(X)], memory=memory)
    assert seen == [(held, left)]


def test_what_a_learned_reduction_gives_back_is_left_to_the_fit(site):
    seen = []
    SCRIPT.before = lambda features, _, context: seen.append(context.memory)
    sets = [feature_set("a", 4, "learned", Scripted(what="fine"))]
    site.measure(sets, [Stored(X)], memory=COPIES * X.nbytes)
    assert seen == [COPIES * X.nbytes - X.nbytes // 2]


def test_a_learned_reduction_that_does_not_fit_is_a_failure_with_the_numbers(site):
    sets = [feature_set("a", 4, "learned", Scripted(what="fine")), SETS[1]]
    measured = site.measure(sets, [Stored(X), Stored(X)], memory=100)
    (failure,) = measured.failures
    assert "'learned' at 'a' is fitted on 0 MiB, memory is 0 MiB; raise memory:" in failure
    assert names(measured) == [("b", "left"), ("b", "right")]


# --- fits that are kept -----------------------------------------------------------------------------------------------


def comparable(measured: Measurement) -> list[Any]:
    return [
        [one.model_dump(exclude={"seconds"}) for one in measured.scorer.probes],
        measured.failures,
        measured.scorer.keys,
        {key: value.tobytes() for key, value in measured.scorer.predicted.items()},
        {key: value.tobytes() for key, value in measured.scorer.losses.items()},
    ]


def test_a_run_that_was_interrupted_at_its_third_tap_makes_only_the_rest(site, tmp_path):
    SCRIPT.before = failing(KeyboardInterrupt(), tap=MATRICES[2])
    with pytest.raises(KeyboardInterrupt):
        site.measure()
    assert len(site.measured.journal.kept) == 2
    SCRIPT.before, SCRIPT.fits = lambda *_: None, []
    resumed = site.measure()
    assert SCRIPT.fits == [["left", "right"]]
    assert len(resumed.journal.found) == 2
    site.folder = tmp_path / "other"
    whole = site.measure()
    assert comparable(resumed) == comparable(whole)
    assert [one.seconds for one in resumed.scorer.probes[:4]] == [1.0, 1.0, 2.0, 2.0]


def test_beside_a_failure_the_other_factors_are_kept(site):
    SCRIPT.before = failing(ValueError("x"), tap=MATRICES[0])
    first = site.measure(SETS[:1])
    SCRIPT.fits = []
    again = site.measure(SETS[:1])
    assert SCRIPT.fits == [["left"]]
    assert comparable(again) == comparable(first)


@pytest.mark.parametrize("changed", ["features", "probe"])
def test_what_has_changed_is_fitted_again(site, changed):
    site.measure(SETS[:1])
    SCRIPT.fits = []
    matrix = X.copy()
    if changed == "features":
        matrix[7, 2] = np.nextafter(X[7, 2], np.float32(9))
    site.measure(SETS[:1], [matrix], {"ridge": ClosedForm(strength=2.0 if changed == "probe" else 1.0)})
    assert SCRIPT.fits == [["left", "right"]]


def test_a_damaged_file_costs_its_fit_and_a_warning(site):
    first = site.measure(SETS[:1])
    (path,) = site.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    SCRIPT.fits = []
    with pytest.warns(ProbekitWarning, match="the fit is made again"):
        again = site.measure(SETS[:1])
    assert SCRIPT.fits == [["left", "right"]]
    assert comparable(again) == comparable(first)
    SCRIPT.fits = []
    site.measure(SETS[:1])
    assert SCRIPT.fits == []


def test_without_a_journal_nothing_is_kept():
    measured = Measurement(question())
    for _ in range(2):
        list(measured.fit("m", None, SETS[:1], lambda _: ArrayMatrix(X), {"ridge": ClosedForm()}))
    assert len(SCRIPT.fits) == 2


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_names_tap_probe_heads_and_gap(site, monkeypatch):
    monkeypatch.setattr("probekit.progress._PAUSE", 0.0)
    told = []
    progress = FittingProgress(lambda *step: told.append(step[:4]), 8, 32.0)
    SCRIPT.before = lambda _, __, context: context.tell(FitProgress(2, 6, 0.03, 9))
    sets = [SETS[0], feature_set("a", 4, "other"), SETS[2], feature_set("d", 4, "broken", Scripted(what="flat"))]
    probes: dict[str, Probe] = {"one": ClosedForm(), "two": ClosedForm(strength=2.0)}
    site.measure(sets, [*MATRICES, X], probes, progress=progress)
    places = [
        f"tap {tap} ({reduction}) {probe}"
        for tap, reduction in [("1 of 3, m a", "flat"), ("1 of 3, m a", "other"), ("2 of 3, m c", "flat")]
        for probe in probes
    ]
    expected = [
        ("probes", number, 8, f"{heads}{place}")
        for number, place in enumerate(places)
        for heads in ("", "2 of 6 heads, worst gap 3e-2, ")
    ]
    assert told == [*expected, ("probes", 8, 8, "")]
