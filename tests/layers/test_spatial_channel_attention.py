"""Spatial and channel attention equals its formula."""

import keras
import numpy as np
import pytest

from checks import check_batch_equals_items, check_config_round_trip, check_layer_saves_exactly, compute_outputs
from kerastag.layers.spatial_channel_attention import SpatialChannelAttention

X = np.random.default_rng(0).normal(size=(2, 9, 6, 8)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def same_convolution(x, kernel, bias):
    """Convolve `(frames, bins, in)`, padded with zeros, with an odd kernel `(frames, bins, in, out)`."""
    height, width = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x, [(height, height), (width, width), (0, 0)])
    out = np.empty((*x.shape[:2], kernel.shape[3]))
    for t in range(x.shape[0]):
        for f in range(x.shape[1]):
            window = padded[t : t + kernel.shape[0], f : f + kernel.shape[1]]
            out[t, f] = np.tensordot(window, kernel, 3) + bias
    return out


def formula(x, layer):
    weights = {w.path.split("/", 1)[1]: w.numpy().astype(float) for w in layer.weights}
    x = x.astype(float)
    gates = []
    for item in x:
        maps = np.stack([item.mean(axis=-1), item.max(axis=-1)], axis=-1)
        g = sigmoid(same_convolution(maps, weights["region/kernel"], weights["region/bias"]))
        over_time = item.mean(axis=1)[:, None]
        local = sigmoid(same_convolution(over_time, weights["boundary/kernel"][:, None], weights["boundary/bias"]))
        hidden = np.maximum(item.mean(axis=(0, 1)) @ weights["squeeze/kernel"] + weights["squeeze/bias"], 0)
        c = sigmoid(hidden @ weights["excite/kernel"] + weights["excite/bias"])
        gates.append(g * local * c)
    return x * (1 + np.stack(gates))


def test_equals_the_formula():
    layer = SpatialChannelAttention(reduction=2, kernel_size=5, time_kernel_size=3)
    layer.build(X.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in layer.weights])
    np.testing.assert_allclose(compute_outputs(layer, X)["0"], formula(X, layer), rtol=1e-4, atol=1e-5)


def test_batch_saving_and_config():
    check_batch_equals_items(SpatialChannelAttention(reduction=2), X)
    check_layer_saves_exactly(SpatialChannelAttention(reduction=2), X)
    check_config_round_trip(SpatialChannelAttention(reduction=2, kernel_size=3, time_kernel_size=5))


def test_gates_are_float32_and_the_output_has_the_dtype_of_the_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = SpatialChannelAttention()
    assert keras.backend.standardize_dtype(layer(X).dtype) == "bfloat16"
    assert all(part.compute_dtype == "float32" for part in (layer.region, layer.boundary, layer.squeeze, layer.excite))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": 0}, "`reduction` must be an integer of at least 1; received: 0"),
        ({"kernel_size": 4}, "`kernel_size` must be an odd integer of at least 1; received: 4"),
        ({"time_kernel_size": -1}, "`time_kernel_size` must be an odd integer of at least 1; received: -1"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpatialChannelAttention(**arguments)


def test_inputs_that_are_not_a_feature_map_are_refused():
    with pytest.raises(ValueError, match=r"shape \(batch, frames, bins, channels\); received: \(2, 9, 6\)"):
        SpatialChannelAttention()(X[..., 0])
