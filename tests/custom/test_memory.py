"""Clips in memory."""

import numpy as np

from kerastag.custom.memory import Bags, Waveforms
from kerastag.data.batches import BalancedSampler, EmbeddingBatches, WaveformBatches

TARGETS = np.eye(3, dtype=bool)


def test_batches_of_bags_hold_each_clip_with_its_targets():
    x = np.zeros((3, 4, 2), np.float32)
    for row in range(3):
        x[row, : row + 1] = row + 1
    bags = Bags(x, np.array([1, 2, 3]), TARGETS)
    sampler = BalancedSampler(TARGETS[[1, 2]], 2, balance=0.0)
    embedding, targets = EmbeddingBatches(bags, sampler, np.array([1, 2])).batch(5)
    np.testing.assert_array_equal(embedding, x[targets.argmax(axis=1)])
    assert targets.sum(axis=0).tolist() == [0, 1, 1]


def test_crops_are_inside_long_clips_and_padded_for_short_ones():
    waveforms = Waveforms([np.arange(1, 4, dtype=np.float32), np.arange(1, 11, dtype=np.float32)], TARGETS[:2])
    assert waveforms.lengths.tolist() == [3, 10]
    batches = WaveformBatches(waveforms, BalancedSampler(TARGETS[:2], 2, balance=0.0), samples=5)
    for index in range(8):
        batch, targets = batches.batch(index)
        for crop, k in zip(batch, targets.argmax(axis=1), strict=True):
            if k == 0:
                assert crop.tolist() == [1, 2, 3, 0, 0]
            else:
                assert np.diff(crop).tolist() == [1, 1, 1, 1]
