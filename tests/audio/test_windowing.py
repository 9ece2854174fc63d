"""Windows over waveforms and files cover every sample, for any lengths."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kerastag import audio
from kerastag.audio.reading import _split_into_windows


@given(
    samples=st.integers(1, 300),
    length=st.integers(1, 80),
    hop=st.integers(1, 150),
    cuts=st.lists(st.integers(0, 300)),
)
def test_windows_cover_the_waveform(samples, length, hop, cuts):
    waveform = np.arange(1, samples + 1, dtype=np.float32) / 4096
    parts = np.split(waveform, sorted(cut for cut in cuts if cut < samples))
    for windows in (
        list(audio.read_windows(waveform, 1000, length / 1000, hop / 1000)),
        list(_split_into_windows(iter(parts), 1000, length, hop)),
    ):
        starts = [round(window.start_seconds * 1000) for window in windows]
        assert starts == [index * hop for index in range(len(windows))]
        for start, (_, window, valid_seconds) in zip(starts, windows, strict=True):
            valid = round(valid_seconds * 1000)
            assert 1 <= valid <= length == len(window)
            np.testing.assert_array_equal(window[:valid], waveform[start : start + valid])
            assert not window[valid:].any()
            assert valid == min(length, samples - start)
        ends = [start + length for start in starts]
        assert all(end < samples for end in ends[:-1])
        assert ends[-1] >= samples or starts[-1] + hop >= samples


def test_windows_of_a_file_equal_those_of_its_waveform(clip):
    from_file = list(audio.read_windows(clip, 16_000, 0.7, 0.3))
    from_array = list(audio.read_windows(audio.load(clip, 16_000), 16_000, 0.7, 0.3))
    assert len(from_file) == len(from_array) == 6
    for one, other in zip(from_file, from_array, strict=True):
        assert (one.start_seconds, one.valid_seconds) == (other.start_seconds, other.valid_seconds)
        np.testing.assert_array_equal(one.waveform, other.waveform)


def test_changing_a_window_does_not_change_the_next_one(clip):
    windows = audio.read_windows(clip, 16_000, 1.0, 0.5)
    next(windows).waveform[:] = 9
    assert next(windows).waveform.max() < 1
