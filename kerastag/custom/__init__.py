"""Taggers of the user's own sounds, trained on top of a pretrained backbone.

>>> CustomConfig(audio_dir="recordings", segments="seconds").model
'mn04_as'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kerastag.custom.config import CustomConfig

if TYPE_CHECKING:
    from kerastag.custom.report import evaluate_custom_run
    from kerastag.custom.run import train_custom_tagger

__all__ = ["CustomConfig", "evaluate_custom_run", "train_custom_tagger"]

_DEFINING_MODULES = {
    "evaluate_custom_run": "kerastag.custom.report",
    "train_custom_tagger": "kerastag.custom.run",
}


def __getattr__(name: str) -> Any:
    """Import a function when it is first used, since its module loads Keras."""
    if name not in _DEFINING_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_DEFINING_MODULES[name]), name)
