"""Batch normalization with a mask equals that of Keras and its formula."""

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
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(1.5, 2, (6, 5, 4)).astype("float32")
MASK = RANDOM.random((6, 5)) < 0.6
MASK[0] = [True, False, False, False, False]


def pair(shape=X.shape, **kwargs):
    """Return the layer and that of Keras with the same random weights."""
    ours, theirs = MaskedBatchNormalization(**kwargs), keras.layers.BatchNormalization(**kwargs)
    weights = [RANDOM.uniform(0.5, 2, 4).astype("float32") for _ in range(4)]
    for layer in (ours, theirs):
        layer.build(shape)
        layer.set_weights(weights)
    return ours, theirs


def call(layer, x, training, mask=None):
    mask = None if mask is None else keras.ops.convert_to_tensor(mask)
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x), training=training, mask=mask))


@pytest.mark.parametrize("options", [{}, {"momentum": 0.8, "epsilon": 1e-5}])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
def test_equals_keras_in_training_and_in_inference(mask, options):
    ours, theirs = pair(**options)
    for step in range(5):
        x = X + step
        np.testing.assert_allclose(call(ours, x, True, mask), call(theirs, x, True, mask), rtol=1e-4, atol=1e-4)
        for got, wanted in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    before = ours.get_weights()
    np.testing.assert_allclose(call(ours, X, False, mask), call(theirs, X, False, mask), rtol=1e-4, atol=1e-4)
    for got, wanted in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_inputs_without_segments_equal_keras_too():
    ours, theirs = pair((6, 4))
    np.testing.assert_allclose(call(ours, X[:, 0], True), call(theirs, X[:, 0], True), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(call(ours, X[:, 0], False), call(theirs, X[:, 0], False), rtol=1e-4, atol=1e-4)


def test_equals_the_formula_over_the_valid_segments():
    layer, _ = pair(momentum=0.9)
    gamma, beta, moving_mean, moving_variance = layer.get_weights()
    valid = X[MASK].astype(np.float64)
    mean, variance = valid.mean(axis=0), valid.var(axis=0)
    expected = gamma * (X - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(call(layer, X, True, MASK), expected, rtol=1e-4, atol=1e-4)
    _, _, mean_after, variance_after = layer.get_weights()
    np.testing.assert_allclose(mean_after, 0.9 * moving_mean + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(variance_after, 0.9 * moving_variance + 0.1 * variance, rtol=1e-4)


def test_padding_does_not_change_the_statistics():
    for noise in (0, 50):
        layer = MaskedBatchNormalization()
        padded = np.where(MASK[..., None], X, noise).astype("float32")
        outputs = call(layer, padded, True, MASK), *layer.get_weights()
        if noise == 0:
            expected = outputs
        np.testing.assert_allclose(outputs[0][MASK], expected[0][MASK], rtol=1e-5, atol=1e-6)
        for got, wanted in zip(outputs[1:], expected[1:], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_a_batch_of_padding_alone_is_finite():
    nothing = np.zeros_like(MASK)
    assert np.isfinite(call(MaskedBatchNormalization(), X, True, nothing)).all()
    layer = MaskedBatchNormalization()
    (gradient,) = compute_gradients(lambda x: layer(x, training=True, mask=keras.ops.convert_to_tensor(nothing)), X)
    assert np.isfinite(gradient).all()
    constant = np.full_like(X, 3)
    np.testing.assert_allclose(call(MaskedBatchNormalization(), constant, True), 0, atol=1e-3)


def test_the_gradient_is_that_of_keras():
    weights = RANDOM.standard_normal(X.shape).astype("float32")
    mask = keras.ops.convert_to_tensor(MASK)
    gradients = [
        compute_gradients(lambda x, used=layer: used(x, training=True, mask=mask), X, weights=weights)[0]
        for layer in pair()
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
def test_it_learns_the_same_as_the_layer_of_keras(mask):
    """One step of gradient descent changes a preceding dense layer, the scale and the shift, and nothing else."""
    x = X if mask is None else np.where(mask[..., None], X, 0).astype("float32")
    learned = []
    for layer in pair():
        model = keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Masking(), keras.layers.Dense(4), layer])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.layers[-2].set_weights([np.eye(4, dtype="float32")[::-1] + 0.5, np.zeros(4, "float32")])
        model.train_on_batch(x, X[::-1])
        learned.append(model.get_weights())
    for got, wanted in zip(*learned, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.02), ("mixed_float16", 0.005)])
def test_half_precision_is_close_and_statistics_stay_float32(policy, tolerance):
    x = RANDOM.normal(0.5, 1, (500, 10, 16)).astype(
        "float32"
    )  # the mean is below the deviation, as after a dense layer
    mask = RANDOM.random((500, 10)) < 0.9
    exact = MaskedBatchNormalization()
    expected = call(exact, x, True, mask)
    keras.config.set_dtype_policy(policy)
    layer = MaskedBatchNormalization()
    output = call(layer, x, True, mask)
    assert output.dtype != np.float32
    np.testing.assert_allclose(output.astype(np.float32), expected, rtol=tolerance, atol=tolerance)
    for got, wanted in zip(layer.get_weights(), exact.get_weights(), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance / 10)


def test_batch_saving_config_and_mask():
    layer, _ = pair()
    check_batch_equals_items(layer, X)
    check_layer_saves_exactly(layer, X)
    check_config_round_trip(MaskedBatchNormalization(momentum=0.5, epsilon=1e-5, name="normal"))
    inputs = keras.Input((None, 4))
    pooled = keras.layers.GlobalAveragePooling1D()(layer(keras.layers.Masking(0.0)(inputs)))
    padded = np.where(MASK[..., None], X, 0).astype("float32")
    expected = [row[valid].mean(axis=0) for row, valid in zip(compute_outputs(layer, padded)["0"], MASK, strict=True)]
    np.testing.assert_allclose(
        compute_outputs(keras.Model(inputs, pooled), padded)["0"], expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.5}, r"`momentum` must be in \[0, 1\]; received: 1.5"),
        ({"epsilon": 0}, "`epsilon` must be above 0; received: 0"),
    ],
)
def test_arguments_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MaskedBatchNormalization(**options)
