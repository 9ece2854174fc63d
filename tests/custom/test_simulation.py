"""Simulated streams: the alarms are those of `kerastag stream`, and sounds are as loud as they should be."""

import dataclasses

import numpy as np
import pytest
import soundfile
from sounds import create_rain

from kerastag.bundled import BUNDLED_MODEL
from kerastag.custom.clips import Clips
from kerastag.custom.simulation import (
    SNRS_DB,
    StreamPredictions,
    compose_events,
    render_events,
    simulate_stream,
    track_alarms,
)
from kerastag.data.audio_lists import Recording
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE
from kerastag.edge.config import StreamConfig
from kerastag.edge.service import run_stream
from kerastag.edge.streaming import StreamingTagger
from kerastag.events import EventRules, create_event_rules, find_events

pytest.importorskip("ai_edge_litert")


def test_the_alarms_of_a_simulated_stream_are_those_of_kerastag_stream(tmp_path):
    rain = np.concatenate([np.zeros(32_000, np.float32), create_rain(6, 16_000), np.zeros(48_000, np.float32)])
    soundfile.write(tmp_path / "rain.wav", rain, 16_000, subtype="FLOAT")
    output = {"to": f"csv:{tmp_path / 'events.csv'}", "report": "events"}
    rules = {"smoothing_seconds": 0.9, "min_seconds": 0.5}
    run_stream(StreamConfig(source=str(tmp_path / "rain.wav"), output=(output,), threshold=0.3, **rules), print)
    rows = [line.split(",") for line in (tmp_path / "events.csv").read_text(encoding="utf-8").splitlines()[1:]]
    tagger = StreamingTagger(BUNDLED_MODEL)
    predictions = simulate_stream(tagger, np.array_split(rain, 7), 16_000)
    thresholds = [0.3] * len(tagger.labels)
    alarms = track_alarms(predictions, create_event_rules(rules, thresholds))
    expected = [(row[4], float(row[2])) for row in rows if row[0] == "begin"]
    assert expected
    assert [(tagger.labels.names[a.class_index], pytest.approx(a.onset_seconds, abs=1e-3)) for a in alarms] == expected
    assert predictions.hours == pytest.approx(len(rain) / 16_000 / 3600, rel=0.1)


def test_an_alarm_is_reported_when_the_last_frame_that_it_needs_is_known():
    framewise = np.array([[0.1], [0.9], [0.9], [0.1], [0.9], [0.1]], np.float32)
    predictions = StreamPredictions(framewise, 10.0, 0.5, np.array([11.0, 11.0, 12.0, 12.0, 13.0, 13.0]))
    (alarm,) = track_alarms(predictions, EventRules(0.5, min_seconds=1.0))
    assert dataclasses.astuple(alarm) == (0, 10.5, 12.0)
    assert [(a.onset_seconds, a.reported_seconds) for a in track_alarms(predictions, EventRules(0.5))] == [
        (10.5, 11.0),
        (12.0, 13.0),
    ]
    assert len(find_events(framewise, 0.5, EventRules(0.5))) == 2


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return a tone of a second within silence, one of two classes, one that is too long, and silence."""
    folder = tmp_path_factory.mktemp("clips")
    times = np.arange(MIX_SAMPLE_RATE) / MIX_SAMPLE_RATE
    tone, silence = 0.2 * np.sin(2 * np.pi * 1000 * times), np.zeros(MIX_SAMPLE_RATE)
    waveforms = [[silence, tone, silence], [tone], [tone] * 8, [silence]]
    audio = []
    for number, parts in enumerate(waveforms):
        path = folder / f"{number}.wav"
        soundfile.write(path, np.concatenate(parts), MIX_SAMPLE_RATE, subtype="FLOAT")
        audio.append(Recording(path, path.name, ()))
    targets = np.array([[True, False], [True, True], [True, False], [False, True]])
    return Clips("a test", (), ("Beep", "Tone"), tuple(audio), targets, np.zeros(4, int), np.ones((4, 2), bool))


def test_the_sound_of_each_clip_is_composed_once_at_each_level(clips):
    events = compose_events(clips, range(4), max_seconds=7.0)
    assert sorted((event.excerpt.number, event.snr_db) for event in events) == sorted(
        (row, snr_db) for row in (0, 1) for snr_db in SNRS_DB
    )
    first = next(event.excerpt for event in events if event.excerpt.number == 0)
    assert (first.start_seconds, first.seconds) == (pytest.approx(0.98), pytest.approx(1.04))


def test_sounds_have_their_level_and_their_place_in_the_stream(clips):
    events = compose_events(clips, [0, 1], max_seconds=7.0)
    noise = np.random.default_rng(0).normal(0, 0.01, 5 * MIX_SAMPLE_RATE).astype(np.float32)
    for backgrounds in ([noise], []):
        scenes = list(render_events(clips, events, backgrounds))
        stream = np.concatenate([waveform for waveform, _ in scenes])
        for _, event in scenes:
            first, last = (round(s * MIX_SAMPLE_RATE) for s in (event.onset_seconds, event.offset_seconds))
            before = np.mean(np.square(stream[first - MIX_SAMPLE_RATE : first]))
            power = np.mean(np.square(stream[first:last]))
            assert 10 * np.log10(power / before) == pytest.approx(10 * np.log10(1 + 10 ** (event.snr_db / 10)), abs=2.0)
        assert {event.classes for _, event in scenes} == {(0,), (0, 1)}
    assert np.mean(np.square(scenes[0][0][:MIX_SAMPLE_RATE])) < 10**-2.9


def test_a_stream_without_a_frame_is_refused():
    with pytest.raises(ValueError, match="`blocks` must be as long as a frame of the model, or longer; received: less"):
        simulate_stream(StreamingTagger(BUNDLED_MODEL), [], 16_000)
