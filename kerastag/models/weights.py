"""Weights of a model: copied from another model of the same layers, and identified by a digest."""

import hashlib
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.dsp import FrontEnd
from kerastag.layers.log_mel import LogMel
from kerastag.models.loading import load_model

__all__ = ["compute_fingerprint", "copy_weights"]


def copy_weights(
    model: keras.Model, source: str | os.PathLike[str] | keras.Model, *, front_end: FrontEnd | None = None
) -> tuple[str, ...]:
    """Copy the weights of another model, layer by layer, into a model.

    Layers are matched by their names. Layers that only `source` has are ignored.

    Args:
        model: Model whose weights are replaced.
        source: Model, or path of a `.keras` file, with the same layers; its number of classes may differ.
        front_end: Front end that `source` has to have, if it has one; None for that of `model`.

    Returns:
        Names of the layers that keep their weights: the classifier, where the number of classes differs.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a Keras model, its front end is another one, or its layers are not those of `model`;
            names the first that differs.

    >>> from kerastag.models import cnn10
    >>> copy_weights(cnn10(4, width=0.0625), cnn10(3, width=0.0625))
    ('fc_audioset',)
    """
    name, source = _open_source(source)
    source_layers = {layer.name: layer for layer in source.layers}
    _check_front_end(front_end or _find_front_end(model), _find_front_end(source), name)
    skipped = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name not in source_layers:
            raise ValueError(
                f"`initial_weights` must be those of this backbone, with a layer `{layer.name}`; received: {name}"
            )
        source_layer = source_layers[layer.name]
        shapes, source_shapes = _weight_shapes(layer), _weight_shapes(source_layer)
        if shapes == source_shapes:
            layer.set_weights(source_layer.get_weights())
        elif _without_classes(shapes, model) == _without_classes(source_shapes, source):
            skipped.append(layer.name)
        else:
            raise ValueError(
                f"`initial_weights` must be those of a backbone of this width, with the shapes {shapes} in layer "
                f"`{layer.name}`; received: {name} with {source_shapes}"
            )
    return tuple(skipped)


def compute_fingerprint(network: keras.layers.Layer) -> str:
    """Compute a digest of all weights of a network, whatever the order of its layers.

    Args:
        network: Keras model or layer with float32 weights.

    Returns:
        16 hexadecimal digits.

    >>> layer = keras.layers.Dense(2, kernel_initializer="ones")
    >>> layer.build((None, 3))
    >>> fingerprint = compute_fingerprint(layer)
    >>> _ = layer.bias.assign([0.0, 1e-6])
    >>> compute_fingerprint(layer) == fingerprint
    False
    """
    arrays = (np.ascontiguousarray(array, np.float32) for array in network.get_weights())
    digests = sorted(hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).digest() for array in arrays)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _open_source(source: str | os.PathLike[str] | keras.Model) -> tuple[str, keras.Model]:
    if isinstance(source, keras.Model):
        return source.name, source
    if not Path(source).is_file():
        raise FileNotFoundError(f"`initial_weights`: {source}: no such file")
    return str(source), load_model(source)


def _find_front_end(model: keras.Model) -> FrontEnd | None:
    return next((layer.front_end for layer in model.layers if isinstance(layer, LogMel)), None)


def _check_front_end(front_end: FrontEnd | None, source_front_end: FrontEnd | None, name: str) -> None:
    """Raise unless two models have the same front end, where both have one."""
    if front_end is None or source_front_end is None:
        return
    source_constants = source_front_end.as_dict()
    for constant, value in front_end.as_dict().items():
        if source_constants[constant] != value:
            raise ValueError(
                f"`initial_weights` must be for this front end, with `{constant}` {value!r}; "
                f"received: {name} with {source_constants[constant]!r}"
            )


def _weight_shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _without_classes(shapes: list[tuple[int, ...]], model: keras.Model) -> list[tuple[Any, ...]]:
    """Replace the number of classes in the shapes of a classifier by a placeholder."""
    outputs = model.output
    num_classes = outputs["clipwise"].shape[-1] if isinstance(outputs, dict) and "clipwise" in outputs else None
    return [(*shape[:-1], "classes") if shape[-1:] == (num_classes,) else shape for shape in shapes]
