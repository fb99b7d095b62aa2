"""The searches and the arithmetic of the benchmark of fits, on made methods."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("fitting_rivals", "fitting_duel", "fitting_loops", "fitting_problems", "fitting_scale")


@pytest.fixture(scope="module")
def bench():
    """The modules, which import each other by name."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in set(sys.modules) - before:
        if name.startswith("fitting_") or name == "side_by_side":
            del sys.modules[name]


def method(needed, tried, seconds_each=1.0):
    """A method that gets within 1e-4 in so many iterations."""

    def attempt(count):
        tried.append(count)
        return (1e-5 if count >= needed else 1.0 / count), count * seconds_each

    return attempt


@settings(deadline=None)
@given(needed=st.integers(1, 5000))
def test_the_smallest_count_is_found_to_5_percent(bench, needed):
    tried = []
    count, gap, _ = bench.fitting_rivals.smallest(method(needed, tried), 1e-4, 1e9)
    assert gap <= 1e-4
    assert needed <= count <= max(needed + 1, 1.06 * needed)
    assert len(tried) < 30


@given(needed=st.integers(2, 5000), limit=st.floats(1, 500))
@settings(deadline=None)
def test_a_search_keeps_within_its_limit(bench, needed, limit):
    tried = []
    count, gap, seconds = bench.fitting_rivals.smallest(method(needed, tried), 1e-4, limit)
    assert sum(tried) <= limit
    assert (gap <= 1e-4) == (count >= needed)
    assert seconds == count


def test_a_search_that_gets_nowhere_gives_its_best(bench):
    count, gap, _ = bench.fitting_rivals.smallest(lambda count: (1.0 / count, 0.0), 1e-4, 1e9, most=64)
    assert (count, gap) == (64, 1 / 64)


def test_the_ratio_is_against_the_fastest_that_got_there(bench):
    duels = bench.fitting_duel
    duel = duels.Duel("problem", 1e-3, 0.0, "ours")
    duel.lines = [
        duels.Line("slow", ratio=9.0),
        duels.Line("quick", ratio=4.0),
        duels.Line("stopped", ratio=2.0, reached=False),
        duels.Line("absent", note="not installed"),
    ]
    assert duel.ratio("slow", "quick", "stopped", "absent") == 4
    assert duel.ratio("slow", "stopped") == 9
    assert duel.ratio("stopped") == 2
    assert duel.ratio("absent") is None


def test_a_line_says_that_a_rival_did_not_get_there(bench):
    duels = bench.fitting_duel
    assert duels.Line("a", "x", 1, 2.0, 1e-3, 5.0, reached=False).cells()[5] == "> 5.00"
    assert duels.Line("a", "x", 1, 2.0, 1e-4, 5.0).cells()[5] == "5.00"
    assert len(duels.Line("a", note="not installed").cells()) == 7


@given(slope=st.floats(0.1, 3), scale=st.floats(1e-6, 10))
def test_the_exponent_is_the_slope_of_a_power(bench, slope, scale):
    sizes = [10, 20, 40, 80]
    assert bench.fitting_scale.exponent(sizes, [scale * size**slope for size in sizes]) == pytest.approx(slope)


def test_made_problems_are_the_same_every_time_and_hold_every_class(bench):
    one, same, other = (bench.fitting_problems.synthetic(300, 20, 50, seed) for seed in (0, 0, 1))
    assert one.features.shape == (300, 20)
    assert one.features.dtype == np.float32
    assert np.array_equal(one.features, same.features)
    assert np.array_equal(one.codes, same.codes)
    assert not np.array_equal(one.features, other.features)
    assert one.classes == len(np.unique(one.codes)) == 50
    assert one.features.min() >= 0


def test_made_labels_can_be_learnt_but_not_perfectly(bench):
    from sklearn.linear_model import LogisticRegression

    problem = bench.fitting_problems.synthetic(1500, 20, 5)
    X = (problem.features - problem.features.mean(axis=0)) / problem.features.std(axis=0)
    score = LogisticRegression(C=0.1).fit(X[:1000], problem.codes[:1000]).score(X[1000:], problem.codes[1000:])
    assert 0.4 < score < 0.97


def test_scikit_learns_lbfgs_is_stopped_where_the_gap_is_reached(bench):
    rivals = bench.fitting_rivals
    problem = bench.fitting_problems.synthetic(300, 10, 3)
    asked = []

    def gap(weights):
        asked.append(weights)
        return 1.0 if len(asked) < 3 else 1e-5

    contest = rivals.Contest(problem.features, problem.codes, 0.1, gap, lower=10.0)
    found = rivals.SklearnLbfgs().search(contest)
    assert found.setting == "float32, max_iter=3"
    assert all(W.shape == (3, 10) and b.shape == (3,) for W, b in asked)
    W, b = found.fit()
    np.testing.assert_allclose(W, asked[2][0], atol=1e-5)
    np.testing.assert_allclose(b, asked[2][1], atol=1e-5)


def test_two_classes_are_followed_as_two_rows(bench):
    rivals = bench.fitting_rivals
    problem = bench.fitting_problems.synthetic(300, 10, 2)
    asked = []
    contest = rivals.Contest(
        problem.features, problem.codes, 0.1, lambda weights: asked.append(weights) or 1e-5, lower=10.0
    )
    W, b = rivals.SklearnLbfgs().search(contest).fit()
    np.testing.assert_allclose(W, asked[0][0], atol=1e-6)
    assert W.shape == (2, 10)
    np.testing.assert_array_equal(W[0], -W[1])
    assert b[0] == -b[1]
