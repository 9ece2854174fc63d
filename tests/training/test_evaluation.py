"""Predictions over a pack, and the mean of checkpoints."""

from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest

from kerastag.data.batches import scale
from kerastag.data.synthetic import synthetic_features
from kerastag.models.embedding_models import decision_attention
from kerastag.training.evaluation import CheckpointMean, predict, without_optimizer
from kerastag.training.outputs import select_training_outputs

CLIPS = synthetic_features(50, num_classes=3, num_features=4)


@pytest.fixture(scope="module")
def pack():
    return SimpleNamespace(targets=CLIPS.targets, rows=lambda i: (CLIPS.x[i], CLIPS.num_segments[i], CLIPS.targets[i]))


@pytest.fixture(scope="module")
def model():
    return select_training_outputs(decision_attention(num_classes=3, num_features=4, units=5, depth=1))


def test_predict_gives_every_clip_its_probabilities_in_the_order_asked(model, pack):
    expected = model.predict_on_batch(scale(CLIPS.x, CLIPS.num_segments))
    for batch_size in (1, 16, 50, 512):
        found = predict(model, pack, batch_size=batch_size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
    rows = np.array([49, 3, 3, 0, 17])
    np.testing.assert_allclose(predict(model, pack, rows, batch_size=2), expected[rows], atol=1e-6)


def test_the_mean_is_that_of_the_predictions_and_files_leave_the_weights_alone(model, pack, tmp_path):
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
    mean = CheckpointMean(model, lambda m: predict(m, pack))
    np.testing.assert_allclose(mean.add_files(paths[:2]), np.mean(predictions[:2], axis=0), atol=1e-7)
    np.testing.assert_allclose(mean.add(predictions[2]), expected, atol=1e-7)
    assert mean.count == 3
    assert mean.mean().dtype == np.float32
    for got, wanted in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_files_leave_the_optimizer_alone_even_where_they_hold_another(model, pack, tmp_path):
    """Keras puts a compiled model's optimizer into its weight files."""
    model.compile("adam", "binary_crossentropy")
    batch = scale(CLIPS.x, CLIPS.num_segments), CLIPS.targets.astype("float32")
    model.train_on_batch(*batch)
    model.save_weights(tmp_path / "with.weights.h5")
    without_optimizer(model).save_weights(tmp_path / "without.weights.h5")
    with h5py.File(tmp_path / "with.weights.h5") as one, h5py.File(tmp_path / "without.weights.h5") as other:
        assert "optimizer" in one
        assert "optimizer" not in other
    predicted = predict(model, pack)
    model.train_on_batch(*batch)
    kept = [np.array(v) for v in (*model.variables, *model.optimizer.variables)]
    for name in ("with", "without"):
        mean = CheckpointMean(model, lambda m: predict(m, pack))
        np.testing.assert_array_equal(mean.add_files([tmp_path / f"{name}.weights.h5"]), predicted)
        for got, wanted in zip((*model.variables, *model.optimizer.variables), kept, strict=True):
            np.testing.assert_array_equal(np.array(got), wanted)
    assert (predict(model, pack) != predicted).any()


def test_no_checkpoint_has_no_mean(model, pack):
    empty = CheckpointMean(model, lambda m: predict(m, pack))
    assert empty.add_files([]) is None
    with pytest.raises(ValueError, match="`CheckpointMean` has no checkpoint yet"):
        empty.mean()
