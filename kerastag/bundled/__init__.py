"""The tagger in the box: a name -> a small model that comes with the package, for a device without a network."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BUNDLED_MODEL", "resolve_model_path"]

BUNDLED_MODEL = "esc10"
"""Name of the model in the box: ten sounds, by GL-AT on MN; `README.md` beside it is its card."""


def resolve_model_path(model: str | os.PathLike[str]) -> Path:
    """`BUNDLED_MODEL` -> the file in the package; any other name is the path that it says.

    >>> resolve_model_path("esc10").name, resolve_model_path("mine.tflite").name
    ('esc10.tflite', 'mine.tflite')
    """
    return Path(__file__).with_name(f"{BUNDLED_MODEL}.tflite") if os.fspath(model) == BUNDLED_MODEL else Path(model)
