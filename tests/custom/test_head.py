"""Training of the head."""

import numpy as np
import pytest

from kerastag.custom import CustomConfig
from kerastag.custom.head import AttentionHead
from kerastag.custom.memory import Bags

ROWS = np.arange(24)


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
