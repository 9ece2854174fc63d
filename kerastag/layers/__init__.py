"""Keras layers, written in `keras.ops`: they run on every Keras backend. One public layer a file.

`FusedBatchNormalization` calls TensorFlow by name where that is the backend, and does without elsewhere.
"""

from importlib import import_module
from pkgutil import iter_modules


def register_layers() -> None:
    """Import every layer, so that Keras finds the class that a file names."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
