"""Streamed log-mel spectrograms compared with those of the whole waveform."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.dsp import FRONT_ENDS, StreamingLogMel

NAMES = sorted(FRONT_ENDS)


def make_noise(samples):
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50)
@given(data=st.data())
def test_streamed_frames_are_bit_for_bit_those_of_the_whole_waveform(name, data):
    front_end = FRONT_ENDS[name]
    waveform = make_noise(data.draw(st.integers(1, 6000)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(waveform)), max_size=12)))
    stream = StreamingLogMel(front_end)
    blocks = [stream.feed(block) for block in np.split(waveform, cuts)]
    frames = np.concatenate([*blocks, stream.flush()])
    np.testing.assert_array_equal(frames, front_end.compute_log_mel(waveform))
    assert len(frames) == front_end.count_frames(len(waveform))


@pytest.mark.parametrize("hop", [100, 700, 1500])
def test_streams_with_unusual_hops_equal_the_whole_waveform(hop):
    front_end = dataclasses.replace(FRONT_ENDS["panns"], hop_length=hop)
    waveform = make_noise(9000)
    stream = StreamingLogMel(front_end)
    for _ in range(2):  # flush resets the stream
        frames = [stream.feed(waveform[start : start + 333]) for start in range(0, 9000, 333)]
        np.testing.assert_array_equal(np.concatenate([*frames, stream.flush()]), front_end.compute_log_mel(waveform))


def test_frames_are_returned_as_soon_as_they_are_complete_in_constant_memory():
    front_end = FRONT_ENDS["panns"]
    stream, waveform = StreamingLogMel(front_end), make_noise(64_000)
    count = 0
    for end in range(160, 64_001, 160):
        count += len(stream.feed(waveform[end - 160 : end]))
        complete = max(0, (end - 512) // 320 + 1) if end > 512 else 0  # frame t ends at sample 320 t + 512
        assert count == complete
        assert len(stream._samples) + len(stream._raw) < 2 * 1024 + 160


def test_an_empty_stream_has_no_frames():
    assert StreamingLogMel(FRONT_ENDS["efficientat"]).flush().shape == (0, 128)


def test_a_block_with_two_axes_is_rejected():
    with pytest.raises(ValueError, match=r"`block` must be float samples .*\(1, 9\)"):
        StreamingLogMel(FRONT_ENDS["vggish"]).feed(np.zeros((1, 9), np.float32))
