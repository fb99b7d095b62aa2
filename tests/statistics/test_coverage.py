"""How often 95 % intervals hold the truth, and how often tests err, in 1,000 simulated sets each.

A count of sets is held against the binomial distribution: beyond the bounds it would be one time in 500.
"""

import numpy as np
import pytest
from scipy.stats import binom, norm

from probekit.statistics.intervals import (
    auroc_interval,
    balanced_error_interval,
    mean_interval,
    r2_interval,
    share_interval,
    wilson_bounds,
)
from probekit.statistics.means import one_sided
from probekit.statistics.paired import paired_errors, paired_values

SETS = 1000
DRAWS = 400


def as_often_as(share, count):
    """Tell whether an event of this probability may happen in so many of the sets."""
    low, high = binom.ppf([0.001, 0.999], SETS, share)
    return low <= count <= high


def holds_95(make, truth):
    """Tell whether the interval of simulated sets holds the truth in 95 %; a few seeds keep their draws at hand."""
    found = [make(np.random.default_rng(number), number % 4) for number in range(SETS)]
    return as_often_as(0.95, sum(one.low <= truth <= one.high for one in found))


@pytest.mark.parametrize(("n", "share"), [(60, 0.1), (629, 0.016), (300, 0.5)])
def test_of_an_error(n, share):
    units = np.arange(n)
    assert holds_95(lambda rng, _: share_interval(rng.random(n) < share, units), share)


def test_of_an_error_of_grouped_rows_where_wilsons_would_fail():
    """120 groups of 8 rows; how hard a group is differs between groups."""
    units = np.repeat(np.arange(120), 8)

    def wrong(rng):
        return rng.random(960) < np.repeat(rng.beta(1, 4, 120), 8)

    assert holds_95(lambda rng, seed: share_interval(wrong(rng), units, seed, DRAWS), 0.2)
    naive = [wilson_bounds(wrong(np.random.default_rng(number)).sum(), 960) for number in range(SETS)]
    assert np.mean([low <= 0.2 <= high for low, high in naive]) < 0.85


def test_of_a_mean_of_skewed_numbers():
    units = np.arange(300)
    assert holds_95(lambda rng, seed: mean_interval(rng.exponential(size=300), units, seed, DRAWS), 1.0)


def test_of_a_balanced_error():
    """Three classes, of 60 %, 30 % and 10 % of the rows, wrong in 10 %, 20 % and 30 %."""
    rates, units = np.array([0.1, 0.2, 0.3]), np.arange(300)

    def make(rng, seed):
        codes = rng.choice(3, 300, p=[0.6, 0.3, 0.1])
        predicted = np.where(rng.random(300) < rates[codes], -1, codes)
        return balanced_error_interval(predicted, codes, units, seed, DRAWS)

    assert holds_95(make, 0.2)


def test_of_an_auroc():
    units = np.arange(150)

    def make(rng, seed):
        codes = (rng.random(150) < 0.3).astype(int)
        return auroc_interval(rng.standard_normal(150) + codes, codes, units, seed, DRAWS)

    assert holds_95(make, norm.cdf(1 / np.sqrt(2)))


def test_of_r2():
    units = np.arange(300)

    def make(rng, seed):
        x = rng.standard_normal(300)
        return r2_interval(x, x + 0.7 * rng.standard_normal(300), units, seed, DRAWS)

    assert holds_95(make, 1 - 0.49 / 1.49)


def test_of_a_paired_difference():
    """Two probes that err on the same rows more often than by chance: 20 % and 15 %, both on 10 %."""
    units = np.arange(150)

    def make(rng, _):
        draw = rng.random(150)
        return paired_errors(draw < 0.2, (draw < 0.1) | (draw > 0.95), units).interval

    assert holds_95(make, -0.05)


def test_mcnemar_errs_in_at_most_five_of_a_hundred():
    units = np.arange(120)
    draws = np.random.default_rng(0).random((SETS, 120))
    p = [paired_errors(draw < 0.25, (draw > 0.1) & (draw < 0.35), units).p for draw in draws]
    assert np.sum(np.array(p) <= 0.05) <= binom.ppf(0.999, SETS, 0.05)


def test_the_bootstraps_tests_err_in_about_five_of_a_hundred():
    """80 groups of 3 rows that go together; one-sided, the p is half of the two-sided one where the sign is right."""
    units, two_sided, upper = np.repeat(np.arange(80), 3), [], []
    for number in range(SETS):
        rng = np.random.default_rng(number)
        values = np.repeat(rng.standard_normal(80), 3) + rng.standard_normal(240)
        found = paired_values(np.zeros(240), values, units, number % 4, DRAWS)
        two_sided.append(found.p <= 0.05)
        upper.append(found.difference > 0 and found.p / 2 <= 0.05)
    values = np.repeat(np.random.default_rng(1).standard_normal(80), 3)
    found = paired_values(np.zeros(240), values + 0.1, units)
    assert one_sided(values + 0.1, units)[2] == found.p / 2
    assert as_often_as(0.05, np.sum(two_sided))
    assert as_often_as(0.05, np.sum(upper))
