"""The outputs of a model that training needs."""

from typing import Any

__all__ = ["STREAMS", "select_training_outputs"]

STREAMS = ("global", "local")
"""Outputs of a two-stream model that have a loss of their own."""


def select_training_outputs(model: Any) -> Any:
    """Select the outputs that training needs, in one model that shares all layers.

    Args:
        model: Model with a dict of outputs that has `clipwise`, `(batch, classes)`.

    Returns:
        Model with one output: `clipwise` or, where the model has two streams, `clipwise` (for the metrics), `global`
        and `local` (for the loss) stacked on the last axis, `(batch, classes, 3)`.

    >>> from kerastag.models import MODELS
    >>> model = MODELS["gl_at_cnn10"].build(num_classes=4, width=0.0625)
    >>> select_training_outputs(model).output_shape
    (None, 4, 3)
    """
    import keras
    from keras import layers

    if any(stream not in model.output for stream in STREAMS):
        return keras.Model(model.input, model.output["clipwise"], name=model.name)
    # Layers with names: an operation of `keras.ops` could take a name that a loaded model already has.
    columns = [
        layers.Reshape((-1, 1), dtype="float32", name=f"{name}_column")(model.output[name])
        for name in ("clipwise", *STREAMS)
    ]
    return keras.Model(model.input, layers.Concatenate(dtype="float32", name="streams")(columns), name=model.name)
