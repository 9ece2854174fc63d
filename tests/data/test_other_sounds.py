"""Sounds of no class: functions of their seed, finite, not silent, and different from each other."""

import numpy as np
import pytest

from kerastag.data.other_sounds import OTHER_SOUNDS, OtherSounds
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE, Excerpt


@pytest.mark.parametrize("kind", OTHER_SOUNDS)
@pytest.mark.parametrize("seconds", [0.05, 0.5, 3.0])
def test_every_kind_is_a_function_of_its_seed(kind, seconds):
    sounds = OtherSounds()
    first, again, other = (sounds.load_waveform(Excerpt(-1, kind, seed, 0.0, seconds)) for seed in (7, 7, 8))
    assert first.shape == (round(seconds * MIX_SAMPLE_RATE),)
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all()
    assert seconds < 0.5 or (first.std() > 1e-9 and np.abs(first - other).max() > 0)


def test_all_kinds_are_drawn_with_lengths_up_to_the_longest():
    random, sounds = np.random.default_rng(0), OtherSounds()
    excerpts = [sounds.draw(random, 4.0) for _ in range(300)]
    assert {excerpt.source for excerpt in excerpts} == set(OTHER_SOUNDS)
    assert {excerpt.class_index for excerpt in excerpts} == {-1}
    assert 0.5 <= min(excerpt.seconds for excerpt in excerpts) < 0.7
    assert 3.7 < max(excerpt.seconds for excerpt in excerpts) <= 4.0


def test_speech_has_syllables_and_a_hum_has_none():
    def measure_modulation(kind: str) -> float:
        waveform = OtherSounds().load_waveform(Excerpt(-1, kind, 3, 0.0, 5.0))
        levels = waveform[: len(waveform) // 882 * 882].reshape(-1, 882).std(axis=1)
        return float(levels.std() / levels.mean())

    assert measure_modulation("speech") > 3 * measure_modulation("hum")
