"""Quantiles from a fixed histogram against NumPy's, and memory as the system has it."""

import math
import sys

import numpy as np
import pytest

from checks import run_python
from kerastag.edge.stats import Histogram


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_right_to_a_bin(share):
    values = np.random.default_rng(0).lognormal(-4, 2, 2_000)
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = np.quantile(values, share, method="inverted_cdf")
    assert exact <= histogram.quantile(share) * (1 + 1e-12)
    assert histogram.quantile(share) <= exact * 10**0.05 * (1 + 1e-12)


def test_values_beyond_the_bins_are_kept_in_the_last_ones():
    histogram = Histogram()
    assert math.isnan(histogram.quantile(0.5))
    histogram.add(0.0)
    assert histogram.quantile(0.5) == 0.0
    histogram.add(1e9)
    assert histogram.quantile(1.0) == 1e4
    assert histogram.max == 1e9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_is_what_is_resident():
    # A fresh process: in this one the allocator may have that much to spare.
    code = """
import numpy as np
from kerastag.edge.stats import resident_bytes
before = resident_bytes()
large = np.ones(30_000_000, np.uint8)
print(resident_bytes() - before)
"""
    assert 25e6 < int(run_python(code)) < 40e6
