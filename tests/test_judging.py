"""Neighbouring taps compared row by row, and whether there is information: against closed forms and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score
from statsmodels.stats.multitest import multipletests

from probekit import Plugins, load_result, load_spec, run_spec
from probekit.judging import NEGLIGIBLE, judge, neighbours
from probekit.predictions import FILE, Predictions, load_predictions
from probekit.results import (
    CertificateRecord,
    GraphRecord,
    IntervalRecord,
    ProbeIdentity,
    ProbeResult,
    RunResult,
    TapRecord,
)
from probekit.statistics.means import one_sided
from probekit.statistics.multiple import SIGNIFICANT

TRAIN, VALID, TEST = 200, 50, 300
COUNT = TRAIN + VALID + TEST
PARTS = {
    "train": np.arange(TRAIN), "valid": np.arange(TRAIN, TRAIN + VALID), "test": np.arange(TRAIN + VALID, COUNT),
    "far": np.array([], dtype=int),
}  # fmt: skip


def graph_of(taps, edges=(), inputs=()):
    records = [
        TapRecord(
            model="m", tap=tap, name=tap, op="Input" if tap in inputs else "Relu", shape=[4], dtype="float32",
            layout="NC", depth=depth,
        )
        for depth, tap in enumerate(taps)
    ]  # fmt: skip
    return GraphRecord(taps=records, edges=[["m", *edge] for edge in edges])


class Made:
    """A run made by hand: probes in the order in which they are added."""

    def __init__(self, labels, groups=None, parts=PARTS):
        self.labels, self.groups, self.parts = labels, groups, parts
        self.count = len(next(iter(labels.values())))
        self.probes, self.keys, self.predicted, self.losses = [], {}, {}, {}

    def add(self, tap, predicted, losses, *, factor="f", status="proven", intervals=None, error=0.5, **changes):
        task = {"i": "classes", "f": "number"}[self.labels[factor].dtype.kind]
        task = "multilabel" if self.labels[factor].ndim == 2 else task
        metric = "r2" if task == "number" else "error"
        scores = {metric: {"train": error, "valid": error, "test": error}}
        probe = ProbeResult(**{
            "model": "m", "checkpoint": None, "tap": tap, "reduction": "pool", "factor": factor, "probe": "p",
            "control": None, "seed": 0, "task": task, "scores": scores, "primary": metric,
            "error": None if task == "number" else scores[metric], "penalty": 0.1, "features_raw": 1,
            "features_used": 1, "rows": {}, "seconds": 0.0, "intervals": intervals or {},
            "certificate": CertificateRecord(status=status, gap=None, of_chance=None, of_objective=None),
        } | changes)  # fmt: skip
        key = str(len(self.keys))
        self.probes.append(probe)
        self.keys[key] = {name: getattr(probe, name) for name in ProbeIdentity.model_fields}
        self.predicted[key], self.losses[key] = np.asarray(predicted), np.asarray(losses, dtype=float)

    def predictions(self):
        ids = np.array([f"x{number}" for number in range(self.count)])
        return Predictions.of(ids, self.groups, self.parts, self.labels, self.predicted, self.losses, self.keys)

    def result(self, graph=None, baseline=0.5):
        facts = {factor: {"baseline": {"test": baseline}} for factor in self.labels}
        return RunResult(
            name="n", probes=self.probes, model=[], graph=graph or graph_of([]), provenance={"labels": facts}
        )

    def judged(self, graph=None, baseline=0.5):
        return judge(self.result(graph, baseline), self.predictions())


def wrong_where(codes, wrong):
    """Return predictions of two classes that are wrong in some of the test rows."""
    predicted = codes.copy()
    rows = PARTS["test"][wrong]
    predicted[rows] = 1 - predicted[rows]
    return predicted


@pytest.fixture
def codes():
    return np.random.default_rng(0).integers(0, 2, COUNT)


# --- which taps are neighbours ----------------------------------------------------------------------------------------


def test_in_a_chain_each_tap_goes_with_the_one_before():
    graph = graph_of("abcd", [("a", "b"), ("b", "c"), ("c", "d")])
    assert neighbours(graph, "m", list("abcd")) == [("a", "b"), ("b", "c"), ("c", "d")]


def test_a_residual_sum_goes_with_both_that_feed_it():
    graph = graph_of("abcd", [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")])
    assert neighbours(graph, "m", list("abcd")) == [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]


def test_an_auxiliary_branch_goes_with_the_tap_that_it_leaves():
    graph = graph_of(["a", "b", "aux", "c"], [("a", "b"), ("b", "aux"), ("b", "c")])
    assert neighbours(graph, "m", ["a", "b", "aux", "c"]) == [("a", "b"), ("b", "aux"), ("b", "c")]


def test_a_tap_without_a_probe_is_passed_through():
    graph = graph_of("abcd", [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")])
    assert neighbours(graph, "m", ["a", "d"]) == [("a", "d")]


def test_without_edges_depth_decides():
    assert neighbours(graph_of("abc"), "m", list("abc")) == [("a", "b"), ("b", "c")]
    assert neighbours(graph_of([]), "m", list("abc")) == [("a", "b"), ("b", "c")]
    assert neighbours(graph_of("abc", [("a", "b")]), "another", list("abc")) == [("a", "b"), ("b", "c")]


def test_inputs_go_with_nothing_and_taps_of_unknown_origin_with_the_one_before():
    graph = graph_of("abcd", [("a", "c")], inputs="ab")
    assert neighbours(graph, "m", list("abcd")) == [("a", "c"), ("c", "d")]


@pytest.mark.parametrize("taps", [[], ["a"]])
def test_one_tap_has_no_neighbour(taps):
    assert neighbours(graph_of("a"), "m", taps) == []


@given(st.data())
def test_neighbours_are_joined_by_a_path_that_passes_no_other_tap(data):
    names = [str(number) for number in range(data.draw(st.integers(1, 7)))]
    ahead = [(a, b) for place, b in enumerate(names) for a in names[:place]]
    edges = data.draw(st.lists(st.sampled_from(ahead), unique=True)) if ahead else []
    taps = [name for name in names if data.draw(st.booleans())]
    found = neighbours(graph_of(names, edges, inputs=names), "m", taps)

    def reached(place):
        """Return the taps that a path from a place reaches first."""
        return {end for a, b in edges if a == place for end in ({b} if b in taps else reached(b))}

    assert sorted(found) == sorted((tap, end) for tap in taps for end in reached(tap))
    assert found == sorted(found, key=lambda pair: (taps.index(pair[1]), taps.index(pair[0])))


# --- paired differences -----------------------------------------------------------------------------------------------


def test_a_step_is_mcnemars_test_of_the_rows_that_one_tap_alone_gets_wrong(codes):
    made = Made({"f": codes})
    wrong = {"a": np.arange(100), "b": np.arange(60, 130), "c": np.arange(60, 131)}
    for tap, some in wrong.items():
        made.add(tap, wrong_where(codes, some), np.zeros(COUNT))
    result = made.judged(graph_of("abc", [("a", "b"), ("b", "c")]))
    first, second = result.comparisons
    assert (first.before, first.after, first.metric, first.test) == ("a", "b", "error", "mcnemar_exact")
    assert (first.n, first.only_before_wrong, first.only_after_wrong) == (TEST, 60, 30)
    assert first.difference == pytest.approx(-30 / TEST)
    assert first.interval.low < first.difference < first.interval.high < 0
    assert (first.interval.kind, first.interval.over) == ("newcombe", "examples")
    assert (second.only_before_wrong, second.only_after_wrong) == (0, 1)
    p = [binomtest(30, 90).pvalue, binomtest(0, 1).pvalue]
    assert [one.p for one in result.comparisons] == pytest.approx(p)
    assert [one.p_adjusted for one in result.comparisons] == pytest.approx(multipletests(p, method="holm")[1])


def test_holms_method_counts_the_pairs_of_one_group_only(codes):
    made = Made({"f": codes, "g": codes})
    for factor, size in (("f", 20), ("g", 12)):
        for tap, some in (("a", np.arange(0)), ("b", np.arange(size)), ("c", np.arange(size))):
            made.add(tap, wrong_where(codes, some), np.zeros(COUNT), factor=factor)
    found = {(one.factor, one.after): one for one in made.judged().comparisons}
    assert list(found) == [("f", "b"), ("f", "c"), ("g", "b"), ("g", "c")]
    for factor, size in (("f", 20), ("g", 12)):
        p = [binomtest(0, size).pvalue, 1.0]
        adjusted = [found[factor, tap].p_adjusted for tap in "bc"]
        assert adjusted == pytest.approx(multipletests(p, method="holm")[1])


def test_a_vector_is_compared_with_the_tap_before_under_each_reduction(codes):
    """The step between the vectors is of both curves: its p is the larger one of the two corrections."""
    made = Made({"f": codes})
    wrong = {("a", "pool"): 60, ("a", "flat"): 45, ("b", "pool"): 52, ("b", "flat"): 30, "c": 22, "d": 10}
    for place, count in wrong.items():
        tap, reduction = (place, "flat") if isinstance(place, str) else place
        predicted = wrong_where(codes, np.arange(count))
        made.add(tap, predicted, np.zeros(COUNT), reduction=reduction, vector=tap in "cd")
    steps = made.judged(graph_of("abcd", [("a", "b"), ("b", "c"), ("c", "d")])).comparisons
    found = {(one.before, one.before_reduction, one.after, one.reduction): one for one in steps}
    families = [
        [("a", name, "b", name), ("b", name, "c", "flat"), ("c", "flat", "d", "flat")] for name in ("pool", "flat")
    ]
    assert set(found) == set(families[0]) | set(families[1])
    counts = {**wrong, ("c", "flat"): 22, ("d", "flat"): 10}
    expected = {}
    for family in families:
        p = [binomtest(0, counts[one[:2]] - counts[one[2:]]).pvalue for one in family]
        for one, adjusted in zip(family, multipletests(p, method="holm")[1], strict=True):
            expected[one] = max(expected.get(one, 0), adjusted)
    assert {place: one.p_adjusted for place, one in found.items()} == pytest.approx(expected)


def test_only_probes_of_the_same_reduction_kind_and_checkpoint_are_compared(codes):
    made = Made({"f": codes})
    for changes in ({}, {"reduction": "flatten"}, {"probe": "paper"}, {"checkpoint": "late"}, {"model": "other"}):
        made.add("a", codes, np.zeros(COUNT), **changes)
    assert made.judged().comparisons == []


def test_rows_of_one_group_are_drawn_together(codes):
    made = Made({"f": codes}, groups=np.arange(COUNT) // 5)
    made.add("a", wrong_where(codes, np.arange(100)), np.zeros(COUNT))
    made.add("b", wrong_where(codes, np.arange(10)), np.zeros(COUNT))
    (step,) = made.judged().comparisons
    assert (step.test, step.interval.kind) == ("paired_bootstrap", "percentile_bootstrap")
    assert (step.interval.over, step.interval.n, step.n) == ("groups", TEST // 5, TEST)
    assert step.difference == pytest.approx(-90 / TEST)


def test_yes_no_labels_are_compared_by_their_share_of_wrong_answers():
    answers = np.random.default_rng(1).integers(0, 2, (COUNT, 3))
    made = Made({"tags": answers})
    near, far = answers.copy(), answers.copy()
    near[PARTS["test"][:90], 0] ^= 1
    far[PARTS["test"][:90]] ^= 1
    made.add("a", far, np.zeros((COUNT, 3)), factor="tags")
    made.add("b", near, np.zeros((COUNT, 3)), factor="tags")
    (step,) = made.judged().comparisons
    assert (step.metric, step.test, step.n) == ("error", "paired_bootstrap", TEST)
    assert (step.only_before_wrong, step.only_after_wrong) == (None, None)
    assert step.difference == pytest.approx(np.mean(near[-TEST:] != answers[-TEST:]) - 90 / TEST)
    assert step.interval.high < 0


def test_numbers_are_compared_by_their_squared_errors():
    numbers = np.random.default_rng(1).normal(size=COUNT)
    made = Made({"snr": numbers})
    for tap, off in (("a", 0.5), ("b", 2.0)):
        made.add(tap, numbers + off, np.full(COUNT, off**2), factor="snr")
    (step,) = made.judged().comparisons
    r2 = [r2_score(numbers[-TEST:], numbers[-TEST:] + off) for off in (0.5, 2.0)]
    assert (step.metric, step.difference) == ("r2", pytest.approx(r2[1] - r2[0]))
    assert step.interval.low <= step.difference <= step.interval.high < 0
    assert step.p < 0.05


def test_numbers_that_are_all_alike_have_no_steps():
    numbers = np.ones(COUNT)
    numbers[:TRAIN] = np.arange(TRAIN)
    made = Made({"snr": numbers})
    for tap in "ab":
        made.add(tap, numbers, np.zeros(COUNT), factor="snr")
    assert made.judged().comparisons == []


def test_any_number_of_steps_can_be_significant():
    """A draw fewer a pair, and Holm's method would leave no step below 0.05."""
    numbers = np.random.default_rng(1).normal(size=COUNT)
    made = Made({"snr": numbers})
    for number in range(301):
        made.add(f"t{number}", numbers + number, np.full(COUNT, float(number)) ** 2, factor="snr")
    steps = made.judged().comparisons
    assert len(steps) == 300
    assert {one.interval.draws for one in steps} == {24_000}
    assert max(one.p_adjusted for one in steps) < 0.05


def test_a_missed_probe_and_a_control_have_neither_comparison_nor_information(codes):
    made = Made({"f": codes})
    made.add("a", codes, np.zeros(COUNT))
    made.add("b", codes, np.zeros(COUNT), status="missed")
    made.add("b", codes, np.zeros(COUNT), control="shuffled_labels", seed=1)
    made.add("c", codes, np.zeros(COUNT), status="not_applicable")
    result = made.judged(graph_of("abc", [("a", "b"), ("b", "c")]))
    assert [(one.before, one.after) for one in result.comparisons] == [("a", "c")]
    assert [one.tap for one in result.information] == ["a", "c"]


def test_without_probes_there_is_nothing(codes):
    result = Made({"f": codes}).judged()
    assert (result.comparisons, result.information) == ([], [])


def test_a_probe_without_predictions_is_a_fault(codes):
    made, other = Made({"f": codes}), Made({"f": codes})
    made.add("a", codes, np.zeros(COUNT))
    other.add("b", codes, np.zeros(COUNT))
    with pytest.raises(KeyError):
        judge(made.result(), other.predictions())


# --- information ------------------------------------------------------------------------------------------------------


def shares_of(codes):
    return np.bincount(codes[:TRAIN]) / TRAIN


def test_the_gain_over_classes_is_the_difference_of_two_log_losses():
    rng = np.random.default_rng(2)
    codes = rng.choice(3, COUNT, p=[0.6, 0.3, 0.1])
    given_p = rng.dirichlet([1, 1, 1], COUNT) + 2 * np.eye(3)[codes]
    given_p /= given_p.sum(axis=1, keepdims=True)
    made = Made({"f": codes})
    made.add("a", codes, -np.log(given_p[np.arange(COUNT), codes]))
    (found,) = made.judged().information
    test = codes[-TEST:]
    chance = log_loss(test, np.tile(shares_of(codes), (TEST, 1)), labels=range(3))
    assert found.gain == pytest.approx(chance - log_loss(test, given_p[-TEST:], labels=range(3)), rel=1e-6)
    assert found.of_chance == pytest.approx(found.gain / chance)
    assert found.interval.low < found.gain < found.interval.high
    assert found.interval.over == "examples"
    assert found.answer == "yes"


def test_who_knows_the_shares_gains_nothing_and_who_knows_all_gains_all(codes):
    made = Made({"f": codes})
    made.add("shares", codes, -np.log(shares_of(codes))[codes])
    made.add("all", codes, np.zeros(COUNT))
    shares, everything = made.judged(baseline=0.1).information
    assert shares.gain == pytest.approx(0, abs=1e-6)
    assert (shares.answer, everything.answer) == ("no", "yes")
    assert everything.of_chance == 1
    assert everything.gain == pytest.approx(-np.log(shares_of(codes))[codes[-TEST:]].mean())


def test_gains_over_yes_no_labels_are_summed():
    rng = np.random.default_rng(3)
    answers = (rng.random((COUNT, 2)) < [0.2, 0.7]).astype(int)
    said = np.clip(rng.random((COUNT, 2)), 0.05, 0.95)
    losses = -np.log(np.where(answers == 1, said, 1 - said))
    made = Made({"tags": answers})
    made.add("a", answers, losses, factor="tags")
    (found,) = made.judged().information
    yes = answers[:TRAIN].mean(axis=0)
    chance = sum(log_loss(answers[-TEST:, k], np.full(TEST, yes[k])) for k in range(2))
    own = sum(log_loss(answers[-TEST:, k], said[-TEST:, k]) for k in range(2))
    assert found.gain == pytest.approx(chance - own, rel=1e-6)
    assert found.of_chance == pytest.approx((chance - own) / chance, rel=1e-6)


def test_the_gain_of_a_number_is_the_share_of_its_variance_that_is_explained():
    rng = np.random.default_rng(4)
    half = rng.normal(100, 5, TRAIN)
    numbers = np.concatenate([half, rng.normal(100, 5, VALID), half, half[:100]])  # test has train's mean, nearly
    said = numbers + rng.normal(0, 2, COUNT)
    made = Made({"snr": numbers})
    made.add("a", said, (said - numbers) ** 2, factor="snr")
    (found,) = made.judged().information
    train, test = numbers[:TRAIN], numbers[-TEST:]
    expected = (np.mean((test - train.mean()) ** 2) - np.mean((test - said[-TEST:]) ** 2)) / train.var()
    assert found.gain == pytest.approx(expected, rel=1e-5)
    around_train = 1 - np.sum((test - said[-TEST:]) ** 2) / np.sum((test - train.mean()) ** 2)
    assert found.of_chance == pytest.approx(around_train, rel=1e-5)
    assert found.of_chance == pytest.approx(r2_score(test, said[-TEST:]), abs=0.01)
    assert found.answer == "yes"


def test_rows_without_a_label_count_for_nothing(codes):
    partly = codes.copy()
    partly[[0, 1, 2, -1, -2]] = -1
    losses = np.where(partly < 0, np.nan, 0.5)
    left = np.flatnonzero(partly >= 0)
    parts = {split: np.searchsorted(left, np.intersect1d(rows, left)) for split, rows in PARTS.items()}
    made, cut = Made({"f": partly}), Made({"f": partly[left]}, parts=parts)
    made.add("a", codes, losses)
    cut.add("a", codes[left], losses[left])
    (found,), (expected,) = made.judged().information, cut.judged().information
    assert found.gain == pytest.approx(expected.gain)
    assert found.interval.n == TEST - 2


def noisy(codes, mean, spread, seed=0):
    """Return losses whose gains over chance have a mean and a deviation on the test rows."""
    noise = np.random.default_rng(seed).normal(size=COUNT)
    noise[-TEST:] = (noise[-TEST:] - noise[-TEST:].mean()) / noise[-TEST:].std()
    return -np.log(shares_of(codes))[codes] - mean - spread * noise


@pytest.mark.parametrize(
    ("mean", "spread", "answer"),
    [
        (0.1, 0.1, "yes"),
        (0.004, 0.001, "yes"),  # little, but certain
        (-0.1, 0.1, "no"),
        (0.0, 0.001, "no"),
        (3e-5, 1e-5, "no"),  # less than a fit is proven to
        (0.0, 1.0, "cannot_tell"),  # it may be a good deal
    ],
)
def test_a_small_gain_that_is_certain_is_yes_and_a_large_one_that_is_possible_is_no_no(codes, mean, spread, answer):
    made = Made({"f": codes})
    made.add("a", codes, noisy(codes, mean, spread))
    (found,) = made.judged(baseline=0.1).information
    chance = -np.log(shares_of(codes))[codes[-TEST:]].mean()
    assert found.answer == answer
    assert (found.p_adjusted < SIGNIFICANT) == (mean > 0)
    if answer != "yes":
        assert (found.interval.high < NEGLIGIBLE * chance) == (answer == "no")


def test_a_probe_that_is_surely_better_than_chance_is_not_said_to_have_read_nothing(codes):
    """Its probabilities may be worse than the shares: one that is wrong seldom, and then far too sure."""
    made = Made({"f": codes})
    losses = noisy(codes, -0.5, 0.1)
    for tap, high in (("sure", 0.2), ("unsure", 0.6)):
        interval = IntervalRecord(low=0.05, high=high, kind="wilson", over="examples", n=TEST)
        intervals = {"error": {"train": interval.model_copy(update={"high": 1.0}), "test": interval}}
        made.add(tap, codes, losses, intervals=intervals)
    made.add("no interval", codes, losses, error=0.2)
    assert [one.answer for one in made.judged().information] == ["cannot_tell", "no", "cannot_tell"]


def test_more_taps_need_more_evidence(codes):
    alone, many = Made({"f": codes}), Made({"f": codes})
    weak = noisy(codes, 2.1 / math.sqrt(TEST), 1.0)
    alone.add("weak", codes, weak)
    many.add("weak", codes, weak)
    for number in range(5):
        many.add(f"t{number}", codes, noisy(codes, 0.0, 1.0, seed=number))
    many.add("weak", codes, weak, reduction="flatten")
    many.add("weak", codes, weak, probe="paper")
    (one,), several = alone.judged().information, many.judged().information
    assert one.answer == "yes"
    assert [found.answer for found in several] == ["cannot_tell"] * 7 + ["yes"]  # the last is a family of its own
    adjusted = multipletests([found.p for found in several[:7]], method="holm")[1]
    assert [found.p_adjusted for found in several[:7]] == pytest.approx(adjusted)


@pytest.mark.parametrize("taps", [60, 600])
def test_what_is_certain_is_so_among_many_taps_too(taps):
    codes = np.tile([0, 1], 20)
    made = Made({"f": codes}, parts={"train": np.arange(10), "valid": np.arange(10, 20), "test": np.arange(20, 40)})
    for number in range(taps):
        made.add(f"t{number}", codes, np.full(40, number / taps / 2))
    found = made.judged().information
    assert {one.answer for one in found} == {"yes"}
    assert [one.gain for one in found] == pytest.approx([np.log(2) - number / taps / 2 for number in range(taps)])


@pytest.mark.parametrize("groups", [None, np.arange(COUNT) // 7])
def test_p_and_interval_are_those_of_one_sided(codes, groups):
    made = Made({"f": codes}, groups=groups)
    for number in range(3):
        made.add(f"t{number}", codes, noisy(codes, 0.05 * number, 1.0, seed=number))
    predictions = made.predictions()
    rows = predictions.rows("test", "f")
    for found, losses in zip(made.judged().information, predictions.losses.values(), strict=True):
        gains = (-np.log(shares_of(codes))[codes] - losses.astype(float))[rows]
        mean, interval, p = one_sided(gains, predictions.units[rows])
        assert (found.gain, found.p) == pytest.approx((mean, p))
        expected = (interval.low, interval.high, interval.n, interval.draws)
        assert (found.interval.low, found.interval.high, found.interval.n, found.interval.draws) == pytest.approx(
            expected
        )


def test_one_unit_tells_nothing(codes):
    made = Made({"f": codes}, groups=np.zeros(COUNT, int))
    made.add("a", codes, np.zeros(COUNT))
    (found,) = made.judged().information
    assert (found.interval, found.p, found.answer) == (None, 1, "cannot_tell")


def test_losses_that_are_not_finite_say_nothing(codes):
    made = Made({"f": codes})
    made.add("a", codes, np.where(np.arange(COUNT) == COUNT - 1, np.inf, 0.5))
    made.add("b", codes, np.full(COUNT, 0.5))
    assert [one.tap for one in made.judged().information] == ["b"]


# --- simulations ------------------------------------------------------------------------------------------------------


def fitted(x, y, *, number=False):
    """Return predictions and losses of a penalised linear probe."""
    model = Ridge(alpha=20.0) if number else LogisticRegression(C=0.05)
    model.fit(x[:TRAIN], y[:TRAIN])
    predicted = model.predict(x)
    if number:
        return predicted, (predicted - y) ** 2
    return predicted, -model.predict_log_proba(x)[np.arange(COUNT), y]


@pytest.mark.parametrize("number", [False, True])
def test_a_permuted_factor_is_hardly_ever_yes(number):
    """At most one run in twenty may say yes of any tap: of 20 runs, more than 4 do so once in 400 times."""
    wrong, certain = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(4, COUNT, 5))
        true = x[:, :, 0].sum(axis=0) + rng.normal(size=COUNT)
        true = true if number else (true > 0).astype(int)
        made = Made({"true": true, "permuted": rng.permutation(true)})
        for tap in range(4):
            for factor, y in made.labels.items():
                made.add(f"t{tap}", *fitted(x[tap], y, number=number), factor=factor)
        found = made.judged(baseline=-0.01 if number else 0.5).information
        wrong += any(one.answer == "yes" for one in found if one.factor == "permuted")
        certain += all(one.answer == "yes" for one in found if one.factor == "true")
    assert wrong <= 4
    assert certain >= 18


# --- from memory and from the file ------------------------------------------------------------------------------------


def test_the_file_is_judged_as_memory_is(tmp_path, codes):
    numbers = np.random.default_rng(5).normal(size=COUNT)
    answers = np.stack([codes, 1 - codes], axis=1)
    made = Made({"f": codes, "snr": numbers, "tags": answers}, groups=np.arange(COUNT) // 3)
    rng = np.random.default_rng(6)
    for tap in "ab":
        made.add(tap, wrong_where(codes, rng.random(TEST) < 0.2), rng.random(COUNT))
        made.add(tap, numbers + rng.normal(size=COUNT), rng.random(COUNT), factor="snr")
        made.add(tap, rng.integers(0, 2, (COUNT, 2)), rng.random((COUNT, 2)), factor="tags")
    made.predictions().write(tmp_path / FILE)
    result, again = made.judged(), judge(made.result(), load_predictions(tmp_path))
    assert (len(result.comparisons), len(result.information)) == (3, 6)
    assert result == again
    assert result.to_json() == again.to_json()
    assert RunResult.model_validate_json(result.to_json()) == result
    assert made.result() == result.model_copy(update={"comparisons": [], "information": []})


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(specs, tmp_path_factory):
    settings = (
        "taps=[image, linear, logits]", "reductions={flatten: {kind: flatten}}", "reports=[]",
        "probe={kind: linear, penalty: 0.01}",
    )  # fmt: skip
    plugins = Plugins()
    return run_spec(load_spec(specs / "digits.yaml", plugins, settings), plugins, tmp_path_factory.mktemp("digits"))


def test_what_a_run_has_judged_in_memory_is_judged_again_from_its_files(digits):
    assert judge(load_result(digits.directory), load_predictions(digits.directory)) == digits.result


def test_every_tap_of_the_digits_tells_of_digit_and_parity(digits):
    result = digits.result
    assert [one.answer for one in result.information] == ["yes"] * 6
    by_tap = {(one.tap, one.factor): one for one in result.information}
    for probe in result.probes:
        found = by_tap[probe.tap, probe.factor]
        assert 0.3 < found.of_chance < 1
        chance = found.gain / found.of_chance
        assert chance - found.gain == pytest.approx(probe.scores["cross_entropy"]["test"], rel=1e-4)


def test_the_steps_of_the_digits_are_those_of_their_scores(digits):
    result = digits.result
    steps = [("image", "linear"), ("linear", "logits")]
    assert [(one.before, one.after) for one in result.comparisons if one.factor == "digit"] == steps
    error = {(one.tap, one.factor): one.error["test"] for one in result.probes}
    for one in result.comparisons:
        assert one.difference == pytest.approx(error[one.after, one.factor] - error[one.before, one.factor])
        assert one.difference * one.n == pytest.approx(one.only_after_wrong - one.only_before_wrong)
        alone = one.only_after_wrong + one.only_before_wrong
        assert one.p == pytest.approx(binomtest(one.only_after_wrong, alone).pvalue if alone else 1)
    (lost,) = [one for one in result.comparisons if (one.after, one.factor) == ("logits", "parity")]
    assert lost.difference > 0
    assert lost.p_adjusted < 0.05
