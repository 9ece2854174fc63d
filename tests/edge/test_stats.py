"""Quantiles of a fixed histogram, compared with NumPy's, and the memory of a process."""

import math
import sys

import numpy as np
import pytest

from checks import run_python
from kerastag.edge.stats import Histogram


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_exact_to_one_bin(share):
    values = np.random.default_rng(0).lognormal(-4, 2, 2_000)
    histogram = Histogram()
    for value in values:
        histogram.add(value)
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
    # A new process, since the allocator of this one may have that much free memory.
    code = """
import numpy as np
from kerastag.edge.stats import get_resident_bytes
before = get_resident_bytes()
large = np.ones(30_000_000, np.uint8)
print(get_resident_bytes() - before)
"""
    assert 25e6 < int(run_python(code)) < 40e6
