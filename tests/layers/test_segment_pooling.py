"""Maximum, minimum and average pooling equal NumPy; masks and clips of padding."""

import keras
import numpy as np
import pytest

from checks import (
    check_batch_equals_items,
    check_config_round_trip,
    check_layer_saves_exactly,
    check_masked_padding_changes_nothing,
    compute_gradients,
    compute_outputs,
)
from kerastag.layers.segment_pooling import AveragePooling, MaxPooling, MinPooling

X = np.random.default_rng(0).standard_normal((3, 5, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1]], bool)
VALID = np.where(MASK[..., None], X, np.nan).astype(np.float64)


def mark_segments(indices):
    """Return 1 for the segment that is the result of the clip, `(3, 4)`, and 0 for the others."""
    return (np.arange(5)[None, :, None] == indices[:, None]).astype(float)


# The function in NumPy, the tolerance, and the share of each valid segment in the gradient.
POOLINGS = {
    MaxPooling: (np.nanmax, 0, mark_segments(np.nanargmax(VALID, axis=1))),
    MinPooling: (np.nanmin, 0, mark_segments(np.nanargmin(VALID, axis=1))),
    AveragePooling: (np.nanmean, 1e-5, np.repeat((MASK / MASK.sum(axis=1, keepdims=True))[..., None], 4, axis=2)),
}
every = pytest.mark.parametrize("pooling", POOLINGS, ids=lambda pooling: pooling.__name__)


@every
def test_equals_numpy_on_the_valid_segments(pooling):
    function, tolerance, _ = POOLINGS[pooling]
    close = {"rtol": tolerance, "atol": tolerance / 10}
    np.testing.assert_allclose(compute_outputs(pooling(), X)["0"], function(X.astype(np.float64), axis=1), **close)
    np.testing.assert_allclose(compute_outputs(pooling(), X, MASK)["0"], function(VALID, axis=1), **close)
    check_masked_padding_changes_nothing(pooling(), X, MASK)


@every
def test_a_clip_of_padding_alone_gives_zeros_and_finite_gradients(pooling):
    mask = MASK.copy()
    mask[1] = False
    output = compute_outputs(pooling(), X, mask)["0"]
    assert (output[1] == 0).all()
    assert (output[[0, 2]] != 0).all()
    (gradient,) = compute_gradients(lambda x: pooling()(x, mask=keras.ops.convert_to_tensor(mask)), X)
    assert np.isfinite(gradient).all()
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).any()


@every
def test_batch_saving_and_config(pooling):
    check_batch_equals_items(pooling(), X)
    check_layer_saves_exactly(pooling, X)
    check_config_round_trip(pooling(name="pool"))


@every
def test_the_mask_of_a_model_is_used_and_not_passed_on(pooling):
    inputs = keras.Input((None, 4))
    pooled = pooling()(keras.layers.Masking(0.0)(inputs))
    model = keras.Model(inputs, pooled)
    assert pooled.shape == (None, 4)
    assert pooling().compute_mask(inputs, mask=inputs) is None
    padded = np.where(MASK[..., None], X, 0).astype("float32")
    np.testing.assert_array_equal(compute_outputs(model, padded)["0"], compute_outputs(pooling(), X, MASK)["0"])


@every
@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.02), ("mixed_float16", 0.003)])
def test_half_precision_stays_close(pooling, policy, tolerance):
    whole = compute_outputs(pooling(), X, MASK)["0"]
    keras.config.set_dtype_policy(policy)
    half = compute_outputs(pooling(), X, MASK)["0"]
    assert half.dtype != np.float32
    np.testing.assert_allclose(half.astype(np.float32), whole, atol=tolerance, rtol=tolerance)
    silent = compute_outputs(pooling(), X, np.zeros_like(MASK))["0"].astype(np.float32)
    assert (silent == 0).all()


@every
def test_the_gradient_flows_to_the_segments_that_determine_the_value(pooling):
    (gradient,) = compute_gradients(lambda x: pooling()(x, mask=keras.ops.convert_to_tensor(MASK)), X)
    np.testing.assert_allclose(gradient, POOLINGS[pooling][2], rtol=1e-6)


@every
def test_inputs_without_segments_are_refused(pooling):
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        pooling()(keras.Input((4,)))
