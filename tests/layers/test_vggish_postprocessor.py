"""The PCA and the quantization of AudioSet's features."""

import numpy as np
import pytest

from checks import check_batch_equals_items, check_config_round_trip, check_layer_saves_exactly, compute_outputs
from kerastag.layers.vggish_postprocessor import VGGishPostprocessor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 8)).astype(np.float32)
MEANS = RNG.normal(size=8).astype(np.float32)
VECTORS = RNG.normal(size=(8, 8)).astype(np.float32)


def filled(quantize):
    layer = VGGishPostprocessor(quantize=quantize)
    layer.build(X.shape)
    layer.means.assign(MEANS)
    layer.eigen_vectors.assign(VECTORS)
    return layer


def whitened():
    """Whiten the embeddings as columns, like the released program."""
    return np.stack([np.clip((VECTORS.astype(float) @ (item - MEANS).T).T, -2, 2) for item in X])


def test_equals_the_formula():
    assert (np.abs(whitened()) == 2).any()  # something is clipped
    np.testing.assert_allclose(compute_outputs(filled(False), X)["0"], whitened(), atol=1e-5)


def test_quantization_truncates_like_the_released_program():
    expected = ((whitened() + 2) * 255 / 4).astype(np.uint8)
    got = compute_outputs(filled(True), X)["0"]
    assert np.abs(got - expected).max() <= 1  # a value on a step may be rounded either way in float32
    assert (got == expected).mean() > 0.95
    assert got.min() == 0
    assert got.max() == 255


@pytest.mark.parametrize("quantize", [False, True])
def test_batch_saving_and_config(quantize):
    check_batch_equals_items(filled(quantize), X, atol=1.0 if quantize else 1e-5)
    check_layer_saves_exactly(filled(quantize), X)
    check_config_round_trip(VGGishPostprocessor(quantize=quantize))


def test_no_weight_is_trainable():
    layer = filled(True)
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 2
