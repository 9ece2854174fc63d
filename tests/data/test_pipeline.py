"""The tf.data pipeline gives the NumPy batches, from wherever a run goes on."""

import numpy as np
import pytest

from kerastag.data.batches import EmbeddingBatches
from kerastag.data.packs import FeaturePack
from kerastag.data.sampler import BalancedSampler
from kerastag.data.synthetic_features import write_synthetic_packs

tf = pytest.importorskip("tensorflow")
pipeline = pytest.importorskip("kerastag.data.pipeline")


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    packs = write_synthetic_packs(tmp_path_factory.mktemp("p"), num_train=80, num_eval=2, num_classes=4, num_features=5)
    return FeaturePack(packs["bal_train"])


@pytest.fixture(params=[{}, {"single_segments": True}, {"mixup": 0.7}], ids=["plain", "single segments", "mixup"])
def batches(pack, request):
    return EmbeddingBatches(pack, BalancedSampler(pack.targets, 12, seed=4), **request.param)


@pytest.mark.parametrize(("start", "stop"), [(0, 9), (5, 9)])
def test_equals_the_numpy_batches_one_by_one(batches, start, stop):
    dataset = pipeline.make_training_dataset(batches, start, stop)
    assert int(dataset.cardinality()) == stop - start
    got = list(dataset.as_numpy_iterator())
    assert len(got) == stop - start
    for index, pair in zip(range(start, stop), got, strict=True):
        for array, wanted in zip(pair, batches.batch(index), strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_shapes_and_types_are_known_before_it_runs(batches):
    segments = 1 if batches.single_segments else 10
    embedding, target = pipeline.make_training_dataset(batches, 0, 3).element_spec
    assert embedding == tf.TensorSpec((12, segments, 5), tf.float32)
    assert target == tf.TensorSpec((12, 4), tf.float32)


def test_two_passes_give_the_same(batches):
    dataset = pipeline.make_training_dataset(batches, 2, 5)
    for one, other in zip(dataset.as_numpy_iterator(), dataset.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
