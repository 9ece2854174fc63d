"""Clips in memory, and training of the head."""

import numpy as np
import pytest

from kerastag.custom import CustomConfig
from kerastag.custom.tagger import AttentionHead, Bags, Waveforms
from kerastag.data.batches import BalancedSampler, EmbeddingBatches, WaveformBatches

TARGETS = np.eye(3, dtype=bool)
ROWS = np.arange(24)


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


@pytest.fixture(scope="module")
def bags():
    """Bags of one to three segments, in which one of two features is large."""
    random = np.random.default_rng(0)
    targets = np.eye(2, dtype=bool)[ROWS % 2]
    lengths = ROWS % 3 + 1
    x = random.normal(size=(24, 3, 4)).astype(np.float32)
    x[:, :, :2] += 3 * targets[:, None]
    x[np.arange(3) >= lengths[:, None]] = 0
    return Bags(x, lengths, targets)


@pytest.fixture(scope="module")
def head():
    config = CustomConfig(audio_dir="sounds", units=16, steps=60, batch_size=8, learning_rate=0.02)
    return AttentionHead(config, num_classes=2, num_features=4)


def test_a_trained_head_recognizes_clips_that_it_was_not_trained_on(head, bags):
    head.train(bags, ROWS[:16], seed=0)
    predictions = head.predict(bags, ROWS[16:])
    assert predictions.dtype == np.float32
    np.testing.assert_array_equal(predictions.argmax(axis=1), bags.targets[16:].argmax(axis=1))


def test_a_training_depends_on_its_seed_and_not_on_earlier_trainings(head, bags):
    predictions = []
    for seed, rows in ((5, ROWS), (6, ROWS[:8]), (5, ROWS)):
        head.train(bags, rows, seed)
        predictions.append(head.predict(bags, ROWS))
    np.testing.assert_array_equal(predictions[0], predictions[2])
    assert not np.array_equal(predictions[0], predictions[1])


def test_a_loss_that_is_not_finite_is_an_error(head, bags):
    broken = Bags(np.full_like(bags.x, np.nan), bags.lengths, bags.targets)
    with pytest.raises(FloatingPointError, match="the loss is not finite: decrease `learning_rate`"):
        head.train(broken, ROWS, seed=0)
