"""Tests of the loss of one stream and of several, against the formula in NumPy."""

import numpy as np
import pytest

from kerastag.training.stream_loss import StreamLoss

Y = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
P = np.random.default_rng(0).uniform(0.05, 0.95, (2, 3, 3)).astype(np.float32)


def cross_entropy(y, p, smoothing):
    y = y * (1 - smoothing) + smoothing / 2
    return -(y * np.log(p.astype(float)) + (1 - y) * np.log(1 - p.astype(float))).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_sum_over_the_streams_without_the_combined_probability(smoothing):
    loss = StreamLoss(label_smoothing=smoothing)
    assert float(loss(Y, P[..., 0])) == pytest.approx(cross_entropy(Y, P[..., 0], smoothing), rel=1e-5)
    both = cross_entropy(Y, P[..., 1], smoothing) + cross_entropy(Y, P[..., 2], smoothing)
    assert float(loss(Y, P)) == pytest.approx(both, rel=1e-5)


def test_the_loss_of_a_single_class_is_computed_in_the_same_way():
    assert float(StreamLoss()(Y[:, :1], P[:, :1])) == pytest.approx(
        cross_entropy(Y[:, :1], P[:, :1, 1], 0) + cross_entropy(Y[:, :1], P[:, :1, 2], 0), rel=1e-5
    )
