"""Copies of weights from one model to another, and their fingerprint."""

import dataclasses

import keras
import numpy as np
import pytest

from checks import run_python
from kerastag.layers.spec_augment import SpecAugment
from kerastag.models.backbones.cnn10 import cnn10
from kerastag.models.backbones.mn import mn
from kerastag.models.backbones.talnet import talnet
from kerastag.models.two_stream import gl_at
from kerastag.models.weights import copy_weights

WIDTH = 0.0625


def collect_weights(model):
    """Return the weights of a model by the name of the layer."""
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def number_weights(model):
    model.set_weights([np.full(w.shape, 0.1 * i, np.float32) for i, w in enumerate(model.get_weights(), start=1)])
    return model


@pytest.mark.parametrize(
    ("build", "classifier"),
    [(cnn10, "fc_audioset"), pytest.param(mn, "classifier", marks=pytest.mark.slow), (talnet, "classifier")],
)
def test_all_weights_but_a_classifier_of_other_classes_are_copied(build, classifier):
    model, source = build(4, width=WIDTH), number_weights(build(7, width=WIDTH, input="waveform"))
    before = collect_weights(model)[classifier]
    assert copy_weights(model, source) == (classifier,)
    copied, expected = collect_weights(model), {**collect_weights(source), classifier: before}
    for name in copied:
        for got, want in zip(copied[name], expected[name], strict=True):
            np.testing.assert_array_equal(got, want)


def test_all_weights_are_copied_if_the_classes_are_equal(tmp_path):
    model, source = cnn10(4, width=WIDTH), number_weights(cnn10(4, width=WIDTH, name="other"))
    source.save(tmp_path / "other.keras")
    assert copy_weights(model, tmp_path / "other.keras") == ()
    for got, expected in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
def test_a_file_may_contain_layers_that_are_not_imported_yet(tmp_path):
    cnn10(4, width=WIDTH, augment=SpecAugment()).save(tmp_path / "model.keras")
    code = """
import sys
from kerastag.models.backbones.cnn10 import cnn10
from kerastag.models.weights import copy_weights
assert "kerastag.layers.spec_augment" not in sys.modules
print(copy_weights(cnn10(4, width=0.0625), "model.keras"))
"""
    assert run_python(code, cwd=tmp_path).strip() == "()"


def test_weights_for_another_front_end_are_refused_where_both_models_have_one():
    """As those of a TALNet of version 0.1.0, whose front end was another."""
    source = talnet(4, width=WIDTH, input="waveform", name="former")
    layer = source.get_layer("front_end")
    layer.front_end = dataclasses.replace(layer.front_end, window_length=800, padding=200)
    message = "`initial_weights` must be for this front end, with `window_length` 1024; received: former with 800"
    with pytest.raises(ValueError, match=message):
        copy_weights(talnet(4, width=WIDTH, input="waveform"), source)
    with pytest.raises(ValueError, match=message):
        gl_at(4, backbone="talnet", width=WIDTH, initial_weights=source)
    assert copy_weights(talnet(4, width=WIDTH), source) == ()


def test_weights_of_another_model_are_refused(tmp_path):
    model = cnn10(4, width=WIDTH)
    with pytest.raises(ValueError, match="must be those of a backbone of this width, .* in layer `conv_block1_conv1`;"):
        copy_weights(model, cnn10(4, width=2 * WIDTH))
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)], name="other")
    with pytest.raises(
        ValueError, match="`initial_weights` must be those of this backbone, with a layer `bn0`; received: other"
    ):
        copy_weights(model, other)
    with pytest.raises(FileNotFoundError, match=r"`initial_weights`: .*none\.keras: no such file"):
        copy_weights(model, tmp_path / "none.keras")
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"broken\.keras: must be a Keras model; received: "):
        copy_weights(model, tmp_path / "broken.keras")
