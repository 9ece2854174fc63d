"""SpecAugment masks whole stripes within their bounds, independently for every clip, in training only."""

import keras
import numpy as np
import pytest

from checks import check_config_round_trip, check_layer_saves_exactly
from kerastag.layers.spec_augment import SpecAugment


def augment(layer, x):
    return keras.ops.convert_to_numpy(layer(x, training=True))


def find_run_lengths(masked):
    """Return the lengths of the runs of True in one dimension."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], masked.astype(int), [0]])))
    return edges[1::2] - edges[::2]


def test_stripes_span_the_other_axis_and_keep_their_bounds():
    layer = SpecAugment(1, 20, 1, 6, mask_value=-7.0, seed=1)
    seen = []
    for _ in range(20):
        y = augment(layer, np.ones((8, 100, 32), np.float32))
        assert set(np.unique(y)) <= {-7.0, 1.0}
        for clip in y == -7:
            in_time, in_frequency = clip.all(axis=1), clip.all(axis=0)
            np.testing.assert_array_equal(clip, in_time[:, None] | in_frequency[None, :])
            assert len(find_run_lengths(in_time)) <= 1
            assert len(find_run_lengths(in_frequency)) <= 1
            seen.append((in_time.sum(), in_frequency.sum(), *np.flatnonzero(in_time)[:1]))
    assert {time for time, *_ in seen} == set(range(20))  # 160 draws of 20 widths: every width occurs, and no other
    assert {frequency for _, frequency, *_ in seen} == set(range(6))
    starts = [first for *_, first in seen]
    assert min(starts) < 10
    assert max(starts) > 70


def test_clips_have_different_stripes_and_nothing_else_changes():
    x = np.random.default_rng(0).standard_normal((6, 200, 64)).astype(np.float32)
    y = augment(SpecAugment(seed=3), x)
    blank = y == 0
    np.testing.assert_array_equal(y[~blank], x[~blank])
    assert len({clip.tobytes() for clip in blank}) == 6
    assert 0.02 < blank.mean() < 0.6


def test_the_input_is_unchanged_outside_training():
    x = np.random.default_rng(0).standard_normal((2, 50, 16)).astype(np.float32)
    for training in ({}, {"training": False}):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(SpecAugment(seed=0)(x, **training)), x)


def test_a_seed_repeats_its_stripes_and_the_next_call_has_others():
    x = np.ones((2, 300, 64), np.float32)
    first, second = SpecAugment(seed=5), SpecAugment(seed=5)
    once = augment(first, x)
    np.testing.assert_array_equal(once, augment(second, x))
    assert (once != augment(first, x)).any()


def test_stripes_are_at_most_as_wide_as_the_input():
    y = augment(SpecAugment(2, 1000, 2, 1000, seed=0), np.ones((50, 5, 4), np.float32))
    assert y.shape == (50, 5, 4)
    assert (y == 0).all(axis=(1, 2)).any()


def test_no_stripes_is_the_identity():
    x = np.ones((2, 9, 4), np.float32)
    np.testing.assert_array_equal(augment(SpecAugment(0, 1, 0, 1), x), x)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_model_of_unknown_length_trains(policy):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((None, 16))
    outputs = keras.layers.Dense(1, dtype="float32")(keras.layers.GlobalAveragePooling1D()(SpecAugment(seed=0)(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    history = model.fit(np.ones((7, 30, 16), np.float32), np.zeros((7, 1)), batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_a_mask_is_passed_on():
    inputs = keras.Input((6, 3))
    pooled = keras.layers.GlobalAveragePooling1D()(SpecAugment(seed=0)(keras.layers.Masking(0.0)(inputs)))
    x = np.pad(np.ones((1, 4, 3), np.float32), [[0, 0], [0, 2], [0, 0]])
    np.testing.assert_array_equal(keras.Model(inputs, pooled).predict_on_batch(x), np.ones((1, 3)))  # 4 / 6 unmasked


def test_saving_and_the_config_are_exact():
    check_layer_saves_exactly(SpecAugment(seed=2), np.ones((2, 40, 8), np.float32))
    check_config_round_trip(SpecAugment(1, 10, 3, 4, -1.0, seed=9))
    again = SpecAugment.from_config(SpecAugment(seed=4).get_config())
    x = np.ones((2, 300, 64), np.float32)
    np.testing.assert_array_equal(augment(again, x), augment(SpecAugment(seed=4), x))


@pytest.mark.parametrize("name", ["num_time_stripes", "max_time_width", "num_frequency_stripes", "max_frequency_width"])
def test_a_count_out_of_range_is_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least [01]; received: -1"):
        SpecAugment(**{name: -1})


def test_two_axes_are_refused():
    with pytest.raises(ValueError, match=r"axes \(batch, frames, mel_bins\)"):
        SpecAugment()(np.ones((2, 3), np.float32))
