"""The ring against a list that keeps everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kerastag.edge.ring import Ring


@given(
    capacity=st.integers(1, 9),
    blocks=st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=12),
    shape=st.sampled_from([(), (3,)]),
)
def test_it_holds_the_last_rows_of_everything_appended(capacity, blocks, shape):
    ring, random = Ring(capacity, shape), np.random.default_rng(0)
    rows, heard = [np.zeros((capacity, *shape), np.float32)], [False] * capacity
    for count, is_heard in blocks:
        block = random.random((count, *shape), np.float32)
        ring.append(block, is_heard)
        rows.append(block)
        heard += [is_heard] * count
    for count in range(capacity + 1):
        everything = np.concatenate(rows)
        np.testing.assert_array_equal(ring.last(count), everything[len(everything) - count :])
        assert ring.heard(count) == sum(heard[len(heard) - count :])


def test_its_memory_is_taken_at_once():
    ring = Ring(4, (2,))
    before = ring._rows
    for _ in range(100):
        ring.append(np.ones((3, 2), np.float32))
    assert ring._rows is before
    assert np.shares_memory(ring.last(4), before)
