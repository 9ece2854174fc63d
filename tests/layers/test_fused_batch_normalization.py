"""Batch normalization by one kernel equals that of Keras and its formula."""

import keras
import numpy as np
import pytest

from checks import check_batch_equals_items, check_config_round_trip, check_layer_saves_exactly, compute_gradients
from kerastag.layers.fused_batch_normalization import FusedBatchNormalization

RANDOM = np.random.default_rng(0)
SHAPES = {
    "image": (3, 5, 7, 4),
    "frames": (3, 5, 4),
    "clips": (6, 4),
    "volume": (2, 3, 2, 5, 4),
    "one row": (1, 1, 1, 4),
}
on_shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
needs_float64 = pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 unless asked for it")


def pair(shape, **kwargs):
    """Return the layer and that of Keras with the same random weights."""
    ours, theirs = FusedBatchNormalization(**kwargs), keras.layers.BatchNormalization(**kwargs)
    for layer in (ours, theirs):
        layer.build(shape)
    weights = [RANDOM.uniform(0.5, 2, weight.shape).astype("float32") for weight in ours.get_weights()]
    for layer in (ours, theirs):
        layer.set_weights(weights)
    return ours, theirs


def features(shape):
    return RANDOM.normal(1.5, 2, shape).astype("float32")


def call(layer, x, training, mask=None):
    mask = None if mask is None else keras.ops.convert_to_tensor(mask)
    output = layer(keras.ops.convert_to_tensor(x), training=training, mask=mask)
    return keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))


def assert_same(ours, theirs, x, mask=None, tolerance=1e-4):
    for training in (True, True, False):
        got, wanted = call(ours, x, training, mask), call(theirs, x, training, mask)
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
        for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance)


@on_shapes
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.8, "epsilon": 1e-5},
        {"center": False},
        {"scale": False},
        {"axis": 1},
        {"trainable": False},
        pytest.param({"dtype": "float64"}, marks=needs_float64),
    ],
    ids=str,
)
def test_equals_keras_in_training_and_in_inference(shape, options):
    assert_same(*pair(shape, **options), features(shape))


@on_shapes
def test_equals_the_formula(shape):
    layer, _ = pair(shape, momentum=0.9)
    gamma, beta, moving_mean, moving_variance = layer.get_weights()
    x = features(shape)
    rows = x.astype(np.float64).reshape(-1, 4)
    mean, variance = rows.mean(axis=0), rows.var(axis=0)
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(call(layer, x, True), expected, rtol=1e-4, atol=1e-5)
    _, _, mean_after, variance_after = layer.get_weights()
    np.testing.assert_allclose(mean_after, 0.9 * moving_mean + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(variance_after, 0.9 * moving_variance + 0.1 * variance, rtol=1e-5)


def test_a_mask_is_handled_by_keras():
    shape = SHAPES["frames"]
    mask = RANDOM.random(shape[:2]) < 0.6
    assert_same(*pair(shape), features(shape), mask)


def test_features_far_from_zero_have_an_accurate_variance():
    x = 1e3 + features(SHAPES["image"])
    assert_same(*pair(x.shape), x, tolerance=2e-3)


@pytest.mark.parametrize("training", [True, False])
@on_shapes
def test_the_gradients_are_those_of_keras(shape, training):
    x, weights = features(shape), RANDOM.standard_normal(shape).astype("float32")
    gradients = [
        compute_gradients(lambda inputs, used=layer: used(inputs, training=training), x, weights=weights)[0]
        for layer in pair(shape)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)


def test_it_learns_the_same_as_the_layer_of_keras():
    shape = SHAPES["image"]
    x, y = features((24, *shape[1:])), RANDOM.random((24, 1)).astype("float32")
    learned = []
    for layer in pair(shape):
        inputs = keras.Input((None, *shape[2:]))
        pooled = keras.layers.GlobalMaxPooling2D()(layer(inputs))
        model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(pooled))
        model.compile(keras.optimizers.SGD(0.05), "mse")
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        learned.append(model.get_weights())
    for got, wanted in zip(*learned, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.02), ("mixed_float16", 0.003)])
def test_half_precision_is_close_and_statistics_stay_float32(policy, tolerance):
    keras.config.set_dtype_policy(policy)
    ours, theirs = pair(SHAPES["image"])
    assert_same(ours, theirs, features((8, 20, 30, 4)), tolerance=tolerance)
    assert keras.backend.standardize_dtype(ours(features(SHAPES["image"]), training=True).dtype) == policy[6:]
    assert {weight.dtype for weight in ours.get_weights()} == {np.dtype(np.float32)}


def test_batch_saving_and_config():
    layer, _ = pair(SHAPES["image"])
    check_batch_equals_items(layer, features(SHAPES["image"]))
    check_layer_saves_exactly(layer, features(SHAPES["image"]))
    check_config_round_trip(FusedBatchNormalization(momentum=0.5, epsilon=1e-5, name="normal"))


def test_tensorflow_runs_one_kernel():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("another backend's compiler fuses by itself")
    import tensorflow as tf

    layer, _ = pair(SHAPES["image"])
    spec = tf.TensorSpec((None, *SHAPES["image"][1:]))
    kinds = [
        {operation.type for operation in tf.function(call).get_concrete_function(spec).graph.get_operations()}
        for call in (lambda x: layer(x, training=True), lambda x: layer(x, training=False))
    ]
    assert [kind & {"FusedBatchNormV3", "Mean", "SquaredDifference"} for kind in kinds] == [{"FusedBatchNormV3"}, set()]
