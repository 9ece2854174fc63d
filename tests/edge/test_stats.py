"""Quantiles of a fixed histogram, compared with NumPy's, and the memory of a process."""

import math
import sys

import numpy as np
import pytest

from kerastag.edge.stats import Histogram, get_resident_bytes


def test_quantiles_are_exact_to_one_bin():
    values = np.random.default_rng(0).lognormal(-4, 2, 2_000)
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert exact <= histogram.compute_quantile(share) * (1 + 1e-12)
        assert histogram.compute_quantile(share) <= exact * 10**0.05 * (1 + 1e-12)


def test_values_beyond_the_bins_count_in_the_outermost_bins():
    histogram = Histogram()
    assert math.isnan(histogram.compute_quantile(0.5))
    histogram.add(0.0)
    assert histogram.compute_quantile(0.5) == 0.0
    histogram.add(1e9)
    assert histogram.compute_quantile(1.0) == 1e4
    assert histogram.max == 1e9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_includes_a_new_array():
    # An array of this size is never put into memory that the allocator of this process has already.
    before = get_resident_bytes()
    large = np.ones(64_000_000, np.uint8)
    assert 59e6 < get_resident_bytes() - before < 74e6
    assert large[-1]
