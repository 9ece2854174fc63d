"""Dropout from single bits: fair, independent, repeatable, and inactive outside training."""

import keras
import numpy as np
import pytest

from checks import check_batch_equals_items, check_config_round_trip, check_layer_saves_exactly, compute_gradients
from kerastag.layers.half_dropout import HalfDropout


def draw_bits(layer, shape):
    """Return which units a training call does not drop, and check that it doubles them."""
    y = keras.ops.convert_to_numpy(layer(keras.ops.ones(shape), training=True))
    assert set(np.unique(y)) <= {0.0, 2.0}
    return (y == 2).astype(np.float64)


# A word has sixteen bits: widths below and above one and two words, and a prime.
@pytest.mark.parametrize("width", [1, 15, 16, 17, 33, 101])
def test_every_unit_is_dropped_half_of_the_time(width):
    bits = draw_bits(HalfDropout(seed=1), (4000, width))
    assert bits.shape == (4000, width)
    # The standard deviation of the share is 0.0079 for a unit and 0.0079 / sqrt(width) for all.
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.035
    assert abs(bits.mean() - 0.5) < 4 * 0.0079 / np.sqrt(width)


def test_units_rows_and_calls_are_independent():
    layer = HalfDropout(seed=2)
    first, second = draw_bits(layer, (6000, 50)), draw_bits(layer, (6000, 50))
    signs = 2 * first - 1
    between_units = signs.T @ signs / 6000 - np.eye(50)
    assert np.abs(between_units).max() < 0.065  # five standard deviations of 1 / sqrt(6000)
    few = 2 * draw_bits(HalfDropout(seed=3), (50, 6000)) - 1
    assert np.abs(few @ few.T / 6000 - np.eye(50)).max() < 0.065
    assert abs((signs * (2 * second - 1)).mean()) < 5 / np.sqrt(first.size)
    # Of three neighbors in one word, all patterns are equally frequent.
    patterns = np.bincount((first[:, :3] @ [1, 2, 4]).astype(int), minlength=8)
    assert ((patterns - 750) ** 2 / 750).sum() < 24.3  # chi-squared, 7 degrees of freedom, one in a thousand
    # Different seeds give different masks.
    assert 0.45 < (draw_bits(HalfDropout(seed=4), (100, 50)) == draw_bits(HalfDropout(seed=5), (100, 50))).mean() < 0.55


def test_segments_are_dropped_independently():
    bits = draw_bits(HalfDropout(seed=6), (200, 10, 20))
    signs = 2 * bits.transpose(0, 2, 1).reshape(-1, 10) - 1
    assert np.abs(signs.T @ signs / len(signs) - np.eye(10)).max() < 0.08


def test_a_seed_repeats_its_masks_in_order():
    one, other = HalfDropout(seed=7), HalfDropout(seed=7)
    for _ in range(3):
        np.testing.assert_array_equal(draw_bits(one, (20, 30)), draw_bits(other, (20, 30)))
    assert (draw_bits(one, (20, 30)) != draw_bits(HalfDropout(seed=7), (20, 30))).any()
    keras.utils.set_random_seed(11)
    unseeded = draw_bits(HalfDropout(), (20, 30))
    keras.utils.set_random_seed(11)
    np.testing.assert_array_equal(draw_bits(HalfDropout(), (20, 30)), unseeded)


def test_units_are_scaled_in_training_and_unchanged_otherwise():
    x = np.random.default_rng(0).standard_normal((8, 3, 21)).astype("float32")
    layer = HalfDropout(seed=8)
    y = keras.ops.convert_to_numpy(layer(x, training=True))
    assert ((y == 0) | (y == 2 * x)).all()
    for arguments in ({"training": False}, {}):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x, **arguments)), x)


def test_the_gradient_is_the_mask():
    x = np.random.default_rng(0).standard_normal((9, 37)).astype("float32")
    mask = draw_bits(HalfDropout(seed=9), x.shape)
    layer = HalfDropout(seed=9)
    (gradient,) = compute_gradients(lambda inputs: layer(inputs, training=True), x)
    np.testing.assert_array_equal(gradient, 2 * mask)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_has_the_same_masks_and_scale(policy):
    keras.config.set_dtype_policy(policy)
    x = keras.ops.cast(np.random.default_rng(0).standard_normal((50, 24)), policy.removeprefix("mixed_"))
    y = HalfDropout(seed=1)(x, training=True)
    assert y.dtype == x.dtype
    x, y = (keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")) for tensor in (x, y))
    assert ((y == 0) | (y == 2 * x)).all()
    assert 0.4 < (y == 0).mean() < 0.6


def test_a_model_may_have_any_batch_and_number_of_segments():
    inputs = keras.Input((None, 18))
    model = keras.Model(inputs, HalfDropout(seed=0)(inputs))
    for shape in ((2, 3, 18), (5, 1, 18)):
        x = np.ones(shape, "float32")
        assert set(np.unique(keras.ops.convert_to_numpy(model(x, training=True)))) <= {0.0, 2.0}
        np.testing.assert_array_equal(model.predict_on_batch(x), x)


def test_batch_saving_config_and_mask():
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype("float32")
    check_batch_equals_items(HalfDropout(seed=1), x)
    check_layer_saves_exactly(HalfDropout, x)
    check_config_round_trip(HalfDropout(seed=3, name="half"))
    inputs = keras.Input((None, 5))
    pooled = keras.layers.GlobalAveragePooling1D()(HalfDropout()(keras.layers.Masking(0.0)(inputs)))
    x[:, 2:] = 0
    np.testing.assert_allclose(
        keras.Model(inputs, pooled).predict_on_batch(x), x[:, :2].mean(axis=1), rtol=1e-5, atol=1e-6
    )
