"""The bundled model, a small tagger for devices without a network; sounds of no class; and the style of all pages."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BUNDLED_MODEL", "OTHER_SOUNDS_PATH", "OTHER_SOUNDS_SECONDS", "PAGE_FOLDER", "resolve_model_path"]

BUNDLED_MODEL = "esc10"
"""Name of the bundled model, which tags ten kinds of sounds; its `README.md` describes it."""

OTHER_SOUNDS_PATH = Path(__file__).with_name("other_sounds.ogg")
"""File of short sounds of no class, one after the other, which custom taggers are trained on as background."""

OTHER_SOUNDS_SECONDS = 1.5
"""Length of each of these sounds, seconds."""

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
