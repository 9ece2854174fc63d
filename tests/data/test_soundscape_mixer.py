"""Soundscapes: pure functions of seed and number, within their configuration, at exact levels, and never clipped."""

import itertools

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.data.other_sounds import OtherSounds
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
    """Two classes of tones of a fixed length."""

    labels = LabelSet.from_names(["low", "high"])

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        return Excerpt(int(random.integers(2)), "tone", 0, 0.0, min(self.seconds, max_seconds))

    def load_waveform(self, excerpt: Excerpt) -> np.ndarray:
        hertz = (440, 3000)[excerpt.class_index]
        return 0.01 * np.sin(2 * np.pi * hertz * np.arange(round(excerpt.seconds * MIX_SAMPLE_RATE)) / MIX_SAMPLE_RATE)


def measure_power_db(waveform: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))


def test_a_soundscape_is_a_function_of_seed_split_and_number():
    config = SoundscapeConfig(soundscape_seconds=2.0)
    first, again = (SoundscapeMixer(SyntheticSounds(), config, seed=3, split="eval") for _ in range(2))
    soundscapes = [first.compose(i) for i in range(20)]
    assert [again.compose(i) for i in reversed(range(20))] == soundscapes[::-1]
    np.testing.assert_array_equal(first.render(soundscapes[7], 16_000), again.render(soundscapes[7], 16_000))
    others = [SoundscapeMixer(SyntheticSounds(), config, seed=s, split=n) for s, n in ((4, "eval"), (3, "bal_train"))]
    for other in others:
        assert not {soundscape.noise_seed for soundscape in soundscapes} & {
            other.compose(i).noise_seed for i in range(20)
        }


@settings(max_examples=60)
@given(
    st.integers(0, 1000), st.integers(1, 3), st.integers(0, 3), st.integers(1, 4), st.sampled_from([0.3, 1.0, 2.5, 9.0])
)
def test_soundscapes_follow_their_configuration(seed, fewest, more, overlap, longest):
    config = SoundscapeConfig(4.0, fewest, fewest + more, longest, overlap)
    soundscape = SoundscapeMixer(SyntheticSounds(), config, seed=seed).compose(seed)
    assert 1 <= len(soundscape.events) <= fewest + more
    assert list(soundscape.events) == sorted(soundscape.events, key=lambda e: e.onset_seconds)
    for event in soundscape.events:
        assert 0 <= event.onset_seconds < event.offset_seconds <= 4.0
        assert event.excerpt.seconds <= longest
        assert event.onset_seconds == round(event.onset_seconds, 3)
    for moment in np.arange(0, 4, 0.01):
        assert sum(e.onset_seconds <= moment < e.offset_seconds for e in soundscape.events) <= overlap
    for k in soundscape.labels:
        times = [(e.onset_seconds, e.offset_seconds) for e in soundscape.events if e.excerpt.class_index == k]
        assert all(b[0] >= a[1] + 0.5 for a, b in itertools.pairwise(times))


def test_all_classes_and_numbers_of_events_are_about_equally_frequent():
    mixer = SoundscapeMixer(SyntheticSounds(), SoundscapeConfig())
    soundscapes = [mixer.compose(i) for i in range(400)]
    numbers = np.bincount([len(soundscape.events) for soundscape in soundscapes], minlength=5)[1:]
    assert (numbers > 70).all()
    classes = np.bincount([e.excerpt.class_index for soundscape in soundscapes for e in soundscape.events])
    assert len(classes) == 5
    assert classes.min() > 0.7 * classes.mean()


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_levels_and_times_are_those_of_the_soundscape(snr_db):
    mixer = SoundscapeMixer(Tones(), SoundscapeConfig(soundscape_seconds=4.0))
    soundscape = Soundscape((SoundscapeEvent(Excerpt(1, "", 0, 0.0, 1.0), 1.5, snr_db),), -40.0, None, 1.0, 7)
    empty = Soundscape((), -40.0, None, 1.0, 7)
    waveform, background = mixer.render(soundscape, MIX_SAMPLE_RATE), mixer.render(empty, MIX_SAMPLE_RATE)
    assert measure_power_db(background) == pytest.approx(-40, abs=0.01)
    event = waveform.astype(float) - background
    first, end = round(1.5 * MIX_SAMPLE_RATE), round(2.5 * MIX_SAMPLE_RATE)
    assert measure_power_db(event[first:end]) == pytest.approx(-40 + snr_db, abs=0.01)
    assert np.abs(event[:first]).max() < 1e-7
    assert np.abs(event[end:]).max() < 1e-7


def test_the_spectrum_of_the_noise_falls_with_its_exponent():
    mixer = SoundscapeMixer(Tones(), SoundscapeConfig(soundscape_seconds=4.0))
    for exponent in (1.0, 2.0):
        power = np.abs(np.fft.rfft(mixer.render(Soundscape((), -40.0, None, exponent, 7), MIX_SAMPLE_RATE))) ** 2
        octaves = [power[4 * hz : 8 * hz].mean() for hz in (500, 1000, 2000, 4000)]
        np.testing.assert_allclose(np.diff(10 * np.log10(octaves)), -10 * exponent * np.log10(2), atol=0.4)


def test_nothing_is_clipped_and_levels_keep_their_ratio():
    mixer = SoundscapeMixer(Tones(), SoundscapeConfig(soundscape_seconds=2.0))
    events = (SoundscapeEvent(Excerpt(0, "", 0, 0.0, 1.0), 0.5, 30.0),)
    for rate in (8_000, 32_000, 48_000):
        loud, quiet = (mixer.render(Soundscape(events, level, None, 1.0, 7), rate) for level in (-20.0, -60.0))
        assert loud.shape == (2 * rate,)
        assert loud.dtype == np.float32
        assert 0.9 < np.abs(loud).max() <= 0.9501
        np.testing.assert_allclose(loud / np.abs(loud).max(), quiet / np.abs(quiet).max(), atol=1e-5)


def test_soundscapes_of_a_seed_differ_in_sample_rate_only():
    mixer = SoundscapeMixer(SyntheticSounds(), SoundscapeConfig(soundscape_seconds=2.0))
    soundscape = mixer.compose(3)
    at_mix_rate = mixer.render(soundscape, MIX_SAMPLE_RATE)
    np.testing.assert_allclose(
        mixer.render(soundscape, 16_000),
        soxr.resample(at_mix_rate, MIX_SAMPLE_RATE, 16_000, quality="HQ")[:32_000],
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"soundscape_seconds": 0}, "`soundscape_seconds` must be at least 0.1; received: 0"),
        ({"min_events": 0}, "`min_events` must be at least 1; received: 0"),
        ({"min_events": 3, "max_events": 2}, "`max_events` must be at least `min_events` (3); received: 2"),
        ({"max_overlap": 0}, "`max_overlap` must be at least 1"),
        ({"snr_db": (10.0, 0.0)}, "`snr_db` must be two sorted numbers in [-60, 60]; received: 10.0 and 0.0"),
        ({"background_db": (-10.0, 0.0)}, "`background_db` must be two sorted numbers in [-90, -20]; received: -10.0"),
    ],
)
def test_a_configuration_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError) as raised:
        SoundscapeConfig(**arguments)
    assert message in str(raised.value)
    with pytest.raises(ValueError, match="`seed` must be at least 0; received: -1"):
        SoundscapeMixer(Tones(), seed=-1)


def test_other_sounds_change_no_event_and_some_soundscapes_have_only_them():
    config = SoundscapeConfig(soundscape_seconds=3.0, max_other_sounds=2, empty_share=0.4)
    plain = SoundscapeMixer(Tones(), SoundscapeConfig(soundscape_seconds=3.0), seed=1)
    mixer = SoundscapeMixer(Tones(), config, seed=1, other_sounds=OtherSounds())
    soundscapes, references = [mixer.compose(i) for i in range(200)], [plain.compose(i) for i in range(200)]
    is_empty = [not soundscape.events for soundscape in soundscapes]
    assert 0.3 < np.mean(is_empty) < 0.5
    assert {len(soundscape.other_sounds) for soundscape in soundscapes} == {0, 1, 2}
    for soundscape, reference in zip(soundscapes, references, strict=True):
        assert soundscape.events in ((), reference.events)
        assert soundscape.labels == tuple(sorted({event.excerpt.class_index for event in soundscape.events}))
        assert all(event.onset_seconds >= 0 and event.offset_seconds <= 3.001 for event in soundscape.other_sounds)
    number = next(i for i, s in enumerate(soundscapes) if s.events and s.other_sounds)
    difference = mixer.render(soundscapes[number], 16_000) - plain.render(references[number], 16_000)
    assert np.abs(difference).max() > 1e-4


def test_other_sounds_need_a_source():
    with pytest.raises(ValueError, match="`other_sounds` must be a source of sounds"):
        SoundscapeMixer(Tones(), SoundscapeConfig(max_other_sounds=1))
    for name, value in (("max_other_sounds", -1), ("empty_share", 1.5)):
        with pytest.raises(ValueError, match=f"`{name}` must be .*received: {value}"):
            SoundscapeConfig(**{name: value})
