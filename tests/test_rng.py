"""Keyed random number generators."""

import numpy as np

from kerastag.rng import Purpose, generator


def test_a_generator_is_the_same_for_each_call_and_differs_by_seed_purpose_and_number():
    keys = [(0, Purpose.HOLD_OUT), (1, Purpose.HOLD_OUT), (0, Purpose.WAVEFORM_BATCH), (0, Purpose.HOLD_OUT, 1)]
    draws = [generator(*key).integers(2**60) for key in keys]
    assert draws == [generator(*key).integers(2**60) for key in keys]
    assert len(set(draws)) == len(keys)


def test_draws_are_those_of_numpy_for_the_same_key():
    expected = np.random.Generator(np.random.Philox(np.random.SeedSequence((5, 303, 7))))
    actual = generator(5, Purpose.WAVEFORM_BATCH, np.int64(7))
    np.testing.assert_array_equal(actual.random(4), expected.random(4))


def test_each_purpose_keeps_its_number():
    numbers = {name: int(purpose) for name, purpose in Purpose.__members__.items()}
    assert numbers == {
        "CLASS_ORDER": 0,
        "CLIPS_OF_CLASS": 1,
        "CLIP_ORDER": 2,
        "BATCH_ORDER": 3,
        "HOLD_OUT": 101,
        "EMBEDDING_BATCH": 202,
        "WAVEFORM_BATCH": 303,
        "BOOTSTRAP": 404,
        "GAIN": 505,
        "SOUNDSCAPE_SPLIT": 202,
    }
