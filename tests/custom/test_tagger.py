"""Clips in memory, which batches are drawn from."""

import numpy as np

from kerastag.custom.tagger import Waveforms
from kerastag.data.batches import BalancedSampler, WaveformBatches

TARGETS = np.eye(2, dtype=bool)


def test_crops_are_inside_long_clips_and_padded_for_short_ones():
    waveforms = Waveforms([np.arange(1, 4, dtype=np.float32), np.arange(1, 11, dtype=np.float32)], TARGETS)
    assert waveforms.lengths.tolist() == [3, 10]
    batches = WaveformBatches(waveforms, BalancedSampler(TARGETS, 2, balance=0.0), samples=5)
    for index in range(8):
        batch, targets = batches.batch(index)
        for crop, k in zip(batch, targets.argmax(axis=1), strict=True):
            if k == 0:
                assert crop.tolist() == [1, 2, 3, 0, 0]
            else:
                assert np.diff(crop).tolist() == [1, 1, 1, 1]
