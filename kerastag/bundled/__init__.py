"""The bundled model, a small tagger for devices without a network, and the style that all pages share."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BUNDLED_MODEL", "PAGE_FOLDER", "resolve_model_path"]

BUNDLED_MODEL = "esc10"
"""Name of the bundled model, which tags ten kinds of sounds; its `README.md` describes it."""

PAGE_FOLDER = Path(__file__).with_name("page")
"""Folder of the style sheet and the scripts that all pages of kerastag share."""


def resolve_model_path(model: str | os.PathLike[str]) -> Path:
    """Return the path of a model: that of the bundled model for its name, and any other text as a path.

    Args:
        model: `BUNDLED_MODEL` or the path of a model.

    >>> from kerastag.bundled import resolve_model_path
    >>> resolve_model_path("esc10").name, resolve_model_path("mine.tflite").name
    ('esc10.tflite', 'mine.tflite')
    """
    return Path(__file__).with_name(f"{BUNDLED_MODEL}.tflite") if os.fspath(model) == BUNDLED_MODEL else Path(model)
