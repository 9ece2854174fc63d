"""The loss of one stream and of several against the formula in NumPy."""

import numpy as np
import pytest

from kerastag.training.stream_loss import StreamLoss

Y = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
P = np.random.default_rng(0).uniform(0.05, 0.95, (2, 3, 3)).astype(np.float32)


def cross_entropy(y, p, smoothing):
    y = y * (1 - smoothing) + smoothing / 2
    return -(y * np.log(p.astype(float)) + (1 - y) * np.log(1 - p.astype(float))).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sum_over_streams_and_what_they_make_together_is_not_in_it(smoothing):
    loss = StreamLoss(label_smoothing=smoothing)
    assert float(loss(Y, P[..., 0])) == pytest.approx(cross_entropy(Y, P[..., 0], smoothing), rel=1e-5)
    both = cross_entropy(Y, P[..., 1], smoothing) + cross_entropy(Y, P[..., 2], smoothing)
    assert float(loss(Y, P)) == pytest.approx(both, rel=1e-5)


def test_one_class_is_no_other_case():
    assert float(StreamLoss()(Y[:, :1], P[:, :1])) == pytest.approx(
        cross_entropy(Y[:, :1], P[:, :1, 1], 0) + cross_entropy(Y[:, :1], P[:, :1, 2], 0), rel=1e-5
    )
