"""Maximum pooling against NumPy's, its mask and its corners."""

import keras
import numpy as np
import pytest

from checks import (
    check_batch_equals_items,
    check_config_round_trip,
    check_layer_saves_exactly,
    check_masked_padding_changes_nothing,
    gradients_of,
    outputs_of,
)
from kerastag.layers.max_pooling import MaxPooling

X = np.random.default_rng(0).standard_normal((3, 5, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1]], bool)
LAYER = MaxPooling()


def test_equals_numpy_in_float64():
    expected = np.stack([x.max(axis=0) for x in X.astype(np.float64)])
    np.testing.assert_allclose(outputs_of(LAYER, X)["0"], expected, rtol=0)


def test_only_valid_segments_count():
    expected = np.stack(
        [x.max(axis=0) for x in (clip[valid] for clip, valid in zip(X.astype(np.float64), MASK, strict=True))]
    )
    np.testing.assert_allclose(outputs_of(LAYER, X, MASK)["0"], expected, rtol=0)
    check_masked_padding_changes_nothing(LAYER, X, MASK)


def test_a_clip_of_padding_alone_gives_zeros_and_finite_gradients():
    mask = MASK.copy()
    mask[1] = False
    output = outputs_of(LAYER, X, mask)["0"]
    assert (output[1] == 0).all()
    assert (output[[0, 2]] != 0).all()
    (gradient,) = gradients_of(lambda x: LAYER(x, mask=keras.ops.convert_to_tensor(mask)), X)
    assert np.isfinite(gradient).all()
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).any()


def test_batch_saving_and_config():
    check_batch_equals_items(LAYER, X)
    check_layer_saves_exactly(MaxPooling, X)
    check_config_round_trip(MaxPooling(name="pool"))


def test_the_mask_of_a_model_is_used_and_ends_here():
    inputs = keras.Input((None, 4))
    pooled = MaxPooling()(keras.layers.Masking(0.0)(inputs))
    model = keras.Model(inputs, pooled)
    assert pooled.shape == (None, 4)
    assert MaxPooling().compute_mask(inputs, mask=inputs) is None
    padded = np.where(MASK[..., None], X, 0).astype("float32")
    np.testing.assert_array_equal(outputs_of(model, padded)["0"], outputs_of(LAYER, X, MASK)["0"])


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.02), ("mixed_float16", 0.003)])
def test_half_precision_stays_close(policy, tolerance):
    keras.config.set_dtype_policy(policy)
    half = outputs_of(MaxPooling(), X, MASK)["0"]
    assert half.dtype != np.float32
    np.testing.assert_allclose(half.astype(np.float32), outputs_of(LAYER, X, MASK)["0"], atol=tolerance, rtol=tolerance)
    silent = outputs_of(MaxPooling(), X, np.zeros_like(MASK))["0"].astype(np.float32)
    assert (silent == 0).all()


def test_the_gradient_goes_to_the_largest_valid_segment():
    (gradient,) = gradients_of(lambda x: LAYER(x, mask=keras.ops.convert_to_tensor(MASK)), X)
    chosen = np.where(MASK[..., None], X, -np.inf).argmax(axis=1)
    np.testing.assert_array_equal(gradient, np.arange(5)[None, :, None] == chosen[:, None])


def test_inputs_without_segments_are_refused():
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        MaxPooling()(keras.Input((4,)))
