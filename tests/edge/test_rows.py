"""The rows of a stream, from blocks of any size and sample rate, and the buffer of the last ones."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.dsp import FRONT_ENDS
from kerastag.edge.rows import InvalidSamplesError, RowBuffer, RowGrid, RowStream, convert_to_mono

NOISE = (0.1 * np.random.default_rng(0).standard_normal(60_000)).astype(np.float32)


@settings(max_examples=20)
@given(
    rate=st.sampled_from([16_000, 8_000, 44_100, 48_000]),
    name=st.sampled_from([None, "vggish", "talnet"]),
    samples=st.integers(1, 60_000),
    cuts=st.lists(st.integers(0, 60_000), max_size=8),
    needed=st.integers(1, 300),
)
def test_rows_do_not_depend_on_how_the_samples_are_cut(rate, name, samples, cuts, needed):
    front_end = FRONT_ENDS.get(name)
    stream, waveform = RowStream(rate, RowGrid(16_000, front_end)), NOISE[:samples]
    rows = [
        row.copy()
        for block in np.split(waveform, sorted(c % samples for c in cuts))
        for row in stream.feed(block, lambda: needed)
    ]
    rows = np.concatenate([*rows, *(row.copy() for row in stream.flush())])
    whole = waveform if rate == 16_000 else soxr.resample(waveform, rate, 16_000, quality="HQ")
    if len(whole):
        np.testing.assert_array_equal(rows, whole if front_end is None else front_end.compute_log_mel(whole))


@pytest.mark.parametrize("name", [None, *FRONT_ENDS])
def test_rows_come_with_the_sample_that_completes_the_needed_row(name):
    """No row comes earlier, since the needed rows are counted from the last one."""
    front_end = FRONT_ENDS.get(name)
    grid = RowGrid(16_000, None) if front_end is None else RowGrid(front_end.sample_rate, front_end)
    stream, counts = RowStream(grid.sample_rate, grid), []
    for sample in NOISE[: grid.to_samples(30)]:
        counts += [len(rows) for rows in stream.feed(np.array([sample]), lambda: 7) if len(rows)]
    assert counts[:4] == [7, 7, 7, 7]
    assert sum(counts) == 28, "the last two wait"
    counts = [len(rows) for rows in stream.flush()]
    assert sum(counts) >= 2


def test_a_block_may_be_overwritten_after_it_was_fed():
    grid = RowGrid(16_000, FRONT_ENDS["vggish"])
    stream, block, rows = RowStream(16_000, grid), np.empty(100, np.float32), []
    for start in range(0, 8_000, 100):
        block[:] = NOISE[start : start + 100]
        rows += [row.copy() for row in stream.feed(block, lambda: 20)]
    rows = np.concatenate([*rows, *stream.flush()])
    np.testing.assert_array_equal(rows, grid.front_end.compute_log_mel(NOISE[:8_000]))


def test_the_row_of_silence_is_that_of_zeros():
    for name, front_end in FRONT_ENDS.items():
        expected = front_end.compute_log_mel(np.zeros(9_000, np.float32))[3]
        np.testing.assert_array_equal(RowGrid(front_end.sample_rate, front_end).silence, expected, err_msg=name)


def test_channels_are_averaged():
    stereo = np.stack([np.full(9, 0.5), np.full(9, 0.1)], axis=1)
    np.testing.assert_allclose(convert_to_mono(stereo), np.full(9, 0.3), rtol=1e-6)
    assert convert_to_mono(stereo).dtype == np.float32
    assert convert_to_mono(stereo[:, :1]).flags.c_contiguous
    assert convert_to_mono(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(9, np.int16), "divide 16-bit samples by 32768; received: int16"),
        ([0.1, 0.2], "must be an array of floats in .* received: list"),
        (np.zeros((1, 2, 3)), r"shape \(samples,\) or \(samples, channels\); received: \(1, 2, 3\)"),
        (np.zeros((9, 0)), r"received: \(9, 0\)"),
    ],
)
def test_other_arrays_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        convert_to_mono(samples)


def test_values_that_are_not_audio_are_refused():
    block = np.zeros((9, 2), np.float32)
    for value in (np.nan, np.inf, -np.inf, 12_000.0):
        block[4, 1] = value
        with pytest.raises(InvalidSamplesError, match="must be finite and in"):
            convert_to_mono(block)


@settings(max_examples=30)
@given(
    capacity=st.integers(1, 9),
    blocks=st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=12),
    shape=st.sampled_from([(), (3,)]),
)
def test_the_buffer_holds_the_last_rows(capacity, blocks, shape):
    buffer, random = RowBuffer(capacity, shape), np.random.default_rng(0)
    rows, audio = [np.zeros((capacity, *shape), np.float32)], [False] * capacity
    for count, is_audio in blocks:
        block = random.random((count, *shape), np.float32)
        buffer.append(block, is_audio)
        rows.append(block)
        audio += [is_audio] * count
    for count in range(capacity + 1):
        everything = np.concatenate(rows)
        np.testing.assert_array_equal(buffer.get_last(count), everything[len(everything) - count :])
        assert buffer.count_audio(count) == sum(audio[len(audio) - count :])


def test_memory_is_allocated_once():
    buffer = RowBuffer(4, (2,))
    before = buffer._rows
    for _ in range(100):
        buffer.append(np.ones((3, 2), np.float32))
    assert buffer._rows is before
    assert np.shares_memory(buffer.get_last(4), before)
