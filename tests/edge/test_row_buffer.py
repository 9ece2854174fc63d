"""The buffer of the last rows, compared with a list of all rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kerastag.edge.rows import RowBuffer


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
