"""Linear softmax pooling equals its formula; masks and zeros."""

import keras
import numpy as np
import pytest

from checks import (
    check_batch_equals_items,
    check_config_round_trip,
    check_layer_saves_exactly,
    check_masked_padding_changes_nothing,
    compute_outputs,
)
from kerastag.layers.linear_softmax_pooling import LinearSoftmaxPooling

P = np.random.default_rng(0).uniform(size=(3, 7, 4)).astype(np.float32)


def test_equals_the_formula():
    exact = P.astype(float)
    expected = (exact**2).sum(axis=1) / exact.sum(axis=1)
    np.testing.assert_allclose(compute_outputs(LinearSoftmaxPooling(), P)["0"], expected, rtol=1e-6)


def test_a_single_frame_is_returned_and_zeros_give_zero():
    np.testing.assert_allclose(compute_outputs(LinearSoftmaxPooling(), P[:, :1])["0"], P[:, 0], rtol=1e-6)
    assert (compute_outputs(LinearSoftmaxPooling(), np.zeros_like(P))["0"] == 0).all()


def test_masked_padding_changes_nothing():
    mask = np.array([[True] * 7, [True] * 3 + [False] * 4, [True] + [False] * 6])
    check_masked_padding_changes_nothing(LinearSoftmaxPooling(), P, mask)


def test_batch_saving_and_config():
    check_batch_equals_items(LinearSoftmaxPooling(), P)
    check_layer_saves_exactly(LinearSoftmaxPooling(), P)
    check_config_round_trip(LinearSoftmaxPooling(name="pool"))


def test_is_float32_under_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    layer = LinearSoftmaxPooling()
    small = np.full((1, 1000, 1), 1e-4, np.float16)
    output = compute_outputs(layer, small)["0"]
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, 1e-4, rtol=1e-3)  # 1e-8 would be zero in float16


def test_inputs_without_frames_are_refused():
    with pytest.raises(ValueError, match=r"shape \(batch, frames, classes\); received: \(None, 4\)"):
        LinearSoftmaxPooling()(keras.Input((4,)))
