"""Scenes: the same for the same seed and number, within their rules, at the levels that they say, never clipped."""

import itertools

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.data.sound_sources import SyntheticSounds
from kerastag.data.soundscape_mixer import (
    MIX_SAMPLE_RATE,
    Excerpt,
    Soundscape,
    SoundscapeConfig,
    SoundscapeEvent,
    SoundscapeMixer,
)
from kerastag.labels import LabelSet


class Tones:
    """Two classes of tones, of the length that is asked for."""

    labels = LabelSet.from_names(["low", "high"])

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        return Excerpt(int(random.integers(2)), "tone", 0, 0.0, min(self.seconds, max_seconds))

    def waveform(self, excerpt: Excerpt) -> np.ndarray:
        hertz = (440, 3000)[excerpt.class_index]
        return 0.01 * np.sin(2 * np.pi * hertz * np.arange(round(excerpt.seconds * MIX_SAMPLE_RATE)) / MIX_SAMPLE_RATE)


def power_db(waveform: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))


def test_a_scene_is_a_function_of_seed_split_and_number():
    rules = SoundscapeConfig(soundscape_seconds=2.0)
    first, again = (SoundscapeMixer(SyntheticSounds(), rules, seed=3, split="eval") for _ in range(2))
    scenes = [first.scene(i) for i in range(20)]
    assert [again.scene(i) for i in reversed(range(20))] == scenes[::-1]
    np.testing.assert_array_equal(first.render(scenes[7], 16_000), again.render(scenes[7], 16_000))
    others = [SoundscapeMixer(SyntheticSounds(), rules, seed=s, split=n) for s, n in ((4, "eval"), (3, "bal_train"))]
    for other in others:
        assert not {scene.noise_seed for scene in scenes} & {other.scene(i).noise_seed for i in range(20)}


@settings(max_examples=60)
@given(
    st.integers(0, 1000), st.integers(1, 3), st.integers(0, 3), st.integers(1, 4), st.sampled_from([0.3, 1.0, 2.5, 9.0])
)
def test_scenes_keep_their_rules(seed, fewest, more, overlap, longest):
    rules = SoundscapeConfig(4.0, fewest, fewest + more, longest, overlap)
    scene = SoundscapeMixer(SyntheticSounds(), rules, seed=seed).scene(seed)
    assert 1 <= len(scene.events) <= fewest + more
    assert list(scene.events) == sorted(scene.events, key=lambda e: e.onset_seconds)
    for event in scene.events:
        assert 0 <= event.onset_seconds < event.offset_seconds <= 4.0
        assert event.excerpt.seconds <= longest
        assert event.onset_seconds == round(event.onset_seconds, 3)
    for moment in np.arange(0, 4, 0.01):
        assert sum(e.onset_seconds <= moment < e.offset_seconds for e in scene.events) <= overlap
    for k in scene.labels:
        times = [(e.onset_seconds, e.offset_seconds) for e in scene.events if e.excerpt.class_index == k]
        assert all(b[0] >= a[1] + 0.5 for a, b in itertools.pairwise(times))


def test_every_class_and_every_number_of_events_comes_about_as_often():
    mixer = SoundscapeMixer(SyntheticSounds(), SoundscapeConfig())
    scenes = [mixer.scene(i) for i in range(400)]
    numbers = np.bincount([len(scene.events) for scene in scenes], minlength=5)[1:]
    assert (numbers > 70).all()
    classes = np.bincount([e.excerpt.class_index for scene in scenes for e in scene.events])
    assert len(classes) == 5
    assert classes.min() > 0.7 * classes.mean()


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_levels_and_times_are_what_the_scene_says(snr_db):
    mixer = SoundscapeMixer(Tones(), SoundscapeConfig(soundscape_seconds=4.0))
    scene = Soundscape((SoundscapeEvent(Excerpt(1, "", 0, 0.0, 1.0), 1.5, snr_db),), -40.0, None, 1.0, 7)
    quiet = Soundscape((), -40.0, None, 1.0, 7)
    heard, behind = mixer.render(scene, MIX_SAMPLE_RATE), mixer.render(quiet, MIX_SAMPLE_RATE)
    assert power_db(behind) == pytest.approx(-40, abs=0.01)
    alone = heard.astype(float) - behind
    first, end = round(1.5 * MIX_SAMPLE_RATE), round(2.5 * MIX_SAMPLE_RATE)
    assert power_db(alone[first:end]) == pytest.approx(-40 + snr_db, abs=0.01)
    assert np.abs(alone[:first]).max() < 1e-7
    assert np.abs(alone[end:]).max() < 1e-7


def test_noise_falls_with_its_exponent():
    mixer = SoundscapeMixer(Tones(), SoundscapeConfig(soundscape_seconds=4.0))
    for exponent in (1.0, 2.0):
        power = np.abs(np.fft.rfft(mixer.render(Soundscape((), -40.0, None, exponent, 7), MIX_SAMPLE_RATE))) ** 2
        octaves = [power[4 * hz : 8 * hz].mean() for hz in (500, 1000, 2000, 4000)]
        np.testing.assert_allclose(np.diff(10 * np.log10(octaves)), -10 * exponent * np.log10(2), atol=0.4)


def test_nothing_is_clipped_and_the_levels_keep_their_distance():
    mixer = SoundscapeMixer(Tones(), SoundscapeConfig(soundscape_seconds=2.0))
    events = (SoundscapeEvent(Excerpt(0, "", 0, 0.0, 1.0), 0.5, 30.0),)
    for rate in (8_000, 32_000, 48_000):
        loud, quiet = (mixer.render(Soundscape(events, level, None, 1.0, 7), rate) for level in (-20.0, -60.0))
        assert loud.shape == (2 * rate,)
        assert loud.dtype == np.float32
        assert 0.9 < np.abs(loud).max() <= 0.9501
        np.testing.assert_allclose(loud / np.abs(loud).max(), quiet / np.abs(quiet).max(), atol=1e-5)


def test_scenes_of_a_seed_differ_in_rate_only():
    mixer = SoundscapeMixer(SyntheticSounds(), SoundscapeConfig(soundscape_seconds=2.0))
    scene = mixer.scene(3)
    at_mix_rate = mixer.render(scene, MIX_SAMPLE_RATE)
    np.testing.assert_allclose(
        mixer.render(scene, 16_000),
        soxr.resample(at_mix_rate, MIX_SAMPLE_RATE, 16_000, quality="HQ")[:32_000],
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"soundscape_seconds": 0}, "`soundscape_seconds` must be at least 0.1, received 0"),
        ({"min_events": 0}, "`min_events` must be at least 1, received 0"),
        ({"min_events": 3, "max_events": 2}, "`max_events` must be at least `min_events` (3), received 2"),
        ({"max_overlap": 0}, "`max_overlap` must be at least 1"),
        ({"snr_db": (10.0, 0.0)}, "`snr_db` must be two numbers from -60 to 60, received 10.0 and 0.0"),
        ({"background_db": (-10.0, 0.0)}, "`background_db` must be two numbers from -90 to -20"),
    ],
)
def test_rules_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError) as raised:
        SoundscapeConfig(**arguments)
    assert message in str(raised.value)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="`seed` must not be negative, received -1"):
        SoundscapeMixer(Tones(), seed=-1)
