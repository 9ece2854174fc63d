"""Synthesized sounds: five classes that differ, each sound from its seed; scenes of them as packs."""

import json

import numpy as np
import pytest

from kerastag.data.packs import AudioPack
from kerastag.data.sound_sources import SYNTHETIC_EVENTS, SyntheticSounds
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE, Excerpt, SoundscapeConfig
from kerastag.data.soundscapes import write_synthetic_soundscapes


def test_a_sound_is_a_function_of_its_seed_and_sounds_of_a_class_differ():
    sounds = SyntheticSounds()
    for k, name in enumerate(sounds.labels.names):
        one, two = (Excerpt(k, name, seed, 0.0, 0.5) for seed in (1, 2))
        np.testing.assert_array_equal(sounds.load_waveform(one), sounds.load_waveform(one))
        assert not np.allclose(sounds.load_waveform(one), sounds.load_waveform(two), atol=1e-3)
        assert len(sounds.load_waveform(one)) == round(0.5 * MIX_SAMPLE_RATE)
        assert np.isfinite(sounds.load_waveform(one)).all()


def test_sounds_are_as_long_as_asked_and_of_every_class():
    random = np.random.default_rng(0)
    drawn = [SyntheticSounds(0.5, 2.0).draw(random, 1.0) for _ in range(200)]
    assert {excerpt.class_index for excerpt in drawn} == set(range(5))
    assert all(0.5 <= excerpt.seconds <= 1.0 for excerpt in drawn)
    with pytest.raises(ValueError, match="`min_seconds` must be above 0 and at most 3.0, received 4"):
        SyntheticSounds(min_seconds=4)


def test_classes_are_told_apart_by_their_spectra():
    """A nearest-mean classifier on coarse spectra: the classes are classes, and not trivially one another."""
    sounds = SyntheticSounds()

    def features(k: int, seed: int) -> np.ndarray:
        waveform = sounds.load_waveform(Excerpt(k, "", seed, 0.0, 1.0))
        power = np.abs(np.fft.rfft(waveform.reshape(25, -1), axis=1)[:, 1:]) ** 2
        bands = np.log(np.stack([part.mean(axis=1) for part in np.array_split(power, 30, axis=1)]) + 1e-4)
        return np.concatenate([bands.mean(axis=1), bands.std(axis=1)])

    means = [np.mean([features(k, seed) for seed in range(8)], axis=0) for k in range(5)]
    nearest = [
        np.argmin([np.linalg.norm(features(k, seed) - mean) for mean in means]) == k
        for k in range(5)
        for seed in range(100, 108)
    ]
    assert np.mean(nearest) > 0.9


def test_scenes_of_them_are_packs_that_recipes_find(tmp_path):
    rules = SoundscapeConfig(soundscape_seconds=2.0, max_events=2)
    written = write_synthetic_soundscapes(
        tmp_path, sample_rate=8_000, counts={"bal_train": 40, "eval": 5}, config=rules
    )
    assert [report.pack.name for report in written.values()] == ["bal_train.h5", "eval.h5"]
    with AudioPack(tmp_path / "bal_train.h5") as pack:
        assert len(pack) == 40
        assert pack.sample_rate == 8_000
        assert pack.x_shape == (40, 16_000)
        assert pack.targets.any(axis=0).all()
        assert json.loads(pack.attributes["class_names"]) == list(SYNTHETIC_EVENTS)
