"""Intervals compared with SciPy, and their coverage by simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest, poisson

from kerastag.metrics import compute_count_interval, compute_median_interval, compute_share_interval


@pytest.mark.parametrize("count", [0, 1, 7, 200])
def test_the_limits_of_a_count_leave_a_fortieth_of_the_counts_on_each_side(count):
    low, high = compute_count_interval(count)
    assert poisson.cdf(count, high) == pytest.approx(0.025)
    assert low == 0 if count == 0 else poisson.sf(count - 1, low) == pytest.approx(0.025)


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 5), (5, 5), (70, 90)])
def test_the_interval_of_a_share_is_that_of_scipy(count, total):
    expected = binomtest(count, total).proportion_ci(method="wilson")
    np.testing.assert_allclose(compute_share_interval(count, total), expected, atol=1e-12)


def test_a_share_of_no_trials_may_be_anything():
    assert compute_share_interval(0, 0) == (0.0, 1.0)


def test_the_interval_of_a_median_contains_it_about_as_often_as_it_says():
    random = np.random.default_rng(3)
    intervals = [compute_median_interval(random.exponential(size=25)) for _ in range(100)]
    assert 88 <= sum(low <= np.log(2) <= high for low, high in intervals) <= 100
    assert compute_median_interval([2.0]) == (2.0, 2.0)
