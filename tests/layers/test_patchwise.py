"""Patchwise applies the network to each patch independently."""

import keras
import numpy as np
import pytest

from checks import check_batch_equals_items, check_config_round_trip, check_layer_saves_exactly, compute_outputs
from kerastag.layers.patchwise import Patchwise

X = np.random.default_rng(0).normal(size=(2, 23, 4)).astype(np.float32)


def network():
    return keras.Sequential([keras.Input((5, 4)), keras.layers.Flatten(), keras.layers.Dense(3)])


def test_patches_are_independent_and_the_remaining_frames_are_ignored():
    layer = Patchwise(network(), 5)
    got = compute_outputs(layer, X)["0"]
    assert got.shape == (2, 4, 3)
    kernel, bias = (w.numpy() for w in layer.network.weights)
    for patch in range(4):
        expected = X[:, patch * 5 : patch * 5 + 5].reshape(2, 20) @ kernel + bias
        np.testing.assert_allclose(got[:, patch], expected, rtol=1e-5, atol=1e-6)


def test_frames_may_vary_inside_a_model():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, Patchwise(network(), 5)(inputs))
    assert model.output_shape == (None, None, 3)
    for frames in (5, 9, 23):
        assert model.predict(X[:, :frames], verbose=0).shape == (2, frames // 5, 3)


def test_batch_saving_and_config():
    check_batch_equals_items(Patchwise(network(), 5), X)
    check_layer_saves_exactly(Patchwise(network(), 5), X)
    check_config_round_trip(Patchwise(network(), 5))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`patch_frames` must be an integer of at least 1; received: 0"):
        Patchwise(network(), 0)
    with pytest.raises(ValueError, match=r"shape \(batch, frames, mel_bins\); received: \(2, 23\)"):
        Patchwise(network(), 5)(X[..., 0])
