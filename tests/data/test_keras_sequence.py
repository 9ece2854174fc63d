"""The PyDataset gives the NumPy batches, and `model.fit` sees them in order."""

import keras
import numpy as np
import pytest

from kerastag.data.batches import EmbeddingBatches
from kerastag.data.packs import FeaturePack
from kerastag.data.pipeline import KerasBatches
from kerastag.data.sampler import BalancedSampler
from kerastag.data.synthetic_features import write_synthetic_packs


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    packs = write_synthetic_packs(tmp_path_factory.mktemp("p"), num_train=80, num_eval=2, num_classes=4, num_features=5)
    pack = FeaturePack(packs["bal_train"])
    return EmbeddingBatches(pack, BalancedSampler(pack.targets, 12, seed=4), mixup=0.5)


@pytest.mark.parametrize(("start", "stop"), [(0, 9), (5, 9)])
def test_equals_the_numpy_batches_one_by_one(batches, start, stop):
    sequence = KerasBatches(batches, start, stop)
    assert len(sequence) == stop - start
    for index in reversed(range(len(sequence))):
        for array, wanted in zip(sequence[index], batches.batch(start + index), strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_fit_takes_every_batch_once_and_in_order(batches):
    """One weight that adds up what passes by: each batch's mean, weighted by its place, so that order shows."""

    class Weighted(keras.layers.Layer):
        def build(self, input_shape):
            self.seen = self.add_weight(name="seen", shape=(), initializer="zeros", trainable=False)
            self.one = self.add_weight(name="one", shape=(), initializer="ones")

        def call(self, inputs, training=False):
            mean = keras.ops.mean(keras.ops.abs(inputs))
            if training:
                self.seen.assign(self.seen * 0.5 + mean)
            return self.one * mean + keras.ops.zeros((12, 4))

    layer = Weighted()
    model = keras.Sequential([keras.Input((10, 5), batch_size=12), layer])
    layer.seen.assign(0.0)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(KerasBatches(batches, 3, 8), steps_per_epoch=5, verbose=0, shuffle=False)
    expected = 0.0
    for index in range(3, 8):
        expected = expected * 0.5 + np.abs(batches.batch(index)[0]).mean(dtype=np.float64)
    assert float(layer.seen) == pytest.approx(expected, rel=1e-5)
