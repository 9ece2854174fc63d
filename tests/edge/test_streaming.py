"""The streaming tagger: blocks of any length, sample rates, channels, gaps, clocks and errors."""

import functools
import itertools
import math

import numpy as np
import pytest
import soxr
from edge.models import copy_with_card
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import run_python
from kerastag.dsp import FRONT_ENDS
from kerastag.edge import Block, StreamingTagger
from kerastag.edge import streaming as module
from kerastag.edge.clock import StreamClock
from kerastag.events import EventRules, EventTracker

RATE = 16_000
NOISE = (0.1 * np.random.default_rng(0).standard_normal((48_000, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def taggers(clip_model, waveform_model, embedder, head):
    """One tagger of each kind; `flush` resets it."""
    return {
        "log_mel": StreamingTagger(clip_model, hop_seconds=0.16),
        "waveform": StreamingTagger(waveform_model, hop_seconds=0.21),
        "incremental": StreamingTagger(embedder, head),
    }


def run_tagger(tagger, samples, rate, cuts=(), **arguments):
    blocks = np.split(samples, sorted(cuts))
    return [result for block in blocks for result in tagger.feed(block, rate, **arguments)] + tagger.flush()


def check_equal(results, expected):
    assert len(results) == len(expected)
    for result, other in zip(results, expected, strict=True):
        for name in set(result._fields) - {"started_at"}:
            np.testing.assert_array_equal(getattr(result, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("kind", ["log_mel", "waveform", "incremental"])
@settings(max_examples=8)
@given(
    rate=st.sampled_from([16_000, 44_100]),
    samples=st.integers(0, 48_000),
    cuts=st.lists(st.integers(0, 48_000), max_size=10),
    stereo=st.booleans(),
)
def test_results_do_not_depend_on_how_the_audio_is_cut(taggers, kind, rate, samples, cuts, stereo):
    audio = NOISE[:samples] if stereo else NOISE[:samples, 0]
    whole = run_tagger(taggers[kind], audio, rate)
    check_equal(run_tagger(taggers[kind], audio, rate, [cut % (samples + 1) for cut in cuts]), whole)
    assert bool(whole) == bool(samples)


@pytest.mark.parametrize("kind", ["log_mel", "waveform", "incremental"])
def test_single_samples_give_the_same_results(taggers, kind):
    audio = NOISE[:4_400, 0]
    check_equal(run_tagger(taggers[kind], audio, RATE, range(4_400)), run_tagger(taggers[kind], audio, RATE))


@pytest.mark.parametrize("kind", ["log_mel", "waveform", "incremental"])
def test_other_rates_and_channels_are_resampled_and_averaged(taggers, kind):
    resampled = soxr.resample(NOISE.mean(axis=1, dtype=np.float32), 44_100, RATE, quality="HQ")
    results, expected = run_tagger(taggers[kind], NOISE, 44_100), run_tagger(taggers[kind], resampled, RATE)
    check_equal(results, expected)


def test_the_first_result_comes_after_the_first_hop_and_silence_gives_finite_probabilities(taggers):
    """It also waits for the part of a window that is not a whole output frame, and for the filter of the resampler."""
    for kind, wait in {"log_mel": 0.16 + 0.04, "waveform": 0.21, "incremental": 0.24}.items():
        for rate, filtered in ((RATE, 0.0), (44_100, 0.05)):
            samples = round((wait + filtered + 0.025) * rate)
            assert len(taggers[kind].feed(NOISE[:samples, 0], rate)) == 1, kind
            taggers[kind].flush()
        silent_results = run_tagger(taggers[kind], np.zeros(RATE, np.float32), RATE)
        assert all(np.isfinite(result.probabilities).all() for result in silent_results), kind


@pytest.mark.parametrize("kind", ["log_mel", "waveform", "incremental"])
def test_lost_audio_advances_the_time_stamps_exactly(taggers, kind):
    tagger = taggers[kind]
    whole = [result.end_seconds for result in run_tagger(tagger, NOISE[:, 0], RATE)[:-1]]
    before = tagger.compute_stats()
    first = tagger.feed(NOISE[:16_000, 0], RATE)
    after = tagger.feed(NOISE[16_000:, 0], RATE, lost_samples=3_600 * 44_100 // 2)  # not a multiple of the hop
    lost_seconds = 3_600 * 44_100 / 2 / RATE
    ends = [result.end_seconds for result in first + after]
    hop = tagger.hop_seconds
    positions = np.array(ends) / hop - whole[0] / hop
    np.testing.assert_allclose(positions, np.round(positions), atol=1e-6)  # on the grid of the stream
    gaps = np.diff(ends)
    assert np.sum(gaps > 1.5 * hop) == 1
    assert lost_seconds - hop < gaps.max() < lost_seconds + 2 * hop + 0.1
    last = (tagger.flush() or after)[-1]
    assert last.end_seconds == pytest.approx(3 + lost_seconds, abs=hop / 2 + 0.03)
    assert sum(result.lost_seconds for result in [*first, *after]) == pytest.approx(lost_seconds)
    stats = tagger.compute_stats()
    assert stats.lost_seconds - before.lost_seconds == pytest.approx(lost_seconds)
    assert stats.gaps - before.gaps == 1
    assert stats.audio_seconds - before.audio_seconds == pytest.approx(3.0)


def test_a_short_gap_counts_as_silence(taggers):
    tagger = taggers["waveform"]
    tagger.feed(NOISE[:8_000, 0], RATE)
    results = tagger.feed(NOISE[:8_000, 0], RATE, lost_samples=1_000) + tagger.flush()
    silence = np.zeros(1_000, np.float32)
    expected = run_tagger(tagger, np.concatenate([NOISE[:8_000, 0], silence, NOISE[:8_000, 0]]), RATE)
    np.testing.assert_array_equal(results[-1].probabilities, expected[-1].probabilities)
    assert results[-1].end_seconds == expected[-1].end_seconds


def test_a_change_of_the_sample_rate_is_not_a_gap(taggers):
    """One second at the rate of the model and one at twice the rate; the last window is the second one, resampled."""
    tagger = taggers["waveform"]
    before, second = tagger.compute_stats(), NOISE[:32_000, 0]
    results = tagger.feed(NOISE[:16_000, 0], RATE) + tagger.feed(second, 2 * RATE) + tagger.flush()
    assert (results[-1].start_seconds, results[-1].end_seconds) == (1.0, 2.0)
    assert len(results) == 10  # nine hops of 0.21 s, and the rest
    assert tagger.compute_stats().gaps == before.gaps
    alone = run_tagger(tagger, second, 2 * RATE)[-1]
    np.testing.assert_array_equal(results[-1].probabilities, alone.probabilities)


def test_time_stamps_do_not_drift_with_many_gaps_and_rates(taggers):
    tagger, random, seconds = taggers["log_mel"], np.random.default_rng(1), 0.0
    last = None
    for rate in itertools.islice(itertools.cycle([16_000, 44_100, 8_000]), 60):
        samples, lost = int(random.integers(1, 9_000)), int(random.integers(0, 3_000))
        seconds += (samples + lost) / rate
        for result in tagger.feed(NOISE[:samples, 0], rate, lost_samples=lost):
            last = result
            assert result.end_seconds <= seconds
    last = (tagger.flush() or [last])[-1]
    assert last.end_seconds == pytest.approx(seconds, abs=0.03)  # VGGish's front end has no frame at the last 15 ms


def test_the_event_tracker_takes_the_frames_with_a_gap_among_them(taggers):
    tagger = taggers["log_mel"]
    tracker = EventTracker(len(tagger.labels), tagger.seconds_per_frame, EventRules(0.5))
    events = []
    for lost in (0, 0, RATE, 100 * RATE):
        for result in tagger.feed(NOISE[:16_000, 0], RATE, lost_samples=lost):
            events += tracker.update(result.framewise_start_seconds, result.framewise)
    for result in tagger.flush():
        events += tracker.update(result.framewise_start_seconds, result.framewise)
    events += tracker.flush()
    ended = [event for event in events if event.offset_seconds is not None]
    assert ended
    intervals = [(0, 2), (3, 4), (104, 105)]
    for event in ended:
        assert any(start - 0.1 <= event.onset_seconds < event.offset_seconds <= end + 0.1 for start, end in intervals)


def test_sleep_is_a_gap_and_the_time_of_day_is_right_after_it(clip_model, monkeypatch):
    clocks = {"now": 100.0, "wall": 1e9}
    read_clocks = [functools.partial(clocks.get, name) for name in ("now", "wall")]
    monkeypatch.setattr(module, "StreamClock", lambda gap: StreamClock(gap, *read_clocks))
    tagger, results = StreamingTagger(clip_model, hop_seconds=0.16), []
    for step in range(20):
        if step == 10:
            clocks["now"] += 3_600  # the machine slept
            clocks["wall"] += 3_600
        captured_at = clocks["now"]
        clocks["now"] += 0.2
        clocks["wall"] += 0.2
        results += tagger.feed(NOISE[:3_200, 0], RATE, captured_at=captured_at)
    assert results[-1].end_seconds == pytest.approx(3_604, abs=0.2)
    assert all(result.started_at == pytest.approx(1e9) for result in results)
    assert tagger.compute_stats().lost_seconds == pytest.approx(3_600)
    assert tagger.compute_stats().latency_p99 < 0.5


def test_a_block_that_is_not_audio_counts_as_lost_and_the_stream_continues(clip_model):
    tagger = StreamingTagger(clip_model, hop_seconds=0.16)
    bad = np.full(1_600, np.nan, np.float32)
    blocks = [Block(bad if step in (3, 4, 19) else NOISE[:1_600, 0], RATE) for step in range(20)]
    results = list(tagger.run(blocks))
    # No block follows the last one, so that it does not count.
    assert tagger.compute_stats().lost_seconds == pytest.approx(0.2)
    assert results[-1].end_seconds == pytest.approx(1.9, abs=0.03)
    assert all(np.isfinite(result.probabilities).all() for result in results)


def test_an_invalid_block_does_not_change_the_stream(clip_model):
    tagger, audio = StreamingTagger(clip_model, hop_seconds=0.16), NOISE[:16_000, 0]
    expected = run_tagger(tagger, audio, RATE)
    results = tagger.feed(audio[:5_000], RATE)
    invalid = [
        ((np.full(9, np.nan, np.float32), RATE), {}, "must be finite"),
        ((np.zeros(9, np.int16), RATE), {}, "divide 16-bit samples by 32768"),
        ((audio, 999), {}, "`sample_rate` must be an integer from 1000 to 1000000 Hz"),
        ((audio, 44_100.5), {}, "`sample_rate` must be an integer"),
        ((audio, RATE), {"lost_samples": 0.5}, "`lost_samples` must be an integer"),
        ((audio, RATE), {"lost_samples": -1}, "`lost_samples` must be an integer of at least 0; received: -1"),
    ]
    for arguments, keywords, message in invalid:
        with pytest.raises(ValueError, match=message):
            tagger.feed(*arguments, **keywords)
    check_equal(results + tagger.feed(audio[5_000:], np.float64(RATE)) + tagger.flush(), expected)


@pytest.mark.parametrize("samples", [1_000, 12_345, 31_999, 32_000])
@pytest.mark.parametrize("names", [("clip_model",), ("waveform_model",), ("embedder", "head")])
def test_a_pause_gives_the_results_of_all_audio_once(names, samples, request):
    audio = NOISE[:samples]
    tagger = StreamingTagger(*map(request.getfixturevalue, names))
    results = tagger.feed(audio, RATE)
    before = tagger.pause()
    expected = StreamingTagger(*map(request.getfixturevalue, names))
    check_equal(results + before, expected.feed(audio, RATE) + expected.flush())
    assert not tagger.pause()
    after = tagger.feed(audio, RATE, lost_samples=3 * RATE) + tagger.flush()
    starts = [result.framewise_start_seconds for result in [*results, *before, *after]]
    ends = [
        r.framewise_start_seconds + tagger.seconds_per_frame * len(r.framewise) for r in [*results, *before, *after]
    ]
    assert (np.array(starts[1:]) > np.array(ends[:-1]) - tagger.seconds_per_frame).all()  # no frame comes twice
    assert after[-1].end_seconds == pytest.approx(3 + 2 * samples / RATE, abs=0.5 * tagger.hop_seconds + 0.02)
    tagger.feed(audio, RATE)
    tagger.pause()
    assert not tagger.flush()


def test_stats_count_audio_and_results(clip_model):
    tagger = StreamingTagger(clip_model, hop_seconds=0.16)
    assert math.isnan(tagger.compute_stats().real_time_factor)
    results = run_tagger(tagger, NOISE, 44_100)
    stats = tagger.compute_stats()
    assert stats.audio_seconds == pytest.approx(len(NOISE) / 44_100)
    assert stats.results == len(results)
    assert stats.real_time_factor == pytest.approx(stats.busy_seconds / stats.audio_seconds)
    assert 0 < stats.latency_p50 <= stats.latency_p95 <= stats.latency_p99 <= stats.latency_max
    assert stats.resident_bytes > 1e6


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (["clip"], {"mode": "fast"}, "`mode` must be one of auto, windowed, incremental; received: 'fast'"),
        (["clip"], {"mode": "incremental"}, "`head` must be a path with `mode` 'incremental'; received: None"),
        (["embedder", "head"], {"mode": "windowed"}, "`mode` must be incremental for .*, which embeds whole segments"),
        (["embedder"], {}, "embedder.tflite: must return `clipwise` \\(an embedder needs a `head`\\)"),
        (["head"], {}, "head.tflite: must have one input, waveform or log_mel; received: embedding"),
        (["embedder", "clip"], {}, "clip.tflite: must have one input, embedding; received: log_mel"),
        (["clip", "head"], {}, "clip.tflite: must return `embedding` for a head"),
        (["embedder", "head"], {"hop_seconds": 0.25}, "at most the length of a segment, 0.24; received: 0.25"),
        (["clip"], {"num_threads": 0}, "`num_threads` must be at least 1; received: 0"),
    ],
)
def test_files_and_arguments_that_do_not_match_are_errors(clip_model, embedder, head, arguments, keywords, message):
    files = {"clip": clip_model, "embedder": embedder, "head": head}
    with pytest.raises(ValueError, match=message):
        StreamingTagger(*(files[name] for name in arguments), **keywords)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seconds_per_frame": 0.04}, "`framewise` must have a frame every 0.04 s, .*; received: 13 frames in 1 s"),
        ({"labels": None}, "clip.tflite: the card must name the classes; received: none"),
        (
            {"front_end": {}},
            "clip.tflite: the card of a model that takes log-mel must have `front_end`; received: none",
        ),
        ({"sample_rate": 32_000}, "clip.tflite: .*`sample_rate` must be that of `front_end`, 16000; received: 32000"),
        (
            {"front_end": FRONT_ENDS["efficientat"].as_dict(), "sample_rate": 32_000},
            r"must take 128 log-mel bands, like the front end of its card; received: \(1, 100, 64\)",
        ),
    ],
)
def test_a_card_that_does_not_match_its_model_is_refused(clip_model, tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        StreamingTagger(copy_with_card(clip_model, tmp_path, **changed))


def test_a_device_loads_only_numpy_soxr_and_the_interpreter(clip_model):
    heavy = ("keras", "tensorflow", "jax", "scipy", "sklearn", "h5py", "soundfile", "tqdm", "matplotlib")
    code = f"""
import sys, numpy as np, kerastag.edge
interpreters = [m for m in sys.modules if m.startswith(("ai_edge_litert", "tflite_runtime"))]
results = kerastag.edge.StreamingTagger({str(clip_model)!r}).feed(np.zeros(20_000, np.float32), 16_000)
print(interpreters, len(results), [m for m in {heavy} if m in sys.modules])
"""
    assert run_python(code).strip().endswith("[] 1 []")
