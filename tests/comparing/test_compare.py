"""From two runs to a comparison, against closed forms and statsmodels."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from probekit.comparing.compare import compare
from probekit.comparing.gate import read_condition
from probekit.comparing.records import ComparisonResult
from probekit.errors import InputError, SpecError

CODES = np.arange(200) % 4


def wrong_at(rows, codes=CODES):
    """Return predictions that are wrong at some rows."""
    predicted = codes.copy()
    predicted[list(rows)] = (predicted[list(rows)] + 1) % 4
    return predicted


def two(runs, first, second, **changes):
    """Return two runs with one tap each, wrong at these rows."""
    return [runs([runs.said("t", wrong_at(rows))], {"f": CODES}, **changes) for rows in (first, second)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sets(st.integers(0, 199), max_size=60), st.sets(st.integers(0, 199), max_size=60))
def test_the_difference_of_two_errors(runs, first, second):
    (found,) = compare(*two(runs, first, second)).differences
    score, n = found.score, len(CODES)
    assert (score.metric, score.n, score.test) == ("error", n, "mcnemar_exact")
    assert score.first == pytest.approx(len(first) / n)
    assert score.second == pytest.approx(len(second) / n)
    assert score.difference == pytest.approx((len(second) - len(first)) / n)
    assert score.only_first_wrong == len(first - second)
    assert score.only_second_wrong == len(second - first)
    both, neither = len(first & second), n - len(first | second)
    table = [[neither, len(second - first)], [len(first - second), both]]
    assert score.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert score.interval.low <= score.difference <= score.interval.high
    assert (score.interval.kind, score.interval.over, score.interval.n) == ("newcombe", "examples", n)


def test_exchanged_sides_give_the_opposite(runs):
    runs_of_both = two(runs, range(30), range(20, 40))
    here, there = (compare(*pair).differences[0].score for pair in (runs_of_both, runs_of_both[::-1]))
    assert here.difference == -there.difference
    assert here.p == there.p
    assert here.interval.low == pytest.approx(-there.interval.high)


def test_p_is_adjusted_over_the_taps_of_a_factor(runs):
    taps = {"a": range(8), "b": range(14), "c": range(3)}
    first = runs([runs.said(tap, CODES) for tap in taps], {"f": CODES})
    second = runs([runs.said(tap, wrong_at(rows)) for tap, rows in taps.items()], {"f": CODES})
    scores = [one.score for one in compare(first, second).differences]
    expected = multipletests([score.p for score in scores], method="holm")[1]
    np.testing.assert_allclose([score.p_adjusted for score in scores], expected)
    assert [score.verdict() for score in scores] == ["worse", "worse", "same"]


def test_only_shared_rows_count(runs):
    first = runs([runs.said("t", wrong_at(range(100)))], {"f": CODES})
    later = slice(100, 200)
    second = runs([runs.said("t", CODES[later])], {"f": CODES[later]}, ids=np.arange(100, 200))
    result = compare(first, second)
    assert result.differences[0].score.first == 0.0
    assert result.differences[0].score.n == 100
    (factor,) = result.factors
    assert (factor.first_rows, factor.second_rows, factor.shared) == (200, 100, 100)
    assert result.notes == ["f: 100 test rows are in both runs and are compared; the first has 200, the second 100"]


def test_factors_with_as_many_shared_rows_are_told_in_one_note(runs):
    probes = [runs.said("t", CODES, factor=factor) for factor in ("f", "g")]
    fewer = [runs.said("t", CODES[:50], factor=factor) for factor in ("f", "g")]
    first = runs(probes, {"f": CODES, "g": CODES})
    result = compare(first, runs(fewer, {"f": CODES[:50], "g": CODES[:50]}))
    (note,) = result.notes
    assert note == "f, g: 50 test rows are in both runs and are compared; the first has 200, the second 50"


def test_grouped_rows_are_resampled_by_group(runs):
    groups = np.repeat(np.arange(20), 10)
    result = compare(*two(runs, range(10), range(40), groups=groups))
    score = result.differences[0].score
    assert (score.test, score.interval.kind) == ("paired_bootstrap", "percentile_bootstrap")
    assert (score.interval.over, score.interval.n) == ("groups", 20)
    assert score.difference == pytest.approx(0.15)
    assert result.factors[0].over == "groups"


def test_numbers_are_compared_by_r2(runs):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300).astype(np.float32)
    near, far = truth + 0.1 * rng.normal(size=300), truth + 0.5 * rng.normal(size=300)
    first, second = (runs([runs.said("t", said.astype(np.float32))], {"f": truth}) for said in (near, far))
    (found,) = compare(first, second).differences
    score = found.score

    def r2(said):
        wide = truth.astype(np.float64)
        return 1 - np.sum((said.astype(np.float32) - wide) ** 2) / np.sum((wide - wide.mean()) ** 2)

    assert score.metric == "r2"
    assert found.loss is None
    assert score.first == pytest.approx(r2(near), abs=1e-6)
    assert score.second == pytest.approx(r2(far), abs=1e-6)
    assert score.difference == pytest.approx(r2(far) - r2(near), abs=1e-6)
    assert score.interval.low < score.difference < score.interval.high < 0
    assert score.verdict() == "worse"
    assert score.worsening() == pytest.approx(100 * (r2(near) - r2(far)), abs=1e-4)
    assert score.least_worsening() == pytest.approx(-100 * score.interval.high)


def test_numbers_that_are_all_alike_have_no_r2(runs):
    first = runs([runs.said("t", np.zeros(4))], {"f": np.array([1.0, 2.0, 2.0, 2.0])})
    second = runs([runs.said("t", np.zeros(3))], {"f": np.array([2.0, 2.0, 2.0])}, ids=[1, 2, 3])
    with pytest.raises(InputError, match="so that R² is undefined"):
        compare(first, second)


def test_yes_no_labels_are_compared_over_all_answers(runs):
    codes = np.stack([CODES % 2, CODES // 2], axis=1)
    worse = codes.copy()
    worse[:50, 1] ^= 1
    second = runs([runs.said("t", worse, losses=np.full(codes.shape, 0.25))], {"f": codes})
    (found,) = compare(runs([runs.said("t", codes)], {"f": codes}), second).differences
    assert found.task == "multilabel"
    assert found.score.difference == pytest.approx(50 / 400)
    assert found.score.test == "paired_bootstrap"
    assert found.loss.second == pytest.approx(0.5)


def test_cross_entropy_shows_what_changes_no_prediction(runs):
    losses = np.random.default_rng(1).random(200)
    first = runs([runs.said("t", CODES, losses)], {"f": CODES})
    second = runs([runs.said("t", CODES, losses + 0.05)], {"f": CODES})
    result = compare(first, second)
    (found,) = result.differences
    assert found.score.difference == 0
    assert found.score.p == 1
    assert found.loss.difference == pytest.approx(0.05, abs=1e-6)
    assert found.loss.verdict() == "worse"
    assert "In cross-entropy it is worse at 1 of 1 tap, most at t: +0.050 nats" in result.factors[0].verdicts[0]


def test_cross_entropies_closer_than_fits_are_proven_are_not_judged(runs):
    """Two training rows of two classes: the entropy of their labels is log 2."""
    loss = np.random.default_rng(1).random(200)
    made = []
    for more in (0.0, 0.9e-4 * np.log(2), 1.1e-4 * np.log(2)):
        run = runs([runs.said("t", CODES, loss + more)], {"f": CODES})
        run.predictions.labels["f"][:2] = [0, 1]
        run.predictions.split[:2] = 0
        made.append(run)
    found = [compare(made[0], other).differences[0].loss for other in made[1:]]
    assert [one.verdict() for one in found] == ["same", "worse"]


def test_an_infinite_loss_is_not_compared(runs):
    first = runs([runs.said("t", CODES, np.where(CODES == 0, np.inf, 0.5))], {"f": CODES})
    assert compare(first, runs([runs.said("t", CODES)], {"f": CODES})).differences[0].loss is None


def test_a_missed_probe_is_shown_and_not_judged(runs):
    first = runs([runs.said("a", CODES), runs.said("b", CODES, status="missed")], {"f": CODES})
    second = runs([runs.said("a", CODES), runs.said("b", wrong_at(range(50)))], {"f": CODES})
    result = compare(first, second)
    assert [one.missed for one in result.differences] == [[], ["first"]]
    assert result.differences[1].score.difference == 0.25
    assert "has the same error as" in result.factors[0].verdicts[0]
    assert result.notes == ["1 of 2 differences are not judged, as a probe is not proven to be at its optimum: 'b'"]


def test_a_missed_probe_has_no_part_in_holms_method(runs):
    rows = {"a": range(8), "b": range(14), "lost": range(90), "c": range(3)}
    status = {tap: "missed" if tap == "lost" else "proven" for tap in rows}
    rng = np.random.default_rng(2)
    loss = rng.random((4, 200))
    first = runs([runs.said(tap, CODES, loss[0]) for tap in rows], {"f": CODES})
    said = [runs.said(tap, wrong_at(rows[tap]), one, status=status[tap]) for tap, one in zip(rows, loss, strict=True)]
    found = {one.first.tap: one for one in compare(first, runs(said, {"f": CODES})).differences}
    lost = found.pop("lost")
    assert (lost.score.p < 1e-9, lost.score.p_adjusted, lost.loss.p_adjusted) == (True, None, None)
    assert (lost.score.verdict(), lost.score.significant()) == ("same", False)
    for part in ("score", "loss"):
        tests = [getattr(one, part) for one in found.values()]
        expected = multipletests([one.p for one in tests], method="holm")[1]
        np.testing.assert_allclose([one.p_adjusted for one in tests], expected)


def test_any_number_of_differences_can_be_significant(runs):
    """By a bootstrap of 10,000 draws no p is below 2e-4, and times 300 it is above 0.05."""
    groups, taps = np.arange(200) // 2, [f"t{number}" for number in range(300)]
    rng = np.random.default_rng(4)
    loss = rng.random(200)
    first = runs([runs.said(tap, CODES, loss) for tap in taps], {"f": CODES}, groups=groups)
    worse = [runs.said(tap, wrong_at(range(80)), loss + rng.random(200)) for tap in taps[:3]]
    second = runs([*worse, *(runs.said(tap, CODES, loss) for tap in taps[3:])], {"f": CODES}, groups=groups)
    found = compare(first, second).differences
    assert [one.score.verdict() for one in found] == ["worse"] * 3 + ["same"] * 297
    assert [one.loss.verdict() for one in found] == ["worse"] * 3 + ["same"] * 297
    assert {one.score.interval.draws for one in found} == {24_000}


def test_the_baseline_is_that_of_the_split_that_is_compared(runs):
    tests = {"easy": np.arange(100), "test": np.arange(100, 200)}
    pair = [runs([runs.said("t", CODES)], {"f": CODES}, tests=tests) for _ in range(2)]
    for split, baseline in ((None, 0.6), ("easy", 0.6), ("test", 0.7)):
        (factor,) = compare(*pair, split=split).factors
        assert factor.baseline == pytest.approx(baseline)


def test_the_models_own_predictions(runs):
    first, second = (
        runs([runs.said("t", CODES)], {"f": CODES}, owns=(runs.own(wrong_at(rows)),)) for rows in (range(10), range(30))
    )
    (found,) = compare(first, second).models
    assert (found.first_output, found.second_output) == ("logits", "logits")
    assert found.score.difference == pytest.approx(0.1)
    assert compare(first, runs([runs.said("t", CODES)], {"f": CODES})).models == []


def test_two_models_of_one_run(runs):
    probes = [runs.said("t", CODES, model="float"), runs.said("t", wrong_at(range(40)), model="int8")]
    run = runs(probes, {"f": CODES}, owns=(runs.own(CODES, model="float"), runs.own(CODES, model="int8")))
    result = compare(run, run)
    assert (result.first.called, result.second.called) == ("float", "int8")
    assert result.differences[0].score.difference == 0.2
    assert len(result.models) == 1
    assert result.factors[0].verdicts[0].startswith("f: int8 is worse than float at 1 of 1 tap, most at t: 20.00 %")


def test_checkpoints_of_one_run(runs):
    probes = [runs.said("t", wrong_at(range(40)), checkpoint="100"), runs.said("t", CODES, checkpoint="200")]
    run = runs(probes, {"f": CODES})
    result = compare(run, run)
    assert (result.first.called, result.second.called) == ("100", "200")
    assert "200 is better than 100 at 1 of 1 tap" in result.factors[0].verdicts[0]


def test_controls_are_not_compared(runs):
    probes = [runs.said("t", CODES), runs.said("t", CODES, control="shuffled_labels")]
    first, second = (runs(probes, {"f": CODES, "f.shuffled_labels.0": CODES}) for _ in range(2))
    assert len(compare(first, second).differences) == 1


def test_several_reductions_and_probes_are_kept_apart(runs):
    probes = [
        runs.said("t", wrong_at(range(number)), reduction=reduction, probe=probe)
        for number, (reduction, probe) in enumerate([("pool", "l"), ("max", "l"), ("pool", "sgd")])
    ]
    result = compare(runs(probes, {"f": CODES}), runs(probes[::-1], {"f": CODES}))
    assert [(one.first.reduction, one.first.probe) for one in result.differences] == [
        ("pool", "l"), ("max", "l"), ("pool", "sgd"),
    ]  # fmt: skip
    assert all(one.score.difference == 0 for one in result.differences)
    assert [text.split(":")[0] for text in result.factors[0].verdicts] == ["f · l", "f · sgd"]


def test_the_only_reduction_of_each_is_compared_and_told(runs):
    first = runs([runs.said("t", CODES, reduction="default")], {"f": CODES})
    result = compare(first, runs([runs.said("t", CODES, reduction="pool")], {"f": CODES}))
    assert result.notes == ["the reduction 'default' is compared with 'pool'"]


def test_a_tap_whose_reductions_have_no_counterpart_is_told(runs):
    first = runs([runs.said("a", CODES), runs.said("b", CODES, reduction="flatten")], {"f": CODES})
    second = runs([runs.said("a", CODES), runs.said("b", CODES)], {"f": CODES})
    result = compare(first, second)
    assert [one.first.tap for one in result.differences] == ["a"]
    assert result.notes == ["f: not compared, as reduction or probe have other names in each: 'b'"]


def test_taps_without_a_counterpart_have_a_nearest_name(runs):
    first = runs([runs.said("a", CODES), runs.said("conv_1", CODES)], {"f": CODES})
    second = runs([runs.said("a", CODES), runs.said("conv_2", CODES)], {"f": CODES})
    found = [(one.side, one.tap, one.nearest) for one in compare(first, second).unmatched]
    assert found == [("first", "conv_1", "conv_2"), ("second", "conv_2", "conv_1")]
    mapped = compare(first, second, taps=["conv_1=conv_2"])
    assert mapped.unmatched == []
    assert [one.aligned for one in mapped.differences] == ["name", "map"]


def test_factors_of_one_run_alone_are_told(runs):
    both = [runs.said("t", CODES), runs.said("t", CODES, factor="g")]
    first = runs(both, {"f": CODES, "g": CODES})
    result = compare(first, runs(both[:1], {"f": CODES}))
    assert result.notes == ["only the first run asks for 'g'"]
    with pytest.raises(SpecError, match="no factor 'g' is in both runs"):
        compare(first, runs(both[:1], {"f": CODES}), factors=["g"])


def test_one_factor_alone(runs):
    run = [runs([runs.said("t", CODES), runs.said("t", CODES, factor="g")], {"f": CODES, "g": CODES}) for _ in range(2)]
    assert [one.factor for one in compare(*run, factors=["g"]).factors] == ["g"]


def test_nothing_in_common(runs):
    first = runs([runs.said("relu", CODES)], {"f": CODES})
    with pytest.raises(InputError) as caught:
        compare(first, runs([runs.said("conv", CODES)], {"f": CODES}))
    (problem,) = caught.value.problems
    assert (problem.code, problem.hint) == ("PK-X32", "write --map relu=conv, and so on")
    with pytest.raises(InputError, match="no label factor in common"):
        compare(first, runs([runs.said("relu", CODES, factor="g")], {"g": CODES}))
    other = [runs.said("relu", CODES, reduction=name) for name in ("a", "b")]
    with pytest.raises(InputError, match="no probe is in both runs"):
        compare(first, runs(other, {"f": CODES}))


def test_a_run_whose_fits_failed_is_told(runs):
    first, second = two(runs, [], [])
    partial = runs([runs.said("t", CODES)], {"f": CODES}, warnings=["the fit failed: tap u"])
    assert compare(first, second).notes == []
    assert compare(first, partial).notes == ["the second run is not whole: 1 of its fits failed"]


def test_the_record_comes_back_from_json(runs):
    result = compare(*two(runs, range(9), range(12)), fail_if=[read_condition("worse>1")])
    assert ComparisonResult.model_validate_json(result.to_json()) == result
    assert json.loads(result.to_json())["gates"][0]["held"] is True
