"""Attention pooling equals its formula for every phi; masks, bounds, extreme scores and half precision."""

from functools import partial

import keras
import numpy as np
import pytest

from checks import (
    check_batch_equals_items,
    check_config_round_trip,
    check_layer_saves_exactly,
    compute_gradients,
    compute_outputs,
)
from kerastag.layers.attention_pooling import PHI, AttentionPooling

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.uniform(-1, 1, (3, 5, 4)).astype("float32")
SCORES = (3 * RANDOM.standard_normal((3, 5, 4))).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1]], bool)

# Equations 25 to 28 in float64; the maximum is subtracted before exp, because 1e-7 is added to the result.
BY_HAND = {
    "relu": lambda z: np.maximum(z, 0),
    "exp": lambda z: np.exp(z - z.max(axis=0)),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True),
}
phis = pytest.mark.parametrize("phi", PHI)
trainings = pytest.mark.parametrize("training", [False, True])  # with the custom gradient, or that of the backend


def attend(values, scores, phi):
    """Compute equations 19 and 20 for the valid segments of one clip: the weights and the weighted sum."""
    weights = BY_HAND[phi](scores.astype(np.float64)) + 1e-7
    weights /= weights.sum(axis=0)
    return weights, (weights * values).sum(axis=0)


def pool(phi, values=VALUES, scores=SCORES, mask=None):
    tensors = [keras.ops.convert_to_tensor(array) for array in (values, scores)]
    mask = None if mask is None else keras.ops.convert_to_tensor(mask)
    return keras.ops.convert_to_numpy(AttentionPooling(phi)(tensors, mask=mask))


def test_every_phi_is_tested():
    assert BY_HAND.keys() == PHI.keys()


@phis
def test_equals_the_formula(phi):
    expected = np.stack([attend(u, z, phi)[1] for u, z in zip(VALUES, SCORES, strict=True)])
    np.testing.assert_allclose(pool(phi), expected, rtol=1e-5, atol=1e-6)


@phis
def test_masked_segments_have_no_influence(phi):
    expected = np.stack([attend(u[valid], z[valid], phi)[1] for u, z, valid in zip(VALUES, SCORES, MASK, strict=True)])
    noise = np.where(MASK[..., None], 0, 1e3 * RANDOM.standard_normal(SCORES.shape)).astype("float32")
    for values, scores in ((VALUES, SCORES), (VALUES + noise, SCORES + noise)):
        np.testing.assert_allclose(pool(phi, values, scores, MASK), expected, rtol=1e-5, atol=1e-6)
    # Keras passes a list of masks; one of them is None.
    mask = keras.ops.convert_to_tensor(MASK)
    tensors = [keras.ops.convert_to_tensor(array) for array in (VALUES, SCORES)]
    for pair in ([mask, None], [None, mask], [mask, mask]):
        again = keras.ops.convert_to_numpy(AttentionPooling(phi)(tensors, mask=pair))
        np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-6)


@phis
def test_weights_sum_to_one_over_the_valid_segments_and_make_the_output(phi):
    layer = AttentionPooling(phi)
    for mask in (None, MASK):
        weights = keras.ops.convert_to_numpy(layer.compute_weights(SCORES, mask))
        valid = np.ones_like(MASK) if mask is None else mask
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
        assert (weights[~valid] == 0).all()
        assert (weights >= 0).all()
        for clip, clip_weights in enumerate(weights):
            expected, _ = attend(VALUES[clip][valid[clip]], SCORES[clip][valid[clip]], phi)
            np.testing.assert_allclose(clip_weights[valid[clip]], expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose((weights * VALUES).sum(axis=1), pool(phi, mask=mask), rtol=1e-5, atol=1e-6)


@phis
@trainings
def test_a_clip_of_padding_alone_gives_zeros_and_finite_gradients(phi, training):
    mask = MASK.copy()
    mask[1] = False
    output = pool(phi, mask=mask)
    assert (output[1] == 0).all()
    assert (output[[0, 2]] != 0).all()
    layer = AttentionPooling(phi)
    gradients = compute_gradients(
        lambda u, z: layer([u, z], mask=keras.ops.convert_to_tensor(mask), training=training), VALUES, SCORES
    )
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert (gradient[1] == 0).all()
        assert (gradient[0] != 0).any()


@phis
@trainings
@pytest.mark.parametrize("size", [1e4, -1e4, 1e15, -1e15])
def test_extreme_scores_stay_finite(phi, size, training):
    layer = AttentionPooling(phi)
    one_sided = np.full_like(SCORES, size)
    both = np.where(np.arange(5)[None, :, None] == 2, size, SCORES).astype("float32")
    for scores in (one_sided, both):
        output = pool(phi, scores=scores, mask=MASK)
        assert np.isfinite(output).all()
        assert (np.abs(output) <= 1).all()  # a mean of values within [-1, 1]
        for gradient in compute_gradients(
            lambda u, z: layer([u, z], mask=keras.ops.convert_to_tensor(MASK), training=training), VALUES, scores
        ):
            assert np.isfinite(gradient).all()
    # With equal scores, all segments have the same weight.
    np.testing.assert_allclose(pool(phi, scores=one_sided), VALUES.mean(axis=1), rtol=1e-5, atol=1e-6)


@trainings
def test_relu_of_negative_scores_is_the_average(training):
    scores = -np.abs(SCORES) - 0.1
    np.testing.assert_allclose(pool("relu", scores=scores), VALUES.mean(axis=1), rtol=1e-5, atol=1e-6)
    layer = AttentionPooling("relu")
    values, scores_gradient = compute_gradients(lambda u, z: layer([u, z], training=training), VALUES, scores)
    np.testing.assert_allclose(values, np.full_like(VALUES, 1 / 5), rtol=1e-5)
    assert (scores_gradient == 0).all()


def test_there_is_no_upper_bound():
    """Exponentials above one keep their ratio: the weight of score 5 is e^2 times that of score 3."""
    scores = np.array([[[5.0], [3.0]]], "float32")
    weights = keras.ops.convert_to_numpy(AttentionPooling("exp").compute_weights(scores))[0, :, 0]
    np.testing.assert_allclose(weights[0] / weights[1], np.exp(2), rtol=1e-5)
    weights = keras.ops.convert_to_numpy(AttentionPooling("relu").compute_weights(scores))[0, :, 0]
    np.testing.assert_allclose(weights, [5 / 8, 3 / 8], rtol=1e-6)


@phis
@trainings
def test_the_gradient_is_that_of_the_formula(phi, training):
    """The reference is central differences of the float64 formula."""
    direction = RANDOM.standard_normal(SCORES.shape)
    values, layer = keras.ops.convert_to_tensor(VALUES), AttentionPooling(phi)
    (gradient,) = compute_gradients(lambda z: layer([values, z], training=training), SCORES)
    step = 1e-5
    above, below = (
        sum(
            attend(u, z, phi)[1].sum()
            for u, z in zip(VALUES, SCORES.astype(np.float64) + sign * step * direction, strict=True)
        )
        for sign in (1, -1)
    )
    assert (gradient * direction).sum() == pytest.approx((above - below) / (2 * step), rel=1e-3, abs=1e-4)


@phis
def test_the_custom_gradient_equals_that_of_the_backend(phi):
    weights = RANDOM.standard_normal((3, 4)).astype("float32")
    layer, mask = AttentionPooling(phi), keras.ops.convert_to_tensor(MASK)

    def attention(training, values, scores):
        return layer([values, scores], mask=mask, training=training)

    written, taken = (
        compute_gradients(partial(attention, training), VALUES, SCORES, weights=weights) for training in (True, False)
    )
    for got, expected in zip(written, taken, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@phis
def test_batch_saving_and_config(phi):
    check_batch_equals_items(AttentionPooling(phi), [VALUES, SCORES])
    check_layer_saves_exactly(lambda: AttentionPooling(phi), [VALUES, SCORES])
    check_config_round_trip(AttentionPooling(phi, name="attention"))


def test_the_mask_of_a_model_is_used_and_not_passed_on():
    inputs = keras.Input((None, 4))
    masked = keras.layers.Masking(0.0)(inputs)
    output = AttentionPooling()([keras.layers.Activation("sigmoid")(masked), masked])
    assert output.shape == (None, 4)
    padded = np.where(MASK[..., None], SCORES, 0).astype("float32")
    got = compute_outputs(keras.Model(inputs, output), padded)["0"]
    expected = [
        attend(1 / (1 + np.exp(-z[valid])), z[valid], "sigmoid")[1] for z, valid in zip(SCORES, MASK, strict=True)
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@phis
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_is_float32_under_half_precision(phi, policy):
    """The output equals that of float32 for inputs in half precision, and small weights do not become zero."""
    keras.config.set_dtype_policy(policy)
    half = policy.removeprefix("mixed_")
    values, scores = (keras.ops.cast(array, half) for array in (VALUES, SCORES))
    output = AttentionPooling(phi)([values, scores])
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    exact = [keras.ops.convert_to_numpy(keras.ops.cast(array, "float32")) for array in (values, scores)]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(output), pool(phi, *exact), rtol=1e-6, atol=1e-7)


def test_an_unknown_phi_is_refused():
    with pytest.raises(ValueError, match="`phi` must be one of relu, exp, sigmoid, softmax; received: 'tanh'"):
        AttentionPooling("tanh")
