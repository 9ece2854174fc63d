"""A model begins with the weights of another of the same layers."""

import os
from pathlib import Path
from typing import Any

import keras

from kerastag.models.loading import load_model


def take_weights(model: keras.Model, source: str | os.PathLike[str] | keras.Model) -> tuple[str, ...]:
    """A model, and another of the same layers or its `.keras` file -> the model with the other's weights.

    Layers are found by their names; those of the other that the model lacks, as a front end, are passed over.

    Args:
        model: Gets the weights.
        source: Has them; its classifier may be for another number of classes.

    Returns:
        Names of the layers that kept their own weights: the classifier, where the number of classes differs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no model, or not of the same layers; the first that differs is named.

    >>> from kerastag.models.cnn10 import cnn10
    >>> take_weights(cnn10(4, width=0.0625), cnn10(3, width=0.0625))
    ('fc_audioset',)
    """
    name, other = _opened(source)
    theirs = {layer.name: layer for layer in other.layers}
    kept = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name not in theirs:
            raise ValueError(f"`initial_weights`: {name}: has no layer `{layer.name}`: not this backbone")
        ours, found = _shapes(layer), _shapes(theirs[layer.name])
        if ours == found:
            layer.set_weights(theirs[layer.name].get_weights())
        elif _but_for_classes(ours, model) == _but_for_classes(found, other):
            kept.append(layer.name)
        else:
            raise ValueError(
                f"`initial_weights`: {name}: layer `{layer.name}` has weights {found}, not {ours}: another width"
            )
    return tuple(kept)


def _opened(source: str | os.PathLike[str] | keras.Model) -> tuple[str, keras.Model]:
    if isinstance(source, keras.Model):
        return source.name, source
    if not Path(source).is_file():
        raise FileNotFoundError(f"`initial_weights`: {source}: no such file")
    return str(source), load_model(source)


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _but_for_classes(shapes: list[tuple[int, ...]], model: keras.Model) -> list[tuple[Any, ...]]:
    """The shapes of a classifier without the number of classes; of any other layer as they are."""
    outputs = model.output
    num_classes = outputs["clipwise"].shape[-1] if isinstance(outputs, dict) and "clipwise" in outputs else None
    return [(*shape[:-1], "classes") if shape[-1:] == (num_classes,) else shape for shape in shapes]
