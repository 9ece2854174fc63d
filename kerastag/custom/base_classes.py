"""The classes of the backbone beside those of the user, in one tagger with one pass of embeddings."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kerastag._keras import list_ancestors
from kerastag.card import Card
from kerastag.custom.embeddings import Kind, PretrainedBackbone, find_frame_features
from kerastag.labels import LabelSet
from kerastag.layers.patchwise import Patchwise
from kerastag.layers.segment_pooling import AveragePooling
from kerastag.models.loading import load_model

__all__ = ["add_base_classes"]

_TOLERANCE = 1e-3


def add_base_classes(
    head: keras.Model, card: Card, backbone: PretrainedBackbone, kind: Kind
) -> tuple[keras.Model, Card]:
    """Add the classes of a backbone after those of a head.

    A head of output frames gets the layers that the backbone has after them. For a head of seconds, the classifier of
    the backbone takes the average embedding of the seconds of a clip, as it takes the average of the frames in the
    backbone, and for `framewise` each embedding. A class of the backbone is left out if the head has one of its name.
    Classes that the backbone adds keep its thresholds.

    Args:
        head: Model that takes bags `(batch, segments, features)` and predicts `clipwise` and `framewise`.
        card: Card of the head.
        backbone: Backbone whose embeddings the head takes.
        kind: What a bag consists of.

    Returns:
        A head that shares the layers of `head`, and its card.

    Raises:
        ValueError: The backbone does not compute its classes from its frames or its embedding alone, or its card has no
            classes.
    """
    base_labels = backbone.card.labels
    if base_labels is None or card.labels is None:
        raise ValueError(f"{backbone.path}: must have classes with `keep_base`")
    names = {name.casefold() for name in (*card.labels.names, *card.labels.mids)}
    columns = [
        k
        for k, name in enumerate(base_labels.names)
        if name.casefold() not in names and base_labels.mids[k].casefold() not in names
    ]
    bag = head.input
    if kind == "frames":
        base = _select_classes(_extract_frame_classifier(backbone), columns)(bag)
    else:
        base = _classify_seconds(_select_classes(_extract_classifier(backbone), columns), bag)
    outputs = {name: layers.Concatenate(dtype="float32", name=name)([head.output[name], base[name]]) for name in base}
    labels = LabelSet(
        (*card.labels.mids, *(base_labels.mids[k] for k in columns)),
        (*card.labels.names, *(base_labels.names[k] for k in columns)),
    )
    base_thresholds = backbone.card.thresholds or ()
    thresholds = (*(card.thresholds or ()), *(base_thresholds[k] for k in columns))
    origin = f"{card.thresholds_origin}; of the classes of the backbone: {backbone.card.thresholds_origin}"
    card = replace(card.with_labels(labels), thresholds=thresholds, thresholds_origin=origin)
    return keras.Model(bag, outputs, name=head.name), card


def _classify_seconds(classifier: keras.Model, bag: Any) -> dict[str, Any]:
    """Apply the classifier of an embedding to the average of the seconds in a bag, and to each of them."""
    average = AveragePooling(name="base_average")(layers.Masking(0.0, name="base_padding")(bag))
    second = keras.Input((1, bag.shape[-1]), name="second")
    # One layer for both: a saved model cannot have a part that is also inside one of its layers.
    classify = Patchwise(keras.Model(second, classifier(ops.squeeze(second, 1)), name="base_second"), 1, name="base")
    return {"clipwise": ops.squeeze(classify(ops.expand_dims(average, 1)), 1), "framewise": classify(bag)}


def _extract_frame_classifier(backbone: PretrainedBackbone) -> keras.Model:
    """Extract the layers from the output frames of a backbone to its classes."""
    outputs = load_model(backbone.path).output
    selected = {name: outputs[name] for name in ("clipwise", "framewise")}
    try:
        return keras.Model(find_frame_features(outputs), selected, name="base")
    except ValueError:  # the graph is not connected
        message = f"{backbone.path}: with `keep_base`, must compute its classes from its output frames alone"
        raise ValueError(message) from None


def _extract_classifier(backbone: PretrainedBackbone) -> keras.Model:
    """Extract the layers from the embedding of a backbone to its classes."""
    model = load_model(backbone.path)
    embedding, clipwise = (list_ancestors(model.output[name]) for name in ("embedding", "clipwise"))
    common = [tensor for key, tensor in clipwise.items() if key in embedding and len(tensor.shape) == 2]
    probe = np.random.default_rng(0).normal(0, 0.1, (1, backbone.card.sample_rate)).astype(np.float32)
    outputs = model.predict_on_batch(probe)
    # An embedding may be another tensor than the one that is classified, or not be all of it.
    if common and common[-1].shape[-1] == outputs["embedding"].shape[-1]:
        classifier = keras.Model(common[-1], model.output["clipwise"], name="base_classifier")
        difference = np.abs(classifier.predict_on_batch(outputs["embedding"]) - outputs["clipwise"]).max()
        if difference <= _TOLERANCE:
            return classifier
    raise ValueError(f"{backbone.path}: with `keep_base`, must compute its classes from its embedding alone")


def _select_classes(classifier: keras.Model, columns: list[int]) -> keras.Model:
    """Rebuild a classifier whose last layer has some of its classes."""
    last = next(layer for layer in reversed(classifier.layers) if isinstance(layer, layers.Dense))

    config = classifier.get_config()
    [entry] = [entry for entry in config["layers"] if entry["name"] == last.name]
    entry["config"]["units"] = len(columns)
    entry.pop("build_config", None)
    selected = keras.Model.from_config(config)
    for layer, new_layer in zip(classifier.layers, selected.layers, strict=True):
        weights = layer.get_weights()
        new_layer.set_weights([each[..., columns] for each in weights] if layer is last else weights)
    return selected
