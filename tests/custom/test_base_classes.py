"""The classes of the backbone beside those of the user, in one head."""

import dataclasses

import keras
import numpy as np
import pytest

from kerastag.card import Card, write_card
from kerastag.custom.base_classes import add_base_classes
from kerastag.custom.embeddings import load_backbone
from kerastag.labels import LabelSet
from kerastag.models.embedding_models import feature_attention


@pytest.fixture(scope="module")
def loaded(backbone):
    return load_backbone(backbone)


def make_head(loaded, names):
    head = feature_attention(len(names), num_features=loaded.clip_embedder.output_shape[-1], units=8, depth=0)
    card = Card(LabelSet.from_names(names), 32_000, 10.0, 1.0, loaded.card.front_end, (0.3,) * len(names), "chosen")
    return head, card


def test_the_classes_of_the_backbone_follow_those_of_the_head(loaded, backbone, tmp_path):
    head, card = make_head(loaded, ["mine", "Class 2"])
    card = dataclasses.replace(card, event_rules={"min_seconds": (1.0, 2.0)})
    extended, extended_card = add_base_classes(head, card, loaded, "seconds")
    assert extended_card.event_rules["min_seconds"] == (1.0, 2.0, 0.0, 0.0, 0.0)
    assert extended_card.labels.names == ("mine", "Class 2", "class 0", "class 1", "class 3")
    assert extended_card.thresholds == (0.3, 0.3, 0.1, 0.1, 0.1)
    assert extended_card.thresholds_origin == "chosen; of the classes of the backbone: default"
    bag = np.zeros((1, 4, 64), np.float32)
    bag[0, :3] = np.abs(np.random.default_rng(0).normal(size=(3, 64)))
    extended.save(tmp_path / "head.keras")
    outputs = keras.saving.load_model(tmp_path / "head.keras")(bag)
    own = head(bag)
    model = keras.saving.load_model(backbone, compile=False)
    classifier = model.get_layer("fc_audioset")
    for name in ("clipwise", "framewise"):
        np.testing.assert_allclose(outputs[name][..., :2], own[name], atol=1e-6)
    expected = keras.ops.sigmoid(classifier(bag[:, :3].mean(axis=1)))
    np.testing.assert_allclose(outputs["clipwise"][:, 2:], np.asarray(expected)[:, [0, 1, 3]], atol=1e-5)
    expected = keras.ops.sigmoid(classifier(bag[0]))
    np.testing.assert_allclose(outputs["framewise"][0, :, 2:], np.asarray(expected)[:, [0, 1, 3]], atol=1e-5)


def test_a_head_of_output_frames_gets_what_the_backbone_predicts_from_them(loaded, backbone, tmp_path):
    head, card = make_head(loaded, ["mine", "Class 2"])
    extended, extended_card = add_base_classes(head, card, loaded, "frames")
    assert extended_card.labels.names == ("mine", "Class 2", "class 0", "class 1", "class 3")
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 64_000)).astype(np.float32)
    expected = keras.saving.load_model(backbone, compile=False)(waveform)
    bag = loaded.embedders["frames"](waveform)
    extended.save(tmp_path / "head.keras")
    outputs, own = keras.saving.load_model(tmp_path / "head.keras")(bag), head(bag)
    for name in ("clipwise", "framewise"):
        np.testing.assert_allclose(outputs[name][..., :2], own[name], atol=1e-6)
        base = np.asarray(expected[name])[..., [0, 1, 3]]
        np.testing.assert_allclose(outputs[name][..., 2:], base, atol=1e-5)


def test_a_backbone_that_classifies_something_else_is_refused(loaded, tmp_path):
    waveform = keras.Input((None,))
    x = keras.ops.reshape(keras.ops.mean(waveform, axis=1), (-1, 1))
    embedding, other = keras.layers.Dense(64)(x), keras.layers.Dense(64)(x)
    framewise = keras.layers.Dense(4, activation="sigmoid")(keras.ops.expand_dims(other, 1))
    model = keras.Model(
        waveform, {"embedding": embedding, "framewise": framewise, "clipwise": keras.ops.squeeze(framewise, 1)}
    )
    path = tmp_path / "model.keras"
    model.save(path)
    write_card(path, loaded.card)
    other_backbone = type(loaded)(loaded.card, path, loaded.embedders, loaded.clip_embedder)
    with pytest.raises(ValueError, match=r"model\.keras: with `keep_base`, must compute its classes from"):
        add_base_classes(*make_head(loaded, ["mine"]), other_backbone, "seconds")
