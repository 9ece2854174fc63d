"""The queue between two threads: nothing lost unless it must, and then the oldest, counted."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerastag.edge.blocks import Block
from kerastag.edge.queue import BoundedAudioQueue

RATE = 1_000


def block(samples, rate=RATE, lost=0, value=0.0):
    return Block(np.full(samples, value, np.float32), rate, None, lost)


def test_everything_passes_in_order_where_there_is_room():
    queue = BoundedAudioQueue(1.0)
    for value in range(5):
        queue.put(block(200, value=value))
    queue.close()
    assert [float(b.samples[0]) for b in queue] == [0, 1, 2, 3, 4]
    assert queue.dropped_seconds == 0


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 50), st.booleans()), min_size=1, max_size=30))
def test_samples_that_come_out_and_samples_that_are_lost_are_all_that_went_in(steps):
    queue, went_in, came_out = BoundedAudioQueue(1.0), 0, 0
    for samples, lost, take in steps:
        queue.put(block(samples, lost=lost))
        went_in += samples + lost
        assert queue.waiting_seconds <= 1.0 + 1e-9
        if take and (taken := queue.get(timeout=0)):
            came_out += len(taken.samples) + taken.lost_samples
    queue.close()
    came_out += sum(len(b.samples) + b.lost_samples for b in queue)
    assert came_out == went_in
    assert queue.waiting_seconds == 0


def test_the_oldest_are_dropped_and_the_next_one_says_so_in_its_own_rate():
    queue = BoundedAudioQueue(1.0)
    queue.put(block(500, lost=20, value=1))
    queue.put(block(1_600, rate=2_000, value=2))
    kept = queue.get()
    assert float(kept.samples[0]) == 2
    assert kept.lost_samples == 1_040
    assert queue.dropped_seconds == 0.5


def test_a_block_longer_than_the_queue_is_kept_alone():
    queue = BoundedAudioQueue(1.0)
    queue.put(block(300))
    queue.put(block(5_000))
    assert queue.get().lost_samples == 300


def test_none_comes_when_nothing_does():
    queue = BoundedAudioQueue(1.0)
    assert queue.get(timeout=0.001) is None
    assert not queue.closed
    queue.close()
    assert queue.get() is None
    assert queue.closed
    with pytest.raises(ValueError, match="the queue is closed"):
        queue.put(block(1))


def test_one_thread_captures_while_another_hears():
    queue, heard = BoundedAudioQueue(100.0), []
    listener = threading.Thread(target=lambda: heard.extend(queue))
    listener.start()
    for value in range(200):
        queue.put(block(10, value=value))
    queue.close()
    listener.join(timeout=30)
    assert not listener.is_alive()
    assert [float(b.samples[0]) for b in heard] == list(range(200))


@pytest.mark.parametrize("capacity", [0, -1, float("nan")])
def test_a_queue_without_room_is_refused(capacity):
    with pytest.raises(ValueError, match="`capacity_seconds` must be above 0"):
        BoundedAudioQueue(capacity)
