"""Tests of predictions over a pack, and of their mean over checkpoints."""

from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest

from kerastag.data.batches import scale
from kerastag.data.synthetic_features import make_synthetic_features
from kerastag.models.embedding_models import decision_attention
from kerastag.training.evaluation import CheckpointEnsemble, predict, without_optimizer
from kerastag.training.outputs import select_training_outputs

CLIPS = make_synthetic_features(50, num_classes=3, num_features=4)


@pytest.fixture(scope="module")
def pack():
    return SimpleNamespace(targets=CLIPS.targets, rows=lambda i: (CLIPS.x[i], CLIPS.num_segments[i], CLIPS.targets[i]))


@pytest.fixture(scope="module")
def model():
    return select_training_outputs(decision_attention(num_classes=3, num_features=4, units=5, depth=1))


def test_predict_returns_the_probabilities_of_the_clips_in_the_given_order(model, pack):
    expected = model.predict_on_batch(scale(CLIPS.x, CLIPS.num_segments))
    for batch_size in (1, 16, 50, 512):
        predictions = predict(model, pack, batch_size=batch_size)
        assert predictions.dtype == np.float32
        np.testing.assert_allclose(predictions, expected, atol=1e-6)
    rows = np.array([49, 3, 3, 0, 17])
    np.testing.assert_allclose(predict(model, pack, rows, batch_size=2), expected[rows], atol=1e-6)


def test_the_ensemble_averages_predictions_and_restores_the_weights_of_the_model(model, pack, tmp_path):
    weights, predictions, paths = model.get_weights(), [], []
    for number in range(3):
        keras.utils.set_random_seed(number)
        for variable in model.trainable_variables:
            variable.assign(np.random.default_rng(number).normal(0, 1, variable.shape))
        predictions.append(predict(model, pack))
        paths.append(tmp_path / f"{number}.weights.h5")
        model.save_weights(paths[-1])
    model.set_weights(weights)
    expected = np.mean(np.array(predictions, np.float64), axis=0)
    assert np.ptp(predictions, axis=0).max() > 0.1
    ensemble = CheckpointEnsemble(model, lambda m: predict(m, pack))
    ensemble.add_files(paths[:2])
    np.testing.assert_allclose(ensemble.mean(), np.mean(predictions[:2], axis=0), atol=1e-7)
    np.testing.assert_allclose(ensemble.add(predictions[2]), expected, atol=1e-7)
    assert ensemble.count == 3
    assert ensemble.mean().dtype == np.float32
    for actual, expected_weight in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(actual, expected_weight)


def test_loading_checkpoints_leaves_the_optimizer_unchanged_even_if_they_contain_another(model, pack, tmp_path):
    """Keras saves the optimizer of a compiled model in its weight files."""
    model.compile("adam", "binary_crossentropy")
    batch = scale(CLIPS.x, CLIPS.num_segments), CLIPS.targets.astype("float32")
    model.train_on_batch(*batch)
    model.save_weights(tmp_path / "with.weights.h5")
    without_optimizer(model).save_weights(tmp_path / "without.weights.h5")
    with h5py.File(tmp_path / "with.weights.h5") as one, h5py.File(tmp_path / "without.weights.h5") as other:
        assert "optimizer" in one
        assert "optimizer" not in other
    expected = predict(model, pack)
    model.train_on_batch(*batch)
    values = [np.array(v) for v in (*model.variables, *model.optimizer.variables)]
    for name in ("with", "without"):
        ensemble = CheckpointEnsemble(model, lambda m: predict(m, pack))
        ensemble.add_files([tmp_path / f"{name}.weights.h5"])
        np.testing.assert_array_equal(ensemble.mean(), expected)
        for variable, value in zip((*model.variables, *model.optimizer.variables), values, strict=True):
            np.testing.assert_array_equal(np.array(variable), value)
    assert (predict(model, pack) != expected).any()


def test_an_ensemble_without_checkpoints_has_no_mean(model, pack):
    empty = CheckpointEnsemble(model, lambda m: predict(m, pack))
    empty.add_files([])
    assert empty.count == 0
    with pytest.raises(ValueError, match="`CheckpointEnsemble` has no checkpoint yet"):
        empty.mean()
