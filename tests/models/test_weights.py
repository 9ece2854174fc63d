"""A model begins with the weights of another: which layers, which files, and what is refused."""

import numpy as np
import pytest

from checks import run_python
from kerastag.layers.spec_augment import SpecAugment
from kerastag.models.backbones.cnn10 import cnn10
from kerastag.models.backbones.mn import mn
from kerastag.models.backbones.talnet import talnet
from kerastag.models.weights import copy_weights

WIDTH = 0.0625


def weights(model):
    """By layer, in order."""
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def marked(model):
    model.set_weights([np.full(w.shape, 0.1 * i, np.float32) for i, w in enumerate(model.get_weights(), start=1)])
    return model


@pytest.mark.parametrize(("build", "classifier"), [(cnn10, "fc_audioset"), (mn, "classifier"), (talnet, "classifier")])
def test_all_but_the_classifier_of_other_classes(build, classifier):
    model, source = build(4, width=WIDTH), marked(build(7, width=WIDTH, input="waveform"))
    before = weights(model)[classifier]
    assert copy_weights(model, source) == (classifier,)
    got, given = weights(model), weights(source)
    for name in got:
        for ours, theirs in zip(got[name], before if name == classifier else given[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_everything_where_the_classes_are_as_many(tmp_path):
    model, source = cnn10(4, width=WIDTH), marked(cnn10(4, width=WIDTH, name="other"))
    source.save(tmp_path / "other.keras")
    assert copy_weights(model, tmp_path / "other.keras") == ()
    for ours, theirs in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_may_hold_layers_that_nobody_has_imported(tmp_path):
    cnn10(4, width=WIDTH, augment=SpecAugment()).save(tmp_path / "model.keras")
    code = """
import sys
from kerastag.models.backbones.cnn10 import cnn10
from kerastag.models.weights import copy_weights
assert "kerastag.layers.spec_augment" not in sys.modules
print(copy_weights(cnn10(4, width=0.0625), "model.keras"))
"""
    assert run_python(code, cwd=tmp_path).strip() == "()"


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    model = cnn10(4, width=WIDTH)
    with pytest.raises(ValueError, match="`initial_weights` must be those of a backbone of this width, .* in layer `conv_block1_conv1`; received: cnn10"):
        copy_weights(model, cnn10(4, width=2 * WIDTH))
    with pytest.raises(ValueError, match="`initial_weights` must be those of this backbone, with a layer `bn0`; received: mn"):
        copy_weights(model, mn(4, width=WIDTH))
    with pytest.raises(FileNotFoundError, match=r"`initial_weights`: .*none\.keras: no such file"):
        copy_weights(model, tmp_path / "none.keras")
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"broken\.keras: must be a Keras model; received: "):
        copy_weights(model, tmp_path / "broken.keras")
