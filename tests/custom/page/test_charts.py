"""Values of charts."""

import numpy as np
import pytest

from kerastag.custom.page.charts import compute_calibration


def test_bins_compare_predictions_with_labels():
    probabilities = np.concatenate([np.full(50, 0.24), np.full(20, 0.75), np.full(4, 0.55), np.full(6, 1.0)])[:, None]
    targets = np.concatenate([np.arange(50) < 10, np.arange(20) < 15, np.ones(4), np.ones(6)]).astype(bool)[:, None]
    low, middle, high = compute_calibration(targets, probabilities)  # four predictions are too few
    assert (low["count"], low["present"]) == (50, 0.2)
    assert low["predicted"] == pytest.approx(0.24)
    assert low["interval"][0] < 0.2 < low["interval"][1]
    assert (middle["count"], middle["present"]) == (20, 0.75)
    assert (high["count"], high["predicted"], high["present"]) == (6, 1.0, 1.0)
