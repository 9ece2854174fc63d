"""Confidence intervals of counts, of shares and of medians."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["compute_count_interval", "compute_median_interval", "compute_share_interval"]

_NUM_DRAWS = 2_000


def compute_count_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the exact interval of the expectation of a Poisson count.

    The lower limit is the `alpha / 2` quantile of chi-squared with `2 count` degrees of freedom, divided by 2, and the
    upper limit the `1 - alpha / 2` quantile with `2 count + 2`.

    Args:
        count: Number of events that were counted, at least 0.
        confidence: Share of the intervals that contain the expectation, at least, in (0, 1).

    >>> low, high = compute_count_interval(0)
    >>> round(low, 3), round(high, 3)
    (0.0, 3.689)

    Reference:
        Garwood, "Fiducial limits for the Poisson distribution", 1936.
    """
    from scipy.stats import chi2

    alpha = 1 - confidence
    low = float(chi2.ppf(alpha / 2, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(1 - alpha / 2, 2 * count + 2)) / 2


def compute_share_interval(count: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Wilson interval of a share; without any trial it is [0, 1].

    Args:
        count: Number of trials that succeeded, from 0 to `total`; a fraction where trials depend on each other.
        total: Number of trials, at least 0.
        confidence: Share of the intervals that contain the probability of a success, nearly, in (0, 1).

    >>> low, high = compute_share_interval(8, 8)
    >>> round(low, 3), high
    (0.676, 1.0)

    Reference:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    from scipy.stats import norm

    if not total:
        return 0.0, 1.0
    z, share = float(norm.ppf(0.5 + confidence / 2)), count / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    return (0.0 if count == 0 else middle - half), (1.0 if count == total else middle + half)


def compute_median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of a median, from 2,000 samples, the same for each call.

    Args:
        values: Values, at least one.
        confidence: Share of the bootstrap medians within the interval, in (0, 1).

    >>> compute_median_interval([1.0, 1.0, 2.0])
    (1.0, 2.0)
    """
    array = np.asarray(values, float)
    rows = np.random.default_rng(0).integers(len(array), size=(_NUM_DRAWS, len(array)))
    tails = (0.5 - confidence / 2, 0.5 + confidence / 2)
    low, high = np.quantile(np.median(array[rows], axis=1), tails, method="nearest")
    return float(low), float(high)
