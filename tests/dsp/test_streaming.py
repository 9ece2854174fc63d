"""Log-mel block by block against the whole."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerastag.dsp import FRONT_ENDS, StreamingLogMel

NAMES = sorted(FRONT_ENDS)


def noise(samples):
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_block_by_block_is_bit_for_bit_the_whole(name, data):
    front_end = FRONT_ENDS[name]
    waveform = noise(data.draw(st.integers(1, 6000)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(waveform)), max_size=12)))
    stream = StreamingLogMel(front_end)
    fed = [stream.feed(block) for block in np.split(waveform, cuts)]
    frames = np.concatenate([*fed, stream.flush()])
    np.testing.assert_array_equal(frames, front_end.log_mel(waveform))
    assert len(frames) == front_end.num_frames(len(waveform))


@pytest.mark.parametrize("hop", [100, 700, 1500])
def test_streams_of_unusual_hops_equal_the_whole(hop):
    front_end = dataclasses.replace(FRONT_ENDS["panns"], hop_length=hop)
    waveform = noise(9000)
    stream = StreamingLogMel(front_end)
    for _ in range(2):  # flush makes it new
        frames = [stream.feed(waveform[start : start + 333]) for start in range(0, 9000, 333)]
        np.testing.assert_array_equal(np.concatenate([*frames, stream.flush()]), front_end.log_mel(waveform))


def test_frames_come_as_soon_as_they_are_complete_and_memory_stays():
    front_end = FRONT_ENDS["panns"]
    stream, waveform = StreamingLogMel(front_end), noise(64_000)
    got = 0
    for end in range(160, 64_001, 160):
        got += len(stream.feed(waveform[end - 160 : end]))
        complete = max(0, (end - 512) // 320 + 1) if end > 512 else 0  # frame t ends at sample 320 t + 512
        assert got == complete
        assert len(stream._samples) + len(stream._raw) < 2 * 1024 + 160


def test_an_empty_stream_has_no_frames():
    assert StreamingLogMel(FRONT_ENDS["efficientat"]).flush().shape == (0, 128)


def test_a_block_with_two_axes_is_refused():
    with pytest.raises(ValueError, match=r"`block` must be float samples .*\(1, 9\)"):
        StreamingLogMel(FRONT_ENDS["vggish"]).feed(np.zeros((1, 9), np.float32))
