"""The tagger in the box: a name -> a small model that comes with the package, for a device without a network."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BOXED", "boxed_or_path"]

BOXED = "esc10"
"""Name of the model in the box: ten sounds, by GL-AT on MN; `README.md` beside it is its card."""


def boxed_or_path(model: str | os.PathLike[str]) -> Path:
    """`BOXED` -> the file in the package; any other name is the path that it says.

    >>> boxed_or_path("esc10").name, boxed_or_path("mine.tflite").name
    ('esc10.tflite', 'mine.tflite')
    """
    return Path(__file__).with_name(f"{BOXED}.tflite") if os.fspath(model) == BOXED else Path(model)
