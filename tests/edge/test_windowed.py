"""Windowed streaming, compared with the formula of the model on rows of the whole recording."""

import numpy as np
import pytest
from edge.models import FRAMES_PER_OUTPUT, FRONT_END, WAVEFORM_SAMPLES, WINDOW_FRAMES, weights

from kerastag.edge import StreamingTagger
from kerastag.tagger import Tagger

RATE = 16_000
SECONDS_PER_OUTPUT = 0.08
NOISE = (0.1 * np.random.default_rng(0).standard_normal(4 * RATE)).astype(np.float32)
SILENCE = FRONT_END.compute_log_mel(np.zeros(RATE, np.float32))[0]


def compute_sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run_stream(path, waveform, hop_seconds, block=1_000):
    tagger = StreamingTagger(path, hop_seconds=hop_seconds)
    starts = range(0, len(waveform), block)
    results = [result for start in starts for result in tagger.feed(waveform[start:][:block], RATE)]
    return results, tagger.flush()


def compute_clipwise(rows):
    """Return the expected probabilities of a window of these rows, padded with silence."""
    window = np.concatenate([rows, np.broadcast_to(SILENCE, (WINDOW_FRAMES - len(rows), 64))])
    return compute_sigmoid(np.einsum("tb,tbk->k", window.astype(np.float64), weights(WINDOW_FRAMES, 64, 3)))


@pytest.fixture(scope="module", params=[0.08, 0.24, 0.96])
def stream(clip_model, request):
    """Return a hop, and the results and the last results of the noise with it."""
    return request.param, *run_stream(clip_model, NOISE, request.param)


def test_each_result_is_the_prediction_of_the_model_for_its_window(stream):
    log_mel = FRONT_END.compute_log_mel(NOISE)
    hop_seconds, results, last = stream
    ends = [round(100 * result.end_seconds) for result in results]
    hop = round(100 * hop_seconds)
    assert ends == list(range(hop + 4, len(log_mel) + 1, hop))  # a window is 12 output frames and 4 rows
    for result, end in zip(results, ends, strict=True):
        start = max(0, end - WINDOW_FRAMES)
        assert result.start_seconds == pytest.approx(start / 100)
        np.testing.assert_allclose(result.probabilities, compute_clipwise(log_mel[start:end]), atol=1e-5)
    assert len(last) == 1
    start = -(-(len(log_mel) - WINDOW_FRAMES) // FRAMES_PER_OUTPUT) * FRAMES_PER_OUTPUT
    np.testing.assert_allclose(last[0].probabilities, compute_clipwise(log_mel[start:]), atol=1e-5)
    assert last[0].end_seconds == pytest.approx(len(log_mel) / 100)


def test_frames_of_all_results_follow_each_other_without_a_seam(stream):
    log_mel = FRONT_END.compute_log_mel(NOISE)
    _, results, last = stream
    framewise = np.concatenate([result.framewise for result in results + last])
    count = -(-len(log_mel) // FRAMES_PER_OUTPUT)
    padded = np.concatenate([log_mel, np.broadcast_to(SILENCE, (count * FRAMES_PER_OUTPUT - len(log_mel), 64))])
    frames = padded.reshape(count, FRAMES_PER_OUTPUT, 64).astype(np.float64)
    expected = compute_sigmoid(np.einsum("ntb,tbk->nk", frames, weights(FRAMES_PER_OUTPUT, 64, 3, seed=1)))
    # The last frame of a window that is as long as the stream ends with the padding of the model.
    np.testing.assert_allclose(framewise[:-1], expected[:-1], atol=1e-5)
    assert len(framewise) == count
    at = np.concatenate([r.framewise_start_seconds + SECONDS_PER_OUTPUT * np.arange(len(r.framewise)) for r in results])
    np.testing.assert_allclose(at, SECONDS_PER_OUTPUT * np.arange(len(at)), atol=1e-9)


@pytest.mark.parametrize("samples", [400, 3_000, 15_000, 16_240])
def test_the_last_result_of_a_short_recording_equals_the_tagger(clip_model, samples):
    """The front end of VGGish has no frame at the last 240 samples, so that the padding differs in two rows."""
    results, last = run_stream(clip_model, NOISE[:samples], 0.96)
    log_mel = FRONT_END.compute_log_mel(NOISE[:samples])
    np.testing.assert_allclose(last[-1].probabilities, compute_clipwise(log_mel), atol=1e-5)
    if samples == 16_240:  # one window
        timeline = Tagger.load(clip_model).predict_timeline(NOISE[:samples], sample_rate=RATE)
        np.testing.assert_allclose(last[-1].probabilities, timeline.clipwise, atol=1e-6)
        framewise = np.concatenate([result.framewise for result in results + last])
        np.testing.assert_allclose(framewise, timeline.framewise, atol=1e-6)


def test_a_model_of_waveforms_takes_windows_of_samples(waveform_model):
    results, last = run_stream(waveform_model, NOISE[:50_000], 0.25)
    assert [result.end_seconds for result in results] == [0.25 * k for k in range(1, 13)]
    assert last[0].end_seconds == 50_000 / RATE
    ramp = weights(WAVEFORM_SAMPLES, 3).astype(np.float64)
    for result in results + last:
        window = NOISE[round(result.start_seconds * RATE) : round(result.end_seconds * RATE)]
        assert len(window) == min(WAVEFORM_SAMPLES, round(result.end_seconds * RATE))
        expected = compute_sigmoid(100 * window.astype(np.float64) @ ramp[: len(window)])
        np.testing.assert_allclose(result.probabilities, expected, atol=1e-4)
        np.testing.assert_array_equal(result.framewise, result.probabilities[None])
    starts = [result.framewise_start_seconds for result in results + last]
    np.testing.assert_allclose(starts, 0.25 * np.arange(13))


def test_the_hop_is_a_whole_number_of_output_frames(clip_model):
    tagger = StreamingTagger(clip_model, hop_seconds=0.3)
    assert tagger.hop_seconds == pytest.approx(0.32)
    assert tagger.seconds_per_frame == pytest.approx(0.08)
    assert tagger.window_seconds == pytest.approx(1.0)
    assert StreamingTagger(clip_model, hop_seconds=0.001).hop_seconds == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("hop_seconds", "message"),
    [(1.1, "at most the length of the window, 0.96; received: 1.1"), (0, "above 0; received: 0"), (np.nan, "above 0")],
)
def test_a_hop_out_of_range_is_refused(clip_model, hop_seconds, message):
    with pytest.raises(ValueError, match=f"`hop_seconds` must be {message}"):
        StreamingTagger(clip_model, hop_seconds=hop_seconds)
