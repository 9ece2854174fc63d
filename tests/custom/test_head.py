"""The head: attention and a linear model in one, trained on bags of embeddings, calibrated in its last layer."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from checks import compute_outputs
from kerastag.custom import CustomConfig
from kerastag.custom.calibration import Calibration
from kerastag.custom.head import AttentionHead, Bags, NoisyBatches, compute_class_means, fit_linear_model
from kerastag.data.batches import BalancedSampler, EmbeddingBatches
from kerastag.layers import MaskedBatchNormalization

TARGETS = np.eye(3, dtype=bool)
ROWS = np.arange(24)
CONFIG = CustomConfig(audio_dir="sounds", units=16, steps=30, batch_size=8, learning_rate=0.04, linear_share=0.5)


def compute_logits(probabilities):
    return np.log(probabilities) - np.log1p(-probabilities)


def test_batches_of_bags_hold_each_clip_with_its_targets():
    x = np.zeros((3, 4, 2), np.float32)
    for row in range(3):
        x[row, : row + 1] = row + 1
    bags = Bags(x, np.array([1, 2, 3]), TARGETS)
    sampler = BalancedSampler(TARGETS[[1, 2]], 2, balance=0.0)
    embedding, targets = EmbeddingBatches(bags, sampler, np.array([1, 2])).batch(5)
    np.testing.assert_array_equal(embedding, x[targets.argmax(axis=1)])
    assert targets.sum(axis=0).tolist() == [0, 1, 1]


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


@pytest.fixture
def head(compiled_head):
    compiled_head.config = CONFIG
    return compiled_head


@pytest.fixture(scope="module")
def compiled_head():
    """Build a head once; every training initializes it."""
    return AttentionHead(CONFIG, num_classes=2, num_features=4)


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


def test_the_logits_of_the_head_are_the_mean_of_attention_and_a_linear_model(head, bags):
    logits = {}
    for share in (0.0, 0.5, 0.75, 1.0):
        head.config = replace(head.config, linear_share=share)
        head.train(bags, ROWS, seed=1)
        outputs = compute_outputs(head.model, bags.x)
        logits[share] = {name: compute_logits(values.astype(np.float64)) for name, values in outputs.items()}
    np.testing.assert_allclose(logits[1.0]["clipwise"], predict_linearly(head, bags), atol=0.01)
    is_valid = np.arange(3) < bags.lengths[:, None]
    for name, rows in (("clipwise", ROWS), ("framewise", is_valid)):
        expected = 1.5 * logits[0.5][name] - 0.5 * logits[0.0][name]
        np.testing.assert_allclose(logits[0.75][name][rows], expected[rows], rtol=1e-3, atol=1e-3)


def predict_linearly(head, bags):
    """Average scikit-learn's ridge regression of the average and the maximum of the segments, and similarities."""
    normalization = next(layer for layer in head.model.layers if isinstance(layer, MaskedBatchNormalization))
    normalized = [np.asarray(normalization(bag[:length])) for bag, length in zip(bags.x, bags.lengths, strict=True)]
    features = []
    for pool in (np.mean, np.max):
        pooled = np.stack([pool(bag, axis=0) for bag in normalized])
        variance = pooled.var(axis=0)
        z = (pooled - pooled.mean(axis=0)) / np.sqrt(variance + 0.1 * variance.mean() + 1e-3)
        features.append((z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True))
    features = np.hstack(features)
    penalty = head.config.linear_regularization * ((features - features.mean(axis=0)) ** 2).sum(axis=1).mean()
    similarities = features @ features.T / features.shape[1]
    logits = Ridge(penalty).fit(features, np.where(bags.targets, 4, -4)).predict(features)
    similarities = np.stack([similarities[:, is_class].mean(axis=1) for is_class in bags.targets.T], axis=1)
    return (1 - head.config.linear_similarity) * logits + head.config.linear_similarity * 10 * similarities


def test_the_mean_features_of_a_class_are_those_of_its_known_clips():
    x = np.random.default_rng(3).normal(size=(6, 5))
    targets = np.array([[True, False, False]] * 2 + [[True, True, False]] + [[False, False, False]] * 3)
    means = compute_class_means(x, targets)
    np.testing.assert_allclose(means.T, [x[:3].mean(axis=0), x[2], np.zeros(5)], atol=1e-6)


def test_calibration_scales_and_shifts_the_logits_of_clips_and_of_segments(head, bags):
    head.train(bags, ROWS, seed=0)
    before = compute_outputs(head.model, bags.x)
    slopes, offsets = np.array([0.5, 1.25]), np.array([-1.0, 0.25])
    head.calibrate(Calibration(slopes, offsets))
    after = compute_outputs(head.model, bags.x)
    for name in ("clipwise", "framewise"):
        expected = slopes * compute_logits(before[name].astype(np.float64)) + offsets
        # In float32, the logits of probabilities close to 1 are not exact.
        np.testing.assert_allclose(compute_logits(after[name].astype(np.float64)), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(head.predict(bags, ROWS), after["clipwise"], atol=1e-6)


def test_labels_that_are_not_known_do_not_count(head, bags):
    is_known = np.ones_like(bags.targets)
    is_known[:6, 0] = False
    predictions = []
    for label in (False, True):
        targets = bags.targets.copy()
        targets[:6, 0] = label
        head.train(Bags(bags.x, bags.lengths, targets, is_known), ROWS, seed=0)
        predictions.append(head.predict(bags, ROWS))
    np.testing.assert_array_equal(*predictions)


def test_the_linear_model_of_each_class_uses_the_clips_whose_labels_are_known():
    random = np.random.default_rng(0)
    x, targets = random.normal(size=(20, 3)), random.random((20, 3)) < 0.5
    is_known = np.ones_like(targets)
    is_known[:8, 1] = False
    kernel, bias = fit_linear_model(x, targets, is_known, 0.5)
    for k in range(3):
        rows = is_known[:, k]
        penalty = 0.5 * ((x[rows] - x[rows].mean(axis=0)) ** 2).sum(axis=1).mean()
        expected = Ridge(penalty).fit(x[rows], np.where(targets[rows, k], 4, -4))
        np.testing.assert_allclose(kernel[:, k], expected.coef_, atol=1e-5)
        np.testing.assert_allclose(bias[k], expected.intercept_, atol=1e-5)


def test_a_class_that_all_clips_have_or_none_has_a_linear_model_without_features():
    kernel, bias = fit_linear_model(np.eye(4), np.array([[True, False]] * 4), np.ones((4, 2), bool), 1.0)
    assert not kernel.any()
    assert bias.tolist() == [4.0, -4.0]


def test_noise_depends_on_the_seed_and_the_number_of_the_batch_alone(bags):
    batches = EmbeddingBatches(bags, BalancedSampler(bags.targets, 8, balance=0.0))
    (clean, targets), (noisy, same_targets) = batches.batch(3), NoisyBatches(batches, 0.5, seed=2).batch(3)
    np.testing.assert_array_equal(targets, same_targets)
    np.testing.assert_array_equal(noisy == 0, clean == 0)  # padding stays padding
    factors = noisy[clean != 0] / clean[clean != 0]
    assert 0.3 < factors.std() < 0.7
    np.testing.assert_array_equal(NoisyBatches(batches, 0.5, seed=2).batch(3)[0], noisy)
    assert not np.array_equal(NoisyBatches(batches, 0.5, seed=3).batch(3)[0], noisy)
