"""The queue between two threads, which drops and counts the oldest audio when it is full."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.edge.blocks import Block, BoundedAudioQueue

RATE = 1_000


def create_block(samples, rate=RATE, lost=0, value=0.0):
    return Block(np.full(samples, value, np.float32), rate, None, lost)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 50), st.booleans()), min_size=1, max_size=30))
def test_every_sample_comes_out_or_counts_as_lost(steps):
    queue, num_put, num_taken = BoundedAudioQueue(1.0), 0, 0
    for samples, lost, take in steps:
        queue.put(create_block(samples, lost=lost))
        num_put += samples + lost
        assert queue._seconds <= 1.0 + 1e-9
        if take and (block := queue.get(timeout=0)):
            num_taken += len(block.samples) + block.lost_samples
    queue.close()
    num_taken += sum(len(b.samples) + b.lost_samples for b in queue)
    assert num_taken == num_put
    assert queue._seconds == 0


def test_the_next_block_counts_the_dropped_samples_at_its_own_rate():
    queue = BoundedAudioQueue(1.0)
    queue.put(create_block(500, lost=20, value=1))
    queue.put(create_block(1_600, rate=2_000, value=2))
    block = queue.get()
    assert float(block.samples[0]) == 2
    assert block.lost_samples == 1_040
    assert queue.dropped_seconds == 0.5
    queue.put(create_block(300))
    queue.put(create_block(5_000))  # longer than the queue
    assert queue.get().lost_samples == 300


def test_get_returns_none_after_the_timeout_and_after_the_end():
    queue = BoundedAudioQueue(1.0)
    assert queue.get(timeout=0.001) is None
    queue.close()
    assert queue.get() is None
    with pytest.raises(ValueError, match="the queue is closed"):
        queue.put(create_block(1))


def test_one_thread_can_put_while_another_gets():
    queue, blocks = BoundedAudioQueue(100.0), []
    reader = threading.Thread(target=lambda: blocks.extend(queue))
    reader.start()
    for value in range(200):
        queue.put(create_block(10, value=value))
    queue.close()
    reader.join(timeout=30)
    assert not reader.is_alive()
    assert [float(b.samples[0]) for b in blocks] == list(range(200))
    assert queue.dropped_seconds == 0


def test_a_queue_that_waits_drops_nothing_and_can_be_closed_while_it_is_full():
    queue = BoundedAudioQueue(0.1, waits=True)
    errors = []

    def write():
        try:
            for value in range(100):
                queue.put(create_block(60, value=value))
        except ValueError as error:
            errors.append(str(error))

    writer = threading.Thread(target=write)
    writer.start()
    reader = queue.read(5.0)
    assert [float(next(reader).samples[0]) for _ in range(50)] == list(range(50))
    queue.close()
    writer.join(timeout=30)
    assert not writer.is_alive()
    assert errors == ["`put`: the queue is closed"]
    left = [float(block.samples[0]) for block in reader]
    assert left == list(range(50, 50 + len(left)))
    assert queue.dropped_seconds == 0


def test_reading_yields_none_at_each_timeout_until_the_queue_is_closed():
    queue = BoundedAudioQueue(1.0)
    reader = queue.read(0.01)
    assert [next(reader), next(reader)] == [None, None]
    queue.put(create_block(1))
    queue.close()
    assert len(list(reader)) == 1


def test_the_capacity_must_be_above_zero():
    for capacity in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="`capacity_seconds` must be above 0"):
            BoundedAudioQueue(capacity)
