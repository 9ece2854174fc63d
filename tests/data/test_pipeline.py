"""Batches for `model.fit`: the tf.data pipeline and the PyDataset give the NumPy batches, from any start."""

import keras
import numpy as np
import pytest

from kerastag.data.batches import BalancedSampler, EmbeddingBatches
from kerastag.data.packs import FeaturePack
from kerastag.data.pipeline import KerasBatches, make_training_dataset
from kerastag.data.synthetic_features import write_synthetic_packs


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    packs = write_synthetic_packs(tmp_path_factory.mktemp("p"), num_train=80, num_eval=2, num_classes=4, num_features=5)
    return FeaturePack(packs["bal_train"])


@pytest.fixture(params=[{}, {"single_segments": True}, {"mixup": 0.7}], ids=["plain", "single segments", "mixup"])
def batches(pack, request):
    return EmbeddingBatches(pack, BalancedSampler(pack.targets, 12, seed=4), **request.param)


def test_the_pipeline_gives_the_numpy_batches_in_every_pass(batches):
    tf = pytest.importorskip("tensorflow")
    dataset = make_training_dataset(batches, 5, 9)
    assert int(dataset.cardinality()) == 4
    segments = 1 if batches.single_segments else 10
    assert dataset.element_spec == (tf.TensorSpec((12, segments, 5), tf.float32), tf.TensorSpec((12, 4), tf.float32))
    for _ in range(2):
        for index, pair in zip(range(5, 9), dataset.as_numpy_iterator(), strict=True):
            for array, expected in zip(pair, batches.batch(index), strict=True):
                np.testing.assert_array_equal(array, expected)


def test_keras_batches_equal_the_numpy_batches(batches):
    sequence = KerasBatches(batches, 5, 9)
    assert len(sequence) == 4
    for index in reversed(range(4)):
        for array, expected in zip(sequence[index], batches.batch(5 + index), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_fit_takes_every_batch_once_and_in_order(pack):
    """Sum the means of the batches with weights that depend on their position, so that the order matters."""

    class WeightedMean(keras.layers.Layer):
        def build(self, input_shape):
            self.total = self.add_weight(name="total", shape=(), initializer="zeros", trainable=False)
            self.one = self.add_weight(name="one", shape=(), initializer="ones")

        def call(self, inputs, training=False):
            mean = keras.ops.mean(keras.ops.abs(inputs))
            if training:
                self.total.assign(self.total * 0.5 + mean)
            return self.one * mean + keras.ops.zeros((12, 4))

    batches = EmbeddingBatches(pack, BalancedSampler(pack.targets, 12, seed=4), mixup=0.5)
    layer = WeightedMean()
    model = keras.Sequential([keras.Input((10, 5), batch_size=12), layer])
    layer.total.assign(0.0)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(KerasBatches(batches, 3, 8), steps_per_epoch=5, verbose=0, shuffle=False)
    expected = 0.0
    for index in range(3, 8):
        expected = expected * 0.5 + np.abs(batches.batch(index)[0]).mean(dtype=np.float64)
    assert float(layer.total) == pytest.approx(expected, rel=1e-5)
